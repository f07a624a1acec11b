"""What a sitting says of its samples: ratios of medians, aims, layers, and who was left out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.measured import Cpu
from benchmarks.report import Results, Sample
from benchmarks.table import CHATKIT, LINES, OTHERS, PROTOTYPE, PYTHON_SOCKETIO, SOCKETIO, Aim, Line, Side

from benchmarks import plots, report


def line(*aims: Aim) -> Line:
    sides = {name: Side(lambda _: {}) for name in (CHATKIT, SOCKETIO, PYTHON_SOCKETIO)}
    return Line("some work", "us", "cost", sides, aims)


@pytest.fixture
def results() -> Results:
    """chatkit takes 0.25, 0.03 and 0.18 of socket.io, and 8 us; the third was left out."""
    aims = (Aim(CHATKIT, 0.3, SOCKETIO), Aim(CHATKIT, 7.0), Aim(CHATKIT, 0.1, PYTHON_SOCKETIO))
    found = Results({"work": line(*aims)}, {("work", PYTHON_SOCKETIO): "not to be had"})
    layers = dict.fromkeys(report.LAYERS, 1.0)
    for turn, (ours, theirs) in enumerate([(8.0, 32.0), (1.0, 30.0), (90.0, 500.0)]):
        found.samples.append(Sample("work", CHATKIT, turn, {"cost": ours, "layers_us": layers}))
        found.samples.append(Sample("work", SOCKETIO, turn, {"cost": theirs}))
    return found


def test_an_aim_is_held_against_medians_and_only_where_both_were_measured(results: Results) -> None:
    judged = list(results.judged("work"))
    assert [(it.aim.to, it.found, it.is_reached) for it in judged] == [
        (SOCKETIO, 0.18, True),
        (None, 8.0, False),
    ]
    assert report.reached(results) == [
        "work: chatkit 0.18 of socket.io, better-sqlite3, aim 0.3: reached",
        "work: chatkit 8.00 us, aim 7: NOT reached",
    ]


def test_the_report_has_every_side_and_says_why_one_is_not_there(results: Results, tmp_path: Path) -> None:
    text = report.write(results, {"rounds": 3, "packages": {"uvloop": "1"}}, tmp_path).read_text()
    assert "| chatkit | 8 | 1 - 90 |  | 7: **not reached** |" in text
    assert "| socket.io, better-sqlite3 | 32 | 30 - 500 | 0.18 (0.03 - 0.25) | 0.3: reached |" in text
    assert "| python-socketio, aiosqlite | not to be had |" in text
    assert "- packages: uvloop 1" in text
    assert "| chatkit | 1.0 | 1.0 | 1.0 | 1.0 | 1.0 |" in text


def test_what_was_measured_on_a_busy_machine_is_not_judged(results: Results) -> None:
    results.samples = [replace(it, figures={**it.figures, OTHERS: 0.5}) for it in results.samples]
    assert report.reached(results)[0].endswith("aim 0.3: not judged: other processes had 50% of the cores")


def test_raw_data_is_there_line_by_line(results: Results, tmp_path: Path) -> None:
    for sample in results.samples:
        report.write_sample(sample, tmp_path / "raw.jsonl")
    lines = [json.loads(it) for it in (tmp_path / "raw.jsonl").read_text().splitlines()]
    assert [it["figures"]["cost"] for it in lines] == [8.0, 32.0, 1.0, 30.0, 90.0, 500.0]


def test_pictures_are_drawn_of_what_there_is(results: Results, tmp_path: Path) -> None:
    drawn = plots.draw(results, tmp_path)
    assert [it.name for it in drawn] == ["ratios.png", "layers.png"]
    assert all(it.stat().st_size > 5_000 and it.with_suffix(".svg").stat().st_size > 2_000 for it in drawn)


def test_every_aim_of_the_table_names_sides_that_are_measured() -> None:
    for found in LINES.values():
        assert {it.of for it in found.aims} | {it.to for it in found.aims if it.to} <= set(found.sides)
    assert {CHATKIT, SOCKETIO, PYTHON_SOCKETIO, PROTOTYPE} == set(LINES["pairs"].sides)


def test_cpu_is_told_by_layer_for_each_message() -> None:
    spent = Cpu(1.0, 0.5, 0.2, 0.1, 0.05, 0.15) - Cpu(0.5, 0.25, 0.1, 0.05, 0.025, 0.075)
    assert spent.total == 0.5
    assert spent.layers_us(1_000)["loop_user"] == 250.0
    assert sum(spent.layers_us(1_000).values()) == 500.0
