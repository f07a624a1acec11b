"""Slow readers, many idle connections and large groups: bounded for one, unharmed for the others."""

from __future__ import annotations

import asyncio
import socket
import threading

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from .peer import Peer, parse
from .server_process import ServerProcess
from .tokens import token
from .world import World, fresh

IDLE = 300
FLOOD = 250
BODY = "x" * 60_000


def small_window(server: ServerProcess) -> socket.socket:
    """A socket that takes in little before the sender feels it."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    raw.connect(("127.0.0.1", server.port))
    return raw


def test_slow_consumer_is_cut_short_and_the_others_are_not(world: World, server: ServerProcess) -> None:
    alice, bob, carol = world.users(3)
    made = world.group(alice, bob, carol)
    slow = world.raw_peer(sock=small_window(server), max_queue=1)
    slow.hello(token(bob, "phone"), "phone")
    slow.heads()
    quick, sender = world.peer(carol), world.peer(alice)
    seqs: list[int] = []
    reader = threading.Thread(target=read_all, args=(quick, seqs))
    reader.start()
    for number in range(FLOOD):
        sender.say(made, BODY, f"flood-{number}")
    reader.join()
    assert seqs == list(range(2, FLOOD + 2)), "the quick one has everything, in order"
    held = heard_by_slow(slow, made)
    assert len(held) < FLOOD, "pushes were dropped, not piled up"
    assert held == sorted(held)
    back = slow if slow.inbox and slow.seen("BEHIND") else world.peer(bob, "again")
    assert back.sync(made, FLOOD)["headSeq"] == FLOOD + 1
    assert [entry["seq"] for entry in world.api(bob).log(made)] == list(range(1, FLOOD + 2))


def read_all(peer: Peer, seqs: list[int]) -> None:
    for _ in range(FLOOD):
        seqs.append(peer.expect("NEW_MSG", timeout=30)["seq"])


def heard_by_slow(peer: Peer, conversation: str) -> list[int]:
    """The seqs pushed to the slow one until BEHIND or close 4000."""
    try:
        peer.expect("BEHIND", conversationId=conversation, timeout=30)
        code = None
    except ConnectionClosed as closed:
        code = (
            closed.rcvd.code if closed.rcvd is not None else 4000
        )  # the close frame itself may not fit any more
    assert code in (None, 4000)
    held = [event["seq"] for event in peer.seen("NEW_MSG")]
    if code is None:
        peer.inbox.append(parse(b'{"event":"BEHIND"}', "json")[0])
    return held


async def idle_crowd(server: ServerProcess) -> None:
    """Opens them all, says HELLO, and has each answer a PING while all are open."""

    async def one(number: int) -> ClientConnection:
        link = await connect(
            server.ws_url, subprotocols=[Subprotocol("chatkit.v1.json")], compression=None, proxy=None,
            ping_interval=None,
        )  # fmt: skip
        user = fresh(f"idle{number}")
        await link.send(f'{{"event":"HELLO","token":"{token(user, "d")}","deviceId":"d"}}')
        await until(link, "HEADS")
        return link

    links: list[ClientConnection] = []
    try:
        for start in range(0, IDLE, 50):
            links += await asyncio.gather(*[one(start + number) for number in range(50)])
        await asyncio.gather(*[link.send('{"event":"PING"}') for link in links])
        await asyncio.gather(*[until(link, "PONG") for link in links])
    finally:
        await asyncio.gather(*[link.close() for link in links])


async def until(link: ClientConnection, name: str) -> None:
    async with asyncio.timeout(15):
        while True:
            frame = await link.recv(decode=False)
            if any(event.name == name for event in parse(frame, "json")):
                return


def test_three_hundred_idle_connections(server: ServerProcess, world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    asyncio.run(idle_crowd(server))
    assert world.peer(alice).say(made, "after the crowd")["seq"] == 2


def test_a_group_of_500_with_50_online(world: World) -> None:
    alice = world.user()
    others = world.users(499)
    made = world.group(alice, *others)
    online = [
        world.peer(user, codec=("json", "msgpack")[number % 2]) for number, user in enumerate(others[:50])
    ]
    sender = world.peer(alice)
    acks = [sender.say(made, f"to all {number}") for number in range(5)]
    for peer in online:
        for ack in acks:
            pushed = peer.expect("NEW_MSG", conversationId=made)
            assert (pushed["seq"], pushed["messageId"]) == (ack["seq"], ack["messageId"])
    assert world.api(others[-1]).history(made)["headSeq"] == 6
    status = world.api(alice).status(acks[0]["messageId"])
    assert status["memberCount"] == 499
