"""`python hostile_data.py FILE`: a log for `benchmarks.hostile`, written without a server. Any chatkit will do.

A good pair; a group with a long log, of which the hostile user is a member; many conversations with logs of some
length, and a user of many conversations.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence

from chatkit.assemble import open_store
from chatkit.storage.base import Append, Command, CreateConversation

MESSAGES = 1_200
LISTED, LISTED_MESSAGES = 150, 300
MANY = 2_000
_AT_MS = 1_700_000_000_000
_BATCH = 2_000


def _create(conversation_id: str, kind: str, users: Sequence[str]) -> CreateConversation:
    fields = {
        "conversation_id": conversation_id,
        "type": kind,
        "creator_id": users[0],
        "member_ids": tuple(users),
        "title": "",
        "epoch": "e1",
        "members_max": 1_000,
        "at_ms": _AT_MS,
    }
    known = CreateConversation.__struct_fields__  # an older chatkit had fewer
    return CreateConversation(**{name: fields[name] for name in known if name in fields})  # type: ignore[arg-type]


def _append(conversation_id: str, sender_id: str, number: int, size: int = 50) -> Append:
    payload = b'{"text":"%s","type":"TEXT"}' % (b"x" * size)
    return Append(conversation_id, sender_id, f"k{number}", payload, bytes(16), _AT_MS)


def commands() -> Iterator[Command]:
    """Everything that the attacks need, in order."""
    yield _create("good", "SINGLE", ("ann", "ben"))
    yield _create("g", "GROUP", ("ben", "ann", "mallory"))
    yield from (_append("g", "ben", number, 1_000) for number in range(MESSAGES))
    for listed in range(LISTED):
        yield _create(f"l-{listed}", "GROUP", ("ben", "mallory"))
        yield from (_append(f"l-{listed}", "ben", number) for number in range(LISTED_MESSAGES))
    for many in range(MANY):
        yield _create(f"m-{many}", "GROUP", ("ben", "many"))


async def main(path: str) -> None:
    """Write the log."""
    store = open_store(f"sqlite:///{path}")
    await store.migrate()
    every = list(commands())
    for first in range(0, len(every), _BATCH):
        await store.commit(every[first : first + _BATCH])
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
