"""The rules that the flows share: refusals, payloads of server-made entries, and arithmetic on cursors.

Pure functions over values. Called by `messages`, `cursors`, `members`, `blocks` and `sessions`; by the stores' reads
for the refusals; and by the store in memory, for how far everybody has got.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Final, Literal

import msgspec

from ...errors import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    RateLimitedError,
    RecallWindowPassedError,
    TokenExpiredError,
    TokenRevokedError,
)
from ...types import ConversationType, Role
from ..cursors import EXACT_MAX, RECEIPT_MEMBERS_MAX, absorb
from ..policy import Action, Policy
from ..visibility import Interval, is_visible, next_visible, readable
from .commands import Append, ConfirmMessage, CreateConversation, Recall

DEVICES_MAX: Final = 50
"""Devices that are kept per user.

One more, whoever registers it (a login, a resume, the first confirmation from an unknown device), and the user's
longest unseen other one is forgotten: its cursors, single confirmations and resume token. What only that one
still missed is confirmed by it, so the outbox may close. A forgotten device that comes back is a new one.
"""

AUTHOR_ENTRIES_MAX = 1000
"""How many of the newest covered entries are searched for authors."""

MEMBERS_SHOWN_MAX = 200
"""Members listed in a `Conversation`."""

MEMBERSHIPS_MAX = 1_000
"""How often one user can become a member of one conversation: what they may see is arithmetic on all these times."""

BLOCKS_MAX = 1_000
"""Users that one user can block."""

BANS_MAX = 10_000
"""Users that can be banned from one conversation."""

MemberOp = Literal["CREATED", "ADDED", "REMOVED", "LEFT"]
Kind = Literal["USER", "MEMBER", "RECALL", "EDIT", "REACTION", "PINNED", "TITLE"]
"""What an entry is. EDIT, REACTION and PINNED are said by users of an earlier message, a TITLE of the group: they are
no messages themselves."""

SERVER_KINDS: Final[frozenset[Kind]] = frozenset({"MEMBER", "RECALL"})
"""Entries that the server makes: they have no key, and their payloads stay in the log for ever."""

ACTIVITY: Final[frozenset[Kind]] = frozenset({"USER", "MEMBER", "TITLE"})
"""What brings a conversation to the front of a list; what is said of an older entry does not."""

_encode = msgspec.json.Encoder(order="sorted").encode


class _Members(msgspec.Struct):
    """What a MEMBER entry says."""

    op: MemberOp
    user_ids: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = msgspec.field(name="userIds")


_decode_members = msgspec.json.Decoder(_Members).decode
_decode_pair = msgspec.json.Decoder(tuple[str, str]).decode


def not_found() -> NotFoundError:
    """The one answer for "does not exist" and "not yours to see"."""
    return NotFoundError("no such conversation or message")


def token_revoked() -> TokenRevokedError:
    """The one answer for every resume token that does not hold."""
    return TokenRevokedError("the resume token is unknown, used or expired")


def too_many_devices(devices_max: int) -> RateLimitedError:
    """The answer to a new device of a user whose devices are all online."""
    return RateLimitedError(
        f"this user has {devices_max} devices and none may be forgotten: all are online", retry_after_s=60.0
    )


def member_payload(op: MemberOp, user_ids: Sequence[str]) -> bytes:
    """Canonical payload of a MEMBER entry."""
    return _encode({"type": "MEMBER", "op": op, "userIds": list(user_ids)})


def members_of(payload: bytes) -> tuple[str, ...]:
    """The users that a MEMBER entry names. Raises ValueError if it is none."""
    return _decode_members(payload).user_ids


def recall_payload(message_id: str, seq: int, by: str, edits: Sequence[int] = ()) -> bytes:
    """Canonical payload of a RECALL entry; `edits` are recalled with the message."""
    payload: dict[str, object] = {"type": "RECALL", "messageId": message_id, "seq": seq, "by": by}
    if edits:
        payload["edits"] = list(edits)
    return _encode(payload)


def pair_of(user_ids: Iterable[str]) -> str:
    """The unique name of a SINGLE's pair: a JSON array, so that no character of an id can blur it."""
    return _encode(sorted(set(user_ids))).decode()


def members_of_pair(pair: str) -> tuple[str, str]:
    """The two members of a SINGLE, ascending."""
    return _decode_pair(pair)


def intervals_of_pair(pair: str, user_id: str) -> list[Interval]:
    """A user's memberships of a SINGLE: its two members are in it from its first entry on, for ever."""
    return [Interval(1)] if user_id in members_of_pair(pair) else []


def other_of(pair: str, user_id: str) -> str:
    """The other member of a SINGLE."""
    first, second = _decode_pair(pair)
    return second if first == user_id else first


def initial_members(command: CreateConversation) -> tuple[str, ...]:
    """The members that a conversation is to start with, ascending.

    Raises:
        BadRequestError: A SINGLE without exactly two different members, or more than `members_max`.
    """
    users = tuple(sorted({*command.member_ids, command.creator_id}))
    if command.type == "SINGLE" and len(users) != 2:
        raise BadRequestError("a SINGLE conversation has exactly two members")
    check_member_count(len(users), command.members_max)
    return users


def check_title(kind: ConversationType, title: str) -> None:
    """One of two people would name the other as they like: a SINGLE has no title, else BadRequestError."""
    if kind == "SINGLE" and title:
        raise BadRequestError("a SINGLE conversation has no title: clients show who the other is")


def check_same_group(
    command: CreateConversation, type_found: ConversationType, members_found: Sequence[str]
) -> None:
    """Whether an existing conversation is the one asked for; if not, ConflictError."""
    if command.type != "GROUP" or type_found != "GROUP" or initial_members(command) != tuple(members_found):
        raise ConflictError("this conversation id is taken")


def check_login(identity_expires_ms: int | None, leeway_ms: int, at_ms: int) -> None:
    """A resume token does not outlive the login it was given for: TokenExpiredError."""
    if identity_expires_ms is not None and identity_expires_ms + leeway_ms <= at_ms:
        raise TokenExpiredError("the login has expired")


def check_same_payload(command: Append, mac_found: bytes | None) -> None:
    """Whether a known key came with the payload it had the first time; if not, ConflictError."""
    if command.payload_mac != mac_found:
        raise ConflictError("this clientMsgId was used for another payload")


def check_up_to(up_to_seq: int, head_seq: int) -> None:
    """A cursor may not pass the head: BadRequestError."""
    if not 0 <= up_to_seq <= head_seq:
        raise BadRequestError("upToSeq is beyond the head of the conversation")


def check_conversation(command: ConfirmMessage, conversation_id: str) -> None:
    """A message id and a conversation that come together must fit: BadRequestError."""
    if command.conversation_id not in (None, conversation_id):
        raise BadRequestError("the message is in another conversation")


def check_exact_count(count: int) -> None:
    """Single confirmations above a cursor are bounded: BadRequestError."""
    if count > EXACT_MAX:
        raise BadRequestError(
            f"more than {EXACT_MAX} single confirmations; confirm the oldest missing ones first"
        )


def check_recallable(kind: Kind) -> None:
    """Only users' messages can be recalled: ForbiddenError."""
    if kind != "USER":
        raise ForbiddenError("only messages can be recalled")


def check_window(command: Recall, server_ts: int) -> None:
    """A message is too old to be recalled after the window: RecallWindowPassedError."""
    if command.at_ms - server_ts > command.window_ms:
        raise RecallWindowPassedError("the message is too old to be recalled")


def check_is_group(type_: ConversationType) -> None:
    """The members of a SINGLE are its identity, and nobody is above the other one: ForbiddenError."""
    if type_ == "SINGLE":
        raise ForbiddenError(
            "a SINGLE conversation has no title, owner or roles, and its members never change"
        )


def check_allowed(
    policy: Policy, role: Role, action: Action, target: Role | None, type_: ConversationType
) -> None:
    """Whether a member may do this: ForbiddenError with the reason ROLE."""
    if not policy.allows(role, action, target=target, conversation_type=type_):
        raise not_allowed(action)


def not_allowed(action: Action) -> ForbiddenError:
    """The one answer to what a role does not allow."""
    words = action.lower().replace("_", " ")
    return ForbiddenError(f"your role here does not allow you to {words}", reason="ROLE")


def check_not_silenced(until_ms: int, at_ms: int) -> None:
    """Whoever is silenced writes nothing: ForbiddenError with the reason SILENCED."""
    if at_ms < until_ms:
        raise ForbiddenError("you may not write to this conversation for now", reason="SILENCED")


def check_ban_count(count: int) -> None:
    """A conversation keeps a bounded number of bans: BadRequestError."""
    if count >= BANS_MAX:
        raise BadRequestError(f"at most {BANS_MAX} users can be banned from one conversation")


def cannot_be_added() -> ForbiddenError:
    """The one answer for users who are banned, who blocked the caller, or who left by their own choice."""
    return ForbiddenError("not all of these users can be added by you")


def check_memberships(count: int) -> None:
    """Nobody comes and goes without end: BadRequestError."""
    if count >= MEMBERSHIPS_MAX:
        raise BadRequestError(f"a user can be added to one group {MEMBERSHIPS_MAX} times")


def check_not_blocked(pair: str, blocks: int, sender_id: str) -> None:
    """Whoever is blocked writes nothing to a SINGLE: ForbiddenError."""
    if blocks & block_bit(pair, other_of(pair, sender_id)):
        raise ForbiddenError("you cannot send messages to this conversation")


def check_may_block(user_id: str, blocked_id: str, count: int) -> None:
    """A user can block a bounded number of others: BadRequestError."""
    if user_id == blocked_id:
        raise BadRequestError("users cannot block themselves")
    if count >= BLOCKS_MAX:
        raise BadRequestError(f"a user can block at most {BLOCKS_MAX} others; unblock some first")


def block_bit(pair: str, user_id: str) -> int:
    """The bit in the `blocks` of a SINGLE that says that this member blocked the other one."""
    return 1 if members_of_pair(pair)[0] == user_id else 2


def check_member_count(count: int, members_max: int) -> None:
    """A group has a greatest size: BadRequestError."""
    if count > members_max:
        raise BadRequestError(f"a group has at most {members_max} members")


def check_visible(intervals: Sequence[Interval], seq: int) -> None:
    """A current member may read the entry; else NotFoundError."""
    if not sees(intervals, seq):
        raise not_found()


def sees(intervals: Sequence[Interval], seq: int) -> bool:
    """Whether who has these memberships may read the entry now."""
    return is_current(intervals) and is_visible(readable(intervals), seq)


def is_current(intervals: Sequence[Interval]) -> bool:
    """Whether the last of a user's memberships still lasts."""
    return bool(intervals) and intervals[-1].leave_seq is None


def skip_hidden(cursor: int, intervals: Sequence[Interval]) -> int:
    """The cursor moved over what its user will never see: up to just before the next visible entry.

    So a late member's cursor starts at the entry before their first, and does not hold back "least of the others".
    """
    if is_current(intervals) and cursor + 1 >= intervals[-1].join_seq:
        return cursor  # the next entry is visible, as nearly always
    following = next_visible(intervals, cursor)
    return cursor if following is None else following - 1


def advance_cursor(
    cursor: int, exact: Collection[int], intervals: Sequence[Interval]
) -> tuple[int, list[int]]:
    """Where a device's cursor comes to rest, and the single confirmations that stay above it."""
    if not exact:
        return skip_hidden(cursor, intervals), []
    while True:
        moved, exact = absorb(skip_hidden(cursor, intervals), exact, intervals)
        if moved == cursor:
            return cursor, list(exact)
        cursor = moved


def least_confirmed(head_seq: int, members: Iterable[tuple[int, Collection[int]]]) -> int:
    """Everything up to here is on every device of every current member, or before their membership.

    Args:
        head_seq: The answer if nobody lacks anything.
        members: The seq at which each joined, and the cursors of their devices, or the farthest one if none has a row.
    """
    least = head_seq
    for join_seq, cursors in members:
        least = min(least, max(join_seq - 1, min(cursors)))
    return least


def names_authors(member_count: int) -> bool:
    """Whether receipts name users; where they are counts, nobody looks for the authors of covered entries."""
    return member_count <= RECEIPT_MEMBERS_MAX


def author_range(after_seq: int, up_to_seq: int) -> int:
    """Where the search for authors in (after_seq, up_to_seq] starts, not included."""
    return max(after_seq, up_to_seq - AUTHOR_ENTRIES_MAX)
