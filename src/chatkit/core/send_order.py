"""The order of one connection's sends under refusal: the whole rule, as values in and out.

A send that was refused for now holds back every later one to its conversation until it has come again; so what a
client sends one after the other is stored in that order or not at all. Other conversations and other connections go
on. Leaving the conversation ends no wait: what was refused for now is still the client's first, and comes again for its
last answer. Used by the server: the engine asks before a send is queued, the committer for what is queued already, the
publisher reports refusals. Source: docs/protocol.md#send_msg
"""

from __future__ import annotations

from typing import Final

CONVERSATIONS_MAX: Final = 1_000
"""Conversations of one connection in which a refused send is waited for."""


class SendOrder:
    """The sends of one connection, and which of them are held back."""

    __slots__ = ("_full", "_held_back", "_last_number")

    def __init__(self) -> None:
        self._last_number = 0
        self._held_back: dict[str, tuple[int, str]] = {}
        self._full = False

    def admit(self, conversation_id: str, client_msg_id: str) -> int | None:
        """Number a new send, from 1 and ascending; the refused send that comes again ends the wait for it.

        Returns:
            Its number; None if an earlier send to the conversation was refused and must come first.
        """
        earliest = self._held_back.get(conversation_id)
        if earliest is not None:
            if earliest[1] != client_msg_id:
                return None
            del self._held_back[conversation_id]
        self._last_number += 1
        return self._last_number

    def refused(self, conversation_id: str, client_msg_id: str, number: int, *, retryable: bool) -> bool:
        """A numbered send was refused. If it may be tried again, later ones are held back until it is.

        Returns:
            False if too many conversations would be held back: now all are, and the connection must end.
        """
        earliest = self._held_back.get(conversation_id)
        if not retryable or (earliest is not None and earliest[0] < number):
            return True
        if earliest is None and len(self._held_back) >= CONVERSATIONS_MAX:
            self._full = True
            return False
        self._held_back[conversation_id] = (number, client_msg_id)
        return True

    def holds_back(self, conversation_id: str, number: int) -> bool:
        """Whether this numbered send must be refused because of an earlier one."""
        if self._full:
            return True
        earliest = self._held_back.get(conversation_id)
        return earliest is not None and earliest[0] < number
