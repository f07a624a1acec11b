"""The transport contract finds what is wrong with a transport: each fault here fails the test that names it."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

TRANSPORT = """
import anyio
import anyio.lowlevel
import pytest
from chatkit import MemoryConnector
from chatkit.testing import VIRTUAL
from chatkit.testing.contracts.transport import TransportContract
from chatkit.transport.base import TransportClosedError


class Transport:
    def __init__(self, inner):
        self.inner = inner
        self.closed = False

    async def receive(self):
        return await self.inner.receive()

    async def send(self, frame):
        await self.inner.send(frame)

    async def aclose(self, code=1000, reason=""):
        await self.inner.aclose(code, reason)


class Faulty(Transport):
    {fault}


class Connector:
    def __init__(self, server):
        self.inner = MemoryConnector(server)

    async def connect(self, subprotocol):
        return Faulty(await self.inner.connect(subprotocol))


class TestFaulty(TransportContract):
    @pytest.fixture
    def anyio_backend(self):
        return VIRTUAL

    @pytest.fixture
    def connector(self, server):
        return Connector(server)
"""

LOSES_WHAT_IT_HELD = """
    async def receive(self):
        frame = await self.inner.receive()
        await anyio.lowlevel.checkpoint()
        return frame
"""
TEXT_ONLY = """
    async def receive(self):
        frame = await self.inner.receive()
        return frame if isinstance(frame, str) else frame.decode("latin-1")
"""
TAKES_TURNS = """
    async def receive(self):
        self.lock = vars(self).setdefault("lock", anyio.Lock())
        async with self.lock:
            return await self.inner.receive()

    async def send(self, frame):
        self.lock = vars(self).setdefault("lock", anyio.Lock())
        async with self.lock:
            await self.inner.send(frame)
"""
CUTS_FRAMES = """
    async def send(self, frame):
        await self.inner.send(frame[:100_000])
"""
DOUBLES = """
    async def send(self, frame):
        await self.inner.send(frame)
        await self.inner.send(frame)
"""
FORGETS_THE_CODE = """
    async def receive(self):
        try:
            return await self.inner.receive()
        except TransportClosedError:
            raise TransportClosedError(1006) from None
"""
ENDS_WITH_ITS_OWN_ERROR = """
    async def send(self, frame):
        try:
            await self.inner.send(frame)
        except TransportClosedError:
            raise ConnectionResetError from None
"""
CLOSES_ONCE = """
    async def aclose(self, code=1000, reason=""):
        if self.closed:
            raise RuntimeError("closed already")
        self.closed = True
        await self.inner.aclose(code, reason)
"""
STAYS_OPEN = """
    async def aclose(self, code=1000, reason=""):
        self.closed = True
"""


@pytest.mark.parametrize(
    ("fault", "test"),
    [
        (LOSES_WHAT_IT_HELD, "test_a_cancelled_receive_loses_no_frame"),
        (TEXT_ONLY, "test_frames_keep_their_order_while_both_sides_send"),
        (TAKES_TURNS, "test_a_receive_that_waits_does_not_hold_up_a_send"),
        (CUTS_FRAMES, "test_large_frames_cross_whole_in_both_directions"),
        (DOUBLES, "test_frames_keep_their_order_while_both_sides_send"),
        (FORGETS_THE_CODE, "test_a_receive_that_waits_hears_of_the_end"),
        (ENDS_WITH_ITS_OWN_ERROR, "test_after_the_end_nothing_works_and_the_code_stays"),
        (CLOSES_ONCE, "test_closing_twice_is_closing_once"),
        (STAYS_OPEN, "test_closing_wakes_a_receive_that_waits"),
    ],
)
def test_a_faulty_road_is_found(pytester: pytest.Pytester, fault: str, test: str) -> None:
    pytester.makepyfile(TRANSPORT.replace("    {fault}", fault))

    result = pytester.runpytest_inprocess("-k", test, "-p", "no:cacheprovider")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert f"TestFaulty.{test}" in result.stdout.str()


def test_a_sound_road_passes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TRANSPORT.replace("{fault}", "pass"))

    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")

    result.assert_outcomes(passed=23)
