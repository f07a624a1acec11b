from __future__ import annotations
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
import pytest
from chatkit.queue.base import Queue
from chatkit.queue.jetstream import JetStreamQueue
from chatkit.testing.contracts.queue import QueueContract
from tests.servers.nats import nats_process
from tests.servers.process import ServerProcess, running
numbers = itertools.count()

@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio", {"use_uvloop": False}

@pytest.fixture(scope="session")
def jetstream_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("jetstream")
    with running(nats_process(folder, "-js", "-sd", str(folder))) as server:
        yield server

class TestJetStreamQueue(QueueContract):
    @pytest.fixture
    async def queue(self, jetstream_server: ServerProcess) -> AsyncIterator[Queue]:
        made = JetStreamQueue(f"jetstream://127.0.0.1:{jetstream_server.port}", prefix=f"contract{next(numbers)}", items_max=self.items_max, visibility_s=self.visibility_s)
        await made.connect()
        yield made
        await made.aclose()
