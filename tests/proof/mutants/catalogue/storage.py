"""Bugs in what commands do and in the stores: transactions, keys, memberships, cursors, pages, recalls, the audit.

Reads are in both stores, so they are broken in both.
"""

from __future__ import annotations

from ..plant import Edit, Mutant

AUDIT = "chatkit.core.log.audit"
CURSORS = "chatkit.core.log.cursors"
LOG_READS = "chatkit.core.log.reads"
MARKS = "chatkit.core.log.marks"
MEMBERS = "chatkit.core.log.members"
MESSAGES = "chatkit.core.log.messages"
REFERENCES = "chatkit.core.log.references"
TITLES = "chatkit.core.log.titles"
RULES = "chatkit.core.log.rules"
SESSIONS = "chatkit.core.log.sessions"
STATE = "chatkit.core.log.state"
AUDIENCE = "chatkit.server.live.audience"
MEMORY_READS = "chatkit.storage.memory.reads"
MEMORY_REFERENCES = "chatkit.storage.memory.references"
MEMORY_UNREAD = "chatkit.storage.memory.unread"
MEMORY_WRITE = "chatkit.storage.memory.write"
SQLITE_OPENING = "chatkit.storage.sqlite.opening"
SQLITE_READS = "chatkit.storage.sqlite.reads"
SQLITE_WRITE = "chatkit.storage.sqlite.write"
SQLITE_WRITER = "chatkit.storage.sqlite.writer"
TRANSACTION = "chatkit.storage.transaction"
VERIFY_RULES = "chatkit.storage.verify_rules"

MUTANTS = (
    Mutant(
        "ack-before-commit",
        "The next transaction commits what the last one wrote: one fsync serves two batches.",
        (
            Edit(
                SQLITE_WRITER,
                "        hot, self._hot = self._hot, None  #",
                "        if self._open:\n"
                "            self._connection.commit()\n"
                "            self._open = False\n"
                "        hot, self._hot = self._hot, None  #",
            ),
            Edit(
                SQLITE_WRITER,
                "assume_new=assume_new)\n            self._connection.commit()\n",
                "assume_new=assume_new)\n            self._open = True\n",
            ),
            Edit(
                SQLITE_WRITER, "        self._failed = False\n", "        self._failed = self._open = False\n"
            ),
        ),
        # S13: what is lost may be a confirmation, and that the outbox closed with it
        ("S1", "S7", "S13", "alarm"),
    ),
    Mutant(
        "ack-although-commit-failed",
        "A full disk at COMMIT is no fault of the batch; its commands were all in order.",
        (
            Edit(
                SQLITE_WRITER,
                "assume_new=assume_new)\n            self._connection.commit()\n",
                "assume_new=assume_new)\n"
                "            try:\n"
                "                self._connection.commit()\n"
                "            except UnavailableError:\n"
                "                self._connection.rollback()\n",
            ),
        ),
        ("S1", "S7", "S15", "alarm"),  # S15: what was not stored may be a cursor
    ),
    Mutant(
        "seq-outside-transaction",
        "A counter in memory saves reading the head; a number that was not used does no harm.",
        (
            Edit(
                MESSAGES,
                "    key, seq = conversation.key, conversation.head_seq + 1\n",
                "    key, taken = conversation.key, getattr(state, 'taken', {})\n"
                "    seq = taken[key] = max(conversation.head_seq, taken.get(key, 0)) + 1\n",
            ),
            Edit(
                TRANSACTION,
                "    keys, state = keys_of(commands, assume_new=assume_new), State()\n",
                "    keys, state = keys_of(commands, assume_new=assume_new), State()\n"
                "    state.taken = vars(next(iter(vars(tables).values()))).setdefault('taken', {})\n",
            ),
            # the product refuses to open a log with a hole, so its own checks are put aside: the checker is to judge
            Edit(
                SQLITE_OPENING,
                "        if held != (wanted := min(head_seq, TAIL_MAX)):\n",
                "        if False:\n",
            ),
            Edit(VERIFY_RULES, "HAVING max(head) <> sum(entries) OR max", "HAVING max"),
        ),
        ("S4", "S5"),
    ),
    Mutant(
        "dedup-by-cache",
        "A key is repeated within seconds or never, so the newest few are enough.",
        (
            Edit(
                MEMORY_WRITE,
                "            conversation.by_client_id[row.sender_id, row.client_msg_id] = row.seq\n",
                "            conversation.by_client_id[row.sender_id, row.client_msg_id] = row.seq\n"
                "            if len(conversation.by_client_id) > 20:\n"
                "                del conversation.by_client_id[next(iter(conversation.by_client_id))]\n",
            ),
        ),
        ("S1", "S4", "S6", "S11"),
    ),
    Mutant(
        "repeat-not-noticed",
        "The unique key keeps a message from being there twice, so nothing more need be done about it.",
        (
            Edit(
                SQLITE_WRITE,
                "    if insert(connection, INSERT_MESSAGE, changes.messages, blobs=2) < len(changes.messages):\n"
                "        raise MayBeRepeatError\n",
                "    insert(connection, INSERT_MESSAGE, changes.messages, blobs=2)\n",
            ),
        ),
        ("S1", "S4", "S5", "S6", "S11", "alarm"),
    ),
    Mutant(
        "memory-outlives-rollback",
        "What is in memory was right before the transaction, and a transaction that fails changes nothing.",
        (Edit(SQLITE_WRITER, "        hot, self._hot = self._hot, None  #", "        hot = self._hot  #"),),
        ("S1", "S4", "S5", "S6", "alarm"),
    ),
    Mutant(
        "memory-outlives-members",
        "Who is in a conversation changes so rarely that memory can be trusted.",
        (
            Edit(
                SQLITE_WRITER,
                "        self._hot = tables.kept()\n",
                "        self._hot = tables.kept() or hot\n",
            ),
        ),
        # S13: who left, and is remembered as a member, keeps the outbox open
        ("S1", "S5", "S6", "S13", "S17", "S19", "alarm"),
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
                MESSAGES,
                "    return Appended(entry_of(conversation, known, RECALLED",
                "    known = known._replace(server_ts=command.at_ms)\n"
                "    return Appended(entry_of(conversation, known, RECALLED",
            ),
        ),
        ("S1", "S6", "S11"),
    ),
    Mutant(
        "answer-in-new-epoch",
        "Whatever is answered is answered under the present epoch.",
        (
            Edit(
                MESSAGES,
                "    return Appended(entry_of(conversation, known, RECALLED",
                "    known = known._replace(epoch=conversation.epoch)\n"
                "    return Appended(entry_of(conversation, known, RECALLED",
            ),
        ),
        ("S1", "S6", "S11"),
    ),
    Mutant(
        "read-cursor-falls",
        "The newest word of the user counts; he may have marked something unread.",
        (Edit(CURSORS, "    if command.up_to_seq > before:", "    if command.up_to_seq != before:"),),
        ("S15",),
    ),
    Mutant(
        "delivered-cursor-falls",
        "The user has what the device that spoke last has.",
        (Edit(CURSORS, "    if device.delivered_seq > before:", "    if device.delivered_seq != before:"),),
        ("S15", "alarm"),
    ),
    Mutant(
        "device-cursor-falls",
        "A device knows best what it holds.",
        (
            Edit(
                CURSORS,
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
                MEMORY_UNREAD,
                'row.kind == "USER" and row.seq not in log.recalled and row.sender_id != user_id',
                'row.kind == "USER" and row.seq not in log.recalled',
            ),
            Edit(
                SQLITE_READS,
                "AND e.kind = 'USER' AND e.sender_id <> k.user_id AND",
                "AND e.kind = 'USER' AND",
            ),
        ),
        ("S16",),
    ),
    Mutant(
        "audit-row-missing",
        "One call of the creator is one row of the audit.",
        (
            Edit(
                MEMBERS,
                '        note(state, conversation, command.at_ms, command.by, "ADDED", user_id)\n',
                "        if user_id == added[0]:\n"
                '            note(state, conversation, command.at_ms, command.by, "ADDED", user_id)\n',
            ),
        ),
        ("S24", "alarm"),
    ),
    Mutant(
        "audit-chain-of-one-link",
        "All acts of a batch follow on the same head.",
        (
            Edit(
                AUDIT,
                "        heads[chain] = Head(row.number, row.digest)\n",
                "        heads[chain] = Head(row.number, heads.get(chain, START).digest)\n",
            ),
        ),
        ("S24", "alarm"),
    ),
    Mutant(
        "late-joiner-sees-before",
        "Who is added should see what he was added for.",
        (
            Edit(
                STATE,
                "        self.intervals.append(Interval(seq, None, first_seq if first_seq < seq else None))\n",
                "        self.intervals.append(Interval(max(1, seq - 1)))\n",
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
                MESSAGES,
                "    try:\n"
                "        check_may_write(state, conversation, sender_id, command.policy, command.at_ms)\n"
                "        if meaning is not None:\n"
                "            check_meaning(state, conversation, sender_id, meaning, command.policy, command.at_ms)\n"
                "        if command.blobs and not is_plain:\n"
                "            blobs.check_named(state, command, command.payload)\n"
                "    except RefusedError:\n"
                "        if name not in state.sent:\n"
                "            raise MayBeRepeatError from None\n"
                "        raise\n",
                "",
            ),
            Edit(
                MESSAGES,
                "    state.sent[name] = row\n",
                "    state.sent[name] = row\n"
                "    check_may_write(state, conversation, command.sender_id, command.policy, command.at_ms)\n",
            ),
        ),
        ("S2",),
    ),
    Mutant(
        "resume-token-lasts",
        "A resume token is good until it expires.",
        (
            Edit(MEMORY_WRITE, "        _drop_token(tables, token[:2])\n", ""),
            Edit(
                SESSIONS,
                " or token.token_hash != command.used_hash or token.device_id != command.device_id:",
                " or token.device_id != command.device_id:",
            ),
        ),
        ("S22",),
    ),
    Mutant(
        "write-without-membership",
        "Who has a membership is a member.",
        (
            Edit(
                MESSAGES,
                "    if not intervals or intervals[-1].leave_seq is not None:\n        raise rules.not_found()\n",
                "    if not intervals:\n        raise rules.not_found()\n",
            ),
        ),
        ("S17", "S19"),
    ),
    Mutant(
        "recall-leaves-body",
        "The RECALL entry tells everybody to hide the message.",
        (
            Edit(
                MEMORY_READS,
                "    return RECALLED if row.seq in log.recalled else row.payload",
                "    return row.payload",
            ),
            Edit(MEMORY_WRITE, "row._replace(payload=bytes(len(row.payload)))", "row"),
            Edit(
                SQLITE_READS, "        payload if recalled_by is None else RECALLED,\n", "        payload,\n"
            ),
            Edit(
                SQLITE_WRITE,
                "    _many(connection, UPDATE_BLANK, [row[:2] for row in changes.recalls])\n",
                "",
            ),
        ),
        ("S20",),
    ),
    Mutant(
        "recall-leaves-edits",
        "The message is gone, and who reads on finds the RECALL entry.",
        (
            Edit(
                MESSAGES,
                "        state.recalls.append((key, recalled_seq, made.seq))\n",
                "        if recalled_seq == seq:\n"
                "            state.recalls.append((key, recalled_seq, made.seq))\n",
            ),
        ),
        ("S20",),
    ),
    Mutant(
        "edit-shown-to-who-was-away",
        "The latest edit counts.",
        (Edit(MARKS, " and is_visible(intervals[key], edit_seq):", ":"),),
        ("S27",),
    ),
    Mutant(
        "reaction-never-ends",
        "A reaction that is taken back is an entry of its own.",
        (
            Edit(
                REFERENCES,
                "        state.changed_reactions[*place, sender_id, reference.reaction] = None if is_there else seq\n",
                "        if not is_there:\n"
                "            state.changed_reactions[*place, sender_id, reference.reaction] = seq\n",
            ),
        ),
        ("S27",),
    ),
    Mutant(
        "cut-off-without-its-last-part",
        "What is under way at the end is not told to anybody.",
        (
            Edit(
                MEMORY_REFERENCES,
                '"".join(texts) if parts else',
                '"".join(texts[:-1] or texts) if parts else',
            ),
        ),
        ("S28",),
    ),
    Mutant(
        "parts-to-every-member",
        "Whoever is here is a member.",
        (
            Edit(
                AUDIENCE,
                "        return [\n"
                "            session for session, known_seq in self.sessions.items()"
                " if known_seq < seq or session in shown\n"
                "        ]\n",
                "        return list(self.sessions)\n",
            ),
        ),
        ("S28",),
    ),
    Mutant(
        "recall-leaves-mentions",
        "Who was named was named, whatever became of the words.",
        (
            Edit(
                MEMORY_REFERENCES,
                "        log.mentions = {it for it in log.mentions if it[1] != seq}\n",
                "",
            ),
            Edit(
                "chatkit.storage.sqlite.references",
                "(DELETE_REACTIONS, DELETE_MENTIONS, DELETE_PIN)",
                "(DELETE_REACTIONS, DELETE_PIN)",
            ),
        ),
        ("S29",),
    ),
    Mutant(
        "pin-is-for-ever",
        "Unpinning is an entry of its own.",
        (
            Edit(
                REFERENCES,
                "        state.changed_pins[place] = None if reference.removed else seq\n",
                "        if not reference.removed:\n            state.changed_pins[place] = seq\n",
            ),
        ),
        ("S29",),
    ),
    Mutant(
        "an-empty-title-is-none",
        "Where nothing is said nothing changes.",
        (
            Edit(
                TITLES,
                "    if isinstance(titled.description, str):\n",
                "    if isinstance(titled.description, str) and titled.description:\n",
            ),
        ),
        ("S29",),
    ),
    Mutant(
        "recall-by-anyone",
        "Who sees a message may ask for its recall; apps show the button to the author only.",
        (
            Edit(
                "chatkit.core.log.messages",
                '        check_may(state, conversation, command, "RECALL_MESSAGES", role)\n',
                "        pass\n",
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
                "    return is_current(intervals) and is_visible(readable(intervals), seq)",
                "    return is_visible(readable(intervals), seq)",
            ),
        ),
        # S17: a refusal with another reason than NOT_FOUND tells that there is such a conversation
        ("S17", "S19"),
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
                MESSAGES,
                "    first = _first_recall(state, key, seq)\n",
                "    first = _first_recall(state, key, seq)\n"
                "    first = first if first is not None and first.seq == conversation.head_seq else None\n",
            ),
            Edit(SQLITE_WRITE, '"INSERT INTO recall', '"INSERT OR REPLACE INTO recall'),
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
                "    more = up_to_seq < loaded.head_seq\n",
                "    more = len(entries) >= limit\n",
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
        # S10: what was passed over comes again, behind what is after it; S23: the page says that it covers that
        ("S7", "S10", "S23"),
    ),
    Mutant(
        "page-limit-per-membership",
        "Each membership is paged like the first.",
        (Edit(LOG_READS, "        left -= last - first + 1\n", ""),),
        ("S7", "S23"),
    ),
    Mutant(
        "key-in-pages-of-others",
        "The page is for somebody who wrote in it.",
        (
            Edit(
                MEMORY_READS,
                "    own = reader_id is None or reader_id == row.sender_id\n",
                "    own = reader_id is None or reader_id in log.members\n",
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
                "cursors.device_seq if device is None else device.delivered_seq",
                "max(cursors.delivered_seq, device.delivered_seq if device else 0)",
            ),
            Edit(
                SQLITE_READS,
                "    _HEAD.format(delivered=_DEVICE_DELIVERED.format(place=2), source=_OF_USER, listed=_MUTED)\n",
                '    _HEAD.format(delivered="ifnull(u.delivered_seq, ?2)", source=_OF_USER, listed=_MUTED)\n',
            ),
        ),
        ("S13", "S14", "alarm"),
    ),
    Mutant(
        "silence-is-for-the-app",
        "Apps grey out the box of who is silenced.",
        (
            Edit(
                MESSAGES,
                "        rules.check_not_silenced(membership.silenced_until_ms, at_ms)\n",
                "        pass\n",
            ),
        ),
        ("S19",),
    ),
    Mutant(
        "banned-is-added",
        "Whoever adds somebody sees the list of bans.",
        (
            Edit(
                MEMBERS,
                "        if command.by is not None and state.is_banned(conversation, user_id):\n",
                "        if command.by is None and not user_id:\n",
            ),
        ),
        ("S19",),
    ),
    Mutant(
        "history-is-delivered",
        "Who may read it may as well have it.",
        (
            Edit(MEMORY_READS, "if history else log.members[user_id]", "if True else log.members[user_id]"),
            Edit(SQLITE_READS, "SELECT_READABLE if history else SELECT_MEMBERSHIPS", "SELECT_READABLE"),
        ),
        ("S23",),
    ),
    Mutant(
        "ban-leaves-no-trace",
        "The removal is audited.",
        (
            Edit(
                "chatkit.core.log.standing",
                '        note(state, conversation, command.at_ms, command.by, "MEMBER_BANNED", command.user_id)\n',
                "        pass\n",
            ),
        ),
        ("S19", "S24"),
    ),
)
