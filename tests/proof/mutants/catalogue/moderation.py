"""Planted bugs in moderation: in what a verdict does, and in the stage that asks for it."""

from __future__ import annotations

from ..plant import Edit, Mutant

LOG = "chatkit.core.log.moderation"
STAGE = "chatkit.server.moderation.stage"
LANES = "chatkit.server.moderation.lanes"
ASKING = "chatkit.server.moderation.asking"

MUTANTS = (
    Mutant(
        "held-released-out-of-order",
        "Whatever may be stored is stored; the one that is still looked at comes when it comes.",
        (
            Edit(
                LOG,
                '        if row.state == "REVIEW":\n            break\n',
                '        if row.state == "REVIEW":\n            continue\n',
            ),
        ),
        ("S9",),
    ),
    Mutant(
        "allowed-overtakes-held",
        "The moderator allowed it, so it is stored.",
        (
            Edit(
                LOG,
                "    if _queue(state, conversation, command.sender_id):\n        return _hold",
                "    if False:\n        return _hold",
            ),
        ),
        ("S9",),
    ),
    Mutant(
        "rewrite-changes-the-mac",
        "The digest is that of what is in the row.",
        (
            Edit(
                LOG,
                "    kept = (command.sender_id, command.client_msg_id, command.payload_mac, _payload(command))\n",
                "    payload = _payload(command)\n"
                "    mac = command.payload_mac if payload is command.payload else payload[:16]\n"
                "    kept = (command.sender_id, command.client_msg_id, mac, payload)\n",
            ),
        ),
        ("S11", "S2"),
    ),
    Mutant(
        "refused-is-forgotten",
        "A message that is not stored needs no row.",
        (
            Edit(
                LOG,
                '    _put(state, conversation, _row(state, conversation, command, "REFUSED")._replace(payload=b""))\n',
                "",
            ),
        ),
        ("S26", "S2"),
    ),
    Mutant(
        "refused-still-stored",
        "A refusal is a word to the sender.",
        (
            Edit(
                LOG,
                "    return Refused(ContentRefusedError(command.verdict.reason))\n",
                "    _allow(state, conversation, command)\n"
                "    return Refused(ContentRefusedError(command.verdict.reason))\n",
            ),
        ),
        ("S26", "S2"),
    ),
    Mutant(
        "held-is-stored",
        "It is reviewed as soon as somebody finds the time.",
        (Edit(LOG, '    "HOLD": _review_first,\n', '    "HOLD": _allow,\n'),),
        ("S26",),
    ),
    Mutant(
        "moderated-again-on-resend",
        "The moderator is quick, and the store knows the key.",
        (Edit(STAGE, "if is_new and not it.gone]", "if not it.gone]"),),
        ("S26",),
    ),
    Mutant(
        "closed-lets-through",
        "A moderator that is down is no reason to lose messages.",
        (Edit(ASKING, 'self.allowed if config.on_failure == "open" else self.unasked', "self.allowed"),),
        ("S26",),
    ),
    Mutant(
        "refusal-leaves-what-is-with-the-moderator",
        "What is with the moderator is looked at when it comes back.",
        (
            Edit(STAGE, "type(outcome) is Refused and outcome.error.retryable and", "False and"),
            Edit(STAGE, "        if pending.held_back:\n", "        if False:\n"),
        ),
        ("S9",),
    ),
    Mutant(
        "a-lane-in-two-batches",
        "Batches are as full as they can be.",
        (
            Edit(
                LANES,
                "        if not lane.asked:\n            self._ready[key] = None\n",
                "        self._ready[key] = None\n",
            ),
            Edit(
                LANES,
                "                lane.asked.append(lane.waiting.popleft())\n"
                "            if not lane.asked:\n"
                "                break\n"
                "            batch += lane.asked\n",
                "                batch.append(lane.waiting.popleft())\n",
            ),
            Edit(
                LANES,
                "            lane = self._lanes[key]\n            lane.asked = []\n",
                "            lane = self._lanes.setdefault(key, _Lane())\n            lane.asked = []\n",
            ),
        ),
        ("S9", "L5", "alarm"),
    ),
)
