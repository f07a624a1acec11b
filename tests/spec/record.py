"""Writes the vectors: what the Python machines do with each script. `python -m tests.spec.record`"""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

from .client_machine import led
from .client_scripts import CLIENT_SCRIPTS
from .machines import MACHINES, Machine
from .scripts import SCRIPTS

SPEC = Path(__file__).parents[2] / "spec"
NAMES = sorted([*SCRIPTS, "client"])


def recorded(name: str) -> list[dict[str, Any]]:
    """The vectors of one machine, or of the whole client."""
    if name == "client":
        return [{"name": title, "steps": led(script)} for title, script in CLIENT_SCRIPTS.items()]
    return [
        {"name": title, "steps": list(_led(MACHINES[name](), script))}
        for title, script in SCRIPTS[name]().items()
    ]


def _led(machine: Machine, script: Any) -> Generator[dict[str, Any], None, None]:
    if not isinstance(script, Generator):
        for step in script:
            yield {**step, "then": machine(step)}
        return
    step = next(script)
    while step is not None:
        then = machine(step)
        yield {**step, "then": then}
        try:
            step = script.send(then)
        except StopIteration:
            return


def encoded(vectors: list[dict[str, Any]]) -> str:
    """One step a line, so that a change of behaviour shows as a change of lines."""
    told = []
    for vector in vectors:
        steps = ",\n".join(f"    {json.dumps(step)}" for step in vector["steps"])
        told.append(f'  {{"name": {json.dumps(vector["name"])}, "steps": [\n{steps}\n  ]}}')
    return "[\n" + ",\n".join(told) + "\n]\n"


def main() -> None:
    for name in NAMES:
        (SPEC / f"{name}.json").write_text(encoded(recorded(name)))


if __name__ == "__main__":
    main()
