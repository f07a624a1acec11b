"""Messages between `send` and their answer, when storage, a server or an app fails in the midst of it."""

from __future__ import annotations

import anyio
from msgspec import UNSET

from chatkit.client.events import MessageSent
from chatkit.wire import events as ev

from .actor import Actor
from .demands import exactly, holds, promised, require, until
from .stage import Stage
from .stops import appends
from .wire import Heard


async def refusal_in_the_middle_of_a_pipeline(stage: Stage) -> None:
    """Three are stored, three are refused with storage, three arrive after that and are held back."""
    ann, bob = await _pair(stage)
    stop = stage.store.stop("commit", appends("m-4"))
    await ann.send_soon("c-1", *_keys(1, 6))
    await stop.reached()
    await until(lambda: ann.heard(ev.SendMsg, client_msg_id="m-6"), "the others wait in the queue")
    ann.line.stall(up=True)
    await ann.send_soon("c-1", *_keys(7, 9))
    await until(lambda: ann.line.up.under_way_bytes, "the rest leaves before the refusal is known")
    stop.refuse()
    await until(
        lambda: ann.heard(ev.ErrorEvent, client_msg_id="m-6"), "what waits in the queue is refused too"
    )
    ann.line.release()
    await ann.answered(_keys(1, 9))
    refused = [it.event.client_msg_id for it in ann.heard(ev.ErrorEvent, retryable=True)]
    refused = [key for key in refused if key is not UNSET]  # a confirmation may be refused with them
    require(refused[:3] == _keys(4, 6), f"m-4 to m-6 are refused first: {refused}")
    (told,) = exactly(1, ann.heard(ev.ErrorEvent, client_msg_id="m-6"), "refusals of m-6")
    require(told.place < ann.heard(ev.SendMsg, client_msg_id="m-7")[0].place, "then the rest arrives")
    holds(refused[3:6] == _keys(7, 9), f"and is held back: {refused}")
    require(len(ann.lines) == 1, "one connection all the time")
    await _stored_in_order(stage, _keys(1, 9))
    await bob.gets("c-1", 10)


async def refused_then_seen_in_the_log(stage: Stage) -> None:
    """A message is stored and its sender told UNAVAILABLE; then the log shows it; then the later ones must go on."""
    ann, bob = await _pair(stage)
    await ann.send("c-1", "m-1")
    stage.store.stop("commit", appends("m-2"), after=True).refuse(retry_after_s=5.0)
    await ann.send_soon("c-1", *_keys(2, 4))
    await until(lambda: ann.heard(ev.ErrorEvent, client_msg_id="m-4"), "all three are refused")
    require(await stage.host.keys("c-1") == _keys(1, 2), "m-2 is stored, m-3 and m-4 are not")
    await bob.send("c-1", "b-1")  # what comes after m-2 shows that there is a m-2
    await ann.answered(["m-2"])
    require(len(ann.heard(ev.SendMsg, client_msg_id="m-2")) == 1, "the log confirmed m-2, not its answer")
    await ann.answered(_keys(2, 4))
    require(
        len(ann.heard(ev.SendMsg, client_msg_id="m-2")) == 2, "the server waited for m-2 and got it again"
    )
    await _answer_is_the_stored_one(stage, ann, "m-2")
    await _stored_in_order(stage, ["m-1", "m-2", "b-1", "m-3", "m-4"])


async def reconnect_between_send_and_commit(stage: Stage) -> None:
    """The line breaks when the message has arrived and is not stored yet; it is sent again on the next one."""
    ann, bob = await _pair(stage)
    stop = stage.store.stop("commit", appends("m-1"))
    await ann.send_soon("c-1", "m-1")
    await stop.reached()
    first = ann.line
    first.cut()
    await until(lambda: stage.wire.server_end(first), "the server knows that the line broke")
    stop.go_on()
    await ann.answered(["m-1"])
    require(ann.line is not first, "there is a new line")
    await _sent_twice_stored_once(stage, ann, bob)


async def server_crash_after_commit_before_ack(stage: Stage) -> None:
    """The message is stored, and the server dies before anybody is told."""
    ann, bob = await _pair(stage)
    stop = stage.store.stop("commit", appends("m-1"), after=True)
    await ann.send_soon("c-1", "m-1")
    await stop.reached()
    stage.crash(stage.nodes[0])
    stop.go_on()
    await stage.nodes[0].wait_stopped()
    require(await stage.host.keys("c-1") == ["m-1"], "it is stored")
    require(not ann.heard(ev.MsgAck) and not bob.heard(ev.NewMsg, seq=2), "nobody was told")
    await stage.start(stage.nodes[0])
    await ann.answered(["m-1"])
    await _sent_twice_stored_once(stage, ann, bob)


async def server_crash_before_commit(stage: Stage) -> None:
    """The server dies with the message in its hands, before it is stored."""
    ann, bob = await _pair(stage)
    stop = stage.store.stop("commit", appends("m-1"))
    await ann.send_soon("c-1", "m-1")
    await stop.reached()
    stage.crash(stage.nodes[0])
    stop.refuse()
    await stage.nodes[0].wait_stopped()
    require(await stage.host.keys("c-1") == [], "it is not stored")
    await stage.start(stage.nodes[0])
    await ann.answered(["m-1"])
    await _sent_twice_stored_once(stage, ann, bob)


async def app_crash_with_pending_sends(stage: Stage) -> None:
    """The app dies with one message stored and unanswered, one in the server's queue, one not yet arrived."""
    await stage.host.create("c-1", "ann", "bob")
    ann, bob = await stage.device("ann", in_file=True), await stage.device("bob")
    stop = stage.store.stop("commit", appends("m-2"), after=True)
    await ann.send_soon("c-1", *_keys(1, 3))
    await stop.reached()
    await until(lambda: ann.heard(ev.SendMsg, client_msg_id="m-3"), "m-3 waits in the queue")
    await ann.answered(["m-1"])
    ann.line.stall(up=True)
    await ann.send_soon("c-1", "m-4")
    require(ann.pending_count == 3, "three are pending")
    await ann.killed_app()
    stop.go_on()
    require(not ann.heard(ev.SendMsg, client_msg_id="m-4"), "the last one never arrived")
    ann.begin()
    await promised(
        lambda: _sent(ann) == _keys(1, 4), "the app's next incarnation is told of each message once"
    )
    require([call.result for call in ann.calls("m-4")] == ["info"], "the call died with the app")
    await _stored_in_order(stage, _keys(1, 4))
    await bob.gets("c-1", 5)


async def drain_while_sending(stage: Stage) -> None:
    """A server drains with messages in its queue and others on their way; it answers the first, not the others."""
    ann, bob = await _pair(stage)
    node, first = stage.nodes[0], ann.line
    stop = stage.store.stop("commit", appends("m-3"))
    await ann.send_soon("c-1", *_keys(1, 6))
    await stop.reached()
    await until(lambda: ann.heard(ev.SendMsg, client_msg_id="m-6"), "the others wait in the queue")
    first.stall(up=True)
    await ann.send_soon("c-1", *_keys(7, 9))
    await until(lambda: first.up.under_way_bytes, "the rest leaves before the drain is known")
    node.drain()
    await until(lambda: ann.heard(ev.GoAway), "the server says that it drains")
    first.release()
    await promised(lambda: ann.heard(ev.ErrorEvent, client_msg_id="m-9"), "what comes now is refused")
    stop.go_on()
    await until(lambda: stage.wire.client_end(first), "the connection ends")
    require(stage.wire.client_end(first) == ev.CloseCode.DRAIN, "by the drain")
    answered = [it.event.client_msg_id for it in ann.heard(ev.MsgAck)]
    holds(answered == _keys(1, 6), f"what was accepted is answered, nothing else: {answered}")
    await node.wait_stopped()
    await anyio.sleep(1)
    await stage.start(node)
    await ann.answered(_keys(1, 9))
    await _stored_in_order(stage, _keys(1, 9))
    await bob.gets("c-1", 10)


# --- what they have in common ---


async def _pair(stage: Stage) -> tuple[Actor, Actor]:
    await stage.host.create("c-1", "ann", "bob")
    return await stage.device("ann"), await stage.device("bob")


def _keys(first: int, last: int) -> list[str]:
    return [f"m-{number}" for number in range(first, last + 1)]


def _sent(device: Actor) -> list[str]:
    return [event.sent.client_msg_id for event in device.told(MessageSent)]


async def _stored_in_order(stage: Stage, keys: list[str]) -> None:
    stored = await stage.host.keys("c-1")
    holds(stored == keys, f"the log keeps the order {keys}: {stored}")


async def _answer_is_the_stored_one(stage: Stage, ann: Actor, key: str) -> Heard:
    """The one answer to a message is what the first one would have been."""
    await until(lambda: ann.heard(ev.MsgAck, client_msg_id=key), f"{key} is answered")
    (answer,) = exactly(1, ann.heard(ev.MsgAck, client_msg_id=key), f"answers to {key}")
    stored, ack = await stage.host.stored("c-1", key), answer.event
    holds(
        stored is not None
        and (stored.message_id, stored.seq, stored.server_ts, stored.epoch)
        == (ack.message_id, ack.seq, ack.server_ts, ack.epoch),
        f"{ack} names what is stored: {stored}",
    )
    return answer


async def _sent_twice_stored_once(stage: Stage, ann: Actor, bob: Actor) -> None:
    """The first answer never came; the second one does."""
    sent = ann.heard(ev.SendMsg, client_msg_id="m-1")
    require([it.line for it in sent] == ann.lines[-2:], "it was sent on two lines, once on each")
    answer = await _answer_is_the_stored_one(stage, ann, "m-1")
    require(answer.line is ann.line, "only the second was answered")
    await _stored_in_order(stage, ["m-1"])
    await bob.gets("c-1", 2)
    holds(bob.received("c-1") == [1, 2], "the other one is told it once")
