"""A server, its clients and the history of both, in virtual time: the real engine and the real SDK, recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup

from chatkit import ChatClient, ChatServer, ClientConfig, Identity, ServerConfig, open_store
from chatkit.client.store.memory import MemoryStore
from chatkit.client.validate import end_payload
from chatkit.errors import ChatkitError, RefusedError
from chatkit.gateway.memory import MemoryConnector
from chatkit.server.limits import Limits
from chatkit.server.moderation.config import ModerationConfig
from chatkit.server.moderation.verdicts import Allow, ModeratorVerdict, Submission
from chatkit.testing.rng import Rng
from chatkit.transport.base import Transport, TransportClosedError
from chatkit.wire.codec import CODECS
from chatkit.wire.payload import encode

from .dumps import CompleteHistory, Moderated, dump_device, dump_store
from .held import Peaks, server_counts, server_peaks
from .membership import current_members

RECALL_WINDOW_MS = 120_000

LATENCY_S = 0.005
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
        await anyio.sleep(LATENCY_S)
        await self._count()
        self._note(frame, False)
        return frame

    async def send(self, frame: bytes | str) -> None:
        await anyio.sleep(LATENCY_S)
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
        self._incarnation = 0
        self._stop = anyio.Event()
        self._stopped = anyio.Event()
        self.client: ChatClient

    async def start(self) -> None:
        """Run it until `stop`; returns once it is connected."""
        self._incarnation += 1
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
            ports=self._scene.rng.ports(f"{self.user_id} {self.device_id} {self._incarnation}"),
        )
        async with self.client, anyio.create_task_group() as group:
            group.start_soon(self._consume)
            await self._stop.wait()
            await self.client.aclose()
            group.cancel_scope.cancel()
        self._stopped.set()

    async def _consume(self) -> None:
        async for event in self.client.events():
            self._scene.history.app_event(self.user_id, self.device_id, self._incarnation, event)

    async def call(self, op: str, act: Callable[[], Awaitable[Any]], **args: Any) -> Any:
        return await self._scene.called(self.user_id, self.device_id, op, act, **args)

    async def send(self, name: str, key: str, text: str) -> Any:
        return await self._send_payload(name, key, {"type": "TEXT", "text": text})

    async def stream(self, name: str, key: str, texts: Sequence[str]) -> None:
        """A message that grows by these texts."""
        stream = self.client.stream(name, texts[0], client_msg_id=key, timeout=600)

        async def begin() -> Any:
            await stream.__aenter__()
            return stream.sent

        await self._recorded_send(name, key, {"type": "STREAM", "text": texts[0]}, begin)
        for text in texts[1:]:
            await stream.write(text)
            await anyio.sleep(1.0)
        ended = end_payload(stream.sent, stream.text, "WHOLE")
        await self._recorded_send(name, f"{key}-end", ended, stream.end)
        await stream.__aexit__(None, None, None)

    async def _send_payload(self, name: str, key: str, payload: dict[str, Any]) -> Any:
        async def act() -> Any:
            return await self.client.send(name, payload, client_msg_id=key, timeout=600)

        return await self._recorded_send(name, key, payload, act)

    async def _recorded_send(
        self, name: str, key: str, payload: dict[str, Any], act: Callable[[], Awaitable[Any]]
    ) -> Any:
        return await self.call(
            "send", act, conversation_id=name, client_msg_id=key, payload=payload, timeout_s=600
        )

    async def recall(self, message_id: str) -> Any:
        return await self.call(
            "recall",
            lambda: self.client.recall(message_id, timeout=600),
            message_id=message_id,
            timeout_s=600,
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
            timeout_s=_QUICK.request_timeout_s,
        )


class Scene:
    """A server, its devices and the history of both: `async with Scene() as scene`."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = Rng(seed)
        self.history = CompleteHistory(anyio.current_time)
        self.devices: list[Device] = []
        self.names: list[str] = []
        self._store = open_store("memory://", ids=self.rng.ports("store").ids)
        self.server = ChatServer(
            store=self._store,
            authenticate=whoever,
            config=ServerConfig(recall_window_s=RECALL_WINDOW_MS / 1000, limits=Limits.unlimited()),
            ports=self.rng.ports("n-0"),
            moderator=self._moderate,
            moderation=ModerationConfig(parts_unseen=True),
        )
        self._connections = 0
        self.tasks: TaskGroup

    async def _moderate(self, submissions: Sequence[Submission]) -> list[ModeratorVerdict]:
        """Everything is allowed, and noted."""
        now_s = anyio.current_time()
        for it in submissions:
            key = (it.conversation_id, it.sender_id, it.client_msg_id)
            self.history.moderated.append(
                Moderated(now_s, now_s, key, encode(it.payload), "allow", None, is_open=False)
            )
        return [Allow()] * len(submissions)

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
        await self.called(
            user_id,
            "",
            "list",
            lambda: self._store.conversations(user_id, None, None, 200),
            after=None,
            limit=200,
        )

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
        self._count()

    def _count(self) -> None:
        assert self.history.store is not None
        members = {name: current_members(log.entries) for name, log in self.history.store.logs.items()}
        peaks, online = Peaks(), len(self.devices)
        peaks.look("servers", server_peaks(self.server))
        counts = server_counts("at rest", "n-0", self.server, members, online)
        self.history.counts = [*peaks.counts(), *counts]


def _plain(answer: Any) -> dict[str, Any]:
    if answer is None or isinstance(answer, dict):
        return answer or {}
    if isinstance(answer, list):
        return {"items": answer}
    return {name: getattr(answer, name) for name in answer.__struct_fields__}
