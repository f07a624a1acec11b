"""What a whole client is put through: frames of a server, calls of an app, time that goes by, lines that break."""

from __future__ import annotations

from typing import Any

Step = dict[str, Any]

ME, OTHER, CHAT = "u-1", "u-2", "c-1"


def frame(*events: Step) -> Step:
    return {"do": "server", "events": list(events)}


def advance(ms: int) -> Step:
    return {"do": "advance", "ms": ms}


def send(key: str) -> Step:
    return {"do": "send", "conversationId": CHAT, "clientMsgId": key, "text": f"text {key}"}


def write(text: str) -> Step:
    return {"do": "write", "text": text}


def entry(seq: int, **fields: Any) -> Step:
    epoch = fields.get("epoch", "e")
    shared = {"conversationId": CHAT, "epoch": epoch, "messageId": f"m-{epoch}-{seq}", "seq": seq}
    return {
        **shared,
        "senderId": OTHER,
        "serverTs": seq,
        "payload": {"type": "TEXT", "text": f"t{seq}"},
        **fields,
    }


def own(seq: int, key: str) -> Step:
    return entry(seq, senderId=ME, clientMsgId=key, payload={"type": "TEXT", "text": f"text {key}"})


def push(seq: int, **fields: Any) -> Step:
    return {"event": "NEW_MSG", **entry(seq, **fields)}


def recall(seq: int, target: int) -> Step:
    return push(seq, payload={"type": "RECALL", "messageId": f"m-e-{target}", "seq": target, "by": OTHER})


def text(*mentions: str) -> Step:
    return {"type": "TEXT", "text": "words", "mentions": list(mentions)}


def edit(seq: int, *mentions: str) -> Step:
    mentioning = {"mentions": list(mentions)} if mentions else {}
    payload = {"type": "TEXT", "text": "other words", **mentioning}
    return {"type": "EDIT", "messageId": f"m-e-{seq}", "seq": seq, "payload": payload}


def reaction(seq: int, **removed: bool) -> Step:
    return {"type": "REACTION", "messageId": f"m-e-{seq}", "seq": seq, "reaction": "+", **removed}


def ack(key: str, seq: int) -> Step:
    shared = {"conversationId": CHAT, "epoch": "e", "messageId": f"m-e-{seq}", "seq": seq, "serverTs": seq}
    return {"event": "MSG_ACK", **shared, "clientMsgId": key, "status": "SENT"}


def refusal(key: str, code: str, *, retryable: bool, **fields: Any) -> Step:
    shared = {"conversationId": CHAT, "clientMsgId": key, "code": code, "message": "no"}
    return {"event": "ERROR", **shared, "retryable": retryable, **fields}


def page(up_to_seq: int, *entries: Step, head_seq: int | None = None, epoch: str = "e") -> Step:
    """The answer to the newest SYNC."""
    head_seq = up_to_seq if head_seq is None else head_seq
    shared = {"conversationId": CHAT, "epoch": epoch, "headSeq": head_seq, "upToSeq": up_to_seq}
    return {
        "event": "SYNC_PAGE",
        **shared,
        "messages": list(entries),
        "more": up_to_seq < head_seq,
        "ref": "of the newest SYNC",
    }


def connect(head_seq: int, *, epoch: str = "e") -> Step:
    """A connection is made, and all that a login brings comes in one frame."""
    cursors = {"deliveredSeq": 0, "readSeq": 0, "othersDeliveredSeq": 0, "othersReadSeq": 0}
    head = {
        "conversationId": CHAT,
        "type": "GROUP",
        "epoch": epoch,
        "headSeq": head_seq,
        "firstSeq": 1,
        **cursors,
    }
    return {"do": "connect", "events": [{"event": "HEADS", "conversations": [head], "more": False}]}


PART = {"conversationId": CHAT, "ref": "of the newest STREAM_PART"}


def part_ack(part: int) -> Step:
    return {**PART, "event": "STREAM_ACK", "messageId": "m-e-1", "seq": 1, "part": part}


BROKEN = {"do": "break"}
LIST = {"do": "list"}
HELD_BY_A_MODERATOR = {"retryable": True, "retryAfterMs": 10_000}
NOT_NOW = {"retryable": True, "retryAfterMs": 400}

CLIENT_SCRIPTS: dict[str, list[Step]] = {
    "own messages from another device are messages": [
        connect(0),
        frame({"event": "NEW_MSG", **own(1, "of another device")}),
        advance(60),
    ],
    "what was missed is pulled, told in order, and confirmed after a moment": [
        connect(2),
        frame(page(2, entry(1), entry(2))),
        advance(60),
    ],
    "a hole waits a little, then is pulled": [
        connect(1),
        frame(page(1, entry(1))),
        frame(push(3)),
        advance(150),
        advance(100),
        frame(page(3, entry(2), entry(3))),
        advance(60),
    ],
    "a push in time spares that": [
        connect(1),
        frame(page(1, entry(1))),
        frame(push(3)),
        advance(100),
        frame(push(2)),
        advance(300),
    ],
    "sent, answered, and seen again": [
        connect(0),
        send("a"),
        send("b"),
        frame(ack("a", 1)),
        frame(push(2), ack("b", 3)),
        frame({"event": "NEW_MSG", **own(3, "b")}),
        advance(60),
    ],
    "what is confirmed rides along with what is sent": [connect(0), frame(push(1)), send("a"), advance(60)],
    "what was read is said, and what is delivered with it": [
        connect(0),
        frame(push(1), push(2)),
        {"do": "markRead", "conversationId": CHAT, "upToSeq": 2},
        advance(60),
    ],
    "a cut leaves nothing behind: unanswered sends go again, and what the log shows does not": [
        connect(0),
        send("a"),
        send("b"),
        BROKEN,
        send("c"),
        connect(1),
        frame(page(1, own(1, "a"))),
        frame(ack("a", 1), ack("b", 2), ack("c", 3)),
        advance(60),
    ],
    "refused for now, then seen in the log": [
        connect(0),
        send("a"),
        send("b"),
        frame(refusal("a", "OVERLOADED", **NOT_NOW)),
        frame({"event": "NEW_MSG", **own(1, "a")}, refusal("b", "OVERLOADED", **NOT_NOW)),
        advance(2_000),
        frame(ack("a", 1), ack("b", 2)),
        advance(60),
    ],
    "refused for good": [
        connect(0),
        send("a"),
        send("b"),
        frame(refusal("a", "FORBIDDEN", retryable=False), ack("b", 1)),
        advance(60),
    ],
    "held for review, asked about, and stored": [
        connect(0),
        send("a"),
        send("b"),
        frame(refusal("a", "HELD", **HELD_BY_A_MODERATOR), ack("b", 1)),
        advance(9_000),
        advance(7_000),
        frame(refusal("a", "HELD", **HELD_BY_A_MODERATOR)),
        frame(ack("a", 2)),
        advance(60),
    ],
    "held for review, and refused: word of it answers no send": [
        connect(0),
        send("a"),
        frame(refusal("a", "HELD", **HELD_BY_A_MODERATOR)),
        frame(refusal("a", "CONTENT_REFUSED", retryable=False, reason="REVIEWED")),
        send("b"),
        frame(ack("b", 1)),
        advance(20_000),
    ],
    "a recall that comes before what it names": [
        connect(0),
        frame(recall(3, 2)),
        frame(push(1), push(2)),
        advance(60),
    ],
    "BEHIND is pulled at once": [
        connect(0),
        frame({"event": "BEHIND", "conversationId": CHAT, "epoch": "e", "headSeq": 2}),
        frame(page(2, entry(2))),
        advance(60),
    ],
    "events and payloads of a newer server: one is ignored, the other keeps its place": [
        connect(0),
        frame(
            {"event": "OF_TOMORROW", "x": 1},
            push(1, payload={"type": "HOLOGRAM", "fallbackText": "old eyes"}),
        ),
        advance(60),
    ],
    "what is said of a message: edits and reactions, and a recall that takes the edit along": [
        connect(0),
        frame(
            push(1),
            push(2, payload=edit(1)),
            push(3, payload=reaction(1)),
            push(4, payload=reaction(1, removed=True)),
        ),
        advance(60),
        frame(push(5, payload={"type": "RECALL", "messageId": "m-e-1", "seq": 1, "by": OTHER, "edits": [2]})),
        advance(60),
    ],
    "a list: the last message as it reads now, and what of others is unread": [
        connect(3),
        frame(page(3, entry(1), entry(2), own(3, "a"))),
        LIST,
        frame(push(4, payload={"type": "HOLOGRAM", "fallbackText": "counts as well"}), push(5)),
        LIST,
        frame(push(6, payload=edit(5)), push(7, payload=reaction(5))),
        LIST,
        {"do": "markRead", "conversationId": CHAT, "upToSeq": 4},
        LIST,
        frame(recall(8, 5)),
        LIST,
        frame(
            {"event": "RECEIPT", "conversationId": CHAT, "userId": ME, "deliveredSeq": 8, "readSeq": 8},
            push(9),
        ),
        LIST,
    ],
    "a list: who is mentioned, by a message, by everybody's, and by the first edit that does": [
        connect(0),
        frame(push(1, payload=text("u-1", "u-3")), push(2, payload=text("u-3")), push(3, payload=text("*"))),
        LIST,
        frame(
            push(4, payload=edit(1, "u-1")), push(5, payload=edit(2, "u-1")), push(6, payload=edit(2, "u-1"))
        ),
        LIST,
        frame(push(7, payload={"type": "RECALL", "messageId": "m-e-1", "seq": 1, "by": OTHER, "edits": [4]})),
        frame({"event": "NEW_MSG", **own(8, "a"), "payload": text("u-1")}),
        LIST,
        {"do": "markRead", "conversationId": CHAT, "upToSeq": 3},
        LIST,
    ],
    "a list: pins and titles are no messages": [
        connect(0),
        frame(
            push(1),
            push(2, payload={"type": "PINNED", "messageId": "m-e-1", "seq": 1, "pinned": True}),
        ),
        LIST,
    ],
    "a stream whose parts are refused: its author is there, and the end has all of it": [
        connect(0),
        {"do": "stream", "conversationId": CHAT, "clientMsgId": "s"},
        frame(ack("s", 1)),
        frame(part_ack(0)),
        write("one"),
        frame({**PART, "event": "ERROR", "code": "FORBIDDEN", "message": "no", "retryable": False}),
        write(" two"),
        advance(19_000),
        advance(2_000),
        frame(part_ack(0)),
        advance(21_000),
        frame(part_ack(0)),
        {"do": "end"},
        frame(ack("s-end", 2)),
    ],
    "a log put back from a backup: what both have is not told again": [
        connect(3),
        frame(page(3, entry(1), entry(2), entry(3))),
        advance(60),
        BROKEN,
        connect(3, epoch="f"),
        frame(page(3, entry(1), entry(2), entry(3, epoch="f"), epoch="f")),
        advance(60),
    ],
}
"""By name. In the last one entries 1 and 2 keep their ids, as those of a backup do."""
