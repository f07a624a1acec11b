"""What is wrong with a log, or with what devices hold of it, after a soak."""

from __future__ import annotations

from collections.abc import Sequence

from chatkit.storage.base import Entry, LogReader

from .clients import Report, digests_of_entries


async def read_logs(store: LogReader, names: Sequence[str]) -> dict[str, list[Entry]]:
    """All entries of each conversation."""
    logs: dict[str, list[Entry]] = {}
    for name in names:
        entries = logs[name] = []
        while page := await store.entries(name, len(entries), 1_000):
            entries += page
    return logs


def lost(reports: Sequence[Report], logs: dict[str, list[Entry]]) -> list[str]:
    """In words; nothing if every answer holds, no number is missing, and every device has it all."""
    wrong = [
        f"{name} has a hole"
        for name, log in logs.items()
        if [it.seq for it in log] != [*range(1, len(log) + 1)]
    ]
    for it in reports:
        wrong += [*it.wrong, *_not_stored(it, logs), *_held_otherwise(it, logs)]
    return wrong


def _not_stored(report: Report, logs: dict[str, list[Entry]]) -> list[str]:
    keys = {name: {(it.client_msg_id, it.seq) for it in log} for name, log in logs.items()}
    lost = [it for it in report.acked if it[1:] not in keys[it[0]]]
    return [f"{key} is not seq {seq} of {name}" for name, key, seq in lost]


def _held_otherwise(report: Report, logs: dict[str, list[Entry]]) -> list[str]:
    wrong = []
    for held in report.held:
        log = logs[held.conversation_id]
        place = (
            f"{held.device} holds {held.conversation_id} after {held.floor} up to {held.prefix} of {len(log)}"
        )
        wanted = digests_of_entries(it for it in log if held.floor < it.seq <= held.prefix)
        parts = sorted(
            first for first in {*wanted, *held.digests} if wanted.get(first) != held.digests.get(first)
        )
        if parts:
            at = parts[0]
            wrong.append(f"{place}; from {at} on {held.digests.get(at)}, in the log {wanted.get(at)}")
        elif held.prefix != len(log):
            wrong.append(place)
    return wrong
