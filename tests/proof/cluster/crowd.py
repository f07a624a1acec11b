"""Many devices of the real client on three nodes: a large group, and all cut off at once.

Called by `python -m tests.proof.cluster --group 500` and `--reconnect 1000`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import httpx

from chatkit import ClientConfig, SendOutcomeUnknownError
from chatkit.client.events import Connected
from tests.blackbox.phone import Phone, phones, rows
from tests.blackbox.tokens import SECRET
from tests.blackbox.world import World

from .nodes import Cluster

SENDERS = 20
PATIENT = ClientConfig(backoff_base_s=0.5, backoff_max_s=2.0, connect_timeout_s=20.0, hello_timeout_s=20.0)
"""So many in one process must not try again as fast as one alone may."""
_ALL_S = 180.0


def run_group(folder: Path, members: int, messages: int) -> list[str]:
    """A group of which everybody is online, and some send at the same time. What is wrong, in words."""
    return _run(folder, members, partial(_group, messages=messages))


def run_reconnect(folder: Path, clients: int, messages: int) -> list[str]:
    """All devices are cut off at once while messages go on, and come back. What is wrong, in words."""
    return _run(folder, clients, partial(_reconnect, messages=messages))


class _Scene:
    """Everybody's devices, in one group.

    Attributes:
        cluster: Everything that runs.
        crowd: A device of each user, all connected.
        group: Of all users.
        began_s: When what is measured began.
    """

    def __init__(self, cluster: Cluster, crowd: list[Phone], world: World, group: str) -> None:
        self.cluster = cluster
        self.crowd = crowd
        self.group = group
        self.began_s = time.monotonic()
        self._world = world

    def passed_s(self) -> float:
        """Since `began_s`."""
        return time.monotonic() - self.began_s

    def spread(self) -> str:
        """How many connections each node has."""
        counts = [_connections(node.port) for node in self.cluster.nodes.nodes]
        return " + ".join(map(str, counts))

    async def all_hold(self, messages: int) -> list[str]:
        """Wait until everybody was told every entry once and in order; then compare what they keep with the log."""
        for each in self.crowd:
            await each.until_head(self.group, 1 + messages, _ALL_S)
        passed_s = self.passed_s()
        api = self._world.api(self.crowd[0].chat.user_id)
        log = rows(await anyio.to_thread.run_sync(api.log, self.group))
        print(f"everybody had everything after {passed_s:.1f} s: {len(log)} entries")
        texts = [text for _, _, text in log[1:]]
        wrong = [] if len(set(texts)) == len(texts) == messages else [f"{len(texts)} messages are in the log"]
        for each in self.crowd:
            if await each.log(self.group) != log:
                wrong.append(f"{each.chat.user_id} keeps another log")
        return wrong


async def _group(scene: _Scene, messages: int) -> list[str]:
    senders = scene.crowd[:SENDERS]
    async with anyio.create_task_group() as tasks:
        for number, each in enumerate(senders):
            tasks.start_soon(_say, each, scene.group, range(number, messages, SENDERS))
    print(f"{messages} messages of {len(senders)} senders were acknowledged after {scene.passed_s():.1f} s")
    wrong = await scene.all_hold(messages)
    print(f"{messages * (len(scene.crowd) - 1)} deliveries, each once and in order")
    return wrong


async def _say(sender: Phone, group: str, numbers: Sequence[int]) -> None:
    for number in numbers:
        await sender.chat.send(group, f"message {number}")


async def _reconnect(scene: _Scene, messages: int) -> list[str]:
    crowd, senders = scene.crowd, scene.crowd[:SENDERS]
    await anyio.to_thread.run_sync(scene.cluster.nodes.cut_all)
    async with anyio.create_task_group() as tasks:
        for each in senders:
            tasks.start_soon(_say_cut_off, each, scene.group)
        tasks.start_soon(anyio.to_thread.run_sync, _send_to_one_node, scene, messages)
        for each in crowd:
            await each.until(lambda each: each.count(Connected) > 1, _ALL_S)
    print(f"all were back after {scene.passed_s():.1f} s: {scene.spread()} connections of the three nodes")
    wrong = await scene.all_hold(messages + len(senders))
    times = Counter(each.count(Connected) - 1 for each in crowd)
    print("came back " + ", ".join(f"{n} times: {count} clients" for n, count in sorted(times.items())))
    return wrong


async def _say_cut_off(sender: Phone, group: str) -> None:
    with suppress(SendOutcomeUnknownError):  # it stays queued, and `all_hold` waits for it
        await sender.chat.send(group, f"from {sender.chat.user_id}, cut off")


def _send_to_one_node(scene: _Scene, messages: int) -> None:
    """By HTTP, past the balancer, while everybody is away; what is not answered is sent again with its key."""
    node = scene.cluster.nodes.nodes[0]
    world = World(node.http_url, node.ws_url)
    api = world.api(scene.crowd[-1].chat.user_id)
    tries = 0
    for number in range(messages):
        answered = False
        while not answered:
            tries += 1
            with suppress(httpx.TransportError):
                answered = api.say(scene.group, f"meanwhile {number}", f"m-{number}").status_code == 200
    world.close()
    print(f"{messages} messages by HTTP to one node meanwhile, in {tries} tries")


def _run(folder: Path, users: int, act: Callable[[_Scene], Awaitable[list[str]]]) -> list[str]:
    room = ("--set", f"members_max={max(1_000, users)}")
    with Cluster.serving(folder, *room, secret=SECRET) as cluster:
        wrong: list[str] = anyio.run(_with_crowd, cluster, users, act)
        return [*wrong, *(f"a node logged: {part[-300:]}" for part in cluster.tracebacks())]


async def _with_crowd(
    cluster: Cluster, users: int, act: Callable[[_Scene], Awaitable[list[str]]]
) -> list[str]:
    nodes = cluster.nodes
    world = World(nodes.http_url, nodes.ws_url)
    names = world.users(users)
    group = world.group(*names)
    async with phones(nodes.http_url, names, config=PATIENT) as crowd:
        scene = _Scene(cluster, crowd, world, group)
        print(f"{users} devices in a group: {scene.spread()} connections of the three nodes", flush=True)
        wrong = await act(scene)
    world.close()
    return wrong


def _connections(port: int) -> int:
    """Established ones at a port of loopback."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "01" for line in lines)
