"""Our own export of a log: JSON lines, one for each entry. What is on a line, and what a file must keep to.

    {"chatkit": "log", "version": 1}
    {"conversation": {"conversationId": "g", "type": "GROUP", "title": "Tea", "history": "FROM_JOIN"}}
    {"entry": {"seq": 1, "senderId": "ann", "ts": 1700000000000, "payload": {"type": "MEMBER", "op": "CREATED", ...}}}
    {"entry": {"seq": 2, "senderId": "ann", "ts": 1700000000001, "payload": {"type": "RECALLED"}, "clientMsgId": "k"}}
    {"entry": {"seq": 3, "senderId": "ann", "ts": 1700000000002, "payload": {"type": "RECALL", "seq": 2, "by": "ann"}}}
    {"member": {"userId": "ann", "role": "OWNER"}}
    {"end": {"headSeq": 3}}

`read` goes through a file and holds that it is a log that can have been: seqs without holes, only members go and
have roles, only messages are recalled. Pure; called by `cli` and `log_import`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import msgspec

from ..core.log.rules import MEMBERSHIPS_MAX
from ..errors import ImportFileError, RefusedError
from ..types import ConversationType, History, Role
from ..wire.events import ClientMsgId, Id
from ..wire.payload import RECALLED, canonical, encode
from .files import Files

VERSION: Final = 1
HEADER: Final = msgspec.json.encode({"chatkit": "log", "version": VERSION})

_Number = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class ConversationLine(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A conversation; its entries and then its members follow.

    Attributes:
        history: What who joins it later may read.
    """

    conversation_id: Id
    type: ConversationType
    title: Annotated[str, msgspec.Meta(max_length=256)] = ""
    history: History = "FROM_JOIN"


class EntryLine(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """An entry of the conversation before it."""

    seq: _Number
    sender_id: Id
    ts: _Number
    payload: msgspec.Raw
    client_msg_id: ClientMsgId | None = None


class MemberLine(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A member of the conversation before it, and what they are there."""

    user_id: Id
    role: Role


class EndLine(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """The end of a conversation, without which its file was cut off."""

    head_seq: _Number


class _Line(msgspec.Struct, gc=False):
    """One of these."""

    chatkit: Literal["log"] | None = None
    version: int | None = None
    conversation: ConversationLine | None = None
    entry: EntryLine | None = None
    member: MemberLine | None = None
    end: EndLine | None = None


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An entry that has been looked at.

    Attributes:
        kind: What it is.
        payload: Canonical; of a recalled message what says so.
        op: Of a MEMBER: what it says.
        user_ids: Of a MEMBER: of whom.
        names_seq: Of an EDIT, REACTION, PINNED, RECALL, and of a message that answers one: which message they name;
            else 0.
        by: Of a RECALL: who did it.
        where: File and line.
    """

    seq: int
    kind: Literal["USER", "EDIT", "REACTION", "PINNED", "TITLE", "MEMBER", "RECALL"]
    sender_id: str
    ts: int
    payload: bytes
    where: str
    client_msg_id: str = ""
    op: Literal["CREATED", "ADDED", "REMOVED", "LEFT"] = "CREATED"
    user_ids: tuple[str, ...] = ()
    names_seq: int = 0
    by: str = ""


class _Change(msgspec.Struct):
    op: Literal["CREATED", "ADDED", "REMOVED", "LEFT"]
    user_ids: Annotated[tuple[Id, ...], msgspec.Meta(min_length=1)] = msgspec.field(name="userIds")


class _Recall(msgspec.Struct):
    seq: _Number
    by: Id
    edits: tuple[_Number, ...] = ()


class _Named(msgspec.Struct):
    seq: _Number


_Said = Literal["USER", "EDIT", "REACTION", "PINNED", "TITLE"]
_SAID: Final[dict[str, _Said]] = {
    "EDIT": "EDIT",
    "REACTION": "REACTION",
    "PINNED": "PINNED",
    "TITLE": "TITLE",
}
"""By payload type, what users say that is no message."""

RecalledEdits = dict[tuple[str, int], int]
"""Of edits that went with the message that they edit: (conversation, seq) of each, and the seq of that message. Only a
later line tells: it is filled by the first look at a file, and used by the second."""


Checked = ConversationLine | Entry | MemberLine
_decode = msgspec.json.Decoder(_Line).decode
_decode_payload = msgspec.json.Decoder(dict[str, Any]).decode


def read(files: Files, edits: RecalledEdits) -> Iterator[Checked]:
    """What a file holds, looked at line by line.

    Args:
        files: One file.
        edits: Empty at first; for the second look what the first one left.

    Raises:
        ImportFileError: It is no such file, or cannot have been a log; names the line.
    """
    for name in files.names:
        yield from _File(files, name, edits).all()


class _File:
    """One file; what is kept is what a conversation's members and recalls are checked by."""

    def __init__(self, files: Files, name: str, edits: RecalledEdits) -> None:
        self._files, self._name, self._edits = files, name, edits
        self._conversation: ConversationLine | None = None
        self._seq = 0
        self._present: set[str] = set()
        self._joins: dict[str, int] = {}
        self._roles: dict[str, Role] = {}
        self._no_messages: set[int] = set()
        self._recalled: set[int] = set()
        self._to_be_recalled: set[int] = set()

    def all(self) -> Iterator[Checked]:
        for number, text in self._files.lines(self._name):
            where = f"{self._name}:{number}"
            try:
                line = _decode(text)
            except (msgspec.DecodeError, RecursionError) as error:
                raise ImportFileError(f"{where}: {error}") from None
            if number == 1:
                self._check_header(line, where)
            elif line.conversation is not None:
                self._check_ended(where)
                self._begin(line.conversation)
                yield line.conversation
            elif self._conversation is None:
                raise ImportFileError(f"{where}: a conversation is missing before it")
            elif line.entry is not None:
                yield self._entry(line.entry, where)
            elif line.member is not None:
                yield self._member(line.member, where)
            elif line.end is not None:
                self._end(line.end, where)
            else:
                raise ImportFileError(f"{where}: it holds nothing that is known; is it of a newer version?")
        self._check_ended(f"{self._name}: the end")

    def _check_header(self, line: _Line, where: str) -> None:
        if line.chatkit != "log":
            raise ImportFileError(f"{where}: this is no export of chatkit")
        if line.version != VERSION:
            raise ImportFileError(f"{where}: it is of version {line.version}; this chatkit reads {VERSION}")

    def _begin(self, conversation: ConversationLine) -> None:
        self._conversation, self._seq = conversation, 0
        for found in (self._present, self._joins, self._roles):
            found.clear()
        for seqs in (self._no_messages, self._recalled, self._to_be_recalled):
            seqs.clear()

    def _end(self, line: EndLine, where: str) -> None:
        if line.head_seq != self._seq:
            raise ImportFileError(f"{where}: entries between seq {self._seq} and {line.head_seq} are missing")
        if self._to_be_recalled:
            raise ImportFileError(f"{where}: seq {min(self._to_be_recalled)} is recalled by no entry")
        assert self._conversation is not None, "it was looked at before"
        if self._conversation.type == "GROUP" and self._roles and "OWNER" not in self._roles.values():
            raise ImportFileError(f"{where}: none of the members before it is the owner")
        self._conversation = None

    def _check_ended(self, where: str) -> None:
        if self._conversation is not None:
            raise ImportFileError(f"{where}: the end of {self._conversation.conversation_id} is missing")

    def _member(self, line: MemberLine, where: str) -> MemberLine:
        if line.user_id not in self._present:
            raise ImportFileError(f"{where}: {line.user_id} is no member after the entries before it")
        if line.user_id in self._roles:
            raise ImportFileError(f"{where}: {line.user_id} is named twice")
        self._roles[line.user_id] = line.role
        return line

    def _entry(self, line: EntryLine, where: str) -> Entry:
        if self._roles:
            raise ImportFileError(f"{where}: an entry comes after the members")
        if line.seq != self._seq + 1:
            words = (
                "what came before it has expired, or is missing" if not self._seq else "the seqs have a hole"
            )
            raise ImportFileError(f"{where}: seq {line.seq} does not follow {self._seq}: {words}")
        self._seq = line.seq
        try:
            payload = _decode_payload(line.payload)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ImportFileError(f"{where}: {error}") from None
        kind = payload.get("type")
        if line.seq == 1 and kind != "MEMBER":
            raise ImportFileError(f"{where}: the first entry must say that the conversation was made")
        if kind == "MEMBER":
            return self._change(line, where)
        if kind == "RECALL":
            return self._recall(line, where)
        return self._message(line, payload, where)

    def _message(self, line: EntryLine, payload: dict[str, Any], where: str) -> Entry:
        if line.client_msg_id is None:
            raise ImportFileError(f"{where}: a message without a clientMsgId, or an entry of a newer version")
        encoded, kind, names_seq = encode(payload), self._kind(payload), 0
        if encoded == RECALLED:
            self._to_be_recalled.add(line.seq)
            names_seq = self._edits.get((self._name_of_conversation(), line.seq), 0)
            kind = "EDIT" if names_seq else "USER"
        else:
            names_seq = self._named(payload, kind, line.seq, where)
            try:
                encoded = canonical(payload)
            except RefusedError as error:
                raise ImportFileError(f"{where}: {error}") from None
        if kind != "USER":
            self._no_messages.add(line.seq)
        return Entry(
            line.seq, kind, line.sender_id, line.ts, encoded, where, line.client_msg_id, names_seq=names_seq
        )

    def _kind(self, payload: dict[str, Any]) -> _Said:
        found = payload.get("type")
        return _SAID.get(found, "USER") if isinstance(found, str) else "USER"

    def _named(self, payload: dict[str, Any], kind: str, seq: int, where: str) -> int:
        """The message that a payload names; 0: none."""
        if kind == "TITLE":
            return 0
        named = payload if kind != "USER" else payload.get("replyTo")
        if named is None:
            return 0
        try:
            found = msgspec.convert(named, _Named).seq
        except msgspec.ValidationError as error:
            raise ImportFileError(f"{where}: {error}") from None
        if not 0 < found < seq or found in self._no_messages:
            raise ImportFileError(f"{where}: seq {found} is no message before it")
        return found

    def _name_of_conversation(self) -> str:
        assert self._conversation is not None, "it was looked at before"
        return self._conversation.conversation_id

    def _change(self, line: EntryLine, where: str) -> Entry:
        found = _convert(line.payload, _Change, where)
        users, is_joining = set(found.user_ids), found.op in {"CREATED", "ADDED"}
        fits = not users & self._present if is_joining else users <= self._present
        if (found.op == "CREATED") != (line.seq == 1) or not fits or len(users) != len(found.user_ids):
            raise ImportFileError(f"{where}: these users cannot have come or gone then")
        self._no_messages.add(line.seq)
        if is_joining:
            self._present |= users
            self._count_joins(users, where)
        else:
            self._present -= users
        names = tuple(found.user_ids)
        return Entry(line.seq, "MEMBER", line.sender_id, line.ts, b"", where, op=found.op, user_ids=names)

    def _count_joins(self, users: set[str], where: str) -> None:
        for user in users:
            self._joins[user] = self._joins.get(user, 0) + 1
            if self._joins[user] > MEMBERSHIPS_MAX:
                raise ImportFileError(f"{where}: {user} comes and goes more than {MEMBERSHIPS_MAX} times")

    def _recall(self, line: EntryLine, where: str) -> Entry:
        found = _convert(line.payload, _Recall, where)
        known = 0 < found.seq < line.seq and not (
            found.seq in self._no_messages or found.seq in self._recalled
        )
        gone = {found.seq, *found.edits}
        if not known or not gone <= self._to_be_recalled:
            raise ImportFileError(f"{where}: seq {found.seq} is no message that was recalled")
        self._no_messages.update((line.seq, *found.edits))
        self._recalled.add(found.seq)
        self._to_be_recalled -= gone
        for edit in found.edits:
            self._edits[self._name_of_conversation(), edit] = found.seq
        return Entry(
            line.seq, "RECALL", line.sender_id, line.ts, b"", where, names_seq=found.seq, by=found.by
        )


def _convert(payload: msgspec.Raw, kind: type[Any], where: str) -> Any:
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ImportFileError(f"{where}: {error}") from None
