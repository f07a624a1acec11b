"""What a delivery and a confirmation cost, counted: encodes, wakes, frames, commands, calls of Python functions.

None of it depends on time. Whoever makes one of these numbers smaller lowers the bound here.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import chatkit
from chatkit.storage.base import AdvanceDelivered, Entry
from chatkit.wire import events as ev
from chatkit.wire.codec import JSON, MSGPACK

from .harness import GatedStore, HarnessServer, Peer, group, login, serving, text

SOURCE = Path(chatkit.__file__).parent
SERVER = tuple(f"{SOURCE / folder}/" for folder in ("server", "wire", "core"))
MEMBERS = 20

CALLS_PER_DELIVERY = 1
"""The push; whom it wakes is not counted."""

CALLS_PER_MESSAGE = 13
"""Of a message that is published, whatever its audience."""

CALLS_PER_MESSAGE_OF_A_RUN = 8
"""Of a message that follows another one of its sender, whatever its audience."""

CALLS_PER_MERGED_CONFIRMATION = 11
"""Of a confirmation that takes the place of one that waits: from its frame to the queue."""


async def office(server: HarnessServer) -> tuple[str, list[Peer]]:
    """A group of which every other member speaks MessagePack."""
    users = [f"u-{number}" for number in range(MEMBERS)]
    name = await group(server, *users)
    return name, [
        await login(server, it, codec=MSGPACK if place % 2 else JSON) for place, it in enumerate(users)
    ]


@contextmanager
def counting_calls() -> Iterator[Counter[str]]:
    """Calls of Python functions of the server, by name."""
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(SERVER):
            calls[frame.f_code.co_qualname] += 1

    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def entry(server: HarnessServer, name: str, seq: int, sender_id: str) -> Entry:
    audience = server.engine._publisher._hub.audience(name)
    assert audience is not None
    payload = b'{"text":"hello","type":"TEXT"}'
    return Entry(name, audience.epoch, f"m-{seq}", seq, sender_id, 1_700_000_000_000, payload, f"k-{seq}")


async def test_a_message_is_encoded_once_for_each_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: Counter[str] = Counter()
    for codec in (JSON, MSGPACK):

        def count(event: Any, name: str = codec.name, encode: Any = codec.encode) -> Any:
            if isinstance(event, ev.NewMsg):
                encoded[name] += 1
            return encode(event)

        monkeypatch.setattr(codec, "encode", count)
    async with serving() as server:
        name, peers = await office(server)
        peers[0].say(*(text(name, f"k-{number}") for number in range(5)))
        await peers[0].hear(*["MSG_ACK"] * 5)

    assert encoded == {"json": 5, "msgpack": 5}


async def test_a_batch_is_one_wake_and_one_frame_for_each_member() -> None:
    async with serving() as server:
        name, peers = await office(server)
        for peer in peers:
            peer.read()
        wakes: Counter[str] = Counter()
        for peer in peers:
            peer.session._wake = lambda user_id=peer.session.user_id: wakes.update([user_id])  # type: ignore[misc]
        peers[0].say(*(text(name, f"k-{number}") for number in range(5)))
        await server._committer.flush()
        waiting = {len(peer.session._buffer) for peer in peers[1:]}
        frames = [peer.session.next_frame() for peer in peers]
        more = [peer.session.next_frame() for peer in peers]

    assert waiting == {5}
    assert None not in frames
    assert set(more) == {None}
    assert set(wakes.values()) == {1}


async def test_calls_of_a_delivery() -> None:
    async with serving() as server:
        name, peers = await office(server)
        hub = server.engine._publisher._hub
        for seq in (2, 3):
            published = entry(server, name, seq, "u-0")
            with counting_calls() as calls:
                hub.publish(published, peers[0].session)
            assert sum(calls.values()) <= CALLS_PER_MESSAGE + CALLS_PER_DELIVERY * (MEMBERS - 1), calls
            assert calls["Session.push"] == MEMBERS - 1


async def test_calls_of_a_confirmation_that_another_one_follows() -> None:
    async with serving() as server:
        name, peers = await office(server)
        ben = peers[2].session
        server.engine._publisher._hub.publish(entry(server, name, 2, "u-0"), None)
        frames = [
            JSON.encode(ev.DeliveredAck(conversation_id=name, up_to_seq=seq)).decode() for seq in (1, 1, 2)
        ]
        ben.received(frames[0], 1.0)
        for frame in frames[1:]:
            with counting_calls() as calls:
                ben.received(frame, 1.0)
            assert sum(calls.values()) <= CALLS_PER_MERGED_CONFIRMATION, calls


async def test_a_device_confirms_with_one_command_however_often_it_says_so() -> None:
    store = GatedStore()
    async with serving(store) as server:
        name, peers = await office(server)
        peers[0].say(*(text(name, f"k-{number}") for number in range(50)))
        await server._committer.flush()
        store.batches.clear()
        for seq in range(2, 52):
            for peer in peers:
                peer.say({"event": "DELIVERED_ACK", "conversationId": name, "upToSeq": seq})
        await server._committer.flush()

    assert [[type(it) for it in batch] for batch in store.batches] == [[AdvanceDelivered] * MEMBERS]


async def test_calls_of_a_run_of_messages_of_one_sender() -> None:
    """A member's buffer is gone to once for all of them."""
    async with serving() as server:
        name, peers = await office(server)
        hub = server.engine._publisher._hub
        for first_seq in (2, 18):
            run = [entry(server, name, seq, "u-0") for seq in range(first_seq, first_seq + 16)]
            with counting_calls() as calls:
                offered = hub.publish_run(run, peers[0].session)
            assert offered == [MEMBERS - 1] * 16
            assert calls["Session.push_run"] == MEMBERS - 1
            assert sum(calls.values()) <= MEMBERS - 1 + CALLS_PER_MESSAGE_OF_A_RUN * 16, calls
