"""The client's settings, each with its unit and a value that is right for most apps. Holds no secret."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from .._arguments import check_number
from ..core.resend import PENDING_MAX, WINDOW
from ..core.timeline import HELD_BYTES_MAX, HELD_MAX
from ..errors import ConfigurationError
from ..wire.events import PAGE_MAX
from .conversation import CONVERSATIONS_MAX
from .event_queue import EVENTS_BYTES_MAX

SYNC_WINDOW_MAX = 200
"""A server lets 256 SYNCs of a connection wait; the rest is for history."""

_MAY_BE_ZERO = frozenset(
    {"close_timeout_s", "goaway_wait_s", "gap_wait_s", "confirm_wait_s", "stable_after_s", "events_low"}
)


DeliveredWhen = Literal["stored", "taken"]


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Deadlines, waits and bounds of one client.

    Attributes:
        connect_timeout_s: For the TCP, TLS and WebSocket handshakes together.
        hello_timeout_s: From HELLO to WELCOME.
        token_timeout_s: For one call of the token callable.
        request_timeout_s: For SYNC, RECALL and AUTH_REFRESH, and what `recall` and `history` wait in all.
        probe_timeout_s: For a sign of life after the machine slept, or at `check_connection`, before the connection is
            given up.
        send_timeout_s: What `send` waits unless told otherwise.
        close_timeout_s: For draining unacknowledged messages and cursors at the end of `async with`.
        ack_wait_s: A message under way without any answer for so long means a broken connection.
        goaway_wait_s: How long a draining server may take to close before the client does.
        gap_wait_s: How long a hole in a conversation may last before it is pulled with SYNC.
        confirm_wait_s: How long what is to be confirmed (DELIVERED_ACK) waits for what comes meanwhile; it leaves
            sooner with anything else that is sent, and at the end of `async with`. A server pushes to a device that
            confirms nothing, by default after 5 seconds.
        backoff_base_s: Upper bound of the first wait before a reconnect; doubles with each try.
        backoff_max_s: Upper bound of every wait that the server did not ask for; at least `backoff_base_s`.
        stable_after_s: A connection must last so long before the wait starts from the base again.
        events_max: Events that wait for the app; from there on pushes are left to a later SYNC.
        events_bytes_max: Bytes of events that wait for the app; likewise, down to half of it.
        events_low: Once so few events wait, SYNC goes on; always below `events_max`.
        pending_max: Unacknowledged messages; `send` raises QueueFullError beyond.
        window: Messages under way at once; and no further one while those hold 128 KiB or more.
        held_max: Entries kept above a gap, per conversation.
        held_bytes_max: Bytes kept above gaps, in all conversations together; what is beyond comes again by SYNC.
        conversations_max: Conversations of this device, with those that were left; a server that names more
            breaks the contract (ProtocolError, and the client comes back after a wait).
        keep_messages_max: Entries that a local store made here keeps per conversation, and some more; older ones
            that the app has taken leave it, and history fetches them again. None keeps all in a file, and 1,000 in
            memory.
        page_limit: Entries asked for with one SYNC, at most 200.
        sync_window: SYNCs under way at once, while the line answers quickly; at most 200.
        requests_max: Recalls that wait for their answer; QueueFullError beyond.
        delivered_when: What DELIVERED means for this device: `stored`, in its local store; `taken`, taken by its app
            (`ChatClient.consume`, `ChatClient.events`).

    Raises:
        ConfigurationError: A wait is not finite, a bound is no whole number, or a value is not above 0. Waits that
            may be 0: those at the end of the client and of a draining server, the gap, the confirming and the stable
            one.
    """

    connect_timeout_s: float = 10.0
    hello_timeout_s: float = 10.0
    token_timeout_s: float = 10.0
    request_timeout_s: float = 30.0
    probe_timeout_s: float = 5.0
    send_timeout_s: float = 30.0
    close_timeout_s: float = 5.0
    ack_wait_s: float = 60.0
    goaway_wait_s: float = 10.0
    gap_wait_s: float = 0.2
    confirm_wait_s: float = 0.05
    backoff_base_s: float = 0.5
    backoff_max_s: float = 30.0
    stable_after_s: float = 10.0
    events_max: int = 10_000
    events_low: int = 5_000
    events_bytes_max: int = EVENTS_BYTES_MAX
    pending_max: int = PENDING_MAX
    window: int = WINDOW
    held_max: int = HELD_MAX
    held_bytes_max: int = HELD_BYTES_MAX
    conversations_max: int = CONVERSATIONS_MAX
    keep_messages_max: int | None = None
    page_limit: int = PAGE_MAX
    sync_window: int = 48
    requests_max: int = 1_000
    delivered_when: DeliveredWhen = "stored"

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if name == "delivered_when" or (name, getattr(self, name)) == ("keep_messages_max", None):
                continue
            least = 0.0 if name in _MAY_BE_ZERO else None
            check_number(name, getattr(self, name), whole=not name.endswith("_s"), least=least)
        if self.delivered_when not in get_args(DeliveredWhen):
            raise ConfigurationError("delivered_when must be stored or taken")
        if self.backoff_max_s < self.backoff_base_s:
            raise ConfigurationError("backoff_max_s must be at least backoff_base_s")
        if self.page_limit > PAGE_MAX:
            raise ConfigurationError(f"page_limit must be 1 to {PAGE_MAX}")
        if self.sync_window > SYNC_WINDOW_MAX:
            raise ConfigurationError(f"sync_window must be 1 to {SYNC_WINDOW_MAX}")
