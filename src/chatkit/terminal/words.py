"""How conversations and messages read in a terminal. Pure: values in, `Content` out.

All of it that others wrote goes through `plain` or `one_line` first, so that nothing in it moves the cursor, colours
what follows, or turns the direction of writing; and never through markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from textual.content import Content

from .._one_line import one_line
from ..client.events import ChatEvent, Connected, Connecting, Disconnected, Reconnecting
from ..client.outbox import PendingMessage
from ..types import ConversationSummary, Message, MessageStatus

TEXT_MAX: Final = 8_000
LINES_MAX: Final = 100
"""Of one message at most so many characters and lines are shown, and how many more there are."""

PREVIEW_MAX: Final = 80
REACTIONS_MAX: Final = 20
NAMES_MAX: Final = 5

_TICKS: Final[Mapping[MessageStatus, str]] = {"SENT": "✓", "DELIVERED": "✓✓", "READ": "✓✓ read"}
_MEDIA: Final = {"IMAGE": "picture", "VOICE": "voice message", "FILE": "file"}
_HIDDEN: Final = frozenset({"EDIT", "REACTION", "PINNED", "RECALL"})
"""Entries that say something of the message they name."""

Row = tuple[str, Content]
"""What is shown of one message, under an id that stays the same."""


def plain(text: str) -> str:
    """A text in lines, with what is not printable as escapes, such as `\\x1b`; cut where it is very long."""
    lines = text[:TEXT_MAX].splitlines()[:LINES_MAX]
    shown = "\n".join(one_line(line.expandtabs(4)) for line in lines)
    left = len(text) - len("\n".join(lines))
    is_cut = len(text) > TEXT_MAX or len(text.splitlines()) > LINES_MAX
    return f"{shown}\n… ({left:,} characters more)" if is_cut else shown


def brief(text: str) -> str:
    """A text in one short line."""
    words = one_line(" ".join(text[: 4 * PREVIEW_MAX].split()))
    return words if len(words) <= PREVIEW_MAX else words[: PREVIEW_MAX - 1] + "…"


def clock(at_ms: int) -> str:
    """A time in the zone of this machine, such as `29 Nov 13:45`; "" for one that no calendar has."""
    try:
        return f"{datetime.fromtimestamp(at_ms / 1000, UTC).astimezone():%d %b %H:%M}"
    except (ValueError, OverflowError, OSError):
        return ""


def text_of(message: Message) -> str:
    """What a message says as it reads now."""
    if message.type == "RECALLED":
        return "recalled"
    kind, name = _MEDIA.get(str(message.content.get("type"))), message.content.get("name")
    if kind is not None:
        return f"[{kind}: {name}]" if isinstance(name, str) and name else f"[{kind}]"
    return message.text or "[a message that this app cannot show]"


def state_of(event: ChatEvent) -> str | None:
    """What an event says of the connection; None: nothing."""
    match event:
        case Connecting():
            return "connecting …"
        case Connected():
            return "connected"
        case Reconnecting():
            return f"no connection, next try in {event.delay_s:.0f} s: {brief(str(event.cause))}"
        case Disconnected(will_retry=False):
            return f"ended: {brief(event.reason)}" if event.reason else "ended"
        case Disconnected():
            return "no connection"
    return None


def conversation_row(summary: ConversationSummary, me: str) -> Row:
    """A line with unread count and title, the count first so that no title hides it, and one with the last message."""
    title = (brief(summary.title) if summary.type == "GROUP" else "") or one_line(summary.conversation_id)
    named = f"@{summary.unread_mentions} " if summary.unread_mentions else ""
    unread = f"{named}{summary.unread}  " if summary.unread or named else ""
    muted = "muted  " if summary.muted_until else ""
    last = summary.last_message
    words = "no messages yet" if last is None else brief(f"{_name(last.sender_id, me)}: {text_of(last)}")
    style = "bold" if summary.unread else ""
    head = ((unread, "bold $text-accent"), (muted, "dim"), (title, style))
    row = Content.assemble(*head, "\n", (words, "dim"))
    return summary.conversation_id, row


def rows_of(
    messages: Sequence[Message],
    me: str,
    states: Mapping[int, MessageStatus],
    pending: Iterable[PendingMessage],
) -> list[Row]:
    """A conversation: its messages, and below them what waits to be sent.

    Args:
        messages: Ascending, as `ChatClient.history` gives them.
        me: The user.
        states: How far one's own messages have got, by seq.
        pending: Messages of this conversation without an answer.
    """
    by_seq = {message.seq: message for message in messages}
    placed = [(str(it.seq), _row(it, by_seq, me, states)) for it in messages if it.type not in _HIDDEN]
    return placed + [_pending_row(it, me) for it in pending if it.payload.get("type") not in _HIDDEN]


def _row(
    message: Message, by_seq: Mapping[int, Message], me: str, states: Mapping[int, MessageStatus]
) -> Content:
    if message.type == "MEMBER":
        return Content.styled(f"{clock(message.server_ts)}  {_members(message, me)}", "dim italic")
    if message.type == "TITLE":
        return Content.styled(f"{clock(message.server_ts)}  {_title(message, me)}", "dim italic")
    is_own = message.sender_id == me
    ticks = _TICKS[states[message.seq]] if message.seq in states else ""
    edited = "edited" if message.edit is not None else ""
    head = Content.assemble(
        (_name(message.sender_id, me), "bold $text-success" if is_own else "bold $text-primary"),
        ("".join(f"  {it}" for it in (clock(message.server_ts), edited, ticks) if it), "dim"),
    )
    style = "dim italic" if message.type == "RECALLED" else ""
    parts = [head, *_quote(message, by_seq, me), _indented(plain(text_of(message)), style)]
    if message.reactions:
        shown = message.reactions[:REACTIONS_MAX]
        words = "  ".join(f"{one_line(it.reaction)} {it.count}" for it in shown)
        parts.append(_indented(words, "dim"))
    return Content("\n").join(parts)


def _quote(message: Message, by_seq: Mapping[int, Message], me: str) -> list[Content]:
    named = message.reply_to
    if named is None or message.type == "RECALLED":
        return []
    target = by_seq.get(named.seq)
    if target is None:
        return [_indented("> an earlier message", "dim")]
    return [_indented("> " + brief(f"{_name(target.sender_id, me)}: {text_of(target)}"), "dim")]


def _pending_row(pending: PendingMessage, me: str) -> Row:
    text = pending.payload.get("text")
    why = "held for review" if pending.held else "waits to be sent"
    head = Content.assemble((_name(me, me), "bold $text-success"), (f"  {why}", "dim"))
    words = _indented(plain(text) if isinstance(text, str) else "[a file]", "dim")
    return f"pending {pending.client_msg_id}", Content("\n").join([head, words])


def _members(message: Message, me: str) -> str:
    by, users = _name(message.sender_id, me), message.payload.get("userIds")
    others = (
        [it for it in users if isinstance(it, str) and it != message.sender_id]
        if isinstance(users, list)
        else []
    )
    names = ", ".join(_name(it, me) for it in others[:NAMES_MAX])
    whom = names + (f" and {len(others) - NAMES_MAX} more" if len(others) > NAMES_MAX else "")
    match message.payload.get("op"):
        case "CREATED":
            return f"{by} began this conversation" + (f" with {whom}" if whom else "")
        case "ADDED":
            return f"{by} added {whom}"
        case "REMOVED":
            return f"{by} removed {whom}"
        case "LEFT":
            return f"{by} left"
    return "the members changed"


def _title(message: Message, me: str) -> str:
    by, title, description = _name(message.sender_id, me), *map(message.payload.get, ("title", "description"))
    called = f' called it "{brief(title)}"' if isinstance(title, str) and title else ""
    about = f' described it: "{brief(description)}"' if isinstance(description, str) and description else ""
    return by + (" and".join(filter(None, (called, about))) or " took away what it was called")


def _indented(text: str, style: str) -> Content:
    return Content.styled("\n".join(f"  {line}" for line in text.split("\n")), style)


def _name(user_id: str, me: str) -> str:
    return "you" if user_id == me else one_line(user_id)
