"""Rounds of load, backup, kill and restore on one log, and what must hold after each.

Devices send to groups all the time. Some are away when the backup is made, or when the log is put back, or all through
it. After the restore everybody comes back and goes on; then nobody sends any more, and it is compared:

- `chatkit verify` finds nothing, while the server runs;
- what was acknowledged before the backup began is in the log, once, under the seq of its acknowledgement;
- what had no answer at the kill, and what was sent while there was no server, is in the log, once: it was sent again;
- each app shows what the log has, no more, no less and nothing twice, having been told nothing that it showed already;
- what was acknowledged after the backup began may be lost: then no app shows it any more, its sender's neither.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Set
from pathlib import Path
from typing import Final

import anyio
import msgspec
from anyio.abc import TaskGroup
from anyio.to_thread import run_sync as in_thread

from tests.blackbox.server_process import ServerProcess, own_tracebacks
from tests.blackbox.world import World

from .device import Device
from .shown import Shown
from .ways import LOG, Way, chatkit

USERS: Final = 8
GROUPS: Final = 3
_SLEEPERS: Final = 3
_CONVERGED_S: Final = 60.0


class Round(msgspec.Struct):
    """What happened in one round.

    Attributes:
        acked: Messages acknowledged before the backup began, of this round.
        lost: Messages that were acknowledged later, and are not in the log that was put back.
        resent: Messages without an answer before the server was there again, that are in the log at the end.
        taken_back: Entries that apps showed and do not any more.
        lost_s: How long before the kill the first of the lost ones was acknowledged.
        ready_s: From the kill until the server is ready on the log that was put back.
        converged_s: From then on until every device has everything, with everybody sending for a part of it.
    """

    acked: int = 0
    lost: int = 0
    lost_s: float = 0.0
    resent: int = 0
    taken_back: int = 0
    ready_s: float = 0.0
    converged_s: float = 0.0


class Rounds:
    """One log and its devices.

    Args:
        folder: An empty one.
        way: How backups are made.
        seed: Draws who is away when, and the moments.
        every_s: Between two messages of a device.

    Attributes:
        wrong: What did not hold, in words.
    """

    def __init__(self, folder: Path, way: Way, *, seed: int, every_s: float = 0.02) -> None:
        self._folder = folder
        self._way = way
        self._every_s = every_s
        self._rng = random.Random(seed)
        self._server = ServerProcess(folder)
        self._groups: list[str] = []
        self._devices: list[Device] = []
        self.wrong: list[str] = []

    async def run(self, count: int, tell: Callable[[Round], object]) -> None:
        """All rounds; ends with the first in which something did not hold."""
        try:
            await in_thread(self._begin)
            async with anyio.create_task_group() as apps:
                for device in self._devices:
                    apps.start_soon(device.live)
                await self._until_all_are_done()
                for _ in range(count):
                    if not self.wrong:
                        tell(await self._round(apps))
                apps.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await in_thread(self._way.end)
                await in_thread(self._server.stop)

    def _begin(self) -> None:
        self._server.start()
        self._way.begin()
        world = World(self._server.http_url, self._server.ws_url)
        users = world.users(USERS)
        self._groups = [world.group(*users) for _ in range(GROUPS)]
        world.close()
        self._devices = [
            Device(user, self._server.http_url, self._groups, random.Random(f"{self._rng.random()} {user}"))
            for user in users
        ]

    async def _round(self, apps: TaskGroup) -> Round:
        found = Round()
        taken_back = sum(it.screen.taken_back for it in self._devices)
        known = self._acked().keys()
        async with anyio.create_task_group() as senders:
            for device in self._devices:
                senders.start_soon(device.send, self._every_s)
            early, late, through = self._rng.sample(self._devices, _SLEEPERS)
            await self._pause()
            early.leave()
            through.leave()
            await self._pause()
            before = self._acked().keys()
            await in_thread(self._way.take)
            apps.start_soon(early.live)
            await self._pause()
            late.leave()
            await self._pause()
            await in_thread(self._server.kill)
            killed_s = time.monotonic()
            await in_thread(self._way.put_back)
            acked, unanswered = self._acked(), self._unanswered()  # all has arrived that was on its way
            await in_thread(self._server.start)
            ready_s = time.monotonic()
            await in_thread(self._way.begin)
            found.ready_s = ready_s - killed_s
            await self._pause()
            apps.start_soon(late.live)
            apps.start_soon(through.live)
            await self._pause()
            senders.cancel_scope.cancel()
        await self._until_all_are_done()
        found.converged_s = time.monotonic() - ready_s
        logs = await in_thread(self._logs)
        self._judge(before, unanswered, logs)
        stored = {entry.text for log in logs.values() for _, entry in log}
        lost = acked.keys() - stored
        found.acked = len(before - known)
        found.lost = len(lost)
        found.lost_s = killed_s - min((acked[text] for text in lost), default=killed_s)
        found.resent = len(unanswered & stored)
        found.taken_back = sum(it.screen.taken_back for it in self._devices) - taken_back
        for device in self._devices:
            device.forget(lost)
        return found

    async def _pause(self) -> None:
        await anyio.sleep(self._rng.uniform(0.2, 1.0))

    def _acked(self) -> dict[str, float]:
        return {text: at_s for device in self._devices for text, at_s in device.acked.items()}

    def _unanswered(self) -> set[str]:
        return {text for device in self._devices for text in device.unanswered}

    async def _until_all_are_done(self) -> None:
        with anyio.move_on_after(_CONVERGED_S) as scope:
            while not all(it.is_done() for it in self._devices):
                await anyio.sleep(0.05)
        if scope.cancelled_caught:
            late = [it.user_id for it in self._devices if not it.is_done()]
            self.wrong.append(
                f"not everything was sent and told within {_CONVERGED_S:g} s: {', '.join(late)}"
            )

    def _logs(self) -> dict[str, list[tuple[int, Shown]]]:
        world = World(self._server.http_url, self._server.ws_url)
        try:
            api = world.api(self._devices[0].user_id)
            return {
                name: [
                    (it["seq"], Shown(it["messageId"], it["payload"].get("text") or None))
                    for it in api.log(name)
                ]
                for name in self._groups
            }
        finally:
            world.close()

    def _judge(
        self,
        before: Set[str],
        unanswered: Set[str],
        logs: dict[str, list[tuple[int, Shown]]],
    ) -> None:
        texts = [entry.text for log in logs.values() for _, entry in log if entry.text is not None]
        stored = set(texts)
        wrong = self.wrong
        if len(stored) != len(texts):
            wrong.append("a message is in the log twice")
        for text in sorted(before - stored)[:3]:
            wrong.append(f"{text} was acknowledged before the backup began, and is not in the log")
        for text in sorted(unanswered - stored)[:3]:
            wrong.append(f"{text} was not answered before the kill, and was not sent again")
        for name, log in logs.items():
            if [seq for seq, _ in log] != list(range(1, len(log) + 1)):
                wrong.append(f"{name} has a hole")
            for device in self._devices:
                wrong += device.screen.differs(name, log)
        for device in self._devices:
            wrong += device.screen.wrong
            if not device.screen.epochs:
                wrong.append(f"{device.user_id} was not told of a new epoch")
            device.screen.epochs = 0
        wrong += own_tracebacks(self._server.log)
        try:
            chatkit(self._folder, "verify", LOG)
        except AssertionError as error:
            wrong.append(str(error))
