"""Cursors rest for a moment: of each device and conversation the furthest becomes a command. Nothing else differs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from chatkit.storage.base import AdvanceDelivered, AdvanceRead, Command

from .harness import GatedStore, HarnessServer, Peer, group, login, serving, text

DELAY_S = 0.05


def delivered(conversation_id: str, up_to_seq: int, ref: str | None = None) -> dict[str, Any]:
    event = {"event": "DELIVERED_ACK", "conversationId": conversation_id, "upToSeq": up_to_seq}
    return event if ref is None else {**event, "ref": ref}


def read(conversation_id: str, up_to_seq: int) -> dict[str, Any]:
    return {"event": "READ", "conversationId": conversation_id, "upToSeq": up_to_seq}


def cursors(batches: Iterable[Sequence[Command]]) -> list[list[tuple[str, str, int]]]:
    """Of each batch with cursors: kind, user and place of each."""
    kinds: dict[type, str] = {AdvanceDelivered: "delivered", AdvanceRead: "read"}
    found = [
        [(kinds[type(it)], it.user_id, it.up_to_seq) for it in batch if type(it) in kinds]
        for batch in batches
    ]  # type: ignore[attr-defined]
    return [batch for batch in found if batch]


class Room:
    """A group of three with entries 1 to 6, everybody online, and a store that counts."""

    def __init__(self, server: HarnessServer, store: GatedStore, name: str, peers: list[Peer]) -> None:
        self.server = server
        self.store = store
        self.name = name
        self.ann, self.ben, self.cem = peers

    def cursors(self) -> list[list[tuple[str, str, int]]]:
        return cursors(self.store.batches)


@asynccontextmanager
async def room(**config: Any) -> AsyncIterator[Room]:
    store = GatedStore()
    async with serving(store, receipt_delay_s=DELAY_S, **config) as server:
        name = await group(server, "ann", "ben", "cem")
        peers = [await login(server, user_id) for user_id in ("ann", "ben", "cem")]
        peers[0].say(*(text(name, f"k{number}") for number in range(5)))
        await peers[0].hear(*["MSG_ACK"] * 5)
        await server._committer.flush()
        for peer in peers:
            peer.read()
        store.batches.clear()
        yield Room(server, store, name, peers)


async def test_many_confirmations_of_a_device_are_one_command() -> None:
    async with room() as it:
        for seq in (2, 3, 5, 4, 6):
            it.ben.say(delivered(it.name, seq))
        for seq in (2, 3):
            it.cem.say(delivered(it.name, seq), read(it.name, seq))
        (receipt, _) = await it.ann.hear("RECEIPT", "RECEIPT")

        assert it.cursors() == [[("delivered", "ben", 6), ("delivered", "cem", 3), ("read", "cem", 3)]]
        assert receipt["userId"] == "ben"
        assert receipt["deliveredSeq"] == 6


async def test_messages_do_not_take_them_along() -> None:
    """So that a busy group does not write a row for each device with each of its transactions."""
    async with room() as it:
        for number, seq in enumerate((2, 3, 4)):
            it.ben.say(delivered(it.name, seq))
            it.ann.say(text(it.name, f"more-{number}"))
            await it.ann.hear("MSG_ACK")
        await it.ann.hear("RECEIPT")

        assert len(it.store.batches) == 4
        assert it.cursors() == [[("delivered", "ben", 4)]]


async def test_what_else_their_user_asks_for_comes_after_them() -> None:
    async with room() as it:
        it.ben.say(delivered(it.name, 4), delivered(it.name, 6), text(it.name, "mine"), delivered(it.name, 5))
        await it.ben.hear("MSG_ACK")

        (batch,) = it.store.batches
        assert [type(command).__name__ for command in batch] == ["AdvanceDelivered", "Append"]
        assert it.cursors() == [[("delivered", "ben", 6)]]


async def test_a_login_that_is_resumed_sees_them() -> None:
    async with room() as it:
        first = Peer(it.server)
        first.say({"event": "HELLO", "token": "ben", "deviceId": "phone"})
        (welcome, _) = await first.hear("WELCOME", "HEADS")
        first.say(delivered(it.name, 6), read(it.name, 4))
        again = Peer(it.server)
        again.say({"event": "HELLO", "resumeToken": welcome["resumeToken"], "deviceId": "phone"})
        (heads,) = await again.hear("HEADS")

        (head,) = heads["conversations"]
        assert (head["deliveredSeq"], head["readSeq"]) == (6, 4)


async def test_what_changes_members_comes_after_them() -> None:
    async with room() as it:
        it.ben.say(read(it.name, 6))
        await it.server.remove_member(it.name, "ann", "ben")
        told = it.ben.read()

        assert it.cursors() == [[("read", "ben", 6)]]
        assert "CONVERSATION" in [event["event"] for event in told]
        assert "ERROR" not in [event["event"] for event in told]


async def test_one_beyond_the_head_is_refused_alone() -> None:
    async with room() as it:
        it.ben.say(delivered(it.name, 3, "a"), delivered(it.name, 900, "b"), delivered(it.name, 4, "c"))
        it.cem.say(delivered(it.name, 900), delivered(it.name, 5))
        await it.server._committer.flush()
        refused = [[event for event in peer.read() if event["event"] == "ERROR"] for peer in (it.ben, it.cem)]

        assert [[(event["code"], event.get("ref")) for event in events] for events in refused] == [
            [("BAD_REQUEST", "b")],
            [("BAD_REQUEST", None)],
        ]
        found = [batch for batches in it.cursors() for batch in batches]
        assert ("delivered", "ben", 4) in found
        assert ("delivered", "cem", 5) in found


async def test_each_mark_of_a_client_has_its_own_refusal() -> None:
    async with room() as it:
        it.store.break_for(1)
        it.ben.say(delivered(it.name, 3, "a"), delivered(it.name, 4, "a"), delivered(it.name, 5, "b"))
        await it.server._committer.flush()
        refused = await it.ben.hear("ERROR", "ERROR")

        assert [(event["code"], event["ref"]) for event in refused] == [
            ("UNAVAILABLE", "a"),
            ("UNAVAILABLE", "b"),
        ]
        assert it.ben.read() == []


async def test_where_its_user_is_no_member_the_store_says_so() -> None:
    async with room() as it:
        it.ben.say(delivered("elsewhere", 0, "x"))
        (refused,) = await it.ben.hear("ERROR")

        assert (refused["code"], refused["ref"]) == ("NOT_FOUND", "x")


async def test_they_fill_the_queue_like_everything_else_but_what_takes_no_room_is_taken() -> None:
    async with room(commit_queue_max=6) as it:
        it.ben.say(delivered(it.name, 2))
        it.cem.say(delivered(it.name, 2), read(it.name, 2))
        it.ann.say(delivered(it.name, 6, "shed"))
        it.ben.say(delivered(it.name, 5))
        refused = it.ann.read()
        await it.server._committer.flush()

        assert [(event["code"], event["ref"]) for event in refused] == [("OVERLOADED", "shed")]
        assert it.cursors() == [[("delivered", "ben", 5), ("delivered", "cem", 2), ("read", "cem", 2)]]


async def test_the_more_rest_the_longer_but_never_more_than_a_transaction_takes() -> None:
    count = 150
    store, users = GatedStore(), [f"u-{number}" for number in range(count)]
    async with serving(store, receipt_delay_s=DELAY_S, commit_batch_max=count) as server:
        name = await group(server, *users)
        peers = [await login(server, user_id) for user_id in users]
        store.batches.clear()
        for peer in peers[1:]:
            peer.say(delivered(name, 1))
        await anyio.sleep(2 * DELAY_S)
        waited = len(store.batches)
        await anyio.sleep(DELAY_S)
        assert (waited, len(store.batches)) == (0, 1)

        store.batches.clear()
        for peer in peers:
            peer.say(delivered(name, 1))
        await anyio.wait_all_tasks_blocked()
        assert [len(batch) for batch in store.batches] == [count]


@pytest.mark.parametrize("ends", [False, True])
async def test_a_drain_stores_them_and_so_does_the_end_of_their_session(ends: bool) -> None:
    async with room() as it:
        it.ben.say(delivered(it.name, 4), delivered(it.name, 5))
        if ends:
            it.ben.leave()
        await it.server._committer.flush()

        assert it.cursors() == [[("delivered", "ben", 5)]]


async def test_whoever_leaves_is_told_that_nothing_is_taken_any_more() -> None:
    async with room() as it:
        it.ben.say(delivered(it.name, 4))
        it.ben.session.leaving = True
        it.ben.say(delivered(it.name, 5, "late"))
        (refused,) = await it.ben.hear("ERROR")
        await it.server._committer.flush()

        assert (refused["code"], refused["ref"]) == ("UNAVAILABLE", "late")
        assert it.cursors() == [[("delivered", "ben", 4)]]
