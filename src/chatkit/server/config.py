"""The server's settings: one frozen value with defaults that are meant to be kept."""

from __future__ import annotations

import msgspec

from .._arguments import check_kind, check_number
from .limits import Limits

_MAY_BE_NONE = frozenset({"heads_check_s", "login_max_s", "edit_window_s"})
_MAY_BE_ZERO = frozenset(
    {
        "gap_wait_s",
        "token_leeway_s",
        "recall_window_s",
        "edit_window_s",
        "typing_interval_s",
        "receipt_delay_s",
        "overload_retry_s",
        "reconnect_after_s",
        "drain_spread_s",
        "drain_timeout_s",
    }
)


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds and times of a server. Every queue, buffer and window in it has its bound here.

    Attributes:
        limits: The share of one user, device, conversation or address.
        heartbeat_s: A client must be heard within this; after twice that the session is closed.
        heads_check_s: How often what was offered is compared with the log, so that what a bus lost is found; None:
            every `heartbeat_s`, and with a bus every 3 seconds. Costs a read of the heads of all conversations
            that somebody online belongs to, and with a bus one of the devices that are online.
        gap_wait_s: How long an entry that comes too early waits for the ones before it until they are read.
        hello_timeout_s: A connection that has not logged in by then is closed.
        request_timeout_s: An HTTP request that waits for storage longer is answered UNAVAILABLE.
        resume_token_s: How long a resume token is valid.
        login_max_s: How long resume tokens carry a login on without the host being asked; after that the client must
            show its token again. None: for ever.
        token_leeway_s: How long after its end a login is still accepted, for clocks that differ.
        recall_window_s: How long after sending an author may recall; of a stream, after its end.
        edit_window_s: How long after sending an author may edit, a stream after its end; None: for ever.
        stream_idle_s: A streamed message whose author is silent so long is ended with what there is of it, as cut off.
            The SDK gives a sign of life every 20 seconds.
        members_max: Most members of a group.
        readd_after_leaving: Whether a group's owner may add users again who left it by their own choice; if not, only
            the host may (`ChatServer.add_members(..., by=None)`), who has asked them.
        presence: Whether users may know who of their contacts is online (PRESENCE). Of several nodes all must have it.
        presence_members_max: Members of a conversation up to which it makes its members each other's contacts.
        search: Whether users may search messages (docs/search.md). It needs a store that is `Searchable`.
        typing_interval_s: Least time between two TYPING of a session in a conversation.
        sessions_max: Most open connections; further ones are closed with 4002.
        commit_queue_max: Most items waiting for storage, large ones counted by the rows they write. Sends are
            refused when it is full, receipts from half of it, typing from a quarter.
        commit_queue_bytes_max: The same bound in bytes of payload.
        commit_batch_max: Most items in one transaction, counted alike.
        receipt_delay_s: How long confirmations and read cursors wait for further ones of the same device, of which only
            the furthest is stored; with every 100 that wait as long again, ten times as long at most, and no longer
            than until `commit_batch_max` of them do.
        send_buffer_bytes: Bytes held for one session before its pushes are dropped and it is told BEHIND; the
            session is not read from meanwhile, and closed at four times that.
        sync_queue_max: SYNC requests waiting in one session; further ones are refused.
        page_bytes_max: Payload bytes in one page, about. A slow line must bring a whole page within two heartbeats.
        overload_retry_s: What a refused sender is told to wait.
        reconnect_after_s: What clients are told to wait when the node drains.
        drain_spread_s: Over how long a drain sends its clients away, so that the other nodes do not get all of them
            in the same second; at most `drain_timeout_s`. A few (up to 200 a second) leave sooner.
        drain_timeout_s: How long a drain waits, after that, for what was accepted to be committed, and as long again
            for the sessions to go.
    """

    limits: Limits = Limits()
    heartbeat_s: float = 25.0
    heads_check_s: float | None = None
    gap_wait_s: float = 0.02
    hello_timeout_s: float = 10.0
    request_timeout_s: float = 30.0
    resume_token_s: float = 86_400.0
    login_max_s: float | None = 86_400.0
    token_leeway_s: float = 30.0
    recall_window_s: float = 120.0
    edit_window_s: float | None = 900.0
    stream_idle_s: float = 60.0
    members_max: int = 1_000
    readd_after_leaving: bool = True
    presence: bool = False
    presence_members_max: int = 50
    search: bool = False
    typing_interval_s: float = 3.0
    sessions_max: int = 20_000
    commit_queue_max: int = 20_000
    commit_queue_bytes_max: int = 64 * 1024 * 1024
    commit_batch_max: int = 1_000
    receipt_delay_s: float = 0.05
    send_buffer_bytes: int = 1024 * 1024
    sync_queue_max: int = 256
    page_bytes_max: int = 64 * 1024
    overload_retry_s: float = 1.0
    reconnect_after_s: float = 1.0
    drain_spread_s: float = 5.0
    drain_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if name.endswith(("_s", "_max", "_bytes")) and not (name in _MAY_BE_NONE and value is None):
                least = 0.0 if name in _MAY_BE_ZERO else None
                check_number(name, value, whole=not name.endswith("_s"), least=least)
        check_kind("readd_after_leaving", self.readd_after_leaving, bool)
        check_kind("presence", self.presence, bool)
        check_kind("search", self.search, bool)
        check_kind("limits", self.limits, Limits)
