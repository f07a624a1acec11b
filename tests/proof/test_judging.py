"""Tests with the fixtures are held against the invariants by `judging`: small projects that pytest runs here."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatkit import ChatServer
from chatkit.client.store.memory import MemoryStore
from chatkit.testing import Devices

from .dumps import CompleteHistory
from .judging import DeviceDumps, conversation_ids

pytest_plugins = ["pytester"]

JUDGED = """
import pytest

pytest_plugins = ["tests.proof.judging"]

@pytest.fixture
def anyio_backend(chat_virtual):
    return chat_virtual
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project in virtual time whose tests are judged."""
    pytester.makeini("[pytest]\nfilterwarnings = error\naddopts = -p no:cacheprovider\n")
    pytester.makeconftest(JUDGED)
    return pytester


FORGETFUL = """
import pytest
from chatkit.storage.memory import MemoryStore

class Forgetful(MemoryStore):
    async def entries(self, conversation_id, after_seq, limit):
        log = await super().entries(conversation_id, after_seq, limit)
        return [entry for entry in log if entry.client_msg_id != "lost"]

@pytest.fixture
def chat_store(chat_rng):
    return Forgetful(ids=chat_rng.ports("store").ids)

@pytest.fixture
async def ann(chat_server, chat_client):
    await chat_server.create_conversation("GROUP", "ann", ["bob"], conversation_id="c-1")
    async with chat_client("ann") as ann:
        yield ann

async def test_sound(ann):
    await ann.send("c-1", "hello")

async def test_lost(ann):
    await ann.send("c-1", "hello", client_msg_id="lost")

async def test_that_fails_itself(ann):
    await ann.send("c-1", "hello", client_msg_id="lost")
    assert False

@pytest.mark.xfail(strict=True)
async def test_that_is_expected_to_fail(ann):
    await ann.send("c-1", "hello", client_msg_id="lost")
    assert False
"""


def test_a_test_that_passed_is_held_against_the_invariants(project: pytest.Pytester) -> None:
    project.makepyfile(FORGETFUL)

    result = project.runpytest_inprocess()

    result.assert_outcomes(passed=2, failed=1, xfailed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_lost*", "S1 no acked loss", "*message: seq 2 of c-1, 'lost' of ann*"]
    )


OTHER_WAYS = """
import anyio
import httpx
import pytest
from chatkit import ChatApi, ChatClient, asgi_app
from chatkit.gateway.memory import MemoryConnector
from chatkit.ports import Ports
from chatkit.server.engine import Engine
from chatkit.storage.base import Append, Appended, CreateConversation
from chatkit.storage.memory import MemoryStore

@pytest.fixture
async def chat_store(chat_rng, request):
    store = MemoryStore(ids=chat_rng.ports("store").ids)
    if "older" in request.node.name:
        await store.migrate()
        await store.commit([
            CreateConversation("c-old", "GROUP", "ann", ("ann", "bob"), "", "epoch", 1000, 1),
            Append("c-old", "ann", "k", b'{"text":"before","type":"TEXT"}', b"mac", 2),
        ])
    return store

@pytest.fixture
async def bob(chat_server, chat_client, chat_rng):
    await chat_server.create_conversation("GROUP", "ann", ["bob"], conversation_id="c-1")
    async with chat_client("bob") as bob:
        yield bob

@pytest.fixture
async def api(chat_server, bob):
    over = httpx.ASGITransport(asgi_app(chat_server))
    async with httpx.AsyncClient(transport=over, base_url="http://chat.test") as client:
        async with ChatApi("http://chat.test", token="ann", device_id="web", client=client) as api:
            yield api

async def test_http(api, bob):
    sent = await api.send("c-1", "hello", client_msg_id="k")
    await bob.send("c-1", "hello ann")
    assert (await api.send("c-1", "hello", client_msg_id="k")).seq == sent.seq
    await api.mark_delivered(sent.message_id)
    await api.mark_read("c-1", 3)
    await api.add_members("c-1", ["cat"])
    await api.recall(sent.message_id)
    assert [m.type for m in await bob.history("c-1")][1] == "RECALLED"

async def test_the_engine(chat_server, bob, chat_history):
    append = chat_server.engine.append("c-1", "ann", "k", {"type": "TEXT", "text": "hello"})
    await chat_server.engine.execute(append, Appended)
    await bob.mark_read("c-1", 2)
    sends = [call for call in chat_history.calls if call.op == "send"]
    assert [(call.user_id, call.args["client_msg_id"]) for call in sends] == [("ann", "k")]

@pytest.mark.parametrize("way", ["memory", "network"])
async def test_a_plain_client(chat_server, chat_network, bob, way):
    connector = MemoryConnector(chat_server)
    if way == "network":
        connector = chat_network.connector("ann", "web", lambda: "node")
    async with ChatClient("ws://chat.test", token="ann", device_id="web", connector=connector) as ann:
        sent = await ann.send("c-1", "hello")
        await ann.mark_read("c-1", sent.seq)
        await ann.recall(sent.message_id)
    assert [m.type for m in await bob.history("c-1")][1] == "RECALLED"

async def test_older_entries(chat_client):
    async with chat_client("bob") as bob:
        await anyio.sleep(60)
        assert [m.text for m in await bob.history("c-old")][1] == "before"
"""


def test_what_came_in_other_ways_is_held_against_nobody(project: pytest.Pytester) -> None:
    project.makepyfile(OTHER_WAYS)

    project.runpytest_inprocess().assert_outcomes(passed=5)


INVENTIVE = """
import pytest
from chatkit.storage.memory import MemoryStore

class Inventive(MemoryStore):
    async def commit(self, commands):
        invented = [it for it in commands if getattr(it, "client_msg_id", "") == "k"]
        import msgspec
        await super().commit([msgspec.structs.replace(it, client_msg_id="invented") for it in invented])
        return await super().commit(commands)

@pytest.fixture
def chat_store(chat_rng):
    return Inventive(ids=chat_rng.ports("store").ids)

async def test_an_invention(chat_server, chat_client):
    await chat_server.create_conversation("GROUP", "ann", ["bob"], conversation_id="c-1")
    async with chat_client("bob") as bob:
        await bob.send("c-1", "hello", client_msg_id="k")
"""


def test_what_nobody_can_have_sent_is_a_phantom(project: pytest.Pytester) -> None:
    project.makepyfile(INVENTIVE)

    result = project.runpytest_inprocess()

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["S3 no phantom"])


SECOND_SERVER = """
import anyio
import pytest
from chatkit import ChatServer
from chatkit.testing import History, RecordingServer
from chatkit.testing.recording import by_name

class Shared:
    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def aclose(self):
        pass

@pytest.fixture
def second(chat_server, chat_store, chat_rng, chat_clock):
    ports = chat_rng.ports("node-2", chat_clock)
    return {"store": Shared(chat_store), "authenticate": by_name, "ports": ports}

@pytest.fixture
async def ann(chat_server, chat_client):
    await chat_server.create_conversation("GROUP", "ann", ["bob"], conversation_id="c-1")
    async with chat_client("ann") as ann:
        yield ann

async def test_unseen(ann, second):
    async with ChatServer(**second) as server:
        await server.send("c-1", "bob", "hello", client_msg_id="k")
        await anyio.sleep(60)

async def test_noted(ann, second, chat_history):
    async with RecordingServer(chat_history, **second) as server:
        await server.send("c-1", "bob", "hello", client_msg_id="k")
        await anyio.sleep(60)

class TestUnjudged:
    @pytest.fixture
    def chat_history(self):
        return History(anyio.current_time)

    async def test_unseen(self, ann, second, chat_history):
        async with ChatServer(**second) as server:
            await server.send("c-1", "bob", "hello", client_msg_id="k")
            await anyio.sleep(60)
        assert chat_history.frames
"""


def test_a_second_server_is_judged_by_what_it_notes_unless_nothing_is_judged(
    project: pytest.Pytester,
) -> None:
    project.makepyfile(SECOND_SERVER)

    result = project.runpytest_inprocess()

    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_unseen*", "S3 no phantom"])


OFF_BY_ONE = """
import pytest
from chatkit.storage.memory import MemoryStore

class OffByOne:
    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def page(self, conversation_id, user_id, after_seq, *bounds, **how):
        return await self._store.page(conversation_id, user_id, after_seq + 1, *bounds, **how)

@pytest.fixture
def chat_store(chat_rng):
    return OffByOne(MemoryStore(ids=chat_rng.ports("store").ids))

async def test_one_message(chat_server, chat_client):
    await chat_server.create_conversation("GROUP", "ann", ["bob"], conversation_id="c-1")
    async with chat_client("ann") as ann:
        await ann.send("c-1", "hello")
        assert [m.text for m in await ann.history("c-1") if m.type == "TEXT"] == ["hello"]
"""


def test_a_bug_of_a_store_that_the_test_does_not_see_is_told(project: pytest.Pytester) -> None:
    project.makepyfile(OFF_BY_ONE)

    result = project.runpytest_inprocess()

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "S7 no hole that fills later",
            "  a page of c-1 after seq 0 for ann/phone covers seq 1 and does not list it",
        ]
    )


@pytest.fixture
def anyio_backend(chat_virtual: object) -> object:
    return chat_virtual


@pytest.mark.parametrize("kind", ["kept", "file", "own"])
async def test_what_a_device_held_at_its_end_is_dumped(
    chat_client: Devices, chat_server: ChatServer, chat_history: CompleteHistory, tmp_path: Path, kind: str
) -> None:
    await chat_server.create_conversation("GROUP", "ann", ["bob"], conversation_id="c-1")
    dumps = DeviceDumps()
    chat_client.at_close = dumps.dump
    store = {"kept": None, "file": str(tmp_path / "ann.db"), "own": MemoryStore()}[kind]
    for text in ("one", "two"):
        async with chat_client("ann", store=store, codec="msgpack", sliced=True) as ann:
            await ann.send("c-1", text)

    (dump,) = dumps.latest()
    assert [message.payload.get("text") for message in dump.messages["c-1"]][-2:] == ["one", "two"]
    assert (dump.user_id, dump.device_id, dump.pending) == ("ann", "phone", [])
    assert conversation_ids(chat_history) == ["c-1"]
