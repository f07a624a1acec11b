"""Bots in virtual time, on a real server without sockets: what users see of them, whatever their handlers do."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Literal, get_args

import anyio
import pytest

from chatkit import (
    Allow,
    ChatApi,
    ChatClient,
    ChatServer,
    ClosedError,
    ConfigurationError,
    ConversationChanged,
    ForbiddenError,
    Hold,
    Identity,
    MemoryConnector,
    MessageRecalled,
    MessageReceived,
    MessageSent,
    ModeratorVerdict,
    Submission,
    open_store,
)
from chatkit.bots import Bot, EventContext, Failure, MessageContext, ProcessDiedError, RetryPolicy
from chatkit.bots.bot import OtherEvent
from chatkit.client.events import ChatEvent
from chatkit.errors import ClientError, ConflictError, StreamEndedError
from chatkit.testing import Conditions, Devices, Network
from chatkit.testing.bot_chat import BotChat, BotChats

CallNext = Callable[[EventContext[Any]], Awaitable[None]]


class HandlerError(Exception):
    """What handlers of these tests raise."""


def echo_bot(**options: Any) -> Bot:
    bot = Bot(**options)

    @bot.on(MessageReceived)
    async def echo(message: MessageContext) -> None:
        await message.reply(f"You said: {message.text}")

    return bot


# --- messages and answers ---


async def test_the_first_bot(chat_bot: BotChats) -> None:
    async with chat_bot(echo_bot()) as ann:
        assert await ann.ask("hello") == "You said: hello"
        assert await ann.ask("hello") == "You said: hello"
        await anyio.sleep(60)
        assert await ann.texts() == ["You said: hello"] * 2


async def test_only_what_others_wrote_is_handed_to_handlers_of_messages(
    chat_server: ChatServer, chat_client: Devices
) -> None:
    bot, seen, members = Bot(), [], []

    @bot.on(MessageReceived)
    async def note(message: MessageContext) -> None:
        seen.append((message.sender_id, message.text))

    @bot.on(MessageReceived, types=["MEMBER"])
    async def greet(message: MessageContext) -> None:
        members.append(message.message.payload["op"])

    @bot.on(MessageReceived, types=["IMAGE"])
    async def look(message: MessageContext) -> None:
        members.append("picture")

    await chat_server.create_conversation("GROUP", "ann", ["bot", "ben"], conversation_id="g")
    async with (
        chat_client("ann") as ann,
        chat_client("bot", "other") as other,
        bot.serving(chat_client("bot")),
    ):
        await ann.send("g", "hello")
        await other.send("g", "from another device of the bot")
        await ann.send("g", {"type": "IMAGE", "url": "https://x.test/a.png", "mime": "image/png", "bytes": 9})
        await anyio.sleep(5)
    assert seen == [("ann", "hello"), ("ann", "")]
    assert members == ["CREATED", "picture"]


async def test_any_event_has_its_handlers_and_all_of_them_run_in_order(
    chat_bot: BotChats,
) -> None:
    bot, seen = echo_bot(), []

    @bot.on(MessageRecalled)
    async def recalled(context: EventContext[MessageRecalled]) -> None:
        seen.append((context.conversation_id, context.event.seq))

    @bot.on(MessageSent)
    async def first(context: EventContext[MessageSent]) -> None:
        seen.append((context.conversation_id, 1))

    @bot.on(MessageSent)
    async def second(context: EventContext[MessageSent]) -> None:
        seen.append((context.conversation_id, 2))

    async with chat_bot(bot) as ann:
        sent = await ann.send("oops")
        await ann.next_text()
        await ann.client.recall(sent.message_id)
        await anyio.sleep(5)
    assert seen == [("c-bot", 1), ("c-bot", 2), ("c-bot", sent.seq)]


async def test_several_answers_and_one_elsewhere_are_each_stored_once(
    chat_server: ChatServer, chat_bot: BotChats, chat_client: Devices
) -> None:
    bot = Bot(retries=RetryPolicy(attempts_max=5))
    await chat_server.create_conversation("SINGLE", "boss", ["bot"], conversation_id="c-boss")

    @bot.on(MessageReceived)
    async def answer(message: MessageContext) -> None:
        await message.mark_read()
        await message.typing()
        await message.reply("one")
        if message.attempt == 1:
            raise HandlerError
        await message.send("c-boss", "somebody asks")
        if message.attempt == 2:
            raise HandlerError
        await message.reply("two")
        await message.reply("bye", key="bye")
        if message.attempt == 3:
            raise HandlerError

    async with chat_bot(bot) as ann:
        await ann.send("hello")
        await anyio.sleep(60)
        assert await ann.texts() == ["one", "two", "bye"]
    async with chat_client("boss") as boss:
        await boss.wait_connected()
        assert [entry.sender_id for entry in await boss.history("c-boss")] == ["boss", "bot"]


async def test_an_answer_in_other_words_leaves_the_first_one(chat_bot: BotChats) -> None:
    bot, returned = Bot(), []

    @bot.on(MessageReceived)
    async def answer(message: MessageContext) -> None:
        returned.append(await message.reply(f"try {message.attempt}"))
        if message.attempt == 1:
            raise HandlerError

    async with chat_bot(bot) as ann:
        await ann.send("hello")
        await anyio.sleep(10)
        assert await ann.texts() == ["try 1"]
    assert returned[0] is not None
    assert returned[1:] == [None]


async def test_two_answers_with_one_key_are_an_error_of_the_handler(chat_bot: BotChats) -> None:
    bot, errors = Bot(), []

    @bot.on(MessageReceived)
    async def answer(message: MessageContext) -> None:
        await message.reply("a", key="k")
        await message.reply("b", key="k")

    @bot.error
    async def note(failure: Failure) -> None:
        errors.append(str(failure.error))

    async with chat_bot(bot) as ann:
        assert await ann.ask("hello") == "a"
        await anyio.sleep(10)
    assert len(errors) == 1, "no retry mends it"
    assert "'k' already" in errors[0]


async def test_answers_wait_for_the_server_without_failing(chat_bot: BotChats, chat_network: Network) -> None:
    bot, failures = echo_bot(), []

    @bot.error
    async def note(failure: Failure) -> None:
        failures.append(failure)

    async with chat_bot(bot) as ann:
        await ann.ask("first")
        sent = await ann.send("second")
        chat_network.conditions = Conditions(refuse_probability=1)
        for line in list(chat_network.lines):
            line.cut()
        await anyio.sleep(3600)
        chat_network.conditions = Conditions()
        await anyio.sleep(60)
        assert (await ann.texts())[-1] == "You said: second"
        assert sent.seq
    assert failures == []


# --- commands ---


def ordering_bot() -> Bot:
    bot = Bot()

    @bot.command("order")
    async def order(
        message: MessageContext, count: int, size: Literal["small", "large"] = "small", *, note: str = ""
    ) -> None:
        """Order some coffee.

        It comes at once.
        """
        await message.reply(f"{count} {size} {note}".strip())

    @bot.command(help="Say how late it is.")
    async def time(message: MessageContext) -> None:
        await message.reply("late")

    return bot


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("/order 3", "3 small"),
        ("/ORDER 3 large no sugar", "3 large no sugar"),
        ("  /order@bot 1", "1 small"),
        ("/time", "late"),
        ("/order", "count is missing.\nUsage: /order <count> [size: small|large] [note...]"),
        (
            "/order two",
            "count must be a whole number, not 'two'.\nUsage: /order <count> [size: small|large] [note...]",
        ),
        ("/time now", "'now' is too much.\nUsage: /time"),
        (
            "/help",
            "/help [command] - List the commands, or explain one.\n"
            "/order <count> [size: small|large] [note...] - Order some coffee.\n"
            "/time - Say how late it is.",
        ),
        (
            "/help order",
            "/order <count> [size: small|large] [note...]\nOrder some coffee.\n\nIt comes at once.\n"
            "count: a whole number\nsize: small|large",
        ),
        ("/help /time", "/time\nSay how late it is."),
        ("/ordre 3", "There is no /ordre. Did you mean /order? /help lists what there is."),
        ("/help nothing", "There is no /nothing. /help lists what there is."),
        ("/xyzzy", "There is no /xyzzy. /help lists what there is."),
    ],
)
async def test_commands_and_what_is_said_of_wrong_ones(chat_bot: BotChats, text: str, answer: str) -> None:
    async with chat_bot(ordering_bot()) as ann:
        assert await ann.ask(text) == answer


@pytest.mark.parametrize(
    "text", ["order 3", "/", "//order", "/ order 3", "/order@else 3", "/?", "x /time", ""]
)
async def test_what_is_no_command_of_this_bot_is_an_ordinary_text(chat_bot: BotChats, text: str) -> None:
    bot = ordering_bot()
    async with chat_bot(bot) as ann:
        await ann.send(text)
        assert await ann.ask("/time") == "late"
        assert await ann.texts() == ["late"]
    bot.on(MessageReceived)(echo)
    async with chat_bot(bot) as ann:
        assert await ann.ask(text) == f"You said: {text}"


async def echo(message: MessageContext) -> None:
    await message.reply(f"You said: {message.text}")


async def test_an_unknown_command_goes_to_who_takes_texts_and_in_groups_to_nobody(
    chat_server: ChatServer, chat_client: Devices
) -> None:
    bot = ordering_bot()
    await chat_server.create_conversation("GROUP", "ann", ["bot"], conversation_id="g")
    async with chat_client("ann") as ann, bot.serving(chat_client("bot")):
        await ann.send("g", "/xyzzy")
        await ann.send("g", "/xyzzy@bot")
        await anyio.sleep(5)
        written = await ann.history("g")
    assert [it.text for it in written if it.sender_id == "bot"] == [
        "There is no /xyzzy. /help lists what there is."
    ]


async def test_who_takes_pictures_alone_takes_no_unknown_command(chat_bot: BotChats) -> None:
    bot = ordering_bot()
    bot.on(MessageReceived, types=["IMAGE"])(echo)
    async with chat_bot(bot) as ann:
        assert await ann.ask("/xyzzy") == "There is no /xyzzy. /help lists what there is."
    bot.on(MessageReceived, types=["TEXT"])(echo)
    async with chat_bot(bot) as ann:
        assert await ann.ask("/xyzzy") == "You said: /xyzzy"


def test_type_checkers_know_every_event_that_on_takes() -> None:
    assert {MessageReceived, *OtherEvent.__constraints__} == set(get_args(ChatEvent))


async def test_another_prefix_and_a_help_of_ones_own(chat_bot: BotChats) -> None:
    bot = Bot(prefix="!")

    @bot.command("ping")
    async def ping(message: MessageContext) -> None:
        await message.reply("pong")

    async with chat_bot(bot) as ann:
        assert await ann.ask("!ping") == "pong"
        assert await ann.ask("!help") == "!help [command] - List the commands, or explain one.\n!ping"


# --- errors ---


async def test_a_handler_that_fails_is_tried_again_and_given_up_and_the_log_says_so(
    chat_bot: BotChats, caplog: pytest.LogCaptureFixture
) -> None:
    bot, tries = Bot(), []

    @bot.on(MessageReceived)
    async def fail(message: MessageContext) -> None:
        tries.append((message.text, message.attempt, anyio.current_time()))
        if message.text == "bad":
            raise HandlerError("the database is away")
        await message.reply("good")

    async with chat_bot(bot) as ann:
        await ann.send("bad")
        assert await ann.ask("next") == "good"
        await anyio.sleep(1)  # it has taken it by then
        await ann.restart()
        await anyio.sleep(60)
    assert [it[:2] for it in tries] == [("bad", 1), ("bad", 2), ("bad", 3), ("next", 1)]
    waits = [later[2] - earlier[2] for earlier, later in itertools.pairwise(tries[:3])]
    assert [round(wait) for wait in waits] == [1, 2]
    logged = [record for record in caplog.records if record.name == "chatkit.bots.retries"]
    assert [record.levelno for record in logged] == [logging.ERROR] * 3
    assert "MessageReceived in c-bot" in logged[0].message
    assert "once more in 1 s" in logged[0].message
    assert "given up" in logged[2].message
    assert "the database is away" in caplog.text


async def test_an_error_handler_hears_of_every_failure_and_may_answer(chat_bot: BotChats) -> None:
    bot, failures = Bot(retries=RetryPolicy(attempts_max=2, wait_s=5)), []

    @bot.on(MessageReceived)
    async def fail(message: MessageContext) -> None:
        raise HandlerError

    @bot.error
    async def sorry(failure: Failure) -> None:
        failures.append((type(failure.error), failure.retry_in_s, failure.given_up))
        if failure.given_up and isinstance(failure.context, MessageContext):
            await failure.context.reply("Sorry, that went wrong.")

    async with chat_bot(bot) as ann:
        assert await ann.ask("hello") == "Sorry, that went wrong."
    assert failures == [(HandlerError, 5.0, False), (HandlerError, None, True)]


async def test_what_the_error_handler_raises_is_logged_with_what_it_was_given(
    chat_bot: BotChats, caplog: pytest.LogCaptureFixture
) -> None:
    bot = echo_bot(retries=RetryPolicy(attempts_max=1))

    @bot.on(MessageReceived)
    async def fail(message: MessageContext) -> None:
        if message.text == "bad":
            raise HandlerError("first")

    @bot.error
    async def worse(failure: Failure) -> None:
        raise LookupError("second")

    async with chat_bot(bot) as ann:
        await ann.ask("bad")
        assert await ann.ask("good") == "You said: good"
    assert "second" in caplog.text
    assert "first" in caplog.text


async def wait_for_a_cancelled_task() -> None:
    task = asyncio.ensure_future(asyncio.sleep(60))
    task.cancel()
    await task


async def use_a_closed_client() -> None:
    other = ChatApi("http://chat.test", token="t")
    await other.aclose()
    await other.conversation("c")


@pytest.mark.parametrize(
    ("fail", "error"), [(wait_for_a_cancelled_task, ClientError), (use_a_closed_client, ClosedError)]
)
async def test_a_handler_that_waits_for_something_cancelled_or_closed_has_failed_and_the_bot_goes_on(
    chat_bot: BotChats, fail: Callable[[], Awaitable[None]], error: type[ClientError]
) -> None:
    bot, failures = Bot(), []

    @bot.on(MessageReceived)
    async def answer(message: MessageContext) -> None:
        if message.text == "bad":
            await fail()
        await message.reply("good")

    @bot.error
    async def note(failure: Failure) -> None:
        failures.append((type(failure.error), failure.given_up))

    async with chat_bot(bot) as ann:
        await ann.send("bad")
        assert await ann.ask("next") == "good"
    assert failures == [(error, False), (error, False), (error, True)]


async def test_what_an_error_handler_waits_for_may_be_cancelled_too(
    chat_bot: BotChats, caplog: pytest.LogCaptureFixture
) -> None:
    bot = Bot(retries=RetryPolicy(attempts_max=1))

    @bot.on(MessageReceived)
    async def answer(message: MessageContext) -> None:
        if message.text == "bad":
            raise HandlerError
        await message.reply("good")

    @bot.error
    async def fail(failure: Failure) -> None:
        await wait_for_a_cancelled_task()

    async with chat_bot(bot) as ann:
        await ann.send("bad")
        assert await ann.ask("next") == "good"
    assert "the error handler of the bot failed" in caplog.text


async def test_a_handler_whose_client_is_closed_has_not_failed_and_takes_nothing(
    chat_server: ChatServer, chat_client: Devices
) -> None:
    bot, attempts, failures = Bot(), [], []

    @bot.on(MessageReceived)
    async def slow(message: MessageContext) -> None:
        attempts.append(message.attempt)
        await anyio.sleep(2)
        await message.reply("done")

    @bot.error
    async def note(failure: Failure) -> None:
        failures.append(failure)

    await chat_server.create_conversation("SINGLE", "ann", ["bot"], conversation_id="c")
    async with chat_client("ann") as ann:
        await ann.send("c", "hello")
        with pytest.raises(ClosedError):  # noqa: PT012 -- the end of `async with` raises it
            async with bot.serving(chat_client("bot")) as chat:
                await anyio.sleep(1)
                await chat.aclose()
                await anyio.sleep(60)
                pytest.fail("the body goes on")
        async with bot.serving(chat_client("bot")):
            await anyio.sleep(60)
    assert (attempts, failures) == ([1, 2], [])


async def test_a_refusal_that_no_retry_mends_is_given_up_at_once(chat_bot: BotChats) -> None:
    bot, failures = Bot(), []

    @bot.on(MessageReceived)
    async def fail(message: MessageContext) -> None:
        if message.text == "large":
            await message.reply("x" * 100_000)
        raise ForbiddenError("no")

    @bot.error
    async def note(failure: Failure) -> None:
        failures.append((failure.error.__class__.__name__, failure.given_up))

    async with chat_bot(bot) as ann:
        await ann.send("hello")
        await ann.send("large")
        await anyio.sleep(10)
    assert failures == [("ForbiddenError", True), ("TooLargeError", True)]


async def test_what_comes_at_most_once_is_not_tried_again(chat_bot: BotChats) -> None:
    bot, failures = echo_bot(), []

    @bot.on(MessageSent)
    async def fail(context: EventContext[MessageSent]) -> None:
        raise HandlerError

    @bot.error
    async def note(failure: Failure) -> None:
        failures.append(failure.given_up)

    async with chat_bot(bot) as ann:
        await ann.ask("hello")
        await anyio.sleep(10)
    assert failures == [True]


async def test_a_message_that_no_process_survives_is_given_up_in_the_end(chat_bot: BotChats) -> None:
    bot, tries, failures = Bot(retries=RetryPolicy(restarts_max=3)), [], []

    @bot.on(MessageReceived)
    async def die(message: MessageContext) -> None:
        tries.append(message.text)
        if message.text == "deadly":
            await anyio.sleep_forever()
        await message.reply("alive")

    @bot.error
    async def note(failure: Failure) -> None:
        failures.append((type(failure.error), failure.given_up))

    async with chat_bot(bot) as ann:
        await ann.send("deadly")
        for _ in range(4):
            await anyio.sleep(5)
            await ann.restart()
        assert await ann.ask("next") == "alive"
    assert tries == ["deadly"] * 4 + ["next"]
    assert failures == [(ProcessDiedError, True)]


async def test_whoever_failed_as_often_as_it_may_before_a_restart_is_called_after_it(
    chat_bot: BotChats,
) -> None:
    bot, attempts = Bot(retries=RetryPolicy(attempts_max=3, restarts_max=3)), []

    @bot.on(MessageReceived)
    async def answer(message: MessageContext) -> None:
        attempts.append(message.attempt)
        if message.attempt < 3:
            raise HandlerError
        if message.attempt == 3:
            await anyio.sleep_forever()
        await message.reply("good")

    async with chat_bot(bot) as ann:
        await ann.send("hello")
        await anyio.sleep(10)
        await ann.restart()
        assert await ann.next_text() == "good"
    assert attempts == [1, 2, 3, 4]


# --- order and concurrency ---


async def test_conversations_are_served_at_once_each_in_order(
    chat_server: ChatServer, chat_client: Devices
) -> None:
    bot, begun, at_once = Bot(concurrency=3), [], []
    busy = 0

    @bot.on(MessageReceived)
    async def slow(message: MessageContext) -> None:
        nonlocal busy
        busy += 1
        at_once.append(busy)
        begun.append((message.conversation_id, message.text))
        await anyio.sleep(1)
        busy -= 1

    users = ("ann", "ben", "cem", "dia")
    for user in users:
        await chat_server.create_conversation("SINGLE", user, ["bot"], conversation_id=f"c-{user}")
    async with bot.serving(chat_client("bot")):
        await anyio.sleep(1)
        for number in range(3):
            for user in users:
                await chat_server.send(
                    f"c-{user}", user, {"type": "TEXT", "text": str(number)}, client_msg_id=str(number)
                )
        await anyio.sleep(6)
    assert max(at_once) == 3
    assert {user: [text for id_, text in begun if id_ == f"c-{user}"] for user in users} == {
        user: ["0", "1", "2"] for user in users
    }


# --- middlewares ---


async def test_middlewares_stand_around_every_handler_and_may_keep_it_back(chat_bot: BotChats) -> None:
    bot, seen = ordering_bot(), []

    @bot.middleware
    async def outer(context: EventContext[Any], call_next: CallNext) -> None:
        if isinstance(context, MessageContext):
            seen.append(f"> {context.text}")
        await call_next(context)
        if isinstance(context, MessageContext):
            seen.append(f"< {context.text}")

    @bot.middleware
    async def allow(context: EventContext[Any], call_next: CallNext) -> None:
        if isinstance(context, MessageContext) and "secret" in context.text:
            return await context.reply("not allowed") and None
        return await call_next(context)

    async with chat_bot(bot) as ann:
        assert await ann.ask("/order 1 small secret") == "not allowed"
        assert await ann.ask("/time") == "late"
        await anyio.sleep(1)  # it has returned by then
    assert [it for it in seen if it != "> " and it != "< "] == [
        "> /order 1 small secret",
        "< /order 1 small secret",
        "> /time",
        "< /time",
    ]


# --- state ---


async def test_state_is_kept_for_each_conversation_across_restarts(chat_bot: BotChats) -> None:
    bot = Bot()

    @bot.on(MessageReceived)
    async def count(message: MessageContext) -> None:
        message.state["count"] = message.state.get("count", 0) + 1
        message.state.setdefault("words", []).append(message.text)
        if message.text == "flaky" and message.attempt < 3:
            raise HandlerError
        await message.reply(f"{message.state['count']}: {' '.join(message.state['words'])}")

    @bot.command("forget")
    async def forget(message: MessageContext) -> None:
        message.state.clear()
        await message.reply("forgotten")

    async with chat_bot(bot) as ann:
        assert await ann.ask("one") == "1: one"
        assert await ann.ask("flaky") == "2: one flaky"
        await ann.restart()
        assert await ann.ask("three") == "3: one flaky three"
        await ann.ask("/forget")
        assert await ann.ask("again") == "1: again"


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("x" * 20_000, "TooLargeError"),
        (object(), "BadRequestError"),
        ("\ud800", "BadRequestError"),
    ],
)
async def test_a_state_that_cannot_be_kept_is_given_up_and_changes_nothing(
    chat_bot: BotChats, value: Any, error: str
) -> None:
    bot, errors = Bot(), []

    @bot.on(MessageReceived)
    async def keep(message: MessageContext) -> None:
        if message.text == "bad":
            message.state["value"] = value
        else:
            await message.reply(str(message.state))

    @bot.error
    async def note(failure: Failure) -> None:
        errors.append(type(failure.error).__name__)

    async with chat_bot(bot) as ann:
        await ann.send("bad")
        assert await ann.ask("how is it?") == "{}"
    assert errors == [error]


async def test_events_that_come_once_can_read_state_and_not_change_it(chat_bot: BotChats) -> None:
    bot, seen, errors = Bot(), [], []

    @bot.on(MessageReceived)
    async def keep(message: MessageContext) -> None:
        message.state["n"] = 1
        await message.reply("kept")

    @bot.on(MessageSent)
    async def look(context: EventContext[MessageSent]) -> None:
        seen.append(dict(context.state))
        context.state["n"] = 2

    @bot.error
    async def note(failure: Failure) -> None:
        errors.append(type(failure.error).__name__)

    async with chat_bot(bot) as ann:
        await ann.ask("one")
        await anyio.sleep(5)
        await ann.ask("two")
        await anyio.sleep(5)
    assert seen == [{}, {"n": 1}] or seen == [{"n": 1}, {"n": 1}]
    assert errors == ["ConfigurationError"] * 2


# --- how it ends ---


async def test_stop_lets_handlers_end_and_the_rest_comes_at_the_next_start(chat_bot: BotChats) -> None:
    bot, handled = Bot(), []

    @bot.on(MessageReceived)
    async def slow(message: MessageContext) -> None:
        await anyio.sleep(5)
        handled.append((message.text, message.attempt))

    async with chat_bot(bot) as ann:
        await ann.send("one")
        await ann.send("two")
        await anyio.sleep(1)
        bot.stop()
        await anyio.sleep(20)
        assert handled == [("one", 1)]
    async with chat_bot(bot) as ann:
        await anyio.sleep(20)
    assert handled == [("one", 1), ("two", 1)]


@pytest.mark.parametrize("stops", [1, 2])
async def test_a_handler_that_does_not_end_in_time_is_cancelled_and_comes_again(
    chat_bot: BotChats, stops: int
) -> None:
    bot, begun = Bot(grace_s=10), []

    @bot.on(MessageReceived)
    async def slow(message: MessageContext) -> None:
        begun.append(message.attempt)
        await anyio.sleep(1000 if message.attempt == 1 else 0)

    async with chat_bot(bot) as ann:
        await ann.send("one")
        await anyio.sleep(1)
        for _ in range(stops):
            bot.stop()
        await anyio.sleep(20 if stops == 1 else 1)
    async with chat_bot(bot):
        await anyio.sleep(20)
    assert begun == [1, 2]


async def test_an_answer_grows_and_is_given_once(chat_bot: BotChats) -> None:
    bot, tries = Bot(), []

    async def words(failing: bool) -> AsyncIterator[str]:
        yield "one "
        await anyio.sleep(1)
        if failing:
            raise HandlerError("the model is away")
        yield "two"

    @bot.on(MessageReceived)
    async def answer(message: MessageContext) -> None:
        tries.append(message.attempt)
        assert await message.stream(words(failing=message.attempt == 1)) is not None

    async with chat_bot(bot) as ann:
        assert await ann.ask("go on") == "one "
        await anyio.sleep(10)
        (message,) = [it for it in await ann.client.history("c-bot") if it.type == "STREAM"]
        assert (message.text, message.is_cut_off) == ("one two", False)
        assert await ann.texts() != []
    assert tries == [1, 2]


async def test_an_error_of_the_source_is_raised_whatever_it_is(chat_bot: BotChats) -> None:
    """Also where it is one that an answer given before would raise; and the message is cut off."""
    bot, raised, closed = Bot(), [], []

    async def words() -> AsyncIterator[str]:
        try:
            yield "half"
            await anyio.sleep(1)
            raise ConflictError("the group that the model made exists already")
        finally:
            closed.append(True)

    @bot.on(MessageReceived)
    async def answer(message: MessageContext) -> None:
        try:
            await message.stream(words())
        except ConflictError as error:
            raised.append(str(error))

    async with chat_bot(bot) as ann:
        assert await ann.ask("go on") == "half"
        await anyio.sleep(10)
        (message,) = [it for it in await ann.client.history("c-bot") if it.type == "STREAM"]
        assert (message.text, message.is_cut_off) == ("half", True)
    assert (raised, closed) == (["the group that the model made exists already"], [True])


class Model:
    """A source that never ends by itself; before its second text it does something else."""

    def __init__(self, meanwhile: Callable[[], Awaitable[object]]) -> None:
        self._meanwhile = meanwhile
        self.given = 0
        self.closed = False

    def __aiter__(self) -> Model:
        return self

    async def __anext__(self) -> str:
        if self.given == 1:
            await self._meanwhile()
        self.given += 1
        await anyio.sleep(1)
        return "more "

    async def aclose(self) -> None:
        self.closed = True


async def test_a_model_does_not_go_on_for_nobody(chat_bot: BotChats) -> None:
    """Neither where the answer was recalled, nor where an earlier try gave another one."""
    bot, models = Bot(), []

    @bot.on(MessageReceived)
    async def answer(message: MessageContext) -> None:
        async def recall() -> None:
            history = await message.client.history("c-bot")
            (mine,) = [it for it in history if it.type == "STREAM"]
            await message.client.recall(mine.message_id)

        models.append(Model(recall))
        if message.text == "again":
            key = f"re-{message.message.message_id}-k"
            await message.client.send(message.conversation_id, "first", client_msg_id=key)
            assert await message.stream(models[-1], key="k") is None
        else:
            with pytest.raises(StreamEndedError):
                await message.stream(models[-1])

    async with chat_bot(bot) as ann:
        for text in ("go on", "again"):
            await ann.send(text)
            await anyio.sleep(60)
    assert [(it.given > 0, it.closed) for it in models] == [(True, True), (False, True)]


async def test_a_handler_may_stop_its_bot(chat_server: ChatServer, chat_client: Devices) -> None:
    bot = Bot()

    @bot.command("quit")
    async def quit(message: MessageContext) -> None:
        await message.reply("bye")
        bot.stop()

    await chat_server.create_conversation("SINGLE", "ann", ["bot"], conversation_id="c")
    async with chat_client("ann") as ann:
        await ann.send("c", "/quit")
        await bot.serve(chat_client("bot"))
        await anyio.sleep(1)
        assert (await ann.history("c"))[-1].text == "bye"


async def test_a_bot_that_is_banned_ends_with_the_reason_and_takes_nothing_more(
    chat_server: ChatServer, chat_client: Devices
) -> None:
    bot = echo_bot()
    await chat_server.create_conversation("SINGLE", "ann", ["bot"], conversation_id="c")
    with pytest.raises(ClosedError):  # noqa: PT012 -- the end of `async with` raises it
        async with bot.serving(chat_client("bot")) as chat:
            await chat.wait_connected()
            await chat_server.ban("bot")
            await anyio.sleep(60)
            pytest.fail("the body goes on")


async def test_a_test_of_a_bot_fails_as_it_is_and_a_bot_that_ends_says_why(
    chat_server: ChatServer, chat_bot: BotChats
) -> None:
    with pytest.raises(AssertionError, match="not this"):
        async with chat_bot(echo_bot()) as ann:
            assert await ann.ask("hello") == "not this"
    with pytest.raises(ClosedError):  # noqa: PT012 -- the end of `async with` raises it
        async with chat_bot(echo_bot()) as ann:
            await ann.ask("hello")
            await chat_server.ban("bot")
            await anyio.sleep(5)
    with pytest.raises(TimeoutError, match="not answered within 60 s"):
        async with chat_bot(Bot(), bot_id="other", conversation_id="c-other") as ann:
            await ann.ask("hello")


async def test_an_answer_that_a_moderator_keeps_is_no_error() -> None:
    bot, returned = Bot(), []

    @bot.on(MessageReceived)
    async def answer(message: MessageContext) -> None:
        returned.append(await message.reply("hello"))

    async def moderate(batch: Sequence[Submission]) -> list[ModeratorVerdict]:
        return [Hold("looks odd") if it.sender_id == "bot" else Allow() for it in batch]

    async def by_name(token: str) -> Identity:
        return Identity(token)

    async with ChatServer(store=open_store("memory://"), authenticate=by_name, moderator=moderate) as server:
        way = MemoryConnector(server)
        await server.create_conversation("SINGLE", "ann", ["bot"], conversation_id="c")
        own = ChatClient("ws://x", token="bot", device_id="d", connector=way)
        async with bot.serving(own), ChatClient("ws://x", token="ann", device_id="d", connector=way) as ann:
            await ann.send("c", "hello")
            with anyio.move_on_after(60):
                while not returned:
                    await anyio.sleep(1)
            assert own.pending_count == 1, "it waits for the review"
    assert returned == [None]


async def test_an_error_beside_the_bot_is_raised_as_it_is(chat_client: Devices) -> None:
    with pytest.raises(HandlerError):
        async with echo_bot().serving(chat_client("bot")):
            raise HandlerError


async def test_without_a_server_it_waits_says_so_and_can_be_stopped(
    chat_client: Devices, chat_network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    bot = echo_bot()
    chat_network.conditions = Conditions(refuse_probability=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bot.serve, chat_client("bot"))
        await anyio.sleep(5000)
        bot.stop()
    assert "no connection, trying again" in caplog.text


# --- wrong set-ups ---


def test_what_can_never_work_is_refused_by_name() -> None:
    bot = Bot()
    bot.command("ping")(echo)

    def plain(message: MessageContext) -> None: ...

    async def generator(message: MessageContext) -> Any:
        yield

    for use in (
        lambda: bot.on(MessageReceived)(plain),
        lambda: bot.on(MessageReceived)(generator),
        lambda: bot.command("x")(plain),
        lambda: bot.middleware(plain),
        lambda: bot.error(plain),
        lambda: bot.on(MessageReceived)(7),
    ):
        with pytest.raises(ConfigurationError, match="must be `async def`"):
            use()  # type: ignore[no-untyped-call]
    for name in ("", "two words", "a/b", "x" * 33, 7):
        with pytest.raises(ConfigurationError, match="name"):
            bot.command(name)(echo)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="already"):
        bot.command("PING")(echo)
    with pytest.raises(ConfigurationError, match="parentheses"):
        bot.command(echo)  # type: ignore[arg-type]
    for event in (MessageContext, "MessageReceived", None, MessageReceived | ConversationChanged):
        with pytest.raises(ConfigurationError, match="kind of event"):
            bot.on(event)  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="types"):
        bot.on(ConversationChanged, types=["TEXT"])  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="types"):
        bot.on(MessageReceived, types="TEXT")


@pytest.mark.parametrize(
    "options",
    [
        {"prefix": ""},
        {"prefix": " "},
        {"prefix": "a b"},
        {"prefix": "x" * 9},
        {"prefix": None},
        {"concurrency": 0},
        {"concurrency": 1001},
        {"concurrency": 1.5},
        {"grace_s": -1},
        {"grace_s": float("inf")},
        {"retries": 3},
    ],
)
def test_a_bot_with_wrong_options_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Bot(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"attempts_max": 0},
        {"restarts_max": 0},
        {"attempts_max": 21},
        {"restarts_max": 2},
        {"wait_s": -1},
        {"wait_max_s": float("nan")},
        {"wait_s": 31.0},
    ],
)
def test_a_policy_with_wrong_values_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"attempts_max|restarts_max|wait_s|wait_max_s"):
        RetryPolicy(**options)


async def test_it_takes_a_client_and_nothing_else() -> None:
    for client in ("ws://127.0.0.1:8080", 7):
        with pytest.raises(ConfigurationError, match="client"):
            await Bot().serve(client)  # type: ignore[arg-type]


# --- what is no message, and streams of others ---


async def test_pins_and_titles_are_for_handlers_that_name_them(
    chat_server: ChatServer, chat_client: Devices
) -> None:
    bot, named = echo_bot(), []

    @bot.on(MessageReceived, types=["MEMBER", "PINNED", "TITLE"])
    async def note(message: MessageContext) -> None:
        named.append(message.message.type)

    await chat_server.create_conversation("GROUP", "ann", ["bot"], conversation_id="g")
    async with chat_client("ann") as ann, bot.serving(chat_client("bot")):
        sent = await ann.send("g", "hello")
        await ann.pin(sent)
        await ann.pin(sent, pinned=False)
        await ann.send("g", {"type": "TITLE", "title": "Coffee"})
        await anyio.sleep(5)
        written = [it.text for it in await ann.history("g") if it.sender_id == "bot"]
    assert written == ["You said: hello"]
    assert named == ["MEMBER", "PINNED", "PINNED", "TITLE"]


async def break_off(chat: ChatClient, text: str) -> None:
    """Stream a text, and fail over it."""
    with contextlib.suppress(HandlerError):
        async with chat.stream("c-bot", text):
            raise HandlerError


async def test_a_streamed_message_is_handed_over_once_when_it_has_ended() -> None:
    bot, seen = Bot(), []

    @bot.middleware
    async def watch(context: EventContext[Any], call_next: CallNext) -> None:
        seen.append(type(context.event).__name__)
        await call_next(context)

    @bot.on(MessageReceived)
    async def echo(message: MessageContext) -> None:
        await message.reply(f"You said: {message.text}, cut off: {message.message.is_cut_off}")

    @bot.on(MessageReceived, types=["STREAM"])
    async def streams(message: MessageContext) -> None:
        seen.append(message.message.type)

    @bot.command()
    async def order(message: MessageContext, count: int) -> None:
        await message.reply(f"{count} coffees")

    async def by_name(token: str) -> Identity:
        return Identity(token)

    async with ChatServer(store=open_store("memory://"), authenticate=by_name) as server:
        line = MemoryConnector(server)

        def device(user_id: str) -> ChatClient:
            return ChatClient("ws://x", token=user_id, device_id="d", connector=line)

        async with BotChats(server, device)(bot) as ann:  # type: ignore[arg-type]
            await streamed(ann, seen)


async def streamed(ann: BotChat, seen: list[str]) -> None:
    chat = ann.client
    await anyio.sleep(1)
    seen.clear()
    async with chat.stream("c-bot") as stream:
        await stream.write("one ")
        await anyio.sleep(5)
        assert await ann.texts() == []
        await stream.write("two")
    assert await ann.next_text() == "You said: one two, cut off: False"
    await anyio.sleep(1)
    assert [it for it in seen if it in ("MessageReceived", "MessageEdited", "STREAM")] == [
        "MessageReceived",
        "STREAM",
    ]
    async with chat.stream("c-bot", "/order ") as stream:
        await stream.write("3")
    assert await ann.next_text() == "3 coffees"
    await break_off(chat, "/order 3")
    assert await ann.next_text() == "You said: /order 3, cut off: True"
    async with chat.stream("c-bot", "gone") as stream:
        await chat.recall(stream.sent.message_id)
        with pytest.raises(StreamEndedError) as ended:
            await stream.end()
    assert ended.value.reason == "RECALLED"
    await anyio.sleep(5)
    assert len(await ann.texts()) == 3


async def test_texts_of_a_bot_are_its_messages_as_they_read_now(chat_bot: BotChats) -> None:
    """Not its edits, reactions and pins, nor what it recalled; of what grows the whole."""
    bot = Bot()

    async def words() -> AsyncIterator[str]:
        yield "one "
        await anyio.sleep(1)
        yield "two"

    @bot.on(MessageReceived)
    async def answer(message: MessageContext) -> None:
        chat, room = message.client, message.conversation_id
        await chat.react(message.message, "👍")
        wrong = await message.reply("typo")
        assert wrong is not None
        await chat.edit(wrong, "right")
        await chat.pin(wrong)
        gone = await message.send(room, "gone")
        assert gone is not None
        await chat.recall(gone.message_id)
        await message.stream(words())

    async with chat_bot(bot) as ann:
        await ann.send("go on")
        await anyio.sleep(20)
        assert await ann.texts() == ["right", "one two"]
        assert [await ann.next_text() for _ in range(2)] == ["right", "one two"]


async def test_answers_come_in_the_order_of_the_log_each_once_it_has_ended(chat_bot: BotChats) -> None:
    bot = Bot()

    async def words(*of: str) -> AsyncIterator[str]:
        for word in of:
            await anyio.sleep(1)
            yield word

    async def later(message: MessageContext) -> None:
        await anyio.sleep(1.5)
        await message.reply("note", key="note")

    @bot.on(MessageReceived)
    async def answer(message: MessageContext) -> None:
        async with anyio.create_task_group() as beside:
            beside.start_soon(later, message)
            await message.stream(words("one ", "two ", "three"))

    @bot.command()
    async def forget(message: MessageContext) -> None:
        async with message.client.stream(message.conversation_id, "gone") as stream:
            await later(message)
            await message.client.recall(stream.sent.message_id)

    async with chat_bot(bot) as ann:
        assert await ann.ask("hello") == "one two three"
        assert await ann.next_text() == "note"
        assert await ann.ask("again") == "one two three"
        assert await ann.ask("/forget") == "note"
        assert await ann.texts() == ["one two three", "note"] * 2 + ["note"]
