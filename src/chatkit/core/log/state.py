"""What a batch sees of the log: the rows that were loaded, changed in memory by one command after the other.

Asking for what no key named is a programming error and raises `KeyError` or `AttributeError`; what was named and does
not exist is None, or empty. A store fills a `State` in its `load`; the flows read and change it; `changes` turns what
changed into rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec

from ...types import ConversationType, GrantedRole, History, Role
from ..policy import RANKS
from ..visibility import Interval
from .blob_rows import BlobChanges
from .commands import RevocationKind
from .keys import Keys, Ref, Subject
from .outcomes import MembershipSnapshot, Revocation
from .rules import Kind, intervals_of_pair, not_found


class MessageRow(NamedTuple):
    """One entry of a log, in the order of the table's columns; without key and digest if the server made it."""

    conversation_key: int
    seq: int
    epoch: str
    kind: Kind
    sender_id: str
    client_msg_id: str | None
    server_ts: int
    payload_mac: bytes | None
    payload: bytes


class MayBeRepeatError(Exception):
    """A message that was taken to be new may be a repeat: the batch is to be decided anew, with its keys looked up."""


class TokenRow(NamedTuple):
    """A resume token and the login that it was given for, in the order of the table's columns.

    Attributes:
        login_hash: Digest of the token that the login came by.
        login_ms: When the host last said who this is.
    """

    user_id: str
    device_id: str
    token_hash: bytes
    expires_ms: int
    identity_expires_ms: int | None
    scope: str
    login_hash: bytes
    login_ms: int


class PushTokenRow(NamedTuple):
    """Where a device is reached when it sleeps, in the order of the table's columns.

    Attributes:
        token_hash: `pushing.push_token_hash` of the two before it.
        login_hash: Digest of the token that the login came by.
    """

    user_id: str
    device_id: str
    provider: str
    token: str
    token_hash: bytes
    hide_body: bool
    at_ms: int
    login_hash: bytes


class ModeratedRow(NamedTuple):
    """A message that the log has not: held, or refused. In the order of the table's columns.

    Attributes:
        held_id: Rises with each message of a sender in a conversation.
        state: REVIEW: somebody is to decide. READY: it may be stored, and waits for one before it. REFUSED: never.
        reason: Why it is held, or was refused.
        payload_mac: Of what the sender sent.
        payload: Empty once refused, and where it was not named.
    """

    held_id: int
    conversation_key: int
    sender_id: str
    client_msg_id: str
    state: Literal["REVIEW", "READY", "REFUSED"]
    at_ms: int
    reason: str
    payload_mac: bytes
    payload: bytes


class StreamRow(NamedTuple):
    """An open stream, in the order of the table's columns.

    Attributes:
        user_id: Its author.
        parts: How many there are after its first text.
        size: Bytes of all of its text.
        at_ms: When its author was last heard of.
    """

    conversation_key: int
    seq: int
    user_id: str
    parts: int
    size: int
    at_ms: int


ModeratedPlace = tuple[int, str, str]
"""(conversation key, sender, clientMsgId)."""

ReportRow = tuple[int, int, str, str, str, int, bytes | None]
"""(conversation key, seq, reporter, reason, note, at_ms, the body that is kept or None)."""

ResolvedRow = tuple[str, str, int, int, int]
"""(who resolved or "", resolution, at_ms, conversation key, seq)."""


DroppedPush = tuple[str, str, str | None, int | None]
"""Push tokens that go: (user, device or "" for all of them, the token or None, registered until or None)."""


class ConversationState(msgspec.Struct, eq=False, gc=False):
    """A conversation.

    Attributes:
        owner_id: Who may change a GROUP; one of its members while it has any.
        blocks: Of a SINGLE: which of its members blocked the other one (`rules.block_bit`).
        outbox_seq: First seq in the outbox; None if nothing is there.
        stored_outbox_seq: What `outbox_seq` was when it was loaded.
        created_ms: When it was made, if this batch makes it.
        grown_ms: When the first of its new entries was stored; None if it has none.
        history: What who joins may read of the time before.
        floor_seq: Entries up to here have expired.
        outbox_sleeps: Whether no worker may be about to look at a row in the outbox, so that it is to be woken.
        changed: Whether its epoch, members, title, owner, history or blocks changed.
        may_close: Whether a device's cursor moved, or a lagging one left, or nobody is there: the outbox may close.
    """

    key: int
    conversation_id: str
    type: ConversationType
    title: str
    epoch: str
    head_seq: int
    owner_id: str
    pair: str | None
    member_count: int
    last_activity_ms: int
    blocks: int
    outbox_seq: int | None
    stored_outbox_seq: int | None
    history: History = "FROM_JOIN"
    floor_seq: int = 0
    outbox_sleeps: bool = True
    created_ms: int | None = None
    grown_ms: int | None = None
    changed: bool = False
    may_close: bool = False

    def snapshot(self) -> MembershipSnapshot:
        """What a session starts with."""
        return MembershipSnapshot(
            self.conversation_id, self.type, self.epoch, self.head_seq, self.member_count
        )


class MemberCursors(msgspec.Struct, eq=False, gc=False):
    """A user's cursors in one conversation.

    Attributes:
        device_seq: The farthest that one of the user's devices ever got; every device without a row is here.
        has_left: Whether the user's last membership ended by their own choice.
    """

    delivered_seq: int
    read_seq: int
    read_ms: int
    device_seq: int
    has_left: bool = False
    changed: bool = False


class DeviceCursor(msgspec.Struct, eq=False, gc=False):
    """A device's cursor in one conversation.

    Attributes:
        exact: Single confirmations above it, ascending.
        added: Single confirmations of this batch.
        passed: Whether the cursor moved over single confirmations in this batch.
    """

    delivered_seq: int
    updated_ms: int
    exact: Sequence[int] = ()
    new: bool = False
    changed: bool = False
    passed: bool = False
    added: Sequence[int] = ()


class MembershipState(msgspec.Struct, eq=False, gc=False):
    """One user in one conversation.

    Attributes:
        intervals: The memberships, ascending; none for who never was a member.
        stored: What `intervals` was when it was loaded; None while this batch has not changed it.
        granted: The role that the user was given; `role` is what they are.
        silenced_until_ms: Until when the user may not write; 0: they may.
        standing_changed: Whether one of these two changed.
        former_standings: What the two were when a membership that was followed by another one in this batch was the
            last, by where it began.
        cursors: The user's; None for who never was a member, or where they were not named.
        loaded_devices: Cursors by device, of those that have a row; None where they were not named.
    """

    conversation: ConversationState
    user_id: str
    intervals: list[Interval] = []
    stored: tuple[Interval, ...] | None = None
    granted: GrantedRole = "MEMBER"
    silenced_until_ms: int = 0
    standing_changed: bool = False
    former_standings: dict[int, tuple[GrantedRole, int]] = {}
    cursors: MemberCursors | None = None
    loaded_devices: dict[str, DeviceCursor] | None = None

    @property
    def is_current(self) -> bool:
        """Whether the user is a member now."""
        intervals = self.intervals
        return bool(intervals) and intervals[-1].leave_seq is None

    @property
    def devices(self) -> dict[str, DeviceCursor]:
        """Cursors by device."""
        if self.loaded_devices is None:
            raise KeyError((self.conversation.conversation_id, self.user_id))
        return self.loaded_devices

    @property
    def role(self) -> Role:
        """What a current member is."""
        conversation = self.conversation
        return (
            "OWNER" if conversation.pair is None and self.user_id == conversation.owner_id else self.granted
        )

    def load(self, interval: Interval, granted: GrantedRole, silenced_until_ms: int) -> None:
        """Take a stored membership, in any order; role and silence are those of the last one."""
        intervals = self.intervals
        if not intervals or interval.join_seq > intervals[-1].join_seq:
            self.granted, self.silenced_until_ms = granted, silenced_until_ms
            intervals.append(interval)
        else:
            intervals.append(interval)
            intervals.sort(key=lambda it: it.join_seq)

    def begin(self, seq: int, granted: GrantedRole) -> None:
        """Become a member at `seq`. Where history is open, what was written since the last membership can be read."""
        self.stored = tuple(self.intervals) if self.stored is None else self.stored
        if self.intervals:
            self.former_standings[self.intervals[-1].join_seq] = self.granted, self.silenced_until_ms
        first_seq = seq
        if self.conversation.history == "FROM_START":
            first_seq = (self.intervals[-1].leave_seq or seq) if self.intervals else 1
        self.intervals.append(Interval(seq, None, first_seq if first_seq < seq else None))
        self.granted = granted

    def standing_in(self, interval: Interval) -> tuple[GrantedRole, int]:
        """Role and silence, as they belong to one of the memberships that are written."""
        return self.former_standings.get(interval.join_seq, (self.granted, self.silenced_until_ms))

    def end(self, seq: int) -> None:
        """Be a member no more, from `seq` on."""
        self.stored = tuple(self.intervals) if self.stored is None else self.stored
        last = self.intervals[-1]
        self.intervals[-1] = Interval(last.join_seq, seq, last.first_seq)


class DeviceState(msgspec.Struct, eq=False, gc=False):
    """A device of a user, wherever that user is a member."""

    first_seen_ms: int
    last_seen_ms: int
    changed: bool = False


BegunErasure = tuple[str, bool, str, int]
"""(user, whether bodies go, by whom or "" for the host, when it began)."""

Place = tuple[int, int]
"""An entry: the internal number of its conversation, and its seq."""

DevicePlace = tuple[str, str]
"""(user, device)."""


class Act(NamedTuple):
    """A privileged act; see `audit.note`, which makes it.

    Attributes:
        conversation_key: 0 for what concerns no conversation.
        detail: A JSON object of texts.
    """

    at_ms: int
    conversation_key: int
    actor_id: str
    action: str
    seq: int
    subject: str
    detail: str


class State:
    """The rows of one batch.

    Attributes:
        assumes_new: Whether a message that `sent` does not name is taken to be new; the store's unique key has the
            last word.
        conversations: By id, and by internal number.
        pairs: SINGLEs by the name of their pair.
        new_keys: Unused internal numbers.
        memberships: By user and conversation key.
        member_ids: The first current members of a conversation, by its key.
        elders: Current members of the best ranks and longest standing, by a conversation's key: the rank of each, and
            where they joined.
        blocks: Whether a user blocked another one, by (user, other).
        block_counts: How many others a user blocked.
        bans: Whether a user is banned, by (conversation id, user).
        ban_counts: How many are banned, by conversation id.
        sent: Messages by (conversation id, sender, clientMsgId).
        places: Entries by place.
        recalled: The seq that recalled an entry, by the entry's place; loaded with `sent` and `places`.
        edits: The seqs of the edits of an entry, by its place, those of this batch too.
        own_reactions: What a user reacts with to an entry, by its place and the user.
        reaction_counts: How many reactions an entry has.
        mentioned: Whom an entry and its edits mention, by its place, those of this batch too.
        pins: What is pinned: the seq of each PINNED entry by that of the message, by conversation key.
        descriptions: What groups are for, by conversation key, where it was named and is not empty.
        new_mentions: (conversation key, user, seq of the entry that mentions them) of this batch.
        changed_pins: The seq of the PINNED entry, or None for what is not pinned any more, by place; of this batch.
        changed_descriptions: Those of this batch.
        new_edits: (conversation key, edited seq, seq of the EDIT entry) of this batch.
        changed_reactions: The seq of the REACTION entry, or None for one that is taken back, by (conversation key, seq,
            user, reaction); of this batch.
        streams: Open streams by place; loaded with `edits`.
        stream_texts: The text of an open stream before this batch, by place, where it was named.
        stream_counts: How many streams a user has open.
        changed_streams: Those that this batch began or continued.
        new_parts: (conversation key, seq, part, text) of this batch; part 0 is the first text.
        ended_streams: Places of those that this batch ended.
        senders: Who wrote an entry, by conversation key and seq.
        devices: By user and device.
        listed: A user's current conversations by key, as they were loaded.
        tokens: Resume tokens by (user, device).
        token_places: (user, device) by the digest of a resume token.
        new_messages: Entries of this batch, in order; in `places` are those of them that were named, and recalls.
        recalls: (conversation key, recalled seq, seq of the RECALL entry) of this batch.
        audit: Privileged acts of this batch.
        new_tokens: Resume tokens that this batch hands out or changes.
        logins_ended: Whether this batch ends all resume tokens but those in `new_tokens`.
        changed_blocks: Since when, or None for no more, by (user, other); of this batch.
        changed_bans: By whom and since when, or None for no more, by (conversation key, user); of this batch.
        dropped_tokens: (user, device) whose resume token this batch withdraws; it may hand out another one.
        revocations: By whom they reach, and kind.
        new_revocations: Those of this batch.
        new_positions: Unused positions of revocations.
        forgotten: Devices that this batch drops; one of them may be registered again.
        begun_erasures: Erasures that begin in this batch, or are asked for again.
        ended_erasures: Those that end, and whether bodies went.
        removals: How many members this batch removes at most.
        mutes: Until when a member is not woken, and whether a mention wakes them all the same, by conversation key and
            user; of this batch, which ends those of who goes.
        push_tokens: Push tokens of this batch.
        taken_push: Digests of push tokens that this batch gives to a device; whoever had them has them no more.
        dropped_push_logins: Digests of logins whose push tokens this batch forgets.
        dropped_push: Push tokens that this batch forgets; it may give others to the same devices afterwards.
        moderated: Held and refused messages by (conversation id, sender, clientMsgId), those of this batch too.
        held: Held messages by sender, then by number, those of this batch too; with payloads where these were named.
        held_total: How many messages are held in all.
        new_held_ids: Unused numbers of held messages.
        stopped: (conversation key, sender) of whom a message was refused for now after the moderator saw it, or could
            not: nothing that was sent there later in this batch goes before it.
        changed_moderated: Rows of this batch, by place; None for one that is gone.
        open_reports: How many open reports an entry has.
        reports: Of this batch.
        resolved_reports: Of this batch.
    """

    def __init__(self) -> None:
        self.assumes_new = False
        self.conversations: dict[str | int, ConversationState | None] = {}
        self.pairs: dict[str, ConversationState | None] = {}
        self.new_keys: list[int] = []
        self.memberships: dict[str, dict[int, MembershipState]] = {}
        self.member_ids: dict[int, set[str]] = {}
        self.elders: dict[int, dict[str, tuple[int, int]]] = {}
        self.blocks: dict[tuple[str, str], bool] = {}
        self.block_counts: dict[str, int] = {}
        self.bans: dict[tuple[str, str], bool] = {}
        self.ban_counts: dict[str, int] = {}
        self.sent: dict[tuple[str, str, str], MessageRow | None] = {}
        self.places: dict[Place, MessageRow | None] = {}
        self.recalled: dict[Place, int] = {}
        self.edits: dict[Place, list[int]] = {}
        self.own_reactions: dict[tuple[int, int, str], set[str]] = {}
        self.reaction_counts: dict[Place, int] = {}
        self.mentioned: dict[Place, set[str]] = {}
        self.pins: dict[int, dict[int, int]] = {}
        self.descriptions: dict[int, str] = {}
        self.new_mentions: list[tuple[int, str, int]] = []
        self.changed_pins: dict[Place, int | None] = {}
        self.changed_descriptions: dict[int, str] = {}
        self.new_edits: list[tuple[int, int, int]] = []
        self.changed_reactions: dict[tuple[int, int, str, str], int | None] = {}
        self.streams: dict[Place, StreamRow | None] = {}
        self.stream_texts: dict[Place, str] = {}
        self.stream_counts: dict[str, int] = {}
        self.changed_streams: dict[Place, StreamRow] = {}
        self.new_parts: list[tuple[int, int, int, str]] = []
        self.ended_streams: list[Place] = []
        self.senders: dict[int, dict[int, str | None]] = {}
        self.devices: dict[str, dict[str, DeviceState]] = {}
        self.listed: dict[str, dict[int, MembershipSnapshot]] = {}
        self.tokens: dict[DevicePlace, TokenRow | None] = {}
        self.token_places: dict[bytes, DevicePlace | None] = {}
        self.new_messages: list[MessageRow] = []
        self.recalls: list[tuple[int, int, int]] = []
        self.audit: list[Act] = []
        self.new_tokens: dict[DevicePlace, TokenRow] = {}
        self.logins_ended = False
        self.changed_blocks: dict[tuple[str, str], int | None] = {}
        self.changed_bans: dict[tuple[int, str], tuple[str, int] | None] = {}
        self.dropped_tokens: set[DevicePlace] = set()
        self.revocations: dict[Subject, dict[RevocationKind, Revocation]] = {}
        self.new_revocations: dict[tuple[Subject, RevocationKind], Revocation] = {}
        self.new_positions: list[int] = []
        self.forgotten: set[DevicePlace] = set()
        self.begun_erasures: list[BegunErasure] = []
        self.ended_erasures: list[tuple[str, bool]] = []
        self.retentions: dict[int, int | None] = {}
        self.floors: dict[int, int] = {}
        self.removals = 0
        self.mutes: dict[tuple[int, str], tuple[int, bool]] = {}
        self.push_tokens: dict[DevicePlace, PushTokenRow] = {}
        self.taken_push: set[bytes] = set()
        self.dropped_push: list[DroppedPush] = []
        self.dropped_push_logins: list[bytes] = []
        self.moderated: dict[tuple[str, str, str], ModeratedRow] = {}
        self.held: dict[str, dict[int, ModeratedRow]] = {}
        self.held_total = 0
        self.new_held_ids: list[int] = []
        self.stopped: set[tuple[int, str]] = set()
        self.changed_moderated: dict[ModeratedPlace, ModeratedRow | None] = {}
        self.open_reports: dict[Place, int] = {}
        self.reports: dict[tuple[int, int, str], ReportRow] = {}
        self.resolved_reports: list[ResolvedRow] = []
        self._blobs: BlobChanges | None = None

    @property
    def blobs(self) -> BlobChanges:
        """Uploaded files, as they were loaded and changed."""
        if self._blobs is None:
            self._blobs = BlobChanges()
        return self._blobs

    @property
    def changed_blobs(self) -> BlobChanges | None:
        """The same, if anything of them is to be written."""
        return self._blobs if self._blobs is not None and self._blobs.any_changed else None

    # --- for stores, while they load ---

    def expect(self, keys: Keys) -> None:
        """Note everything that is named as not there, before what is there is loaded.

        Conversations, memberships and users' devices may be there already, and are not to be loaded again.
        """
        self.assumes_new = self.assumes_new or keys.assumes_new
        for conversation_id in keys.conversations:
            self.conversations.setdefault(conversation_id)
        self.sent.update(dict.fromkeys(keys.sent))
        if keys.names_rare:
            self._expect_rare(keys)
        if keys.names_references:
            self.edits.update((place, []) for place in keys.edited)
            self.mentioned.update((place, set()) for place in keys.mentioned)
            self.pins.update((key, {}) for key in keys.pins)
            self.streams.update(dict.fromkeys(keys.edited))
            self.stream_texts.update(dict.fromkeys(keys.stream_texts, ""))
            self.stream_counts.update(dict.fromkeys(keys.streamers, 0))
            self.own_reactions.update((place, set()) for place in keys.reactions)
            self.reaction_counts.update((place[:2], 0) for place in keys.reactions)

    def _expect_rare(self, keys: Keys) -> None:
        self.conversations.update(dict.fromkeys(keys.conversation_keys))
        self.pairs.update(dict.fromkeys(keys.pairs))
        self.places.update(dict.fromkeys(keys.places))
        self.tokens.update(dict.fromkeys(keys.tokens))
        self.token_places.update(dict.fromkeys(keys.token_hashes))
        self.revocations.update((subject, {}) for subject in keys.revocations)
        for user_id in keys.devices:
            self.devices.setdefault(user_id, {})
        self.listed.update((user_id, {}) for user_id in keys.listed)
        self.blocks.update(dict.fromkeys(keys.blocks, False))
        self.block_counts.update(dict.fromkeys(keys.block_counts, 0))
        self.bans.update(dict.fromkeys(keys.bans, False))
        self.ban_counts.update(dict.fromkeys(keys.ban_counts, 0))
        for key, first, last in keys.merged_senders():
            self.senders.setdefault(key, {}).update(dict.fromkeys(range(first, last + 1)))
        self.removals += keys.removals

    def add_conversation(self, conversation: ConversationState) -> None:
        """Keep a conversation under each of its names."""
        self.conversations[conversation.key] = self.conversations[conversation.conversation_id] = conversation
        if conversation.pair is not None:
            self.pairs[conversation.pair] = conversation

    def expect_members(self, keys: Keys) -> tuple[list[MembershipState], list[MembershipState]]:
        """Make room for the memberships that are named, once the conversations are loaded.

        Returns:
            Those that must be loaded: with cursors, and without. None of conversations that do not exist; and without
            cursors none of a SINGLE, whose members are in its pair.
        """
        with_cursors = self._expect(keys.cursors, cursors=True) if keys.cursors else []
        return with_cursors, self._expect(keys.members, cursors=False) if keys.members else []

    def _expect(self, names: set[tuple[Ref, str]], *, cursors: bool) -> list[MembershipState]:
        """A conversation may be named twice, by its id and by its number."""
        made = []
        for ref, user_id in names:
            conversation = self.conversations[ref]
            if conversation is None:
                continue
            of_user = self.memberships.setdefault(user_id, {})
            known = of_user.get(conversation.key)
            if known is not None and (not cursors or known.loaded_devices is not None):
                continue
            membership = of_user[conversation.key] = MembershipState(conversation, user_id)
            if cursors:
                membership.loaded_devices = {}
            elif conversation.pair is not None:
                membership.intervals = intervals_of_pair(conversation.pair, user_id)
                continue
            made.append(membership)
        return made

    def described(self, keys: Keys) -> list[int]:
        """The keys of the conversations of which the description is named."""
        return self._keys_of(keys.descriptions)

    def expect_lists(self, keys: Keys) -> list[int]:
        """Make room for the member lists that are named; the keys of those conversations."""
        wanted = self._keys_of(keys.member_lists)
        self.member_ids.update((key, set()) for key in wanted)
        return wanted

    def expect_elders(self, keys: Keys) -> list[int]:
        """Make room for the elders that are named; the keys of those conversations."""
        wanted = self._keys_of(keys.elders)
        self.elders.update((key, {}) for key in wanted)
        return wanted

    def _keys_of(self, conversation_ids: Iterable[str]) -> list[int]:
        found = (self.conversations[conversation_id] for conversation_id in conversation_ids)
        return [conversation.key for conversation in found if conversation is not None]

    # --- for the flows ---

    def find(self, conversation_id: str) -> ConversationState:
        """A conversation by its id. Raises NotFoundError if there is none."""
        found = self.conversations[conversation_id]
        if found is None:
            raise not_found()
        return found

    def membership(self, conversation: ConversationState, user_id: str) -> MembershipState:
        """A user in a conversation, whether a member or not. Of a conversation that this batch made, all is known."""
        of_user = self.memberships.get(user_id)
        if of_user is not None and conversation.key in of_user:
            return of_user[conversation.key]
        if conversation.created_ms is None:
            raise KeyError((conversation.conversation_id, user_id))
        found = MembershipState(conversation, user_id, loaded_devices={})
        self.memberships.setdefault(user_id, {})[conversation.key] = found
        return found

    def knows_member(self, ref: Ref, user_id: str) -> bool:
        """Whether a user in a conversation was loaded already, or need not be."""
        conversation = self.conversations.get(ref)
        return conversation is None or conversation.key in self.memberships.get(user_id, ())

    def knows_cursors(self, ref: Ref, user_id: str) -> bool:
        """Whether a user's cursors in a conversation were loaded already, or need not be."""
        conversation = self.conversations.get(ref)
        if conversation is None:
            return True
        membership = self.memberships.get(user_id, {}).get(conversation.key)
        return membership is not None and membership.loaded_devices is not None

    def joined(self, conversation_id: str, user_id: str) -> MembershipState:
        """A current member in a conversation.

        Raises:
            NotFoundError: There is no such conversation, or the user is no member now.
        """
        found = self.membership(self.find(conversation_id), user_id)
        if not found.is_current:
            raise not_found()
        return found

    def is_banned(self, conversation: ConversationState, user_id: str) -> bool:
        """Whether a user is banned from a conversation; from one that this batch made nobody is."""
        place = (conversation.conversation_id, user_id)
        return self.bans.get(place, False) if conversation.created_ms is not None else self.bans[place]

    def set_ban(self, conversation: ConversationState, user_id: str, by_id: str, at_ms: int) -> None:
        """Ban a user who is not banned; by the host if `by_id` is empty."""
        self.bans[conversation.conversation_id, user_id] = True
        self.changed_bans[conversation.key, user_id] = (by_id, at_ms)
        self.ban_counts[conversation.conversation_id] += 1

    def end_ban(self, conversation: ConversationState, user_id: str) -> None:
        """End a ban that there is."""
        self.bans[conversation.conversation_id, user_id] = False
        self.changed_bans[conversation.key, user_id] = None
        if conversation.conversation_id in self.ban_counts:
            self.ban_counts[conversation.conversation_id] -= 1

    def note_elder(self, membership: MembershipState) -> None:
        """Keep a current member among those of whom one may follow an owner, if they are needed."""
        elders = self.elders.get(membership.conversation.key)
        if elders is not None:
            rank = RANKS[membership.granted]
            elders[membership.user_id] = (rank, membership.intervals[-1].join_seq)

    def with_cursors(self, user_id: str) -> list[MembershipState]:
        """The loaded memberships of a user whose cursors are known here."""
        return [it for it in self.memberships.get(user_id, {}).values() if it.loaded_devices is not None]
