"""What a log is asked to do: one struct per command, with its refusals. No behaviour is here.

Made by the server, given to `storage.base.Store.commit`, carried out by `core.log.decide`. All seqs are from 1; a
cursor of 0 means "nothing yet". All times are Unix milliseconds.
"""

from __future__ import annotations

import msgspec

from ...types import ConversationType


class Append(msgspec.Struct, frozen=True, gc=False):
    """Append a user's message.

    In this order: the sender's own key known? then the stored answer (before any membership check), or
    ConflictError if `payload_mac` differs; not a member? NotFoundError; else the next seq.

    Attributes:
        payload: Canonical JSON.
        payload_mac: Keyed digest of `payload`; the only thing compared for "same payload".
    """

    conversation_id: str
    sender_id: str
    client_msg_id: str
    payload: bytes
    payload_mac: bytes
    at_ms: int


class Recall(msgspec.Struct, frozen=True, gc=False):
    """Withdraw a message: its slot becomes the RECALLED tombstone, a RECALL entry is appended, audit is written.

    A second recall of the same message by its author gets the first one's entry, for ever, also after leaving (found
    before any membership check: its first answer may have been lost). Refusals: NotFoundError (no such id, caller is
    no member, or the entry is not visible to them), ForbiddenError (not the author, or not a user's message),
    RecallWindowPassedError (older than `window_ms`; exactly so old still passes).
    """

    message_id: str
    user_id: str
    window_ms: int
    at_ms: int


class AdvanceDelivered(msgspec.Struct, frozen=True, gc=False):
    """Move one device's delivered cursor to `up_to_seq` (cumulative). Lower or equal changes nothing.

    Refusals: NotFoundError (not a member), BadRequestError (above the head).
    """

    conversation_id: str
    user_id: str
    device_id: str
    up_to_seq: int
    at_ms: int


class ConfirmMessage(msgspec.Struct, frozen=True, gc=False):
    """One device holds exactly this entry; kept even out of order, and the cursor moves over it once it can.

    Refusals: NotFoundError (no such id, not a member, not visible), BadRequestError (`conversation_id` given
    and it is another one).
    """

    message_id: str
    user_id: str
    device_id: str
    at_ms: int
    conversation_id: str | None = None


class AdvanceRead(msgspec.Struct, frozen=True, gc=False):
    """Move the user's read cursor to `up_to_seq`. Lower or equal changes nothing.

    Refusals: NotFoundError (not a member), BadRequestError (above the head).
    """

    conversation_id: str
    user_id: str
    up_to_seq: int
    at_ms: int


class CreateConversation(msgspec.Struct, frozen=True, gc=False):
    """Create a conversation with its MEMBER CREATED entry at seq 1.

    `member_ids` holds the creator. A SINGLE has exactly two members, and one exists per pair: a second one
    answers with the existing, whatever id is asked for. For a GROUP with a taken id: the existing one if type
    and current members are the same, else ConflictError. ConflictError too for a SINGLE with an id that
    belongs to another conversation. BadRequestError: a SINGLE without exactly two members, or more than
    `members_max` members.
    """

    conversation_id: str
    type: ConversationType
    creator_id: str
    member_ids: tuple[str, ...]
    title: str
    epoch: str
    members_max: int
    at_ms: int


class AddMembers(msgspec.Struct, frozen=True, gc=False):
    """Add users to a GROUP: one MEMBER ADDED entry naming those who were not members; none if there are none.

    Refusals: NotFoundError (the caller is no member), ForbiddenError (SINGLE, or the caller is not the
    creator), BadRequestError (more than `members_max` members).
    """

    conversation_id: str
    by: str
    user_ids: tuple[str, ...]
    members_max: int
    at_ms: int


class RemoveMember(msgspec.Struct, frozen=True, gc=False):
    """End a membership: MEMBER REMOVED, or LEFT if it is the caller's own. The entry is not visible to the one
    who goes.

    Refusals: NotFoundError (the caller is no member, or `user_id` is none), ForbiddenError (SINGLE, or the
    caller removes another and is not the creator).
    """

    conversation_id: str
    by: str
    user_id: str
    at_ms: int


class OpenSession(msgspec.Struct, frozen=True, gc=False):
    """Register a device, spend and issue resume tokens, and read the user's conversations, at one point.

    A device seen for the first time starts its delivered cursors at the greatest of the user's other devices. Each
    opening counts as seeing the device; of more than `DEVICES_MAX` the longest unseen one is forgotten.

    Attributes:
        identity_expires_ms: End of the login, kept with the new resume token.
        scope: Scope of the login, kept with the new resume token.
        resume_hash: Digest of the new resume token; it replaces the device's former one.
        resume_expires_ms: After this the new resume token is refused.
    """

    user_id: str
    device_id: str
    resume_hash: bytes
    resume_expires_ms: int
    identity_expires_ms: int | None
    scope: str
    at_ms: int


class ResumeSession(msgspec.Struct, frozen=True, gc=False):
    """As OpenSession, for a resume token: single use, bound to `device_id`, not after its end.

    The user is the token's. Refusals: TokenRevokedError (unknown, used, foreign, too old), TokenExpiredError (the
    login that the token was given for has ended). Nothing is changed by a refusal: the token is not spent.

    Attributes:
        leeway_ms: How long after its end a login is still taken.
    """

    used_hash: bytes
    device_id: str
    resume_hash: bytes
    resume_expires_ms: int
    leeway_ms: int
    at_ms: int


class RenewLogin(msgspec.Struct, frozen=True, gc=False):
    """A device proved its login anew: its resume token, if it has one, is of that login from now on.

    Counts as seeing the device. A device that is not known stays unknown.

    Attributes:
        identity_expires_ms: End of the login.
        scope: Scope of the login.
    """

    user_id: str
    device_id: str
    identity_expires_ms: int | None
    scope: str
    at_ms: int


class RenewEpoch(msgspec.Struct, frozen=True, gc=False):
    """Give a conversation's log a new identity, after a restore. Clients drop their cursors and sync afresh.

    Refusal: NotFoundError.
    """

    conversation_id: str
    epoch: str
    at_ms: int


class EndLogins(msgspec.Struct, frozen=True, gc=False):
    """Every resume token ends: of a log that was put back, some that were used up would hold again."""


class CloseOutbox(msgspec.Struct, frozen=True, gc=False):
    """A worker is done with a conversation's entries up to `up_to_seq`. Closing twice changes nothing."""

    conversation_id: str
    up_to_seq: int


Command = (
    Append
    | Recall
    | AdvanceDelivered
    | ConfirmMessage
    | AdvanceRead
    | CreateConversation
    | AddMembers
    | RemoveMember
    | OpenSession
    | ResumeSession
    | RenewLogin
    | RenewEpoch
    | EndLogins
    | CloseOutbox
)
