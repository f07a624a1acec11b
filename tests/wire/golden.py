"""Reads the golden vectors; used by the tests of the codec and of the documentation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "vectors"


def cases(side: str) -> list[tuple[str, dict[str, Any]]]:
    """(id, case) of one side, `client` or `server`, in a stable order."""
    return [
        (f"{path.stem}: {case['name']}", case)
        for path in sorted(FOLDER.glob(f"{side}_*.json"))
        for case in json.loads(path.read_text())
    ]


def payload_cases() -> list[tuple[str, dict[str, Any]]]:
    """(id, case) of the payloads that clients may send."""
    return [(case["name"], case) for case in json.loads((FOLDER / "payloads.json").read_text())]


def compact(value: Any) -> bytes:
    """The JSON bytes of a value as the contract's codec writes them, made without that codec."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
