"""Bugs in the pure heart: the resend queue and the timeline."""

from __future__ import annotations

from ..plant import Edit, Mutant

RESEND = "chatkit.core.resend"
TIMELINE = "chatkit.core.timeline"

MUTANTS = (
    Mutant(
        "resend-out-of-order",
        "What waits is in the order in which it came.",
        (
            Edit(
                RESEND,
                "heapq.nsmallest(self._window - len(self._sent_at_s), waiting, key=_by_order)",
                "list(waiting)[: self._window - len(self._sent_at_s)]",
            ),
        ),
        ("S9",),
    ),
    Mutant(
        "resend-with-new-key",
        "The server has refused this key; a new one lets the message try again.",
        (
            Edit(
                RESEND,
                "        self._clear(send.key)\n"
                "        lane = self._lane(conversation_id)\n"
                "        lane.in_flight -= 1\n",
                "        self._clear(send.key)\n"
                "        lane = self._lane(conversation_id)\n"
                "        lane.in_flight -= 1\n"
                "        self._pending.pop(send.key, None)\n"
                '        send = msgspec.structs.replace(send, client_msg_id=f"{client_msg_id}-again")\n'
                "        self._pending[send.key] = send\n",
            ),
        ),
        ("S3", "L5"),
    ),
    Mutant(
        "held-message-asked-about-at-any-time",
        "The oldest message of a conversation goes first.",
        (
            Edit(
                RESEND,
                "        return lane is None or not (lane.in_flight or lane.refused)\n",
                "        return True\n",
            ),
        ),
        ("S9", "L5"),  # S9: it goes before what was refused earlier
    ),
    Mutant(
        "shown-message-not-sent-again",
        "What the log shows is stored, so nothing is left to do.",
        (
            Edit(
                RESEND,
                "        if answered or not self._is_owed(known):\n",
                "        if send is not None or answered or not self._is_owed(known):\n",
            ),
        ),
        ("S9", "L5", "alarm"),  # S9: what the server waits for is passed by what is sent later
    ),
    Mutant(
        "gap-ignored",
        "What comes is newer than what was there, so it is placed.",
        (
            Edit(
                TIMELINE,
                "        while self.prefix + 1 in self._held:\n            self._place(self.prefix + 1, step)\n",
                "        while self._held:\n            self._place(min(self._held), step)\n",
            ),
        ),
        ("S10",),
    ),
    Mutant(
        "notified-forgotten-beyond-bound",
        "What is not held is as if it had never come.",
        (
            Edit(
                TIMELINE,
                "        if notified and message.seq > self.prefix:\n",
                "        if notified and message.seq > self.prefix and len(self._held) < self._held_max:\n",
            ),
        ),
        ("S10",),
    ),
)
