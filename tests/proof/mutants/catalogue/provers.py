"""Bugs in the proof itself: faults that do nothing, alarms that stay silent, a checker that does not look."""

from __future__ import annotations

from ..plant import Edit, Mutant

CHECKER = "tests.proof.checker"
FAULTY_BUS = "chatkit.testing.faulty_bus"
FAULTY_LOCAL_STORE = "chatkit.testing.faulty_local_store"
FAULTY_STORE = "chatkit.testing.faulty_store"
LEAVING = "tests.proof.simulation.leaving"
LINE = "chatkit.testing.line"
NEMESIS = "tests.proof.simulation.nemesis"
VIRTUAL_TIME = "chatkit.testing.virtual_time"
WORLD = "tests.proof.simulation.world"

MUTANTS = (
    Mutant(
        "faulty-store-never-fails",
        "What goes wrong is set elsewhere.",
        (
            Edit(
                FAULTY_STORE,
                "        return probability > 0 and self._rng.random() < probability\n",
                "        return probability > 1\n",
            ),
        ),
        ("no effect",),
    ),
    Mutant(
        "lost-answer-is-a-refusal",
        "The caller is told UNAVAILABLE either way.",
        (
            Edit(
                FAULTY_STORE,
                "        outcomes = await self._store.commit(commands)\n        await self._pass_time()\n"
                "        if self._happens(self._faults.lost_answer_probability):\n",
                "        lost = self._happens(self._faults.lost_answer_probability)\n"
                "        outcomes = [] if lost else await self._store.commit(commands)\n"
                "        await self._pass_time()\n        if lost:\n",
            ),
        ),
        ("no effect",),
    ),
    Mutant(
        "bus-never-reorders",
        "What is held back is carried in time.",
        (
            Edit(
                FAULTY_BUS,
                "            self._held.append((member, message))\n            return\n",
                "            pass\n",
            ),
        ),
        ("no effect",),
    ),
    Mutant(
        "bus-never-loses",
        "A message that is lost is sent again.",
        (
            Edit(
                FAULTY_BUS,
                "        if self._happens(self._faults.loss_probability):\n            return\n",
                "        self._happens(self._faults.loss_probability)\n",
            ),
        ),
        ("no effect",),
    ),
    Mutant(
        "stalled-line-goes-on",
        "Whoever stalls a line reads nothing of it.",
        (Edit(LINE, "        self._stalled = True\n", "        self._stalled = False\n"),),
        ("no effect",),
    ),
    Mutant(
        "slow-line-is-quick",
        "A frame leaves when it is sent.",
        (
            Edit(
                LINE,
                "return begun_at_s if rate is None else begun_at_s + parcel.size_bytes / rate",
                "return begun_at_s",
            ),
        ),
        ("no effect",),
    ),
    Mutant(
        "local-store-never-full",
        "Only a dead app writes nothing.",
        (Edit(FAULTY_LOCAL_STORE, "if self.dead or self.full:", "if self.dead:"),),
        ("no effect",),
    ),
    Mutant(
        "clock-never-jumps",
        "The loop knows the time.",
        (
            Edit(
                VIRTUAL_TIME,
                "START_MS + int(anyio.current_time() * 1000) + self.ahead_ms",
                "START_MS + int(anyio.current_time() * 1000)",
            ),
        ),
        ("no effect",),
    ),
    Mutant(
        "nemesis-never-strikes",
        "Faults are drawn; that is enough.",
        (
            Edit(
                NEMESIS,
                "                        group.start_soon(self._strike, name)\n",
                "                        pass\n",
            ),
        ),
        ("no effect", "no facts"),
    ),
    Mutant(
        "silent-alarms",
        "Errors of chatkit are foreseen.",
        (
            Edit(
                WORLD,
                "        if not isinstance(error, _FORESEEN):\n",
                "        if isinstance(error, OSError):\n",
            ),
        ),
        ("alarm",),
    ),
    Mutant(
        "checker-skips-an-invariant",
        "The first ones are the others once more.",
        (Edit(CHECKER, "in INVARIANTS.values():\n", "in list(INVARIANTS.values())[1:]:\n"),),
        ("rehearsal",),
    ),
    Mutant(
        "checker-finds-nothing",
        "Facts that hold are the rule.",
        (
            Edit(
                CHECKER,
                "        for found in filter(None, findings):\n",
                "        for found in filter(None, findings[:0]):\n",
            ),
        ),
        ("rehearsal",),
    ),
    Mutant(
        "nothing-is-counted",
        "What is held shows in the logs.",
        (
            Edit(
                LEAVING,
                "        world.history.counts += [*world.peaks.counts(), *counts]\n",
                "        assert counts\n",
            ),
        ),
        ("no facts",),
    ),
)
