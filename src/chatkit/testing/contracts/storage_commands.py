"""Short ways to write commands of a store, and the checks that many tests share. Used by `storage` and its parts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import count
from typing import Any, TypeVar

from msgspec.structs import replace

from ..._abilities import offers
from ...core.policy import DEFAULT_POLICY
from ...errors import RefusedError
from ...storage import base
from ...storage.base import Outcome, Store
from ...wire.payload import canonical, title_payload

T = TypeVar("T")
EPOCH = "e1"
NOW = 1_000_000
TOMBSTONE = b'{"type":"RECALLED"}'


def text(words: str) -> bytes:
    """The canonical payload of a text."""
    return b'{"text":"%s","type":"TEXT"}' % words.encode()


def group(
    conversation_id: str, *members: str, members_max: int = 1000, at_ms: int = NOW
) -> base.CreateConversation:
    """A group made by the first of its members."""
    return base.CreateConversation(
        conversation_id, "GROUP", members[0], members, "title", EPOCH, members_max, at_ms
    )


def single(conversation_id: str, *members: str) -> base.CreateConversation:
    """A SINGLE made by the first of its members."""
    return base.CreateConversation(conversation_id, "SINGLE", members[0], members, "", EPOCH, 1000, NOW)


def send(
    conversation_id: str, sender: str, key: str, words: str | None = None, at_ms: int = NOW
) -> base.Append:
    """A text message; it says its key if no words are given."""
    payload = text(key if words is None else words)
    return base.Append(conversation_id, sender, key, payload, hashlib.sha256(payload).digest(), at_ms)


def _naming(conversation_id: str, sender: str, key: str, payload: dict[str, Any], at_ms: int) -> base.Append:
    encoded = canonical(payload)
    mac = hashlib.sha256(encoded).digest()
    return base.Append(conversation_id, sender, key, encoded, mac, at_ms, edit_window_ms=60_000)


def _named(message_id: str) -> dict[str, Any]:
    """How a payload names a message of which the id is known."""
    return {"messageId": message_id, "seq": int(message_id.rsplit("-", 1)[-1], 16)}


def edited(
    conversation_id: str,
    sender: str,
    message_id: str,
    words: str = "better",
    at_ms: int = NOW,
    key: str = "",
    mentions: Sequence[str] = (),
) -> base.Append:
    """Other words for an earlier message, within a minute; under a key of its own."""
    mentioned = {"mentions": [*mentions]} if mentions else {}
    payload = {"type": "EDIT", **_named(message_id), "payload": {"type": "TEXT", "text": words, **mentioned}}
    return _naming(conversation_id, sender, key or f"edit {message_id} {words}", payload, at_ms)


def reacted(
    conversation_id: str,
    sender: str,
    message_id: str,
    reaction: str = "+1",
    *,
    removed: bool = False,
    key: str = "",
) -> base.Append:
    """A reaction to an earlier message, or the end of one."""
    payload = {"type": "REACTION", **_named(message_id), "reaction": reaction, "removed": removed}
    return _naming(conversation_id, sender, key or f"react {message_id} {reaction} {removed}", payload, NOW)


def replied(conversation_id: str, sender: str, message_id: str, words: str = "yes") -> base.Append:
    """A text that answers an earlier message."""
    payload = {"type": "TEXT", "text": words, "replyTo": _named(message_id)}
    return _naming(conversation_id, sender, f"reply {message_id} {words}", payload, NOW)


def mentioning(conversation_id: str, sender: str, key: str, *mentions: str, at_ms: int = NOW) -> base.Append:
    """A text that mentions users, or everybody (`*`); it says its key."""
    payload = {"type": "TEXT", "text": key, "mentions": list(mentions)}
    return _naming(conversation_id, sender, key, payload, at_ms)


def pinned(
    conversation_id: str, sender: str, message_id: str, *, unpin: bool = False, key: str = ""
) -> base.Append:
    """A message is pinned, or is not any more."""
    payload = {"type": "PINNED", **_named(message_id), "pinned": not unpin}
    return _naming(conversation_id, sender, key or f"pin {message_id} {unpin}", payload, NOW)


def retitled(
    conversation_id: str,
    sender: str,
    title: str | None = None,
    description: str | None = None,
    at_ms: int = NOW,
) -> base.Append:
    """A group gets another title or description."""
    payload = title_payload(title, description)
    return _naming(conversation_id, sender, f"title {title} {description}", payload, at_ms)


_titles = count(1)


def title_entry(title: str | None, description: str | None = None) -> base.TitleEntry | None:
    """What an `UpdateConversation` says of title and description, under a key of its own."""
    if (title, description) == (None, None):
        return None
    encoded = canonical(title_payload(title, description))
    return base.TitleEntry(f"title {next(_titles)}", encoded, hashlib.sha256(encoded).digest())


def add(conversation_id: str, by: str | None, *users: str, members_max: int = 1000) -> base.AddMembers:
    """Members for a group; None is the host."""
    return base.AddMembers(conversation_id, by, users, members_max, NOW)


def remove(conversation_id: str, by: str | None, user: str) -> base.RemoveMember:
    """The end of a membership; None is the host."""
    return base.RemoveMember(conversation_id, by, user, NOW)


def device(user: str, device_id: str = "phone", at_ms: int = NOW) -> base.OpenSession:
    """A login of a device; its resume token says whose and when."""
    token = f"{user}/{device_id}/{at_ms}".encode()
    return base.OpenSession(user, device_id, token, at_ms + 1000, None, "", at_ms)


def resume(
    used: bytes,
    device_id: str = "phone",
    following: bytes = b"next",
    *,
    until_ms: int = NOW + 9,
    leeway_ms: int = 0,
    at_ms: int = NOW,
) -> base.ResumeSession:
    """A login with the token `used`, which hands on the token `following`."""
    return base.ResumeSession(used, device_id, following, until_ms, leeway_ms, at_ms)


def revoke(
    user: str = "", device_id: str = "", token: bytes = b"", *, ends_ms: int | None = None, at_ms: int = NOW
) -> base.Revoke:
    """The logins of a user, of one device, or by one token end."""
    return base.Revoke("REVOKED", user, device_id, token, ends_ms, at_ms)


def ban(user: str, *, lifted: bool = False, at_ms: int = NOW) -> base.Revoke:
    """A user may not be here, or may again."""
    return base.Revoke("BANNED", user, "", b"", 0 if lifted else None, at_ms)


def delivered(
    conversation_id: str, user: str, seq: int, device_id: str = "phone", at_ms: int = NOW
) -> base.AdvanceDelivered:
    """A device has everything up to `seq`."""
    return base.AdvanceDelivered(conversation_id, user, device_id, seq, at_ms)


def read(conversation_id: str, user: str, seq: int, at_ms: int = NOW) -> base.AdvanceRead:
    """A user has read up to `seq`."""
    return base.AdvanceRead(conversation_id, user, seq, at_ms)


def confirm(message_id: str, user: str, device_id: str = "phone") -> base.ConfirmMessage:
    """A device has exactly this message."""
    return base.ConfirmMessage(message_id, user, device_id, NOW)


def recall(message_id: str, user: str, at_ms: int = NOW, window_ms: int = 120_000) -> base.Recall:
    """A message is withdrawn."""
    return base.Recall(message_id, user, window_ms, at_ms)


async def do(store: Store, *commands: base.Command) -> list[Outcome]:
    """Commit, and insist that nothing was refused."""
    outcomes = await store.commit(commands)
    refused = [it for it in outcomes if isinstance(it, base.Refused)]
    assert not refused
    return outcomes


async def one(store: Store, command: base.Command, kind: type[T]) -> T:
    """Commit one command; its outcome, which must be of this kind."""
    (outcome,) = await store.commit([command])
    assert type(outcome) is kind, outcome
    return outcome


async def refused(store: Store, command: base.Command, error: type[RefusedError]) -> RefusedError:
    """Commit one command; its refusal, which must be exactly this one."""
    outcome = await one(store, command, base.Refused)
    assert type(outcome.error) is error
    return outcome.error


async def texts(store: Store, conversation_id: str, user: str) -> list[bytes]:
    """All payloads that a user sees."""
    page = await store.page(conversation_id, user, 0, 200, 1_000_000)
    assert not page.more
    return [entry.payload for entry in page.entries]


async def seqs(store: Store, conversation_id: str, user: str, after: int = 0, limit: int = 200) -> list[int]:
    """The seqs of one page."""
    page = await store.page(conversation_id, user, after, limit, 1_000_000)
    return [entry.seq for entry in page.entries]


async def head(
    store: Store, user: str, conversation_id: str, device_id: str = "phone"
) -> base.ConversationHead:
    """Where a device stands in one conversation."""
    (found,) = [it for it in await store.heads(user, device_id) if it.conversation_id == conversation_id]
    return found


async def snapshot(store: Store, conversations: Sequence[str], users: Sequence[str]) -> list[Any]:
    """Everything that reads can show, so that two states, or two stores, can be compared."""
    shown: list[Any] = [await store.head_seqs(conversations), await store.outbox(100)]
    for user in users:
        shown.append(await store.heads(user, "phone"))
        shown.append(await store.conversations(user, None, None, 100))
        shown.append(await store.conversations(user, "tablet", None, 100))
        shown.append(await store.blocks(user, None, 100))
    for name in conversations:
        shown.append(await store.audit(name))
        shown.append(await store.read_counts(name, 0, 10_000, users))
        shown.append(await answer_of(store.bans(name, None, DEFAULT_POLICY, None, 100)))
        for user in users:
            shown.append(await answer_of(store.conversation(name, user)))
            shown.append(await answer_of(store.members(name, user, None, 100)))
            shown.append(await answer_of(store.pins(name, user, 0)))
            page = await answer_of(store.page(name, user, 0, 200, 1_000_000))
            shown.append(page)
            shown.append(await answer_of(store.page(name, user, 0, 200, 1_000_000, history=True)))
            for entry in page.entries if isinstance(page, base.Page) else ():
                shown.append(await answer_of(store.status(entry.message_id, user, None, 100)))
        if offers(store, base.TrailReader):
            entries = await store.entries(name, 0, 1_000)
            shown += [replace(await store.trail(it.message_id, None, 100), body="LOG") for it in entries]
    return shown


async def answer_of(reading: Any) -> Any:
    """What a read answers; a refusal by its code."""
    try:
        return await reading
    except RefusedError as error:
        return error.code
