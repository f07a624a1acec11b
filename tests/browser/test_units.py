"""The JavaScript modules tested in the browser itself: each test module exports `tests`.

Those of `tests/javascript` run in Node.js too; those of `units/` need a browser.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .app import ROOT, UNITS
from .conftest import ServerProcess, Tab

RUN = """async (name) => {
  const { tests } = await import(name);
  const failures = [];
  for (const [title, test] of Object.entries(tests)) {
    try {
      await test();
    } catch (error) {
      failures.push(`${title}: ${error.message}`);
    }
  }
  return { count: Object.keys(tests).length, failures };
}"""


MODULES = [f"/units/{path.name}" for path in sorted(UNITS.glob("*_test.js"))] + [
    f"/tests/javascript/{path.name}" for path in sorted((ROOT / "tests/javascript").glob("*_test.js"))
]


@pytest.mark.parametrize("name", MODULES)
def test_module(name: str, server: ServerProcess, new_tab: Callable[..., Tab]) -> None:
    tab = new_tab()
    tab.page.goto(server.url)
    outcome = tab.page.evaluate(RUN, name)
    assert not outcome["failures"], "\n".join(outcome["failures"])
    assert outcome["count"] > 0
