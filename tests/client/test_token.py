"""The login's source: what is cached and for how long, and how often a maker of tokens is asked."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from chatkit import ChatApi
from chatkit.client._token import TokenSource, seconds_left
from chatkit.client.events import CaughtUp
from chatkit.errors import ConfigurationError
from chatkit.testing.virtual_time import START_MS
from chatkit.wire import events as ev

from .fake_server import FakeServer, client, head, until
from .foretold import foretold_ports

NOW_S = START_MS / 1000


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


def jwt(**claims: Any) -> str:
    body = urlsafe_b64encode(msgspec.json.encode(claims)).rstrip(b"=").decode()
    return f"e30.{body}.c2ln"


class Maker:
    """Makes tokens that last so long, one after the other; the last length stays. An error is raised."""

    def __init__(self, lasts_s: Iterable[float | Exception]) -> None:
        self._lasts_s = list(lasts_s)
        self.asked_at_s: list[float] = []

    def __call__(self) -> str:
        now_s = anyio.current_time()
        self.asked_at_s.append(now_s)
        lasts_s = self._lasts_s.pop(0) if len(self._lasts_s) > 1 else self._lasts_s[0]
        if isinstance(lasts_s, Exception):
            raise lasts_s
        return jwt(exp=NOW_S + now_s + lasts_s, n=len(self.asked_at_s))


def source(make: str | Callable[[], Any]) -> TokenSource:
    return TokenSource(make, 10.0, foretold_ports())


async def test_a_jwt_is_made_anew_half_a_minute_before_its_end() -> None:
    maker = Maker([3600])
    tokens = source(maker)
    for _ in range(8000):
        await tokens.get()
        await anyio.sleep(1)
    assert maker.asked_at_s == [0, 3570, 7140]


async def test_a_short_one_at_half_its_time() -> None:
    maker = Maker([20])
    tokens = source(maker)
    for _ in range(35):
        await tokens.get()
        await anyio.sleep(1)
    assert maker.asked_at_s == [0, 10, 20, 30]


async def test_an_opaque_one_counts_until_it_is_refused() -> None:
    made: list[str] = []

    async def make() -> str:
        made.append(f"opaque-{len(made)}")
        return made[-1]

    tokens = source(make)
    for _ in range(1000):
        assert await tokens.get() == "opaque-0"
        await anyio.sleep(60)
    tokens.refused("opaque-0")
    assert await tokens.get() == "opaque-1"


async def test_a_late_refusal_of_an_old_token_leaves_the_fresh_one() -> None:
    maker = Maker([3600])
    tokens = source(maker)
    old = await tokens.get()
    tokens.refused(old)
    fresh = await tokens.get()
    for _ in range(8):
        tokens.refused(old)
        assert await tokens.get() == fresh
    assert len(maker.asked_at_s) == 2


async def test_many_requests_that_are_refused_one_after_the_other_ask_once() -> None:
    valid, asked = "t1", list[float]()

    def make() -> str:
        asked.append(anyio.current_time())
        return valid  # as a callable that keeps its token

    async def answer(request: httpx.Request) -> httpx.Response:
        is_valid = request.headers["authorization"] == f"Bearer {valid}"
        await anyio.sleep(0.05 if is_valid else float(request.url.params["upToSeq"]))
        if is_valid:
            return httpx.Response(200, json={"readSeq": 1})
        problem = {"title": "", "status": 401, "detail": "", "code": "TOKEN_REVOKED", "retryable": False}
        return httpx.Response(401, json=problem)

    own = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    async with ChatApi("http://chat.test", token=make, client=own, ports=foretold_ports()) as api:
        await api.mark_read("c-1", 1)
        valid = "t2"
        async with anyio.create_task_group() as group:
            for number in range(1, 9):
                group.start_soon(api.mark_read, "c-1", number)
    assert len(asked) == 2
    assert anyio.current_time() == pytest.approx(0.05 + 8 + 0.05)


async def test_an_http_refusal_and_the_websockets_own_leave_one_fresh_token(server: FakeServer) -> None:
    maker = Maker([3600])
    async with client(server, token=maker) as chat:
        line = await server.accept()
        await line.log_in(head(0))
        await until(chat, CaughtUp)
        tokens = chat._tokens
        tokens.refused(tokens.presented)
        await tokens.get()  # as a request over HTTP does
        line.close(4101)
        line = await server.accept()
        await line.log_in(head(0))
        assert len(maker.asked_at_s) == 2


@pytest.mark.parametrize("lasts_s", [0.5, RuntimeError("down")])
async def test_a_maker_of_nothing_useful_is_asked_ever_more_rarely(lasts_s: float | Exception) -> None:
    maker = Maker([lasts_s])
    tokens = source(maker)
    with anyio.move_on_after(30):
        while True:
            with suppress(RuntimeError):
                await tokens.get()
            await anyio.sleep(0.1)
    assert 3 <= len(maker.asked_at_s) <= 8


async def test_many_who_want_one_at_once_ask_once() -> None:
    maker = Maker([3600])
    tokens = source(maker)
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(tokens.get)
    assert len(maker.asked_at_s) == 1


async def test_while_one_asks_the_others_use_what_they_have() -> None:
    waited: list[float] = []

    async def slow() -> str:
        await anyio.sleep(5)
        return jwt(exp=NOW_S + anyio.current_time() + 60)

    tokens = source(slow)
    await tokens.get()
    await anyio.sleep(40)  # it nears its end

    async def want() -> None:
        began_s = anyio.current_time()
        await tokens.get()
        waited.append(anyio.current_time() - began_s)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(want)
    assert sorted(waited) == [0, 0, 5]


@pytest.mark.parametrize(
    ("claims", "left_s"),
    [
        ({"exp": NOW_S + 60}, 60),
        ({"exp": NOW_S + 60, "iat": NOW_S - 40}, 60),
        ({"exp": NOW_S - 18_000 + 60, "iat": NOW_S - 18_000}, 60),  # this machine's clock is ahead
        ({"exp": NOW_S + 18_000 + 60, "iat": NOW_S + 18_000}, 60),  # and behind
        ({"exp": NOW_S - 5}, None),
        ({"sub": "u"}, None),
        ({"exp": "soon"}, None),
    ],
)
def test_how_long_a_jwt_lasts(claims: dict[str, Any], left_s: float | None) -> None:
    assert seconds_left(jwt(**claims), START_MS) == left_s


@pytest.mark.parametrize("token", ["", "plain", "a.b", "a.!.c", "a.\u20ac.c", "..", "a.e30.c"])
def test_what_is_no_jwt_says_nothing_about_its_end(token: str) -> None:
    assert seconds_left(token, START_MS) is None


@pytest.mark.parametrize("token", ["", None, 7, b"t", "t\n", " t", "a\x00b", "t\u20ac", ["t"]])
def test_what_cannot_be_a_token_is_refused_by_its_name(token: Any) -> None:
    with pytest.raises(ConfigurationError, match="token"):
        source(token)


async def test_what_a_callable_returns_is_checked_too() -> None:
    for wrong in (None, "", "t\n", "t\u20ac", "\ud800", 7):
        with pytest.raises(ConfigurationError, match="token callable"):
            await source(lambda wrong=wrong: wrong).get()


class Faulty:
    """A callable that fails so often, and then makes a token. An error is raised."""

    def __init__(self, fault: object, times: int) -> None:
        self._fault = fault
        self._times = times
        self.asked_at_s: list[float] = []

    def __call__(self) -> Any:
        self.asked_at_s.append(anyio.current_time())
        if len(self.asked_at_s) > self._times:
            return "sound"
        if isinstance(self._fault, Exception):
            raise self._fault
        return self._fault


FAULTS = [
    None,
    7,
    b"t",
    "",
    "ann\n",
    "a\x00b",
    "t\u20ac",
    "\ud800",
    ConfigurationError("the key file is being changed"),
    StopIteration(),
    RuntimeError("away"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=ascii)
async def test_a_callable_that_gives_no_token_is_asked_again_ever_more_rarely(
    server: FakeServer, fault: object, caplog: pytest.LogCaptureFixture
) -> None:
    make = Faulty(fault, 5)
    async with client(server, token=make) as chat:
        await anyio.sleep(0.5)
        failure = chat.last_failure
        assert failure is not None and chat.stopped is None
        line = await server.accept()
        assert (await line.log_in(head(0))).token == "sound"
        await until(chat, CaughtUp)

    waits = [after - before for before, after in pairwise(make.asked_at_s)]
    assert len(waits) == 5 and waits[-1] > waits[0]
    assert str(failure) in caplog.text


@pytest.mark.parametrize("fault", FAULTS, ids=ascii)
async def test_a_renewal_with_no_token_is_tried_again_on_the_same_connection(
    server: FakeServer, fault: object
) -> None:
    makers: list[Callable[[], Any]] = [lambda: "first"]
    async with client(server, token=lambda: makers[-1]()):
        line = await server.accept()
        await line.log_in(head(0))
        makers.append(Faulty(fault, 2))
        line.push(ev.TokenExpiring(99))
        assert (await line.expect(ev.AuthRefresh)).token == "sound"


async def test_an_expiring_login_with_the_same_token_again_asks_rarely_and_sends_nothing() -> None:
    server, asked = FakeServer(), list[float]()

    def same() -> str:
        asked.append(anyio.current_time())
        return "the-same"

    async with client(server, token=same):
        line = await server.accept()
        await line.log_in(head(0))
        for _ in range(30):
            line.push(ev.TokenExpiring(99))
            await line.quiet(1)
    assert len(asked) <= 8


async def test_short_tokens_are_renewed_at_half_their_time_however_often_the_server_warns() -> None:
    server, maker = FakeServer(), Maker([20])
    refreshed: list[str] = []
    async with client(server, token=maker), anyio.create_task_group() as group:
        line = await server.accept()
        await line.log_in(head(0))

        async def answer() -> None:
            while True:
                refresh = await line.expect(ev.AuthRefresh)
                refreshed.append(refresh.token)
                line.push(ev.AuthOk(1, refresh.ref))

        group.start_soon(answer)
        for _ in range(30):
            line.push(ev.TokenExpiring(99))
            await anyio.sleep(1)
        group.cancel_scope.cancel()
    assert maker.asked_at_s == [0, 10, 20, 30][: len(maker.asked_at_s)]
    assert len(maker.asked_at_s) in (3, 4) and len(refreshed) == len(set(refreshed)) >= 2


async def test_a_login_that_is_refused_is_tried_with_a_fresh_token_and_others_reuse_it() -> None:
    server, maker = FakeServer(), Maker([3600])
    async with client(server, token=maker):
        line = await server.accept()
        await line.expect(ev.Hello)
        line.close(1006)
        line = await server.accept()
        await line.expect(ev.Hello)
        assert len(maker.asked_at_s) == 1  # the line broke, the token did not
        line.close(4100)
        line = await server.accept()
        await line.expect(ev.Hello)
        assert len(maker.asked_at_s) == 2
