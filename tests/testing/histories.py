"""Histories for the checker's tests: what the real engine and the real SDK did in virtual time, and how to spoil it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from types import TracebackType
from typing import Any, Self

import anyio
import msgspec
from anyio.abc import TaskGroup
from msgspec.structs import replace

from chatkit import ChatClient, ChatServer, ClientConfig, Identity, ServerConfig, open_store
from chatkit.client.memory import MemoryStore
from chatkit.errors import ChatkitError, RefusedError
from chatkit.gateway.memory import MemoryConnector
from chatkit.testing.chance import Chance
from chatkit.testing.history import DeviceDump, Frame, History, LogDump, StoreDump, dump_device, dump_store
from chatkit.testing.virtual_time import run_virtual
from chatkit.transport.base import Transport, TransportClosedError
from chatkit.wire.codec import CODECS

RECALL_WINDOW_MS = 120_000
TEAM, PAIR, ALONE = "c-team", "c-pair", "c-alone"

_LATENCY_S = 0.005
_QUICK = ClientConfig(backoff_base_s=0.1, backoff_max_s=0.5)


async def whoever(token: str) -> Identity:
    return Identity(token)


# --- recording ---


class RecordedTransport:
    """A connection whose frames are noted when they arrive; `cut` ends it, and so do `frames` of them."""

    def __init__(self, inner: Transport, note: Callable[[bytes | str, bool], None], frames: int) -> None:
        self._inner = inner
        self._note = note
        self._frames_left = frames

    async def receive(self) -> bytes | str:
        frame = await self._inner.receive()
        await anyio.sleep(_LATENCY_S)
        await self._count()
        self._note(frame, False)
        return frame

    async def send(self, frame: bytes | str) -> None:
        await anyio.sleep(_LATENCY_S)
        await self._count()
        self._note(frame, True)
        await self._inner.send(frame)

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await self._inner.aclose(code, reason)

    async def _count(self) -> None:
        self._frames_left -= 1
        if self._frames_left < 0:
            await self.aclose()
            raise TransportClosedError(1006, "cut by the test")


class Line:
    """A device's way to the server: all its connections, one after the other."""

    def __init__(self, scene: Scene, user_id: str, device_id: str) -> None:
        self._scene = scene
        self._user_id = user_id
        self._device_id = device_id
        self._open: Transport | None = None
        self.frames_max: Callable[[], int] = lambda: 1_000_000

    async def connect(self, subprotocol: str) -> Transport:
        number = self._scene.next_connection()
        codec = CODECS[subprotocol]

        def note(frame: bytes | str, up: bool) -> None:
            self._scene.history.frame(
                self._user_id, self._device_id, frame, codec, up=up, connection=number, node="n-0"
            )

        inner = await MemoryConnector(self._scene.server).connect(subprotocol)
        self._open = RecordedTransport(inner, note, self.frames_max())
        return self._open

    async def cut(self) -> None:
        assert self._open is not None
        await self._open.aclose()


class Device:
    """One installation: the real client, started and stopped over a local store that stays."""

    def __init__(self, scene: Scene, user_id: str, device_id: str, codec: str) -> None:
        self.user_id, self.device_id = user_id, device_id
        self.line = Line(scene, user_id, device_id)
        self.store = MemoryStore()
        self._scene = scene
        self._codec = codec
        self._life = 0
        self._stop = anyio.Event()
        self._stopped = anyio.Event()
        self.client: ChatClient

    async def start(self) -> None:
        """Run it until `stop`; returns once it is connected."""
        self._life += 1
        self._stop, self._stopped = anyio.Event(), anyio.Event()
        self._scene.tasks.start_soon(self._live)
        await anyio.sleep(1.0)

    async def stop(self) -> None:
        self._stop.set()
        await self._stopped.wait()

    async def _live(self) -> None:
        self.client = ChatClient(
            "ws://chat.test",
            token=self.user_id,
            device_id=self.device_id,
            store=self.store,
            codec=self._codec,
            connector=self.line,
            config=_QUICK,
            ports=self._scene.chance.ports(f"{self.user_id} {self.device_id} {self._life}"),
        )
        async with self.client, anyio.create_task_group() as group:
            group.start_soon(self._consume)
            await self._stop.wait()
            await self.client.aclose()
            group.cancel_scope.cancel()
        self._stopped.set()

    async def _consume(self) -> None:
        async for event in self.client.events():
            self._scene.history.tell(self.user_id, self.device_id, self._life, event)

    async def call(self, op: str, act: Callable[[], Awaitable[Any]], **args: Any) -> Any:
        return await self._scene.called(self.user_id, self.device_id, op, act, **args)

    async def send(self, name: str, key: str, text: str) -> Any:
        payload = {"type": "TEXT", "text": text}
        return await self.call(
            "send",
            lambda: self.client.send(name, payload, client_msg_id=key, timeout=600),
            conversation_id=name,
            client_msg_id=key,
            payload=payload,
        )

    async def recall(self, message_id: str) -> Any:
        return await self.call(
            "recall", lambda: self.client.recall(message_id, timeout=600), message_id=message_id
        )

    async def mark_read(self, name: str, up_to_seq: int) -> None:
        await self.call(
            "mark_read",
            lambda: self.client.mark_read(name, up_to_seq),
            conversation_id=name,
            up_to_seq=up_to_seq,
        )

    async def read_history(self, name: str, before_seq: int | None, limit: int) -> None:
        await self.call(
            "history",
            lambda: self.client.history(name, before_seq=before_seq, limit=limit),
            conversation_id=name,
            before_seq=before_seq,
            limit=limit,
        )


class Scene:
    """A server, its devices and the history of both: `async with Scene() as scene`."""

    def __init__(self, seed: int = 0) -> None:
        self.chance = Chance(seed)
        self.history = History(anyio.current_time)
        self.devices: list[Device] = []
        self.names: list[str] = []
        self._store = open_store("memory://", ids=self.chance.ports("store").ids)
        self.server = ChatServer(
            store=self._store,
            authenticate=whoever,
            config=ServerConfig(recall_window_s=RECALL_WINDOW_MS / 1000),
            ports=self.chance.ports("n-0"),
        )
        self._connections = 0
        self.tasks: TaskGroup

    async def __aenter__(self) -> Self:
        await self.server.__aenter__()
        self.tasks = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if error is None:
            await self._dump()
        self.tasks.cancel_scope.cancel()
        await self.tasks.__aexit__(kind, error, trace)
        return await self.server.__aexit__(kind, error, trace)

    def next_connection(self) -> int:
        self._connections += 1
        return self._connections

    async def device(self, user_id: str, device_id: str, codec: str = "json") -> Device:
        device = Device(self, user_id, device_id, codec)
        self.devices.append(device)
        await device.start()
        return device

    async def called(
        self, user_id: str, device_id: str, op: str, act: Callable[[], Awaitable[Any]], **args: Any
    ) -> Any:
        """One call in the history; what it raises ends there."""
        call = self.history.invoke(user_id, device_id, op, **args)
        try:
            answer = await act()
        except RefusedError as error:
            self.history.fail(call, error)
        except ChatkitError as error:
            self.history.info(call, error)
        else:
            self.history.ok(call, **_plain(answer))
            return answer
        return None

    # --- the host ---

    async def create(self, name: str, kind: Any, users: Sequence[str]) -> None:
        self.names.append(name)
        await self.called(
            users[0],
            "",
            "create",
            lambda: self.server.create_conversation(kind, users[0], users, conversation_id=name),
            conversation_id=name,
            type=kind,
            member_ids=list(users),
        )

    async def add(self, name: str, by: str, user_id: str) -> None:
        await self.called(
            by,
            "",
            "add",
            lambda: self.server.add_members(name, by, [user_id]),
            conversation_id=name,
            user_ids=[user_id],
        )

    async def remove(self, name: str, by: str, user_id: str) -> None:
        await self.called(
            by,
            "",
            "remove",
            lambda: self.server.remove_member(name, by, user_id),
            conversation_id=name,
            user_ids=[user_id],
        )

    async def page(self, name: str, user_id: str, last_seq: int, limit: int) -> None:
        await self.called(
            user_id,
            "",
            "page",
            lambda: self.server.sync.page(name, user_id, last_seq, limit),
            conversation_id=name,
            last_seq=last_seq,
            limit=limit,
        )

    async def list(self, user_id: str) -> None:
        await self.called(user_id, "", "list", lambda: self._store.conversations(user_id, None, None, 200))

    async def renew(self, name: str) -> None:
        async def renew() -> dict[str, str]:
            return {"epoch": await self.server.renew_epoch(name)}

        await self.called("", "", "renew_epoch", renew, conversation_id=name)

    async def _dump(self) -> None:
        await anyio.sleep(5.0)
        self.history.store = await dump_store(self._store, self.names)
        self.history.devices = [
            dump_device(it.user_id, it.device_id, it.store, crashed=False, online=True) for it in self.devices
        ]


def _plain(answer: Any) -> dict[str, Any]:
    if answer is None or isinstance(answer, dict):
        return answer or {}
    if isinstance(answer, list):
        return {"items": answer}
    return {name: getattr(answer, name) for name in answer.__struct_fields__}


# --- what happened ---


async def _office(scene: Scene) -> None:
    """Everything once: all verbs, refusals, a cut, an absence, joining late, leaving, coming back and leaving again."""
    await scene.create(TEAM, "GROUP", ["ann", "bob"])
    await scene.create(PAIR, "SINGLE", ["ann", "bob"])
    await scene.create(ALONE, "GROUP", ["ann", "dan"])
    phone = await scene.device("ann", "phone")
    laptop = await scene.device("ann", "laptop", "msgpack")
    bob = await scene.device("bob", "phone")
    eve = await scene.device("eve", "phone")

    async with anyio.create_task_group() as group:
        for number in (1, 2, 3):
            group.start_soon(phone.send, TEAM, f"a-{number}", f"canary1ann{number} hello")
    await phone.send(TEAM, "a-1", "canary1ann1 hello")
    await phone.send(TEAM, "a-1", "canary1other another body under the same key")
    await eve.send(TEAM, "e-0", "canary1eve0 let me in")
    await bob.mark_read(TEAM, 3)
    secret = await bob.send(TEAM, "b-1", "canary1bob1 a word too much")
    await anyio.sleep(1.0)

    await scene.add(TEAM, "ann", "eve")
    await eve.send(TEAM, "e-1", "canary1eve1 thanks")
    await bob.recall(secret.message_id)
    await bob.recall(secret.message_id)
    await eve.line.cut()
    await laptop.send(PAIR, "l-1", "canary1lap1 just us")
    await bob.mark_read(TEAM, 6)
    await anyio.sleep(2.0)

    await bob.stop()
    await laptop.send(TEAM, "l-2", "canary1lap2 where is bob?")
    await phone.send(TEAM, "a-4", "canary1ann4 away")
    await bob.start()
    await scene.remove(TEAM, "ann", "eve")
    await laptop.send(TEAM, "l-3", "canary1lap3 now that she is gone")
    await scene.add(TEAM, "ann", "eve")
    await bob.send(TEAM, "b-2", "canary1bob2 welcome back")
    await anyio.sleep(1.0)
    await scene.remove(TEAM, "eve", "eve")
    await phone.send(TEAM, "a-5", "canary1ann5 gone again")
    await eve.line.cut()
    await anyio.sleep(1.0)

    await phone.send(ALONE, "a-6", "canary1ann6 dan has no device")
    await bob.read_history(TEAM, None, 50)
    await phone.read_history(TEAM, 5, 2)
    await scene.page(TEAM, "eve", 0, 3)
    await scene.page(TEAM, "bob", 2, 4)
    await bob.send(TEAM, "b-1", "canary1bob1 a word too much")
    await scene.list("ann")
    await scene.list("bob")


async def _renewed(scene: Scene) -> None:
    """A log that gets a new epoch while one device is there and another is away."""
    await scene.create(TEAM, "GROUP", ["ann", "bob"])
    ann, bob = await scene.device("ann", "phone"), await scene.device("bob", "phone", "msgpack")
    for number in range(5):
        await ann.send(TEAM, f"a-{number}", f"canary2ann{number}")
    await bob.stop()
    await ann.send(TEAM, "a-5", "canary2ann5")
    await scene.renew(TEAM)
    await ann.send(TEAM, "a-6", "canary2ann6")
    await ann.send(TEAM, "a-0", "canary2ann0")
    await bob.start()
    await bob.send(TEAM, "b-0", "canary2bob0")


async def _cut(scene: Scene) -> None:
    """Six devices of three users, all sending at once over connections that break after a few frames."""
    chance = random.Random(scene.chance.seed)
    await scene.create(TEAM, "GROUP", ["ann", "bob", "eve"])
    devices = [
        await scene.device(user_id, device_id, codec)
        for user_id in ("ann", "bob", "eve")
        for device_id, codec in (("phone", "json"), ("pc", "msgpack"))
    ]
    async with anyio.create_task_group() as group:
        for device in devices:
            device.line.frames_max = lambda: chance.randint(2, 25)
            group.start_soon(_send_all, device)
            await device.line.cut()
    for device in devices:
        device.line.frames_max = lambda: 1_000_000
        await device.line.cut()
    await anyio.sleep(5.0)


async def _send_all(device: Device) -> None:
    for number in range(15):
        key = f"{device.user_id}-{device.device_id}-{number}"
        sent = await device.send(TEAM, key, f"{key} canary3{number}")
        if number % 5 == 2:
            await device.recall(sent.message_id)
        if number % 5 == 4:
            await device.mark_read(TEAM, sent.seq)


_PLAYS = {"office": _office, "renewed": _renewed, "cut": _cut}
PLAYS = tuple(_PLAYS)


async def _play(name: str, seed: int) -> History:
    async with Scene(seed) as scene:
        await _PLAYS[name](scene)
    return scene.history


@cache
def _played(name: str, seed: int) -> History:
    return run_virtual(_play, name, seed, seed=seed)


def play(name: str, seed: int = 0) -> History:
    """A history of its own of one of the plays."""
    return copy_of(_played(name, seed))


# --- spoiling ---


def copy_of(history: History) -> History:
    """One that can be changed: its lists, calls and dumps are new, frames and told events are to be replaced."""
    copy = History(lambda: 0.0)
    copy.calls = [replace(it, args=dict(it.args), answer=_answer_copy(it.answer)) for it in history.calls]
    copy.frames, copy.told, copy.incidents = list(history.frames), list(history.told), list(history.incidents)
    assert history.store is not None
    logs = {name: _log_copy(dump) for name, dump in history.store.logs.items()}
    copy.store = StoreDump(logs, list(history.store.outbox))
    copy.devices = [_device_copy(dump) for dump in history.devices]
    return copy


def _answer_copy(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, list) else value for name, value in answer.items()}


def _log_copy(dump: LogDump) -> LogDump:
    return replace(dump, entries=list(dump.entries), members=list(dump.members), audit=list(dump.audit))


def _device_copy(dump: DeviceDump) -> DeviceDump:
    messages = {name: list(of_log) for name, of_log in dump.messages.items()}
    return replace(
        dump,
        records=list(dump.records),
        messages=messages,
        floors=dict(dump.floors),
        pending=list(dump.pending),
    )


def log(history: History, name: str = TEAM) -> LogDump:
    assert history.store is not None
    return history.store.logs[name]


def device(history: History, user_id: str, device_id: str) -> DeviceDump:
    return next(it for it in history.devices if (it.user_id, it.device_id) == (user_id, device_id))


def events_of(frame: Frame) -> list[dict[str, Any]]:
    """The events of a frame as plain values."""
    decode = msgspec.msgpack.decode if frame.codec.binary else msgspec.json.decode
    decoded = decode(frame.data)
    return decoded if isinstance(decoded, list) else [decoded]


def with_events(frame: Frame, events: Sequence[dict[str, Any]]) -> Frame:
    return replace(frame, data=frame.codec.encode(list(events)))


def change_event(
    history: History,
    name: str,
    change: Callable[[dict[str, Any]], None],
    *,
    where: Callable[[Frame, dict[str, Any]], bool] = lambda frame, event: True,
    last: bool = False,
) -> None:
    """Change the first, or the last, event of a name, in its frame."""
    places = list(enumerate(history.frames))
    for place, frame in reversed(places) if last else places:
        events = events_of(frame)
        for event in events:
            if event.get("event") == name and where(frame, event):
                change(event)
                history.frames[place] = with_events(frame, events)
                return
    raise AssertionError(f"no {name} to change")


def frame_of(history: History, name: str, where: Callable[[Frame, dict[str, Any]], bool]) -> Frame:
    """The first frame that holds such an event."""
    return next(
        frame
        for frame in history.frames
        if any(event.get("event") == name and where(frame, event) for event in events_of(frame))
    )
