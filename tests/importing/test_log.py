"""A log as JSON lines, and the same log of it again."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from chatkit.errors import ImportFileError, NotFoundError
from chatkit.importing import log_import, log_lines
from chatkit.importing.files import Files
from chatkit.importing.log_export import export_log
from chatkit.importing.log_import import LogImporter, LogTotals
from chatkit.ports import Ports, SystemIds
from chatkit.storage import base
from chatkit.storage.base import SetRole, UpdateConversation
from chatkit.storage.memory import MemoryStore
from chatkit.storage.sqlite import SqliteStore
from chatkit.storage.sqlite.verify import full_report
from chatkit.testing.contracts.storage_commands import (
    NOW,
    add,
    do,
    edited,
    group,
    mentioning,
    one,
    pinned,
    recall,
    remove,
    retitled,
    send,
    single,
    title_entry,
)
from chatkit.wire.payload import canonical

from .exports import write


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    store = MemoryStore(ids=SystemIds())
    await store.migrate()
    yield store
    await store.aclose()


async def exported(store: base.Store, *conversations: str) -> bytes:
    return b"".join([line async for line, _ in export_log(store, store, conversations)])


async def imported(store: base.Store, secret: bytes, folder: Path, content: bytes | str) -> LogTotals:
    path = write(folder, {"log.jsonl": content}) / "log.jsonl"
    edits = log_lines.RecalledEdits()
    for _ in log_lines.read(Files(path), edits):  # as the command does it: all of it is looked at first
        pass
    importer = LogImporter(store, secret, "log.jsonl", Ports())
    async for _ in importer.run(log_lines.read(Files(path), edits)):
        pass
    return importer.totals


async def contents(store: base.Store) -> list[Any]:
    """All entries, but for the ids that a log makes itself."""
    found: list[Any] = []
    for conversation_id in await store.conversation_ids("", 1_000):
        for it in await store.entries(conversation_id, 0, 10_000):
            payload = json.loads(it.payload)
            payload.pop("messageId", None)
            payload.get("replyTo", {}).pop("messageId", None)
            found.append((conversation_id, it.seq, it.sender_id, it.server_ts, it.client_msg_id, payload))
    return found


def naming(
    rng: random.Random, message_id: str, author: str, room: str, user: str, key: str, at_ms: int
) -> base.Append:
    """An edit, a reaction or an answer."""
    named: dict[str, Any] = {"messageId": message_id, "seq": int(message_id.rpartition("-")[2], 16)}
    kind = rng.choice(["EDIT", "EDIT", "REACTION", "REPLY"])
    if kind == "EDIT":
        payload = {"type": "EDIT", **named, "payload": {"type": "TEXT", "text": f"edit {key}"}}
    elif kind == "REACTION":
        payload = {"type": "REACTION", **named, "reaction": rng.choice("ab"), "removed": rng.random() < 0.3}
    else:
        payload = {"type": "TEXT", "text": f"re {key}", "replyTo": named}
    encoded = canonical(payload)
    return base.Append(room, author if kind == "EDIT" else user, key, encoded, encoded[::-1], at_ms)


async def filled(store: base.Store, seed: int, steps: int = 120) -> None:
    """A random history in two groups and one SINGLE."""
    rng = random.Random(seed)
    users = [f"u{it}" for it in range(6)]
    await do(store, group("g", "u0", "u1", "u2"), group("h", "u3", "u0"), single("s", "u0", "u1"))
    sent: list[tuple[str, str]] = []
    for step in range(steps):
        room, user, other = rng.choice("ghs"), rng.choice(users), rng.choice(users)
        at_ms = NOW + step * rng.choice([1, 1_000, -500])
        choice = rng.random()
        if choice < 0.4:
            commands: list[base.Command] = [send(room, user, f"k{step}", f"w{step}", at_ms)]
        elif choice < 0.6 and sent:
            commands = [naming(rng, *rng.choice(sent), room, user, f"k{step}", at_ms)]
        elif choice < 0.75:
            commands = [add(room, None, other, user)]
        elif choice < 0.9:
            commands = [remove(room, user if rng.random() < 0.5 else None, other)]
        elif sent:
            name, author = rng.choice(sent)
            commands = [recall(name, author, at_ms=at_ms, window_ms=10**9)]
        else:
            continue
        for outcome in await store.commit(commands):
            if isinstance(outcome, base.Appended) and b'"messageId"' not in outcome.entry.payload:
                sent.append((outcome.entry.message_id, user))


@pytest.mark.parametrize("seed", range(12))
async def test_the_same_log_comes_of_it_again(store: MemoryStore, tmp_path: Path, seed: int) -> None:
    await filled(store, seed)
    content = await exported(store)
    other = SqliteStore(tmp_path / "chat.db", ids=SystemIds())
    secret = await other.migrate()
    totals = await imported(other, secret, tmp_path, content)
    before = await contents(store)

    assert await contents(other) == before
    assert (totals.added, totals.known, totals.done) == (len(before), 0, len(before))
    assert [*map(json.loads, (await exported(other)).splitlines())] == await _with_new_ids(other, content)
    assert await marks(other) == await marks(store)
    assert await other.outbox(100) == []
    again = await imported(other, secret, tmp_path, content)
    assert (again.added, again.known) == (0, len(before))
    await other.aclose()
    assert full_report(str(tmp_path / "chat.db")).findings == []


async def marks(store: base.Store) -> list[Any]:
    """What pages show beside messages: the newest edit, and reactions."""
    found: list[Any] = []
    for conversation_id in await store.conversation_ids("", 1_000):
        for user in [f"u{it}" for it in range(6)]:
            try:
                page = await store.page(conversation_id, user, 0, 1_000, 10**9, history=True)
            except NotFoundError:
                continue
            found += [(conversation_id, user, it.seq, it.edit, it.reactions) for it in page.entries]
    return found


async def _with_new_ids(store: base.Store, content: bytes) -> list[Any]:
    """The lines with the payloads of this log, whose ids are others."""
    payloads, out, current = {}, [], ""
    for conversation_id in await store.conversation_ids("", 1_000):
        for it in await store.entries(conversation_id, 0, 10_000):
            payloads[conversation_id, it.seq] = json.loads(it.payload)
    for line in map(json.loads, content.splitlines()):
        current = line.get("conversation", {}).get("conversationId", current)
        if "entry" in line:
            line["entry"]["payload"] = payloads[current, line["entry"]["seq"]]
        out.append(line)
    return out


async def test_edits_reactions_and_answers_name_the_same_messages(store: MemoryStore, tmp_path: Path) -> None:
    async def say(user: str, key: str, payload: dict[str, Any]) -> str:
        encoded = canonical(payload)
        command = base.Append("g", user, key, encoded, encoded[::-1], NOW)
        return (await one(store, command, base.Appended)).entry.message_id

    await do(store, group("g", "u0", "u1"))
    first = await say("u0", "1", {"type": "TEXT", "text": "first"})
    gone = await say("u0", "2", {"type": "TEXT", "text": "gone"})
    await say(
        "u0", "3", {"type": "EDIT", "messageId": first, "seq": 2, "payload": {"type": "TEXT", "text": "new"}}
    )
    await say(
        "u0",
        "4",
        {"type": "EDIT", "messageId": gone, "seq": 3, "payload": {"type": "TEXT", "text": "canary"}},
    )
    for key, removed in (("5", False), ("6", True), ("7", False)):
        payload = {"type": "REACTION", "messageId": first, "seq": 2, "reaction": "a", "removed": removed}
        await say("u1", key, payload)
    await say("u1", "8", {"type": "TEXT", "text": "yes", "replyTo": {"messageId": first, "seq": 2}})
    await do(store, recall(gone, "u0"))
    content = await exported(store)
    other = SqliteStore(tmp_path / "chat.db", ids=SystemIds())
    secret = await other.migrate()
    totals = [await imported(other, secret, tmp_path, content) for _ in "12"]

    assert [(it.added, it.known) for it in totals] == [(10, 0), (0, 10)]
    assert b"canary" not in content
    assert await contents(other) == await contents(store)
    shown = await marks(other)
    assert shown == await marks(store)
    (edit, reactions) = next(it[3:] for it in shown if it[2] == 2)
    assert (edit.payload, [(it.reaction, it.user_ids) for it in reactions]) == (
        b'{"text":"new","type":"TEXT"}',
        [("a", ("u1",))],
    )
    entries = await other.entries("g", 0, 99)
    assert json.loads(entries[8].payload)["replyTo"]["messageId"] == entries[1].message_id
    await other.aclose()
    assert full_report(str(tmp_path / "chat.db")).findings == []


async def test_owner_and_roles_come_along(store: MemoryStore, tmp_path: Path) -> None:
    await do(
        store, group("g", "ann", "bob", "cat"), UpdateConversation("g", None, title_entry("Tea"), "bob", NOW)
    )
    await do(store, SetRole("g", None, "cat", "ADMIN", NOW))
    other = MemoryStore(ids=SystemIds())
    await imported(other, await other.migrate(), tmp_path, await exported(store))

    members = await other.members("g", "ann", None, 10)
    assert [(it.member.user_id, it.member.role) for it in members] == [
        ("ann", "MEMBER"),
        ("bob", "OWNER"),
        ("cat", "ADMIN"),
    ]
    assert (await other.conversation("g", "ann")).title == "Tea"


async def test_mentions_pins_and_titles_come_along(store: MemoryStore, tmp_path: Path) -> None:
    await do(store, group("g", "ann", "bob", "cat"), mentioning("g", "ann", "k", "bob", "eve"))
    sent, gone = [await one(store, send("g", "ann", key), base.Appended) for key in "lm"]
    name = sent.entry.message_id
    await do(store, pinned("g", "ann", name), pinned("g", "ann", gone.entry.message_id))
    await do(store, edited("g", "ann", name, mentions=["cat"]), retitled("g", "ann", "Tea", "at four"))
    await do(store, UpdateConversation("g", None, title_entry("Cake"), None, NOW))
    await do(store, recall(gone.entry.message_id, "ann"), mentioning("g", "ann", "n", "*"))
    content = await exported(store)
    other = SqliteStore(tmp_path / "chat.db", ids=SystemIds())
    secret = await other.migrate()
    totals = [await imported(other, secret, tmp_path, content) for _ in "12"]

    assert [(it.added, it.known) for it in totals] == [(11, 0), (0, 11)]
    assert await contents(other) == await contents(store)
    for user in ("ann", "bob", "cat"):
        (row,) = await store.conversations(user, None, None, 9)
        (found,) = await other.conversations(user, None, None, 9)
        assert (found.title, found.description) == (row.title, row.description) == ("Cake", "at four")
        assert await other.pins("g", user, 0) == await store.pins("g", user, 0) != []
    assert full_report(str(tmp_path / "chat.db")).findings == []
    await other.aclose()


async def test_what_was_recalled_is_in_no_export(store: MemoryStore, tmp_path: Path) -> None:
    await do(store, group("g", "ann", "bob"))
    sent = await one(store, send("g", "ann", "k", "canary"), base.Appended)
    await do(store, recall(sent.entry.message_id, "ann"))
    content = await exported(store)
    other = MemoryStore(ids=SystemIds())
    secret = await other.migrate()
    await imported(other, secret, tmp_path, content)

    assert b"canary" not in content
    (message,) = (it for it in await other.entries("g", 0, 9) if it.client_msg_id == "k")
    again = await one(other, recall(message.message_id, "ann"), base.Recalled)
    assert (again.repeat, again.entry.seq) == (True, 3)


async def test_a_recall_while_it_is_exported_is_in_it_too(store: MemoryStore, tmp_path: Path) -> None:
    await do(store, group("g", "ann", "bob"))
    sent = await one(store, send("g", "ann", "k", "x"), base.Appended)

    class Late:
        async def entries(self, conversation_id: str, after_seq: int, limit: int) -> list[base.Entry]:
            await store.commit([recall(sent.entry.message_id, "ann")])  # after the head was asked for
            return await store.entries(conversation_id, after_seq, 2)

    content = b"".join([line async for line, _ in export_log(store, Late(), ())])
    other = MemoryStore(ids=SystemIds())
    await imported(other, await other.migrate(), tmp_path, content)
    assert await contents(other) == await contents(store)


async def test_who_came_while_it_was_exported_is_no_member_in_it(store: MemoryStore, tmp_path: Path) -> None:
    await do(store, group("g", "ann", "bob", "cat"), SetRole("g", None, "bob", "ADMIN", NOW))

    class Late:
        async def entries(self, conversation_id: str, after_seq: int, limit: int) -> list[base.Entry]:
            if not after_seq:  # after the head was asked for
                await do(store, add("g", None, "eve"), UpdateConversation("g", None, None, "eve", NOW))
                await do(store, SetRole("g", None, "cat", "GUEST", NOW), remove("g", None, "ann"))
            return await store.entries(conversation_id, after_seq, limit)

    content = b"".join([line async for line, _ in export_log(store, Late(), ())])
    other = MemoryStore(ids=SystemIds())
    await imported(other, await other.migrate(), tmp_path, content)
    assert await _roles(other) == {"ann": "MEMBER", "bob": "OWNER", "cat": "GUEST"}


async def test_one_that_was_cut_off_is_gone_on_with(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_import, "_BATCH", 7)
    await filled(store, 3)
    content = await exported(store)
    other = MemoryStore(ids=SystemIds())
    secret = await other.migrate()
    path = write(tmp_path, {"log.jsonl": content}) / "log.jsonl"
    edits = log_lines.RecalledEdits()
    assert len(list(log_lines.read(Files(path), edits))) > 50

    async def killed() -> None:
        importer = LogImporter(other, secret, "f", Ports())
        async for totals in importer.run(log_lines.read(Files(path), edits)):
            if totals.added > 40:
                raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        await killed()
    totals = await imported(other, secret, tmp_path, content)
    assert totals.known >= 40
    assert await contents(other) == await contents(store)


class _Dying:
    """A store whose process dies after some commits."""

    def __init__(self, store: base.Store, commits: int) -> None:
        self._store, self._left = store, commits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, commands: Sequence[base.Command]) -> list[base.Outcome]:
        self._left -= 1
        if self._left < 0:
            raise RuntimeError("killed")
        return await self._store.commit(commands)


@pytest.mark.parametrize("commits", [1, 2, 3, 4])
async def test_wherever_it_is_cut_off_a_repeat_sets_the_roles(
    store: MemoryStore, tmp_path: Path, commits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_import, "_BATCH", 2)
    await do(
        store, group("g", "ann", "bob", "cat"), UpdateConversation("g", None, title_entry("Tea"), "bob", NOW)
    )
    await do(store, SetRole("g", None, "cat", "ADMIN", NOW), SetRole("g", None, "ann", "GUEST", NOW))
    await do(store, *[send("g", "bob", key, key) for key in "abcd"])
    content = await exported(store)
    other = SqliteStore(tmp_path / "chat.db", ids=SystemIds())
    secret = await other.migrate()
    with pytest.raises(RuntimeError, match="killed") if commits < 4 else nullcontext():
        await imported(_Dying(other, commits), secret, tmp_path, content)  # type: ignore[arg-type]
    await imported(other, secret, tmp_path, content)

    assert await _roles(other) == {"ann": "GUEST", "bob": "OWNER", "cat": "ADMIN"}
    assert await contents(other) == await contents(store)
    await do(other, SetRole("g", None, "cat", "MEMBER", NOW))
    assert (await imported(other, secret, tmp_path, content)).added == 0
    assert (await _roles(other))["cat"] == "MEMBER", "what was changed since stays"
    await other.aclose()


async def _roles(store: base.Store) -> dict[str, str]:
    return {it.member.user_id: it.member.role for it in await store.members("g", "ann", None, 10)}


async def test_edits_and_reactions_are_bounded_each_for_itself(store: MemoryStore, tmp_path: Path) -> None:
    await do(store, group("g", "u0", "u1"))
    first = await one(store, send("g", "u0", "k", "first"), base.Appended)
    named = {"messageId": first.entry.message_id, "seq": 2}
    for it in range(55):
        edit = {"type": "EDIT", **named, "payload": {"type": "TEXT", "text": f"{it}"}}
        reaction = {"type": "REACTION", **named, "reaction": "a", "removed": bool(it % 2)}
        for user, payload in (("u0", edit), ("u1", reaction)):
            encoded = canonical(payload)
            command = base.Append("g", user, f"{user}{it}", encoded, encoded[::-1], NOW)
            await one(store, command, base.Appended)
    other = MemoryStore(ids=SystemIds())
    totals = await imported(other, await other.migrate(), tmp_path, await exported(store))
    assert totals.added == 112
    assert await contents(other) == await contents(store)
    assert await marks(other) == await marks(store)


async def test_a_log_that_goes_on_differently_is_left_alone(store: MemoryStore, tmp_path: Path) -> None:
    await do(store, group("g", "ann", "bob"), send("g", "ann", "k", "x"))
    content = await exported(store)
    other = MemoryStore(ids=SystemIds())
    secret = await other.migrate()
    await do(other, group("g", "ann", "bob"), send("g", "ann", "k", "y"))
    before = await contents(other)
    with pytest.raises(ImportFileError, match=r"log.jsonl:4: seq 2 of g is something else there"):
        await imported(other, secret, tmp_path, content)
    assert await contents(other) == before


async def test_only_some_conversations(store: MemoryStore) -> None:
    await filled(store, 1)
    lines = [json.loads(it) for it in (await exported(store, "h")).splitlines()]
    assert [it["conversation"]["conversationId"] for it in lines if "conversation" in it] == ["h"]
    with pytest.raises(NotFoundError, match="nowhere"):
        await exported(store, "nowhere")


HEADER = {"chatkit": "log", "version": 1}
GROUP = {"conversation": {"conversationId": "g", "type": "GROUP"}}
USERS = ["ann", "bob"]


def entry(seq: int, payload: Any, key: str | None = None, **more: Any) -> dict[str, Any]:
    found = {"seq": seq, "senderId": "ann", "ts": 5, "payload": payload, **more}
    return {"entry": found if key is None else {**found, "clientMsgId": key}}


def change(seq: int, op: str, *users: str) -> dict[str, Any]:
    return entry(seq, {"type": "MEMBER", "op": op, "userIds": users})


MADE = change(1, "CREATED", "ann", "bob")
GONE = entry(2, {"type": "RECALLED"}, "k")
TEXT = entry(2, {"type": "TEXT", "text": "x"}, "k")
OWNER = {"member": {"userId": "ann", "role": "OWNER"}}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([{"x": 1}], "1: this is no export"),
        ([HEADER | {"version": 2}], "1: it is of version 2"),
        ([HEADER, MADE], "2: a conversation is missing"),
        ([HEADER, GROUP, {"reaction": {}}], "3: it holds nothing that is known"),
        ([HEADER, GROUP, MADE], "the end of g is missing"),
        ([HEADER, GROUP, MADE, GROUP], "4: the end of g is missing"),
        ([HEADER, GROUP, MADE, {"end": {"headSeq": 2}}], "4: entries between seq 1 and 2 are missing"),
        ([HEADER, GROUP, change(7, "ADDED", "ann")], "3: seq 7 does not follow 0: .*expired"),
        (
            [HEADER, GROUP, MADE, change(3, "ADDED", "cat")],
            "4: seq 3 does not follow 1: the seqs have a hole",
        ),
        ([HEADER, GROUP, entry(1, {"type": "TEXT", "text": "x"}, "k")], "3: the first entry must say"),
        ([HEADER, GROUP, MADE, change(2, "ADDED", "ann")], "4: these users cannot have come or gone"),
        ([HEADER, GROUP, MADE, change(2, "LEFT", "cat")], "4: these users cannot have come or gone"),
        ([HEADER, GROUP, MADE, change(2, "CREATED", "cat")], "4: these users cannot have come or gone"),
        ([HEADER, GROUP, MADE, change(2, "ADDED", "a b")], r"4: .*(String|regex)"),
        (
            [HEADER, GROUP, MADE, entry(2, {"type": "TEXT", "text": "x"})],
            "4: a message without a clientMsgId",
        ),
        ([HEADER, GROUP, MADE, entry(2, {"type": "REACTION"}, "k")], "4: "),
        (
            [HEADER, GROUP, MADE, TEXT, entry(3, {"type": "RECALL", "seq": 2, "by": "ann"})],
            "5: seq 2 is no message",
        ),
        (
            [HEADER, GROUP, MADE, GONE, entry(3, {"type": "RECALL", "seq": 1, "by": "ann"})],
            "5: seq 1 is no message",
        ),
        ([HEADER, GROUP, MADE, GONE, {"end": {"headSeq": 2}}], "5: seq 2 is recalled by no entry"),
        (
            [HEADER, GROUP, MADE, OWNER, {"member": {"userId": "eve", "role": "ADMIN"}}],
            "5: eve is no member after",
        ),
        ([HEADER, GROUP, MADE, change(2, "LEFT", "ann"), OWNER], "5: ann is no member after"),
        ([HEADER, GROUP, MADE, OWNER, OWNER], "5: ann is named twice"),
        ([HEADER, GROUP, MADE, OWNER, change(2, "LEFT", "ann")], "5: an entry comes after the members"),
        (
            [HEADER, GROUP, MADE, {"member": {"userId": "ann", "role": "ADMIN"}}, {"end": {"headSeq": 1}}],
            "5: none of the members before it is the owner",
        ),
        ([HEADER, {"conversation": {"conversationId": "..", "type": "GROUP"}}], "2: .*regex"),
        ([HEADER, GROUP, entry(1, {}, ts=-1)], "3: .*>= 0"),
    ],
)
def test_what_cannot_have_been_a_log(tmp_path: Path, lines: Sequence[Any], words: str) -> None:
    text = "\n".join(map(json.dumps, lines))
    with pytest.raises(ImportFileError, match=words):
        list(log_lines.read(Files(write(tmp_path, {"log.jsonl": text})), {}))


@pytest.mark.parametrize("text", ["", "[", '{"a":' * 10_000, "\xff"])
def test_what_is_no_json(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, {"log.jsonl": text.encode("latin-1") + b"\n"})
    with pytest.raises(ImportFileError, match=r"log\.jsonl:1: "):
        list(log_lines.read(Files(path), {}))


async def test_a_key_that_is_there_twice_is_found(store: MemoryStore, tmp_path: Path) -> None:
    lines = [HEADER, GROUP, MADE, TEXT, entry(3, {"type": "TEXT", "text": "y"}, "k"), {"end": {"headSeq": 3}}]
    with pytest.raises(ImportFileError, match="a key is in g twice"):
        await imported(store, await store.migrate(), tmp_path, "\n".join(map(json.dumps, lines)))
