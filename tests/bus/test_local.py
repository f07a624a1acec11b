"""The bus inside one process keeps the contract."""

from __future__ import annotations

import pytest

from chatkit.bus.base import Bus, Lost, Message
from chatkit.bus.local import LocalBus, LocalMember
from chatkit.testing.contracts.bus import BusContract, Join, listening


class TestLocalBus(BusContract):
    soon_s = 0.01
    flood = 60

    @pytest.fixture
    def join(self) -> Join:
        bus = LocalBus(queue_max=50)

        async def place() -> Bus:
            return bus.join()

        return place


async def test_lost_is_told_before_what_still_waits_and_once() -> None:
    bus = LocalBus(queue_max=2)
    speaker, member = bus.join(), bus.join()
    member.subscribe("t")
    for number in range(5):
        speaker.publish("t", b"%d" % number)
    async with listening(member) as ear:
        await ear.until(lambda: len(ear.heard) == 3)

        assert ear.heard == [Lost(), Message("t", b"0"), Message("t", b"1")]


async def test_a_bus_with_faults_overrides_how_a_message_is_carried() -> None:
    class Deaf(LocalBus):
        def carry(self, member: LocalMember, message: Message) -> None:
            if message.data != b"lost":
                super().carry(member, message)

    bus = Deaf()
    speaker, member = bus.join(), bus.join()
    member.subscribe("t")
    speaker.publish("t", b"lost")
    speaker.publish("t", b"kept")
    async with listening(member) as ear:
        await ear.until(lambda: bool(ear.heard))

        assert ear.heard == [Message("t", b"kept")]
