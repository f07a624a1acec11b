"""A bad network between real sockets: slices, cuts, resets, silence, slow links and storms lose and double nothing."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

from chatkit import ChatApi, ClientConfig, SendOutcomeUnknownError
from chatkit.client.events import Connected, MessageRecalled, ReceiptChanged
from tests.proof.proxy import HELD_BYTES_MAX, BlockingProxy, FaultyProxy, Traffic, Where
from tests.proof.toxics import Bandwidth, BlackHole, Freeze, Latency, LimitData, Slicer

from .hosted import HostedServer, hosted
from .peer import Peer, send_msg
from .phone import SOON_S, Phone, phone, phones, rows
from .server_process import ServerProcess
from .tokens import token
from .world import World, fresh

CUTS = 50
CROWD = 200
PATIENT = ClientConfig(backoff_base_s=0.5, backoff_max_s=1.0)
"""So many in one process must not try again as fast as one alone may."""
SLOW = 5
BACKLOG = 250
BODY = "x" * 40_000


@pytest.fixture
async def proxy(server: ServerProcess) -> AsyncIterator[FaultyProxy]:
    """Before the server of all tests, in the loop of this one."""
    async with FaultyProxy("127.0.0.1", server.port) as made:
        yield made


async def until(proxy: FaultyProxy, condition: Callable[[Traffic], bool]) -> Traffic:
    with anyio.fail_after(SOON_S):
        return await proxy.wait_until(condition)


async def check_all_alike(world: World, user: str, conversation: str, phones: list[Phone]) -> list[str]:
    """Every device was told everything once, in order, and shows the server's log. Returns its texts."""
    log = rows(world.api(user).log(conversation))
    for each in phones:
        await each.until_head(conversation, len(log))
        assert await each.log(conversation) == log
    return [text for _, _, text in log[1:]]


# --- tiny segments (F4) ---


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_the_whole_story_in_slices_of_one_byte(world: World, proxy: FaultyProxy, codec: str) -> None:
    proxy.add(Slicer(1))
    alice, bob = world.users(2)
    async with (
        ChatApi(proxy.url(), token=token(alice)) as api,
        phone(proxy.url(), alice, codec=codec) as a,
        phone(proxy.url(), bob, codec=codec) as b,
    ):
        made = (await api.create_conversation("SINGLE", [alice, bob])).conversation_id
        sent = await a.chat.send(made, "到了吗？")
        await b.chat.send(made, "还没有")
        await b.until_head(made, 3)
        await b.chat.mark_read(made, sent.seq)
        await a.until(lambda a: a.chat.message_state(made, sent.seq) == "READ")
        assert a.count(ReceiptChanged) > 0
        await a.chat.recall(sent.message_id)
        await b.until(lambda b: b.count(MessageRecalled) == 1)
        async with phone(proxy.url(), bob, "tablet", codec=codec) as late:
            assert await late.log(made) == rows(world.api(bob).log(made))
        assert [message.seq async for message in api.messages(made)] == [1, 2, 3, 4]


def test_bare_peers_in_slices_of_one_byte(proxied: BlockingProxy, far: World) -> None:
    proxied.add(Slicer(1))
    alice, bob = far.users(2)
    made = far.single(alice, bob)
    sender, receiver = far.peer(alice), far.peer(bob, codec="msgpack")
    ack = sender.say(made, "whole")
    pushed = receiver.expect("NEW_MSG", conversationId=made)
    assert (pushed["seq"], pushed["payload"]["text"]) == (ack["seq"], "whole")
    assert [entry["seq"] for entry in receiver.sync(made)["messages"]] == [1, 2]
    assert proxied.traffic.cuts == 0


# --- cut and reset (F2) ---


@pytest.mark.parametrize("at", [1, 40, 150], ids="{} bytes".format)
def test_a_request_cut_in_the_middle_was_not_stored_and_is_sent_again(
    proxied: BlockingProxy, far: World, world: World, at: int
) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    sender = far.peer(alice)
    proxied.add(LimitData(at, reset=True), "up", open_only=True)
    sender.send(send_msg(made, "cut " * 50, "k-1"))
    assert sender.close_code() == 1006
    assert len(world.api(bob).log(made)) == 1
    answers = [far.peer(alice).say(made, "cut " * 50, "k-1").raw for _ in range(2)]
    assert answers[0] == answers[1]
    assert [entry["seq"] for entry in world.api(bob).log(made)] == [1, 2]


@pytest.mark.parametrize("at", [1, 40, 150], ids="{} bytes".format)
def test_an_answer_cut_in_the_middle_comes_again_identical(
    proxied: BlockingProxy, far: World, world: World, at: int
) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    sender, receiver = far.peer(alice), world.peer(bob)
    proxied.add(LimitData(at, reset=True), "down", open_only=True)
    sender.send(send_msg(made, "stored", "k-1"))
    stored = receiver.expect("NEW_MSG", conversationId=made)
    assert sender.close_code() == 1006
    assert not sender.seen("MSG_ACK")
    answers = [far.peer(alice).say(made, "stored", "k-1") for _ in range(2)]
    assert answers[0].raw == answers[1].raw
    assert (answers[0]["seq"], answers[0]["messageId"]) == (stored["seq"], stored["messageId"])
    assert len(world.api(bob).log(made)) == 2


@pytest.mark.parametrize("where", ["up", "down"])
async def test_the_sdk_resolves_a_reset_in_the_middle_of_a_send(
    world: World, proxy: FaultyProxy, where: Where
) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    async with phone(proxy.url(), alice) as a, phone(world.http_url, bob) as b:
        proxy.add(LimitData(60, reset=True), where, open_only=True)
        sent = await a.chat.send(made, "once", client_msg_id="k-1")
        assert proxy.traffic.cuts == 1
        assert await check_all_alike(world, bob, made, [a, b]) == ["once"]
        assert await a.chat.send(made, "once", client_msg_id="k-1") == sent
    ack = world.peer(alice, "another").say(made, "once", "k-1")
    assert (ack["seq"], ack["messageId"], ack["serverTs"]) == (sent.seq, sent.message_id, sent.server_ts)


async def test_fifty_cuts_in_the_middle_of_frames_while_three_chat(world: World, proxy: FaultyProxy) -> None:
    users, rng = world.users(3), random.Random(50)
    made = world.group(*users)
    async with phones(proxy.url(), users) as three:
        for number in range(CUTS):
            async with anyio.create_task_group() as tasks:
                for each in three:
                    tasks.start_soon(_say_four, each, made, number)
                await cut_somewhere(proxy, rng)
        texts = await check_all_alike(world, users[0], made, three)
    assert len(texts) == len(set(texts)) == 3 * 4 * CUTS
    for user in users:
        own = [text for text in texts if text.startswith(user)]
        assert own == sorted(own), "a sender's order survives"
    assert proxy.traffic.cuts >= CUTS


async def cut_somewhere(proxy: FaultyProxy, rng: random.Random) -> None:
    """Cut each connection after so many bytes more, until one was cut."""
    before = proxy.traffic.cuts
    limit = LimitData(rng.randint(1, 400), reset=rng.random() < 0.5)
    fault = proxy.add(limit, "up" if rng.random() < 0.5 else "down")
    await until(proxy, lambda traffic: traffic.cuts > before)
    proxy.remove(fault)


async def _say_four(each: Phone, conversation: str, number: int) -> None:
    async with anyio.create_task_group() as tasks:
        for part in range(4):
            text = f"{each.chat.user_id} {number:03} {part}"
            tasks.start_soon(each.chat.send, conversation, text)


async def test_two_hundred_come_back_from_a_storm(world: World, proxy: FaultyProxy) -> None:
    users = world.users(CROWD)
    made = world.group(*users)
    async with phones(proxy.url(), users, config=PATIENT) as crowd:
        await proxy.down(reset=True)
        async with anyio.create_task_group() as tasks:
            for each in crowd[:20]:
                tasks.start_soon(each.chat.send, made, f"from {each.chat.user_id}, away")
            for number in range(5):
                assert world.api(users[-1]).say(made, f"meanwhile {number}", f"m{number}").status_code == 200
            for each in crowd:
                await each.until(lambda each: each.codes() == [1006])
            proxy.up()
        texts = await check_all_alike(world, users[0], made, crowd)
        assert [each.count(Connected) for each in crowd] == [2] * CROWD
    assert len(texts) == len(set(texts)) == 25
    assert [text for text in texts if text.startswith("meanwhile")] == [f"meanwhile {n}" for n in range(5)]


# --- slow links (F4) ---


async def test_latency_and_jitter_change_nothing_but_the_time(world: World, proxy: FaultyProxy) -> None:
    proxy.add(Latency(0.02, jitter_s=0.02))
    users = world.users(3)
    made = world.group(*users)
    async with phones(proxy.url(), users) as three:
        async with anyio.create_task_group() as tasks:
            for each in three:
                for number in range(10):
                    tasks.start_soon(_say_four, each, made, number)
        texts = await check_all_alike(world, users[0], made, three)
    assert len(texts) == len(set(texts)) == 120
    assert proxy.traffic.cuts == 0


async def test_a_backlog_reaches_slow_readers_whole_and_is_not_piled_up(own_server: ServerProcess) -> None:
    world = World(own_server.http_url, own_server.ws_url)
    alice, *others = world.users(1 + SLOW)
    made = world.group(alice, *others)
    async with (
        FaultyProxy("127.0.0.1", own_server.port) as proxy,
        phones(proxy.url(), others) as slow,
        phone(own_server.http_url, alice) as quick,
    ):
        link = proxy.add(Bandwidth(500_000), "down")
        before = peak_bytes(own_server)
        for number in range(BACKLOG):
            await quick.chat.send(made, f"{number} {BODY}")
        assert proxy.traffic.down_bytes < SLOW * BACKLOG * len(BODY) / 2, "most of it still has to come"
        assert proxy.traffic.held_bytes <= SLOW * HELD_BYTES_MAX
        grown = peak_bytes(own_server) - before
        proxy.change(link, Bandwidth(20_000_000))
        texts = await check_all_alike(world, alice, made, [quick, *slow])
    world.close()
    assert texts == [f"{number} {BODY}" for number in range(BACKLOG)]
    assert grown < SLOW * BACKLOG * len(BODY) / 2, "pushes that cannot leave are dropped, and pulled later"


async def test_a_slow_line_makes_progress_however_much_waits() -> None:
    """What waits is many times what such a line carries within two heartbeats."""
    async with hosted() as host, FaultyProxy("127.0.0.1", host.port) as proxy:
        alice, bob = fresh("alice"), fresh("bob")
        await host.create_conversation("GROUP", alice, [alice, bob], conversation_id="slow")
        async with (
            phone(proxy.url(), alice) as slow,
            phone(f"http://127.0.0.1:{host.port}", bob) as quick,
            anyio.create_task_group() as group,
        ):
            await proxy.down()
            for number in range(150):
                group.start_soon(slow.chat.send, "slow", f"{number} {'x' * 4000}")
            proxy.add(Bandwidth(400_000), "both")
            proxy.up()
            await quick.until_head("slow", 151)
            for number in range(100):
                await quick.chat.send("slow", f"{number} {'y' * 4000}")
            await slow.until_head("slow", 251)


def peak_bytes(server: ServerProcess) -> int:
    """Most memory that the server's processes ever held."""
    statuses = [Path(f"/proc/{pid}/status").read_text() for pid in server.pids]
    return 1024 * sum(int(re.findall(r"^VmHWM:\s+(\d+)", status, re.MULTILINE)[0]) for status in statuses)


# --- silence: half-open and one-way (F3, F6) ---


@pytest.fixture
async def host() -> AsyncIterator[HostedServer]:
    async with hosted() as made:
        yield made


@pytest.fixture
async def hole(host: HostedServer) -> AsyncIterator[FaultyProxy]:
    """Before `host`."""
    async with FaultyProxy("127.0.0.1", host.port) as made:
        yield made


async def single(host: HostedServer) -> tuple[str, str, str]:
    alice, bob = fresh("alice"), fresh("bob")
    await host.create_conversation("SINGLE", alice, [alice, bob], conversation_id=(made := fresh("c")))
    return made, alice, bob


async def check_hosted(host: HostedServer, conversation: str, devices: list[Phone]) -> list[str]:
    """As `check_all_alike`, of a server that has no HTTP client."""
    head = (await host.store.head_seqs([conversation]))[conversation][1]
    entries = await host.store.entries(conversation, 0, head)
    for each in devices:
        await each.until_head(conversation, head)
        told = [(seq, message_id) for seq, message_id, _ in await each.log(conversation)]
        assert told == [(entry.seq, entry.message_id) for entry in entries]
    return [text for _, _, text in (await devices[0].log(conversation))[1:]]


async def test_a_half_open_connection_is_reaped_and_the_client_comes_back(
    host: HostedServer, hole: FaultyProxy
) -> None:
    made, alice, bob = await single(host)
    async with phone(hole.url(), alice) as a, phone(f"http://127.0.0.1:{host.port}", bob) as b:
        fault = hole.add(BlackHole())
        with pytest.raises(SendOutcomeUnknownError):
            await a.chat.send(made, "into the hole", client_msg_id="k-1", timeout=0.05)
        await b.chat.send(made, "out of reach")
        assert await host.until_closed(alice) == 4001
        assert a.count(Connected) == 1
        hole.remove(fault)
        sent = await a.chat.send(made, "into the hole", client_msg_id="k-1")
        texts = await check_hosted(host, made, [a, b])
        assert a.codes() == [1006], "nobody told it; it found out by itself"
    assert (texts, sent.seq) == (["out of reach", "into the hole"], 3)


async def test_who_leaves_a_half_open_connection_behind_takes_its_place(
    host: HostedServer, hole: FaultyProxy
) -> None:
    made, alice, bob = await single(host)
    async with phone(hole.url(), alice) as a, phone(f"http://127.0.0.1:{host.port}", bob) as b:
        hole.add(BlackHole(), open_only=True)
        await b.chat.send(made, "missed at first")
        await a.until(lambda a: a.count(Connected) == 2)
        await a.chat.send(made, "on a new line")
        assert await host.until_closed(alice) in (4001, 4201)
        await b.chat.send(made, "heard")
        assert await check_hosted(host, made, [a, b]) == ["missed at first", "on a new line", "heard"]
        assert a.codes() == [1006], "the end of the old session is not the new one's"


@pytest.mark.parametrize("where", ["up", "down"])
async def test_a_one_way_partition_leaves_a_send_open_and_a_replay_resolves_it(
    host: HostedServer, hole: FaultyProxy, where: Where
) -> None:
    made, alice, bob = await single(host)
    async with phone(hole.url(), alice) as a, phone(f"http://127.0.0.1:{host.port}", bob) as b:
        fault = hole.add(Freeze(), where)
        with pytest.raises(SendOutcomeUnknownError):
            await a.chat.send(made, "unknown", client_msg_id="k-1", timeout=0.05)
        await b.chat.send(made, "beside")
        if where == "down":
            await b.until_head(made, 3)
        await a.until(lambda a: a.codes() != [])
        hole.remove(fault)
        sent = await a.chat.send(made, "unknown", client_msg_id="k-1")
        texts = await check_hosted(host, made, [a, b])
    assert sorted(texts) == ["beside", "unknown"]
    assert texts[sent.seq - 2] == "unknown"


async def test_who_is_not_heard_is_told_so_on_the_way_that_is_open(
    host: HostedServer, hole: FaultyProxy
) -> None:
    made, alice, _ = await single(host)
    peer = await anyio.to_thread.run_sync(_login, hole.url("ws", "/v1/ws"), alice)
    fault = hole.add(Freeze(), "up")
    await host.send(made, alice, "still heard", client_msg_id="k-1")
    try:
        pushed = await anyio.to_thread.run_sync(peer.expect, "NEW_MSG")
        assert pushed["payload"]["text"] == "still heard"
        heard_bytes = hole.traffic.down_bytes
        assert await host.until_closed(alice) == 4001
        await until(hole, lambda traffic: traffic.down_bytes > heard_bytes)
        hole.remove(fault)
        assert await anyio.to_thread.run_sync(peer.close_code) == 4001
    finally:
        await anyio.to_thread.run_sync(peer.close)


def _login(url: str, user: str) -> Peer:
    peer = Peer(url)
    peer.hello(token(user, "phone"), "phone")
    peer.heads()
    return peer
