"""What users and the host do in a run: acts of apps, verbs of the host. Everything goes into the history."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, cast

import anyio
import msgspec

from chatkit.client.message_stream import MessageStream
from chatkit.client.validate import end_payload
from chatkit.errors import ChatkitError, RefusedError
from chatkit.server.server import ChatServer
from chatkit.storage.base import Updated
from chatkit.testing.rng import Stream
from chatkit.types import GrantedRole, History, Payload, Sent
from chatkit.wire.payload import EVERYBODY, title_payload

from .device import Device, plain
from .world import World

STRANGERS_CONVERSATION = "c-nowhere"

_HOST_ACTS_PER_S = 3.0
_VISIT_S = 2.0  # longest wait of a visit for the visitor's device to hear of it
_LOOK_S = 0.005
_NAMING_SHARE = 0.25  # of sends
_TITLE_SHARE = 0.15  # of these
_MENTION_SHARE = 0.3  # of bodies
_RENEWED_AT_REST_SHARE = 0.2  # of runs
_JUST_NOW = 3  # so many of a device's last messages may have no answer yet, or not be known on another device


class Own(msgspec.Struct):
    """A message that somebody sent, as its sender remembers it."""

    conversation_id: str
    client_msg_id: str
    payload: Payload
    sent: Sent | None = None


class Workload:
    """The acts of all users, drawn from the seed.

    Attributes:
        known: Conversations that were asked for, with the users who were asked in.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng.stream("workload")
        self._users = sorted({device.user_id for device in world.devices})
        self._count = 0
        self._over = False
        self._sent: dict[str, list[Own]] = {device.name: [] for device in world.devices}
        self._pinned: dict[str, list[dict[str, Any]]] = {}
        self._reacted: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self.known: dict[str, list[str]] = {}
        self._apps: list[tuple[int, Callable[[Device], Awaitable[None]]]] = [
            (60, self._send),
            (6, self._send_again),
            (2, self._send_other_under_same_key),
            (6, self._recall),
            (14, self._mark_read),
            (5, self._history),
            (5, self._typing),
            (4, self._stream),
        ]
        self._host: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (8, self._host_send),
            (5, self._add),
            (5, self._remove),
            (4, self._visit),
            (4, self._arrive_in_pairs),
            (2, self._create),
            (8, self._page),
            (3, self._list),
            (1, self._renew_epoch),
            (3, self._set_role),
            (2, self._silence),
            (1, self._ban),
            (2, self._unban),
            (2, self._set_history),
            *([(24, self._review)] if world.plan.moderation is not None else []),
        ]

    async def prepare(self) -> None:
        """The conversations that a run begins with."""
        for number in range(self._world.plan.groups):
            await self._group(f"c-{number}", self._users)
        await self._single(self._users[0], self._users[1])

    async def run(self) -> None:
        """Act until cancelled."""
        try:
            async with anyio.create_task_group() as group:
                for device in self._world.devices:
                    group.start_soon(self._app, device)
                group.start_soon(self._operator)
        finally:
            self._over = True

    async def _app(self, device: Device) -> None:
        rng = self._world.rng.stream(f"{device.name} acts")
        while True:
            await anyio.sleep(rng.expovariate(1 / self._world.plan.think_s))
            device.start(_choose(rng, self._apps), device)

    async def _operator(self) -> None:
        async with anyio.create_task_group() as group:
            while True:
                await anyio.sleep(self._rng.expovariate(_HOST_ACTS_PER_S))
                group.start_soon(_choose(self._rng, self._host))

    # --- apps ---

    async def _send(self, device: Device) -> None:
        for _ in range(self._rng.choice((1, 1, 1, 4))):
            name = self._anywhere(device)
            own = Own(name, f"{device.name}-{self._next()}", self._naming(device, name) or self._payload())
            self._sent[device.name].append(own)
            device.start(self._send_one, device, own)

    async def _send_again(self, device: Device) -> None:
        """The same message under the same key."""
        own = self._one_of(self._sent[device.name])
        if own is not None:
            await self._send_one(device, own)

    async def _send_other_under_same_key(self, device: Device) -> None:
        """Another message under a key that was answered here, or that another of the user's devices uses just now."""
        owner = self._one_of([it for it in self._world.devices if it.user_id == device.user_id]).name
        sent = self._sent[owner]
        here = owner == device.name
        own = self._one_of([own for own in sent if own.sent is not None] if here else sent[-_JUST_NOW:])
        if own is not None:
            sent.remove(own)  # while the other is pending, the device itself refuses the first
            await self._send_one(device, Own(own.conversation_id, own.client_msg_id, self._payload()))

    async def _send_one(self, device: Device, own: Own) -> None:
        client = device.client
        if client is not None:
            send = partial(client.send, own.conversation_id, own.payload, client_msg_id=own.client_msg_id)
            own.sent = await self._send_by(device, own, send) or own.sent

    async def _send_by(self, device: Device, own: Own, send: Callable[[], Awaitable[Sent]]) -> Sent | None:
        sent: Sent | None = await device.call(
            "send",
            lambda _: send(),
            conversation_id=own.conversation_id,
            client_msg_id=own.client_msg_id,
            payload=own.payload,
            timeout_s=self._world.plan.client.send_timeout_s,
        )
        return sent

    async def _stream(self, device: Device) -> None:
        """A message that grows; now and then its author falls silent, dies, or recalls it in the middle."""
        name, key = self._anywhere(device), f"{device.name}-{self._next()}"
        own = Own(name, key, {"type": "STREAM", "text": self._words()})
        client = device.client
        if client is None:
            return
        self._sent[device.name].append(own)
        stream = client.stream(name, own.payload["text"], client_msg_id=key)

        async def begin() -> Sent:
            await stream.__aenter__()
            return stream.sent

        try:
            own.sent = await self._send_by(device, own, begin)
            if own.sent is not None:
                with suppress(ChatkitError):
                    await self._write(device, own, stream)
        finally:
            stream._sender.cancel()  # what is open still, the server ends

    async def _write(self, device: Device, own: Own, stream: MessageStream) -> None:
        for _ in range(self._rng.choice((1, 3, 12))):
            await stream.write(self._words() * self._rng.choice((1, 1, 30)))
            await anyio.sleep(self._rng.choice((0.0, 0.1, 1.0)))
            if self._over:
                return  # what is begun after the end of the run is in no log that is judged
        fate = self._rng.random()
        if fate < 0.2 and own.sent is not None:
            await self._recall_this(device, own.sent)
        elif fate < 0.8:
            ended = end_payload(stream.sent, stream.text, "WHOLE")
            last = Own(own.conversation_id, f"{own.client_msg_id}-end", ended)
            await self._send_by(device, last, stream.end)

    async def _recall(self, device: Device) -> None:
        """One's own message, or (refused) another's."""
        sent = [own.sent for own in self._sent[device.name][-20:] if own.sent is not None]
        if self._rng.random() < 0.2:
            other = self._rng.choice(self._world.devices)
            sent = [own.sent for own in self._sent[other.name] if own.sent is not None]
        target = self._one_of(sent)
        if target is not None:
            await self._recall_this(device, target)

    async def _recall_this(self, device: Device, target: Sent) -> None:
        await device.call(
            "recall",
            lambda client: client.recall(target.message_id),
            conversation_id=target.conversation_id,
            message_id=target.message_id,
            seq=target.seq,
            timeout_s=self._world.plan.client.request_timeout_s,
        )

    async def _mark_read(self, device: Device) -> None:
        name = self._anywhere(device)
        head = (device.client.heads if device.client else {}).get(name)
        up_to_seq = self._rng.randint(0, head.head_seq if head else 3) + (self._rng.random() < 0.05)
        await device.call(
            "mark_read",
            lambda client: client.mark_read(name, up_to_seq),
            conversation_id=name,
            up_to_seq=up_to_seq,
        )

    async def _history(self, device: Device) -> None:
        name, limit = self._anywhere(device), self._rng.choice((1, 10, 50))
        before_seq = self._rng.choice((None, None, self._rng.randint(1, 60)))
        await device.call(
            "history",
            lambda client: client.history(name, before_seq=before_seq, limit=limit),
            conversation_id=name,
            before_seq=before_seq,
            limit=limit,
            timeout_s=self._world.plan.client.request_timeout_s,
        )

    async def _typing(self, device: Device) -> None:
        for _ in range(self._rng.choice((1, 2))):
            name = self._anywhere(device)
            await self._type_in(device, name)

    async def _type_in(self, device: Device, name: str) -> None:
        await device.call("typing", lambda client: client.typing(name), conversation_id=name)

    # --- the host, and plain HTTP in somebody's name ---

    async def _group(self, name: str, users: Sequence[str]) -> None:
        creator = users[0]
        self.known.setdefault(name, list(users))
        await self._on_a_server(
            creator,
            "create",
            lambda server: server.create_conversation("GROUP", creator, users, conversation_id=name),
            conversation_id=name,
            type="GROUP",
            member_ids=list(users),
        )

    async def _single(self, first: str, second: str) -> None:
        name = f"c-{first}-{second}"
        self.known.setdefault(name, [first, second])
        await self._on_a_server(
            first,
            "create",
            lambda server: server.create_conversation("SINGLE", first, [second], conversation_id=name),
            conversation_id=name,
            type="SINGLE",
            member_ids=[first, second],
        )

    async def _create(self) -> None:
        users = self._rng.sample(self._users, k=self._rng.randint(2, len(self._users)))
        if len(users) == 2 and self._rng.random() < 0.7:
            await self._single(*sorted(users))
        else:
            await self._group(f"c-{self._rng.randint(0, 8)}", users)

    async def _host_send(self) -> None:
        name, user_id = self._somewhere(), self._rng.choice(self._users)
        await self._send_by_host(name, user_id, self._payload())

    async def _send_by_host(self, name: str, user_id: str, payload: Payload) -> None:
        key = f"{user_id}-host-{self._next()}"
        moderate = self._world.plan.moderation is not None and self._rng.random() < 0.5
        await self._on_a_server(
            user_id,
            "send",
            lambda server: server.send(name, user_id, payload, client_msg_id=key, moderate=moderate),
            conversation_id=name,
            client_msg_id=key,
            payload=payload,
        )

    async def _review(self) -> None:
        """Somebody decides about a held message."""
        servers = self._world.servers()
        if servers:
            with suppress(RefusedError):
                await self._world.reviewer.review_one(self._rng.choice(servers))

    async def _add(self) -> None:
        name, users = self._somewhere(), self._rng.sample(self._users, k=self._rng.randint(1, 2))
        await self._add_to(name, self.known.get(name, self._users)[0], users)

    async def _add_to(self, name: str, by: str | None, users: list[str]) -> None:
        await self._on_a_server(
            by or "",
            "add",
            lambda server: server.add_members(name, by, users),
            conversation_id=name,
            user_ids=users,
        )

    async def _remove(self) -> None:
        name, user_id = self._somewhere(), self._rng.choice(self._users)
        await self._remove_from(
            name, self._rng.choice((self.known.get(name, self._users)[0], user_id)), user_id
        )

    async def _remove_from(self, name: str, by: str, user_id: str) -> None:
        await self._on_a_server(
            by,
            "remove",
            lambda server: server.remove_member(name, by, user_id),
            conversation_id=name,
            user_ids=[user_id],
        )

    # --- what members are ---

    async def _set_role(self) -> None:
        name, by, user_id = self._acting()
        role: GrantedRole = self._rng.choice(("ADMIN", "ADMIN", "MEMBER", "GUEST"))
        await self._of_member(
            "set_role", name, by, user_id, lambda server: server.set_role(name, user_id, role, by=by)
        )

    async def _silence(self) -> None:
        """For a moment, in which the silenced go on trying."""
        name, by, user_id = self._acting()
        pause_ms = self._rng.choice((0, 300, 3_000))
        await self._of_member(
            "silence", name, by, user_id, lambda server: _silenced(server, name, by, user_id, pause_ms)
        )

    async def _ban(self) -> None:
        name, by, user_id = self._acting()
        await self._of_member(
            "ban_member", name, by, user_id, lambda server: server.ban_member(name, user_id, by=by)
        )

    async def _unban(self) -> None:
        name, by, user_id = self._acting()
        await self._of_member(
            "unban_member", name, by, user_id, lambda server: server.unban_member(name, user_id, by=by)
        )
        if self._rng.random() < 0.5:  # the host's adding ends a ban too
            await self._add_to(name, None, [user_id])

    async def _set_history(self) -> None:
        name, by, _ = self._acting()
        history: History = self._rng.choice(("FROM_START", "FROM_START", "FROM_JOIN"))
        await self._on_a_server(
            by or "",
            "set_history",
            lambda server: server.set_history(name, history, by=by),
            conversation_id=name,
        )

    def _acting(self) -> tuple[str, str | None, str]:
        """A conversation, who acts there, mostly its creator, and on whom."""
        name, user_id = self._somewhere(), self._rng.choice(self._users)
        creator = self.known.get(name, self._users)[0]
        return name, self._rng.choice((creator, creator, None, self._rng.choice(self._users))), user_id

    async def _of_member(
        self,
        op: str,
        name: str,
        by: str | None,
        user_id: str,
        act: Callable[[ChatServer], Awaitable[Any]],
    ) -> None:
        await self._on_a_server(by or "", op, act, conversation_id=name, user_ids=[user_id])

    # --- coming and going ---

    async def _visit(self) -> None:
        """A user leaves, is added again, and removed at the moment when their device pulls what they missed."""
        name, device = self._somewhere(), self._rng.choice(self._world.devices)
        by, user_id = self.known.get(name, self._users)[0], device.user_id
        pause_s = self._rng.random() * 0.05
        await self._remove_from(name, user_id, user_id)
        edited = await self._edit_meanwhile(name, user_id)
        await self._add_to(name, by, [user_id])
        if edited is not None:
            await self._page_of(name, user_id, edited.seq - 1, 1, history=False)
        with anyio.move_on_after(_VISIT_S):
            while device.client is None or name not in device.client.heads:
                await anyio.sleep(_LOOK_S)
        await anyio.sleep(pause_s)
        await self._remove_from(name, by, user_id)

    async def _edit_meanwhile(self, name: str, away_id: str) -> Sent | None:
        """Somebody else edits an earlier message, which who is away may have seen. Returns which."""
        target = self._one_of(
            [
                (device.user_id, own.sent)
                for device in self._world.devices
                for own in self._sent[device.name]
                if own.sent is not None and own.conversation_id == name and device.user_id != away_id
            ]
        )
        if target is None:
            return None
        user_id, sent = cast("tuple[str, Sent]", target)
        named = {"messageId": sent.message_id, "seq": sent.seq}
        await self._send_by_host(name, user_id, {"type": "EDIT", **named, "payload": self._payload()})
        return sent

    async def _arrive_in_pairs(self) -> None:
        """Two users are added to a new group together, and the first of them leaves at once.

        Nobody else is in it but one: other nodes hear of it by who has joined.
        """
        name, (by, *pair) = f"c-pair-{self._next()}", self._rng.sample(self._users, k=3)
        first, second = sorted(pair)  # in this order other nodes look at them
        await self._group(name, [by])
        await self._add_to(name, by, [first, second])
        await self._remove_from(name, first, first)

    async def _page(self) -> None:
        name, user_id = self._somewhere(), self._rng.choice(self._users)
        last_seq, limit = self._rng.randint(0, 40), self._rng.choice((1, 5, 200))
        await self._page_of(name, user_id, last_seq, limit, history=self._rng.random() < 0.5)

    async def _page_of(self, name: str, user_id: str, last_seq: int, limit: int, *, history: bool) -> None:
        await self._on_a_server(
            user_id,
            "page",
            lambda server: server.sync.page(name, user_id, last_seq, limit, history=history),
            conversation_id=name,
            last_seq=last_seq,
            limit=limit,
            history=history,
        )

    async def _list(self) -> None:
        user_id, limit = self._rng.choice(self._users), 200
        await self._on_a_server(
            user_id,
            "list",
            lambda server: server.store.conversations(user_id, None, None, limit),
            after=None,
            limit=limit,
        )

    async def _renew_epoch(self) -> None:
        """As after a restore; rare."""
        if self._rng.random() < 0.3:
            await self._renew_epoch_of(self._somewhere())

    async def renew_at_rest(self) -> None:
        """In some runs, a log that is quiet then: nothing else comes that shows its new epoch."""
        rng = self._world.rng.stream("renewal at rest")
        if rng.random() < _RENEWED_AT_REST_SHARE and not self._world.plan.dead_bus:
            await self._renew_epoch_of(rng.choice(sorted(self.known)))

    async def _renew_epoch_of(self, name: str) -> None:
        await self._on_a_server(
            "", "renew_epoch", lambda server: _renewed(server, name), conversation_id=name
        )

    async def _on_a_server(
        self, user_id: str, op: str, act: Callable[[ChatServer], Awaitable[Any]], **args: Any
    ) -> Any | None:
        """One call of the host in the name of a user. None unless it is ok."""
        servers = self._world.servers()
        if not servers:
            return None
        history = self._world.history
        call = history.invoke(user_id, "", op, **args)
        try:
            answer = await act(self._rng.choice(servers))
        except RefusedError as error:
            (history.info if error.retryable else history.fail)(call, error)
        except anyio.get_cancelled_exc_class() as cancelled:
            history.info(call, cancelled)
            raise
        else:
            history.ok(call, **plain(answer))
            return answer
        return None

    # --- draws ---

    def _anywhere(self, device: Device) -> str:
        """Mostly where the device knows it is a member."""
        mine = sorted(device.client.heads) if device.client else []
        return self._rng.choice(mine) if mine and self._rng.random() < 0.9 else self._somewhere()

    def _somewhere(self) -> str:
        return self._rng.choice([*sorted(self.known), *sorted(self.known), STRANGERS_CONVERSATION])

    def _one_of(self, choices: Sequence[Any]) -> Any:
        return self._rng.choice(choices) if choices else None

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _naming(self, device: Device, name: str) -> Payload | None:
        """Now and then something about an earlier message there, of others' too, and of what is no message; or about
        the conversation."""
        if self._rng.random() > _NAMING_SHARE:
            return None
        if self._rng.random() < _TITLE_SHARE:
            return title_payload(*self._rng.choice((("t", None), (None, "d"), (f"t{self._next()}", ""))))
        by = device if self._rng.random() < 0.5 else self._rng.choice(self._world.devices)
        sent = [it.sent for it in self._sent[by.name] if it.sent is not None and it.conversation_id == name]
        target = self._one_of(sent[-10:])
        if target is None:
            return None
        named = {"messageId": target.message_id, "seq": target.seq}
        match self._rng.choice(("EDIT", "EDIT", "REACTION", "REACTION", "PINNED", "PINNED", "REPLY")):
            case "EDIT":
                return {"type": "EDIT", **named, "payload": self._payload()}
            case "REACTION":
                reacted = self._reacted.setdefault((device.user_id, name), [])
                if reacted and self._rng.random() < 0.3:
                    return {"type": "REACTION", **self._rng.choice(reacted), "removed": True}
                reacted.append({**named, "reaction": self._rng.choice("xyz")})
                return {"type": "REACTION", **reacted[-1], "removed": False}
            case "PINNED":
                pinned = self._pinned.setdefault(name, [])
                if pinned and self._rng.random() < 0.4:
                    return {"type": "PINNED", **self._rng.choice(pinned), "pinned": False}
                pinned.append(named)
                return {"type": "PINNED", **named, "pinned": True}
            case _:
                return {**self._payload(), "replyTo": named}

    def _words(self) -> str:
        """A text that no other has, and too short for a canary: a part and the end of its stream both hold it."""
        return f"w{self._next()} "

    def _payload(self) -> Payload:
        """A body with a canary that no other has."""
        canary = f"canary-{self._next()}-{self._rng.randbytes(4).hex()}"
        if self._rng.random() < _MENTION_SHARE:
            users = [*self._users, *self._users, EVERYBODY]
            mentions = sorted(set(self._rng.sample(users, k=self._rng.randint(1, 3))))
            return {"type": "TEXT", "text": canary, "mentions": mentions}
        if self._rng.random() < 0.15:
            data = {"n": self._count, "more": "x" * self._rng.choice((1, 400))}
            return {"type": "CUSTOM", "schema": "sim", "data": data, "fallbackText": canary}
        return {"type": "TEXT", "text": canary}


async def _silenced(
    server: ChatServer, conversation_id: str, by: str | None, user_id: str, pause_ms: int
) -> Any:
    until_ms = server.ports.clock.now_ms() + pause_ms if pause_ms else 0
    command = server.engine.silence(conversation_id, by, user_id, until_ms)
    return (await server.engine.execute(command, Updated)).conversation


async def _renewed(server: ChatServer, conversation_id: str) -> dict[str, str]:
    return {"epoch": await server.renew_epoch(conversation_id)}


def _choose(rng: Stream, weighted: Sequence[tuple[int, Any]]) -> Any:
    (chosen,) = rng.choices([act for _, act in weighted], [weight for weight, _ in weighted])
    return chosen
