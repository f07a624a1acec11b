"""How a connection ends, whoever drives its session."""

from __future__ import annotations

import logging

from ..server.session import Session
from ..wire.codec import close_reason

CLOSE_TIMEOUT_S = 5.0
"""How long a peer that does not read may hold up its own close."""

logger = logging.getLogger(__name__)


def close_of(session: Session) -> tuple[int, str]:
    """Code and reason for the close frame of a session that was closed."""
    assert session.close_code is not None
    return session.close_code, close_reason(session.close_reason)


def failed(session: Session) -> tuple[int, str]:
    """Log the error that is being handled. Returns code and reason for the close frame."""
    logger.exception("session %s: its connection failed", session.session_id)
    return 1011, "the server failed"
