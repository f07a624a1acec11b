"""Who may see what, when it changes: late joining, rejoining, and a removal that nobody was told of."""

from __future__ import annotations

from chatkit.storage.base import RemoveMember
from chatkit.wire import events as ev

from .actor import Actor
from .demands import holds, require
from .host import unavailable
from .stage import Stage
from .stops import commits


async def late_joiner_and_rejoin(stage: Stage) -> None:
    """Bob is added late, removed, and added again; his phone is there, his tablet away all the time."""
    host = stage.host
    await host.create("c-1", "ann", "cid")
    ann, phone, tablet = (
        await stage.device("ann"),
        await stage.device("bob", "phone"),
        await stage.device("bob", "tablet"),
    )
    tablet.away()
    await ann.send("c-1", "before")  # seq 2
    await host.add("c-1", "ann", "bob")  # 3
    for key in ("in-1", "in-2"):
        await ann.send("c-1", key)
    await phone.gets("c-1", 5)
    await host.remove("c-1", "ann", "bob")  # 6
    for key in ("out-1", "out-2"):
        await ann.send("c-1", key)
    await host.add("c-1", "ann", "bob")  # 9
    await ann.send("c-1", "again")  # 10
    await phone.gets("c-1", 10)
    await tablet.back()
    require(len(phone.lines) == 1, "the phone was there all the time")
    require(len(tablet.lines) == 2, "the tablet was there before and after only")
    _was_told_only_his(phone)
    await _reads_only_his(phone)
    await _reads_only_his(tablet)


_HIS = [3, 4, 5, 9, 10]


def _was_told_only_his(phone: Actor) -> None:
    """Live and in order; what lies between his stays was passed over, not waited for."""
    require(phone.heard(ev.Sync, last_seq=5), "the phone asks for what comes after his first stay")
    holds(phone.received("c-1") == _HIS, f"the phone was told {_HIS}, not {phone.received('c-1')}")


async def _reads_only_his(device: Actor) -> None:
    seqs = [message.seq for message in await device.past("c-1")]
    holds(seqs == _HIS, f"{device.name} reads {_HIS}, not {seqs}")


async def removal_whose_answer_was_lost(stage: Stage) -> None:
    """Cid's removal is stored, the host is told UNAVAILABLE: what is sent later must not reach cid all the same."""
    await stage.host.create("c-1", "ann", "bob", "cid")
    ann, bob, cid = await stage.device("ann"), await stage.device("bob"), await stage.device("cid")
    await ann.send("c-1", "for-all")
    await cid.gets("c-1", 2)
    stage.store.stop("commit", commits(RemoveMember), after=True).refuse()
    require(await unavailable(stage.host.remove("c-1", "ann", "cid")), "the host is told UNAVAILABLE")
    require(len(await stage.host.log("c-1")) == 3, "the removal is stored")
    await ann.send("c-1", "not-for-cid")
    await bob.gets("c-1", 4)
    require(len(cid.lines) == 1, "cid is connected all the time")
    holds(not cid.heard(ev.NewMsg, seq=4), "no push to who was removed")
