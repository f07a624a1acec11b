"""`python -m benchmarks.commit`: what a command costs in the store on SQLite, without a server around it.

Prints a line of JSON per workload: CPU microseconds (user and system, of the one thread) per command, least of some
rounds. The file is in a temporary folder, synchronous=FULL.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from chatkit.ports import SystemIds
from chatkit.storage.base import AdvanceDelivered, Append, Command, CreateConversation, OpenSession
from chatkit.storage.sqlite import SqliteStore

CONVERSATIONS = 100
BATCHES = (1, 16, 256, 1000)
ROUNDS = 5
WINDOW = 16
"""Messages that a sender of a burst has in flight."""

COMMANDS = 4000
"""Least number of commands in a round."""

_BODY = b'{"text":"a short message, as people write them","type":"TEXT"}'
_MAC = hashlib.sha256(_BODY).digest()
_NOW = 1_700_000_000_000


class Load:
    """Endless messages over 100 conversations of two, and the confirmations that follow them."""

    def __init__(self) -> None:
        self._number = 0
        self._heads = [1] * CONVERSATIONS

    def setting(self) -> Iterator[Command]:
        """Two users with a device each, in every conversation."""
        for n in range(CONVERSATIONS):
            for user in ("ann", "bob"):
                token = f"{user}{n}".encode()
                yield OpenSession(f"{user}-{n}", "phone", token, _NOW + 9, None, "", _NOW)
        for n in range(CONVERSATIONS):
            members = (f"ann-{n}", f"bob-{n}")
            yield CreateConversation(f"conversation-{n}", "SINGLE", members[0], members, "", "e1", 1000, _NOW)

    def append(self) -> Append:
        """The next message."""
        return self._append_to((self._number + 1) % CONVERSATIONS)

    def _append_to(self, n: int) -> Append:
        self._number += 1
        self._heads[n] += 1
        key = f"client-message-{self._number:012}"
        return Append(f"conversation-{n}", f"ann-{n}", key, _BODY, _MAC, _NOW + self._number)

    def appends(self, size: int) -> list[Command]:
        """A batch of messages."""
        return [self.append() for _ in range(size)]

    def pairs(self, size: int) -> list[Command]:
        """Messages and their confirmations by the other side, half of a batch each; in a batch of one by turns."""
        if size == 1:
            self._number += 1
            if self._number % 2:
                return [self._confirmation(self._number % CONVERSATIONS)]
        messages = [self.append() for _ in range((size + 1) // 2)]
        behind = (int(it.conversation_id.rpartition("-")[2]) for it in messages[: size // 2])
        return [*(self._confirmation(n) for n in behind), *messages]

    def bursts(self, size: int) -> list[Command]:
        """A window of messages in one conversation after the other, each confirmed up to the window before."""
        conversations = max(1, size // (WINDOW + 1))
        first = self._number // WINDOW
        chosen = [(first + n) % CONVERSATIONS for n in range(conversations)]
        messages = [self._append_to(n) for n in chosen for _ in range(min(WINDOW, size))]
        if size <= WINDOW:
            return [*messages]
        return [*messages, *(self._confirmation(n, WINDOW) for n in chosen)]

    def _confirmation(self, n: int, behind: int = 1) -> AdvanceDelivered:
        seq = max(1, self._heads[n] - behind)
        return AdvanceDelivered(f"conversation-{n}", f"bob-{n}", "phone", seq, _NOW + self._number)


async def measure(kind: str, size: int) -> float:
    """CPU microseconds per command."""
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(str(Path(folder) / "chat.db"), ids=SystemIds(), threads=False)
        await store.migrate()
        load = Load()
        await store.commit(list(load.setting()))
        make = {"appends": load.appends, "appends and confirmations": load.pairs, "bursts": load.bursts}[kind]
        best = float("inf")
        for _ in range(ROUNDS):
            batches = [make(size) for _ in range(max(4, COMMANDS // size // (8 if size == 1 else 1)))]
            started = time.process_time()
            for batch in batches:
                await store.commit(batch)
            best = min(best, (time.process_time() - started) / sum(map(len, batches)))
        await store.aclose()
    return best * 1e6


async def main() -> None:
    """All workloads, or those whose name holds the argument."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    for kind in ("appends", "appends and confirmations", "bursts"):
        for size in BATCHES:
            name = f"{kind}, batches of {size}"
            if wanted in name:
                spent = await measure(kind, size)
                print(json.dumps({"workload": name, "cpu_us_per_command": round(spent, 2)}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
