"""Bugs in the server: order of sends, who is told what, sessions, the drain, nodes."""

from __future__ import annotations

from ..plant import Edit, Mutant

AUDIENCE = "chatkit.server.live.audience"
SERVER = "chatkit.server.server"
FANOUT = "chatkit.server.live.fanout"
PUBLISHER = "chatkit.server.publisher"
RECEIPTS = "chatkit.server.receipts"
RECONCILE = "chatkit.server.cluster.reconcile"
SEND_ORDER = "chatkit.core.send_order"
SYNC = "chatkit.server.sync"

MUTANTS = (
    Mutant(
        "refusal-lets-later-through",
        "Each message is refused or taken for itself.",
        (
            Edit(
                SEND_ORDER,
                "        self._held_back[conversation_id] = (number, client_msg_id)\n",
                "",
            ),
        ),
        ("S9",),
    ),
    Mutant(
        "behind-not-sent",
        "The conversations that are behind are the session's `behind`.",
        (
            Edit(
                SYNC,
                "        for conversation_id in behind:\n",
                "        for conversation_id in session.behind:\n",
            ),
        ),
        ("S15", "L1", "L2", "alarm"),
    ),
    Mutant(
        "push-to-removed-member",
        "The next HEADS tells him that he is out.",
        (
            Edit(
                AUDIENCE,
                "            del self.sessions[session]\n"
                "            session.leave_conversation(self.conversation_id)\n",
                "            pass\n",
            ),
        ),
        ("S18",),
    ),
    Mutant(
        "own-push-missing-to-other-devices",
        "The sender knows what he wrote.",
        (
            Edit(
                FANOUT,
                "        if session is origin:\n",
                "        if session is origin or session.user_id == sender_id:\n",
            ),
        ),
        ("L1", "L2", "alarm"),
    ),
    Mutant(
        "key-shown-to-others",
        "One encoding for all.",
        (
            Edit(
                FANOUT,
                "push = encoded[session.codec] = new_msg(entry, session.codec, own=False)",
                "push = encoded[session.codec] = new_msg(entry, session.codec, own=True)",
            ),
        ),
        ("S17",),
    ),
    Mutant(
        "renewal-not-announced",
        "Who is offered everything misses nothing.",
        (
            Edit(
                AUDIENCE,
                "            session.last_pushed_seq[name] = min(session.last_pushed_seq[name], head_seq)\n"
                "            session.mark_behind(name)\n",
                "            session.last_pushed_seq[name] = min(session.last_pushed_seq[name], head_seq)\n",
            ),
        ),
        ("L1", "L2", "alarm"),
    ),
    Mutant(
        "work-cancelled-before-drain",
        "The server's work ends before the drain.",
        (
            Edit(
                SERVER,
                "                await self.drain()\n",
                "                self._background.cancel()\n                await self.drain()\n",
            ),
        ),
        ("alarm",),
    ),
    Mutant(
        "null-for-what-is-not-there",
        "A recall has no key, so its answer says so.",
        (
            Edit(
                PUBLISHER,
                "client_msg_id=UNSET if entry.client_msg_id is None else entry.client_msg_id,",
                "client_msg_id=entry.client_msg_id,",
            ),
        ),
        ("S25",),
    ),
    Mutant(
        "left-while-page-was-read",
        "Membership was checked when the page was read.",
        (
            Edit(
                SYNC,
                "            if event.conversation_id not in session.last_pushed_seq:\n"
                '                raise NotFoundError("no such conversation")  # left while the page was read\n',
                "",
            ),
        ),
        ("S18",),
    ),
    Mutant(
        "message-out-of-turn",
        "An entry from the bus is newer than all before.",
        (
            Edit(
                AUDIENCE,
                "        return entry.seq == self.position + 1 and entry.epoch == self.epoch\n",
                "        return entry.epoch == self.epoch\n",
            ),
        ),
        ("S18", "L1", "L2", "alarm"),
    ),
    Mutant(
        "lost-messages-not-asked-for",
        "What the bus lost comes with the next message.",
        (
            Edit(
                AUDIENCE,
                "        return head_seq > self.position\n",
                "        return False\n",
            ),
        ),
        ("L1", "L2", "alarm"),
    ),
    Mutant(
        "joined-elsewhere-unheard",
        "Who joins is told by the node that let him in.",
        (
            Edit(
                RECONCILE,
                "        if noted.changes:\n            await self._read_changes()\n",
                "",
            ),
        ),
        ("L1", "L2", "alarm"),
    ),
    Mutant(
        "late-receipt-falls",
        "The newest receipt is the one that came last.",
        (
            Edit(
                RECEIPTS,
                "audience.raise_cursors(user_id, advanced.delivered_seq, advanced.read_seq)\n",
                "advanced.delivered_seq, advanced.read_seq\n",
            ),
        ),
        ("S15",),
    ),
)
