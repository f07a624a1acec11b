"""Bots: handlers of events and commands on top of `ChatClient.consume`. See docs/bots.md.

The way in is `Bot`. Nothing here keeps or sends anything by itself: what is taken, given again and kept is the
client's business (docs/design/0027-bots.md).
"""

from __future__ import annotations

from .arguments import ArgumentsError
from .bot import Bot
from .contexts import EventContext, MessageContext
from .retries import Failure, ProcessDiedError, RetryPolicy, log_failure

__all__ = [
    "ArgumentsError",
    "Bot",
    "EventContext",
    "Failure",
    "MessageContext",
    "ProcessDiedError",
    "RetryPolicy",
    "log_failure",
]
