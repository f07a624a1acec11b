"""Where a moderator is set: what its verdicts do, in which order, and what holds when it fails or is slow."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import pytest

from chatkit.errors import (
    BadRequestError,
    ConfigurationError,
    ConflictError,
    ContentRefusedError,
    HeldError,
    NotFoundError,
    UnavailableError,
)
from chatkit.observability.instrument import ModeratedBatch
from chatkit.server.limits import Limits
from chatkit.server.moderation.config import ModerationConfig
from chatkit.server.moderation.verdicts import (
    Allow,
    Hold,
    ModeratorVerdict,
    Refuse,
    Rewrite,
    Submission,
)
from chatkit.storage.base import ModeratedAppend

from .harness import GatedStore, HarnessServer, Peer, group, login, serving, text
from .nodes import cluster


class ByWord:
    """A moderator that answers by the words of a message, and can be held back or broken.

    Attributes:
        batches: The keys that it was asked for.
        broken: What it does instead of answering.
    """

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.broken: Callable[[Sequence[Submission]], Awaitable[Any]] | None = None
        self._gate: anyio.Event | None = None

    def hold(self) -> None:
        self._gate = anyio.Event()

    def release(self) -> None:
        assert self._gate is not None
        self._gate.set()
        self._gate = None

    @property
    def asked(self) -> list[str]:
        return [key for batch in self.batches for key in batch]

    async def __call__(self, submissions: Sequence[Submission]) -> Any:
        self.batches.append([it.client_msg_id for it in submissions])
        if self._gate is not None:
            await self._gate.wait()
        if self.broken is not None:
            return await self.broken(submissions)
        return [_verdict(it) for it in submissions]


def _verdict(it: Submission) -> ModeratorVerdict:
    if "rude" in it.text:
        return Refuse("be kind")
    if "swear" in it.text:
        return Rewrite(it.text.replace("swear", "*****"))
    if "link" in it.text:
        return Hold("a link")
    return Allow()


async def send(server: HarnessServer, user: str, key: str, body: Any, conversation: str = "g-1") -> Any:
    return await server.send(conversation, user, body, client_msg_id=key, moderate=True)


def words(heard: list[dict[str, Any]]) -> list[str]:
    return [it["payload"]["text"] for it in heard]


def errors(peer: Peer) -> list[tuple[str, str]]:
    return [(it["clientMsgId"], it["code"]) for it in peer.read() if it["event"] == "ERROR"]


async def test_each_verdict_does_what_it_says() -> None:
    async with serving(moderator=ByWord()) as server:
        await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        ann.say(text("g-1", "1", "hello"), text("g-1", "2", "rude"), text("g-1", "3", "a swear word"))
        ack, refusal, rewritten = await ann.hear("MSG_ACK", "ERROR", "MSG_ACK")

        assert (ack["seq"], "payload" in ack) == (2, False)
        assert (refusal["code"], refusal["message"], refusal["retryable"]) == (
            "CONTENT_REFUSED",
            "be kind",
            False,
        )
        assert refusal["clientMsgId"] == "2"
        assert (rewritten["seq"], rewritten["payload"]) == (3, {"type": "TEXT", "text": "a ***** word"})
        assert words(await ben.hear("NEW_MSG", "NEW_MSG")) == ["hello", "a ***** word"]


async def test_a_batch_is_asked_about_at_once_and_what_comes_meanwhile_makes_the_next() -> None:
    moderator = ByWord()
    async with serving(moderator=moderator, moderation=ModerationConfig(batches_max=1)) as server:
        await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        moderator.hold()
        ann.say(text("g-1", "a1"))
        await anyio.wait_all_tasks_blocked()
        ann.say(text("g-1", "a2"), text("g-1", "a3"))
        ben.say(text("g-1", "b1"))
        moderator.release()
        await ann.hear(*["MSG_ACK"] * 3)
        await ben.hear("MSG_ACK")

        assert moderator.batches == [["a1"], ["b1", "a2", "a3"]]


async def test_one_slow_batch_keeps_back_its_own_lane_only() -> None:
    moderator = ByWord()
    async with serving(moderator=moderator) as server:
        await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        moderator.hold()
        ann.say(text("g-1", "a1"))
        await anyio.wait_all_tasks_blocked()
        slow, moderator._gate = moderator._gate, None
        ann.say(text("g-1", "a2"))
        ben.say(text("g-1", "b1"), {"event": "PING"})
        await ben.hear("PONG", "MSG_ACK")
        ann.say({"event": "PING"})
        await ann.hear("PONG")
        assert moderator.batches == [["a1"], ["b1"]]

        assert slow is not None
        slow.set()
        acks = await ann.hear("MSG_ACK", "MSG_ACK")
        assert [it["clientMsgId"] for it in acks] == ["a1", "a2"]
        assert moderator.batches == [["a1"], ["b1"], ["a2"]]


async def test_a_known_key_has_its_answer_and_is_not_moderated_again() -> None:
    moderator = ByWord()
    async with serving(moderator=moderator) as server:
        await group(server, "ann", "ben")
        first = await send(server, "ann", "1", "a swear word")
        with pytest.raises(ContentRefusedError, match="be kind"):
            await send(server, "ann", "2", "rude")
        with pytest.raises(HeldError):
            await send(server, "ann", "3", "link")
        moderator.broken = _raise

        assert await send(server, "ann", "1", "a swear word") == first
        assert first.payload == {"type": "TEXT", "text": "a ***** word"}
        with pytest.raises(ContentRefusedError, match="be kind"):
            await send(server, "ann", "2", "rude")
        with pytest.raises(HeldError) as held:
            await send(server, "ann", "3", "link")
        assert held.value.retry_after_s == 60.0
        for key in "123":
            with pytest.raises(ConflictError):
                await send(server, "ann", key, "something else")
        assert moderator.asked == ["1", "2", "3"]


async def test_nobody_is_asked_about_strangers() -> None:
    moderator = ByWord()
    async with serving(moderator=moderator) as server:
        await group(server, "ann", "ben")
        eve = await login(server, "eve")
        eve.say(text("g-1", "1", "rude"), text("no-such", "2", "rude"))
        first, second = await eve.hear("ERROR", "ERROR")

        assert first["code"] == second["code"] == "NOT_FOUND"
        assert {**first, "conversationId": "", "clientMsgId": ""} == {
            **second,
            "conversationId": "",
            "clientMsgId": "",
        }
        assert moderator.asked == []


# --- failure ---


async def _raise(submissions: Sequence[Submission]) -> Any:
    raise RuntimeError("a secret word: " + submissions[0].text)


async def _too_few(submissions: Sequence[Submission]) -> Any:
    return [Allow()] * (len(submissions) - 1)


async def _nothing(submissions: Sequence[Submission]) -> Any:
    return None


async def _nonsense(submissions: Sequence[Submission]) -> Any:
    return ["ALLOW" for _ in submissions]


async def _bad_rewrite(submissions: Sequence[Submission]) -> Any:
    return [Rewrite({"type": "MEMBER"}) for _ in submissions]


async def _long_reason(submissions: Sequence[Submission]) -> Any:
    return [Refuse("x" * 257) for _ in submissions]


async def _hang(submissions: Sequence[Submission]) -> Any:
    await anyio.sleep_forever()


BROKEN = [_raise, _too_few, _nothing, _nonsense, _bad_rewrite, _long_reason, _hang]


@pytest.mark.parametrize("broken", BROKEN)
async def test_closed_a_failure_refuses_for_now_and_the_same_key_goes_through_later(
    broken: Any, caplog: pytest.LogCaptureFixture
) -> None:
    moderator = ByWord()
    moderator.broken = broken
    config = ModerationConfig(timeout_s=0.05, retry_s=7.0)
    async with serving(moderator=moderator, moderation=config) as server:
        await group(server, "ann", "ben")
        with pytest.raises(UnavailableError) as refused:
            await send(server, "ann", "1", "hello")
        assert refused.value.retry_after_s == 7.0
        moderator.broken = None
        assert (await send(server, "ann", "1", "hello")).seq == 2

    said = [it.getMessage() for it in caplog.records if "the moderator" in it.getMessage()]
    assert len(said) == 2
    assert said[0].startswith("the moderator failed, and messages are refused for now: ")
    assert "secret" not in said[0]
    assert said[1] == "the moderator works again"
    caplog.clear()


@pytest.mark.parametrize("broken", BROKEN)
async def test_open_a_failure_lets_messages_through_as_they_are(
    broken: Any, caplog: pytest.LogCaptureFixture
) -> None:
    moderator = ByWord()
    moderator.broken = broken
    config = ModerationConfig(timeout_s=0.05, on_failure="open")
    async with serving(moderator=moderator, moderation=config) as server:
        await group(server, "ann", "ben")
        sent = await send(server, "ann", "1", "rude")
        assert (sent.seq, sent.payload) == (2, None)
        moderator.broken = None
        assert await send(server, "ann", "1", "rude") == sent
    caplog.clear()


async def test_one_bad_verdict_costs_its_own_message_only(caplog: pytest.LogCaptureFixture) -> None:
    moderator = ByWord()

    async def second_is_bad(submissions: Sequence[Submission]) -> Any:
        return [Allow() if it.client_msg_id != "2" else 7 for it in submissions]

    moderator.broken = second_is_bad
    async with serving(moderator=moderator) as server:
        await group(server, "ann", "ben")
        await group(server, "ann", "ben", conversation_id="g-2")
        ann = await login(server, "ann")
        ann.say(text("g-1", "1"), text("g-2", "2"), text("g-1", "3"))
        first, second, refused = await ann.hear("MSG_ACK", "MSG_ACK", "ERROR")
        assert [first["clientMsgId"], second["clientMsgId"]] == ["1", "3"]
        assert (refused["clientMsgId"], refused["code"]) == ("2", "UNAVAILABLE")
    caplog.set_level(logging.CRITICAL)
    caplog.clear()


async def test_a_moderator_that_does_not_end_is_left_alone_until_it_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    moderator = ByWord()
    ends = anyio.Event()

    async def never_ends(_: Sequence[Submission]) -> Any:
        with anyio.CancelScope(shield=True):
            await ends.wait()

    moderator.broken = never_ends
    config = ModerationConfig(timeout_s=0.01, batches_max=1)
    async with serving(moderator=moderator, moderation=config) as server:
        await group(server, "ann", "ben")
        for key in "123":
            with pytest.raises(UnavailableError):
                await send(server, "ann", key, "hello")
        assert moderator.asked == ["1"]
        moderator.broken = None
        ends.set()
        await anyio.wait_all_tasks_blocked()
        assert (await send(server, "ann", "3", "hello")).seq == 2
    caplog.clear()


async def test_after_a_failure_what_waits_behind_is_refused_before_the_first_comes_again() -> None:
    moderator = ByWord()
    moderator.broken = _raise
    config = ModerationConfig(batch_max=1, batches_max=1)
    async with serving(moderator=moderator, moderation=config) as server:
        await group(server, "ann", "ben")
        ann = await login(server, "ann")
        ann.say(text("g-1", "1"), text("g-1", "2"), text("g-1", "3"))
        first = (await ann.hear("ERROR"))[0]
        rest = errors(ann)
        moderator.broken = None
        ann.say(*(text("g-1", key) for key in "123"))
        acks = await ann.hear(*["MSG_ACK"] * 3)

        assert (first["clientMsgId"], first["code"]) == ("1", "UNAVAILABLE")
        assert rest == [("2", "OVERLOADED"), ("3", "OVERLOADED")]
        assert [it["clientMsgId"] for it in acks] == ["1", "2", "3"]


async def test_what_is_with_the_moderator_goes_behind_one_that_storage_refused() -> None:
    moderator, store = ByWord(), GatedStore()
    async with serving(store, moderator=moderator) as server:
        await group(server, "ann", "ben")
        ann = await login(server, "ann")
        store.hold()
        ann.say(text("g-1", "1"))
        await anyio.wait_all_tasks_blocked()
        store.break_for(1)
        moderator.hold()
        ann.say(text("g-1", "2"))
        await anyio.wait_all_tasks_blocked()
        assert moderator.asked == ["1", "2"]
        store.release()
        heard = await ann.hear("ERROR", "ERROR")
        assert [it["clientMsgId"] for it in heard] == ["1", "2"]
        moderator.release()
        ann.say(text("g-1", "1"), text("g-1", "2"))
        acks = await ann.hear("MSG_ACK", "MSG_ACK")
        assert [it["clientMsgId"] for it in acks] == ["1", "2"]


# --- bounds ---


async def test_a_full_queue_refuses_at_once() -> None:
    moderator = ByWord()
    config = ModerationConfig(queue_max=3)
    async with serving(moderator=moderator, moderation=config) as server:
        await group(server, "ann", "ben")
        ann = await login(server, "ann")
        moderator.hold()
        ann.say(*(text("g-1", f"k{n}") for n in range(5)))
        assert errors(ann) == [("k3", "OVERLOADED"), ("k4", "OVERLOADED")]
        moderator.release()
        await ann.hear(*["MSG_ACK"] * 3)


async def test_one_user_fills_their_share_only() -> None:
    moderator = ByWord()
    config = ModerationConfig(queue_max=20)
    limits = Limits.unlimited()
    async with serving(
        moderator=moderator,
        moderation=config,
        limits=type(limits)(**{**_asdict(limits), "commit_share_per_user": 0.1}),
    ) as server:
        await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        moderator.hold()
        ann.say(*(text("g-1", f"a{n}") for n in range(3)))
        ben.say(text("g-1", "b"))
        assert errors(ann) == [("a2", "OVERLOADED")]
        assert errors(ben) == []
        moderator.release()
        await ann.hear("MSG_ACK", "MSG_ACK")
        await ben.hear("MSG_ACK")


def _asdict(limits: Limits) -> dict[str, Any]:
    return {name: getattr(limits, name) for name in limits.__struct_fields__}


async def test_a_drain_waits_for_the_moderator() -> None:
    moderator = ByWord()
    async with serving(moderator=moderator, drain_timeout_s=5.0) as server:
        await group(server, "ann", "ben")
        ann = await login(server, "ann")
        moderator.hold()
        ann.say(text("g-1", "1"))
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.drain)
            await anyio.wait_all_tasks_blocked()
            moderator.release()
            await ann.hear("GOAWAY", "MSG_ACK")
            ann.leave()


async def test_leaving_while_the_moderator_hangs_answers_nobody_wrongly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    moderator, store = ByWord(), GatedStore()
    config = ModerationConfig(timeout_s=60.0)
    async with serving(store, moderator=moderator, moderation=config, drain_timeout_s=0.05) as server:
        await group(server, "ann", "ben")
        ann = await login(server, "ann")
        moderator.hold()
        ann.say(text("g-1", "1"))
        await anyio.wait_all_tasks_blocked()
    assert [it for batch in store.batches for it in batch if isinstance(it, ModeratedAppend)] == []


async def test_what_a_revoked_user_has_with_the_moderator_is_not_stored() -> None:
    moderator = ByWord()
    async with serving(moderator=moderator) as server:
        await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        moderator.hold()
        ann.say(text("g-1", "1"))
        await anyio.wait_all_tasks_blocked()
        await server.ban("ann")
        moderator.release()
        ben.say(text("g-1", "b"))
        assert (await ben.hear("MSG_ACK"))[0]["seq"] == 2


# --- held ---


async def test_a_held_message_is_released_in_order_to_everybody_and_its_sender_hears_of_it() -> None:
    async with serving(moderator=ByWord()) as server:
        await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        ann.say(text("g-1", "1", "a link"), text("g-1", "2", "after it"))
        first, second = await ann.hear("ERROR", "ERROR")
        assert (first["code"], first["retryable"], first["retryAfterMs"]) == ("HELD", True, 60_000)
        assert (second["code"], second["clientMsgId"]) == ("HELD", "2")
        assert [it for it in ben.read() if it["event"] == "NEW_MSG"] == []

        (held,) = await server.held_messages()
        assert (held.sender_id, held.client_msg_id, held.reason) == ("ann", "1", "a link")
        assert held.payload == {"type": "TEXT", "text": "a link"}
        outcome = await server.release_held(held.held_id, by="mod")
        assert [it.client_msg_id for it in outcome.stored] == ["1", "2"]

        assert words(await ben.hear("NEW_MSG", "NEW_MSG")) == ["a link", "after it"]
        own = await ann.hear("NEW_MSG", "NEW_MSG")
        assert [it["clientMsgId"] for it in own] == ["1", "2"]
        with pytest.raises(NotFoundError):
            await server.release_held(held.held_id)


async def test_a_refused_held_message_is_told_to_its_sender() -> None:
    async with serving(moderator=ByWord()) as server:
        await group(server, "ann", "ben")
        ann, tablet = await login(server, "ann"), await login(server, "ann", "tablet")
        ann.say(text("g-1", "1", "a link"), text("g-1", "2", "after it"))
        await ann.hear("ERROR", "ERROR")
        (held,) = await server.held_messages()
        outcome = await server.refuse_held(held.held_id, "no links")

        assert ([it.client_msg_id for it in outcome.stored], outcome.refused) == (["2"], ("1",))
        for peer in (ann, tablet):
            (error,) = await peer.hear("ERROR")
            assert (error["code"], error["message"], error["clientMsgId"], error["reason"]) == (
                "CONTENT_REFUSED",
                "no links",
                "1",
                "REVIEWED",
            )
        ann.say(text("g-1", "1", "a link"))
        (error,) = await ann.hear("ERROR")
        assert error["code"] == "CONTENT_REFUSED"
        assert "reason" not in error, "that one answers"


async def test_a_review_may_rewrite_what_is_stored() -> None:
    async with serving(moderator=ByWord()) as server:
        await group(server, "ann", "ben")
        with pytest.raises(HeldError):
            await send(server, "ann", "1", "a link")
        (held,) = await server.held_messages()
        with pytest.raises(BadRequestError):
            await server.release_held(held.held_id, content={"type": "MEMBER"})
        await server.release_held(held.held_id, content="no more")
        assert (await send(server, "ann", "1", "a link")).payload == {"type": "TEXT", "text": "no more"}


async def test_a_review_with_words_leaves_a_message_what_it_is() -> None:
    async with serving(moderator=ByWord()) as server:
        await group(server, "ann", "ben")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        sent = await send(server, "ann", "first", "hello")
        begun = {**text("g-1", "s"), "payload": {"type": "STREAM", "text": "", "fallbackText": "wait"}}
        ann.say(begun)
        (ack,) = await ann.hear("MSG_ACK")
        named = {"messageId": ack["messageId"], "seq": ack["seq"]}
        answer = {"messageId": sent.message_id, "seq": sent.seq}
        link: Any = {"type": "TEXT", "text": "a link", "mentions": ["ben"]}
        released = []
        for key, payload, content in (
            ("end", {"type": "EDIT", **named, "ends": "WHOLE", "payload": link}, "a word"),
            ("title", {"type": "TITLE", "title": "a link"}, "a name"),
            ("begin", {"type": "STREAM", "text": "a link", "fallbackText": "a link"}, "a word"),
            ("reply", {**link, "replyTo": answer}, "a word"),
        ):
            ann.say({**text("g-1", key), "payload": payload})
            await ann.hear("ERROR")
            (held,) = await server.held_messages()
            await server.release_held(held.held_id, content=content)
            released.append((await send(server, "ann", key, payload)).payload)
        words = {"type": "TEXT", "text": "a word", "mentions": ["ben"]}
        assert released == [
            {"type": "EDIT", **named, "ends": "WHOLE", "payload": words},
            {"type": "TITLE", "title": "a name"},
            {"type": "STREAM", "text": "a word"},
            {**words, "replyTo": answer},
        ]
        ben.say({"event": "SYNC", "conversationId": "g-1", "lastSeq": ack["seq"] - 1, "limit": 1})
        (page,) = await ben.hear("SYNC_PAGE")
        assert (page["messages"][0].get("stream"), page["messages"][0]["edit"]["payload"]) == (None, words)


async def test_a_rewrite_with_words_keeps_whom_a_message_mentions_and_what_it_answers() -> None:
    async with serving(moderator=ByWord()) as server:
        await group(server, "ann", "ben")
        first = await send(server, "ben", "first", "hello")
        answer = {"messageId": first.message_id, "seq": first.seq}
        said = {"mentions": ["ben"], "replyTo": answer}
        sent = await send(server, "ann", "1", {"type": "TEXT", "text": "I swear", **said})
        assert sent.payload == {"type": "TEXT", "text": "I *****", **said}
        edit = {"type": "EDIT", "messageId": sent.message_id, "seq": sent.seq}
        better = {"type": "TEXT", "text": "swear", "mentions": ["ben"]}
        edited = await send(server, "ann", "2", {**edit, "fallbackText": "swear", "payload": better})
        assert edited.payload == {**edit, "payload": {**better, "text": edited.payload["payload"]["text"]}}
        assert "swear" not in str(edited.payload)


async def test_a_session_that_holds_a_message_goes_on_sending_elsewhere() -> None:
    async with serving(moderator=ByWord()) as server:
        await group(server, "ann", "ben")
        await group(server, "ann", "ben", conversation_id="g-2")
        ann = await login(server, "ann")
        ann.say(text("g-1", "1", "a link"), text("g-2", "2"))
        assert [it["clientMsgId"] for it in await ann.hear("ERROR", "MSG_ACK")] == ["1", "2"]


async def test_what_nobody_reviews_is_refused_in_the_end() -> None:
    config = ModerationConfig(held_s=3600)
    async with serving(moderator=ByWord(), moderation=config) as server:
        await group(server, "ann", "ben")
        with pytest.raises(HeldError):
            await send(server, "ann", "1", "a link")
        await anyio.sleep(3590)
        assert len(await server.held_messages()) == 1
        await anyio.sleep(90)
        assert await server.held_messages() == []
        with pytest.raises(ContentRefusedError, match="nobody reviewed"):
            await send(server, "ann", "1", "a link")


# --- two servers on one log ---


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_decision_on_one_server_reaches_the_sender_on_another(kind: str) -> None:
    async with cluster(kind, moderator=ByWord()) as two:
        a, b = two.nodes
        await group(a, "ann", "ben")
        ann = await login(b, "ann")
        ann.say(text("g-1", "1", "a link"), text("g-1", "2", "a link"))
        await ann.hear("ERROR", "ERROR")
        first, second = await a.held_messages()
        await a.refuse_held(first.held_id, "no links")
        await a.release_held(second.held_id)

        refusal, released = await ann.hear("ERROR", "NEW_MSG")
        assert (refusal["code"], refusal["clientMsgId"]) == ("CONTENT_REFUSED", "1")
        assert (released["clientMsgId"], released["payload"]["text"]) == ("2", "a link")


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_two_servers_that_hear_different_verdicts_give_one_answer(kind: str) -> None:
    verdicts: list[ModeratorVerdict] = [Allow(), Refuse("too late"), Refuse("no"), Allow()]
    waiting = [anyio.Event(), anyio.Event()]

    async def one_after_the_other(submissions: Sequence[Submission]) -> list[ModeratorVerdict]:
        verdict, gate = verdicts.pop(0), waiting[0] if len(verdicts) % 2 else waiting[1]
        await gate.wait()
        return [verdict for _ in submissions]

    async with cluster(kind, moderator=one_after_the_other) as two:
        await group(two.nodes[0], "ann", "ben")
        for key, is_stored in (("1", True), ("2", False)):
            waiting[:] = [anyio.Event(), anyio.Event()]
            answers: list[Any] = []

            async def ask(server: HarnessServer, key: str = key, answers: list[Any] = answers) -> None:
                try:
                    answers.append((await send(server, "ann", key, "hello")).seq)
                except ContentRefusedError as error:
                    answers.append(str(error))

            async with anyio.create_task_group() as tasks:
                for server in two.nodes:
                    tasks.start_soon(ask, server)
                    await anyio.wait_all_tasks_blocked()
                waiting[0].set()
                await anyio.sleep(1)
                waiting[1].set()
            assert answers == ([2, 2] if is_stored else ["no", "no"])


# --- hosts, set-up, instruments ---


async def test_what_the_host_says_itself_is_not_moderated() -> None:
    moderator = ByWord()
    async with serving(moderator=moderator) as server:
        await group(server, "ann", "ben")
        assert (await server.send("g-1", "ann", "rude", client_msg_id="1")).seq == 2
        assert moderator.asked == []
        with pytest.raises(BadRequestError, match="transaction"):
            await server.send("g-1", "ann", "x", client_msg_id="2", connection=object(), moderate=True)


async def test_without_a_moderator_moderate_changes_nothing() -> None:
    async with serving() as server:
        await group(server, "ann", "ben")
        assert (await send(server, "ann", "1", "rude")).seq == 2


async def test_a_moderator_need_not_be_async() -> None:
    def plain(submissions: Sequence[Submission]) -> list[ModeratorVerdict]:
        return [_verdict(it) for it in submissions]

    async with serving(moderator=plain) as server:  # type: ignore[arg-type]
        await group(server, "ann", "ben")
        with pytest.raises(ContentRefusedError):
            await send(server, "ann", "1", "rude")


@pytest.mark.parametrize(
    "wrong",
    [{"timeout_s": 0}, {"on_failure": "maybe"}, {"batch_max": 1.5}, {"held_s": -1}, {"queue_max": 0}],
)
def test_a_wrong_setting_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        ModerationConfig(**wrong)


def test_a_moderator_that_cannot_be_called_is_refused() -> None:
    async def authenticate(token: str) -> Any:
        return None

    with pytest.raises(ConfigurationError, match="moderator"):
        HarnessServer(store=GatedStore(), authenticate=authenticate, moderator="words.txt")


async def test_instruments_hear_of_each_batch(caplog: pytest.LogCaptureFixture) -> None:
    class Counts:
        def __init__(self) -> None:
            self.seen: list[ModeratedBatch] = []

        def on_moderated(self, batch: ModeratedBatch) -> None:
            self.seen.append(batch)

    counts, moderator = Counts(), ByWord()
    async with serving(moderator=moderator, instruments=[counts]) as server:  # type: ignore[list-item]
        await group(server, "ann", "ben")
        ann = await login(server, "ann")
        ann.say(*(text("g-1", word, word) for word in ("fine", "rude", "swear", "link")))
        await ann.hear("MSG_ACK", "ERROR", "MSG_ACK", "ERROR")
        moderator.broken = _raise
        ann.say(text("g-1", "more"))
        await ann.hear("ERROR")

    first, second = counts.seen
    assert [it.kind for it in first.verdicts] == ["ALLOW", "REFUSE", "ALLOW", "HOLD"]
    assert [it.payload is not None for it in first.verdicts] == [False, False, True, False]
    assert (first.failure, second.failure) == (None, "RuntimeError")
    assert [it.kind for it in second.verdicts] == ["UNASKED"]
    caplog.clear()


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        ({"type": "TEXT", "text": "words", "name": "decoy"}, "words"),
        ({"type": "CUSTOM", "schema": "s", "data": 1, "fallbackText": "words", "text": "decoy"}, "words"),
        ({"type": "TEXT", "text": "words", "fallbackText": "decoy"}, "words"),
        ({"type": "STREAM", "text": "", "fallbackText": "words", "name": "decoy"}, "words"),
        ({"type": "STREAM", "text": "some", "fallbackText": "words"}, "some\nwords"),
        ({"type": "FILE", "name": "some", "text": "decoy", "fallbackText": "words"}, "some\nwords"),
        ({"type": "IMAGE", "name": "some.png", "alt": "words", "text": "decoy"}, "some.png\nwords"),
        ({"type": "IMAGE", "text": "decoy"}, ""),
        ({"type": "TITLE", "title": "some", "description": "words"}, "some\nwords"),
        (
            {"type": "EDIT", "fallbackText": "words", "payload": {"type": "TEXT", "text": "some"}},
            "some\nwords",
        ),
        ({"type": "REACTION", "reaction": "words", "text": "decoy"}, "words"),
        ({"type": "EDIT", "text": "decoy", "payload": {"type": "TEXT", "text": "words"}}, "words"),
        ({"type": "EDIT", "payload": {"type": "CUSTOM", "fallbackText": "words", "text": "decoy"}}, "words"),
    ],
)
def test_a_moderator_is_given_the_text_that_members_read(payload: dict[str, Any], shown: str) -> None:
    assert Submission("g-1", "ann", "k", payload, 0).text == shown
