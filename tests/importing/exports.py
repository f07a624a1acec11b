"""Exports made by hand, and what comes of them. Helpers, no tests."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chatkit.importing.files import Files
from chatkit.importing.formats._all import reader_of
from chatkit.importing.importer import Importer, ImportTerms, ImportTotals
from chatkit.importing.names import Names
from chatkit.importing.plan import Plan
from chatkit.importing.records import FoundMessage, LeftOut, Options, Record
from chatkit.importing.times import Zone
from chatkit.ports import Ports
from chatkit.storage.base import Store


def write(folder: Path, files: Mapping[str, Any]) -> Path:
    """A folder with these files: texts and bytes as they are, anything else as JSON."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_bytes(content))
    return folder


def as_bytes(content: Any) -> bytes:
    if isinstance(content, bytes):
        return content
    return content.encode() if isinstance(content, str) else json.dumps(content).encode()


def zipped(path: Path, files: Mapping[str, Any]) -> Path:
    """A zip with these files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, as_bytes(content))
    return path


def read(name: str, path: Path, *, zone: str = "UTC", **options: str) -> list[Record]:
    """All records of an export."""
    files = Files(path)
    try:
        return list(reader_of(name)(files, Options(Zone(zone), **options)))
    finally:
        files.close()


def messages(records: Sequence[Record]) -> list[tuple[str, int, str]]:
    """(author, time, text) of each message."""
    return [(it.author, it.at_ms, it.text) for it in records if isinstance(it, FoundMessage)]


def left_out(records: Sequence[Record]) -> list[str]:
    """The kinds of what is no message."""
    return [it.kind for it in records if isinstance(it, LeftOut) and it.is_message]


def planned(records: Sequence[Record], names: Names | None = None) -> Plan:
    """The plan of these."""
    plan = Plan(names or Names("x:"))
    for _ in plan.add(records):
        pass
    return plan


async def bring_in(
    store: Store, secret: bytes, records: Sequence[Record], *, names: Names | None = None, **terms: Any
) -> ImportTotals:
    """Import these."""
    importer = Importer(store, secret, planned(records, names), ImportTerms("x", "file", **terms), Ports())
    async for _ in importer.run(records):
        pass
    return importer.totals
