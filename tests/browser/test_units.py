"""The page's pure modules, tested in the browser itself: every module in `units/` exports `tests`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .app import UNITS
from .conftest import ServerProcess, Tab

RUN = """async (name) => {
  const { tests } = await import(`/units/${name}`);
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


@pytest.mark.parametrize("name", sorted(path.name for path in UNITS.glob("*_test.js")))
def test_module(name: str, server: ServerProcess, new_tab: Callable[..., Tab]) -> None:
    tab = new_tab()
    tab.page.goto(server.url)
    outcome = tab.page.evaluate(RUN, name)
    assert not outcome["failures"], "\n".join(outcome["failures"])
    assert outcome["count"] > 0
