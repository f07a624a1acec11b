"""A whole Python client under a script: what it says to the server and tells its app, step by step."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import anyio
import msgspec
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from chatkit import ChatClient
from chatkit.client import events as told
from chatkit.errors import ChatkitError
from chatkit.testing.backends import VIRTUAL
from chatkit.types import Message
from chatkit.wire import events as ev

from ..client.fake_server import FakeServer, Line, client, welcome
from .client_scripts import Step

SHORTLY_S = 0.001
"""Whatever can happen without time going by has happened then."""


class ClientMachine:
    """One client, and the line that it is on."""

    def __init__(self, chat: ChatClient, server: FakeServer, group: Any) -> None:
        self._chat = chat
        self._server = server
        self._group = group
        self._line: Line | None = None
        self._told: list[Step] = []
        self._refs: dict[str, str] = {}
        self._writes: MemoryObjectSendStream[str] | None = None
        group.start_soon(self._listen)

    async def step(self, step: Step) -> Step:
        """Do it, and say what followed."""
        await self._do(step)
        await anyio.sleep(SHORTLY_S)
        says = [] if self._line is None else self._said(self._line)
        notified, self._told = self._told, []
        then: Step = {"says": says, "told": notified}
        return {**then, "list": await self._list()} if step["do"] == "list" else then

    async def _list(self) -> list[Step]:
        rows = await self._chat.conversations(fetch=False)
        return [
            {"unread": row.unread, "mentions": row.unread_mentions, "last": _last(row.last_message)}
            for row in rows
        ]

    async def _do(self, step: Step) -> None:
        line = self._line
        match step["do"]:
            case "connect":
                self._line = line = await self._server.accept()
                await line.expect(ev.Hello)
                line.push(welcome())
                self._push(line, step["events"])
            case "server":
                assert line is not None
                self._push(line, step["events"])
            case "break":
                assert line is not None
                line.close(1006)
                self._line = None
            case "advance":
                await anyio.sleep(step["ms"] / 1000)
            case "send":
                self._group.start_soon(self._send, step)
            case "stream":
                self._writes, written = anyio.create_memory_object_stream[str](8)
                self._group.start_soon(self._stream, step, written)
            case "write":
                assert self._writes is not None
                await self._writes.send(step["text"])
            case "end":
                assert self._writes is not None
                self._writes.close()
            case "markRead":
                await self._chat.mark_read(step["conversationId"], step["upToSeq"])

    def _push(self, line: Line, events: list[Step]) -> None:
        filled = [{**event, "ref": self._refs[event["ref"]]} if "ref" in event else event for event in events]
        line.push_text(json.dumps(filled))

    async def _send(self, step: Step) -> None:
        with suppress(ChatkitError):  # `SendFailed` and `MessageHeld` tell the same
            await self._chat.send(step["conversationId"], step["text"], client_msg_id=step["clientMsgId"])

    async def _stream(self, step: Step, written: MemoryObjectReceiveStream[str]) -> None:
        begun = self._chat.stream(step["conversationId"], client_msg_id=step["clientMsgId"])
        async with written, begun as stream:
            async for text in written:
                await stream.write(text)

    async def _listen(self) -> None:
        async for event in self._chat.events():
            step = _told(event)
            if step is not None:
                self._told.append(step)

    def _said(self, line: Line) -> list[Step]:
        said = [_said(event) for event in line.received if not isinstance(event, ev.Ping)]
        for event in line.received:
            match event:
                case ev.Sync(ref=str(ref)):
                    self._refs["of the newest SYNC"] = ref
                case ev.StreamPartCommand(ref=str(ref)):
                    self._refs["of the newest STREAM_PART"] = ref
        line.received.clear()
        return sorted(said, key=lambda event: event["event"])


def _last(message: Message | None) -> list[Any] | None:
    return None if message is None else [message.seq, message.content.get("text", message.type)]


def _said(event: ev.ClientEvent) -> Step:
    """What of it every client says alike."""
    fields = msgspec.to_builtins(event)
    kept = ("event", "conversationId", "clientMsgId", "payload", "upToSeq", "lastSeq", "part", "text")
    return {name: fields[name] for name in kept if name in fields}


def _told(event: told.ChatEvent) -> Step | None:
    match event:
        case told.MessageReceived(message):
            return {"type": "message", "seq": message.seq}
        case told.MessageSent(sent):
            return {"type": "sent", "clientMsgId": sent.client_msg_id, "seq": sent.seq}
        case told.MessageHeld(_, client_msg_id):
            return {"type": "held", "clientMsgId": client_msg_id}
        case told.SendFailed(_, client_msg_id, error):
            return {"type": "failed", "clientMsgId": client_msg_id, "code": getattr(error, "code", "")}
        case told.MessageRecalled(_, _, seq):
            return {"type": "recalled", "seq": seq}
        case told.MessageEdited(_, _, seq, by, edit):
            return {"type": "edited", "seq": seq, "by": by, "text": (edit.payload or {}).get("text")}
        case told.ReactionChanged(_, _, seq, user_id, reaction, removed):
            return {"type": "reaction", "seq": seq, "by": user_id, "reaction": reaction, "removed": removed}
        case told.EpochChanged(_, _, kept_seq):
            return {"type": "epoch", "keptSeq": kept_seq}
    return None


def led(script: list[Step]) -> list[Step]:
    """Each step with what it led to."""
    backend, options = VIRTUAL
    return anyio.run(_led, script, backend=backend, backend_options=options)


async def _led(script: list[Step]) -> list[Step]:
    steps = []
    server = FakeServer()
    async with client(server) as chat, anyio.create_task_group() as group:
        machine = ClientMachine(chat, server, group)
        for step in script:
            steps.append({**step, "then": await machine.step(step)})
        group.cancel_scope.cancel()
    return steps
