"""Streamed messages in the SDK: written over bad lines, watched, recalled, and watched again after a cut."""

from __future__ import annotations

from typing import Any
from unittest.mock import ANY

import anyio
import pytest
from msgspec.structs import replace

from chatkit import (
    ChatClient,
    ConversationChanged,
    EpochChanged,
    MessageEdited,
    MessageRecalled,
    MessageReceived,
    StreamEndedError,
    StreamGrew,
)
from chatkit.client.events import ChatEvent
from chatkit.client.open_streams import OPEN_MAX, OpenStreams
from chatkit.client.requests import Requests
from chatkit.errors import (
    BadRequestError,
    ClientError,
    PartOutOfOrderError,
    SendCancelledError,
    SendOutcomeUnknownError,
    TooLargeError,
)
from chatkit.server.server import ChatServer
from chatkit.testing.devices import Devices
from chatkit.testing.network import Conditions, Network
from chatkit.types import Edit, Marks, Message, StreamProgress
from chatkit.wire import events as ev
from chatkit.wire.events import STREAM_BYTES_MAX, STREAM_PARTS_MAX

SOON_S = 200.0


@pytest.fixture
def anyio_backend(chat_virtual: Any) -> Any:
    return chat_virtual


@pytest.fixture
async def group(chat_server: ChatServer) -> str:
    made = await chat_server.create_conversation("GROUP", "ann", ["ben"], conversation_id="g")
    return made.conversation_id


async def grown_to(chat: ChatClient, text: str) -> list[str]:
    """What a reader was told, until it is this text."""
    told: list[str] = []
    with anyio.fail_after(SOON_S):
        async for event in chat.events():
            if isinstance(event, StreamGrew):
                told.append(event.text)
                if event.text == text:
                    return told
    raise AssertionError(told)


async def end_of(chat: ChatClient) -> Edit:
    with anyio.fail_after(SOON_S):
        async for event in chat.events():
            if isinstance(event, MessageEdited):
                return event.edit
    raise AssertionError("no end came")


async def last(chat: ChatClient) -> Message:
    """The streamed message as a reader's history shows it."""
    return next(it for it in reversed(await chat.history("g")) if it.type in ("STREAM", "RECALLED"))


def cut(network: Network, user_id: str) -> None:
    for line in list(network.lines):
        if line.user_id == user_id:
            line.cut()


async def test_a_reader_sees_it_grow_and_then_whole(chat_client: Devices, group: str) -> None:
    async with chat_client("ann") as ann, chat_client("ben") as ben:
        await ben.wait_connected()
        async with ann.stream(group, "To") as stream:
            await stream.write(" be")
            assert await grown_to(ben, "To be") == ["To be"]
            await anyio.sleep(1)
            for chat in (ann, ben):
                (row,) = await chat.conversations()
                assert row.last_message is not None
                assert (row.last_message.text, row.last_message.is_open) == ("To be", True)
            message = await last(ben)
            assert (message.text, message.is_open, message.content["type"]) == ("To be", True, "STREAM")
            await anyio.sleep(1)
            assert (await last(ann)).text == "To be"
            await stream.write(" or")
            await stream.write(" not")
            told = await grown_to(ben, "To be or not")
            assert all("To be or not".startswith(it) for it in told)
        edit = await end_of(ben)
        assert (edit.ends, edit.payload) == ("WHOLE", {"type": "TEXT", "text": "To be or not"})
        message = await last(ben)
        assert (message.text, message.is_open, message.is_cut_off) == ("To be or not", False, False)
        assert stream.text == "To be or not"


async def test_what_is_written_while_a_part_is_under_way_is_joined(chat_client: Devices, group: str) -> None:
    async with chat_client("ann") as ann, chat_client("ben") as ben:
        await ben.wait_connected()
        async with ann.stream(group) as stream:
            words = [f"{number} " for number in range(500)]
            for word in words:
                await stream.write(word)
            await grown_to(ben, "".join(words))
            assert stream.acked_parts < 20


@pytest.mark.parametrize("gap_s", [0.0, 0.005, 0.03, 0.2])
async def test_whoever_writes_needs_no_sign_of_life(
    chat_client: Devices, group: str, monkeypatch: pytest.MonkeyPatch, gap_s: float
) -> None:
    """Part 0 is for a silence: a write while a part is under way is no reason for one."""
    parts: list[int] = []
    ask = Requests.ask

    async def noted(self: Requests, event: Any, timeout_s: float) -> Any:
        if isinstance(event, ev.StreamPartCommand):
            parts.append(event.part)
        return await ask(self, event, timeout_s)

    monkeypatch.setattr(Requests, "ask", noted)
    async with chat_client("ann") as ann, ann.stream(group) as stream:
        for number in range(50):
            await stream.write(f"{number} ")
            await anyio.sleep(gap_s)
        await anyio.sleep(1)
        assert parts == list(range(1, len(parts) + 1))
        await anyio.sleep(60)
        assert parts[-3:] == [0, 0, 0]


async def test_a_part_out_of_order_says_which_one_is_missing(chat_client: Devices, group: str) -> None:
    async with chat_client("ann") as ann, ann.stream(group) as stream:
        part = ev.StreamPartCommand(group, stream.sent.message_id, 3, "c")
        await stream._requests.ask(replace(part, part=1), 5)
        with pytest.raises(PartOutOfOrderError) as raised:
            await stream._requests.ask(part, 5)
        assert raised.value.expected_part == 2


async def test_a_cut_loses_nothing_on_either_side(
    chat_client: Devices, chat_network: Network, group: str
) -> None:
    async with chat_client("ann") as ann, chat_client("ben") as ben:
        await ben.wait_connected()
        written = ""
        async with ann.stream(group) as stream:
            for number in range(12):
                written += f"{number},"
                await stream.write(f"{number},")
                if number % 3 == 0:
                    cut(chat_network, "ann")
                if number % 4 == 1:
                    cut(chat_network, "ben")
                await anyio.sleep(3)
            told = await grown_to(ben, written)
            assert told == sorted(told, key=len), "it never shrinks"
            assert all(written.startswith(it) for it in told)
        assert (await end_of(ben)).payload == {"type": "TEXT", "text": written}


async def test_write_waits_while_too_much_is_held(
    chat_client: Devices, chat_network: Network, group: str
) -> None:
    async with chat_client("ann") as ann:
        async with ann.stream(group) as stream:
            cut(chat_network, "ann")
            chat_network.conditions = Conditions(refuse_probability=1.0)
            await stream.write("x" * 8_000)
            with anyio.move_on_after(30) as waited:
                await stream.write("y" * 8_000)
            assert waited.cancelled_caught
            chat_network.conditions = Conditions()
            await stream.write("z")
        assert stream.text == "x" * 8_000 + "y" * 8_000 + "z"
        assert (await last(ann)).text == stream.text


async def test_an_error_in_the_block_ends_it_as_cut_off(chat_client: Devices, group: str) -> None:
    async with chat_client("ann") as ann, chat_client("ben") as ben:
        await ben.wait_connected()

        async def fail() -> None:
            async with ann.stream(group) as stream:
                await stream.write("half")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        edit = await end_of(ben)
        assert (edit.ends, edit.payload) == ("CUT_OFF", {"type": "TEXT", "text": "half"})
        assert (await last(ben)).is_cut_off


async def test_a_recall_ends_it_for_the_author_too(chat_client: Devices, group: str) -> None:
    async with chat_client("ann") as ann, chat_client("ben") as ben:
        await ben.wait_connected()

        async def recalled() -> None:
            async with ann.stream(group) as stream:
                await stream.write("secret")
                await grown_to(ben, "secret")
                await ann.recall(stream.sent.message_id)
                for _ in range(10):
                    await stream.write("more")
                    await anyio.sleep(1)

        with pytest.raises(StreamEndedError):
            await recalled()
        with anyio.fail_after(SOON_S):
            async for event in ben.events():
                if isinstance(event, MessageRecalled):
                    break
        assert (await last(ben)).text == ""


async def test_who_was_cut_off_still_brings_the_whole(
    chat_client: Devices, chat_network: Network, group: str
) -> None:
    async with chat_client("ann") as ann, chat_client("ben") as ben:
        await ben.wait_connected()
        async with ann.stream(group) as stream:
            await stream.write("a")
            await grown_to(ben, "a")
            cut(chat_network, "ann")
            chat_network.conditions = Conditions(refuse_probability=1.0)
            await anyio.sleep(100)
            chat_network.conditions = Conditions()
            await stream.write("b")
            edit = await end_of(ben)
            assert (edit.ends, edit.payload) == ("CUT_OFF", {"type": "TEXT", "text": "a"})
        edit = await end_of(ben)
        assert (edit.ends, edit.payload) == ("WHOLE", {"type": "TEXT", "text": "ab"})


async def test_a_slow_author_is_not_cut_off(chat_client: Devices, group: str) -> None:
    async with chat_client("ann") as ann, chat_client("ben") as ben:
        async with ann.stream(group) as stream:
            await stream.write("thinking")
            await anyio.sleep(600)
            await stream.write(", done")
        assert (await end_of(ben)).payload == {"type": "TEXT", "text": "thinking, done"}
        assert (await last(ben)).text == "thinking, done"


async def test_an_author_without_parts_is_not_cut_off_either(chat_client: Devices, group: str) -> None:
    """What is too much for parts comes with the end, and the author is heard of until then."""
    async with chat_client("ann") as ann, chat_client("ben") as ben:
        async with ann.stream(group) as stream:
            stream.acked_parts = STREAM_PARTS_MAX  # as after so many
            stream._requests = _Refusing(stream._requests)  # type: ignore[assignment]
            await stream.write("much")
            await anyio.sleep(600)
            assert (await last(ben)).is_open
        assert (await end_of(ben)).payload == {"type": "TEXT", "text": "much"}


@pytest.mark.parametrize("wrong", [{"type": "CUSTOM", "data": {}}, {"type": "TEXT", "text": "x" * 70_000}])
async def test_an_end_that_is_refused_changes_nothing(
    chat_client: Devices, group: str, wrong: dict[str, Any]
) -> None:
    """Nothing of it was queued: the stream goes on, and one that is left ends with all that was written."""
    async with chat_client("ann") as ann, chat_client("ben") as ben:
        await ben.wait_connected()

        async def end() -> None:
            async with ann.stream(group) as stream:
                await stream.write("one")
                await grown_to(ben, "one")
                await stream.write(" two")
                with pytest.raises((BadRequestError, TooLargeError)):
                    await stream.end(wrong)
                await stream.write(" three")
                await grown_to(ben, "one two three")
                await stream.end(wrong)

        with pytest.raises((BadRequestError, TooLargeError)):
            await end()
        with anyio.fail_after(5):
            assert await end_of(ben) == Edit(3, ANY, {"type": "TEXT", "text": "one two three"}, "CUT_OFF")


async def test_an_end_without_an_answer_is_asked_for_again(
    chat_client: Devices, chat_network: Network, group: str
) -> None:
    async with chat_client("ann") as ann:
        async with ann.stream(group, timeout=5) as stream:
            cut(chat_network, "ann")
            chat_network.conditions = Conditions(refuse_probability=1.0)
            with pytest.raises(SendOutcomeUnknownError):
                await stream.end("other")
            with pytest.raises(ClientError):
                await stream.write("more")
        chat_network.conditions = Conditions()
        await ann.wait_connected()
        assert (await stream.end()).seq == 3
        assert (await last(ann)).text == "other"


async def test_what_was_left_takes_nothing_more(chat_client: Devices, group: str) -> None:
    async with chat_client("ann") as ann:

        async def fail() -> None:
            async with stream:
                raise ZeroDivisionError

        stream = ann.stream(group)
        with pytest.raises(ZeroDivisionError):
            await fail()
        for refused in (lambda: stream.write("more"), stream.end, stream.__aenter__):
            with pytest.raises(ClientError):
                await refused()
        assert stream.text == ""


async def test_a_beginning_that_never_left_is_taken_back(
    chat_client: Devices, chat_network: Network, group: str
) -> None:
    """The block did not run, so no empty message comes later."""
    async with chat_client("ann") as ann:
        await ann.wait_connected()
        chat_network.conditions = Conditions(refuse_probability=1.0)
        cut(chat_network, "ann")
        await anyio.sleep(1)
        with pytest.raises(SendCancelledError):
            await ann.stream(group, timeout=5).__aenter__()
        with anyio.move_on_after(5):
            await ann.stream(group).__aenter__()
        assert ann.pending() == []


async def test_a_beginning_that_may_have_left_stays_queued(
    chat_client: Devices, chat_network: Network, group: str
) -> None:
    async with chat_client("ann") as ann:
        await ann.wait_connected()
        chat_network.conditions = Conditions(latency_s=(60.0, 60.0))
        stream = ann.stream(group, client_msg_id="k", timeout=1)
        with pytest.raises(SendOutcomeUnknownError):
            await stream.__aenter__()
        assert [it.client_msg_id for it in ann.pending()] == ["k"]


class _Refusing:
    """Requests, of which parts with a text are refused as too many."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    async def ask(self, event: Any, timeout_s: float) -> Any:
        if event.text:
            raise TooLargeError("too many parts")
        return await self._requests.ask(event, timeout_s)


async def test_an_end_that_finds_no_answer_is_no_cut(
    chat_client: Devices, chat_network: Network, group: str
) -> None:
    async with chat_client("ann") as ann, chat_client("ben") as ben:
        await ben.wait_connected()

        async def end() -> None:
            async with ann.stream(group, timeout=5) as stream:
                await stream.write("all")
                await grown_to(ben, "all")
                cut(chat_network, "ann")
                chat_network.conditions = Conditions(refuse_probability=1.0)
                await stream.end()

        with pytest.raises(SendOutcomeUnknownError):
            await end()
        chat_network.conditions = Conditions()
        assert (await end_of(ben)).ends == "WHOLE"
        await anyio.sleep(60)
        assert not (await last(ben)).is_cut_off


async def test_who_starts_later_follows_what_history_shows_open(chat_client: Devices, group: str) -> None:
    async with chat_client("ann") as ann, ann.stream(group, "a") as stream:
        await stream.write("b")
        await anyio.sleep(1)
        async with chat_client("ben") as ben:
            await ben.wait_connected()
            with anyio.fail_after(SOON_S):
                async for event in ben.events():
                    if isinstance(event, MessageReceived) and event.message.type == "STREAM":
                        assert event.message.text == "ab"
                        break
            await stream.write("c")
            assert (await grown_to(ben, "abc"))[-1] == "abc"
        async with chat_client("ben") as again:
            await again.wait_connected()
            await again.history(group)
            await stream.write("d")
            assert (await grown_to(again, "abcd"))[-1] == "abcd"


@pytest.mark.parametrize(
    ("change", "values"),
    [
        ("set_title", ["Denmark"]),
        ("transfer_ownership", ["ben"]),
        ("set_role", ["ben", "ADMIN"]),
        ("set_history", ["FROM_START"]),
    ],
)
async def test_what_changes_of_its_conversation_leaves_it_open(
    chat_server: ChatServer, chat_client: Devices, group: str, change: str, values: list[str]
) -> None:
    async with chat_client("ann") as ann, chat_client("ben") as ben:
        await ben.wait_connected()
        async with ann.stream(group) as stream:
            await stream.write("To")
            await grown_to(ben, "To")
            await getattr(chat_server, change)(group, *values)
            await anyio.sleep(1)
            assert (await last(ben)).text == "To"
            await stream.write(" be")
            assert await grown_to(ben, "To be") == ["To be"]


async def test_the_same_key_again_goes_on_to_the_end_alone(chat_client: Devices, group: str) -> None:
    """A handler that is run again gives other words: no part of it is mixed with those of the first try."""
    async with chat_client("ann") as ann, chat_client("ben") as ben:
        await ben.wait_connected()
        first = ann.stream(group, client_msg_id="k")
        await first.__aenter__()
        await first.write("one")
        await grown_to(ben, "one")
        first._sender.cancel()
        async with ann.stream(group, client_msg_id="k") as second:
            await second.write("two")
            assert second.sent == first.sent
        await end_of(ben)
        assert (await last(ben)).text == "two"
        assert second.acked_parts == 0


async def test_what_cannot_be_written(chat_client: Devices, group: str) -> None:
    async with chat_client("ann") as ann:
        with pytest.raises(TooLargeError):
            ann.stream(group, "x" * (STREAM_BYTES_MAX + 1))
        with pytest.raises(BadRequestError):
            ann.stream(group, "\x00")
        with pytest.raises(BadRequestError):
            ann.stream(group, client_msg_id="k" * 125)
        stream = ann.stream(group)
        with pytest.raises(ClientError):
            await stream.write("before")
        async with stream:
            with pytest.raises(TooLargeError):
                await stream.write("x" * (STREAM_BYTES_MAX + 1))
            with pytest.raises(BadRequestError):
                await stream.write("\ud800")
            await stream.write("x" * STREAM_BYTES_MAX)
            with pytest.raises(TooLargeError):
                await stream.write("x")
            await stream.end({"type": "CUSTOM", "schema": "s", "data": 1, "fallbackText": "other"})
            with pytest.raises(ClientError):
                await stream.write("after")
        assert (await last(ann)).text == "other"


# --- which streams are followed ---


def opened(seq: int, text: str = "", stream: StreamProgress | None = None) -> Message:
    marks = None if stream is None else Marks(seq, stream=stream)
    return Message("c", seq, f"m-{seq}", "ann", 1, {"type": "STREAM", "text": text}, marks=marks)


def pushed(seq: int, part: int, text: str) -> ev.StreamPartPush:
    return ev.StreamPartPush("c", "e", f"m-{seq}", seq, part, text)


def test_a_hole_is_asked_for_and_repeats_are_passed_over() -> None:
    streams = OpenStreams()
    streams.connected(list)
    assert streams.part(pushed(1, 1, "b")) is None, "its message is not placed yet"
    streams.note(MessageReceived(opened(1, "a")))
    assert streams.take() == ("c", 1)
    assert streams.take() is None
    assert streams.part(pushed(1, 1, "b")) == StreamGrew("c", "m-1", 1, 1, "ab")
    assert streams.part(pushed(1, 1, "b")) is None
    assert streams.part(pushed(1, 3, "d")) is None
    assert streams.take() == ("c", 1)
    assert streams.take() is None
    assert streams.see(opened(1, "a", StreamProgress(3, "abcd"))) == StreamGrew("c", "m-1", 1, 3, "abcd")
    assert streams.see(opened(1, "a", StreamProgress(2, "abc"))) is None, "an older page"
    assert streams.shown(opened(1, "a")).text == "abcd"
    streams.note(MessageEdited("c", "m-1", 1, "ann", Edit(2, 2, {"type": "TEXT", "text": "x"}, "WHOLE")))
    assert streams.part(pushed(1, 4, "e")) is None
    assert streams.shown(opened(1, "a")).text == "a"


@pytest.mark.parametrize(
    "event", [ConversationChanged("c", "GROUP", "LEFT"), EpochChanged("c", "other", 0)], ids=["left", "epoch"]
)
def test_what_was_left_or_replaced_is_followed_no_more(event: ChatEvent) -> None:
    streams = OpenStreams()
    streams.note(MessageReceived(opened(1)))
    streams.note(event)
    assert streams.part(pushed(1, 1, "x")) is None


def test_so_many_are_followed_at_most() -> None:
    streams = OpenStreams()
    for seq in range(1, OPEN_MAX + 2):
        streams.note(MessageReceived(opened(seq)))
    assert streams.part(pushed(1, 1, "x")) is None
    assert streams.part(pushed(2, 1, "x")) is not None
    started: list[int] = []
    streams.connected(lambda: started.append(1))
    asked = [streams.take() for _ in range(OPEN_MAX + 1)]
    assert (started, asked[0], asked[-1]) == ([1], ("c", 2), None)
