"""What devices learn late: a recall before its message, another log under the same name, receipts of a time away."""

from __future__ import annotations

from chatkit.client.events import EpochChanged, MessageRecalled, MessageReceived, ReceiptChanged
from chatkit.wire import events as ev

from .actor import Actor, text_of
from .demands import holds, promised, require, until
from .stage import Stage
from .stops import appends, reads

# --- recall ---


async def recall_overtakes_its_message(stage: Stage) -> None:
    """A RECALL entry arrives above a gap, before a page that was read earlier, and where the network was away."""
    await stage.host.create("c-1", "ann", "bob", "cid", "dan")
    ann, bob, cid, dan = [await stage.device(user_id) for user_id in ("ann", "bob", "cid", "dan")]
    sent = await ann.send("c-1", "m-1")
    await cid.gets("c-1", 2)
    cid.away()
    await ann.recall(sent)  # seq 3
    await _recalled_above_a_gap(stage, ann, bob)  # 4 and 5
    await _recalled_while_its_page_is_read(stage, ann, dan)  # 6 and 7
    await cid.back()
    require(_showed(cid, "m-1"), "cid had the first one when he went away")
    holds(not _showed(cid, "m-2") and not _showed(cid, "m-3"), "and never got the bodies of the others")
    for device in (ann, bob, cid, dan):
        await device.gets("c-1", 7)
        types = {message.seq: message.type for message in await device.past("c-1")}
        gone = {types[seq] for seq in (2, 4, 6)}
        holds(gone == {"RECALLED"}, f"{device.name} shows three tombstones: {types}")
    for device in (bob, cid, dan):
        told = [event.seq for event in device.told(MessageRecalled)]
        holds(told == [2, 4, 6], f"{device.name} is told of each recall: {told}")


async def _recalled_above_a_gap(stage: Stage, ann: Actor, bob: Actor) -> None:
    """Bob joins the pushes in time for the recall, and too late for the message."""
    await bob.gets("c-1", 3)
    bob.away()
    sent = await ann.send("c-1", "m-2")
    stop = stage.store.stop("heads", reads("bob"))
    bob.reachable("n-1")
    await stop.reached()
    await ann.recall(sent)
    await until(lambda: bob.heard(ev.NewMsg, seq=5), "bob hears the recall")
    require(bob.placed("c-1") == 3, "and does not hold what it recalls")
    stop.go_on()
    await bob.gets("c-1", 5)
    holds(not _showed(bob, "m-2"), "bob never got the body")


async def _recalled_while_its_page_is_read(stage: Stage, ann: Actor, dan: Actor) -> None:
    """Dan's page was read before the recall, and arrives after it with the body."""
    await dan.gets("c-1", 5)
    dan.away()
    sent = await ann.send("c-1", "m-3")
    stop = stage.store.stop("page", reads("dan"), after=True)
    dan.reachable("n-1")
    await stop.reached()
    await ann.recall(sent)
    await until(lambda: dan.heard(ev.NewMsg, seq=7), "dan hears the recall")
    require(not _showed(dan, "m-3"), "before the page")
    stop.go_on()
    await dan.gets("c-1", 7)
    require(_showed(dan, "m-3"), "the page has the body")
    told = [event.message for event in dan.told(MessageReceived) if event.message.seq == 6]
    holds([message.type for message in told] == ["RECALLED"], f"the app is told a tombstone: {told}")


def _showed(device: Actor, client_msg_id: str) -> bool:
    """Whether a page or a push brought the body to a device."""
    entries = [it.event for it in device.heard(ev.NewMsg)]
    for page in device.heard(ev.SyncPage):
        entries += page.event.messages
    return any(text_of(client_msg_id).encode() in bytes(entry.payload) for entry in entries)


# --- another log ---


async def restored_log_with_a_new_epoch(stage: Stage) -> None:
    """A new epoch, while one message is under way, one waits on a device without network, and one is stored already
    and waits there too.
    """
    host = stage.host
    await host.create("c-1", "ann", "bob")
    ann, phone = await stage.device("ann"), await stage.device("bob", "phone")
    tablet = await stage.device("bob", "tablet")
    await ann.send("c-1", "a-1")
    for device in (ann, phone, tablet):
        await device.gets("c-1", 2)
    await _stored_without_answer(stage, tablet, "t-1")
    await tablet.send_soon("c-1", "t-2")
    ann.line.stall(up=True, down=True)
    await ann.send_soon("c-1", "a-2")
    await until(lambda: ann.line.up.under_way_bytes, "a-2 is under way")
    require(await host.keys("c-1") == ["a-1", "t-1"], "a-2 and t-2 are not stored")
    epoch = await host.renew_epoch("c-1")
    ann.line.release()
    await ann.answered(["a-2"])
    await tablet.back()
    await tablet.answered(["t-1", "t-2"])
    stored = await host.keys("c-1")
    holds(stored == ["a-1", "t-1", "a-2", "t-2"], f"each is stored once: {stored}")
    for device in (ann, phone, tablet):
        await device.gets("c-1", 5)
        told = [event.epoch for event in device.told(EpochChanged)]
        holds(told == [epoch], f"{device.name} is told once of the new epoch: {told}")
        seqs = [message.seq for message in await device.past("c-1")]
        holds(seqs == [1, 2, 3, 4, 5], f"{device.name} has it all from its start: {seqs}")
    holds(phone.received("c-1") == [1, 2, 3, 4, 5], "the phone was told of each entry once")


async def _stored_without_answer(stage: Stage, device: Actor, client_msg_id: str) -> None:
    """The device goes away while its message is being stored."""
    stop = stage.store.stop("commit", appends(client_msg_id), after=True)
    await device.send_soon("c-1", client_msg_id)
    await stop.reached()
    line = device.line
    device.away()
    await until(lambda: stage.wire.server_end(line), "the server knows that the line broke")
    stop.go_on()
    require(not device.heard(ev.MsgAck, client_msg_id=client_msg_id), "no answer came")


# --- receipts ---


async def receipts_missed_offline(stage: Stage) -> None:
    """While ann's phone is away bob gets and reads her message, and she reads his answer on her tablet."""
    await stage.host.create("s-1", "ann", "bob", kind="SINGLE")
    phone, tablet = await stage.device("ann", "phone"), await stage.device("ann", "tablet")
    bob = await stage.device("bob")
    bob.away()
    await phone.send("s-1", "m-1")  # seq 2
    phone.away()
    await bob.back()
    await bob.mark_read("s-1", 2)
    await bob.send("s-1", "b-1")  # seq 3
    await tablet.gets("s-1", 3)
    await tablet.mark_read("s-1", 3)
    await promised(lambda: tablet.heard(ev.ReceiptPush, user_id="bob", read_seq=2), "the tablet is told live")
    await promised(lambda: bob.heard(ev.ReceiptPush, user_id="ann", read_seq=3), "bob is told live")
    require(_state(phone) == ("SENT", 0), f"the phone knows nothing of that: {_state(phone)}")
    await phone.back()
    require(not phone.heard(ev.ReceiptPush, read_seq=2), "no RECEIPT told it of bob")
    require(not phone.heard(ev.ReceiptPush, read_seq=3), "no RECEIPT told it of the tablet")
    holds(_state(phone) == ("READ", 3), f"HEADS told it of both: {_state(phone)}")
    told = [event.receipt for event in phone.told(ReceiptChanged)]
    holds(any((it.user_id, it.read_seq) == ("", 2) for it in told), f"its app is told of bob: {told}")


def _state(device: Actor) -> tuple[str, int]:
    """What a device says of its message, and of how far its user has read."""
    assert device.client is not None
    return device.client.message_state("s-1", 2), device.placed_heads()["s-1"].read_seq
