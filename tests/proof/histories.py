"""Histories for the checker's tests: what the real engine and the real SDK did in virtual time, and how to spoil it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import anyio
import msgspec
from msgspec.structs import replace

from chatkit.testing.history import Frame
from chatkit.testing.virtual_time import run_virtual

from .dumps import CompleteHistory, DeviceDump, LogDump, StoreDump
from .scene import LATENCY_S, Device, Scene

TEAM, PAIR, ALONE = "c-team", "c-pair", "c-alone"


# --- what happened ---


async def _office(scene: Scene) -> None:
    """Everything once: all verbs, refusals, a cut, an absence, joining late, leaving, coming back and leaving again."""
    await scene.create(TEAM, "GROUP", ["ann", "bob"])
    await scene.create(PAIR, "SINGLE", ["ann", "bob"])
    await scene.create(ALONE, "GROUP", ["ann", "dan"])
    phone = await scene.device("ann", "phone")
    laptop = await scene.device("ann", "laptop", "msgpack")
    bob = await scene.device("bob", "phone")
    eve = await scene.device("eve", "phone")

    async with anyio.create_task_group() as group:
        for number in (1, 2, 3):
            group.start_soon(phone.send, TEAM, f"a-{number}", f"canary1ann{number} hello")
            await anyio.sleep(LATENCY_S / 10)
    await phone.send(TEAM, "a-1", "canary1ann1 hello")
    await phone.send(TEAM, "a-1", "canary1other another body under the same key")
    await eve.send(TEAM, "e-0", "canary1eve0 let me in")
    await anyio.sleep(1.0)  # that he has them is told before that he has read them
    await bob.mark_read(TEAM, 3)
    secret = await bob.send(TEAM, "b-1", "canary1bob1 a word too much")
    await anyio.sleep(1.0)

    await scene.add(TEAM, "ann", "eve")
    await eve.send(TEAM, "e-1", "canary1eve1 thanks")
    await bob.recall(secret.message_id)
    await bob.recall(secret.message_id)
    await eve.line.cut()
    await laptop.send(PAIR, "l-1", "canary1lap1 just us")
    await bob.mark_read(TEAM, 6)
    await anyio.sleep(2.0)

    await bob.stop()
    await laptop.send(TEAM, "l-2", "canary1lap2 where is bob?")
    await phone.send(TEAM, "a-4", "canary1ann4 away")
    await bob.start()
    await scene.remove(TEAM, "ann", "eve")
    await laptop.send(TEAM, "l-3", "canary1lap3 now that she is gone")
    await scene.add(TEAM, "ann", "eve")
    await bob.send(TEAM, "b-2", "canary1bob2 welcome back")
    await anyio.sleep(1.0)
    await scene.remove(TEAM, "eve", "eve")
    await phone.send(TEAM, "a-5", "canary1ann5 gone again")
    await eve.line.cut()
    await anyio.sleep(1.0)

    await phone.send(ALONE, "a-6", "canary1ann6 dan has no device")
    await phone.stream(ALONE, "a-7", ["canary1ann7 it", " grows", " while", " watched"])
    await bob.read_history(TEAM, None, 50)
    await phone.read_history(TEAM, 5, 2)
    await scene.page(TEAM, "eve", 0, 3)
    await scene.page(TEAM, "bob", 2, 4)
    await bob.send(TEAM, "b-1", "canary1bob1 a word too much")
    await anyio.sleep(1.0)  # nothing waits that would leave with it
    assert phone.client is not None
    await phone.client.typing(PAIR)
    await scene.list("ann")
    await scene.list("bob")


async def _renewed(scene: Scene) -> None:
    """A log that gets a new epoch while one device is there and another is away."""
    await scene.create(TEAM, "GROUP", ["ann", "bob"])
    ann, bob = await scene.device("ann", "phone"), await scene.device("bob", "phone", "msgpack")
    for number in range(5):
        await ann.send(TEAM, f"a-{number}", f"canary2ann{number}")
    await bob.stop()
    await ann.send(TEAM, "a-5", "canary2ann5")
    await scene.renew(TEAM)
    await ann.send(TEAM, "a-6", "canary2ann6")
    await ann.send(TEAM, "a-0", "canary2ann0")
    await bob.start()
    await bob.send(TEAM, "b-0", "canary2bob0")


async def _cut(scene: Scene) -> None:
    """Six devices of three users, all sending at once over connections that break after a few frames."""
    rng = random.Random(scene.rng.seed)
    await scene.create(TEAM, "GROUP", ["ann", "bob", "eve"])
    devices = [
        await scene.device(user_id, device_id, codec)
        for user_id in ("ann", "bob", "eve")
        for device_id, codec in (("phone", "json"), ("pc", "msgpack"))
    ]
    async with anyio.create_task_group() as group:
        for device in devices:
            device.line.frames_max = lambda: rng.randint(2, 25)
            group.start_soon(_send_all, device)
            await device.line.cut()
    for device in devices:
        device.line.frames_max = lambda: 1_000_000
        await device.line.cut()
    await anyio.sleep(5.0)


async def _send_all(device: Device) -> None:
    for number in range(15):
        key = f"{device.user_id}-{device.device_id}-{number}"
        sent = await device.send(TEAM, key, f"{key} canary3{number}")
        if number % 5 == 2:
            await device.recall(sent.message_id)
        if number % 5 == 4:
            await device.mark_read(TEAM, sent.seq)


_PLAYS = {"office": _office, "renewed": _renewed, "cut": _cut}
PLAYS = tuple(_PLAYS)


async def _play(name: str, seed: int) -> CompleteHistory:
    async with Scene(seed) as scene:
        await _PLAYS[name](scene)
    return scene.history


@cache
def _played(name: str, seed: int) -> CompleteHistory:
    return run_virtual(_play, name, seed, seed=seed)


def play(name: str, seed: int = 0) -> CompleteHistory:
    """A history of its own of one of the plays."""
    return copy_of(_played(name, seed))


# --- spoiling ---


def copy_of(history: CompleteHistory) -> CompleteHistory:
    """One that can be changed: its lists, calls and dumps are new, frames and told events are to be replaced."""
    copy = CompleteHistory(lambda: 0.0)
    copy.calls = [replace(it, args=dict(it.args), answer=_answer_copy(it.answer)) for it in history.calls]
    copy.frames, copy.incidents = list(history.frames), list(history.incidents)
    copy.app_events = list(history.app_events)
    assert history.store is not None
    logs = {name: _log_copy(dump) for name, dump in history.store.logs.items()}
    copy.store = StoreDump(logs, list(history.store.outbox), list(history.store.chains))
    copy.devices = [_device_copy(dump) for dump in history.devices]
    copy.counts = list(history.counts)
    copy.moderated = list(history.moderated)
    return copy


def _answer_copy(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, list) else value for name, value in answer.items()}


def _log_copy(dump: LogDump) -> LogDump:
    return replace(dump, entries=list(dump.entries), members=list(dump.members), audit=list(dump.audit))


def _device_copy(dump: DeviceDump) -> DeviceDump:
    messages = {name: list(of_log) for name, of_log in dump.messages.items()}
    return replace(
        dump,
        records=list(dump.records),
        messages=messages,
        floors=dict(dump.floors),
        pending=list(dump.pending),
    )


def log(history: CompleteHistory, name: str = TEAM) -> LogDump:
    assert history.store is not None
    return history.store.logs[name]


def device(history: CompleteHistory, user_id: str, device_id: str) -> DeviceDump:
    return next(it for it in history.devices if (it.user_id, it.device_id) == (user_id, device_id))


def events_of(frame: Frame) -> list[dict[str, Any]]:
    """The events of a frame as plain values."""
    decode = msgspec.msgpack.decode if frame.codec.binary else msgspec.json.decode
    decoded = decode(frame.data)
    return decoded if isinstance(decoded, list) else [decoded]


def with_events(frame: Frame, events: Sequence[dict[str, Any]]) -> Frame:
    return replace(frame, data=frame.codec.encode(list(events)))


def change_event(
    history: CompleteHistory,
    name: str,
    change: Callable[[dict[str, Any]], None],
    *,
    where: Callable[[Frame, dict[str, Any]], bool] = lambda frame, event: True,
    last: bool = False,
) -> None:
    """Change the first, or the last, event of a name, in its frame."""
    places = list(enumerate(history.frames))
    for place, frame in reversed(places) if last else places:
        events = events_of(frame)
        for event in events:
            if event.get("event") == name and where(frame, event):
                change(event)
                history.frames[place] = with_events(frame, events)
                return
    raise AssertionError(f"no {name} to change")


def frame_of(history: CompleteHistory, name: str, where: Callable[[Frame, dict[str, Any]], bool]) -> Frame:
    """The first frame that holds such an event."""
    return next(
        frame
        for frame in history.frames
        if any(event.get("event") == name and where(frame, event) for event in events_of(frame))
    )
