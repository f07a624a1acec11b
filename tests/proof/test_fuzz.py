"""8,000 mutated inputs find nothing, and the fuzzer finds what is planted."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from chatkit.core.rate_limit import Rate
from chatkit.server.limits import Limits
from chatkit.server.session import Session
from chatkit.wire.codec import JSON, MSGPACK

from .fuzz import Mutator, fuzzed, main

SEED = 8


def test_inputs_crash_nothing_and_leave_nothing() -> None:
    findings = fuzzed(8_000, SEED)

    assert findings.crashes == []
    assert findings.leaks == []
    assert not findings.unseen
    met = {
        "BAD_REQUEST",
        "NOT_FOUND",
        "MsgAck",
        "NewMsg",
        "close 4203",
        "close 1009",
        "status 200",
        "status 400",
    }
    assert met <= set(findings.counts)


def test_inputs_depend_on_the_seed_alone() -> None:
    def inputs(seed: int) -> list[Any]:
        it = Mutator(seed)
        return [
            made
            for _ in range(200)
            for made in (it.frame(JSON), it.frame(MSGPACK), it.request(), it.websocket())
        ]

    assert inputs(1) == inputs(1)
    assert inputs(1) != inputs(2)


def test_an_exception_that_nobody_caught_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = Session._handle

    def careless(session: Session, event: Any) -> None:
        if type(event).__name__ == "Read":
            raise KeyError("planted")
        handle(session, event)

    monkeypatch.setattr(Session, "_handle", careless)
    assert any("planted" in crash for crash in fuzzed(500, SEED).crashes)


def test_an_error_in_the_log_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse = Session.refuse

    def noisy(session: Session, *args: Any) -> None:
        logging.getLogger("chatkit").error("planted")
        refuse(session, *args)

    monkeypatch.setattr(Session, "refuse", noisy)
    assert "chatkit: planted" in fuzzed(100, SEED).crashes


def test_a_session_that_is_kept_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from chatkit.server.live.presence import Presence

    monkeypatch.setattr(Presence, "remove", lambda self, session: False)
    assert any(leak.startswith("online:") for leak in fuzzed(500, SEED).leaks)


def test_a_fuzzer_that_a_limit_keeps_out_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Limits, "unlimited", lambda: Limits(logins_per_user=Rate(1, 20)))
    monkeypatch.setattr("sys.argv", ["fuzz", "--count", "500"])
    assert main() == 1
    assert "refused unseen" in capsys.readouterr().out
