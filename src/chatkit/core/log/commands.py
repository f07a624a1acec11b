"""What a log is asked to do: one struct per command, with its refusals. No behaviour is here.

Made by the server, given to `storage.base.Store.commit`, carried out by `core.log.decide`. All seqs are from 1; a
cursor of 0 means "nothing yet". All times are Unix milliseconds.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ...types import ConversationType, GrantedRole, History
from ..policy import DEFAULT_POLICY, Policy
from .blob_rows import DueBlob

RevocationKind = Literal["REVOKED", "BANNED", "DISCONNECTED"]
"""REVOKED: logins and resume tokens from before are refused. BANNED: every login is. DISCONNECTED: sessions end."""


class DeviceRule(msgspec.Struct, frozen=True, gc=False):
    """Which devices may be forgotten for a new one.

    Attributes:
        devices_max: Devices that a user may have; None: `rules.DEVICES_MAX`.
        online: The user's devices that are online at this node; they stay.
        seen_ms: Who was seen within so many milliseconds may be online at another node and stays; None: there is none.
    """

    devices_max: int | None = None
    online: tuple[str, ...] = ()
    seen_ms: int | None = None


ANY_DEVICE = DeviceRule()
"""The longest unseen device goes, whichever it is."""


class LoginTerms(msgspec.Struct, frozen=True, gc=False):
    """What the host says of a login that it was asked about again."""

    expires_ms: int | None
    scope: str


class Append(msgspec.Struct, frozen=True, gc=False):
    """Append a user's message.

    In this order: the sender's own key known? then the stored answer (before any membership check), or
    ConflictError if `payload_mac` differs; not a member? NotFoundError; silenced, of a role that may not write, or in a
    SINGLE whose other member blocked the sender? ForbiddenError; else the next seq.

    Attributes:
        payload: Canonical JSON.
        payload_mac: Keyed digest of `payload`; the only thing compared for "same payload".
        edit_window_ms: How long after a message was stored an EDIT of it may come; None: for ever.
        blobs: Whether the server keeps uploaded files: one that the payload names must be there, and the sender's to
            send, else NotFoundError; and be what the payload says it is, else BadRequestError.
        is_plain: It is known that the payload names no message and no file, as nearly all do; nobody looks then.
    """

    conversation_id: str
    sender_id: str
    client_msg_id: str
    payload: bytes
    payload_mac: bytes
    at_ms: int
    policy: Policy = DEFAULT_POLICY
    edit_window_ms: int | None = None
    blobs: bool = False
    is_plain: bool = False


class AppendPart(msgspec.Struct, frozen=True, gc=False):
    """Add the next part to an open stream of its author's.

    One that is there already changes nothing but when the author was last heard of, whatever it says now; part 0 always
    is. Refusals: NotFoundError (no such message of the sender's in this conversation, or not a member), ForbiddenError
    (the author may not write there now), StreamEndedError (it is not open), PartOutOfOrderError (a part before it is
    missing), TooLargeError (too much, or too many parts: the rest comes with the end).

    Attributes:
        size: Bytes of `text` as `wire.payload.part_bytes` counts them.
    """

    conversation_id: str
    message_id: str
    sender_id: str
    part: int
    text: str
    size: int
    at_ms: int
    policy: Policy = DEFAULT_POLICY


class EndStream(msgspec.Struct, frozen=True, gc=False):
    """The server ends a stream whose author is silent: the EDIT entry stands under the author's name.

    Nobody's rights are asked. Refusals: NotFoundError (no such id), ConflictError (it is not open, was heard of
    after `idle_ms`, or has other parts than were read).

    Attributes:
        idle_ms: It was last heard of then, or before.
        parts: How many it had when `payload` was made of them. Times alone do not say that none came since: nodes have
            clocks of their own.
        client_msg_id: A key that no user can have used.
        payload: An EDIT with `ends`, canonical.
    """

    conversation_id: str
    message_id: str
    author_id: str
    idle_ms: int
    parts: int
    client_msg_id: str
    payload: bytes
    payload_mac: bytes
    at_ms: int


class HoldBounds(msgspec.Struct, frozen=True, gc=False):
    """How many messages may be held for review: of one user, and in all. Beyond it a hold is refused for now.

    Attributes:
        retry_ms: What the answer to a held message says about coming again.
    """

    per_user: int = 100
    total: int = 10_000
    retry_ms: int = 60_000


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What the moderator said of a message.

    Attributes:
        kind: ALLOW: it may be stored. REFUSE: never under this key. HOLD: somebody is to look at it first. UNASKED:
            nobody said anything, so only an answer that stands already is given.
        reason: Why, for the sender (REFUSE) or for who reviews it (HOLD).
        payload: With ALLOW and HOLD, what takes the place of the sender's payload, canonical; None: nothing does.
        bounds: Of what is held.
        retry_ms: After what time a message that is UNASKED or finds no room may come again.
    """

    kind: Literal["ALLOW", "REFUSE", "HOLD", "UNASKED"]
    reason: str = ""
    payload: bytes | None = None
    bounds: HoldBounds = HoldBounds()
    retry_ms: int = 1_000


class ModeratedAppend(Append, frozen=True, gc=False, kw_only=True):
    """An Append where there is a moderator.

    In this order: the sender's own key known? then the answer that stands (stored, held, refused), whatever the verdict
    is now, or ConflictError if `payload_mac` differs; may the sender not write here? refused as an Append is; else the
    verdict. While a message of the sender is held in the conversation, later ones that may be stored wait behind it.
    The outcome is `Appended`, `Held`, or `Refused` with ContentRefusedError, which the key keeps.

    Further refusals: OverloadedError (a message is to be held and there is no room), UnavailableError (UNASKED).
    """

    verdict: Verdict


class Review(msgspec.Struct, frozen=True, gc=False):
    """Decide about a message that is held for review. What its sender sent after it follows as far as it may.

    It is appended to the log at this point, if its sender may write there now; else it is refused. Audited. Refusals:
    NotFoundError (no such message is held: it was decided already), BadRequestError (it needs no review, but waits).

    Attributes:
        held_id: Which.
        conversation_id: Where it is to go.
        sender_id: Whose it is.
        by: Who decides; None is the host.
        release: Whether it may be stored; else it is refused for good.
        reason: Why it is refused, for its sender.
        payload: What is stored in place of the sender's payload, canonical; None: nothing is.
    """

    held_id: int
    conversation_id: str
    sender_id: str
    by: str | None
    release: bool
    at_ms: int
    reason: str = ""
    payload: bytes | None = None
    policy: Policy = DEFAULT_POLICY


class ReportMessage(msgspec.Struct, frozen=True, gc=False):
    """A user reports a message that they see. Of one user and message there is one report, the first.

    Refusals: NotFoundError (no such id, not a member now, or not visible to them), BadRequestError (no user's message).

    Attributes:
        keep_body: Whether a copy of the payload, if it was not recalled, is kept until the report is resolved.
    """

    message_id: str
    user_id: str
    reason: str
    note: str
    keep_body: bool
    at_ms: int


class ResolveReports(msgspec.Struct, frozen=True, gc=False):
    """Be done with the open reports of a message; the bodies kept with them go. Audited.

    Refusal: NotFoundError (no such id, or it has no open report).
    """

    message_id: str
    by: str | None
    resolution: str
    at_ms: int


class Recall(msgspec.Struct, frozen=True, gc=False):
    """Withdraw a message: its slot becomes the RECALLED tombstone, a RECALL entry is appended, audit is written.

    A second recall of the same message by its author, or by whoever recalled it, gets the first one's entry, for ever,
    also after leaving (found before any membership check: its first answer may have been lost). Refusals: NotFoundError
    (no such id, caller is no member, or the entry is not visible to them), ForbiddenError (neither the author nor of a
    role that recalls the messages of others, or not a user's message), RecallWindowPassedError (the author's own
    message, older than `window_ms`; exactly so old still passes). A stream is as old as its end; an open one may be
    recalled.

    Attributes:
        by: The caller; None is the host. The entry then stands under the author's name or, if they have left, under the
            owner's.
    """

    message_id: str
    by: str | None
    window_ms: int
    at_ms: int
    policy: Policy = DEFAULT_POLICY


class AdvanceDelivered(msgspec.Struct, frozen=True, gc=False):
    """Move one device's delivered cursor to `up_to_seq` (cumulative). Lower or equal changes nothing.

    Refusals: NotFoundError (not a member), BadRequestError (above the head), RateLimitedError (a new device, and none
    may be forgotten for it).
    """

    conversation_id: str
    user_id: str
    device_id: str
    up_to_seq: int
    at_ms: int
    rule: DeviceRule = ANY_DEVICE


class ConfirmMessage(msgspec.Struct, frozen=True, gc=False):
    """One device holds exactly this entry; kept even out of order, and the cursor moves over it once it can.

    Refusals: NotFoundError (no such id, not a member, not visible), BadRequestError (`conversation_id` given
    and it is another one), RateLimitedError (a new device, and none may be forgotten for it).
    """

    message_id: str
    user_id: str
    device_id: str
    at_ms: int
    conversation_id: str | None = None
    rule: DeviceRule = ANY_DEVICE


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
    belongs to another conversation. BadRequestError: a SINGLE without exactly two members, or a new one with a title,
    or more than `members_max` members. ForbiddenError: one of the others blocked the creator, and it is not the host
    who asks; what exists already is answered all the same.

    Attributes:
        by_host: Whether the host creates it, in the creator's name.
        history: What those who join a GROUP later may read of the time before; a SINGLE has nobody who joins.
    """

    conversation_id: str
    type: ConversationType
    creator_id: str
    member_ids: tuple[str, ...]
    title: str
    epoch: str
    members_max: int
    at_ms: int
    by_host: bool = False
    history: History = "FROM_JOIN"


class ImportedEntry(msgspec.Struct, frozen=True, gc=False):
    """An entry of another log, with its own author and time. Nobody's rights are asked.

    Attributes:
        sender_id: Its author, who need not be a member.
        at_ms: When it was written there.
        payload: Canonical JSON, with the ids of this log; of a MEMBER and a RECALL it is made anew.
        client_msg_id: Of all but a MEMBER and a RECALL: what makes a repeat known.
        payload_mac: Of these: as in `Append`.
        op: Of a MEMBER: ADDED, REMOVED or LEFT.
        user_ids: Of a MEMBER: whom it names.
        names_seq: Of an EDIT, REACTION, PINNED or RECALL: the message that it names.
        reaction: Of a REACTION.
        removed: Of a REACTION: whether it takes that one back; of a PINNED: whether it unpins.
        by: Of a RECALL: whom its payload names; empty: its sender.
    """

    kind: Literal["USER", "EDIT", "REACTION", "PINNED", "TITLE", "MEMBER", "RECALL"]
    sender_id: str
    at_ms: int
    payload: bytes = b""
    client_msg_id: str = ""
    payload_mac: bytes = b""
    op: Literal["ADDED", "REMOVED", "LEFT"] = "ADDED"
    user_ids: tuple[str, ...] = ()
    names_seq: int = 0
    reaction: str = ""
    removed: bool = False
    by: str = ""


class ImportEntries(msgspec.Struct, frozen=True, gc=False):
    """Append entries of another log to a conversation, all or none, and wake nobody.

    One whose key is known is left out. Then whoever had everything has everything: cursors of members and
    devices that were at the head move to the new one, so that nothing of it is pushed or missed. Who was behind stays
    so. Audited is only that the conversation was made.

    Refusals: NotFoundError (there is no such conversation, and none is to be made), ConflictError (its head is not
    `after_seq`: somebody else wrote, or made it; or the pair of `new` has another one: ask again with what is there),
    BadRequestError (more than `new.members_max` members in `new`; an entry that names what was no message before, or
    was recalled; an EDIT of somebody else's; too many edits, reactions or pins; a MEMBER or a TITLE in a SINGLE;
    somebody who comes and goes more than `MEMBERSHIPS_MAX` times).

    Attributes:
        after_seq: The head that the conversation must have, 0 where it is to be made; None: whichever it has.
        new: What is made if there is no such conversation; its `at_ms` is the time of its first entry. No blocks are
            asked for.
        unread: Whether the read cursors stay where they are.
        at_ms: Now.
    """

    conversation_id: str
    entries: tuple[ImportedEntry, ...]
    after_seq: int | None
    at_ms: int
    new: CreateConversation | None = None
    unread: bool = False


class AddMembers(msgspec.Struct, frozen=True, gc=False):
    """Add users to a GROUP: one MEMBER ADDED entry naming those who were not members; none if there are none.

    Refusals: NotFoundError (the caller is no member), ForbiddenError (SINGLE; the caller's role does not allow it; one
    of the users is banned, blocked the caller, or left by their own choice where `readd_after_leaving` is not set),
    BadRequestError (more than `members_max` members, or `MEMBERSHIPS_MAX` of one user). Only the first ForbiddenError
    and the BadRequestErrors hold for the host too; a ban of somebody whom the host adds ends.

    Attributes:
        by: The caller; None is the host. The entry then stands under the owner's name, or, where a group has none,
            under that of its new owner, who is the first of those added.
        readd_after_leaving: Whether users may add those who left by their own choice.
        role: What those are who were not members.
    """

    conversation_id: str
    by: str | None
    user_ids: tuple[str, ...]
    members_max: int
    at_ms: int
    readd_after_leaving: bool = True
    role: GrantedRole = "MEMBER"
    policy: Policy = DEFAULT_POLICY


class RemoveMember(msgspec.Struct, frozen=True, gc=False):
    """End a membership: MEMBER REMOVED, or LEFT if it is the caller's own. The entry is not visible to the one
    who goes. If the owner goes, an admin is the owner then, else a member, else a guest: of several the one who has
    been there for longest (of several who came with one entry, the first by id).

    Refusals: NotFoundError (the caller is no member, or `user_id` is none), ForbiddenError (SINGLE, or the
    caller removes another and their role does not allow it).

    Attributes:
        by: The caller; None is the host. The entry then stands under the owner's name; where it is the owner who is
            removed, under that of the next one.
    """

    conversation_id: str
    by: str | None
    user_id: str
    at_ms: int
    policy: Policy = DEFAULT_POLICY


class BanMember(msgspec.Struct, frozen=True, gc=False):
    """Keep a user out of a GROUP: a member is removed as by `RemoveMember`, and nobody but the host adds them again.

    Twice is once; also who is no member can be banned. Refusals: NotFoundError (the caller is no member),
    ForbiddenError (SINGLE, or the caller's role does not allow it), BadRequestError (more than `BANS_MAX`).

    Attributes:
        by: The caller; None is the host.
    """

    conversation_id: str
    by: str | None
    user_id: str
    at_ms: int
    policy: Policy = DEFAULT_POLICY


class UnbanMember(msgspec.Struct, frozen=True, gc=False):
    """End a ban; the user is no member by that. Without a ban there is nothing to do. Refusals as in `BanMember`."""

    conversation_id: str
    by: str | None
    user_id: str
    at_ms: int
    policy: Policy = DEFAULT_POLICY


class SetRole(msgspec.Struct, frozen=True, gc=False):
    """Make a member of a GROUP an ADMIN, a MEMBER or a GUEST. The log gets no entry.

    What is so already changes nothing, whichever member asks. It lasts as long as the membership. Refusals:
    NotFoundError (the caller is no member, or `user_id` is none), ForbiddenError (SINGLE; the owner, who passes the
    group on instead; or the caller's role does not allow it).

    Attributes:
        by: The caller; None is the host.
    """

    conversation_id: str
    by: str | None
    user_id: str
    role: GrantedRole
    at_ms: int
    policy: Policy = DEFAULT_POLICY


class SilenceMember(msgspec.Struct, frozen=True, gc=False):
    """A member of a GROUP may not write until `until_ms`; 0 ends it. The log gets no entry.

    It outlives the membership: who leaves and is added again is silent still. Refusals: NotFoundError (the caller is no
    member, or `user_id` is none), ForbiddenError (SINGLE, or the caller's role does not allow it).

    Attributes:
        by: The caller; None is the host.
    """

    conversation_id: str
    by: str | None
    user_id: str
    until_ms: int
    at_ms: int
    policy: Policy = DEFAULT_POLICY


class TitleEntry(msgspec.Struct, frozen=True, gc=False):
    """The TITLE entry that a change of title or description appends.

    Attributes:
        client_msg_id: A key that nobody has used.
        payload: Canonical JSON, with what is to change.
        payload_mac: As in `Append`.
    """

    client_msg_id: str
    payload: bytes
    payload_mac: bytes


class UpdateConversation(msgspec.Struct, frozen=True, gc=False):
    """Change a GROUP's title, description, owner or history. Of the first two the log gets an entry, if one changes.

    What is so already changes nothing, whichever member asks: a former owner may repeat a transfer whose answer was
    lost. Refusals: NotFoundError (the caller is no member, or `owner_id` is none), ForbiddenError (SINGLE, or the
    caller's role does not allow it).

    Attributes:
        by: The caller; None is the host. The entry then stands under the owner's name.
        titled: The new title and description; None leaves both.
        owner_id: The new owner, a member; None leaves it.
        history: What those may read of the time before who join from now on; None leaves it.
    """

    conversation_id: str
    by: str | None
    titled: TitleEntry | None
    owner_id: str | None
    at_ms: int
    history: History | None = None
    policy: Policy = DEFAULT_POLICY


class BlockUser(msgspec.Struct, frozen=True, gc=False):
    """From now on `blocked_id` neither adds `user_id` to anything nor writes to them in a SINGLE. Twice is once.

    Refusals: BadRequestError (oneself, or more than `BLOCKS_MAX`).
    """

    user_id: str
    blocked_id: str
    at_ms: int


class UnblockUser(msgspec.Struct, frozen=True, gc=False):
    """End a block; without one there is nothing to do."""

    user_id: str
    blocked_id: str


class OpenSession(msgspec.Struct, frozen=True, gc=False):
    """Register a device, spend and issue resume tokens, and read the user's conversations, at one point.

    A device seen for the first time starts its delivered cursors at the greatest of the user's other devices; no row
    is written for that, however many conversations there are. Each opening counts as seeing the device; of more than
    `rule` allows the longest unseen ones are forgotten.

    Refusals: TokenRevokedError (the token, or a user or device with a later revocation than `issued_ms`), BannedError,
    UnavailableError (revoked since the host was asked: ask again), RateLimitedError (no device may be forgotten).

    Attributes:
        identity_expires_ms: End of the login, kept with the new resume token.
        scope: Scope of the login, kept with the new resume token.
        resume_hash: Digest of the new resume token; it replaces the device's former one.
        resume_expires_ms: After this the new resume token is refused.
        token_hash: Digest of the login's token, kept with the new resume token.
        issued_ms: When that token was issued, if it says so.
        asked_at: Position of the newest revocation that was known before the host was asked who this is; None: no
            matter. It decides where `issued_ms` is not known.
    """

    user_id: str
    device_id: str
    resume_hash: bytes
    resume_expires_ms: int
    identity_expires_ms: int | None
    scope: str
    at_ms: int
    token_hash: bytes = b""
    issued_ms: int | None = None
    asked_at: int | None = None
    rule: DeviceRule = ANY_DEVICE


class ResumeSession(msgspec.Struct, frozen=True, gc=False):
    """As OpenSession, for a resume token: single use, bound to `device_id`, not after its end.

    The user is the token's. Refusals: TokenRevokedError (unknown, used, foreign, too old), TokenExpiredError (the
    login that the token was given for has ended, or was proved too long ago). Nothing is changed by a refusal: the
    token is not spent. What a revocation reaches is gone from the store.

    Attributes:
        leeway_ms: How long after its end a login is still taken.
        login_max_ms: How long ago the host may have been asked; None: no matter.
        renewed: What the host said when it was asked just now; None: it was not asked.
    """

    used_hash: bytes
    device_id: str
    resume_hash: bytes
    resume_expires_ms: int
    leeway_ms: int
    at_ms: int
    login_max_ms: int | None = None
    renewed: LoginTerms | None = None
    rule: DeviceRule = ANY_DEVICE


class RenewLogin(msgspec.Struct, frozen=True, gc=False):
    """A device proved its login anew: its resume token, if it has one, is of that login from now on.

    Counts as seeing the device. A device that is not known stays unknown. Refusals as in OpenSession.

    Attributes:
        identity_expires_ms: End of the login.
        scope: Scope of the login.
        token_hash: As in OpenSession; so are `issued_ms` and `asked_at`.
    """

    user_id: str
    device_id: str
    identity_expires_ms: int | None
    scope: str
    at_ms: int
    token_hash: bytes = b""
    issued_ms: int | None = None
    asked_at: int | None = None


class SeeDevices(msgspec.Struct, frozen=True, gc=False):
    """These (user, device) are online. One that is not known stays unknown."""

    devices: tuple[tuple[str, str], ...]
    at_ms: int


class Revoke(msgspec.Struct, frozen=True, gc=False):
    """End the logins of a user, of one device, or by one token; or ban a user, or lift that. Audited.

    The resume tokens of who it reaches are gone, but for DISCONNECTED. A newer one of the same kind takes its place.

    Attributes:
        kind: What holds from now on.
        user_id: The user; empty for a token.
        device_id: The device; empty for all of them.
        token_hash: Digest of the token; empty for a user or device.
        ends_ms: When it need not be known any more; None: never; 0: it is lifted.
    """

    kind: RevocationKind
    user_id: str
    device_id: str
    token_hash: bytes
    ends_ms: int | None
    at_ms: int


class RenewEpoch(msgspec.Struct, frozen=True, gc=False):
    """Give a conversation's log a new identity, after a restore. Clients drop their cursors and sync afresh.

    Refusal: NotFoundError.
    """

    conversation_id: str
    epoch: str
    at_ms: int


class SetRetention(msgspec.Struct, frozen=True, gc=False):
    """Say how long entries of a conversation are kept. What is older then is deleted by `Expire`, by and by.

    Refusal: NotFoundError.

    Attributes:
        keep_ms: 0 is for ever; None leaves it to the server.
        by: Who asked the host for it, for the audit; None: the host itself.
    """

    conversation_id: str
    keep_ms: int | None
    by: str | None
    at_ms: int


class Expire(msgspec.Struct, frozen=True, gc=False):
    """Entries up to a seq are deleted for good: nobody can read them any more. Their numbers, keys and ids stay.

    The newest entry stays in any case; what was deleted before is no more work. Refusal: NotFoundError.

    Attributes:
        by: As in `SetRetention`.
    """

    conversation_id: str
    up_to_seq: int
    by: str | None
    at_ms: int


class EndLogins(msgspec.Struct, frozen=True, gc=False):
    """Every resume token ends: of a log that was put back, some that were used up would hold again."""

    at_ms: int


class RecordAct(msgspec.Struct, frozen=True, gc=False):
    """Write down an act in the audit that changes nothing else: what an administrator read, say.

    Attributes:
        by: Who did it; None is the host.
        subject: Whom or what it concerns.
        detail: What else there is to know; never words of a message or a token. BadRequestError beyond 4,096 bytes.
    """

    action: Literal["READ", "EXPORTED", "IMPORTED"]
    by: str | None
    subject: str
    detail: dict[str, str]
    at_ms: int


class BeginErasure(msgspec.Struct, frozen=True, gc=False):
    """Keep that a user is being erased, until `EndErasure`. One that is under way goes on; bodies go if either says so.

    Attributes:
        erases_bodies: Whether the messages that the user wrote become tombstones.
        by: Who asked for it; None is the host.
    """

    user_id: str
    erases_bodies: bool
    by: str | None
    at_ms: int


class ForgetDevices(msgspec.Struct, frozen=True, gc=False):
    """Drop all devices of a user: cursors, resume tokens, push tokens."""

    user_id: str


class EndErasure(msgspec.Struct, frozen=True, gc=False):
    """The user is erased. If bodies are to go meanwhile and did not, it is not at its end: it is kept, and goes on.

    Attributes:
        erases_bodies: Whether bodies went.
        by: Who asked for it; None is the host.
        conversations: In how many the user was.
        messages: How many bodies went.
    """

    user_id: str
    erases_bodies: bool
    by: str | None
    conversations: int
    messages: int
    at_ms: int


class Mute(msgspec.Struct, frozen=True, gc=False):
    """A member is not woken for a conversation until `until_ms`; 0 ends it. Nobody else is told.

    Refusal: NotFoundError (not a member).

    Attributes:
        but_mentions: Whether what mentions them wakes them all the same.
    """

    conversation_id: str
    user_id: str
    until_ms: int
    but_mentions: bool = False


class RegisterPush(msgspec.Struct, frozen=True, gc=False):
    """A device is reached by this token of this push provider; its former one is forgotten.

    A token belongs to one device: whoever had it before has none any more (another user logged in on the same phone).
    The token goes with the device, and when the device or its user is revoked or banned. A device that comes by HTTP
    may be seen here for the first time.

    Refusals as in OpenSession: what is revoked or banned while this waits registers nothing; and RateLimitedError (a
    new device, and none may be forgotten for it).

    Attributes:
        provider: The host's name for the service, such as "apns".
        hide_body: Whether pushes to it never hold a message's words.
        token_hash: As in OpenSession, of the login that registers; so are `issued_ms` and `asked_at`. With that token
            the registration goes, too.
    """

    user_id: str
    device_id: str
    provider: str
    token: str
    hide_body: bool
    at_ms: int
    token_hash: bytes = b""
    issued_ms: int | None = None
    asked_at: int | None = None
    rule: DeviceRule = ANY_DEVICE


class UnregisterPush(msgspec.Struct, frozen=True, gc=False):
    """A device is pushed to no more; without a token there is nothing to do.

    Attributes:
        token: Only if this is the device's token still; None: whichever it is.
        before_ms: Only if it was registered no later than this; None: no matter.
    """

    user_id: str
    device_id: str
    token: str | None = None
    before_ms: int | None = None


class ReserveBlob(msgspec.Struct, frozen=True, gc=False):
    """Make room for a file, or find the one that the uploader's key made. The outcome is `BlobReserved`.

    Refusals: ConflictError (the key made one of another size or type), QuotaError (there is no room).

    Attributes:
        blob_id: The id of a new one.
        mime: Its type, in lower case, without parameters.
        quota_bytes: What the user may have in all.
        keep_ms: How long it is kept while no message names it.
    """

    blob_id: str
    owner_id: str
    upload_key: str
    size: int
    mime: str
    at_ms: int
    quota_bytes: int
    keep_ms: int


class FinishBlob(msgspec.Struct, frozen=True, gc=False):
    """All of a file was received. The outcome is `BlobReserved`, with the parts of who came first.

    Refusals: NotFoundError (it was removed meanwhile).

    Attributes:
        parts: The SHA-256 of each part, in order.
    """

    blob_id: str
    parts: bytes


class CollectBlobs(msgspec.Struct, frozen=True, gc=False):
    """Begin to remove the files among these that nothing names. The outcome is `BlobsCollected`.

    Attributes:
        due: What is due, as `BlobReader.due_blobs` said.
        held_ms: After what time one that is only named by a message held for review is looked at again.
        grace_ms: How long an upload that was under way may still write.
    """

    due: tuple[DueBlob, ...]
    at_ms: int
    held_ms: int
    grace_ms: int


class ForgetBlobs(msgspec.Struct, frozen=True, gc=False):
    """The bytes of these files are removed for good: their rows go, and their room in the quota is free.

    Attributes:
        stuck: Files whose bytes could not be removed: each is looked at again after its `keep_ms`.
        at_ms: Since when these are.
    """

    gone: tuple[DueBlob, ...]
    stuck: tuple[DueBlob, ...] = ()
    at_ms: int = 0


Command = (
    Append
    | AppendPart
    | EndStream
    | ModeratedAppend
    | Review
    | ReportMessage
    | ResolveReports
    | Recall
    | AdvanceDelivered
    | ConfirmMessage
    | AdvanceRead
    | CreateConversation
    | ImportEntries
    | AddMembers
    | RemoveMember
    | BanMember
    | UnbanMember
    | SetRole
    | SilenceMember
    | UpdateConversation
    | BlockUser
    | UnblockUser
    | OpenSession
    | ResumeSession
    | RenewLogin
    | SeeDevices
    | Revoke
    | RenewEpoch
    | SetRetention
    | Expire
    | EndLogins
    | RecordAct
    | BeginErasure
    | ForgetDevices
    | EndErasure
    | Mute
    | RegisterPush
    | UnregisterPush
    | ReserveBlob
    | FinishBlob
    | CollectBlobs
    | ForgetBlobs
)
