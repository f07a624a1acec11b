"""A device of a script: the simulator's, with verbs that a script reads well by."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import anyio.lowlevel

from chatkit.client.config import ClientConfig
from chatkit.client.events import CaughtUp, ChatEvent, Connected, Disconnected, MessageReceived
from chatkit.ports import Ports
from chatkit.testing.history import Call
from chatkit.testing.network import Line, Network
from chatkit.testing.rng import Rng
from chatkit.types import Message, Sent
from chatkit.wire import events as ev

from ..dumps import CompleteHistory, DeviceDump, dump_device
from ..simulation.device import Device
from ..simulation.watch import Effects
from .demands import holds, promised, require, until
from .wire import Heard, Wire

EventT = TypeVar("EventT", bound=ChatEvent)

Spawn = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
"""Runs something for as long as the stage stands."""

_PAST_MAX = 200


def text_of(client_msg_id: str) -> str:
    """The text of the message with this key: there is no other with a word of it."""
    return f"{client_msg_id} canary{zlib.crc32(client_msg_id.encode()):010}"


class Actor(Device):
    """A device of a script.

    Args:
        path: Where its local store is a file; None for one in memory. It outlives the app in any case.
        network: Where its lines are.
        wire: What went over them.
        rng: Its name in it is `name`.

    Attributes:
        running: Whether its app runs, or is about to.
        node: Where its connections go; None while it has no network.
    """

    def __init__(
        self,
        user_id: str,
        device_id: str,
        *,
        name: str,
        path: Path | None,
        network: Network,
        wire: Wire,
        history: CompleteHistory,
        rng: Rng,
        ports: Ports,
        config: ClientConfig,
        spawn: Spawn,
        alarm: Callable[[str], None],
    ) -> None:
        super().__init__(
            user_id,
            device_id,
            path=path,
            token=self._login,
            connector=network.connector(user_id, device_id, self._choose),
            codec="json",
            config=config,
            ports=ports,
            history=history,
            rng=rng.stream(f"{name} app"),
            slow_consumer_s=0.0,
            effects=Effects(),
            alarm=alarm,
        )
        self.running = False
        self.node: str | None = None
        self._network = network
        self._wire = wire
        self._events = history.app_events
        self._calls = history.calls
        self._happened = history.happened
        self._spawn = spawn

    async def _login(self) -> str:
        return self.user_id

    def _choose(self) -> str | None:
        return None if self.killed else self.node

    # --- its app and its network ---

    def begin(self) -> None:
        """Start the app, which does not run."""
        self.running = True
        self._spawn(self._live_once)

    async def _live_once(self) -> None:
        try:
            await self.live()
        finally:
            self.running = False

    async def killed_app(self) -> None:
        """Kill the app as SIGKILL would; nothing of it runs when this returns."""
        self._happened("app crash", self.name)
        self.kill()
        self._cut()
        await until(lambda: not self.running, f"{self.name} has ended")

    def away(self) -> None:
        """Take its network from it; the app goes on."""
        self._happened("away", self.name)
        self.node = None
        self._cut()

    def reachable(self, node: str) -> None:
        """Give it its network back, or another way."""
        self._happened("reachable", f"{self.name} through {node}")
        self.node = node

    async def back(self, node: str = "n-1") -> None:
        """Give it its network back, and return once it has caught up."""
        known = len(self.lines)
        self.reachable(node)
        await until(lambda: len(self.lines) > known, f"{self.name} connects")
        await self.caught_up()

    async def caught_up(self) -> None:
        """Return once it is connected and has placed everything. Raises PromiseBrokenError."""
        await promised(lambda: self.is_caught_up, f"{self.name} catches up")

    @property
    def is_caught_up(self) -> bool:
        """Whether the last word on its connection is that it has caught up."""
        for event in reversed(self._all_told()):
            if isinstance(event, CaughtUp | Connected | Disconnected):
                return isinstance(event, CaughtUp)
        return False

    def _cut(self) -> None:
        for line in [line for line in self._network.lines if self._has(line)]:
            line.cut()

    async def gets(self, conversation_id: str, seq: int) -> None:
        """Return once it has placed a conversation up to here. Raises PromiseBrokenError."""
        await promised(lambda: self.placed(conversation_id) >= seq, f"{self.name} gets seq {seq}")

    def placed(self, conversation_id: str) -> int:
        """Up to where it has placed a conversation; 0 for one that it does not know."""
        head = self.placed_heads().get(conversation_id)
        return 0 if head is None else head.delivered_seq

    def placed_heads(self) -> dict[str, ev.Head]:
        """Where each conversation stands on it; none while its app does not run."""
        return {} if self.client is None else self.client.heads

    # --- what went over its lines, and what it was told ---

    @property
    def lines(self) -> list[Line]:
        """Its lines that a server took, in order."""
        return [line for line in self._wire.opened if self._has(line)]

    @property
    def line(self) -> Line:
        """The newest of them."""
        require(self.lines, f"{self.name} has connected")
        return self.lines[-1]

    def heard(self, kind: type[ev.Event], **fields: Any) -> list[Heard]:
        """Events of a type that went over its lines in either direction, with these values in these fields."""
        return [it for it in self._wire.of(kind, **fields) if self._has(it.line)]

    def told(self, kind: type[EventT]) -> list[EventT]:
        """What its app was told of a type, in order, in all its incarnations."""
        return [event for event in self._all_told() if isinstance(event, kind)]

    def received(self, conversation_id: str) -> list[int]:
        """The seqs of a conversation that it was told as received, in that order."""
        told = (event.message for event in self.told(MessageReceived))
        return [message.seq for message in told if message.conversation_id == conversation_id]

    def _all_told(self) -> list[Any]:
        ours = (self.user_id, self.device_id)
        return [told.event for told in self._events if (told.user_id, told.device_id) == ours]

    def _has(self, line: Line) -> bool:
        return (line.user_id, line.device_id) == (self.user_id, self.device_id)

    # --- what its app does ---

    async def send(self, conversation_id: str, client_msg_id: str) -> Sent:
        """Send a message, and wait for its answer. Raises PromiseBrokenError if it is not taken."""
        sent: Sent | None = await self._send(conversation_id, client_msg_id)
        holds(sent, f"{client_msg_id} of {self.name} is taken")
        assert sent is not None
        return sent

    async def send_soon(self, conversation_id: str, *client_msg_ids: str) -> None:
        """Send messages in this order without waiting for answers; returns once the client has taken them in."""
        require(self.client is not None, f"the app of {self.name} runs")
        for client_msg_id in client_msg_ids:
            self.start(self._send_one, conversation_id, client_msg_id)
            while not self.calls(client_msg_id):
                await anyio.lowlevel.checkpoint()

    def calls(self, client_msg_id: str) -> list[Call]:
        """The calls by which it sent a message."""
        return [
            call
            for call in self._calls
            if (call.user_id, call.device_id) == (self.user_id, self.device_id)
            and call.args.get("client_msg_id") == client_msg_id
        ]

    async def answered(self, client_msg_ids: Sequence[str]) -> None:
        """Return once every call that sent one of these has a good answer. Raises PromiseBrokenError."""

        def all_good() -> bool:
            return all({call.result for call in self.calls(key)} == {"ok"} for key in client_msg_ids)

        await promised(all_good, f"{self.name} has a good answer to each of {', '.join(client_msg_ids)}")

    async def recall(self, sent: Sent) -> None:
        """Withdraw a message, and wait for the answer. Raises PromiseBrokenError if it is refused."""
        recalled = await self.call(
            "recall",
            lambda client: client.recall(sent.message_id),
            conversation_id=sent.conversation_id,
            message_id=sent.message_id,
            seq=sent.seq,
        )
        holds(recalled, f"{self.name} may recall seq {sent.seq}")

    async def mark_read(self, conversation_id: str, up_to_seq: int) -> None:
        """Note that its user has read so far."""
        await self.call(
            "mark_read",
            lambda client: client.mark_read(conversation_id, up_to_seq),
            conversation_id=conversation_id,
            up_to_seq=up_to_seq,
        )

    async def past(self, conversation_id: str) -> list[Message]:
        """What its history shows of a conversation, ascending. Raises PromiseBrokenError if it is refused."""
        messages: list[Message] | None = await self.call(
            "history",
            lambda client: client.history(conversation_id, limit=_PAST_MAX),
            conversation_id=conversation_id,
            before_seq=None,
            limit=_PAST_MAX,
        )
        holds(messages is not None, f"{self.name} may read {conversation_id}")
        return messages or []

    async def _send(self, conversation_id: str, client_msg_id: str) -> Sent | None:
        payload = {"type": "TEXT", "text": text_of(client_msg_id)}
        sent: Sent | None = await self.call(
            "send",
            lambda client: client.send(conversation_id, payload, client_msg_id=client_msg_id),
            conversation_id=conversation_id,
            client_msg_id=client_msg_id,
            payload=payload,
        )
        return sent

    async def _send_one(self, conversation_id: str, client_msg_id: str) -> None:
        await self._send(conversation_id, client_msg_id)

    # --- the end ---

    def left_behind(self) -> DeviceDump:
        """What it holds, whether its app runs or not."""
        assert self.local is not None
        return dump_device(
            self.user_id, self.device_id, self.local, crashed=self.crashed, online=self.running
        )
