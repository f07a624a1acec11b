"""Bugs in the stores: transactions, keys, memberships, cursors, pages, recalls, the outbox, the audit.

What both stores say twice is broken in both.
"""

from __future__ import annotations

from ..plant import Edit, Mutant

MEMORY = "chatkit.storage.memory"
MEMORY_LOG = "chatkit.storage.memory_log"
MEMORY_READS = "chatkit.storage.memory_reads"
RULES = "chatkit.storage.rules"
SQLITE_BATCH = "chatkit.storage.sqlite.batch"
SQLITE_COMMANDS = "chatkit.storage.sqlite.commands"
SQLITE_MEMBERS = "chatkit.storage.sqlite.members"
SQLITE_READS = "chatkit.storage.sqlite.reads"
SQLITE_WRITER = "chatkit.storage.sqlite.writer"

MUTANTS = (
    Mutant(
        "ack-before-commit",
        "The next transaction commits what the last one wrote: one fsync serves two batches.",
        (
            Edit(
                SQLITE_WRITER,
                "        self._connection.begin()\n        try:",
                "        if self._open:\n"
                "            self._connection.commit()\n"
                "        self._connection.begin()\n        try:",
            ),
            Edit(
                SQLITE_WRITER,
                "            batch.flush()\n            self._connection.commit()\n",
                "            batch.flush()\n            self._open = True\n",
            ),
            Edit(
                SQLITE_WRITER, "        self._failed = False\n", "        self._failed = self._open = False\n"
            ),
        ),
        ("S1", "S7", "alarm"),
    ),
    Mutant(
        "ack-although-commit-failed",
        "A full disk at COMMIT is no fault of the batch; its commands were all in order.",
        (
            Edit(
                SQLITE_WRITER,
                "            self._connection.commit()\n        except BaseException:",
                "            try:\n"
                "                self._connection.commit()\n"
                "            except UnavailableError:\n"
                "                self._connection.rollback()\n"
                "        except BaseException:",
            ),
        ),
        ("S1", "S7", "alarm"),
    ),
    Mutant(
        "seq-outside-transaction",
        "A counter in memory saves reading the head; a number that was not used does no harm.",
        (
            Edit(
                SQLITE_COMMANDS,
                "    seq = loaded.head_seq + 1\n",
                "    seq = batch.taken[loaded.key] = max(loaded.head_seq, batch.taken.get(loaded.key, 0)) + 1\n",
            ),
            Edit(
                SQLITE_WRITER,
                "            batch = Batch(self._connection)\n",
                "            batch = Batch(self._connection)\n            batch.taken = self._taken\n",
            ),
            Edit(
                SQLITE_WRITER,
                "        self._failed = False\n",
                "        self._failed, self._taken = False, {}\n",
            ),
        ),
        ("S4", "S5"),
    ),
    Mutant(
        "dedup-by-cache",
        "A key is repeated within seconds or never, so the newest few are enough.",
        (
            Edit(
                MEMORY_LOG,
                "            self.by_client_id[sender_id, client_msg_id] = row.seq\n",
                "            self.by_client_id[sender_id, client_msg_id] = row.seq\n"
                "            if len(self.by_client_id) > 20:\n"
                "                del self.by_client_id[next(iter(self.by_client_id))]\n",
            ),
        ),
        ("S1", "S4", "S6", "S11"),
    ),
    Mutant(
        "conflict-not-noticed",
        "The digests have the same length whenever the key is known, so this must be the same message.",
        (
            Edit(
                RULES,
                "if command.payload_mac != mac_found:",
                "if len(command.payload_mac) != len(mac_found):",
            ),
        ),
        ("S2", "S11"),
    ),
    Mutant(
        "answer-recomputed",
        "The answer to a repeat is made now, so it says now.",
        (
            Edit(
                SQLITE_COMMANDS,
                "    return Appended(_own_entry(loaded, command, epoch, seq, server_ts, payload), True)",
                "    return Appended(_own_entry(loaded, command, epoch, seq, command.at_ms, payload), True)",
            ),
        ),
        ("S1", "S6", "S11"),
    ),
    Mutant(
        "answer-in-new-epoch",
        "Whatever is answered is answered under the present epoch.",
        (
            Edit(
                MEMORY,
                "            return base.Appended(log.entry(row, row.epoch), True)",
                "            return base.Appended(log.entry(row, log.epoch), True)",
            ),
            Edit(
                SQLITE_COMMANDS,
                "    return Appended(_own_entry(loaded, command, epoch, seq, server_ts, payload), True)",
                "    return Appended(_own_entry(loaded, command, loaded.epoch, seq, server_ts, payload), True)",
            ),
        ),
        ("S1", "S6", "S11"),
    ),
    Mutant(
        "read-cursor-falls",
        "The newest word of the user counts; he may have marked something unread.",
        (
            Edit(MEMORY, "        if command.up_to_seq > before:", "        if command.up_to_seq != before:"),
            Edit(
                SQLITE_COMMANDS,
                "    moved = command.up_to_seq > before",
                "    moved = command.up_to_seq != before",
            ),
        ),
        ("S15",),
    ),
    Mutant(
        "delivered-cursor-falls",
        "The user has what the device that spoke last has.",
        (
            Edit(
                MEMORY,
                "        cursors.delivered_seq = max(before, device.delivered_seq)",
                "        cursors.delivered_seq = device.delivered_seq",
            ),
            Edit(
                SQLITE_COMMANDS,
                "    moved = device.delivered_seq > before",
                "    moved = device.delivered_seq != before",
            ),
        ),
        ("S15", "alarm"),
    ),
    Mutant(
        "device-cursor-falls",
        "A device knows best what it holds.",
        (
            Edit(
                MEMORY,
                "        if command.up_to_seq > device.delivered_seq:",
                "        if command.up_to_seq != device.delivered_seq:",
            ),
            Edit(
                SQLITE_COMMANDS,
                "    if command.up_to_seq > device.delivered_seq:",
                "    if command.up_to_seq != device.delivered_seq:",
            ),
        ),
        ("S13", "S15", "alarm"),
    ),
    Mutant(
        "unread-counts-own",
        "Unread is what lies above the read cursor.",
        (
            Edit(
                MEMORY_READS,
                'row.kind == "USER" and row.recalled_by is None and row.sender_id != user_id',
                'row.kind == "USER" and row.recalled_by is None',
            ),
            Edit(SQLITE_READS, "AND e.kind = 'USER' AND e.sender_id <> ?2 AND", "AND e.kind = 'USER' AND"),
        ),
        ("S16",),
    ),
    Mutant(
        "audit-row-missing",
        "One call of the creator is one row of the audit.",
        (
            Edit(MEMORY, "        for user in added:\n", "        for user in added[:1]:\n"),
            Edit(
                SQLITE_MEMBERS,
                '        _audit(batch, loaded, command.at_ms, command.by, "ADDED", entry.seq, user)\n',
                '    _audit(batch, loaded, command.at_ms, command.by, "ADDED", entry.seq, added[0])\n',
            ),
        ),
        ("S24", "alarm"),
    ),
    Mutant(
        "late-joiner-sees-before",
        "Who is added should see what he was added for.",
        (
            Edit(MEMORY_LOG, "Interval(seq)]", "Interval(max(1, seq - 1))]"),
            Edit(
                SQLITE_MEMBERS,
                "[(loaded.key, user, seq, role) for",
                "[(loaded.key, user, max(1, seq - 1), role) for",
            ),
        ),
        ("S7", "S16", "S17", "S23"),
    ),
    Mutant(
        "left-sees-one-more",
        "Who left may see that he left.",
        (
            Edit(
                "chatkit.core.visibility",
                "min(interval.leave_seq - 1, head_seq)",
                "min(interval.leave_seq, head_seq)",
            ),
        ),
        ("S17", "S18"),
    ),
    Mutant(
        "refused-after-it-was-stored",
        "The row is made first: whoever is refused then has lost nothing.",
        (
            Edit(
                MEMORY,
                "        log.check_member(command.sender_id)\n        row = log.append(\n",
                "        row = log.append(\n",
            ),
            Edit(
                MEMORY,
                "            mac=command.payload_mac,\n        )\n        return base.Appended(",
                "            mac=command.payload_mac,\n        )\n"
                "        log.check_member(command.sender_id)\n        return base.Appended(",
            ),
        ),
        ("S2",),
    ),
    Mutant(
        "resume-token-lasts",
        "A resume token is good until it expires.",
        (
            Edit(
                MEMORY_LOG,
                "        if former is not None:\n            del self.tokens_by_hash[former]\n",
                "",
            ),
        ),
        ("S22",),
    ),
    Mutant(
        "write-without-membership",
        "Who has a membership is a member.",
        (
            Edit(
                MEMORY,
                "        log.check_member(command.sender_id)\n",
                "        if command.sender_id not in log.members:\n            raise rules.not_found()\n",
            ),
            Edit(
                SQLITE_COMMANDS,
                "    if not rules.is_current(batch.intervals(loaded.key, command.sender_id)):",
                "    if not batch.intervals(loaded.key, command.sender_id):",
            ),
        ),
        ("S17", "S19"),
    ),
    Mutant(
        "recall-leaves-body",
        "The RECALL entry tells everybody to hide the message.",
        (
            Edit(
                MEMORY,
                "        row.recalled_by, row.payload = made.seq, RECALLED\n",
                "        row.recalled_by = made.seq\n",
            ),
            Edit(
                SQLITE_READS, "        payload if recalled_by is None else RECALLED,\n", "        payload,\n"
            ),
            Edit(SQLITE_COMMANDS, "    batch.connection.change(UPDATE_BLANK, (loaded.key, seq))\n", ""),
        ),
        ("S20",),
    ),
    Mutant(
        "recall-by-anyone",
        "Who sees a message may ask for its recall; apps show the button to the author only.",
        (
            Edit(
                RULES,
                "    if sender_id != command.user_id:\n"
                '        raise ForbiddenError("only the author can recall a message")\n',
                "",
            ),
        ),
        ("S10", "S20"),
    ),
    Mutant(
        "recall-after-leaving",
        "One's own message stays one's own.",
        (
            Edit(
                RULES,
                "    if not is_current(intervals) or not is_visible(intervals, seq):",
                "    if not is_visible(intervals, seq):",
            ),
        ),
        ("S19",),
    ),
    Mutant(
        "recall-window-ignored",
        "The window is given in seconds.",
        (
            Edit(
                RULES,
                "    if command.at_ms - server_ts > command.window_ms:",
                "    if command.at_ms - server_ts > command.window_ms * 1000:",
            ),
        ),
        ("S20",),
    ),
    Mutant(
        "recall-twice-two-entries",
        "A repeat follows at once, so it finds the recall at the head.",
        (
            Edit(
                MEMORY,
                "        if row.recalled_by is not None and row.sender_id == command.user_id:\n",
                "        if row.recalled_by == log.head_seq and row.sender_id == command.user_id:\n",
            ),
        ),
        ("S10", "S20"),
    ),
    Mutant(
        "page-more-wrong",
        "There is more if the page is full.",
        (
            Edit(
                MEMORY_READS,
                "        more = up_to_seq < log.head_seq\n",
                "        more = len(entries) >= limit\n",
            ),
            Edit(
                SQLITE_READS,
                "tuple(entries), up_to_seq, up_to_seq < loaded.head_seq\n",
                "tuple(entries), up_to_seq, len(entries) >= limit\n",
            ),
        ),
        ("S7",),
    ),
    Mutant(
        "page-upto-wrong",
        "A page covers what was asked for.",
        (
            Edit(
                MEMORY_READS,
                "        up_to_seq = rules.page_end(intervals, last_seq, log.head_seq)\n",
                "        up_to_seq = rules.page_end(intervals, ranges[-1][1] if ranges else None, log.head_seq)\n",
            ),
            Edit(
                SQLITE_READS,
                "    up_to_seq = rules.page_end(intervals, last, loaded.head_seq)\n",
                "    up_to_seq = rules.page_end(intervals, ranges[-1][1] if ranges else None, loaded.head_seq)\n",
            ),
        ),
        ("S7",),
    ),
    Mutant(
        "page-limit-per-membership",
        "Each membership is paged like the first.",
        (Edit(RULES, "        left -= last - first + 1\n", ""),),
        ("S7", "S23"),
    ),
    Mutant(
        "key-in-pages-of-others",
        "The page is for somebody who wrote in it.",
        (
            Edit(
                MEMORY_LOG,
                "        own = reader_id is None or reader_id == row.sender_id\n",
                "        own = reader_id is None or reader_id in self.members\n",
            ),
            Edit(
                SQLITE_READS,
                "        client_msg_id if reader_id is None or sender_id == reader_id else None,\n",
                "        client_msg_id,\n",
            ),
        ),
        ("S17",),
    ),
    Mutant(
        "device-cursor-of-the-user",
        "What the user has, his devices have.",
        (
            Edit(
                MEMORY_READS,
                "cursors.delivered_seq if device_id is None else device.delivered_seq if device else 0",
                "max(cursors.delivered_seq, device.delivered_seq if device else 0)",
            ),
            Edit(
                SQLITE_READS,
                "    _HEAD.format(delivered=_DEVICE_DELIVERED.format(place=2), source=_OF_USER)\n",
                '    _HEAD.format(delivered="ifnull(u.delivered_seq, ?2)", source=_OF_USER)\n',
            ),
        ),
        ("S13", "S14", "alarm"),
    ),
)
