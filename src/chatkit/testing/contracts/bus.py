"""The contract of every bus: subclass `BusContract` and override its fixture `join`.

    class TestMyBus(BusContract):
        @pytest.fixture
        async def join(self):
            async def place():
                return await MyBus.connect(...)

            yield place

Only the port is used here (`chatkit.bus.base`). A bus may lose, repeat and reorder; with nothing wrong between its
members it is expected to deliver, and that is what these tests rest on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from ...bus.base import DATA_BYTES_MAX, Bus, BusEvent, Lost, Message

Join = Callable[[], Awaitable[Bus]]
"""Makes a new place on one bus."""

WAIT_S = 5.0


class Ear:
    """Reads what comes to a place on the bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.heard: list[BusEvent] = []
        self.ended = False

    async def run(self) -> None:
        """Read until the events end."""
        async for event in self._bus.events():
            self.heard.append(event)
        self.ended = True

    def data(self) -> set[bytes]:
        """The data of all messages heard so far."""
        return {event.data for event in self.heard if isinstance(event, Message)}

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for something that is bound to be heard."""
        with anyio.fail_after(WAIT_S):
            while not true():  # noqa: ASYNC110 -- the bus says nothing but events
                await anyio.sleep(0.01)


@asynccontextmanager
async def listening(bus: Bus) -> AsyncIterator[Ear]:
    """An ear that reads in the background."""
    ear = Ear(bus)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ear.run)
        yield ear
        tasks.cancel_scope.cancel()


class BusContract:
    """All that a bus promises, as tests. They run through anyio's pytest plugin, on whatever backend you choose."""

    pytestmark = pytest.mark.anyio

    soon_s = 0.1
    """How long a subscription or a message takes at most, on this bus in this test."""

    flood = 100_000
    """More messages than wait for one reader."""

    @pytest.fixture
    def join(self) -> Join:
        """Override: makes places on one fresh bus."""
        raise NotImplementedError("override the fixture `join`")

    async def soon(self) -> None:
        """Give the bus the time it needs."""
        await anyio.sleep(self.soon_s)

    async def test_every_other_member_that_subscribed_gets_it(self, join: Join) -> None:
        speaker, first, second, other = [await join() for _ in range(4)]
        for bus in (speaker, first, second):
            bus.subscribe("c.one")
        other.subscribe("c.two")
        await self.soon()
        async with (
            listening(speaker) as own,
            listening(first) as a,
            listening(second) as b,
            listening(other) as c,
        ):
            speaker.publish("c.one", b"hello")
            await a.until(lambda: bool(a.heard))
            await b.until(lambda: bool(b.heard))
            await self.soon()

            assert a.heard[0] == b.heard[0] == Message("c.one", b"hello")
            assert own.heard == c.heard == []

    async def test_who_unsubscribed_gets_no_more(self, join: Join) -> None:
        speaker, bus = await join(), await join()
        bus.subscribe("leave")
        bus.subscribe("stay")
        bus.unsubscribe("never subscribed")
        await self.soon()
        bus.unsubscribe("leave")
        await self.soon()
        async with listening(bus) as ear:
            speaker.publish("leave", b"unheard")
            speaker.publish("stay", b"heard")
            await ear.until(lambda: b"heard" in ear.data())
            await self.soon()

            assert ear.data() == {b"heard"}

    async def test_one_unsubscribing_undoes_two_subscribings(self, join: Join) -> None:
        speaker, bus = await join(), await join()
        bus.subscribe("t")
        bus.subscribe("t")
        await self.soon()
        async with listening(bus) as ear:
            speaker.publish("t", b"once")
            await ear.until(lambda: b"once" in ear.data())
            await self.soon()
            assert len(ear.heard) == 1
            bus.unsubscribe("t")
            await self.soon()
            speaker.publish("t", b"unheard")
            await self.soon()

            assert len(ear.heard) == 1

    @pytest.mark.parametrize("topic", ["a", "c.A-z_0.9:x@host", "c.a..b", "x" * 200])
    async def test_topics_of_every_kind_carry_bytes_of_every_kind(self, join: Join, topic: str) -> None:
        speaker, bus = await join(), await join()
        bus.subscribe(topic)
        await self.soon()
        sent = [b"", bytes(range(256)), b"x" * DATA_BYTES_MAX]
        async with listening(bus) as ear:
            for data in sent:
                speaker.publish(topic, data)
            await ear.until(lambda: ear.data() == set(sent))

            assert all(isinstance(event, Message) and event.topic == topic for event in ear.heard)

    async def test_a_topic_is_its_whole_name(self, join: Join) -> None:
        speaker, bus = await join(), await join()
        for topic in ("c.one", "c.*", "#"):
            bus.subscribe(topic)
        await self.soon()
        async with listening(bus) as ear:
            for topic in ("c.on", "c.one.more", "C.ONE", "c", "d.one"):
                speaker.publish(topic, b"unheard")
            for topic in ("c.one", "c.*", "#"):
                speaker.publish(topic, topic.encode())
            await ear.until(lambda: ear.data() >= {b"c.one", b"c.*", b"#"})
            await self.soon()

            assert ear.data() == {b"c.one", b"c.*", b"#"}

    async def test_a_reader_too_slow_is_told_that_something_was_lost(self, join: Join) -> None:
        speaker, bus = await join(), await join()
        bus.subscribe("t")
        await self.soon()
        for number in range(self.flood):
            speaker.publish("t", b"%d" % number)
        await self.soon()
        async with listening(bus) as ear:
            await ear.until(lambda: Lost() in ear.heard)
            while b"later" not in ear.data():  # what is left of the flood may drown it
                speaker.publish("t", b"later")
                await self.soon()

            assert len(ear.heard) <= self.flood
            newest = Message("t", b"later")
            assert ear.heard.index(Lost()) < ear.heard.index(newest)

    async def test_reading_can_end_and_begin_again(self, join: Join) -> None:
        speaker, bus = await join(), await join()
        bus.subscribe("t")
        await self.soon()
        for data in (b"one", b"two"):
            async with listening(bus) as ear:
                speaker.publish("t", data)
                await ear.until(lambda ear=ear, data=data: data in ear.data())  # type: ignore[misc]  # bound at once

    async def test_what_comes_while_nobody_reads_waits(self, join: Join) -> None:
        speaker, bus = await join(), await join()
        bus.subscribe("t")
        await self.soon()
        speaker.publish("t", b"early")
        await self.soon()
        async with listening(bus) as ear:
            await ear.until(lambda: b"early" in ear.data())

    async def test_who_left_is_off_the_bus_and_the_others_are_not(self, join: Join) -> None:
        speaker, gone, bus = await join(), await join(), await join()
        bus.subscribe("t")
        await self.soon()
        await gone.aclose()
        async with listening(bus) as ear:
            gone.publish("t", b"from nobody")
            speaker.publish("t", b"hello")
            await ear.until(lambda: b"hello" in ear.data())
            await self.soon()

            assert ear.data() == {b"hello"}
        with anyio.fail_after(WAIT_S):
            assert [event async for event in gone.events()] == []

    async def test_events_end_with_the_membership(self, join: Join) -> None:
        speaker, bus = await join(), await join()
        bus.subscribe("t")
        await self.soon()
        async with listening(bus) as ear:
            await bus.aclose()
            await bus.aclose()
            speaker.publish("t", b"unheard")
            bus.publish("t", b"from nobody")
            await ear.until(lambda: ear.ended)

            assert ear.data() == set()
