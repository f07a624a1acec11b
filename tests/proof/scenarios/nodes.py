"""Several servers on one store, and a bus that carries nothing: whoever needs to know asks the log."""

from __future__ import annotations

from chatkit.client.events import ConversationChanged
from chatkit.wire import events as ev

from .actor import Actor
from .demands import exactly, holds, promised, require
from .stage import Stage
from .stops import appends


async def two_nodes_all_messages_lost(stage: Stage) -> None:
    """Ann and bob are connected to different servers and the bus loses all: messages, a recall and members arrive."""
    stage.lose_bus()
    ann, bob = await stage.device("ann", node="n-1"), await stage.device("bob", node="n-2")
    await stage.host.create("c-1", "ann", "bob")
    await bob.gets("c-1", 1)
    sent = [await (ann, bob)[number % 2].send("c-1", f"m-{number}") for number in range(6)]
    for device in (ann, bob):
        await device.gets("c-1", 7)
    await ann.recall(sent[0])
    await bob.gets("c-1", 8)
    await stage.host.add("c-1", "ann", "cid")
    cid = await stage.device("cid", node="n-2")
    await ann.send("c-1", "m-6")
    for device in (bob, cid):
        await device.gets("c-1", 10)
    require(stage.frames_between_nodes, "there were frames to lose")
    require(len(ann.lines) == len(bob.lines) == 1, "nobody reconnected")
    told = [message.seq for message in await bob.past("c-1")]
    holds(told == list(range(1, 11)), f"bob has it all: {told}")


async def removed_through_the_other_node(stage: Stage) -> None:
    """Cid is removed on one server and connected to another, which has not heard of it and goes on writing."""
    await stage.host.create("c-1", "ann", "bob", "cid")
    ann = await stage.device("ann", node="n-1")
    bob, cid = await stage.device("bob", node="n-2"), await stage.device("cid", node="n-2")
    await ann.send("c-1", "for-all")
    await cid.gets("c-1", 2)
    stage.lose_bus()
    lost_before = stage.frames_between_nodes
    await stage.host.remove("c-1", "ann", "cid")  # on the first server
    require(stage.frames_between_nodes > lost_before, "the frames about it were lost")
    require(not cid.told(ConversationChanged), "cid has not heard of it")
    await bob.send("c-1", "not-for-cid")  # on the second
    await ann.gets("c-1", 4)
    await promised(lambda: _left(cid), "cid is told that he left")
    require(len(cid.lines) == 1, "on the connection that he had all the time")
    holds(not cid.heard(ev.NewMsg, seq=4), "no push to who was removed")


def _left(device: Actor) -> bool:
    return any(event.change == "LEFT" for event in device.told(ConversationChanged))


async def resend_through_the_other_node(stage: Stage) -> None:
    """A server holds a message that it has not stored; its sender goes to another server and sends it again there."""
    await stage.host.create("c-1", "ann", "bob")
    ann, bob = await stage.device("ann", node="n-1"), await stage.device("bob", node="n-2")
    stop = stage.store.stop("commit", appends("m-1"))
    await ann.send_soon("c-1", "m-1")
    await stop.reached()
    ann.away()
    ann.reachable("n-2")
    await ann.answered(["m-1"])
    first, second = exactly(2, ann.heard(ev.SendMsg, client_msg_id="m-1"), "sends of m-1")
    require((first.line.node, second.line.node) == ("n-1", "n-2"), "it was sent on both")
    stored = await stage.host.stored("c-1", "m-1")
    stop.go_on()
    await ann.send("c-1", "m-2")
    await bob.gets("c-1", 3)
    holds(await stage.host.keys("c-1") == ["m-1", "m-2"], "it is stored once")
    holds(await stage.host.stored("c-1", "m-1") == stored, "and as it was")
