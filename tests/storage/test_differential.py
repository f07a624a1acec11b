"""Random histories on a store and on the one in memory at once: every outcome and every read is the same.

All have the same decisions made for them, so what is compared is how they load, write and read; whether the decisions
are right is judged in `tests/core/log`. The store gets batches of random size, the one in memory one command at a time.
"""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable
from functools import partial
from pprint import pformat
from typing import Any

import pytest
from msgspec.structs import replace

from chatkit.core.log import rules
from chatkit.errors import NotFoundError
from chatkit.storage import base
from chatkit.storage.memory import MemoryStore
from chatkit.storage.sqlite import SqliteStore
from chatkit.testing.contracts.storage_commands import (
    NOW,
    edited,
    mentioning,
    pinned,
    retitled,
    snapshot,
    text,
    title_entry,
)

from .ids import seeded_ids

USERS = ("ann", "bob", "cat", "dan")
CONVERSATIONS = ("g", "h", "i", "s", "t")
DEVICES = ("phone", "tablet", "pc")
LOGINS = (b"", b"login 1", b"login 2", b"login 3")


class History:
    """Makes one random command after the other, mostly sensible ones."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._at_ms = NOW
        self._tokens = [b"never"]
        self._authors: dict[str, str] = {}
        self._names = ["g-e0-1", "nonsense", "fffff-e0-1"]
        self._makers: list[tuple[int, Callable[[], base.Command]]] = [
            (30, self._send),
            (12, self._say),
            (18, self._deliver),
            (10, self._confirm),
            (8, self._read),
            (5, self._recall),
            (6, self._create),
            (6, self._add),
            (6, self._remove),
            (3, self._update),
            (3, self._block),
            (2, self._unblock),
            (8, self._open),
            (8, self._resume),
            (3, self._renew_login),
            (1, self._see),
            (3, self._revoke),
            (1, self._renew),
            (1, self._retain),
            (2, self._expire),
            (2, self._mute),
            (3, self._set_role),
            (2, self._silence),
            (2, self._ban_member),
            (2, self._unban_member),
            (3, self._register_push),
            (1, self._unregister_push),
        ]

    def batch(self) -> list[base.Command]:
        count = self._chance.choice([1, 1, 2, 5, 20])
        weights, makers = zip(*self._makers, strict=True)
        return [maker() for maker in self._chance.choices(makers, weights, k=count)]

    def learn(self, outcomes: list[base.Outcome], names: Names) -> None:
        """Remember the ids that later commands can name."""
        for outcome in outcomes:
            entry = getattr(outcome, "entry", None)
            if entry is not None:
                name = names.common(entry.message_id).strip("'")
                self._names.append(name)
                self._authors[name] = entry.sender_id

    def _pick(self, values: Any) -> Any:
        return self._chance.choice(values)

    def _where(self) -> str:
        return self._pick(CONVERSATIONS)

    def _now(self) -> int:
        self._at_ms += self._chance.randrange(3)
        return self._at_ms

    def _seq(self) -> int:
        return self._chance.choice([0, 1, 2, 3, 5, 8, 12, 20, 40])

    def _name(self) -> str:
        return self._pick(self._names[-12:] if self._chance.random() < 0.8 else self._names)

    def _send(self) -> base.Append:
        key, words = self._chance.randrange(200), "x" * self._chance.randrange(3)
        payload = text(words if self._chance.random() < 0.1 else f"words of {key}")
        return base.Append(self._where(), self._pick(USERS), f"k{key}", payload, payload[:20], self._now())

    def _say(self) -> base.Append:
        """What does something besides being stored."""
        where, user, name = self._where(), self._pick(USERS), self._name().replace("nonsense", "g-e0-2")
        key, kind = f"k{self._chance.randrange(200)}", self._chance.randrange(5)
        if kind == 0:
            return pinned(where, user, name, unpin=self._chance.random() < 0.3, key=key)
        if kind == 1:
            return replace(retitled(where, user, self._pick([None, "title", "new"]), key), client_msg_id=key)
        mentions = self._chance.sample([*USERS, "nobody", "*"], 2)
        if kind == 2:
            return edited(where, user, name, key, self._now(), key, mentions)
        return mentioning(where, user, key, *mentions, at_ms=self._now())

    def _deliver(self) -> base.AdvanceDelivered:
        return base.AdvanceDelivered(
            self._where(), self._pick(USERS), self._pick(DEVICES), self._seq(), self._now()
        )

    def _confirm(self) -> base.ConfirmMessage:
        where = self._pick([None, None, None, self._where()])
        return base.ConfirmMessage(self._name(), self._pick(USERS), self._pick(DEVICES), self._now(), where)

    def _read(self) -> base.AdvanceRead:
        return base.AdvanceRead(self._where(), self._pick(USERS), self._seq(), self._now())

    def _recall(self) -> base.Recall:
        name, stranger = self._name(), self._pick(USERS)
        user = self._authors.get(name, stranger) if self._chance.random() < 0.7 else stranger
        by = None if self._chance.random() < 0.1 else user
        return base.Recall(name, by, self._pick([20, 10_000]), self._now())

    def _create(self) -> base.CreateConversation:
        where = self._where()
        single = where in "st"
        members = tuple(self._chance.sample(USERS, 2 if single else self._chance.randrange(1, 5)))
        kind = "SINGLE" if single else "GROUP"
        made = (where, kind, members[0], members, "title", "e0", 1000, self._now())
        return base.CreateConversation(*made, False, self._pick(["FROM_JOIN", "FROM_START"]))

    def _add(self) -> base.AddMembers:
        users = tuple(self._chance.sample(USERS, 2))
        by, again = self._pick([*USERS, None]), self._pick([True, True, False])
        role = self._pick(["MEMBER", "MEMBER", "ADMIN", "GUEST"])
        return base.AddMembers(self._where(), by, users, self._pick([3, 9]), self._now(), again, role)

    def _set_role(self) -> base.SetRole:
        role = self._pick(["ADMIN", "MEMBER", "GUEST"])
        return base.SetRole(self._where(), self._pick([*USERS, None]), self._pick(USERS), role, self._now())

    def _silence(self) -> base.SilenceMember:
        until_ms, by = self._pick([0, self._at_ms + 90]), self._pick([*USERS, None])
        return base.SilenceMember(self._where(), by, self._pick(USERS), until_ms, self._now())

    def _ban_member(self) -> base.BanMember:
        return base.BanMember(self._where(), self._pick([*USERS, None]), self._pick(USERS), self._now())

    def _unban_member(self) -> base.UnbanMember:
        return base.UnbanMember(self._where(), self._pick([*USERS, None]), self._pick(USERS), self._now())

    def _remove(self) -> base.RemoveMember:
        by = self._pick([*USERS, None])
        return base.RemoveMember(self._where(), by, self._pick([by or "ann", self._pick(USERS)]), self._now())

    def _update(self) -> base.UpdateConversation:
        title, owner = self._pick([None, "title", "other"]), self._pick([None, *USERS])
        description = self._pick([None, None, "", "for tea"])
        by, history = self._pick([*USERS, None]), self._pick([None, None, "FROM_JOIN", "FROM_START"])
        return base.UpdateConversation(
            self._where(), by, title_entry(title, description), owner, self._now(), history
        )

    def _block(self) -> base.BlockUser:
        return base.BlockUser(self._pick(USERS), self._pick(USERS), self._now())

    def _unblock(self) -> base.UnblockUser:
        return base.UnblockUser(self._pick(USERS), self._pick(USERS))

    def _token(self) -> bytes:
        self._tokens.append(b"token %d" % len(self._tokens))
        return self._tokens[-1]

    def _open(self) -> base.OpenSession:
        user, name, at_ms = self._pick(USERS), self._pick(DEVICES), self._now()
        ends_ms = self._pick([None, at_ms + 15])
        issued_ms, asked_at = self._pick([None, at_ms - 3]), self._pick([None, 0, 5])
        rule = base.DeviceRule(
            self._pick([None, 2]), tuple(self._chance.sample(DEVICES, 1)), self._pick([None, 9])
        )
        login = (self._pick(LOGINS), issued_ms, asked_at, rule)
        return base.OpenSession(user, name, self._token(), at_ms + 40, ends_ms, "all", at_ms, *login)

    def _resume(self) -> base.ResumeSession:
        used, at_ms = self._pick(self._tokens[-6:]), self._now()
        leeway_ms = self._pick([0, 10])
        renewed = self._pick([None, None, base.LoginTerms(at_ms + 9, "new")])
        until_ms, bound_ms = at_ms + 40, self._pick([None, 20])
        return base.ResumeSession(
            used, self._pick(DEVICES), self._token(), until_ms, leeway_ms, at_ms, bound_ms, renewed
        )

    def _renew_login(self) -> base.RenewLogin:
        user, name, at_ms = self._pick(USERS), self._pick(DEVICES), self._now()
        ends_ms = self._pick([None, at_ms + 5, at_ms + 30])
        return base.RenewLogin(user, name, ends_ms, "some", at_ms, self._pick(LOGINS), at_ms - 2)

    def _see(self) -> base.SeeDevices:
        return base.SeeDevices(((self._pick(USERS), self._pick(DEVICES)),), self._now())

    def _revoke(self) -> base.Revoke:
        kind, user, at_ms = self._pick(["REVOKED", "BANNED", "DISCONNECTED"]), self._pick(USERS), self._now()
        if kind == "BANNED":
            return base.Revoke(kind, user, "", b"", self._pick([0, 0, None]), at_ms)
        if self._chance.random() < 0.3:
            return base.Revoke("REVOKED", "", "", self._pick(LOGINS[1:]), at_ms + 5, at_ms)
        return base.Revoke(kind, user, self._pick(["", *DEVICES]), b"", None, at_ms)

    def _renew(self) -> base.RenewEpoch:
        return base.RenewEpoch(self._where(), f"e{self._chance.randrange(1, 9)}", self._now())

    def _retain(self) -> base.SetRetention:
        by = self._pick([None, *USERS])
        return base.SetRetention(self._where(), self._pick([None, 0, 5, 50]), by, self._now())

    def _expire(self) -> base.Expire:
        return base.Expire(self._where(), self._seq(), self._pick([None, *USERS]), self._now())

    def _mute(self) -> base.Mute:
        return base.Mute(
            self._where(),
            self._pick(USERS),
            self._pick([0, NOW + 10, NOW + 10_000]),
            self._chance.random() < 0.5,
        )

    def _register_push(self) -> base.RegisterPush:
        place = (self._pick(USERS), self._pick(DEVICES))
        hide_body = self._chance.random() < 0.5
        return base.RegisterPush(*place, "log", self._pick("pqrstu"), hide_body, self._now())

    def _unregister_push(self) -> base.UnregisterPush:
        before_ms = self._pick([None, self._now() - 20])
        return base.UnregisterPush(self._pick(USERS), self._pick(DEVICES), self._pick([None, "p"]), before_ms)


def shown(outcomes: list[base.Outcome]) -> list[Any]:
    """Outcomes so that they compare: a refusal by its code and words."""
    return [
        (it.error.code, it.error.reason, str(it.error)) if isinstance(it, base.Refused) else it
        for it in outcomes
    ]


class Names:
    """Message ids as every store would give them: with the conversation's id in place of its number."""

    def __init__(self, store: base.Store) -> None:
        self._store = store
        self._ids: dict[str, str] = {}
        self._numbers: dict[str, str] = {}

    async def learn(self) -> None:
        """Ask for the numbers of conversations that are new."""
        for name in CONVERSATIONS:
            if name not in self._numbers and (found := await self._store.entries(name, 0, 1)):
                number = found[0].message_id.partition("-")[0]
                self._numbers[name], self._ids[number] = number, name

    def common(self, value: object) -> str:
        """A value's representation with common ids, without the numbers that a store gives and digests over them."""
        text = re.sub(
            r"\b(audit_id|conversation_key)=\d+|\bdigest='[0-9a-f]*'", "", pformat(value, width=10_000)
        )
        return re.sub(r"\b([0-9a-z]+)-(?=e\d-[0-9a-z])", lambda it: f"{self._ids.get(it[1], it[1])}-", text)

    def own(self, command: base.Command) -> base.Command:
        """A command that names messages by common ids, as this store knows them."""
        if isinstance(command, base.Append):
            payload = re.sub(
                rb'(?<="messageId":")([^-"]+)-',
                lambda it: f"{self._numbers.get(it[1].decode(), it[1].decode())}-".encode(),
                command.payload,
            )
            return replace(command, payload=payload)
        if not isinstance(command, base.Recall | base.ConfirmMessage):
            return command
        name, dash, rest = command.message_id.partition("-")
        return replace(command, message_id=f"{self._numbers.get(name, name)}{dash}{rest}")


async def agree(store: base.Store, seed: int, *, bytes_max: int = 90) -> None:
    """A random history has the same outcomes on this store and on the one in memory, and the same is read of it."""
    model = MemoryStore(ids=seeded_ids())
    await model.migrate()
    history, names, model_names = History(seed), Names(store), Names(model)

    async def same(what: str, ask: Callable[[base.Store], Awaitable[object]]) -> None:
        assert names.common(await ask(store)) == model_names.common(await ask(model)), what

    for turn in range(60):
        commands = history.batch()
        expected = [it for command in commands for it in await model.commit([model_names.own(command)])]
        outcomes = await store.commit([names.own(command) for command in commands])
        await names.learn()
        await model_names.learn()
        assert names.common(shown(outcomes)) == model_names.common(shown(expected)), commands
        history.learn(expected, model_names)
        await same(f"outbox after {commands}", lambda it: it.outbox(100))
        for number in range(2):
            worked = [await work(it, seed=turn * 2 + number) for it in (store, model)]
            assert names.common(worked[0]) == model_names.common(worked[1])

    await same("revocations", lambda it: it.revocations(0, 1000))
    await same("acts", lambda it: it.acts(base.AuditFilter(), 0, 1000))
    await same("the log", lambda it: snapshot(it, CONVERSATIONS, USERS))
    for name in CONVERSATIONS:
        for user in USERS:
            for after in (0, 3, 9):
                await same("pages", partial(paged, name=name, user=user, after=after, bytes_max=bytes_max))


async def work(store: base.Store, seed: int) -> list[Any]:
    """A delivery worker looks; sometimes it forgets what it took, or has to try some devices again."""
    rng = random.Random(seed)
    now_ms = NOW + seed + rng.choice([0, 0, 50, 500])
    terms = base.ClaimTerms(now_ms, rng.choice([0, 10]), rng.choice([20, 200]), seed + 1)
    named = rng.choice([None, None, None, ["g", "s"]])
    claims = await store.deliveries.claim(terms, rng.choice([1, 2, 3, 10]), named)
    claims.sort(key=lambda it: (it.conversation_id, it.user_id, it.device_id))
    targets = await store.deliveries.targets(claims, now_ms)
    marks = await store.deliveries.newest(claims, 4)
    unread = await store.deliveries.unread(USERS, now_ms)
    told = [(it.seq, it.kind, it.sender_id, it.is_recalled, it.recalls_seq) for it in marks]
    counted = [unread.get(user, 0) for user in USERS]
    single = {(it.conversation_key, it.user_id, it.device_id) for it in claims if it.user_id}
    finished = []
    for claim in claims:
        mine = [it for it in targets if it.conversation_key == claim.conversation_key and rng.random() < 0.4]
        if claim.user_id:
            failed = [it for it in mine if (it.user_id, it.device_id) == (claim.user_id, claim.device_id)]
        else:
            failed = [it for it in mine if (it.conversation_key, it.user_id, it.device_id) not in single]
        ready_ms = rng.choice([None, now_ms + 15, now_ms + 100])
        later = tuple(base.LaterDelivery(it.user_id, it.device_id, ready_ms, "busy") for it in failed)
        finished.append(base.Finished(claim, now_ms, later))
    seen = [
        [replace(it, conversation_key=0) for it in rows] for rows in (claims, targets)
    ]  # numbers are a store's own
    if rng.random() < 0.3:
        return [*seen, sorted(told, key=str), counted]
    done = await store.deliveries.finish(terms.ticket, finished)
    dead = await store.deliveries.dead_letters(100)
    return [*seen, counted, done, await store.deliveries.lag(), sorted(map(repr, dead))]


@pytest.mark.parametrize("seed", range(40))
async def test_memory_and_sqlite_agree(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "DEVICES_MAX", 2 + seed % 2)  # with two, the third device drives another out
    store = SqliteStore(":memory:", ids=seeded_ids(), threads=False)
    await store.migrate()
    await agree(store, seed)
    await store.aclose()


async def paged(store: base.Store, name: str, user: str, after: int, bytes_max: int) -> Any:
    """A page with small bounds, and its successors."""
    found = []
    for _ in range(4):
        try:
            page = await store.page(name, user, after, 3, bytes_max)
        except NotFoundError as error:
            return [*found, str(error)]
        found.append(page)
        after = page.up_to_seq
    return found


async def test_random_histories_reach_every_outcome() -> None:
    """A generator that never gets anywhere would agree about nothing."""
    model = MemoryStore(ids=seeded_ids())
    await model.migrate()
    history, names = History(1), Names(model)
    seen: set[str] = set()
    for _ in range(3_000):
        outcomes = await model.commit([names.own(it) for it in history.batch()])
        await names.learn()
        history.learn(outcomes, names)
        for it in outcomes:
            seen.add(it.error.code if isinstance(it, base.Refused) else type(it).__name__)
            if isinstance(it, base.Refused) and it.error.reason is not None:
                seen.add(it.error.reason)
            if getattr(it, "repeat", False):
                seen.add(f"repeat {type(it).__name__}")

    assert seen >= {
        *(
            "Appended",
            "repeat Appended",
            "Recalled",
            "repeat Recalled",
            "ROLE",
            "SILENCED",
            "Advanced",
            "Created",
            "MembersChanged",
            "Updated",
        ),
        *("SessionOpened", "Done", "NOT_FOUND", "CONFLICT", "FORBIDDEN", "BAD_REQUEST", "TOKEN_REVOKED"),
        "TOKEN_EXPIRED",
        "RECALL_WINDOW_PASSED",
    }
