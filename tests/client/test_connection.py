"""Login, tokens, heartbeat, close codes, backoff, draining, and the end."""

from __future__ import annotations

import anyio
import pytest

from chatkit import ChatClient, ClientConfig
from chatkit.client.events import Connected, Connecting, Disconnected, Reconnecting
from chatkit.client.store.memory import MemoryStore
from chatkit.errors import (
    ClosedError,
    ConfigurationError,
    ConnectionLostError,
    DeadlineExceededError,
    NotFoundError,
    RecallWindowPassedError,
    TokenExpiredError,
    TokenRevokedError,
)
from chatkit.transport.base import TransportClosedError
from chatkit.wire import events as ev

from .fake_server import FakeServer, Line, ack, client, head, new, until
from .foretold import foretold_ports


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


class Tokens:
    """An app's token callable: t1, t2, ..."""

    def __init__(self) -> None:
        self.count = 0
        self.failures = 0

    async def __call__(self) -> str:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the login service is down")
        self.count += 1
        return f"t{self.count}"


async def test_says_hello_first_with_the_token(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        hello = await line.log_in()

        connected, before = await until(chat, Connected)
        assert (hello.token, hello.device_id, hello.resume_token) == ("secret-token", "phone", ev.UNSET)
        assert (before, connected) == ([Connecting(1)], Connected("s-1", False))
        assert chat.user_id == "u-1"


async def test_comes_back_with_the_resume_token(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in()
        line.close(1006)

        line = await server.accept()
        hello = await line.log_in(resumed=True)

        assert (hello.resume_token, hello.token) == ("resume-1", ev.UNSET)
        await until(chat, Disconnected)
        again, _ = await until(chat, Connected)
        assert again.resumed


async def test_a_refused_resume_token_falls_back_to_the_token_at_once(server: FakeServer) -> None:
    async with client(server):
        line = await server.accept()
        await line.log_in()
        line.close(1006)
        line = await server.accept()
        await line.expect(ev.Hello)
        line.close(4101)
        refused_at = anyio.current_time()

        line = await server.accept()
        hello = await line.log_in()
        assert hello.token == "secret-token"
        assert anyio.current_time() - refused_at < 0.01


async def test_a_fixed_token_that_is_refused_stops_the_client(server: FakeServer) -> None:
    chat = client(server)
    with pytest.raises(ClosedError) as left:
        await _refused(server, chat)
    assert isinstance(left.value.__cause__, TokenRevokedError)
    assert isinstance(chat.stopped, TokenRevokedError)
    assert server.tries == 1


@pytest.mark.parametrize("apart_s", [18_000, -18_000])
async def test_a_fixed_token_outlives_a_servers_wrong_clock(server: FakeServer, apart_s: int) -> None:
    async with client(server) as chat:
        now_ms = foretold_ports().clock.now_ms()
        tried_at_s = []
        for _ in range(5):
            line = await server.accept()
            tried_at_s.append(anyio.current_time())
            await line.expect(ev.Hello)
            line.push(ev.ErrorEvent("TOKEN_EXPIRED", "over", False, server_ts=now_ms + apart_s * 1000))
            line.close(4100)
        line = await server.accept()
        assert (await line.log_in()).token == "secret-token"

        await chat.wait_connected()
        assert tried_at_s == [number * 75 for number in range(5)], "once a minute or less often"


async def test_what_can_still_hold_is_tried_at_the_usual_pace(server: FakeServer) -> None:
    async with client(server, token=Tokens()):
        for _ in range(5):
            line = await server.accept()
            await line.expect(ev.Hello)
            line.push(ev.ErrorEvent("TOKEN_EXPIRED", "over", False, server_ts=10**15))
            line.close(4100)
        await server.accept()
        assert anyio.current_time() < 10


async def test_a_fixed_token_that_expired_by_both_clocks_stops_the_client(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.expect(ev.Hello)
        server_ms = foretold_ports().clock.now_ms() + 60_000
        line.push(ev.ErrorEvent("TOKEN_EXPIRED", "over", False, server_ts=server_ms))
        line.close(4100)
        with pytest.raises(ClosedError) as caught:
            await chat.wait_connected()
        assert isinstance(caught.value.__cause__, TokenExpiredError)
        await chat.aclose()


async def _refused(server: FakeServer, chat: ChatClient) -> None:
    async with chat:
        assert chat.stopped is None
        line = await server.accept()
        await line.expect(ev.Hello)
        line.push(ev.ErrorEvent("TOKEN_REVOKED", "revoked", False))
        line.close(4101, "revoked")

        ended, _ = await until(chat, Disconnected)
        assert ended == Disconnected(4101, "revoked", False)
        with pytest.raises(ClosedError) as caught:
            await chat.wait_connected()
        assert isinstance(caught.value.__cause__, TokenRevokedError)
        with pytest.raises(ClosedError):
            await chat.send("c-1", "hi")
        assert [event async for event in chat.events()] == []


async def test_a_fixed_token_that_expired_online_is_tried_once_more(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in()
        line.close(4100)
        line = await server.accept()
        assert (await line.expect(ev.Hello)).token == "secret-token"
        line.close(4100)

        await until(chat, Reconnecting)
        ended, _ = await until(chat, Disconnected)
        assert ended.will_retry is False
        with pytest.raises(ClosedError) as caught:
            await chat.wait_connected()
        assert isinstance(caught.value.__cause__, TokenExpiredError)
        await chat.aclose()


async def test_a_callable_makes_a_new_token_after_each_refusal(server: FakeServer) -> None:
    async with client(server, token=Tokens()):
        for wanted in ("t1", "t2", "t3"):
            line = await server.accept()
            assert (await line.expect(ev.Hello)).token == wanted
            line.close(4101)


async def test_a_failing_token_callable_is_tried_again(server: FakeServer) -> None:
    tokens = Tokens()
    tokens.failures = 2
    async with client(server, token=tokens) as chat:
        for _ in range(2):
            retry, _ = await until(chat, Reconnecting)
            assert isinstance(retry.cause, RuntimeError)
        assert server.tries == 0
        line = await server.accept()
        assert (await line.log_in()).token == "t1"


async def test_a_token_callable_that_never_answers_has_a_deadline(server: FakeServer) -> None:
    async def never() -> str:
        await anyio.sleep_forever()
        raise AssertionError

    async with client(server, token=never, config=ClientConfig(token_timeout_s=3)) as chat:
        retry, _ = await until(chat, Reconnecting)
        assert isinstance(retry.cause, DeadlineExceededError)
        assert anyio.current_time() == pytest.approx(3, abs=0.1)


async def test_an_expiring_login_is_renewed_on_the_open_connection(server: FakeServer) -> None:
    tokens = Tokens()
    async with client(server, token=tokens):
        line = await server.accept()
        await line.log_in()
        tokens.failures = 1
        line.push(ev.TokenExpiring(99))

        refresh = await line.expect(ev.AuthRefresh)
        assert refresh.token == "t2"
        line.push(ev.ErrorEvent("UNAVAILABLE", "later", True, 1000, ref=refresh.ref))
        again = await line.expect(ev.AuthRefresh)
        line.push(ev.AuthOk(999, again.ref))
        await line.quiet(60)


async def test_a_fixed_token_is_not_offered_again(server: FakeServer) -> None:
    async with client(server):
        line = await server.accept()
        await line.log_in()
        line.push(ev.TokenExpiring(99))
        await line.quiet(5)


async def test_pings_within_the_heartbeat_and_leaves_a_dead_peer(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in()
        await anyio.sleep(29)
        assert any(isinstance(event, ev.Ping) for event in line.received)
        line.push(ev.Pong(0))
        heard_at = anyio.current_time()

        line = await server.accept()
        await line.log_in()

        assert 60 <= anyio.current_time() - heard_at <= 75
        ended, _ = await until(chat, Disconnected)
        assert ended.will_retry


async def test_a_socket_that_takes_nothing_ends_too(server: FakeServer) -> None:
    async with client(server):
        line = await server.accept()
        await line.log_in()
        await anyio.sleep(0.1)
        line.stuck = True

        again = await server.accept()
        await again.log_in()
        line.stuck = False


async def test_a_short_login_is_renewed_when_half_of_what_is_left_has_passed(server: FakeServer) -> None:
    """Its server warns of its end as soon as it begins."""
    async with client(server, token=Tokens()):
        line = await server.accept()
        await line.log_in()
        began_s = anyio.current_time()
        for _ in range(3):
            ends_ms = int((anyio.current_time() - began_s + 12) * 1000)
            line.push(ev.TokenExpiring(ends_ms))
            await line.quiet(5.5)
            asked = await line.expect(ev.AuthRefresh)
            line.push(ev.AuthOk(ends_ms, ref=asked.ref))


async def test_a_hello_that_was_late_on_its_way_is_tried_again_a_few_times_in_a_row(
    server: FakeServer,
) -> None:
    async with client(server) as chat:
        await late(server, 3)
        line = await server.accept()
        await line.log_in()
        await chat.wait_connected()
        line.close(1006)
        await late(server, 4)
        await anyio.sleep(60)
        assert "4200" in str(chat.stopped)
        assert server.tries == 8
        await chat.aclose()


async def late(server: FakeServer, times: int) -> None:
    """So often it says that no HELLO came in time."""
    for _ in range(times):
        line = await server.accept()
        await line.expect(ev.Hello)
        line.close(4200, "no HELLO in time")


@pytest.mark.parametrize("code", [4200, 4201, 4202, 4203, 4204])
async def test_final_close_codes_stop_the_client(server: FakeServer, code: int) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in()
        await until(chat, Connected)
        line.close(code, "final")

        assert (await until(chat, Disconnected))[0] == Disconnected(code, "final", False)
        assert [event async for event in chat.events()] == []
        await chat.aclose()  # by the app itself: nothing is raised at the end
    assert isinstance(chat.stopped, TransportClosedError) and chat.stopped.close_code == code
    assert server.tries == 1


@pytest.mark.parametrize("code", [1000, 1002, 1006, 1011, 4000, 4001, 4002, 4999])
async def test_other_close_codes_come_back_with_backoff(server: FakeServer, code: int) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in()
        await until(chat, Connected)
        line.close(code)

        assert (await until(chat, Disconnected))[0] == Disconnected(code, "", True)
        retry, _ = await until(chat, Reconnecting)
        assert (retry.attempt, retry.delay_s) == (1, 0.25)
        await (await server.accept()).log_in()


async def test_the_wait_doubles_up_to_its_bound_and_hints_are_obeyed(server: FakeServer) -> None:
    server.refusals.extend(TransportClosedError(1006, "refused") for _ in range(8))
    server.refusals.append(TransportClosedError(1006, "503", retry_after_s=40))
    async with client(server) as chat:
        delays = [(await until(chat, Reconnecting))[0].delay_s for _ in range(9)]

        assert delays == [0.25, 0.5, 1, 2, 4, 8, 15, 15, 50]
        await (await server.accept()).log_in()


async def test_only_a_connection_that_lasted_starts_the_wait_from_its_base(server: FakeServer) -> None:
    async with client(server) as chat:
        attempts = []
        for lasts_s in (0.0, 1.0, 11.0, 0.0):
            line = await server.accept()
            await line.log_in()
            await anyio.sleep(lasts_s)
            line.close(1006)
            attempts.append((await until(chat, Reconnecting))[0].attempt)

        assert attempts == [1, 2, 1, 2]


async def test_a_silent_server_has_a_deadline(server: FakeServer) -> None:
    async with client(server) as chat:
        retry, _ = await until(chat, Reconnecting)

        assert isinstance(retry.cause, DeadlineExceededError)
        assert anyio.current_time() == pytest.approx(10, abs=0.1)


async def test_nonsense_from_the_server_ends_the_connection(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in()
        line._to_client.append("{]")
        line.push(ev.Pong(0))

        assert (await until(chat, Disconnected))[0].will_retry
        line = await server.accept()
        await line.expect(ev.Hello)
        line.push(new(1))
        await until(chat, Reconnecting)
        await (await server.accept()).log_in()


async def test_a_draining_server_is_left_after_its_answers_and_found_again_after_its_hint(
    server: FakeServer,
) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(0))
        group.start_soon(chat.send, "c-1", "before")
        send = await line.expect(ev.SendMsg)
        line.push(ev.GoAway("deploy", 4000))
        group.start_soon(_send_with_key, chat, "after")
        await line.quiet(1)
        line.push(ack(send, 1))
        assert (await line.expect(ev.DeliveredAck)).up_to_seq == 1
        line.close(1001, "drain")

        retry, _ = await until(chat, Reconnecting)
        assert retry.delay_s == 5
        line = await server.accept()
        await line.log_in(head(1, delivered=1))
        later = await line.expect(ev.SendMsg)
        assert later.client_msg_id == "after"
        line.push(ack(later, 2))


async def test_a_draining_server_that_does_not_close_is_left(server: FakeServer) -> None:
    async with client(server) as chat:
        line = await server.accept()
        await line.log_in()
        line.push(ev.GoAway("deploy", 1000))

        retry, _ = await until(chat, Reconnecting)
        assert retry.delay_s == 1.25
        assert anyio.current_time() <= 21


async def test_a_token_of_another_user_is_a_wrong_set_up(server: FakeServer) -> None:
    async def use() -> None:
        async with client(server, store=store) as chat:
            line = await server.accept()
            await line.log_in()
            ended.append((await until(chat, Disconnected))[0])

    store, ended = MemoryStore(), list[Disconnected]()
    store.bind("u-other", "phone")
    with pytest.raises(ConfigurationError):
        await use()
    assert ended[0].will_retry is False


async def test_an_internal_fault_surfaces(server: FakeServer) -> None:
    class Broken(MemoryStore):
        def save(self, *arguments: object) -> None:
            raise ZeroDivisionError("a bug")

    async def use() -> None:
        async with client(server, store=Broken()) as chat:
            line = await server.accept()
            await line.log_in(head(1))
            ended.append((await until(chat, Disconnected))[0])
            with pytest.raises(ClosedError) as caught:
                await chat.wait_connected()
            assert isinstance(caught.value.__cause__, ZeroDivisionError)
            assert not any(isinstance(event, ev.DeliveredAck) for event in line.received)

    ended = list[Disconnected]()
    with pytest.raises(ZeroDivisionError):
        await use()
    assert (ended[0].will_retry, ended[0].reason) == (False, "a bug")


async def test_an_error_of_the_app_leaves_the_client_as_it_is(server: FakeServer) -> None:
    async def use() -> None:
        async with client(server):
            lines.append(await server.accept())
            await lines[0].log_in()
            raise KeyError("the app's own")

    lines = list[Line]()
    with pytest.raises(KeyError):
        await use()
    assert lines[0].ended is not None


async def test_outside_of_async_with_there_is_nothing(server: FakeServer) -> None:
    chat = client(server)
    with pytest.raises(ClosedError):
        await chat.send("c-1", "hi")
    with pytest.raises(ClosedError):
        chat.events()
    async with chat:
        pass
    with pytest.raises(ClosedError):
        await chat.mark_read("c-1", 1)
    with pytest.raises(ClosedError):
        await chat.__aenter__()


@pytest.mark.parametrize(
    "options", [{"device_id": "no spaces"}, {"token": ""}, {"token": None}, {"codec": "xml"}]
)
async def test_a_wrong_set_up_is_told_before_anything_happens(
    server: FakeServer, options: dict[str, object]
) -> None:
    with pytest.raises(ConfigurationError):
        client(server, **options)
    assert server.tries == 0


async def test_the_token_shows_nowhere(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    async with client(server, token="secret-token") as chat:
        line = await server.accept()
        await line.log_in()
        shown = repr(chat) + repr(chat._tokens) + repr(chat._config) + str(vars(chat))
    assert "secret-token" not in shown.replace("'_token': 'secret-token'", "")
    assert "secret-token" not in caplog.text


async def test_recall_waits_for_a_connection_and_pulls_its_own_entry(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        results: list[object] = []
        group.start_soon(_recall, chat, "m-1", results)
        line = await server.accept()
        await line.log_in(head(1, delivered=1))
        asked = await line.expect(ev.Recall)
        line.close(1006)
        line = await server.accept()
        await line.log_in(head(1, delivered=1))
        asked = await line.expect(ev.Recall)
        line.push(ev.MsgAck("c-1", "e1", "m-2", 2, 1002, ref=asked.ref))

        assert (await line.expect(ev.Sync)).last_seq == 1
        assert [(sent.seq, sent.client_msg_id) for sent in results] == [(2, "")]  # type: ignore[attr-defined]


async def test_a_refused_recall_is_raised(server: FakeServer) -> None:
    async with client(server) as chat, anyio.create_task_group() as group:
        results: list[object] = []
        line = await server.accept()
        await line.log_in()
        for code, wanted in (("RECALL_WINDOW_PASSED", RecallWindowPassedError), ("NOT_FOUND", NotFoundError)):
            group.start_soon(_recall, chat, "m-1", results)
            asked = await line.expect(ev.Recall)
            line.push(ev.ErrorEvent(code, "no", False, ref=asked.ref))
            await anyio.sleep(0.01)
            assert isinstance(results.pop(), wanted)


async def test_a_repeated_recall_that_is_too_late_says_that_the_outcome_is_unknown(
    server: FakeServer,
) -> None:
    """The first may wait at the node that took it in, which counts it from when it came."""
    async with client(server) as chat, anyio.create_task_group() as group:
        results: list[object] = []
        group.start_soon(_recall, chat, "m-1", results)
        line = await server.accept()
        await line.log_in()
        await line.expect(ev.Recall)
        line.close(1006)
        line = await server.accept()
        await line.log_in()
        asked = await line.expect(ev.Recall)
        line.push(ev.ErrorEvent("RECALL_WINDOW_PASSED", "no", False, ref=asked.ref))
        await anyio.sleep(0.01)

        (error,) = results
        assert isinstance(error, ConnectionLostError) and error.retryable
        assert isinstance(error.__cause__, RecallWindowPassedError)


async def test_a_request_without_answer_has_a_deadline(server: FakeServer) -> None:
    async with client(server) as chat:
        await (await server.accept()).log_in()
        with pytest.raises(DeadlineExceededError):
            await chat.recall("m-1", timeout=2)
        with pytest.raises(DeadlineExceededError):
            await client_wait(server)


async def client_wait(server: FakeServer) -> None:
    async with client(server) as chat:
        await chat.wait_connected(timeout=1)


async def test_a_request_whose_caller_has_gone_is_not_sent(server: FakeServer) -> None:
    async with client(server, config=ClientConfig(requests_max=5)) as chat:
        line = await server.accept()
        await line.log_in()
        await chat.wait_connected()
        line.stuck = True
        await chat.typing("c-1")  # hangs in the line
        await anyio.sleep(0.01)
        for _ in range(20):
            with pytest.raises(DeadlineExceededError):
                await chat.recall("m-1", timeout=0.01)
        line.stuck = False
        line.push(ev.Pong(1000))
        await line.expect(ev.TypingCommand)
        await line.quiet(1)


async def test_typing_is_told_at_most_every_three_seconds_and_never_queued(server: FakeServer) -> None:
    async with client(server) as chat:
        await chat.typing("c-0")
        line = await server.accept()
        await line.log_in()
        await chat.wait_connected()
        for _ in range(3):
            await chat.typing("c-1")
        assert (await line.expect(ev.TypingCommand)).conversation_id == "c-1"
        await line.quiet(3)
        await chat.typing("c-1")
        await line.expect(ev.TypingCommand)


async def _recall(chat: ChatClient, message_id: str, results: list[object]) -> None:
    try:
        results.append(await chat.recall(message_id))
    except Exception as error:
        results.append(error)


async def _send_with_key(chat: ChatClient, key: str) -> None:
    await chat.send("c-1", key, client_msg_id=key)
