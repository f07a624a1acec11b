"""One run from its seed to its verdict: work under faults, then heal, converge, dump, and check."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import msgspec

from chatkit._abilities import offers
from chatkit.errors import RefusedError
from chatkit.storage.base import StreamReader
from chatkit.testing.virtual_time import run_virtual
from chatkit.wire.events import SEQ_MAX

from ..checker import Violation, check
from ..dumps import CompleteHistory, dump_store
from ..held import unanswered_count
from .delays import Delivery, delays_s, late
from .leaving import Leaving
from .nemesis import Nemesis
from .pages import short_pages
from .plan import RECALL_WINDOW_S, Plan, draw_plan, on_a_dead_bus
from .workload import Workload
from .world import World

CONVERGENCE_S = 60.0
"""After the last fault, everybody must have everything within this: twice the heartbeat, a backoff, and the pulls."""

CONVERGENCE_AT_A_RATE_S = 240.0
"""The same where a user may send 10 messages a second or fewer: a backlog goes out no faster, and each conversation
keeps a pace of up to 10 s (`core.resend.PACE_MAX_S`)."""

_RATE_PER_S = 10.0

_LOOK_EVERY_S = 0.25
_IN_MEMORY = Path("/dev/shm")


class Outcome(msgspec.Struct):
    """What one run came to.

    Attributes:
        alarms: What must never happen, whatever the history says: unforeseen errors, clients that stopped.
        violations: Broken invariants, the earliest first.
        facts: How many facts each invariant was held against.
        seconds: Virtual seconds it lasted.
        converged_s: Virtual seconds from the end of the faults until everybody had everything; None if never.
        digest: Of the whole history; the same for the same seed.
        delays_s: On a dead bus, how long each message took to each device that was online.
    """

    plan: Plan
    history: CompleteHistory
    alarms: list[str]
    violations: list[Violation]
    facts: dict[str, int]
    seconds: float
    converged_s: float | None
    digest: str
    delays_s: dict[Delivery, float] = msgspec.field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.alarms and not self.violations


def simulate(seed: int, *, dead_bus: bool = False) -> Outcome:
    """Run one seed. Takes about half a second of real time, and no virtual time of its own.

    Args:
        dead_bus: The nodes never hear of each other (`plan.on_a_dead_bus`), and a message that comes late is an alarm.
    """
    plan = draw_plan(seed)
    if dead_bus:
        plan = on_a_dead_bus(plan)
    within = _IN_MEMORY if _IN_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=within) as folder, short_pages(plan.page_size):
        outcome = run_virtual(_run, plan, Path(folder), seed=seed, backend=plan.backend)
    if dead_bus:
        outcome.delays_s = delays_s(outcome.history)
        outcome.alarms += late(outcome.delays_s)
    return outcome


async def _run(plan: Plan, folder: Path) -> Outcome:
    leaving = Leaving()
    async with World(plan, folder) as world:
        workload = Workload(world)
        await workload.prepare()
        await _work_under_faults(world, workload)
        await workload.renew_at_rest()
        healed_s = anyio.current_time()
        converged = await _converge(world, workload)
        now_s = anyio.current_time()
        await _dump(world, workload)
        await leaving.leave(world)
        verdict = check(world.history, recall_window_ms=int(RECALL_WINDOW_S * 1000))
        return Outcome(
            plan,
            world.history,
            world.alarms,
            verdict.violations,
            verdict.facts,
            now_s,
            now_s - healed_s if converged else None,
            world.history.digest(),
        )


async def _work_under_faults(world: World, workload: Workload) -> None:
    nemesis = Nemesis(world)
    world.start_devices()
    async with anyio.create_task_group() as group:
        group.start_soon(workload.run)
        group.start_soon(nemesis.run)
        await anyio.sleep(world.plan.seconds)
        await nemesis.heal()
        group.cancel_scope.cancel()


async def _converge(world: World, workload: Workload) -> bool:
    """Wait until every device has everything. Returns whether that happened in time; else an alarm says what lacks."""
    rate = world.plan.server.limits.sends_per_user
    within_s = CONVERGENCE_AT_A_RATE_S if rate and rate.per_s <= _RATE_PER_S else CONVERGENCE_S
    for _ in range(int(within_s / _LOOK_EVERY_S)):
        await _review(world)
        missing = await _missing(world, sorted(workload.known))
        if missing is None:
            return True
        await anyio.sleep(_LOOK_EVERY_S)
    world.alarms.append(f"not converged {within_s:g} s after the last fault: {missing}")
    return False


async def _review(world: World) -> None:
    """Nobody waits for a review at the end."""
    for server in world.servers()[:1] if world.plan.moderation is not None else ():
        with suppress(RefusedError):
            await world.reviewer.review_all(server)


async def _missing(world: World, conversation_ids: Sequence[str]) -> str | None:
    """The first thing that some device does not have yet."""
    waiting = next((call for call in world.history.calls if call.result is None), None)
    if waiting is not None:
        return (
            f"{waiting.op} of {waiting.user_id}/{waiting.device_id}, call {waiting.number}, has not returned"
        )
    unanswered = sum(unanswered_count(server) for server in world.servers())
    if unanswered:
        return f"an answer to {unanswered} commands"
    store = world.storage.store
    if offers(store, StreamReader) and await store.idle_streams(SEQ_MAX, SEQ_MAX, 1):
        return "the end of a stream"
    heads = await world.storage.store.head_seqs(conversation_ids)
    for device in world.devices:
        if device.pending_count != 0:
            return f"{device.name} has {device.pending_count} messages without an answer"
        reads = device.reads
        listed = await world.storage.store.heads(device.user_id, device.device_id)
        left = device.current - {head.conversation_id for head in listed}
        if left:
            return f"that {min(left)} was left on {device.name}"
        for head in listed:
            place = f"{head.conversation_id} up to seq {head.head_seq} on {device.name}"
            if not device.has(head.conversation_id, head.epoch, head.head_seq):
                return place
            if head.delivered_seq < heads[head.conversation_id][1]:
                return f"the confirmation of {place}"
            if head.read_seq < reads.get(head.conversation_id, 0):
                return f"the read cursor of {place}"
    return None


async def _dump(world: World, workload: Workload) -> None:
    world.history.store = await dump_store(world.storage.store, sorted(workload.known))
    for device in world.devices:
        world.history.devices.append(await device.dump())
