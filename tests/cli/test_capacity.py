"""`chatkit capacity`: its page, its arithmetic, its options and its refusals."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from chatkit.cli import _capacity as module
from chatkit.cli._capacity import Capacity, Inputs, capacity, node_cores_of, traffic_of
from chatkit.cli.commands import chatkit
from chatkit.server.config import ServerConfig
from chatkit.wire import events as ev
from chatkit.wire.codec import JSON
from tests.docs.snippets import ROOT

PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
DEFAULTS = Inputs()
PRICES = Inputs.__struct_fields__[Inputs.__struct_fields__.index("sqlite_us_per_message") :]
"""The inputs that are measured."""


def run(*arguments: str) -> Any:
    return CliRunner().invoke(chatkit, ["capacity", *arguments])


def reckoned(*arguments: str) -> dict[str, Any]:
    done = run("--json", *arguments)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rows(heading: str) -> list[list[str]]:
    """The cells of the table behind a heading of the page."""
    part = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| (.*) \|$", part, re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines[1:]]


# --- the page ---


def test_every_formula_of_the_page_has_the_result_that_is_reckoned() -> None:
    """A formula is Python over inputs and results; the page says the rounded result, and each result has a formula."""
    names: dict[str, Any] = {**msgspec.structs.asdict(DEFAULTS), **vars(module), "ceil": ceil}
    found, shown = msgspec.structs.asdict(capacity(DEFAULTS)), set()
    for name, formula, result in rows("What is reckoned"):
        name = name.strip("`")
        value = eval(formula.strip("`"), {}, {**names, **found})
        assert value == pytest.approx(found[name], rel=1e-9), name
        assert result == as_written(found[name]), name
        shown.add(name)
    assert shown == set(Capacity.__struct_fields__) - {"stage"}


def as_written(value: float) -> str:
    """A result as the page writes it."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def test_the_page_has_every_price_and_its_default() -> None:
    said = {row[0].strip("`"): row[1] for row in rows("Where the prices come from")}
    assert said == {name: f"{getattr(DEFAULTS, name):g}" for name in PRICES}


def test_the_page_says_what_looks_every_three_seconds_would_cost() -> None:
    found = capacity(Inputs(heads_check_s=3.0))
    assert f"{found.looks_per_s / 1e6:.1f} million looks a second" in PAGE
    assert f"{found.look_busy_cores:.0f} busy cores of PostgreSQL" in PAGE


def test_the_page_names_every_key() -> None:
    said = {row[0].strip("`") for row in rows("The JSON object")}
    assert said == {"inputs", *Capacity.__struct_fields__}


# --- the arithmetic ---


def test_the_load_it_was_made_for() -> None:
    found = capacity(DEFAULTS)
    assert int(found.messages_per_s) == 104_166
    assert found.connections == 8_000_000
    assert round(found.received_bytes_per_s / 1e6) == 30
    assert round(found.traffic_bytes_per_s / 1e6) == 120


def test_frames_are_as_large_as_it_reckons() -> None:
    conversation, key, user = "c" * 36, "k" * 36, "u" * 36
    payload = {"type": "TEXT", "text": "x" * 123}
    size = len(msgspec.json.encode(payload))
    assert size == DEFAULTS.payload_bytes
    send = {"event": "SEND_MSG", "conversationId": conversation, "clientMsgId": key, "payload": payload}
    confirmation = {"event": "DELIVERED_ACK", "conversationId": conversation, "upToSeq": 1234}
    message_id = "4e-e123456789-4d2"
    ack = ev.MsgAck(
        conversation_id=conversation, epoch="e123456789", client_msg_id=key, message_id=message_id, seq=1234,
        server_ts=1_700_000_000_000, status="SENT",
    )  # fmt: skip
    push = ev.NewMsg(
        conversation_id=conversation, epoch="e123456789", message_id=message_id, seq=1234, sender_id=user,
        server_ts=1_700_000_000_000, payload=msgspec.Raw(msgspec.json.encode(payload)),
    )  # fmt: skip
    assert len(msgspec.json.encode(send)) - size == pytest.approx(module.SEND_BYTES, abs=2)
    assert len(msgspec.json.encode(confirmation)) == pytest.approx(module.CONFIRMATION_BYTES, abs=2)
    assert len(JSON.encode(ack)) == pytest.approx(module.ACK_BYTES, abs=4)
    assert len(JSON.encode(push)) - size == pytest.approx(module.PUSH_BYTES, abs=4)


def test_the_servers_own_defaults_are_those_that_it_reckons_with() -> None:
    config = ServerConfig()
    assert (DEFAULTS.connections_per_node, DEFAULTS.heartbeat_s) == (config.sessions_max, config.heartbeat_s)


def test_the_stages_follow_each_other() -> None:
    found = [capacity(Inputs(daily_users=users)) for users in (1_000, 100_000, 1_000_000, 50_000_000)]
    assert [it.stage for it in found] == ["one file", "one file", "one database", "sharded"]
    assert all(
        one.nodes <= other.nodes and one.databases <= other.databases for one, other in pairwise(found)
    )
    assert found[0].databases == found[0].database_connections == 0


@given(
    users=st.integers(1, 10**10),
    messages=st.floats(0.001, 1e5),
    online=st.floats(0, 3),
    headroom=st.floats(0.05, 1),
    commit_ms=st.floats(0.1, 1000),
)
def test_what_it_names_is_enough(
    users: int, messages: float, online: float, headroom: float, commit_ms: float
) -> None:
    asked = Inputs(
        daily_users=users,
        messages_per_user=messages,
        online_share=online,
        headroom=headroom,
        commit_ms=commit_ms,
    )
    found, traffic = capacity(asked), traffic_of(asked)
    assert found.nodes * asked.connections_per_node >= found.connections
    assert found.database_busy_cores <= found.databases * asked.database_cores * asked.headroom * (1 + 1e-9)
    if found.stage != "one file":
        assert node_cores_of(asked, traffic, found.nodes) <= found.nodes * asked.headroom * (1 + 1e-9)


# --- the command ---


def test_options_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text('{"connection_kib": 99, "node_mib": 1}')
    inputs = reckoned("--from", str(file), "--node-mib", "2")["inputs"]
    assert (inputs["connection_kib"], inputs["node_mib"]) == (99, 2)
    assert inputs["daily_users"] == DEFAULTS.daily_users
    again = tmp_path / "again.json"
    again.write_text(json.dumps(inputs))
    assert reckoned("--from", str(again))["inputs"] == inputs


def test_the_table_says_it_in_words() -> None:
    told = run("--daily-users", "1000").output
    assert "one file" in told and "databases" not in told
    told = run().output
    assert re.search(r"messages a second +104,167", told) and re.search(r"received +30.0 MB/s", told)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--daily-users", "0"], "daily_users"),
        (["--daily-users", "1.5"], "--daily-users"),
        (["--peak-factor", "nan"], "peak_factor"),
        (["--peak-factor", "inf"], "peak_factor"),
        (["--headroom", "1.5"], "headroom"),
        (["--headroom", "1e-300"], "headroom"),
        (["--heartbeat-s", "1e-320"], "heartbeat_s"),
        (["--online-share", "-1"], "online_share"),
        (["--from", "nowhere.json"], "nowhere.json"),
        (["--speed", "1"], "--speed"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], word: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert word in done.output and "Traceback" not in done.output


@pytest.mark.parametrize("text", ["", "[]", "{", '{"conection_kib": 1}', '{"connection_kib": "many"}'])
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bench.json"
    file.write_text(text)
    done = run("--from", str(file))
    assert done.exit_code == 2
    assert "Error: " in done.output and "Traceback" not in done.output
