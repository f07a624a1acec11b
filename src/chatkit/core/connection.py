"""Which event is legal when, for both ends of a connection: two tables and nothing else.

Used by the server's session and by the client's. Neither side is favoured: each looks up what may arrive in
its state and what the arrival makes of it.
"""

from __future__ import annotations

from enum import IntEnum

from ..wire import events as ev


class State(IntEnum):
    """How far a connection is, seen from either end."""

    AWAITING_HELLO = 0
    LOGGING_IN = 1
    OPEN = 2
    CLOSED = 3


_IN_SESSION: dict[type[ev.Event], State] = dict.fromkeys(
    (
        ev.SendMsg,
        ev.DeliveredAck,
        ev.Read,
        ev.Sync,
        ev.Recall,
        ev.TypingCommand,
        ev.StreamPartCommand,
        ev.PresenceCommand,
        ev.AuthRefresh,
        ev.Ping,
    ),
    State.OPEN,
)

SERVER_RECEIVES: dict[State, dict[type[ev.Event], State]] = {
    State.AWAITING_HELLO: {ev.Hello: State.LOGGING_IN},
    State.LOGGING_IN: {},
    State.OPEN: _IN_SESSION,
    State.CLOSED: {},
}
"""State after an event arrives at the server; an event that is not listed breaks the protocol."""

_LIVE: dict[type[ev.Event], State] = dict.fromkeys(
    (
        ev.Heads,
        ev.MsgAck,
        ev.NewMsg,
        ev.ReceiptPush,
        ev.SyncPage,
        ev.Behind,
        ev.ConversationPush,
        ev.TypingPush,
        ev.StreamPartPush,
        ev.StreamAck,
        ev.PresencePush,
        ev.TokenExpiring,
        ev.AuthOk,
        ev.GoAway,
        ev.Pong,
        ev.ErrorEvent,
    ),
    State.OPEN,
)

CLIENT_RECEIVES: dict[State, dict[type[ev.Event], State]] = {
    State.AWAITING_HELLO: {},
    State.LOGGING_IN: {
        ev.Welcome: State.OPEN,
        ev.ErrorEvent: State.LOGGING_IN,
        ev.GoAway: State.LOGGING_IN,
    },
    State.OPEN: _LIVE,
    State.CLOSED: {},
}
"""State after an event arrives at the client; its own HELLO takes it from AWAITING_HELLO to LOGGING_IN."""
