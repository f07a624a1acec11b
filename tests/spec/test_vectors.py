"""The Python machines against the vectors, which the JavaScript client is held to as well."""

from __future__ import annotations

import json

import pytest

from .client_machine import led
from .machines import MACHINES
from .record import NAMES, SPEC, encoded, recorded
from .scripts import SCRIPTS


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_each_step_leads_to_what_is_written(name: str) -> None:
    vectors = json.loads((SPEC / f"{name}.json").read_text())
    for vector in vectors:
        machine = MACHINES[name]()
        for number, step in enumerate(vector["steps"]):
            assert machine(step) == step["then"], (vector["name"], number, step)
    assert len(vectors) == len(SCRIPTS[name]())


def test_the_whole_client_says_and_tells_what_is_written() -> None:
    for vector in json.loads((SPEC / "client.json").read_text()):
        script = [{name: value for name, value in step.items() if name != "then"} for step in vector["steps"]]
        assert led(script) == vector["steps"], vector["name"]


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_what_record_writes(name: str) -> None:
    assert (SPEC / f"{name}.json").read_text() == encoded(recorded(name)), "run python -m tests.spec.record"


def test_every_file_is_run() -> None:
    assert {path.stem for path in SPEC.glob("*.json")} == set(NAMES)
