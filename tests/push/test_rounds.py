"""Rounds of every fault at once, drawn from a seed: each push has a right result in time, and nothing is left."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import anyio
import pytest

from chatkit.push.base import Dead, Delivered, Refused, Result, Retry, Unknown
from chatkit.testing.contracts.push import Act
from tests.servers.push_gateway import Fault, Reply, Request

from .stages import STAGES, TIMEOUT_S, Stage

ROUNDS = 6
ALLOWED: dict[Act | Fault, set[type[Result]]] = {
    Act.ACCEPT: {Delivered},
    Act.BUSY: {Retry},
    Act.FAIL: {Retry},
    Act.DEAD: {Dead},
    Act.REFUSE: {Refused},
    Act.HANG: {Unknown},
    Act.CUT: {Unknown},
    Fault.RESET: {Unknown},
    Fault.GOAWAY: {Unknown, Delivered},
}
ENDS_CONNECTIONS = (Act.CUT, Fault.GOAWAY)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def drawn(stage: Stage, acts: dict[str, Act | Fault]) -> Callable[[Request], Reply | Fault]:
    def answer(request: Request) -> Reply | Fault:
        name = stage.id_of(request)
        stage.arrived.append(name)
        act = acts[name]
        if isinstance(act, Fault):
            return act
        return {Act.HANG: Fault.HANG, Act.CUT: Fault.CUT}.get(act) or stage.reply(act, request)

    return answer


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", STAGES)
async def test_rounds_of_every_fault(kind: str, seed: int) -> None:
    rng = random.Random(seed)
    before = descriptors()
    faults: list[Act | Fault] = [*Act, Fault.RESET, Fault.GOAWAY]
    async with STAGES[kind](streams_max=rng.choice([1, 5, 100])) as stage:
        for number in range(ROUNDS):
            pushes = [stage.push(each, message_id=f"{number}-{each}") for each in range(rng.randrange(1, 30))]
            acts = {push.id: rng.choice([*faults, *[Act.ACCEPT] * 20]) for push in pushes}
            stage.gateway.answer = drawn(stage, acts)
            with anyio.fail_after(2 * TIMEOUT_S + 2):
                results = await stage.provider.send(pushes)
            cut = kind == "apns" and any(act in ENDS_CONNECTIONS for act in acts.values())
            for push, result in zip(pushes, results, strict=True):
                act = acts[push.id]
                # Retry: it never left, behind one that hung or a breaker. Unknown: a neighbour's fault, on one line
                allowed = ALLOWED[act] | {Retry} | ({Unknown} if cut else set())
                assert type(result) in allowed, (act, result)
                came = stage.arrived.count(push.id)
                assert came <= 1, "a provider repeats nothing that may have arrived"
                assert came or isinstance(result, Retry | Unknown), (act, result)
            stage.pass_s(3600)
        stage.gateway.answer = stage.answer
        assert isinstance((await stage.provider.send([stage.push(99)]))[0], Delivered | Retry)
    with anyio.move_on_after(5.0):
        while descriptors() > before:
            await anyio.sleep(0.005)
    assert descriptors() <= before
