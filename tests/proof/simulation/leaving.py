"""The end of a run: everybody at rest, then the clients leave, then the servers; what is held is counted each time."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

import anyio

from chatkit._event_loop import current_loop

from ..held import Count, Moment, bound_of, client_counts, limiters, server_counts, sizes, task_names
from ..membership import current_members
from .node import Node
from .world import World

LEFT_WITHIN_S: Final = 60.0
"""Sessions whose line broke without a sign are closed after two heartbeats."""

_LOOK_EVERY_S = 0.25
_LAST_FRAMES_S = 1.0  # what is under way arrives before anybody leaves
_RESTS_MAX = 20


class Leaving:
    """Counts what is held when a run is over. Made before anything of the run is.

    What there is of tasks and timers then is what must be left at the end.
    """

    def __init__(self) -> None:
        self._tasks = len(task_names())
        self._timers = _timers()

    async def leave(self, world: World) -> None:
        """Count at rest, have everybody leave, count again; all of it is in the history then."""
        counts = await _come_to_rest(world)
        if world.alarms:
            return  # whoever has not converged is not at rest
        world.over = True
        _leave_clients(world)
        counts += await _counted(lambda: _without_clients(world))
        await _leave_servers(world)
        counts += await _counted(self._without_servers)
        world.history.counts += [*world.peaks.counts(), *counts]

    def _without_servers(self) -> Iterator[Count]:
        yield Count("left", "process", "tasks", len(task_names()), self._tasks, self._tasks)
        yield Count("left", "process", "timers", _timers(), 0, self._timers)


async def _counted(count: Callable[[], Iterator[Count]]) -> list[Count]:
    """The counts once all are right, or at last."""
    for _ in range(int(LEFT_WITHIN_S / _LOOK_EVERY_S)):
        if all(it.right for it in count()):
            break
        await anyio.sleep(_LOOK_EVERY_S)
    return list(count())


async def _come_to_rest(world: World) -> list[Count]:
    """At rest, and still so when the last frames have come: a login may have expired meanwhile."""
    for _ in range(_RESTS_MAX):
        counts = await _counted(lambda: _at_rest(world))
        await anyio.sleep(_LAST_FRAMES_S)
        if all(it.right for it in _at_rest(world)):
            break
    return counts


def _at_rest(world: World) -> Iterator[Count]:
    assert world.history.store is not None, "the store is read before anybody leaves"
    members = {name: current_members(log.entries) for name, log in world.history.store.logs.items()}
    devices = len(world.devices)
    yield Count("at rest", "network", "lines", len(world.network.lines), devices, devices)
    for node in world.nodes:
        yield from _of_node("at rest", world, node, members)
    yield from client_counts("at rest", [it.client for it in world.devices if it.client is not None])


def _without_clients(world: World) -> Iterator[Count]:
    yield Count("left", "network", "lines", len(world.network.lines))
    yield Count("left", "clients", "files that are open", _open_files(f"{world.folder}/u-"))
    for node in world.nodes:
        yield from _of_node("left", world, node, {})
        assert node.server is not None
        for path, count in sizes(node.server).items():
            most = bound_of(path, node.fresh.get(path, 0))
            yield Count("left", node.name, path, count, 0, most)
        for path, limiter in limiters(node.server):
            yield Count("left", node.name, f"keys of {path}", len(limiter), 0, limiter._sweep_at)


def _of_node(
    moment: Moment, world: World, node: Node, members: Mapping[str, Collection[str]]
) -> Iterator[Count]:
    """Of one server; that it runs is one of the counts."""
    yield Count(moment, node.name, "servers", node.server is not None, 1, 1)
    if node.server is not None:
        online = sum(line.node == node.name for line in world.network.lines)
        yield from server_counts(moment, node.name, node.server, members, online)


def _leave_clients(world: World) -> None:
    """An app quits, the next one is killed, the one after that vanishes without a sign; and so on."""
    for number, device in enumerate(world.devices):
        if number % 3 == 0:
            device.quit()
        elif number % 3 == 1:
            world.kill(device)
        else:
            for line in world.lines_of(device):
                line.stall(up=True, down=True)
            device.kill()


async def _leave_servers(world: World) -> None:
    for node in world.nodes:
        node.drain()
    for node in world.nodes:
        await node.wait_stopped()


def _open_files(beginning: str) -> int:
    """Descriptors of files whose path begins so; 0 where the system does not say."""
    links = Path("/proc/self/fd")
    paths = (os.path.realpath(it) for it in links.iterdir()) if links.is_dir() else ()
    return sum(path.startswith(beginning) for path in paths)


def _timers() -> int:
    """Timers that run on the loop; 0 on trio, which does not say."""
    return sum(not timer.cancelled() for timer in getattr(current_loop(), "_scheduled", ()))
