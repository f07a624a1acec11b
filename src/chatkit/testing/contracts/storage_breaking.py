"""The contract of a batch that breaks. A subclass overrides the fixture `store` with an opened one."""

from __future__ import annotations

from typing import Any

from ...errors import InternalError
from ...storage import base
from ...storage.base import Store
from .storage_commands import EPOCH, do, group, read, send, snapshot, texts

NO_KEY: Any = ["a clientMsgId that is no string"]
"""No caller may send it, and no store can keep it: a bug, as far as a store can tell."""


def broken(outcomes: list[base.Outcome]) -> list[int]:
    """Which commands were refused; each must be an InternalError of its own."""
    refused = [(turn, it.error) for turn, it in enumerate(outcomes) if isinstance(it, base.Refused)]
    assert {type(error) for _, error in refused} == {InternalError}
    assert len({id(error) for _, error in refused}) == len(refused)
    return [turn for turn, _ in refused]


class BreakingContract:
    """Each command of a batch that breaks is tried alone, and a sender's order survives."""

    async def test_what_breaks_is_refused_and_its_neighbours_are_not(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        outcomes = await store.commit(
            [send("g", "ann", "a"), send("g", "ann", NO_KEY, "bad"), send("g", "bob", "b")]
        )

        assert broken(outcomes) == [1]
        seqs = [it.entry.seq for it in outcomes if isinstance(it, base.Appended)]
        assert seqs == [2, 3]
        assert (await texts(store, "g", "ann"))[1:] == [
            b'{"text":"%s","type":"TEXT"}' % it for it in (b"a", b"b")
        ]
        assert store.healthy

    async def test_a_sender_whose_message_breaks_gets_no_later_one_in_before_it(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), group("h", "ann", "bob"))
        outcomes = await store.commit(
            [
                send("g", "ann", "before"),
                send("g", "ann", NO_KEY, "bad"),
                send("g", "bob", "of another"),
                send("g", "ann", "after"),
                send("h", "ann", "elsewhere"),
                read("g", "ann", 1),
                send("g", "ann", "last"),
            ]
        )

        assert broken(outcomes) == [1, 3, 6]
        await do(store, send("g", "ann", "after"))
        assert (await store.head_seqs(["g", "h"])) == {"g": (EPOCH, 4), "h": (EPOCH, 2)}

    async def test_what_breaks_leaves_nothing(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"), send("g", "ann", "a"))
        before = await snapshot(store, ["g"], ["ann", "bob"])
        outcomes = await store.commit([send("g", "ann", NO_KEY, "bad")])

        assert broken(outcomes) == [0]
        assert await snapshot(store, ["g"], ["ann", "bob"]) == before
        await do(store, send("g", "ann", "b"))

    async def test_what_breaks_with_others_is_refused_where_it_is_no_message(self, store: Store) -> None:
        await do(store, group("g", "ann", "bob"))
        no_id: Any = ["a user id that is no string"]
        outcomes = await store.commit([read("g", no_id, 1), send("g", "ann", "a"), read("g", "ann", 2)])

        assert broken(outcomes) == [0]
        assert isinstance(outcomes[2], base.Advanced)
        assert outcomes[2].read_seq == 2
