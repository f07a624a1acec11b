"""Bugs in the client: what it keeps, tells, confirms, pulls and sends again."""

from __future__ import annotations

from ..plant import Edit, Mutant

BACKLOG = "chatkit.client.backlog"
CONNECTION = "chatkit.client.connection"
CONVERSATION = "chatkit.client.conversation"
CONVERSATION_LIST = "chatkit.client.conversation_list"
DELIVERIES = "chatkit.client.deliveries"
EVENT_QUEUE = "chatkit.client.event_queue"
HISTORY = "chatkit.client.history"
INBOX = "chatkit.client.inbox"
OUTBOX = "chatkit.client.outbox"
RENEWAL = "chatkit.core.renewal"
SYNC = "chatkit.client.sync"
TAKEN = "chatkit.client.taken"

MUTANTS = (
    Mutant(
        "word-of-a-refusal-taken-for-an-answer",
        "A message that is refused for good needs no answer any more.",
        (Edit(INBOX, "answered = event.reason != ev.REVIEWED\n", "answered = True\n"),),
        ("S9", "L5"),  # what was refused for now does not come again, and what is sent later does
    ),
    Mutant(
        "client-heartbeat-by-wall-clock",
        "Time is what the clock shows.",
        (
            Edit(
                CONNECTION,
                "            self._received_at_s = self._clock.now_s()\n            self._received_count",
                "            self._received_at_s = self._clock.now_ms() / 1000\n            self._received_count",
            ),
            Edit(
                CONNECTION,
                "        self._received_at_s = self._pinged_at_s = self._clock.now_s()\n",
                "        self._received_at_s, self._pinged_at_s = self._clock.now_ms() / 1000, self._clock.now_s()\n",
            ),
            Edit(
                CONNECTION,
                "        if now_s - self._received_at_s > 2 * self._heartbeat_s:\n",
                "        if self._clock.now_ms() / 1000 - self._received_at_s > 2 * self._heartbeat_s:\n",
            ),
        ),
        ("L9",),
    ),
    Mutant(
        "window-not-applied",
        "What waits may as well be under way.",
        (
            Edit(
                OUTBOX,
                "ResendQueue(self._config.pending_max, self._config.window)",
                "ResendQueue(self._config.pending_max)",
            ),
        ),
        ("S25b",),
    ),
    Mutant(
        "resolved-before-stored",
        "The app should not wait for the disk.",
        (
            Edit(
                INBOX,
                "        if changes or effects.resolved:\n            self._store.save(changes, effects.resolved)\n",
                "",
            ),
            Edit(
                INBOX,
                "        for conversation in effects.to_confirm():\n            self._confirm(conversation)\n",
                "        if changes or effects.resolved:\n            self._store.save(changes, effects.resolved)\n"
                "        for conversation in effects.to_confirm():\n            self._confirm(conversation)\n",
            ),
        ),
        ("S10",),
    ),
    Mutant(
        "notified-twice-after-restart",
        "What has no place yet is not stored yet.",
        (
            Edit(
                CONVERSATION,
                "        if own and self.timeline.is_notified(message.seq):\n"
                "            effects.change(self).add_own(message)",
                "        if own and self.timeline.is_notified(message.seq):\n            pass",
            ),
        ),
        ("S10",),
    ),
    Mutant(
        "log-resolves-by-key-alone",
        "A key names one message.",
        (
            Edit(
                INBOX,
                "        if not is_stored and not self._outbox.is_held(pending):\n",
                "        if False:\n",
            ),
        ),
        ("S11",),
    ),
    Mutant(
        "list-counts-what-the-user-wrote",
        "Unread is what lies above the read cursor.",
        (
            Edit(
                CONVERSATION_LIST,
                "self._store.unread(conversation.id, after_seq, self._conversations.user_id)",
                'self._store.unread(conversation.id, after_seq, "")',
            ),
        ),
        ("S16",),
    ),
    Mutant(
        "list-shows-what-is-no-message",
        "The last message is the newest entry.",
        (
            Edit(
                CONVERSATION_LIST,
                "                if message.is_user_message and message.seq not in edits:\n"
                "                    return message\n",
                "                return message\n",
            ),
        ),
        ("S16",),
    ),
    Mutant(
        "recall-missed-while-away",
        "What was held when one left is held when one returns.",
        (
            Edit(
                CONVERSATION,
                "            _forget_earlier(change, first.seq - 1 if is_new else prefix)\n",
                "            change.floor = prefix\n",
            ),
        ),
        ("S20",),
    ),
    Mutant(
        "pending-forgotten-at-restart",
        "The window bounds what is under way.",
        (
            Edit(
                OUTBOX,
                "        queue.restore([send for send in self._store.pending() if self._is_sound(send)], never_left)\n",
                "        queue.restore(self._store.pending()[-self._config.window :], never_left)\n",
            ),
        ),
        ("L5",),
    ),
    Mutant(
        "recovery-forgets-sender",
        "The conversations are what a batch changes.",
        (Edit(INBOX, "            self._outbox.reload()\n", ""),),
        ("L5", "S10", "alarm"),
    ),
    Mutant(
        "resume-without-backfill",
        "What was missed comes with the next push, which shows the gap.",
        (
            Edit(
                INBOX,
                "        if conversation.renewal is None and conversation.timeline.rise(head.head_seq):\n"
                "            self._sync_queue.add(conversation)\n",
                "        conversation.timeline.rise(head.head_seq)\n",
            ),
        ),
        ("S16", "L2", "alarm"),
    ),
    Mutant(
        "gap-not-pulled",
        "A hole closes by itself.",
        (
            Edit(
                INBOX,
                "            self._sync_queue.gap(conversation)\n\n    def _known_head",
                "\n    def _known_head",
            ),
        ),
        ("S16", "L1", "L2", "alarm"),
    ),
    Mutant(
        "epoch-ignored",
        "The epoch is the server's affair.",
        (
            Edit(
                INBOX,
                "        if conversation.epoch != head.epoch or head.head_seq < conversation.held_at_connect:\n",
                "        if head.head_seq < conversation.held_at_connect:\n",
            ),
            Edit(
                INBOX,
                "        if page.epoch != conversation.epoch or rolled_back:\n",
                "        if rolled_back:\n",
            ),
        ),
        ("S16", "L1", "L2", "alarm"),
    ),
    Mutant(
        "renewal-forgets-all",
        "Another epoch is another log: nothing that is held counts.",
        (
            Edit(
                RENEWAL,
                "        if differing is not None:\n            self.kept_seq = ",
                "        if True:\n            self.kept_seq = 0 if differing is None else ",
            ),
        ),
        ("S10",),
    ),
    Mutant(
        "left-not-noticed",
        "What the heads do not name has not changed.",
        (
            Edit(
                INBOX,
                "            if not self._conversations.is_seen(conversation.id):\n"
                "                self._gone(effects, conversation)\n",
                "            if not self._conversations.is_seen(conversation.id) and not conversation.acked_seq:\n"
                "                self._gone(effects, conversation)\n",
            ),
        ),
        ("L1", "L2"),
    ),
    Mutant(
        "read-mark-lost",
        "Whatever was marked before the connection broke has been sent.",
        (
            Edit(
                OUTBOX,
                "        if wanted > server_read_seq:\n"
                "            self._read[conversation_id] = wanted\n"
                "        elif wanted:\n",
                "        if wanted:\n",
            ),
        ),
        ("S15",),
    ),
    Mutant(
        "refused-mark-lost",
        "A refusal is an answer.",
        (
            Edit(
                OUTBOX,
                "        if not error.retryable:\n            if error.ref == READ_REF:\n",
                "        if error.ref == READ_REF or not error.retryable:\n            if error.ref == READ_REF:\n",
            ),
        ),
        ("S15",),
    ),
    Mutant(
        "history-edge-included",
        "Up to a seq means up to that seq.",
        (
            Edit(
                HISTORY,
                "        older = await self._up_to_prefix(conversation, end, limit - len(newest))\n",
                "        older = await self._up_to_prefix(conversation, end + 1, limit - len(newest))\n",
            ),
        ),
        ("S23",),
    ),
    Mutant(
        "full-event-queue-drops-messages",
        "The app can read in the history what it was too slow for.",
        (
            Edit(
                EVENT_QUEUE,
                "        if droppable or isinstance(event, EphemeralEvent) or self._overflows(event):\n",
                "        if droppable or not isinstance(event, ConnectionEvent) or self._overflows(event):\n",
            ),
        ),
        # alarm: an app that takes its events with `consume` is not given what was dropped, and never handled it
        ("S10", "alarm"),
    ),
    Mutant(
        "refused-pull-forgotten",
        "A conversation that is behind is pulled again anyway.",
        (
            Edit(
                SYNC,
                "        self._queue.again(conversation, self._delay_s(retry_after_s=error.retry_after_s))\n",
                "        self._refusals = min(self._refusals, 8)\n",
            ),
        ),
        ("S16", "L1", "L2", "alarm"),
    ),
    Mutant(
        "taken-before-handled",
        "What is handed out is taken.",
        (
            Edit(
                DELIVERIES,
                '            result = await call("the handler", handler, given)\n',
                "            self._cursors.took(delivery)\n            await self._save()\n"
                '            result = await call("the handler", handler, given)\n',
            ),
        ),
        ("alarm", "L1"),
    ),
    Mutant(
        "taken-forgotten-at-restart",
        "The app begins with what is stored.",
        (
            Edit(
                TAKEN,
                "        self.taken_seq = self.offered_seq = self.read_seq = taken_seq\n",
                "        self.taken_seq, self.offered_seq, self.read_seq = taken_seq, taken_seq, 0\n",
            ),
        ),
        ("alarm", "S10"),
    ),
    Mutant(
        "not-taken-forgotten-at-restart",
        "The app begins with what arrives.",
        (Edit(BACKLOG, " or record.taken_seq < record.prefix:\n", ":\n"),),
        ("alarm", "L1"),
    ),
    Mutant(
        "busy-conversation-goes-on",
        "Each handler that is free takes the next entry, whose it may be.",
        (
            Edit(
                DELIVERIES,
                "            conversation_id in self._busy\n"
                "            or conversation_id in self._cursors.handed_out\n"
                "            or self._backlog.holds(conversation_id)\n",
                "            self._backlog.holds(conversation_id)\n",
            ),
        ),
        ("alarm", "S10"),
    ),
)
