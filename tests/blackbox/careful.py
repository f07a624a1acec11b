"""A client that does one thing at a time and knows exactly what was acknowledged, until the server is killed.

It owns a conversation in which it sends, recalls, reads, adds and removes, and has a friend confirm. So after a
restart the server must hold what was acknowledged and nothing else, but for the one request that was cut: that took
effect or did not (S1-S6, S14, S15, S20; S17 for who was removed).
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import httpx

from .tokens import token
from .world import Values, World, fresh, ok, refused

RECALLED = {"type": "RECALLED"}
NEWCOMERS = 3
FIRST = 8
"""Requests of each client in a round before the others begin."""
ENTRIES_MAX = 300
"""A longer conversation is not gone on with: a round costs the same however many came before."""


@dataclass(frozen=True)
class Facts:
    """What is so in the conversation.

    Attributes:
        payloads: Of all entries, from seq 1.
        members: Who is in it.
        read: The client's own read cursor.
        confirmed: messageIds that the friend's device confirmed.
    """

    payloads: tuple[Values, ...]
    members: frozenset[str]
    read: int
    confirmed: frozenset[str] = frozenset()

    def appended(self, payload: Values) -> Facts:
        """With one more entry."""
        return replace(self, payloads=(*self.payloads, payload))

    def changed(self, op: str, user: str, members: frozenset[str]) -> Facts:
        """With other members, and the entry that says so."""
        made = {"type": "MEMBER", "op": op, "userIds": [user]}
        return replace(self.appended(made), members=members)


@dataclass(frozen=True)
class Request:
    """One request, and what is so once it took effect."""

    user: str
    method: str
    path: str
    after: Facts
    body: Values | None = None


class CarefulClient:
    """One user with a conversation of his own.

    Args:
        seed: Chooses what he does.
    """

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        self.user, self.friend = fresh("careful"), fresh("friend")
        self.newcomers = [fresh(f"newcomer{number}") for number in range(NEWCOMERS)]
        self.conversation = ""
        self.facts = Facts((), frozenset(), 0)
        self.said: dict[str, tuple[Request, bytes]] = {}
        self.recent: dict[str, int] = {}
        self.cut: Request | None = None
        self.done = 0

    def create(self, world: World) -> None:
        """Make the conversation, or a new one in place of the old."""
        self.conversation = fresh("g")
        members = [self.user, self.friend]
        ok(world.api(self.user).create("GROUP", members, self.conversation), 201)
        made = {"type": "MEMBER", "op": "CREATED", "userIds": members}
        self.facts = Facts((made,), frozenset(members), 0)

    async def act_until_cut(self, http_url: str, begun: asyncio.Barrier) -> None:
        """One request after the other until the server is gone; the last one has no answer.

        Args:
            begun: Waited for after the first few.
        """
        async with httpx.AsyncClient(base_url=http_url, trust_env=False, verify=False, timeout=30) as http:
            for count in itertools.count():
                if count == FIRST:
                    await begun.wait()
                self.cut = request = self.next_request()
                try:
                    answer = await http.request(
                        request.method, request.path, json=request.body, headers=_headers(request)
                    )
                except httpx.TransportError:
                    return
                assert answer.status_code in (200, 204), answer.text
                self._note(request, answer)
                self.done += 1

    def check(self, world: World) -> None:
        """After a restart: what was acknowledged is there; what was cut is done again; then that is there too."""
        seen = self._seen(world)
        expected = [self.facts] if self.cut is None else [self.facts, self.cut.after]
        assert seen in expected, f"{self.user}: {_difference(seen, self.facts)}; cut was {self.cut}"
        self._check_outsiders(world, seen)
        self.finish(world)
        assert self._seen(world) == self.facts, f"{self.user}: {_difference(self._seen(world), self.facts)}"
        for request, answer in self.said.values():
            assert self._send(world, request).content == answer, "S11: another answer to the same message"
        self.said.clear()
        self.recent.clear()
        if len(self.facts.payloads) > ENTRIES_MAX:
            self.create(world)

    # -- what to do next

    def next_request(self) -> Request:
        """Whatever can be asked for now."""
        choices: list[Callable[[], Request | None]] = [
            self._say, self._say, self._recall, self._read, self._add, self._remove, self._confirm,
        ]  # fmt: skip
        return self.random.choice(choices)() or self._say()

    def _say(self) -> Request:
        text = fresh("canary")
        body = {"conversationId": self.conversation, "clientMsgId": text, "type": "TEXT", "content": text}
        after = self.facts.appended({"type": "TEXT", "text": text})
        return Request(self.user, "POST", "/v1/messages/send", after, body)

    def _recall(self) -> Request | None:
        if not self.recent:
            return None
        message_id, seq = self.random.choice(list(self.recent.items()))
        if self.facts.payloads[seq - 1] == RECALLED:
            return None
        payloads = list(self.facts.payloads)
        payloads[seq - 1] = RECALLED
        made = {"type": "RECALL", "messageId": message_id, "seq": seq, "by": self.user}
        after = replace(self.facts, payloads=tuple(payloads)).appended(made)
        return Request(self.user, "POST", f"/v1/messages/{message_id}/recall", after)

    def _read(self) -> Request:
        head = len(self.facts.payloads)
        path = f"/v1/conversations/{self.conversation}/read?upToSeq={head}"
        return Request(self.user, "POST", path, replace(self.facts, read=head))

    def _add(self) -> Request | None:
        outside = [user for user in self.newcomers if user not in self.facts.members]
        if not outside:
            return None
        user = self.random.choice(outside)
        after = self.facts.changed("ADDED", user, self.facts.members | {user})
        path = f"/v1/conversations/{self.conversation}/members"
        return Request(self.user, "POST", path, after, {"userIds": [user]})

    def _remove(self) -> Request | None:
        inside = [user for user in self.newcomers if user in self.facts.members]
        if not inside:
            return None
        user = self.random.choice(inside)
        after = self.facts.changed("REMOVED", user, self.facts.members - {user})
        return Request(self.user, "DELETE", f"/v1/conversations/{self.conversation}/members/{user}", after)

    def _confirm(self) -> Request | None:
        waiting = [name for name in self.recent if name not in self.facts.confirmed]
        if not waiting:
            return None
        message_id = self.random.choice(waiting)
        after = replace(self.facts, confirmed=self.facts.confirmed | {message_id})
        return Request(self.friend, "POST", f"/v1/messages/{message_id}/delivered", after)

    # -- what became of it

    def _note(self, request: Request, answer: httpx.Response) -> None:
        """It took effect, and the answer says so."""
        self.facts, self.cut = request.after, None
        head = len(self.facts.payloads)
        if request.path.endswith(("/send", "/recall")):
            assert answer.json()["seq"] == head, f"{answer.text} is not the entry {head}"
        if request.path.endswith("/send"):
            message_id = answer.json()["messageId"]
            self.recent[message_id] = head
            self.said[message_id] = (request, answer.content)
        if "/read?" in request.path:
            assert answer.json() == {"readSeq": request.after.read}

    def finish(self, world: World) -> None:
        """Ask again for what was cut; a removal that took effect is answered by NOT_FOUND."""
        request = self.cut
        if request is None:
            return
        answer = self._send(world, request)
        if request.method == "DELETE" and answer.status_code == 404:
            self.facts, self.cut = request.after, None
            return
        assert answer.status_code in (200, 204), answer.text
        self._note(request, answer)

    def _send(self, world: World, request: Request) -> httpx.Response:
        return world.http.request(request.method, request.path, json=request.body, headers=_headers(request))

    def _seen(self, world: World) -> Facts:
        """What the server says is so. Confirmations are looked up where they may have changed."""
        api = world.api(self.user)
        path = f"/v1/conversations/{self.conversation}"
        log = api.log(self.conversation)
        assert [entry["seq"] for entry in log] == list(range(1, len(log) + 1)), "S5: a hole"
        members = {row["userId"] for row in api.pages(f"{path}/members", "members")}
        receipts = {row["userId"]: row["readSeq"] for row in api.pages(f"{path}/receipts", "receipts")}
        confirmed = {name for name in self.recent if self._is_confirmed(world, name)}
        older = {name for name in self.facts.confirmed if name not in self.recent}
        return Facts(
            tuple(entry["payload"] for entry in log),
            frozenset(members),
            receipts[self.user],
            frozenset(confirmed | older),
        )

    def _is_confirmed(self, world: World, message_id: str) -> bool:
        deliveries = world.api(self.user).status(message_id)["deliveries"]
        return any(row["userId"] == self.friend and row["state"] == "DELIVERED" for row in deliveries)

    def _check_outsiders(self, world: World, seen: Facts) -> None:
        """S17: who is not in it gets nothing of it."""
        for user in self.newcomers:
            if user not in seen.members:
                refused(world.api(user).get(f"/v1/conversations/{self.conversation}/messages"), "NOT_FOUND")


def _headers(request: Request) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(request.user, 'http')}"}


def _difference(seen: Facts, expected: Facts) -> str:
    """The first thing that is not as it was acknowledged, in words."""
    for name in ("members", "read", "confirmed"):
        if getattr(seen, name) != getattr(expected, name):
            return f"{name} {getattr(seen, name)}, acknowledged {getattr(expected, name)}"
    pairs = zip(seen.payloads, expected.payloads, strict=False)
    for seq, (found, acknowledged) in enumerate(pairs, 1):
        if found != acknowledged:
            return f"seq {seq} is {found}, acknowledged {acknowledged}"
    return f"{len(seen.payloads)} entries, acknowledged {len(expected.payloads)}"
