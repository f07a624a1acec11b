"""Bugs in the server: order of sends, who is told what, sessions, the drain, nodes."""

from __future__ import annotations

from ..plant import Edit, Mutant

ALLOWANCE = "chatkit.server.allowance"
AUDIENCE = "chatkit.server.live.audience"
BACKGROUND = "chatkit.server.background"
COMMIT_QUEUE = "chatkit.server.commit_queue"
COMMITTER = "chatkit.server.committer"
DISPATCH = "chatkit.server.dispatch"
FANOUT = "chatkit.server.live.fanout"
PUBLISHER = "chatkit.server.publisher"
RECEIPTS = "chatkit.server.receipts"
RECONCILE = "chatkit.server.cluster.reconcile"
SEND_ORDER = "chatkit.core.send_order"
SYNC = "chatkit.server.sync"
SERVER = "chatkit.server.server"

MUTANTS = (
    Mutant(
        "queue-bytes-never-subtracted",
        "The items say how full the queue is.",
        (
            Edit(
                COMMIT_QUEUE,
                "        self.cost -= cost\n        self.payload_bytes -= payload_bytes\n",
                "        self.cost -= cost\n",
            ),
        ),
        ("S25c",),
    ),
    Mutant(
        "closed-session-stays-in-hub",
        "Whoever closed a session has taken it out.",
        (
            Edit(
                DISPATCH,
                "        self._hub.leave(session)\n",
                "        if session.close_code is None:\n            self._hub.leave(session)\n",
            ),
        ),
        ("S25c",),
    ),
    Mutant(
        "login-kept-for-ever",
        "A login is a small thing.",
        (Edit(DISPATCH, "        self._login.ended(session)\n", ""),),
        ("S25c",),
    ),
    Mutant(
        "batch-bound-not-applied",
        "One transaction for all that waits is the quickest.",
        (
            Edit(
                COMMITTER,
                "self._waiting.take(self._config.commit_batch_max, busy)",
                "self._waiting.take(10**9, busy)",
            ),
        ),
        ("S25b",),
    ),
    Mutant(
        "exact-page-never-last",
        "A full page has another one behind it.",
        (
            Edit(
                SYNC,
                "        session.answer(ev.Heads(conversations=page, more=bool(heads)))\n        if not heads:\n",
                "        more = bool(heads) or len(page) == HEADS_PER_PAGE\n"
                "        session.answer(ev.Heads(conversations=page, more=more))\n        if not heads:\n",
            ),
        ),
        ("L2", "L11", "S25c"),
    ),
    Mutant(
        "coalesced-receipt-loses-authors",
        "The later of two moves says all that the earlier one said.",
        (Edit(RECEIPTS, "earlier.authors | later.authors", "later.authors"),),
        ("L12",),
    ),
    Mutant(
        "typing-limit-of-the-session",
        "Nobody writes in two conversations at once.",
        (
            Edit(
                ALLOWANCE,
                "        place = (user_id, conversation_id)\n",
                "        place = (user_id, user_id)\n",
            ),
        ),
        ("L13",),
    ),
    Mutant(
        "server-heartbeat-by-wall-clock",
        "A second is a second.",
        (
            Edit(
                "chatkit.server.watchdog",
                "        now_s, hello_timeout_s = self._clock.now_s(), self._config.hello_timeout_s\n",
                "        now_s, hello_timeout_s = self._clock.now_ms() / 1000, self._config.hello_timeout_s\n"
                "        now_s -= 1_700_000_000\n",
            ),
        ),
        ("L9", "alarm"),
    ),
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
        ("S15", "S16", "L1", "L2", "alarm"),
    ),
    Mutant(
        "push-to-removed-member",
        "The next HEADS tells him that he is out.",
        (
            Edit(
                AUDIENCE,
                "            del self.sessions[session]\n"
                "            self._hide_streams(session)\n"
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
                "        if session is origin:\n            session.last_pushed_seq[conversation_id] = seq\n",
                "        if session is origin or session.user_id == sender_id:\n"
                "            session.last_pushed_seq[conversation_id] = seq\n",
            ),
        ),
        ("S16", "L1", "L2", "alarm"),
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
        ("L5",),
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
        ("S16", "L1", "L2", "S25c", "alarm"),  # S25c: receipts wait for entries that do not come
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
