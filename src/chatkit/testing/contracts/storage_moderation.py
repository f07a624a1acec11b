"""What is held, refused and reported: what moderation asks of a store. Subclass it beside `StoreContract`."""

from __future__ import annotations

from typing import Any, Literal, Protocol, cast

import pytest

from ...core.log.stream_rows import OPEN_MAX
from ...errors import (
    BadRequestError,
    ConflictError,
    ContentRefusedError,
    ForbiddenError,
    InternalError,
    NotFoundError,
    OverloadedError,
    RateLimitedError,
    UnavailableError,
)
from ...storage import base
from ...wire.payload import canonical
from .storage_breaking import NO_KEY
from .storage_commands import (
    NOW,
    add,
    ban,
    do,
    edited,
    group,
    one,
    recall,
    refused,
    remove,
    send,
    single,
    text,
    texts,
)
from .storage_ownership import block
from .storage_reopening import Make, opened
from .storage_streams import begun, ended, part

Kind = Literal["ALLOW", "REFUSE", "HOLD", "UNASKED"]


class ModeratedStore(base.Store, base.ModerationReader, Protocol):
    """A store with that ability."""


def moderated(
    kind: Kind, sender: str, key: str, words: str | None = None, *, conversation_id: str = "g", **verdict: Any
) -> base.ModeratedAppend:
    """A text message with the moderator's verdict."""
    plain = send(conversation_id, sender, key, words)
    return base.ModeratedAppend(
        plain.conversation_id,
        plain.sender_id,
        plain.client_msg_id,
        plain.payload,
        plain.payload_mac,
        plain.at_ms,
        verdict=base.Verdict(kind, **verdict),
    )


def allow(sender: str, key: str, **rest: Any) -> base.ModeratedAppend:
    """It may be stored."""
    return moderated("ALLOW", sender, key, **rest)


def hold(sender: str, key: str, **rest: Any) -> base.ModeratedAppend:
    """Somebody is to look at it."""
    return moderated("HOLD", sender, key, **rest)


def refuse(sender: str, key: str, reason: str = "rude", **rest: Any) -> base.ModeratedAppend:
    """It is never to be stored."""
    return moderated("REFUSE", sender, key, reason=reason, **rest)


def review(
    held: base.HeldRecord,
    *,
    release: bool = True,
    by: str | None = "mod",
    reason: str = "",
    payload: bytes | None = None,
) -> base.Review:
    """What somebody decided."""
    return base.Review(
        held.held_id, held.conversation_id, held.sender_id, by, release, NOW + 5, reason, payload
    )


def report(message_id: str, user: str, *, keep: bool = True) -> base.ReportMessage:
    """A user reports a message."""
    return base.ReportMessage(message_id, user, "SPAM", "look", keep, NOW)


async def held_of(store: ModeratedStore) -> list[tuple[str, str]]:
    """What waits for a review: (sender, key), by number."""
    return [(it.sender_id, it.client_msg_id) for it in await store.held_messages(0, 100)]


async def one_held(store: ModeratedStore) -> base.HeldRecord:
    """The only message that waits for a review."""
    (found,) = await store.held_messages(0, 100)
    return found


class VerdictContract:
    """What verdicts do: a fixture `store` gives a fresh one."""

    pytestmark = pytest.mark.anyio

    async def test_what_is_refused_for_now_is_not_overtaken_where_its_batch_breaks(
        self, store: ModeratedStore
    ) -> None:
        await do(store, group("g", "ann", "bob"))
        outcomes = await store.commit(
            [
                moderated("UNASKED", "ann", "1"),
                allow("bob", NO_KEY, words="bad"),
                allow("ann", "2"),
                allow("bob", "3"),
            ]
        )
        refusals = [it.error for it in outcomes if isinstance(it, base.Refused)]
        assert [type(it) for it in refusals] == [
            UnavailableError,
            InternalError,
            UnavailableError,
            InternalError,
        ]
        await do(store, allow("ann", "1"), allow("ann", "2"))
        assert (await texts(store, "g", "bob"))[1:] == [text("1"), text("2")]

    async def test_what_is_allowed_is_stored(self, store: ModeratedStore) -> None:
        await do(store, group("g", "ann", "bob"))
        made = await one(store, allow("ann", "a"), base.Appended)

        assert (made.entry.seq, made.entry.payload, made.repeat) == (2, text("a"), False)
        assert (await texts(store, "g", "bob"))[1:] == [text("a")]

    async def test_a_rewrite_is_stored_under_the_key_of_the_original(self, store: ModeratedStore) -> None:
        await do(store, group("g", "ann", "bob"))
        made = await one(store, allow("ann", "a", words="rude", payload=text("****")), base.Appended)
        again = await one(store, allow("ann", "a", words="rude"), base.Appended)

        assert made.entry.payload == text("****")
        assert (again.entry, again.repeat) == (made.entry, True)
        assert (await texts(store, "g", "bob"))[1:] == [text("****")]
        await refused(store, allow("ann", "a", words="****"), ConflictError)
        await refused(store, send("g", "ann", "a", "****"), ConflictError)

    async def test_a_refusal_is_kept_by_the_key_and_nothing_is_stored(self, store: ModeratedStore) -> None:
        await do(store, group("g", "ann", "bob"))
        first = await refused(store, refuse("ann", "a"), ContentRefusedError)
        later = await refused(store, allow("ann", "a"), ContentRefusedError)

        assert (str(first), str(later)) == ("rude", "rude")
        await refused(store, allow("ann", "a", words="other"), ConflictError)
        assert (await store.head_seqs(["g"]))["g"][1] == 1
        await one(store, allow("ann", "b"), base.Appended)

    async def test_a_known_key_has_its_answer_whatever_the_verdict_is(self, store: ModeratedStore) -> None:
        await do(store, group("g", "ann", "bob"))
        made = await one(store, allow("ann", "a"), base.Appended)
        for command in (refuse("ann", "a"), hold("ann", "a"), moderated("UNASKED", "ann", "a")):
            again = await one(store, command, base.Appended)
            assert (again.entry, again.repeat) == (made.entry, True)
        assert await held_of(store) == []

    async def test_without_a_verdict_a_new_message_comes_again(self, store: ModeratedStore) -> None:
        await do(store, group("g", "ann", "bob"))
        error = await refused(store, moderated("UNASKED", "ann", "a", retry_ms=7_000), UnavailableError)

        assert error.retry_after_s == 7.0
        await one(store, allow("ann", "a"), base.Appended)

    async def test_strangers_get_the_answer_of_every_stranger_and_leave_nothing(
        self, store: ModeratedStore
    ) -> None:
        await do(store, group("g", "ann", "bob"), single("s", "ann", "eve"), block("ann", "eve"))
        for kind in ("ALLOW", "REFUSE", "HOLD", "UNASKED"):
            await refused(store, moderated(kind, "zoe", "a"), NotFoundError)
            await refused(store, moderated(kind, "zoe", "a", conversation_id="none"), NotFoundError)
            await refused(store, moderated(kind, "eve", "a", conversation_id="s"), ForbiddenError)
        assert await held_of(store) == []
        await do(store, add("g", "ann", "zoe"))
        await one(store, allow("zoe", "a"), base.Appended)

    async def test_who_is_asked_about(self, store: ModeratedStore) -> None:
        await do(store, group("g", "ann", "bob"), send("g", "ann", "known"))
        await store.commit([refuse("ann", "refused"), hold("bob", "held")])

        asked = [
            ("g", "ann", "known"),
            ("g", "ann", "new"),
            ("g", "ann", "refused"),
            ("g", "bob", "held"),
            ("g", "bob", "known"),
            ("g", "zoe", "new"),
            ("none", "ann", "new"),
        ]
        assert await store.to_moderate(asked) == [False, True, False, False, True, False, False]
        assert await store.to_moderate([]) == []


class HoldContract:
    """What is held for review: a fixture `store` gives a fresh one."""

    pytestmark = pytest.mark.anyio

    async def test_what_is_held_is_in_no_log_until_it_is_released(self, store: ModeratedStore) -> None:
        await do(store, group("g", "ann", "bob"))
        assert await one(store, hold("ann", "a", reason="link"), base.Held) == base.Held(False)
        assert await one(store, allow("ann", "a"), base.Held) == base.Held(True)
        await refused(store, allow("ann", "a", words="other"), ConflictError)
        assert len(await texts(store, "g", "bob")) == 1

        held = await one_held(store)
        assert (held.conversation_id, held.sender_id, held.client_msg_id) == ("g", "ann", "a")
        assert (held.reason, held.payload, held.at_ms) == ("link", text("a"), NOW)
        assert await store.held_message(held.held_id) == held
        made = await one(store, review(held), base.Reviewed)

        (entry,) = made.entries
        assert (entry.seq, entry.payload, entry.server_ts, entry.client_msg_id) == (
            2,
            text("a"),
            NOW + 5,
            "a",
        )
        assert made.refused == ()
        assert (await one(store, hold("ann", "a"), base.Appended)).entry == entry
        assert await held_of(store) == []
        assert await store.held_message(held.held_id) is None

    async def test_later_messages_of_the_sender_wait_behind_it_and_nobody_else(
        self, store: ModeratedStore
    ) -> None:
        await do(store, group("g", "ann", "bob"), group("h", "ann", "bob"))
        await do(store, hold("ann", "1"), allow("ann", "2"), allow("bob", "b"))
        await do(store, allow("ann", "3"), allow("ann", "4", conversation_id="h"))
        assert (await texts(store, "g", "bob"))[1:] == [text("b")]
        assert (await texts(store, "h", "bob"))[1:] == [text("4")]

        made = await one(store, review(await one_held(store)), base.Reviewed)

        assert [it.client_msg_id for it in made.entries] == ["1", "2", "3"]
        assert (await texts(store, "g", "bob"))[1:] == [text("b"), text("1"), text("2"), text("3")]

    async def test_each_review_frees_what_waits_for_nobody_else(self, store: ModeratedStore) -> None:
        await do(store, group("g", "ann", "bob"))
        await do(store, hold("ann", "1"), allow("ann", "2"), hold("ann", "3"), allow("ann", "4"))
        first, third = await store.held_messages(0, 100)

        assert (await one(store, review(third), base.Reviewed)).entries == ()
        assert await held_of(store) == [("ann", "1")]
        made = await one(store, review(first), base.Reviewed)
        assert [it.client_msg_id for it in made.entries] == ["1", "2", "3", "4"]

    async def test_a_refused_one_lets_those_behind_it_go(self, store: ModeratedStore) -> None:
        await do(store, group("g", "ann", "bob"))
        await do(store, hold("ann", "1"), allow("ann", "2"))
        made = await one(store, review(await one_held(store), release=False, reason="no"), base.Reviewed)

        assert [it.client_msg_id for it in made.entries] == ["2"]
        assert made.refused == (("1", "no"),)
        assert str(await refused(store, allow("ann", "1"), ContentRefusedError)) == "no"
        await refused(store, allow("ann", "1", words="other"), ConflictError)

    async def test_a_review_may_rewrite(self, store: ModeratedStore) -> None:
        await do(store, group("g", "ann", "bob"))
        await do(store, hold("ann", "1", words="rude"))
        await do(store, review(await one_held(store), payload=text("kind")))

        assert (await texts(store, "g", "bob"))[1:] == [text("kind")]
        again = await one(store, allow("ann", "1", words="rude"), base.Appended)
        assert again.entry.payload == text("kind")

    async def test_a_second_review_finds_nothing(self, store: ModeratedStore) -> None:
        await do(store, group("g", "ann", "bob"))
        await do(store, hold("ann", "1"), allow("ann", "2"))
        held = await one_held(store)
        behind = base.Review(held.held_id + 1, "g", "ann", None, True, NOW)
        await refused(store, behind, BadRequestError)
        await do(store, review(held, release=False))
        await refused(store, review(held), NotFoundError)
        await refused(store, base.Review(99, "g", "ann", None, True, NOW), NotFoundError)
        await refused(store, base.Review(held.held_id, "none", "ann", None, True, NOW), NotFoundError)
        assert (await texts(store, "g", "bob"))[1:] == [text("2")]

    async def test_who_may_not_write_any_more_is_refused_at_the_release(self, store: ModeratedStore) -> None:
        await do(store, group("g", "ann", "bob", "cat"), single("s", "ann", "eve"))
        await do(store, hold("bob", "left"), allow("bob", "behind"), hold("cat", "banned"))
        await do(store, hold("eve", "blocked", conversation_id="s"))
        await do(store, remove("g", "bob", "bob"), ban("cat"), block("ann", "eve"))

        for held in await store.held_messages(0, 100):
            made = await one(store, review(held), base.Reviewed)
            assert made.entries == ()
            assert [key for key, _ in made.refused] in (["left", "behind"], ["banned"], ["blocked"])
        await refused(store, allow("bob", "left"), ContentRefusedError)
        assert (await store.head_seqs(["g", "s"])) == {"g": ("e1", 2), "s": ("e1", 1)}

    async def test_what_a_host_sent_under_the_key_is_not_stored_again(self, store: ModeratedStore) -> None:
        await do(store, group("g", "ann", "bob"))
        await do(store, hold("ann", "1"), allow("ann", "2"), send("g", "ann", "1"))
        made = await one(store, review(await one_held(store)), base.Reviewed)

        assert [it.client_msg_id for it in made.entries] == ["2"]
        assert (await texts(store, "g", "bob"))[1:] == [text("1"), text("2")]

    async def test_what_a_host_sent_under_the_key_is_not_refused_either(self, store: ModeratedStore) -> None:
        await do(store, group("g", "ann", "bob"))
        await do(store, hold("ann", "1"), allow("ann", "2"), send("g", "ann", "1"))
        made = await one(store, review(await one_held(store), release=False, reason="no"), base.Reviewed)

        assert ([it.client_msg_id for it in made.entries], made.refused) == (["2"], ())
        assert (await one(store, allow("ann", "1"), base.Appended)).repeat

    async def test_what_is_held_is_bounded(self, store: ModeratedStore) -> None:
        await do(store, group("g", "ann", "bob"), group("h", "ann", "bob"))
        few = base.HoldBounds(per_user=2, total=3)
        await do(store, hold("ann", "1", bounds=few), allow("ann", "2", bounds=few))
        error = await refused(store, allow("ann", "3", bounds=few, retry_ms=9_000), OverloadedError)
        assert error.retry_after_s == 9.0
        await refused(store, hold("ann", "4", bounds=few, conversation_id="h"), OverloadedError)
        await one(store, allow("ann", "5", bounds=few, conversation_id="h"), base.Appended)
        await do(store, hold("bob", "1", bounds=few))
        await refused(store, hold("bob", "2", bounds=few, conversation_id="h"), OverloadedError)
        assert await held_of(store) == [("ann", "1"), ("bob", "1")]

        await do(store, review((await store.held_messages(0, 1))[0], release=False))
        await one(store, hold("ann", "3", bounds=few), base.Held)

    async def test_what_is_refused_for_now_is_not_overtaken_within_its_batch(
        self, store: ModeratedStore
    ) -> None:
        await do(store, group("g", "ann", "bob"))
        none = base.HoldBounds(per_user=0, total=0)
        for first in (hold("ann", "1", bounds=none), moderated("UNASKED", "ann", "1")):
            outcomes = await store.commit([first, allow("ann", "2"), hold("ann", "3"), allow("bob", "b")])
            kinds = [type(it) for it in outcomes]
            assert kinds == [base.Refused, base.Refused, base.Refused, base.Appended]
            assert all(it.error.retryable for it in outcomes if isinstance(it, base.Refused))
        await do(store, allow("ann", "1"), allow("ann", "2"))
        assert (await texts(store, "g", "bob"))[1:] == [text("b"), text("1"), text("2")]

    async def test_lists_go_on_after_a_number(self, store: ModeratedStore) -> None:
        await do(store, group("g", "ann", "bob"))
        await do(store, *(hold("ann", f"{n}") for n in range(5)))
        pages = [await store.held_messages(0, 2)]
        while len(pages[-1]) == 2:
            pages.append(await store.held_messages(pages[-1][-1].held_id, 2))
        assert [it.client_msg_id for page in pages for it in page] == ["0", "1", "2", "3", "4"]

    async def test_reviews_are_audited_without_a_word_of_the_message(self, store: ModeratedStore) -> None:
        await do(store, group("g", "ann", "bob"))
        await do(store, *(hold("ann", key, words="secret") for key in "123"))
        first, second, third = await store.held_messages(0, 9)
        await do(
            store, review(first), review(second, payload=text("x")), review(third, release=False, by=None)
        )

        rows = [it for it in await store.audit("g") if it.action.startswith("HELD")]
        assert [(it.action, it.actor_id, it.subject, it.detail) for it in rows] == [
            ("HELD_RELEASED", "mod", "ann", {"held": str(first.held_id)}),
            ("HELD_REWRITTEN", "mod", "ann", {"held": str(second.held_id)}),
            ("HELD_REFUSED", "", "ann", {"held": str(third.held_id)}),
        ]


class HeldStreamContract:
    """Streams among what is held: a fixture `store` gives a fresh one."""

    pytestmark = pytest.mark.anyio

    async def test_a_held_stream_is_released_past_the_bound_on_open_ones(self, store: ModeratedStore) -> None:
        await do(store, group("g", "ann", "bob"))
        payload = canonical({"type": "STREAM", "text": "a link"})
        await one(store, hold("ann", "held", payload=payload), base.Held)
        await do(store, *(begun(key=f"k{it}") for it in range(OPEN_MAX)))
        await refused(store, begun(key="more"), RateLimitedError)
        released = await one(store, review(await one_held(store)), base.Reviewed)
        assert [it.client_msg_id for it in released.entries] == ["held"]
        assert released.refused == ()
        name = released.entries[0].message_id
        assert (await one(store, part(name, 1, "goes on"), base.PartAppended)).parts == 1
        await refused(store, begun(key="more"), RateLimitedError)


class ReportContract:
    """Reports by users: a fixture `store` gives a fresh one."""

    pytestmark = pytest.mark.anyio

    async def test_a_report_is_kept_once_for_a_user_and_message(self, store: ModeratedStore) -> None:
        made = await self.message(store)
        await do(store, report(made, "bob"), report(made, "bob"))
        await do(store, report(made, "bob"), report(made, "cat"))

        first, second = await store.reports(0, 9)
        assert (first.reporter_id, second.reporter_id) == ("bob", "cat")
        assert (first.message_id, first.conversation_id, first.sender_id) == (made, "g", "ann")
        assert (first.reason, first.note, first.at_ms, first.body) == ("SPAM", "look", NOW, text("a"))
        assert await store.reports(first.report_id, 9) == [second]
        assert await store.reports(0, 1) == [first]

    async def test_only_what_one_sees_can_be_reported(self, store: ModeratedStore) -> None:
        made = await self.message(store)
        (first,) = await store.entries("g", 0, 1)
        await do(store, add("g", "ann", "late"), remove("g", "ann", "cat"))

        await refused(store, report(made, "zoe"), NotFoundError)
        await refused(store, report(made, "late"), NotFoundError)
        await refused(store, report(made, "cat"), NotFoundError)
        await refused(store, report("nonsense", "bob"), NotFoundError)
        await refused(store, report(made, "ann"), BadRequestError)
        await refused(store, report(first.message_id, "bob"), BadRequestError)
        assert await store.reports(0, 9) == []

    async def test_the_body_outlives_a_recall_until_the_report_is_resolved(
        self, store: ModeratedStore
    ) -> None:
        made = await self.message(store)
        await do(store, report(made, "bob"), report(made, "cat", keep=False), recall(made, "ann"))

        assert [it.body for it in await store.reports(0, 9)] == [text("a"), None]
        await do(store, base.ResolveReports(made, "mod", "WARNED", NOW + 9))
        assert await store.reports(0, 9) == []
        rows = [it for it in await store.audit("g") if it.action == "REPORTS_RESOLVED"]
        assert [(it.actor_id, it.subject) for it in rows] == [("mod", made)]

    async def test_the_body_is_what_the_message_says_to_who_reports_it(self, store: ModeratedStore) -> None:
        made = await self.message(store)
        await do(store, edited("g", "ann", made, "bad"), edited("g", "ann", made, "worse"))
        await do(store, report(made, "bob"), report(made, "cat", keep=False), recall(made, "ann"))
        assert [it.body for it in await store.reports(0, 9)] == [text("worse"), None]

    async def test_an_edit_of_the_same_batch_is_in_the_body(self, store: ModeratedStore) -> None:
        made = await self.message(store)
        await do(store, edited("g", "ann", made, "bad"), report(made, "bob"))
        assert [it.body for it in await store.reports(0, 9)] == [text("bad")]

    async def test_of_an_open_stream_all_of_its_parts_are_in_the_body(self, store: ModeratedStore) -> None:
        await do(store, group("g", "ann", "bob", "cat"))
        made = (await one(store, begun("a"), base.Appended)).entry.message_id
        await do(store, part(made, 1, "b"), part(made, 2, "c"))
        await do(store, report(made, "bob"), part(made, 3, "d"), report(made, "cat"))
        bodies = [it.body for it in await store.reports(0, 9)]
        assert bodies == [b'{"text":"abc","type":"STREAM"}', b'{"text":"abcd","type":"STREAM"}']

    async def test_of_a_stream_that_has_ended_the_whole_is_in_the_body(self, store: ModeratedStore) -> None:
        await do(store, group("g", "ann", "bob", "cat"))
        made = (await one(store, begun("a"), base.Appended)).entry.message_id
        await do(store, part(made, 1, "b"), ended(made, "the whole"), report(made, "bob"))
        assert [it.body for it in await store.reports(0, 9)] == [text("the whole")]

    async def test_what_was_recalled_before_has_no_body(self, store: ModeratedStore) -> None:
        made = await self.message(store)
        await do(store, recall(made, "ann"), report(made, "bob"))
        assert [it.body for it in await store.reports(0, 9)] == [None]

    async def test_what_has_expired_has_no_body(self, store: ModeratedStore) -> None:
        made = await self.message(store)
        await do(store, report(made, "cat", keep=False), send("g", "ann", "newest"))
        await do(store, base.Expire("g", 2, None, NOW), report(made, "bob"))
        assert [it.body for it in await store.reports(0, 9)] == [None, None]

    async def test_an_erasure_takes_copies_of_what_has_expired_too(self, store: ModeratedStore) -> None:
        made = await self.message(store)
        await do(store, report(made, "bob"), send("g", "ann", "newest"), base.Expire("g", 2, None, NOW))
        assert [it.body for it in await store.reports(0, 9)] == [text("a")], "it is kept until it is resolved"
        await do(
            store, base.BeginErasure("ann", True, None, NOW), base.EndErasure("ann", True, None, 1, 0, NOW)
        )
        assert [it.body for it in await store.reports(0, 9)] == [None]

    async def test_only_open_reports_are_resolved(self, store: ModeratedStore) -> None:
        made = await self.message(store)
        done = base.ResolveReports(made, None, "DISMISSED", NOW)
        await refused(store, done, NotFoundError)
        await do(store, report(made, "bob"), done)
        await refused(store, done, NotFoundError)
        await do(store, report(made, "bob"))
        assert await store.reports(0, 9) == []
        await do(store, report(made, "cat"))
        assert [it.reporter_id for it in await store.reports(0, 9)] == ["cat"]
        await do(store, done)
        await refused(store, base.ResolveReports("nonsense", None, "", NOW), NotFoundError)

    async def test_nothing_is_left_to_review_of_who_was_erased(self, store: ModeratedStore) -> None:
        made = await self.message(store)
        other = (await one(store, send("g", "cat", "c", "words of cat"), base.Appended)).entry.message_id
        await do(store, hold("ann", "held"), hold("cat", "held"), report(made, "bob"), report(other, "ann"))
        await do(store, report(other, "bob"), recall(made, "ann"), recall(other, "cat"))
        await do(
            store, base.BeginErasure("ann", True, None, NOW), base.EndErasure("ann", True, None, 1, 1, NOW)
        )

        assert await held_of(store) == [("cat", "held")]
        found = [(it.message_id, it.reporter_id, it.body) for it in await store.reports(0, 9)]
        assert found == [(made, "bob", None), (other, "bob", text("words of cat"))]

    async def message(self, store: ModeratedStore) -> str:
        """A group of three with a message of the first."""
        await do(store, group("g", "ann", "bob", "cat"))
        return (await one(store, send("g", "ann", "a"), base.Appended)).entry.message_id


class ModerationContract(VerdictContract, HoldContract, HeldStreamContract, ReportContract):
    """All that moderation asks of a store."""


class DurableModerationContract(ModerationContract):
    """And of one that is there again after it was closed: a fixture `make` as for `StoreContract`."""

    async def test_what_is_held_refused_and_reported_outlives_the_store(self, make: Make) -> None:
        async with opened(make) as made:
            store = cast("ModeratedStore", made)
            await do(store, group("g", "ann", "bob"))
            sent = await one(store, allow("ann", "0"), base.Appended)
            await store.commit([hold("ann", "1"), allow("ann", "2"), refuse("bob", "3")])
            await do(store, report(sent.entry.message_id, "bob"))
        async with opened(make) as made:
            store = cast("ModeratedStore", made)
            await refused(store, allow("bob", "3"), ContentRefusedError)
            assert await one(store, allow("ann", "2"), base.Held) == base.Held(True)
            assert [it.reporter_id for it in await store.reports(0, 9)] == ["bob"]
            done = await one(store, review(await one_held(store)), base.Reviewed)
            assert [it.client_msg_id for it in done.entries] == ["1", "2"]
            made_later = await one(store, hold("ann", "4"), base.Held)
            assert not made_later.repeat
