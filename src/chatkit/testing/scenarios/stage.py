"""Where a scenario is played: real servers and devices on one store and one network, and the verbs of a script.

The parts are those of the simulator; nothing here draws what happens next. What the script does with them is noted in
the history like everything else.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from ...client.client import ChatClient
from ...client.events import CaughtUp, ChatEvent, Connected, Disconnected
from ...errors import ChatkitError, RefusedError
from ...ports import Ids
from ...server.server import ChatServer
from ...storage.base import Entry, Store
from ...types import ConversationType, Payload, Sent
from ..chance import Chance
from ..checker import check
from ..faulty_store import StoreFaults
from ..history import Call, History, dump_device, dump_store
from ..network import Line, LineEvent, Network
from ..recording import Recorder, by_name, frames_into, payload_of
from ..simulation.device import Device
from ..simulation.node import Node
from ..simulation.plan import Storage
from ..simulation.storage import SharedStore
from .scenario import Outcome, Scenario, holds, sprung
from .stops import PATIENCE_S, StoppableStore
from .wire import Wire

MakeStore = Callable[[Ids], Store]
"""Makes an empty store, not yet migrated."""

_LOOK_EVERY_S = 0.01
_QUIET_S = 20.0
"""How long nothing may change any more before the end is written down: several heartbeats."""


class Stage:
    """The parts of one scenario while it lasts: `async with Stage(...) as stage`.

    Args:
        scenario: Says what there is.
        seed: Draws delays, jitter, ids and, with the loop's own, the order of tasks.
        store: Which store the servers share, or what makes it.
        folder: An empty one, for files.

    Attributes:
        history: All that happened.
        wire: What went over the lines.
        network: The lines.
        store: The servers' store, to be stopped.
        faults: The weather between servers and store.
        nodes: The servers.
        alarms: Errors that nobody foresaw, and clients that stopped for good.
    """

    def __init__(self, scenario: Scenario, seed: int, store: Storage | MakeStore, folder: Path) -> None:
        self._scenario = scenario
        self._chance = Chance(seed)
        self._folder = folder
        self.history = History(anyio.current_time)
        self.wire = Wire()
        self.faults = StoreFaults()
        self.alarms: list[str] = []
        self._note_frame = frames_into(self.history)
        self.network = Network(
            self._chance.stream("network"),
            observe=self._arrived,
            observe_line=self._line_happened,
            window_bytes=scenario.window_bytes,
        )
        self._shared = self._make_store(store)
        self._log = self._shared.store
        self.store = StoppableStore(self._log)
        self._shared.store = cast("Store", self.store)
        self.nodes = [self._node(f"n-{number}") for number in range(1, scenario.nodes + 1)]
        self._devices: list[Device] = []
        self._routes: dict[Device, str | None] = {}
        self._alive: set[Device | Node] = set()
        self._conversations: list[str] = []
        self._bodies: dict[str, str] = {}
        self._watch = _Alarms(self.alarms)
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        logging.getLogger("chatkit").addHandler(self._watch)
        await self._shared.open()
        await self.network.__aenter__()
        self._tasks = await anyio.create_task_group().__aenter__()
        for node in self.nodes:
            await self.start_node(node)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._tasks is not None
        try:
            self.store.let_all_go()
            self._tasks.cancel_scope.cancel()
            await self._tasks.__aexit__(None, None, None)
            await self.network.__aexit__(None, None, None)
        finally:
            with anyio.CancelScope(shield=True):
                await self._log.aclose()
            logging.getLogger("chatkit").removeHandler(self._watch)

    async def played(self, name: str) -> Outcome:
        """Play the scenario, let everything come to rest, and judge it.

        Raises:
            TrapNotSprungError: The scenario itself is wrong.
            PromiseBrokenError: One of its own demands is not met, or not everybody gets everything in the end.
        """
        await self._scenario.play(self)
        await self._come_to_rest()
        self.history.store = await dump_store(self._log, self._conversations)
        self.history.devices += [self._dump(device) for device in self._devices]
        window_ms = int(self._scenario.server.recall_window_s * 1000)
        return Outcome(name, self.history, check(self.history, recall_window_ms=window_ms), self.alarms)

    # --- waiting ---

    async def until(self, fact: Callable[[], object], what: str, within_s: float = PATIENCE_S) -> None:
        """Return once a fact is so. Raises TrapNotSprungError if that takes too long."""
        for _ in range(int(within_s / _LOOK_EVERY_S)):
            if fact():
                return
            await anyio.sleep(_LOOK_EVERY_S)
        sprung(fact(), f"{what}, after {within_s:g} s")

    async def promised(self, fact: Callable[[], object], what: str, within_s: float = PATIENCE_S) -> None:
        """Return once a fact is so that is promised. Raises PromiseBrokenError if that takes too long."""
        for _ in range(int(within_s / _LOOK_EVERY_S)):
            if fact():
                return
            await anyio.sleep(_LOOK_EVERY_S)
        holds(fact(), f"{what}, after {within_s:g} s")

    # --- servers ---

    async def start_node(self, node: Node) -> None:
        """Start a server; it takes connections when this returns."""
        self._spawn(node, node.live)
        await self.until(lambda: node.server is not None, f"{node.name} runs")

    async def crash(self, node: Node) -> None:
        """Kill a server as SIGKILL would. What it has in the store must be let go by the script."""
        self.history.happened("server crash", node.name)
        node.crash()

    async def stopped(self, node: Node) -> None:
        """Return once nothing of a server runs."""
        await self.until(lambda: node not in self._alive, f"{node.name} has stopped")

    @property
    def server(self) -> ChatServer:
        """The first server that runs."""
        return next(node.server for node in self.nodes if node.server is not None)

    # --- the host's verbs ---

    async def create(
        self, conversation_id: str, creator_id: str, *member_ids: str, kind: ConversationType = "GROUP"
    ) -> None:
        """Create a conversation."""
        self._conversations.append(conversation_id)
        await self._host(
            creator_id,
            "create",
            self.server.create_conversation(kind, creator_id, member_ids, conversation_id=conversation_id),
            conversation_id=conversation_id,
            type=kind,
            member_ids=[creator_id, *member_ids],
        )

    async def add(self, conversation_id: str, by: str, user_id: str) -> None:
        """Make a user a member."""
        adding = self.server.add_members(conversation_id, by, [user_id])
        await self._host(by, "add", adding, conversation_id=conversation_id, user_ids=[user_id])

    async def remove(
        self, conversation_id: str, by: str, user_id: str, server: ChatServer | None = None
    ) -> None:
        """End a membership. Raises RefusedError."""
        removing = (server or self.server).remove_member(conversation_id, by, user_id)
        await self._host(by, "remove", removing, conversation_id=conversation_id, user_ids=[user_id])

    async def renew_epoch(self, conversation_id: str) -> str:
        """Give a log a new epoch."""
        renewing = _renewed(self.server, conversation_id)
        answer = await self._host("", "renew_epoch", renewing, conversation_id=conversation_id)
        return str(answer["epoch"])

    async def _host(self, user_id: str, op: str, act: Awaitable[Any], **args: Any) -> Any:
        return await Recorder(self.history).call(op, act, user_id=user_id, **args)

    # --- devices ---

    async def device(
        self, user_id: str, device_id: str = "phone", *, in_file: bool = False, online: bool = True
    ) -> Device:
        """Install an app and start it.

        Args:
            user_id: Whose.
            device_id: On what.
            in_file: Keep its local store in a file instead of in memory, which outlives the app as well.
            online: Return once it has caught up; otherwise it has no network yet.
        """
        device = self._install(user_id, device_id, in_file=in_file)
        self._devices.append(device)
        self._routes[device] = self.nodes[0].name if online else None
        self.start_app(device)
        if online:
            await self.caught_up(device)
        return device

    def start_app(self, device: Device) -> None:
        """Start the app of a device, which does not run."""
        self._spawn(device, device.live)

    async def kill_app(self, device: Device) -> None:
        """Kill the app of a device as SIGKILL would, and wait until nothing of it runs."""
        self.history.happened("app crash", device.name)
        device.kill()
        self._cut(device)
        await self.until(lambda: device not in self._alive, f"{device.name} has ended")

    def away(self, device: Device) -> None:
        """Take the network from a device; its app goes on."""
        self.history.happened("away", device.name)
        self._routes[device] = None
        self._cut(device)

    def reachable(self, device: Device, node: Node | None = None) -> None:
        """Give a device its network back, and lead it to a server, the first one by default."""
        self.history.happened("back", device.name)
        self._routes[device] = (node or self.nodes[0]).name

    async def back(self, device: Device) -> None:
        """Give a device its network back, and wait until it has caught up."""
        self.reachable(device)
        await self.caught_up(device)

    async def caught_up(self, device: Device) -> None:
        """Return once a device is connected and has placed everything."""
        await self.promised(lambda: self.is_caught_up(device), f"{device.name} catches up")

    def is_caught_up(self, device: Device) -> bool:
        """Whether the last that a device told of its connection is that it has caught up."""
        for event in reversed(self.told(device)):
            if isinstance(event, CaughtUp | Connected | Disconnected):
                return isinstance(event, CaughtUp)
        return False

    def line_of(self, device: Device) -> Line:
        """The newest open line of a device."""
        lines = [line for line in self.network.lines if self.wire.is_of(line, device)]
        sprung(lines, f"{device.name} has a line")
        return lines[-1]

    async def new_line(self, device: Device, known: Sequence[Line] = ()) -> Line:
        """The next line of a device that a server takes, beyond the known ones."""
        lines: list[Line] = []
        await self.until(
            lambda: lines.extend(it for it in self.wire.lines_of(device) if it not in known) or lines,
            f"{device.name} connects",
        )
        return lines[0]

    def told(self, device: Device, kind: type[ChatEvent] | None = None) -> list[Any]:
        """What the app of a device was told, in order, in all its lives."""
        return [
            told.event
            for told in self.history.told
            if (told.user_id, told.device_id) == (device.user_id, device.device_id)
            and (kind is None or isinstance(told.event, kind))
        ]

    # --- messages ---

    async def send(self, device: Device, conversation_id: str, client_msg_id: str) -> Sent:
        """Send a message with a text of its own, and wait for its answer. Raises PromiseBrokenError if none is good."""
        sent: Sent | None = await self._send(device, conversation_id, client_msg_id)
        if sent is None:
            holds(False, f"{client_msg_id} of {device.name} is taken")
        assert sent is not None
        return sent

    async def send_soon(self, device: Device, conversation_id: str, *client_msg_ids: str) -> None:
        """Send messages one after the other without waiting for answers; returns once the client has them all."""
        for client_msg_id in client_msg_ids:
            device.start(self._send, device, conversation_id, client_msg_id)
            while not self.calls(client_msg_id):
                await anyio.lowlevel.checkpoint()

    def calls(self, client_msg_id: str) -> list[Call]:
        """The calls that sent a message."""
        return [call for call in self.history.calls if call.args.get("client_msg_id") == client_msg_id]

    async def answered(self, *client_msg_ids: str) -> None:
        """Return once every call that sent one of these has its answer, and all of them are good."""
        for client_msg_id in client_msg_ids:
            await self.promised(
                lambda key=client_msg_id: {call.result for call in self.calls(key)} == {"ok"},  # type: ignore[misc]  # bound at once
                f"{client_msg_id} is answered",
            )

    def body(self, client_msg_id: str) -> str:
        """The text of a message: there is no other with this text."""
        number = len(self._bodies) + 1
        return self._bodies.setdefault(client_msg_id, f"{client_msg_id} canary{number:04}")

    async def recall(self, device: Device, sent: Sent) -> None:
        """Withdraw a message, and wait for the answer. Raises PromiseBrokenError if it is not good."""
        recalled = await device.call(
            "recall",
            lambda client: client.recall(sent.message_id),
            conversation_id=sent.conversation_id,
            message_id=sent.message_id,
            seq=sent.seq,
        )
        holds(recalled, f"{device.name} may recall seq {sent.seq}")

    async def mark_read(self, device: Device, conversation_id: str, up_to_seq: int) -> None:
        """Note on a device that its user has read so far."""
        await device.call(
            "mark_read",
            lambda client: client.mark_read(conversation_id, up_to_seq),
            conversation_id=conversation_id,
            up_to_seq=up_to_seq,
        )

    async def past(self, device: Device, conversation_id: str) -> list[Any]:
        """All that the history of a device shows of a conversation, ascending."""
        messages = await device.call(
            "history",
            lambda client: client.history(conversation_id, limit=200),
            conversation_id=conversation_id,
            before_seq=None,
            limit=200,
        )
        holds(messages is not None, f"{device.name} may read {conversation_id}")
        return list(messages or ())

    def client(self, device: Device) -> ChatClient:
        """The client of an app that runs."""
        assert device.client is not None
        return device.client

    async def log(self, conversation_id: str) -> list[Entry]:
        """A log as the store holds it."""
        return await self._log.entries(conversation_id, 0, 1_000)

    async def keys(self, conversation_id: str) -> list[str]:
        """The keys of the messages in a log, in its order."""
        return [it.client_msg_id for it in await self.log(conversation_id) if it.client_msg_id is not None]

    async def _send(self, device: Device, conversation_id: str, client_msg_id: str) -> Any:
        payload: Payload = payload_of(self.body(client_msg_id))
        return await device.call(
            "send",
            lambda client: client.send(conversation_id, payload, client_msg_id=client_msg_id),
            conversation_id=conversation_id,
            client_msg_id=client_msg_id,
            payload=payload,
        )

    # --- the end ---

    async def _come_to_rest(self) -> None:
        lacking = await self._lacking()
        for _ in range(int(PATIENCE_S / 0.25)):
            if lacking is None:
                break
            await anyio.sleep(0.25)
            lacking = await self._lacking()
        if lacking is None:
            await anyio.sleep(_QUIET_S)
            lacking = await self._lacking()
        holds(lacking is None, f"in the end everybody has everything; but {lacking}")

    async def _lacking(self) -> str | None:
        """The first thing that a running device does not have yet."""
        for call in self.history.calls:
            if call.result is None:
                return f"{call.op} of {call.user_id}/{call.device_id}, call {call.number}, has not returned"
        heads = await self._log.head_seqs(self._conversations)
        for device in self._devices:
            if device in self._alive and (lacking := await self._lacking_on(device, heads)) is not None:
                return lacking
        return None

    async def _lacking_on(self, device: Device, heads: dict[str, tuple[str, int]]) -> str | None:
        if device.pending_count != 0:
            return f"{device.name} has {device.pending_count} messages without an answer"
        for head in await self._log.heads(device.user_id, device.device_id):
            epoch, head_seq = heads[head.conversation_id]
            if not device.has(head.conversation_id, epoch, head_seq):
                return f"{device.name} lacks {head.conversation_id} up to seq {head_seq}"
            if head.delivered_seq < head_seq:
                return f"the store was not told that {device.name} has seq {head_seq} of {head.conversation_id}"
        return None

    def _dump(self, device: Device) -> Any:
        if device in self._alive:
            return device.dump()
        assert device.local is not None
        return dump_device(
            device.user_id, device.device_id, device.local, crashed=device.crashed, online=False
        )

    # --- making the parts ---

    def _make_store(self, store: Storage | MakeStore) -> SharedStore:
        ids = self._chance.ports("storage").ids
        kind = "memory" if callable(store) else store
        shared = SharedStore(kind, self._folder / "server.db", ids, self._chance.stream("disk"))
        if callable(store):
            shared.store = store(ids)
        return shared

    def _node(self, name: str) -> Node:
        return Node(
            name,
            storage=self._shared,
            faults=self.faults,
            network=self.network,
            authenticate=by_name,
            config=self._scenario.server,
            ports=self._chance.ports(name),
            chance=self._chance.stream(f"{name} store"),
        )

    def _install(self, user_id: str, device_id: str, *, in_file: bool) -> Device:
        name = f"{user_id}-{device_id}-{len(self._devices)}"

        async def token() -> str:
            return user_id

        def choose() -> str | None:
            return None if device.killed else self._routes[device]

        device = Device(
            user_id,
            device_id,
            path=self._folder / f"{name}.db" if in_file else None,
            token=token,
            connector=self.network.connector(user_id, device_id, choose),
            codec="json",
            config=self._scenario.client,
            ports=self._chance.ports(name),
            history=self.history,
            chance=self._chance.stream(f"{name} app"),
            slow_consumer_s=0.0,
            alarm=self.alarms.append,
        )
        return device

    def _spawn(self, part: Device | Node, live: Callable[[], Awaitable[None]]) -> None:
        assert self._tasks is not None
        self._alive.add(part)
        self._tasks.start_soon(self._run, part, live)

    async def _run(self, part: Device | Node, live: Callable[[], Awaitable[None]]) -> None:
        try:
            await live()
        finally:
            self._alive.discard(part)

    def _cut(self, device: Device) -> None:
        for line in [line for line in self.network.lines if self.wire.is_of(line, device)]:
            line.cut()

    def _arrived(self, line: Line, up: bool, frame: bytes | str) -> None:
        self._note_frame(line, up, frame)
        self.wire.arrived(line, up, frame)

    def _line_happened(self, line: Line, what: LineEvent, code: int | None) -> None:
        self.wire.happened(line, what, code)


class _Alarms(logging.Handler):
    """Turns what chatkit logs of faults that it did not foresee into alarms."""

    def __init__(self, alarms: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._alarms = alarms

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, ChatkitError):
            self._alarms.append(f"{record.getMessage()}: {error!r}")


async def _renewed(server: ChatServer, conversation_id: str) -> dict[str, str]:
    return {"epoch": await server.renew_epoch(conversation_id)}


async def refused(act: Awaitable[Any]) -> bool:
    """Whether a host's verb ends with a refusal."""
    try:
        await act
    except RefusedError:
        return True
    return False
