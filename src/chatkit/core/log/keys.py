"""What must be loaded before a batch can be decided: names of rows, gathered from commands, without order."""

from __future__ import annotations

from .blob_rows import BlobKeys
from .rules import MEMBERS_SHOWN_MAX

Subject = tuple[str, str, bytes]
"""Whom a revocation reaches: (user, device or empty, b""), or ("", "", digest of a token)."""

Ref = str | int
"""A conversation: by its id, or by the internal number that a message id holds."""


class Keys:
    """Names of rows; what does not exist may be named too.

    Args:
        assume_new: As the attribute `assumes_new`.

    Attributes:
        assumes_new: Whether messages are taken to be new: what their clientMsgIds made before is not named.
        conversations: By id.
        conversation_keys: By internal number.
        pairs: By the unique name of a SINGLE's pair.
        new_conversations: How many unused internal numbers are needed.
        members: (conversation, user): the present membership.
        cursors: (conversation, user): all memberships, the user's cursors, and the cursors of the user's devices.
        member_lists: Conversations whose current members are needed, the first ones by user id.
        members_max: How many of each such list.
        descriptions: Conversations, by id, of which the description is needed.
        elders: Conversations of which is needed who follows an owner, with how many the batch removes there or gives
            another role.
        removals: How many members the batch removes at most.
        sent: Messages by (conversation id, sender, clientMsgId).
        places: Entries by (internal number, seq), with what recalled them.
        edited: Entries of which the edits are needed, and the open stream, by (internal number, seq).
        stream_texts: Those among `edited` of which the text of the open stream is needed too.
        mentioned: Entries of which is needed whom they and their edits mention, by (internal number, seq).
        pins: Internal numbers of conversations of which is needed what is pinned.
        streamers: Users of whom is needed how many streams they have open.
        reactions: (internal number, seq, user): what the user reacts with to an entry, and how many reactions it has.
        senders: (internal number, first seq, last seq): who wrote each entry of a range.
        devices: Users whose devices are needed.
        listed: Users whose current conversations are needed, as a session starts with them.
        blocks: (user, whom they may have blocked).
        block_counts: Users of whom is needed how many they blocked.
        bans: (conversation id, user): whether the user is banned there.
        ban_counts: Conversations of which is needed how many are banned.
        tokens: Resume tokens by (user, device).
        token_hashes: Resume tokens by their digest.
        token_users: Users whose resume tokens are needed.
        login_hashes: Resume tokens by the digest of the token that their login came by.
        moderated: Messages that are held or were refused, by (conversation id, sender, clientMsgId).
        holders: Users of whom all held messages are needed, without payloads.
        waiting: (conversation id, sender) of whom the held messages are needed with their payloads.
        new_held: How many unused numbers of held messages are needed.
        holds: Whether something new may be held, so that the count of all is needed.
        reported: Entries of which the open reports are counted, by (internal number, seq).
        revocations: By whom they reach.
        new_revocations: How many unused positions of revocations are needed.
    """

    __slots__ = (
        "_blobs",
        "_members_wanted",
        "assumes_new",
        "ban_counts",
        "bans",
        "block_counts",
        "blocks",
        "conversation_keys",
        "conversations",
        "cursors",
        "descriptions",
        "devices",
        "edited",
        "elders",
        "holders",
        "holds",
        "listed",
        "login_hashes",
        "member_lists",
        "members",
        "mentioned",
        "moderated",
        "new_conversations",
        "new_held",
        "new_revocations",
        "pairs",
        "pins",
        "places",
        "reactions",
        "removals",
        "reported",
        "revocations",
        "senders",
        "sent",
        "stream_texts",
        "streamers",
        "token_hashes",
        "token_users",
        "tokens",
        "waiting",
    )

    def __init__(self, *, assume_new: bool = False) -> None:
        self.assumes_new = assume_new
        self._blobs: BlobKeys | None = None
        self.conversations: set[str] = set()
        self.conversation_keys: set[int] = set()
        self.pairs: set[str] = set()
        self.new_conversations = 0
        self.members: set[tuple[Ref, str]] = set()
        self.cursors: set[tuple[Ref, str]] = set()
        self.member_lists: set[str] = set()
        self.descriptions: set[str] = set()
        self.elders: dict[str, int] = {}
        self.blocks: set[tuple[str, str]] = set()
        self.block_counts: set[str] = set()
        self.bans: set[tuple[str, str]] = set()
        self.ban_counts: set[str] = set()
        self.sent: set[tuple[str, str, str]] = set()
        self.places: set[tuple[int, int]] = set()
        self.edited: set[tuple[int, int]] = set()
        self.stream_texts: set[tuple[int, int]] = set()
        self.mentioned: set[tuple[int, int]] = set()
        self.pins: set[int] = set()
        self.reactions: set[tuple[int, int, str]] = set()
        self.streamers: set[str] = set()
        self.senders: list[tuple[int, int, int]] = []
        self.devices: set[str] = set()
        self.listed: set[str] = set()
        self.tokens: set[tuple[str, str]] = set()
        self.token_hashes: set[bytes] = set()
        self.token_users: set[str] = set()
        self.login_hashes: set[bytes] = set()
        self.revocations: set[Subject] = set()
        self.new_revocations = 0
        self.moderated: set[tuple[str, str, str]] = set()
        self.holders: set[str] = set()
        self.waiting: set[tuple[str, str]] = set()
        self.new_held = 0
        self.holds = False
        self.reported: set[tuple[int, int]] = set()
        self._members_wanted = MEMBERS_SHOWN_MAX
        self.removals = 0

    def __bool__(self) -> bool:
        """Whether anything is named."""
        return bool(
            self.conversations
            or self.members
            or self.cursors
            or self.sent
            or self.edited
            or self.pins
            or self._blobs
            or self.names_rare
        )

    @property
    def blobs(self) -> BlobKeys:
        """What is named of uploaded files."""
        if self._blobs is None:
            self._blobs = BlobKeys()
        return self._blobs

    @property
    def names_blobs(self) -> bool:
        """Whether anything is named of them."""
        return bool(self._blobs)

    @property
    def names_rare(self) -> bool:
        """Whether anything is named besides conversations by id, memberships, cursors and clientMsgIds."""
        return bool(
            self.conversation_keys
            or self.pairs
            or self.new_conversations
            or self.places
            or self.senders
            or self.devices
            or self.listed
            or self.tokens
            or self.token_hashes
            or self.token_users
            or self.login_hashes
            or self.revocations
            or self.new_revocations
            or self.member_lists
            or self.elders
            or self.blocks
            or self.block_counts
            or self.bans
            or self.ban_counts
        )

    @property
    def names_references(self) -> bool:
        """Whether anything is named of what entries say besides their words: of others, of members, of the group."""
        return bool(
            self.edited
            or self.reactions
            or self.pins
            or self.mentioned
            or self.descriptions
            or self.streamers
        )

    @property
    def names_moderation(self) -> bool:
        """Whether anything is named of what is moderated or reported."""
        return bool(self.moderated or self.holders or self.waiting or self.reported)

    def merged_senders(self) -> list[tuple[int, int, int]]:
        """The ranges of `senders`, ascending and disjoint: what many members read is loaded once."""
        merged: list[tuple[int, int, int]] = []
        for key, first, last in sorted(self.senders):
            if merged and merged[-1][0] == key and first <= merged[-1][2] + 1:
                merged[-1] = (key, merged[-1][1], max(last, merged[-1][2]))
            else:
                merged.append((key, first, last))
        return merged

    @property
    def members_max(self) -> int:
        """How many of each member list: after every removal of the batch enough of them are left."""
        return self._members_wanted + self.removals

    @property
    def elders_max(self) -> int:
        """How many of each list of elders: after the batch one is as it was, wherever there are more."""
        return 1 + max(self.elders.values(), default=0)

    def list_members(self, conversation_id: str, wanted: int = MEMBERS_SHOWN_MAX, removed: int = 0) -> None:
        """Name a conversation's first members, and its description.

        Args:
            conversation_id: The conversation.
            wanted: How many are needed after the batch's removals.
            removed: How many this command may remove.
        """
        self.member_lists.add(conversation_id)
        self.descriptions.add(conversation_id)
        self._members_wanted = max(self._members_wanted, wanted)
        self.removals += removed
