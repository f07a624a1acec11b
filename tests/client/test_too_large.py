"""A message that the way to the server does not let through: found out, refused, and out of the way of the others."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from chatkit import ChatClient, SendFailed
from chatkit.client.events import CaughtUp
from chatkit.errors import SendOutcomeUnknownError, TooLargeError
from chatkit.types import Sent
from chatkit.wire import events as ev

from .fake_server import FakeServer, Line, ack, client, head, until

LIMIT = 4_000


class NarrowLine(Line):
    """Ends when a frame above the limit comes; that frame is never read."""

    code = 1009

    async def send(self, frame: bytes | str) -> None:
        if len(frame) > LIMIT and self.ended is None:
            self.close(self.code)
            return
        await super().send(frame)


class NarrowHost(FakeServer):
    """Answers every send within the limit."""

    def __init__(self, code: int = 1009) -> None:
        super().__init__()
        self.code = code
        self.taken: list[str] = []

    async def connect(self, subprotocol: str) -> Line:
        self.tries += 1
        line = NarrowLine(subprotocol)
        line.code = self.code
        self._lines.append(line)
        self._came.set()
        return line

    async def serve(self) -> None:
        """Accept connections one after the other."""
        while True:
            line = await self.accept()
            try:
                await line.log_in(*(head(0, id_=name) for name in ("c-1", "c-2")))
                while True:
                    event = await line._next()
                    if isinstance(event, ev.SendMsg):
                        self.taken.append(event.client_msg_id)
                        line.push(ack(event, len(self.taken)))
            except AssertionError:
                assert line.ended is not None


async def outcomes(
    host: NarrowHost, sends: list[tuple[str, str, int]], timeout: float = 20.0
) -> dict[str, Any]:
    """Send all at once: conversation, key, size. Returns what became of each."""
    became: dict[str, Any] = {}

    async def one(chat: ChatClient, conversation_id: str, key: str, size: int) -> None:
        try:
            became[key] = await chat.send(conversation_id, "x" * size, client_msg_id=key, timeout=timeout)
        except (TooLargeError, SendOutcomeUnknownError) as error:
            became[key] = error

    async with client(host) as chat, anyio.create_task_group() as serving:
        serving.start_soon(host.serve)
        await until(chat, CaughtUp)
        async with anyio.create_task_group() as group:
            for send in sends:
                group.start_soon(one, chat, *send)
        await chat.aclose(0)
        serving.cancel_scope.cancel()
    return became


async def test_the_one_message_above_a_hosts_limit_is_refused_and_the_others_arrive() -> None:
    host = NarrowHost()
    sends = [("c-1", "a", 10), ("c-1", "big", LIMIT), ("c-1", "b", 10), ("c-2", "c", 10), ("c-2", "d", 3_000)]
    became = await outcomes(host, sends)

    assert isinstance(became["big"], TooLargeError)
    assert all(isinstance(became[key], Sent) for key in "abcd")
    assert sorted(host.taken) == ["a", "b", "c", "d"]
    assert host.tries == 3  # together, alone, and then all is well


async def test_small_messages_that_are_too_much_in_one_frame_all_arrive() -> None:
    host = NarrowHost()
    became = await outcomes(host, [("c-1", f"k{number}", 500) for number in range(30)])
    assert all(isinstance(sent, Sent) for sent in became.values())
    assert host.tries == 2


async def test_two_that_are_too_large_are_both_refused_and_the_app_hears_of_it() -> None:
    host = NarrowHost()
    async with client(host) as chat, anyio.create_task_group() as group:
        group.start_soon(host.serve)
        await until(chat, CaughtUp)
        for key, size in (("big-1", LIMIT), ("big-2", LIMIT), ("small", 1)):
            with pytest.raises(SendOutcomeUnknownError):
                await chat.send("c-1", "x" * size, client_msg_id=key, timeout=0)
        failed = [(await until(chat, SendFailed))[0] for _ in range(2)]
        assert [event.client_msg_id for event in failed] == ["big-1", "big-2"]
        assert all(isinstance(event.error, TooLargeError) for event in failed)
        await chat.send("c-1", "x", client_msg_id="small")
        assert chat.pending_count == 0
        group.cancel_scope.cancel()


@pytest.mark.parametrize("code", [1005, 1006])
async def test_a_proxy_that_kills_without_a_word_delays_its_own_conversation_only(code: int) -> None:
    host = NarrowHost(code)
    sends = [("c-1", "big", LIMIT), ("c-1", "behind", 10), ("c-2", "free", 10), ("c-2", "free-2", 10)]
    became = await outcomes(host, sends, timeout=60.0)

    assert isinstance(became["free"], Sent) and isinstance(became["free-2"], Sent)
    assert isinstance(became["big"], SendOutcomeUnknownError)  # it may be the network: nothing is given up
    assert isinstance(became["behind"], SendOutcomeUnknownError)  # the order of a conversation holds


async def test_our_own_complaint_about_a_frame_of_the_server_blames_no_message() -> None:
    host = FakeServer()
    async with client(host) as chat:
        line = await host.accept()
        await line.log_in(head(0))
        await until(chat, CaughtUp)
        for _ in range(2):
            with pytest.raises(SendOutcomeUnknownError):
                await chat.send("c-1", "hi", client_msg_id="k", timeout=0.1)
            line.ended = _ours(1009)
            line.push_text("[]")
            line = await host.accept()
            await line.log_in(head(0))
            await line.expect(ev.SendMsg)
        assert chat.pending_count == 1
        await chat.aclose(0)


def _ours(code: int) -> Any:
    from chatkit.transport.base import TransportClosedError

    return TransportClosedError(code, by_peer=False)
