"""Connections that begin or end in the wrong moment: between hub and HEADS, without WELCOME, half open, twice."""

from __future__ import annotations

from typing import Any

import anyio
from msgspec import UNSET

from chatkit.client.events import Disconnected
from chatkit.storage.base import OpenSession, ResumeSession
from chatkit.testing.network import Conditions, Line
from chatkit.wire import events as ev

from .actor import Actor
from .demands import exactly, holds, promised, require, until
from .stage import Stage
from .stops import Stop, commits, reads
from .wire import Heard, listed

CONVERSATIONS = 201
"""One more than a page of HEADS lists."""

MISSED = 40
"""Entries that a slow reader's buffer cannot hold."""

_PEACE_S = 15.0
"""Long enough for a war to show: several heartbeats and backoffs."""


# --- between hub and heads ---


async def commit_between_hub_and_heads(stage: Stage) -> None:
    """Entries are stored after the session joined and before HEADS is read, before it leaves, and between its pages."""
    phone = await stage.device("bob", "phone")
    phone.away()
    async with anyio.create_task_group() as tasks:
        for number in range(CONVERSATIONS):
            tasks.start_soon(stage.host.create, f"c-{number:03}", "ann", "bob")
    await phone.back()
    phone.away()
    await _log_in_among_commits(stage, phone)
    tablet = stage.install("bob", "tablet")
    tablet.begin()
    await _log_in_among_commits(stage, tablet)


async def _log_in_among_commits(stage: Stage, device: Actor) -> None:
    known, host, name, key = len(device.lines), stage.host, "c-000", device.device_id
    before = stage.store.stop("heads", reads("bob", key))
    after = stage.store.stop("heads", reads("bob", key), after=True)
    device.reachable("n-1")
    await before.reached()
    await until(lambda: len(device.lines) > known and _heard(device, ev.Welcome), "it is welcome")
    await host.send(name, "ann", f"{key}-before-the-read")
    await until(lambda: _heard(device, ev.NewMsg), "it hears of it")
    require(not _heard(device, ev.Heads), "before HEADS")
    before.go_on()
    await after.reached()
    device.line.stall(down=True)
    await host.send(name, "ann", f"{key}-after-the-read")
    last = (await host.heads("bob", key))[-1].conversation_id
    after.go_on()
    await anyio.sleep(0.1)  # the first page waits for room on the line now
    await host.send(last, "ann", f"{key}-between-the-pages")
    device.line.release()
    await device.caught_up()
    _came_between_the_pages(device, last)


def _heard(device: Actor, kind: type[ev.Event], **fields: Any) -> list[Heard]:
    """On its newest line."""
    return [it for it in device.heard(kind, **fields) if it.line is device.line]


def _came_between_the_pages(device: Actor, name: str) -> None:
    first, last = exactly(2, _heard(device, ev.Heads), "pages of HEADS")
    (push,) = exactly(1, _heard(device, ev.NewMsg, conversation_id=name), f"pushes of {name}")
    require(first.place < push.place < last.place, "the push came between the two pages")
    heads = [head for head in last.event.conversations if head.conversation_id == name]
    (head,) = exactly(1, heads, f"heads of {name} on the second page")
    require(head.head_seq < push.event.seq, "the page does not know of it")


# --- without WELCOME ---


async def lost_welcome(stage: Stage) -> None:
    """HELLO is served and its WELCOME lost: after a token, after a resume token, and without a sign of the loss."""
    bob = stage.install("bob")
    stop = stage.store.stop("commit", commits(OpenSession))
    bob.reachable("n-1")
    bob.begin()
    (await _welcome_hangs(bob, stop)).cut()
    await bob.caught_up()
    stop = stage.store.stop("commit", commits(ResumeSession))
    bob.line.cut()
    (await _welcome_hangs(bob, stop)).cut()
    await bob.caught_up()
    _fell_back_to_the_token(bob)
    stop = stage.store.stop("commit", commits(ResumeSession))
    bob.line.cut()
    silent = await _welcome_hangs(bob, stop)
    silent.stall(up=True)
    await bob.caught_up()
    await until(lambda: stage.wire.server_end(silent), "the server gives up the one that hangs")
    require(stage.wire.server_end(silent) == ev.CloseCode.REPLACED, "for the newer one")
    silent.release()
    await _stays_connected(stage, bob)


async def _welcome_hangs(device: Actor, stop: Stop) -> Line:
    """The line on which HELLO was served and WELCOME does not arrive."""
    await stop.reached()
    line = device.line
    line.stall(down=True)
    stop.go_on()
    await until(lambda: line.down.under_way_bytes, "WELCOME has left")
    require(not [it for it in device.heard(ev.Welcome) if it.line is line], "and has not arrived")
    return line


def _fell_back_to_the_token(device: Actor) -> None:
    """A resume token serves once: the second try with it is refused, and the login's own token is tried at once."""
    _, _, lost, again, last = (it.event for it in exactly(5, device.heard(ev.Hello), "HELLO"))
    require(lost.resume_token == again.resume_token != UNSET, "the same resume token was tried twice")
    (refused,) = exactly(1, device.heard(ev.ErrorEvent), "refusals")
    require(refused.event.code == "TOKEN_REVOKED", "the second try is refused")
    holds(last.token != UNSET and last.resume_token is UNSET, "then the token is tried")
    holds(not device.heard(ev.Welcome)[-1].event.resumed, "and is welcome")


async def late_hello(stage: Stage) -> None:
    """A HELLO that was given up arrives after all, and replaces the newer connection of its own device."""
    stage.network.conditions = Conditions(latency_s=(0.1, 0.2))
    bob = stage.install("bob")
    bob.reachable("n-1")
    bob.begin()
    await until(lambda: bob.lines, "it connects")
    first = bob.line
    first.stall(up=True)
    await bob.caught_up()
    second = bob.line
    require([it.line for it in bob.heard(ev.Hello)] == [second], "the first HELLO hangs")
    stage.wire.when_next(ev.Hello, _hangs_behind_it)
    first.release()
    await until(lambda: stage.wire.client_end(second), "the second connection ends")
    require(stage.wire.client_end(second) == ev.CloseCode.REPLACED, "for the first, which is older")
    await promised(lambda: bob.line is not second, "it connects again")
    await bob.caught_up()
    await _stays_connected(stage, bob)
    first.release()


def _hangs_behind_it(line: Line) -> None:
    """Only the HELLO got through: what says that its sender has gone does not."""
    line.stall(up=True)


async def _stays_connected(stage: Stage, device: Actor) -> None:
    line = device.line
    await anyio.sleep(_PEACE_S)
    stays = device.line is line and stage.wire.client_end(line) is None
    holds(stays, f"{device.name} keeps its connection")


# --- half open, slow ---


async def half_open_line(stage: Stage) -> None:
    """Nothing passes any more in either direction, and nobody is told: both sides find out by themselves."""
    await stage.host.create("c-1", "ann", "bob")
    ann, bob = await stage.device("ann"), await stage.device("bob")
    line = bob.line
    line.stall(up=True, down=True)
    bob.node = None
    await bob.send_soon("c-1", "b-1")
    await ann.send("c-1", "a-1")
    require(await stage.host.keys("c-1") == ["a-1"], "what bob sends does not arrive")
    await promised(lambda: stage.wire.server_end(line), "the server gives the line up")
    await promised(lambda: stage.wire.client_end(line), "the client gives the line up")
    holds(stage.wire.server_end(line) == ev.CloseCode.HEARTBEAT_LOST, "for want of a sign of life")
    line.release()
    await bob.back()
    await bob.answered(["b-1"])
    holds(await stage.host.keys("c-1") == ["a-1", "b-1"], "it is stored once")
    await ann.gets("c-1", 3)


async def slow_reader_behind_then_caught_up(stage: Stage) -> None:
    """Bob does not read for a while: pushes are dropped, BEHIND tells him, and he pulls what he missed."""
    await stage.host.create("c-1", "ann", "bob")
    ann, bob = await stage.device("ann"), await stage.device("bob")
    bob.line.stall(down=True)
    for number in range(MISSED):
        await ann.send("c-1", f"m-{number}")
    bob.line.release()
    await promised(lambda: bob.heard(ev.Behind), "bob is told that he is behind")
    head_seq = MISSED + 1
    await bob.gets("c-1", head_seq)
    require(len(bob.heard(ev.NewMsg)) < MISSED, "pushes were dropped")
    require(any(head_seq in listed(it.event) for it in bob.heard(ev.SyncPage)), "a page brought the last one")
    holds(bob.received("c-1") == list(range(1, head_seq + 1)), "bob is told everything, in order")
    holds(len(bob.lines) == 1, "he keeps his connection")


# --- twice the same device ---


async def duplicate_devices_replaced(stage: Stage) -> None:
    """Two installations say that they are the same device: the newer one stays, the older one stops for good."""
    await stage.host.create("c-1", "ann", "bob")
    ann, older = await stage.device("ann"), await stage.device("bob")
    await ann.send("c-1", "m-1")
    await until(lambda: older.heard(ev.DeliveredAck, up_to_seq=2), "the older one has confirmed m-1")
    newer = stage.install("bob")
    newer.reachable("n-1")
    newer.begin()
    await promised(lambda: not older.running, "the older one stops")
    ends = [stage.wire.client_end(line) for line in newer.lines]  # of both, which have one name
    require(ends == [ev.CloseCode.REPLACED, None], f"by 4201: {ends}")
    holds(older.told(Disconnected)[-1].will_retry is False, "its app is told that it is for good")
    (alarm,) = exactly(1, stage.alarms, "clients that stopped")
    require("4201" in alarm, f"its client stopped for that reason: {alarm}")
    stage.alarms.clear()
    await ann.send("c-1", "m-2")
    await newer.gets("c-1", 3)
    holds(newer.received("c-1")[-1] == 3, "the newer one goes on")
    await _stays_connected(stage, newer)
