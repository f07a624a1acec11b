"""What is said of an import: as a JSON object, and in words."""

from __future__ import annotations

from typing import Final

import msgspec

from .._one_line import one_line
from ..importing._whole import whole
from ..importing.importer import ImportTotals
from ..importing.plan import Omission, Plan
from .utc import utc

_SHOWN_MAX: Final = 20


class ConversationReport(msgspec.Struct, frozen=True):
    """A conversation of the export.

    Attributes:
        members: Who will be in it.
        members_left_out: Who would be, if a conversation could have so many.
        first_ts: Unix milliseconds of its earliest message.
        last_ts: Of its latest.
    """

    source: str
    conversation_id: str
    type: str
    title: str
    messages: int
    members: int
    members_left_out: int
    first_ts: int
    last_ts: int


class ImportReport(msgspec.Struct, frozen=True):
    """The object that `--json` prints.

    Attributes:
        conversations: Those that have messages.
        empty_conversations: How many have none; they are not made.
        users: How many are in it.
        messages: How many can be carried over.
        left_out: What cannot, by kind and reason.
        read_as: How the files were read, as far as times and words depend on it: `timezone`, `encoding`.
        imported: What was done; None after a dry run.
    """

    conversations: list[ConversationReport]
    empty_conversations: int
    users: int
    messages: int
    left_out: list[Omission]
    read_as: dict[str, str]
    imported: ImportTotals | None


def report_of(
    plan: Plan, totals: ImportTotals | None, members_max: int, read_as: dict[str, str]
) -> ImportReport:
    """What there is to say."""
    made, found = plan.made(), []
    for it in sorted(made, key=lambda it: -it.messages):
        members, wanted = it.members(members_max), len(it.members(10**9))
        times = (it.first_ms, it.last_ms)
        counts = (it.messages, len(members), wanted - len(members))
        found.append(
            ConversationReport(whole(it.source), it.conversation_id, it.type, it.title, *counts, *times)
        )
    omissions = sorted(plan.omissions.values(), key=lambda it: (not it.is_message, -it.count))
    empty = len(plan.conversations) - len(made)
    return ImportReport(found, empty, len(plan.users), plan.messages, omissions, read_as, totals)


def counted(count: int, noun: str, nouns: str = "") -> str:
    """A number with its noun: `1 message`, `2 messages`, `2 entries`."""
    return f"{count} {noun}" if count == 1 else f"{count} {nouns or noun + 's'}"


def words_of(report: ImportReport, storage: str) -> str:
    """The same, for people."""
    lines = [
        f"{counted(len(report.conversations), 'conversation')}, {counted(report.users, 'user')},"
        f" {counted(report.messages, 'message')}",
    ]
    for it in report.conversations[:_SHOWN_MAX]:
        span = f"{utc(it.first_ts):%Y-%m-%d} to {utc(it.last_ts):%Y-%m-%d}"
        cut = f", {it.members_left_out} more do not fit" if it.members_left_out else ""
        title = f" {one_line(it.title)}" if it.title else ""
        lines.append(
            f"  {it.conversation_id}{title}: {counted(it.messages, 'message')},"
            f" {counted(it.members, 'member')}{cut}, {span}"
        )
    if len(report.conversations) > _SHOWN_MAX:
        lines.append(f"  and {len(report.conversations) - _SHOWN_MAX} more; --json names all")
    if report.empty_conversations:
        empty = counted(report.empty_conversations, "conversation")
        lines.append(f"left out as well: {empty} without messages")
    if zone := report.read_as.get("timezone"):
        lines.append(f"times are those of a clock in the zone {zone}; --timezone says otherwise")
    lines += _left_out(report, of_messages=True) + _left_out(report, of_messages=False)
    return "\n".join([*lines, *_done(report.imported, storage)])


def _left_out(report: ImportReport, *, of_messages: bool) -> list[str]:
    found = [it for it in report.left_out if it.is_message == of_messages]
    head = "left out:" if of_messages else "changed, or not carried over:"
    lines = [
        f"  {one_line(it.kind)}: {it.count} ({it.reason}), first at {one_line(it.where)}" for it in found
    ]
    return [head, *lines] if found else []


def _done(totals: ImportTotals | None, storage: str) -> list[str]:
    if totals is None:
        return ["nothing was written"]
    lines = [
        f"{storage}: {counted(totals.added, 'entry', 'entries')} added, {totals.known} there already;"
        f" {counted(totals.conversations_made, 'conversation')} made"
    ]
    if totals.changed:
        lines.append(f"{totals.changed} of these say something else in the export now; what is here stays")
    if totals.not_members:
        lines.append(
            f"{counted(totals.not_members, 'member')} of the export not in a conversation here; see --add-members"
        )
    if totals.unmatched:
        names = ", ".join(totals.unmatched[:5])
        lines.append(
            f"warning: {names} was there, with none of these messages: was it imported with other ids before?"
        )
    return lines
