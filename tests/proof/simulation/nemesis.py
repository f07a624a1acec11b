"""What goes wrong in a run: each fault of the plan, for a while or at once, and at the end all of it healed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import anyio
from msgspec.structs import replace

from chatkit.testing.faulty_bus import BusFaults
from chatkit.testing.faulty_store import StoreFaults
from chatkit.testing.history import Incident
from chatkit.testing.network import Line
from chatkit.testing.virtual_time import START_MS

from .watch import held_up
from .world import BROKEN, World

_DISK_EVERY_S = 0.2
_CLOCK_MS = 3_600_000
_SOON_S = 0.1  # what strikes at once is felt by then
_STALLS = ("half-open", "one-way up", "one-way down")


class Nemesis:
    """Draws faults from the seed and undoes them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng.stream("nemesis")
        self._lasting: dict[str, None] = {}
        self._begun: Counter[str] = Counter()
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        self._struck_at_once = 0
        self._gauges: dict[str, Callable[[], int]] = {}
        self._at_once: dict[str, Callable[[], tuple[str, Callable[[], int]]]] = {
            "reconnect storm": self._storm,
            "server crash": self._server_crash,
            "server drain": self._server_drain,
            "app crash": self._app_crash,
        }
        self._for_a_while: dict[str, Callable[[], Any]] = {
            "cut": lambda: self._network(cut_probability=0.03),
            "slow line": lambda: self._network(bytes_per_s=self._rng.choice((400.0, 4000.0))),
            "refused connection": lambda: self._network(refuse_probability=0.7),
            "half-open": lambda: self._stalled(up=True, down=True),
            "one-way up": lambda: self._stalled(up=True),
            "one-way down": lambda: self._stalled(down=True),
            "storage slow": lambda: self._storage("latency_s", (0.02, 0.6), world.plan.storage_s),
            "storage busy": lambda: self._storage("busy_probability", 0.4, 0.0),
            "storage answer lost": lambda: self._storage("lost_answer_probability", 0.3, 0.0),
            "storage read refused": lambda: self._storage("read_probability", 0.4, 0.0),
            "bus loss": lambda: self._bus("loss_probability", self._rng.choice((0.3, 1.0))),
            "bus repeat": lambda: self._bus("repeat_probability", 0.5),
            "bus reorder": lambda: self._bus("reorder_probability", 0.5),
            "local store full": self._local_store_full,
            "clock jump": self._clock_jump,
        }

    async def run(self) -> None:
        """Let things go wrong until `heal`."""
        with self._scope:
            async with anyio.create_task_group() as group:
                while self._world.plan.faults:
                    await anyio.sleep(self._rng.expovariate(1 / self._world.plan.fault_every_s))
                    name = self._rng.choice(self._world.plan.faults)
                    if name not in self._lasting:
                        group.start_soon(self._strike, name)
        self._ended.set()

    async def heal(self) -> None:
        """End every fault: from here on everything works, the store at its quickest, for what waits in its queue."""
        self._scope.cancel()
        world = self._world
        world.calm = True
        world.history.happened("healed")
        await self._ended.wait()
        quickest_s = world.plan.storage_s[0]
        world.store_faults.latency_s = (quickest_s, quickest_s)
        for line in list(world.network.lines):
            line.release()
        if world.bus is not None:
            world.bus.release()
        if world.storage.disk.broken:
            await self._reopen()
        world.storage.disk.disarm()

    async def _strike(self, name: str) -> None:
        if name in self._at_once:
            await self._strike_at_once(name)
            return
        self._lasting[name] = None
        self._begun[name] += 1
        try:
            if name.startswith("disk"):
                await self._disk(name)
                return
            seen = self._meter(name)
            with self._for_a_while[name]() as detail:
                incident = self._world.history.happened(name, detail)
                try:
                    await self._while_it_lasts()
                finally:
                    self._world.history.ended(incident)
                    self._note(incident, seen())
        finally:
            del self._lasting[name]

    async def _while_it_lasts(self) -> None:
        await anyio.sleep(self._rng.expovariate(1 / self._world.plan.fault_s))

    # --- what it changed ---

    def _note(self, incident: Incident, changed: int) -> None:
        self._world.history.effects.append((incident, changed))

    def _meter(self, name: str) -> Callable[[], int]:
        """Says, later, how often a fault that begins now was felt."""
        effects = self._world.effects
        before, broken, at_once = effects[name], effects[BROKEN], self._struck_at_once

        def felt() -> int:
            if name == "cut":  # other faults break lines, too
                alone = len(self._lasting) == 1 and self._struck_at_once == at_once
                return effects[BROKEN] - broken if alone else 0
            if name == "bus loss" and self._world.bus is not None:
                self._world.bus.count_lost()
            gauge = self._gauges.pop(name, None)
            return effects[name] - before + (gauge() if gauge is not None else 0)

        return felt

    def _apart_from(self, *others: str) -> Callable[[], bool]:
        """Says, later, whether none of these has lasted meanwhile: what they do looks the same from outside."""

        def begun() -> int:
            return sum(self._begun[it] for it in others)

        before = None if any(it in self._lasting for it in others) else begun()
        return lambda: begun() == before

    # --- at once ---

    async def _strike_at_once(self, name: str) -> None:
        self._struck_at_once += 1
        detail, felt = self._at_once[name]()
        incident = self._world.history.happened(name, detail)
        try:
            await anyio.sleep(_SOON_S)
        finally:
            self._note(incident, felt())

    def _storm(self) -> tuple[str, Callable[[], int]]:
        lines = list(self._world.network.lines)
        for line in lines:
            line.cut()
        return f"{len(lines)} lines", lambda: sum(line not in self._world.network.lines for line in lines)

    def _server_crash(self) -> tuple[str, Callable[[], int]]:
        node = self._rng.choice(self._world.nodes)
        server = node.server
        node.crash()
        return node.name, lambda: int(server is not None and node.server is not server)

    def _server_drain(self) -> tuple[str, Callable[[], int]]:
        node = self._rng.choice(self._world.nodes)
        server = node.server
        node.drain()
        return node.name, lambda: int(server is not None and not server.ready)

    def _app_crash(self) -> tuple[str, Callable[[], int]]:
        device = self._rng.choice(self._world.devices)
        client = device.client
        self._world.kill(device)
        return device.name, lambda: int(client is not None and device.client is not client)

    # --- for a while ---

    @contextmanager
    def _network(self, **changed: Any) -> Iterator[str]:
        network = self._world.network
        usual = {name: getattr(network.conditions, name) for name in changed}
        network.conditions = replace(network.conditions, **changed)
        if "bytes_per_s" in changed:
            usual_s, apart = network.conditions.latency_s[1], self._apart_from(*_STALLS)
            self._gauges["slow line"] = lambda: held_up(network.lines, usual_s) if apart() else 0
        try:
            yield str(changed)
        finally:
            network.conditions = replace(network.conditions, **usual)

    @contextmanager
    def _stalled(self, *, up: bool = False, down: bool = False) -> Iterator[str]:
        """Some lines hang without a sign; in the end they go on, or break."""
        share = self._rng.choice((0.2, 1.0))
        lines = [line for line in self._world.network.lines if self._rng.random() < share]
        for line in lines:
            line.stall(up=up, down=down)
        usual_s, apart = self._world.network.conditions.latency_s[1], self._apart_from("slow line")
        self._gauges[_stall_name(up, down)] = lambda: (
            held_up(lines, usual_s, up=up, down=down) if apart() else 0
        )
        try:
            yield ", ".join(str(line.number) for line in lines)
        finally:
            for line in lines:
                self._end_stall(line)

    def _end_stall(self, line: Line) -> None:
        if self._rng.random() < 0.5:
            line.release()
        else:
            line.cut()

    def _storage(self, field: str, value: Any, usual: Any) -> AbstractContextManager[str]:
        return _changed(self._world.store_faults, field, value, usual)

    def _bus(self, field: str, probability: float) -> AbstractContextManager[str]:
        return _changed(self._world.bus_faults, field, probability, 0.0)

    @contextmanager
    def _local_store_full(self) -> Iterator[str]:
        device = self._rng.choice(self._world.devices)
        local = device.local
        if local is not None:
            local.full = True
        try:
            yield device.name
        finally:
            if local is not None:
                local.full = False

    @contextmanager
    def _clock_jump(self) -> Iterator[str]:
        """That of a server as often as that of a device."""
        servers = [node.name for node in self._world.nodes]
        name = self._rng.choice(servers if self._rng.random() < 0.5 else sorted(self._world.clocks))
        clock = self._world.clocks[name]
        clock.ahead_ms = self._rng.randint(-_CLOCK_MS, _CLOCK_MS)
        self._gauges["clock jump"] = lambda: int(clock.now_ms() != _by_loop_ms())
        try:
            yield f"{name} by {clock.ahead_ms} ms"
        finally:
            clock.ahead_ms = 0

    # --- the disk ---

    async def _disk(self, name: str) -> None:
        disk = self._world.storage.disk
        incident, felt = self._world.history.happened(name), self._meter(name)
        try:
            with anyio.move_on_after(self._rng.expovariate(1 / self._world.plan.fault_s)):
                while not disk.broken:
                    disk.arm(
                        "full" if name == "disk full" else self._rng.choice(("broken", "broken after commit"))
                    )
                    await anyio.sleep(_DISK_EVERY_S)
            if disk.broken:
                await self._reopen()
        finally:
            disk.disarm()
            self._world.history.ended(incident)
            self._note(incident, felt())

    async def _reopen(self) -> None:
        """What an operator does about a broken disk: stop every server, open the file anew, start them."""
        world = self._world
        async with world.storage.gate:  # servers that start wait for it
            for node in world.nodes:
                node.crash()
            for node in world.nodes:
                await node.wait_stopped()
            with anyio.CancelScope(shield=True):
                await world.storage.reopen()


def _by_loop_ms() -> int:
    return START_MS + int(anyio.current_time() * 1000)


def _stall_name(up: bool, down: bool) -> str:
    return "half-open" if up and down else "one-way up" if up else "one-way down"


@contextmanager
def _changed(faults: StoreFaults | BusFaults, field: str, value: Any, usual: Any) -> Iterator[str]:
    """One field of the faults is another for a while."""
    setattr(faults, field, value)
    try:
        yield str(value)
    finally:
        setattr(faults, field, usual)
