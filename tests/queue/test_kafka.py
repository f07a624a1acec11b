from __future__ import annotations
import itertools
from collections.abc import AsyncIterator, Iterator
import anyio
import pytest
from chatkit.queue.base import Queue
from chatkit.queue.kafka import KafkaQueue
from chatkit.testing.contracts.queue import QueueContract
from tests.servers.kafka import kafka_server
from tests.servers.process import ServerProcess, running

numbers = itertools.count()


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio", {"use_uvloop": False}


class TestKafkaQueue(QueueContract):
    bounded = False
    soon_s = 20.0

    @pytest.fixture
    async def queue(self, kafka_server: ServerProcess) -> AsyncIterator[Queue]:
        made = KafkaQueue(
            f"kafka://127.0.0.1:{kafka_server.port}",
            topic=f"contract{next(numbers)}",
            group=f"contract{next(numbers)}",
            partitions=3,
            visibility_s=self.visibility_s,
        )
        await made.connect()
        yield made
        await made.aclose()
