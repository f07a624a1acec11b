"""Bugs in the server: order of sends, who is told what, sessions, the drain, nodes."""

from __future__ import annotations

from ..plant import Edit, Mutant

ENGINE = "chatkit.server.engine"
FOLLOWER = "chatkit.server.follower"
HUB = "chatkit.server.hub"
LOGIN = "chatkit.server.login"
PUBLISHER = "chatkit.server.publisher"
RECEIPTS = "chatkit.server.receipts"
RELAY = "chatkit.server.relay"
SERVER = "chatkit.server.server"
SESSION = "chatkit.server.session"
SYNC = "chatkit.server.sync"

MUTANTS = (
    Mutant(
        "refusal-lets-later-through",
        "Each message is refused or taken for itself.",
        (
            Edit(
                PUBLISHER,
                "        session.refused[command.conversation_id] = (draft.order, command.client_msg_id)\n",
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
                HUB,
                "                del audience.sessions[session]\n                session.forget(conversation_id)\n",
                "",
            ),
        ),
        ("S18",),
    ),
    Mutant(
        "own-push-missing-to-other-devices",
        "The sender knows what he wrote.",
        (
            Edit(
                HUB,
                "            if session is origin:\n",
                "            if session is origin or session.user_id == sender_id:\n",
            ),
        ),
        ("L1", "L2", "alarm"),
    ),
    Mutant(
        "key-shown-to-others",
        "One encoding for all.",
        (
            Edit(
                HUB,
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
                HUB,
                "        session.offered[conversation_id] = min(session.offered[conversation_id], head_seq)\n"
                "        session.mark_behind(conversation_id)\n",
                "        session.offered[conversation_id] = min(session.offered[conversation_id], head_seq)\n",
            ),
        ),
        ("L1", "L2", "alarm"),
    ),
    Mutant(
        "work-cancelled-before-drain",
        "The host's cancellation ends the server's work, too.",
        (
            Edit(
                SERVER,
                "CancelScope(shield=True):\n            async with anyio.create_task_group() as tasks:",
                "CancelScope():\n            async with anyio.create_task_group() as tasks:",
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
                "client_msg_id=UNSET if client_msg_id is None else client_msg_id,",
                "client_msg_id=client_msg_id,",
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
                "            if joined and event.conversation_id not in session.offered:\n"
                '                raise NotFoundError("no such conversation")  # left while the page was read\n',
                "",
            ),
        ),
        ("S18",),
    ),
    Mutant(
        "hint-out-of-turn",
        "An entry from the bus is newer than all before.",
        (
            Edit(
                HUB,
                "        if entry.seq != audience.position + 1 or entry.epoch != audience.epoch:\n",
                "        if entry.epoch != audience.epoch:\n",
            ),
        ),
        ("S18", "L1", "L2", "alarm"),
    ),
    Mutant(
        "lost-hints-not-asked-for",
        "What the bus lost comes with the next hint.",
        (
            Edit(
                HUB,
                "            if head_seq > audience.position:\n                further.append(conversation_id)\n",
                "",
            ),
        ),
        ("L1", "L2", "alarm"),
    ),
    Mutant(
        "joined-elsewhere-unheard",
        "Who joins is told by the node that let him in.",
        (
            Edit(
                FOLLOWER,
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
                "audience.furthest(user_id, advanced.delivered_seq, advanced.read_seq)",
                "advanced.delivered_seq, advanced.read_seq",
            ),
        ),
        ("S15",),
    ),
)
