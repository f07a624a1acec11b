"""`python -m benchmarks.instructions [--window N] [--against PATH]`: instructions that a server takes for a message.

A real `chatkit serve` runs under callgrind (valgrind must be installed), and 20 pairs send in lockstep: N messages in a
frame each, then they wait until all are acked, delivered and confirmed. So batches are the same in each run, and the
figure does not depend on who else uses the machine. Only user space is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from .node import SECRET, SERVE, Node, said_by
from .tree import HERE, Tree
from .wire_client import WireClient, connect
from .workloads import TEXT

PAIRS = 20
WARM_ROUNDS = 5
LATE_S = 120.0
START_TIMEOUT_S = 300


class Lockstep:
    """Pairs that wait for each other."""

    def __init__(self, running: Node, window: int) -> None:
        self._node = running
        self._window = window
        self._senders: list[WireClient] = []
        self._sent = self._acked = self._delivered = 0
        self._changed = asyncio.Event()

    async def connect(self) -> None:
        """Have all of them logged in."""
        for number in range(PAIRS):
            users = [f"a{number}", f"b{number}"]
            self._node.create(f"c-{number}", "SINGLE", users)
            await connect(self._node.port, self._node.token(users[1]), "d", self._received)
            self._senders.append(await connect(self._node.port, self._node.token(users[0]), "d", self._told))

    async def rounds(self, count: int) -> int:
        """So many rounds; how many messages they were."""
        before = self._sent
        for _ in range(count):
            for number, sender in enumerate(self._senders):
                sender.send([self._message(number) for _ in range(self._window)])
            async with asyncio.timeout(LATE_S):
                while self._acked < self._sent or self._delivered < self._sent:
                    self._changed.clear()
                    await self._changed.wait()
        return self._sent - before

    def _message(self, number: int) -> dict[str, Any]:
        self._sent += 1
        payload = {"type": "TEXT", "text": TEXT}
        key = f"k{self._sent}"
        return {"event": "SEND_MSG", "conversationId": f"c-{number}", "clientMsgId": key, "payload": payload}

    def _told(self, _: WireClient, events: list[dict[str, Any]]) -> None:
        self._acked += sum(event["event"] == "MSG_ACK" for event in events)
        self._changed.set()

    def _received(self, client: WireClient, events: list[dict[str, Any]]) -> None:
        messages = [event for event in events if event["event"] == "NEW_MSG"]
        if messages:
            last = messages[-1]
            up_to = {"conversationId": last["conversationId"], "upToSeq": last["seq"]}
            client.send([{"event": "DELIVERED_ACK", **up_to}])
        self._delivered += len(messages)
        self._changed.set()


def measure(tree: Tree, window: int, rounds: int) -> dict[str, Any]:
    """Instructions for a message of a tree's server."""
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder) / "counts"
        valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={counts}"]
        serve = [tree.python, "-P", str(SERVE), "serve", "--port", "0", "--json"]
        process = subprocess.Popen(
            [*valgrind, "--", *serve, "--storage", f"sqlite:///{folder}/bench.db"],
            env={**tree.environment, "CHATKIT_JWT_SECRET": SECRET},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            running = Node(process, **said_by(process, START_TIMEOUT_S))
            messages = asyncio.run(_counted(running, window, rounds))
        finally:
            process.kill()
            process.wait()
        instructions = sum(map(_instructions, Path(folder).glob("counts*")))
    return {
        "tree": tree.commit,
        "window": window,
        "messages": messages,
        "per_message": instructions // messages,
    }


def _instructions(counts: Path) -> int:
    return sum(map(int, re.findall(r"^totals: (\d+)", counts.read_text(errors="replace"), re.M)))


async def _counted(running: Node, window: int, rounds: int) -> int:
    pairs = Lockstep(running, window)
    await pairs.connect()
    await pairs.rounds(WARM_ROUNDS)
    _control(running, "-i", "on")
    messages = await pairs.rounds(rounds)
    _control(running, "-i", "off")
    _control(running, "-d")
    return messages


def _control(running: Node, *what: str) -> None:
    subprocess.run(["callgrind_control", *what, str(running.process.pid)], check=True, capture_output=True)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--window", type=int, default=16, help="messages in a frame (16)")
    parser.add_argument("--rounds", type=int, default=20, help="frames of each pair that are counted (20)")
    parser.add_argument("--against", type=Path, help="another tree, measured before this one")
    asked = parser.parse_args()
    for path in [*([asked.against] if asked.against else []), HERE]:
        print(json.dumps(measure(Tree(path), asked.window, asked.rounds)), flush=True)


if __name__ == "__main__":
    main()
