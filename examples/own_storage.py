"""A storage of one's own: another store wrapped, which copies every stored message to a file.

A store is any class with the methods of `chatkit.storage.base.Store`; nothing is inherited. What `commit` reports as
appended is durable, so the copy is made after it and never holds what the log does not. (A crash between the two
leaves the copy behind: whoever needs every line reads the log.)

Run: `CHATKIT_JWT_SECRET=... python examples/own_storage.py 8000 archive.jsonl`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import msgspec
import uvicorn

from chatkit import ChatServer, Policy, asgi_app, jwt_authenticator, open_store
from chatkit.core.log.audit import ChainedAct
from chatkit.storage.base import (
    Appended,
    AuditFilter,
    AuditRow,
    Ban,
    Block,
    ChainPage,
    Command,
    Conversation,
    DeliveryStore,
    Entry,
    IdleStream,
    KeptLogin,
    ListedConversation,
    ListedHead,
    MemberCursor,
    MembershipChanges,
    OutboxEntry,
    Outcome,
    Page,
    PinRow,
    ReadCounts,
    RecentPage,
    RecentPlace,
    Revocation,
    Status,
    Store,
)


class ArchivingStore:
    """A `Store` that is another one, and a file with one JSON line for each message."""

    def __init__(self, store: Store, archive: Path) -> None:
        self._store = store
        self._archive = anyio.Path(archive)

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        """Store the batch, then copy its new messages."""
        outcomes = await self._store.commit(commands)
        fresh = [made.entry for made in outcomes if isinstance(made, Appended) and not made.repeat]
        if fresh:
            async with await self._archive.open("ab") as file:
                await file.write(b"".join(_line(entry) for entry in fresh))
        return outcomes

    @property
    def commits_in_flight_max(self) -> int:
        """As the wrapped store says."""
        return self._store.commits_in_flight_max

    @property
    def deliveries(self) -> DeliveryStore:
        """What delivery workers go by: the wrapped store's."""
        return self._store.deliveries

    @property
    def healthy(self) -> bool:
        """As the wrapped store says."""
        return self._store.healthy

    async def migrate(self) -> bytes:
        """Open the wrapped store."""
        return await self._store.migrate()

    async def aclose(self) -> None:
        """Close the wrapped store."""
        await self._store.aclose()

    @property
    def restored(self) -> bool:
        """As the wrapped store says."""
        return self._store.restored

    async def confirm_restored(self, proved: int = 0) -> None:
        """Take the wrapped store's log as the one of its place."""
        await self._store.confirm_restored(proved)

    # The reads go through unchanged.

    async def position(self) -> int:
        """How far the log has got."""
        return await self._store.position()

    async def conversation_ids(self, after: str, limit: int) -> list[str]:
        """All conversations."""
        return await self._store.conversation_ids(after, limit)

    async def pins(self, conversation_id: str, user_id: str, bytes_max: int) -> list[PinRow]:
        """What is pinned: an ability of its own too (`PinReader`)."""
        return await self._store.pins(conversation_id, user_id, bytes_max)

    async def idle_streams(
        self, before_ms: int, after_ms: int, limit: int, *, parts: bool = True
    ) -> list[IdleStream]:
        """Streamed messages to end: an ability beside those of `Store` (`StreamReader`), which the wrapped one has."""
        return await self._store.idle_streams(before_ms, after_ms, limit, parts=parts)

    async def page(
        self,
        conversation_id: str,
        user_id: str,
        after_seq: int,
        limit: int,
        bytes_max: int,
        *,
        history: bool = False,
    ) -> Page:
        """Entries of a log."""
        return await self._store.page(conversation_id, user_id, after_seq, limit, bytes_max, history=history)

    async def entries(self, conversation_id: str, after_seq: int, limit: int) -> list[Entry]:
        """Entries of a log as they are stored."""
        return await self._store.entries(conversation_id, after_seq, limit)

    async def heads(self, user_id: str, device_id: str) -> list[ListedHead]:
        """Where a device stands."""
        return await self._store.heads(user_id, device_id)

    async def head_seqs(self, conversation_ids: Sequence[str]) -> dict[str, tuple[str, int]]:
        """Heads by conversation."""
        return await self._store.head_seqs(conversation_ids)

    async def conversation(self, conversation_id: str, user_id: str) -> Conversation:
        """One conversation."""
        return await self._store.conversation(conversation_id, user_id)

    async def conversations(
        self, user_id: str, device_id: str | None, after: str | None, limit: int
    ) -> list[ListedConversation]:
        """A user's conversations."""
        return await self._store.conversations(user_id, device_id, after, limit)

    async def recent(
        self, user_id: str, device_id: str | None, after: RecentPlace | None, limit: int, bytes_max: int
    ) -> RecentPage:
        """A user's conversations, newest activity first."""
        return await self._store.recent(user_id, device_id, after, limit, bytes_max)

    async def members(
        self, conversation_id: str, user_id: str, after: str | None, limit: int
    ) -> list[MemberCursor]:
        """A conversation's members."""
        return await self._store.members(conversation_id, user_id, after, limit)

    async def bans(
        self, conversation_id: str, user_id: str | None, policy: Policy, after: str | None, limit: int
    ) -> list[Ban]:
        """Who is banned from a conversation."""
        return await self._store.bans(conversation_id, user_id, policy, after, limit)

    async def blocks(self, user_id: str, after: str | None, limit: int) -> list[Block]:
        """Whom a user blocked."""
        return await self._store.blocks(user_id, after, limit)

    async def membership_changes(self, after: int | None, limit: int) -> MembershipChanges:
        """Who joined since a position, for other nodes."""
        return await self._store.membership_changes(after, limit)

    async def resume_hashes(self, devices: Sequence[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
        """Resume tokens by device, for other nodes."""
        return await self._store.resume_hashes(devices)

    async def revocations(self, after: int, limit: int) -> list[Revocation]:
        """Who may not be here, for nodes."""
        return await self._store.revocations(after, limit)

    async def kept_login(self, token_hash: bytes) -> KeptLogin | None:
        """The login of a resume token."""
        return await self._store.kept_login(token_hash)

    async def status(
        self, message_id: str, user_id: str, after: tuple[str, str] | None, limit: int
    ) -> Status:
        """How far a message has got."""
        return await self._store.status(message_id, user_id, after, limit)

    async def read_counts(
        self, conversation_id: str, after_seq: int, up_to_seq: int, authors: Sequence[str]
    ) -> list[ReadCounts]:
        """Counts in a large group."""
        return await self._store.read_counts(conversation_id, after_seq, up_to_seq, authors)

    async def outbox(self, limit: int) -> list[OutboxEntry]:
        """What is not confirmed everywhere."""
        return await self._store.outbox(limit)

    async def audit(self, conversation_id: str) -> list[AuditRow]:
        """What was done in a conversation."""
        return await self._store.audit(conversation_id)

    async def acts(self, wanted: AuditFilter, after: int, limit: int) -> list[AuditRow]:
        """What was done."""
        return await self._store.acts(wanted, after, limit)

    async def newest_acts(self, wanted: AuditFilter, before: int, limit: int) -> list[AuditRow]:
        """What was done last."""
        return await self._store.newest_acts(wanted, before, limit)

    async def audit_end(self) -> int:
        """How far the audit has got."""
        return await self._store.audit_end()

    async def audit_chains(self, chain: int, number: int, limit: int) -> ChainPage:
        """The audit in the order of its chains."""
        return await self._store.audit_chains(chain, number, limit)

    async def unchained_acts(self, after: int, limit: int) -> list[ChainedAct]:
        """What was done before there were chains."""
        return await self._store.unchained_acts(after, limit)


def _line(entry: Entry) -> bytes:
    copied = {
        "conversation": entry.conversation_id,
        "seq": entry.seq,
        "sender": entry.sender_id,
        "payload": msgspec.Raw(entry.payload),
    }
    return msgspec.json.encode(copied) + b"\n"


def main(port: str = "8000", archive: str = "archive.jsonl") -> None:
    """Serve until SIGTERM or Ctrl-C."""
    server = ChatServer(
        store=ArchivingStore(open_store("memory://"), Path(archive)),
        authenticate=jwt_authenticator(os.environ["CHATKIT_JWT_SECRET"]),
    )
    uvicorn.run(asgi_app(server), host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
