"""What happens to uploaded files (*blobs*), and to what names them. For each command: what it needs, and what it does.

A blob is a row that says whose it is, how large and of what type; its bytes are objects elsewhere. A message that names
one in its payload makes a *reference* in the transaction that stores the message, and loses it in the one that recalls
or expires it. A blob without references is collected: its row says GOING first, in a transaction that has looked for
references under the same lock that a send takes. So a send finds the blob and keeps it, or finds it going and is
refused. Why it is so: docs/design/0032-media.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from ...errors import BadRequestError, ConflictError, NotFoundError, QuotaError
from .blob_rows import BlobRow, DueBlob, charged
from .commands import Append, CollectBlobs, FinishBlob, ForgetBlobs, ReserveBlob
from .keys import Keys
from .outcomes import BlobReserved, BlobsCollected, Done
from .state import MessageRow, State

_NAME: Final = b'"blobId"'
_PREFIXES: Final = {"IMAGE": "image/", "VOICE": "audio/", "FILE": ""}
"""What the type of a blob begins with, by the type of the message."""


class _Named(msgspec.Struct):
    type: str
    blob_id: str | None = msgspec.field(name="blobId", default=None)
    mime: str = ""
    bytes: int = -1


class _Typed(msgspec.Struct):
    type: str


class _Edit(msgspec.Struct):
    payload: msgspec.Raw


_decode: Final = msgspec.json.Decoder(_Named).decode
_decode_type: Final = msgspec.json.Decoder(_Typed).decode
_decode_edit: Final = msgspec.json.Decoder(_Edit).decode


def named_in(payload: bytes) -> _Named | None:
    """What a canonical payload says of the blob that it names, or what an EDIT shows; None if it names none."""
    if _NAME not in payload:
        return None
    kind = _decode_type(payload).type
    if kind == "EDIT":
        payload = bytes(_decode_edit(payload).payload)
        kind = _decode_type(payload).type
    if kind not in _PREFIXES:  # in others the words mean something else
        return None
    named = _decode(payload)  # whose fields were checked when it came
    return named if named.blob_id is not None else None


# --- a message that names a blob ---


def keys_of_named(keys: Keys, sender_id: str, payload: bytes) -> None:
    """The blob, and whether the sender sees a message that names it."""
    named = named_in(payload)
    if named is not None:
        assert named.blob_id is not None
        keys.blobs.named.add((named.blob_id, sender_id))


def check_named(state: State, command: Append, payload: bytes) -> None:
    """Whether the sender may send the blob that the payload names, and the payload says of it what is true.

    Raises:
        NotFoundError: There is none, it was never received as a whole, or it is neither theirs nor in a message that
            they see.
        BadRequestError: It is of another type or size.
    """
    named = named_in(payload)
    if named is None:
        return
    assert named.blob_id is not None
    row = state.blobs.rows.get(named.blob_id)
    is_theirs = row is not None and (
        row.owner_id == command.sender_id or (named.blob_id, command.sender_id) in state.blobs.seen
    )
    if row is None or row.state != "READY" or not is_theirs:
        raise NotFoundError("no such blob; upload it again", reason="BLOB")
    if named.mime != row.mime or named.bytes != row.size:
        raise BadRequestError(f"the blob is of type {row.mime} and has {row.size} bytes")
    if not row.mime.startswith(_PREFIXES[named.type]):
        raise BadRequestError(f"a blob of type {row.mime} is no {named.type}")


def refer(state: State, message: MessageRow, payload: bytes) -> None:
    """Keep that a new message names a blob, if there is such a one; one that a host keeps elsewhere is its affair."""
    named = named_in(payload)
    if named is not None and named.blob_id is not None:
        row = state.blobs.rows.get(named.blob_id)
        if row is not None and row.state == "READY":
            state.blobs.kept.add(named.blob_id)
            state.blobs.references.append((message.conversation_key, message.seq, named.blob_id))


def drop(state: State, message: MessageRow, edits: Iterable[int] = ()) -> None:
    """A message is recalled with its edits, and names nothing any more.

    Of one whose body is in an archive it is not known what it named, nor of edits.
    """
    key = message.conversation_key
    if not message.payload or _NAME in message.payload:
        state.blobs.dropped.append((key, message.seq))
    state.blobs.dropped.extend((key, seq) for seq in edits)


# --- an upload ---


def keys_of_reserve(keys: Keys, command: ReserveBlob) -> None:
    """What the key has made already, and how much the user has."""
    keys.blobs.uploads.add((command.owner_id, command.upload_key))
    keys.blobs.owners.add(command.owner_id)


def reserve(state: State, command: ReserveBlob) -> BlobReserved:
    """Make room for a file, or find the one that this key already made.

    Raises:
        ConflictError: The key made another one.
        QuotaError: The user has too much already.
    """
    name = (command.owner_id, command.upload_key)
    known = state.blobs.by_key.get(name)
    row = None if known is None else state.blobs.rows[known]
    if row is not None:
        if (row.size, row.mime) != (command.size, command.mime):
            raise ConflictError("this key was used for a file of another size or type")
        if command.at_ms > row.at_ms:  # it is due already, or named: the collector finds how long it is kept
            row = state.blobs.rows[row.blob_id] = state.blobs.changed[row.blob_id] = row._replace(
                at_ms=command.at_ms
            )
        return BlobReserved(row)
    cost = charged(command.size)
    if state.blobs.usage[command.owner_id] + cost > command.quota_bytes:
        raise QuotaError(
            f"this user may keep {command.quota_bytes} bytes of files, and has no room for this one"
        )
    state.blobs.usage[command.owner_id] += cost
    made = BlobRow(
        command.blob_id, command.owner_id, command.upload_key, command.size, command.mime, "PENDING",
        command.at_ms, b"",
    )  # fmt: skip
    state.blobs.by_key[name] = made.blob_id
    return BlobReserved(_keep(state, made, command.keep_ms))


def _keep(state: State, row: BlobRow, keep_ms: int) -> BlobRow:
    """Write a row, and have it looked at once it has been kept for so long."""
    state.blobs.rows[row.blob_id] = state.blobs.changed[row.blob_id] = row
    state.blobs.due.append((row.at_ms + keep_ms, row.blob_id, keep_ms))
    return row


def keys_of_finish(keys: Keys, command: FinishBlob) -> None:
    """The blob."""
    keys.blobs.rows.add(command.blob_id)


def finish(state: State, command: FinishBlob) -> BlobReserved:
    """All of a file was received; whoever comes first says which parts it has. Raises NotFoundError if it is gone."""
    row = state.blobs.rows.get(command.blob_id)
    if row is None or row.state == "GOING":
        raise NotFoundError("this upload is gone; begin again")
    if row.state == "PENDING":
        row = row._replace(state="READY", parts=command.parts)
        state.blobs.rows[row.blob_id] = state.blobs.changed[row.blob_id] = row
    return BlobReserved(row)


# --- the collector ---


def keys_of_collect(keys: Keys, command: CollectBlobs) -> None:
    """The blobs, and whether anything names them."""
    keys.blobs.collected.update(it.blob_id for it in command.due)


def collect(state: State, command: CollectBlobs) -> BlobsCollected:
    """Of what is due, begin to remove what nothing names; what is named is left alone until it loses a reference."""
    going: list[str] = []
    gone: list[DueBlob] = []
    for due in command.due:
        row = state.blobs.rows.get(due.blob_id)
        ripe_ms = 0 if row is None else row.at_ms + due.keep_ms
        if row is None or due.blob_id in state.blobs.kept:
            state.blobs.dropped_due.append((due.due_id,))
        elif row.state == "GOING":
            if ripe_ms <= command.at_ms:
                gone.append(due)  # it stays due until it is forgotten
            else:
                state.blobs.dropped_due.append((due.due_id,))
        elif ripe_ms > command.at_ms or due.blob_id in state.blobs.held:
            state.blobs.dropped_due.append((due.due_id,))
            again_ms = max(ripe_ms, command.at_ms + command.held_ms)
            state.blobs.due.append((again_ms, due.blob_id, due.keep_ms))
        else:
            state.blobs.dropped_due.append((due.due_id,))
            row = row._replace(state="GOING", upload_key=None, at_ms=command.at_ms)
            _keep(state, row, command.grace_ms)
            going.append(due.blob_id)
    return BlobsCollected(tuple(going), tuple(gone))


def keys_of_forget(keys: Keys, command: ForgetBlobs) -> None:
    """The blobs."""
    keys.blobs.rows.update(it.blob_id for it in (*command.gone, *command.stuck))


def forget(state: State, command: ForgetBlobs) -> Done:
    """The objects of these are removed: nothing is left of them. Those that are stuck let others go first."""
    for it in command.gone:
        row = state.blobs.rows.get(it.blob_id)
        if row is None or row.state == "GOING":
            state.blobs.dropped_due.append((it.due_id,))
            state.blobs.rows[it.blob_id] = state.blobs.changed[it.blob_id] = None
    for it in command.stuck:
        row = state.blobs.rows.get(it.blob_id)
        state.blobs.dropped_due.append((it.due_id,))
        if row is not None and row.at_ms + it.keep_ms <= command.at_ms:  # no other collector has said so
            _keep(state, row._replace(at_ms=command.at_ms), it.keep_ms)
    return Done()
