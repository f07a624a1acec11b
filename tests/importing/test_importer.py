"""From records to a log: original times and authors, once, waking nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from chatkit.cli._import_report import report_of, words_of
from chatkit.errors import ConfigurationError, ConflictError, ImportFileError, UnavailableError
from chatkit.importing import importer as importer_module
from chatkit.importing import plan as plan_module
from chatkit.importing.importer import payloads_of
from chatkit.importing.names import Names
from chatkit.importing.records import FoundConversation, FoundMessage, FoundUser, LeftOut, Record
from chatkit.ports import SystemIds
from chatkit.storage import base
from chatkit.storage.memory import MemoryStore
from chatkit.storage.sqlite import SqliteStore
from chatkit.testing.contracts.storage_commands import add, do, group, remove, send, single

from .exports import bring_in, planned


class Log:
    """A store that is open, and its secret."""

    def __init__(self, store: MemoryStore, secret: bytes) -> None:
        self.store, self.secret = store, secret

    async def texts(self, conversation_id: str) -> list[tuple[int, str, int, str]]:
        entries = await self.store.entries(conversation_id, 0, 10_000)
        payloads = [msgspec.json.decode(it.payload) for it in entries]
        return [
            (it.seq, it.sender_id, it.server_ts, payload.get("text", payload["type"]))
            for it, payload in zip(entries, payloads, strict=True)
        ]


@pytest.fixture
async def log() -> AsyncIterator[Log]:
    store = MemoryStore(ids=SystemIds())
    yield Log(store, await store.migrate())
    await store.aclose()


def said(author: str, at_ms: int, text: str, key: str = "", conversation: str = "c") -> FoundMessage:
    return FoundMessage(conversation, author, at_ms, text, key)


def chat(*found: FoundMessage, members: Sequence[str] | None = ("ann", "bob"), **more: Any) -> list[Record]:
    return [
        FoundConversation("c", "Chat", members=None if members is None else tuple(members), **more),
        *found,
    ]


async def test_messages_keep_their_authors_and_times(log: Log) -> None:
    totals = await bring_in(
        log.store, log.secret, chat(said("ann", 2_000, "a", "1"), said("zoe", 1_000, "b", "2"))
    )

    assert (totals.added, totals.known, totals.conversations_made) == (2, 0, 1)
    assert await log.texts("x:c") == [
        (1, "x:ann", 1_000, "MEMBER"),
        (2, "x:ann", 2_000, "a"),
        (3, "x:zoe", 1_000, "b"),
    ]
    conversation = await log.store.conversation("x:c", "x:ann")
    assert (conversation.title, conversation.member_ids) == ("Chat", ("x:ann", "x:bob"))


async def test_nobody_is_woken_and_nothing_is_unread(log: Log) -> None:
    await bring_in(log.store, log.secret, chat(said("ann", 1, "a")))

    assert await log.store.outbox(10) == []
    assert [it.read_seq for it in await log.store.heads("x:bob", "phone")] == [2]
    await bring_in(
        log.store,
        log.secret,
        [said("ann", 1, "b", conversation="d"), said("bob", 1, "c", conversation="d")],
        unread=True,
    )
    assert await log.store.outbox(10) == []
    assert {it.conversation_id: it.read_seq for it in await log.store.heads("x:bob", "phone")} == {
        "x:c": 2,
        "x:d": 0,
    }


async def test_a_repeat_adds_what_is_new_and_nothing_else(log: Log) -> None:
    first = chat(said("ann", 1, "same"), said("ann", 1, "same"), said("bob", 2, "x", "k"))
    await bring_in(log.store, log.secret, first)
    before = await log.texts("x:c")
    totals = await bring_in(log.store, log.secret, first)
    assert (totals.added, totals.known, await log.texts("x:c")) == (0, 3, before)

    longer = [*first[:3], said("bob", 2, "edited", "k"), said("ann", 9, "new")]
    totals = await bring_in(log.store, log.secret, longer)
    assert (totals.added, totals.known, totals.changed, totals.unmatched) == (1, 3, 1, [])
    assert (await log.texts("x:c"))[-2:] == [(4, "x:bob", 2, "x"), (5, "x:ann", 9, "new")]


async def test_two_that_are_the_same_are_both_there(log: Log) -> None:
    await bring_in(log.store, log.secret, chat(*[said("ann", 1, "+1")] * 3))
    assert [it[3] for it in await log.texts("x:c")] == ["MEMBER", "+1", "+1", "+1"]


async def test_of_two_users_there_is_one_conversation(log: Log) -> None:
    records = chat(said("ann", 1, "a", "1"), said("bob", 2, "b", "2"), type="SINGLE")
    await do(log.store, single("live", "ann", "bob"), send("live", "ann", "k"))
    other = FoundConversation("d", members=("cat", "bob"), type="SINGLE")
    await bring_in(log.store, log.secret, [other, said("cat", 1, "x", conversation="d")])
    assert (await log.store.conversation("x:d", "x:cat")).type == "SINGLE"

    names = Names("x:", {"ann": "ann", "bob": "bob"})
    totals = await bring_in(log.store, log.secret, records, names=names)
    assert (totals.added, totals.conversations_made) == (2, 0)
    assert [it[3] for it in await log.texts("live")] == ["MEMBER", "k", "a", "b"]
    totals = await bring_in(log.store, log.secret, records, names=names)
    assert (totals.added, totals.known) == (0, 2)


@pytest.mark.parametrize("kind", ["SINGLE", "GROUP"])
async def test_files_that_are_read_otherwise_the_second_time_double_nothing(
    log: Log, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer_module, "ACTS_PER_PAGE", 1)
    summer, winter = (chat(said("ann", it, "a"), said("bob", it, "b"), type=kind) for it in (7_200_000, 0))
    await do(log.store, single("live", "x:ann", "x:bob"))  # a SINGLE goes there
    await bring_in(log.store, log.secret, summer, read_as={"timezone": "UTC"})
    here = "live" if kind == "SINGLE" else "x:c"
    before, acts = await log.texts(here), await log.store.acts(base.AuditFilter(), 0, 100)

    with pytest.raises(ConfigurationError, match=r"x:c was imported with --timezone UTC before"):
        await bring_in(log.store, log.secret, winter, read_as={"timezone": "Europe/Berlin"})
    assert await log.texts(here) == before
    assert await log.store.acts(base.AuditFilter(), 0, 100) == acts, "nothing was written, the audit included"

    for _ in "12":
        totals = await bring_in(
            log.store, log.secret, summer, read_as={"timezone": "UTC", "encoding": "utf-8"}
        )
        assert (totals.added, totals.known) == (0, 2)
    other = await bring_in(
        log.store, log.secret, winter, names=Names("y:"), read_as={"timezone": "Europe/Berlin"}
    )
    assert other.added == 2


@pytest.mark.parametrize("kind", ["SINGLE", "GROUP"])
async def test_who_is_called_otherwise_the_second_time_doubles_nothing(log: Log, kind: Any) -> None:
    records = chat(said("ann", 1, "a", "1"), said("bob", 2, "b", "2"), type=kind)
    await bring_in(log.store, log.secret, records)
    before = await log.texts("x:c")
    with pytest.raises(ConflictError, match=r"the same --users as then .*, or import into a new log"):
        await bring_in(log.store, log.secret, records, names=Names("x:", {"ann": "ann", "bob": "bob"}))
    assert await log.texts("x:c") == before


async def test_where_a_third_wrote_it_is_a_group(log: Log) -> None:
    await bring_in(log.store, log.secret, chat(said("ann", 1, "a"), said("bot", 2, "b"), type="SINGLE"))
    conversation = await log.store.conversation("x:c", "x:ann")
    assert (conversation.type, conversation.member_ids) == ("GROUP", ("x:ann", "x:bob"))


async def test_without_a_list_who_wrote_is_in_it_and_who_wrote_last_where_there_are_too_many(
    log: Log,
) -> None:
    records = chat(*(said(f"u{it}", it, "x") for it in (1, 2, 3, 1)), members=None)
    await bring_in(log.store, log.secret, records, members_max=2)
    assert (await log.store.conversation("x:c", "x:u1")).member_ids == ("x:u1", "x:u3")


async def test_who_was_removed_here_does_not_come_back_unless_that_is_asked_for(log: Log) -> None:
    await bring_in(log.store, log.secret, chat(said("ann", 1, "a")))
    await do(log.store, remove("x:c", None, "x:bob"))
    totals = await bring_in(log.store, log.secret, chat(said("ann", 1, "a"), said("ann", 2, "b")))
    assert totals.not_members == 1
    assert (await log.store.conversation("x:c", "x:ann")).member_ids == ("x:ann",)

    await bring_in(log.store, log.secret, chat(said("ann", 3, "c")), add_members=True)
    assert (await log.store.conversation("x:c", "x:ann")).member_ids == ("x:ann", "x:bob")
    assert [it.first_seq for it in await log.store.outbox(10)] == [
        3
    ]  # nobody has seen yet that bob was removed


async def test_a_conversation_that_goes_on_meanwhile(log: Log) -> None:
    class Busy(MemoryStore):
        async def commit(self, commands: Sequence[base.Command]) -> list[base.Outcome]:
            if isinstance(commands[0], base.ImportEntries) and commands[0].new is None:
                await super().commit([send("x:c", "x:bob", "live")])
            return await super().commit(commands)

    store = Busy(ids=SystemIds())
    secret = await store.migrate()
    await bring_in(store, secret, chat(said("ann", 1, "a", "1")))
    totals = await bring_in(store, secret, chat(said("ann", 1, "a", "1"), said("ann", 2, "b", "2")))

    assert (totals.added, totals.known) == (1, 1)
    assert [it[3] for it in await Log(store, secret).texts("x:c")] == ["MEMBER", "a", "live", "b"]
    assert [it.first_seq for it in await store.outbox(10)] == [3]  # what is live is still owed


async def test_an_import_that_was_cut_off_is_gone_on_with(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer_module, "ENTRIES_PER_BATCH", 3)
    records = chat(*(said("ann", it, f"{it}") for it in range(10)))

    def broken() -> Sequence[Record]:
        yield from records[:8]
        raise ImportFileError("f:9: no JSON")

    importer = importer_module.Importer(
        log.store,
        log.secret,
        planned(records),
        importer_module.ImportTerms("x", "f"),
        importer_module.Ports(),
    )
    with pytest.raises(ImportFileError):
        async for _ in importer.run(broken()):
            pass
    assert len(await log.texts("x:c")) == 7
    totals = await bring_in(log.store, log.secret, records)
    assert (totals.added, totals.known) == (4, 6)
    assert [it[3] for it in await log.texts("x:c")] == ["MEMBER", *map(str, range(10))]


async def test_storage_that_refuses_for_now_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tired(MemoryStore):
        refusals = 2

        async def commit(self, commands: Sequence[base.Command]) -> list[base.Outcome]:
            outcomes = await super().commit(commands)
            if isinstance(commands[0], base.ImportEntries) and self.refusals:
                self.refusals -= 1
                raise UnavailableError("no answer", retry_after_s=1e-9)
            return outcomes

    store = Tired(ids=SystemIds())
    secret = await store.migrate()
    totals = await bring_in(store, secret, chat(said("ann", 1, "a"), said("ann", 2, "b")))
    assert totals.known == 2  # it had been stored, though no answer came
    assert [it[3] for it in await Log(store, secret).texts("x:c")] == ["MEMBER", "a", "b"]


async def test_it_is_audited_by_the_time_of_the_import(log: Log) -> None:
    await bring_in(log.store, log.secret, chat(said("ann", 1, "secret words")))
    rows = await log.store.acts(base.AuditFilter(), 0, 10)
    assert [it.action for it in rows] == ["IMPORTED", "CREATED"]
    assert all(it.at_ms > 1_700_000_000_000 for it in rows)
    assert "secret" not in repr(rows)


async def test_the_log_of_a_file_is_whole_afterwards(tmp_path: Any) -> None:
    from chatkit.storage.sqlite.verify import full_report

    store = SqliteStore(tmp_path / "chat.db", ids=SystemIds())
    secret = await store.migrate()
    await do(store, group("x:c", "x:ann", "x:bob"), send("x:c", "x:ann", "live"), add("x:c", None, "x:cat"))
    await bring_in(store, secret, chat(said("ann", 1, "a"), said("zoe", 2, "b")), add_members=True)
    await store.aclose()
    assert full_report(str(tmp_path / "chat.db")).findings == []


@pytest.mark.parametrize(
    ("text", "count"),
    [("x", 1), ("x" * 65_000, 1), ("x" * 70_000, 7), ("\u20ac" * 30_000, 3), ("\x01" * 25_000, 3)],
)
def test_a_text_that_is_too_long_for_one_message_becomes_several(text: str, count: int) -> None:
    payloads = payloads_of(text)

    assert len(payloads) == count
    assert "".join(msgspec.json.decode(it)["text"] for it in payloads) == text


def test_what_no_text_can_hold_is_replaced() -> None:
    assert payloads_of("a\x00b\ud800c\U0001f600") == [
        '{"text":"a\ufffdb\ufffdc\U0001f600","type":"TEXT"}'.encode()
    ]


def test_a_plan_counts_and_writes_nothing() -> None:
    left = LeftOut("join", "not carried over", "f:3")
    records = [
        FoundUser("ann", "Ann"),
        FoundConversation("empty"),
        *chat(said("ann", 5, "a"), said("bob", 3, "b")),
        left,
        left,
    ]
    plan = planned(records)

    (found,) = plan.made()
    assert (found.messages, found.first_ms, found.last_ms, found.members(9)) == (2, 3, 5, ("x:bob", "x:ann"))
    assert [(it.kind, it.count, it.where) for it in plan.omissions.values()] == [("join", 2, "f:3")]
    assert sorted(plan.users) == ["ann", "bob"]


def test_what_nothing_can_print_is_replaced_and_kinds_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "KINDS_MAX", 3)
    odd = [LeftOut(f"k{it}\ud800", "r", "f\ud800") for it in range(9)]
    plan = planned([FoundConversation("c", "T\ud800\x00\nU", members=("a",)), said("a\ud800", 1, "x"), *odd])

    assert plan.made()[0].title == "T\ufffd\ufffd U"
    assert len(plan.omissions) == 4
    assert sum(it.count for it in plan.omissions.values()) == 9
    assert msgspec.json.encode(report_of(plan, None, 9, {}))
    assert words_of(report_of(plan, None, 9, {}), "x").encode()


def test_a_plan_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "AUTHORS_MAX", 10)
    with pytest.raises(ImportFileError, match="too many"):
        planned(chat(*(said(f"u{it}", 1, "x") for it in range(20))))


@pytest.mark.parametrize("at_ms", [-1, 10**16])
def test_a_time_that_cannot_be_is_an_error(at_ms: int) -> None:
    with pytest.raises(ValueError, match="1970"):
        planned(chat(said("ann", at_ms, "x")))
