"""What a full check of a log finds, and how far it is. Made by the `verify` of each store."""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec

from .verify_rules import Check

LISTED_MAX: Final = 20
"""Findings of one kind that are kept; the rest is counted."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong.

    Attributes:
        check: What it is about.
        words: What was found; never a body or a token.
    """

    check: Check
    words: str


class Report(msgspec.Struct):
    """What a full check has found so far.

    Attributes:
        findings: At most `LISTED_MAX` of each kind.
        found: How many there are of each kind, listed or not.
        conversations: How many were checked.
        messages: How many were checked.
    """

    findings: list[Finding] = []
    found: Counter[Check] = msgspec.field(default_factory=Counter)
    conversations: int = 0
    messages: int = 0

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def add(self, check: Check, words: str) -> None:
        """Note a finding."""
        self.found[check] += 1
        if self.found[check] <= LISTED_MAX:
            self.findings.append(Finding(check, words))


class Progress(msgspec.Struct, frozen=True):
    """How far a check is; `done` of `total` within one stage, the last of which is the longest."""

    stage: str
    done: int
    total: int
