"""What is taken from a history before anything is judged: sights of entries, answers to sends, reads of the past."""

from __future__ import annotations

from typing import Literal

import msgspec

from chatkit.testing.history import Call, Frame

Key = tuple[str, str, str]
"""(conversation, sender, clientMsgId)."""

Where = Literal["push", "page", "answer", "told", "held"]


class Seen(msgspec.Struct, frozen=True, gc=False):
    """One sight of one log entry by one device, or by a caller without one.

    Attributes:
        epoch: The log's, as it came with the entry; "" where none did.
        body: Its payload in canonical form.
        where: A NEW_MSG, an entry of a page, of another answer, an event told to an app, or what a device holds.
        at_s: When; None for what a device holds.
        frame: What brought it, if a frame did.
        edit_seq: In a page: the edit that is shown with it; 0 for none.
        reactions: In a page: each with its count and the users that are named.
    """

    conversation_id: str
    epoch: str
    seq: int
    message_id: str
    sender_id: str
    server_ts: int
    body: bytes
    client_msg_id: str | None
    user_id: str
    device_id: str
    where: Where
    at_s: float | None
    frame: Frame | None = None
    edit_seq: int = 0
    reactions: tuple[tuple[str, int, tuple[str, ...]], ...] = ()


class Ack(msgspec.Struct, frozen=True, gc=False):
    """One answer to a send, however it came.

    Attributes:
        epoch: "" where none was told (HTTP).
        how: How it came, in words.
        first_hand: It is the server's own. A client may find its message in a page instead, under a newer epoch.
    """

    key: Key
    epoch: str
    seq: int
    message_id: str
    server_ts: int
    device_id: str
    at_s: float
    how: str
    first_hand: bool = False


class Page(msgspec.Struct, frozen=True, gc=False):
    """One page of a log that was read: it covers (last_seq, up_to_seq]. `limit` is None where none was asked, `history`
    says whether what may be read of the past was."""

    conversation_id: str
    user_id: str
    device_id: str
    asked_at_s: float
    last_seq: int
    limit: int | None
    at_s: float
    epoch: str
    head_seq: int
    up_to_seq: int
    more: bool
    entries: list[Seen]
    history: bool = False


class Past(msgspec.Struct, frozen=True):
    """One read of the newest entries below a seq, as `ChatClient.history` gives them."""

    call: Call
    conversation_id: str
    entries: list[Seen]
