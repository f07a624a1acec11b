"""The example of a tested bot: its tests find the first bot wanting, and the mended one sound."""

from __future__ import annotations

import re
import shlex
import shutil

import pytest

from .example import FOLDER

pytest_plugins = ["pytester"]

ORDERS = str(FOLDER / "tested_bot")


def test_the_first_bot_is_found_wanting(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOT", "first_bot")
    result = pytester.runpytest_inprocess(ORDERS, "-p", "no:cacheprovider")

    output = result.stdout.str()
    assert "though_the_network_fails" in output
    assert "confirmed more than once" in output
    assert "though_the_bot_is_killed" in output
    assert "never confirmed" in output
    assert result.parseoutcomes()["passed"] > 0, "it works on good days"

    (again, *_) = re.findall(r"chat_seed was \d+; the same once more: pytest (.*)", output)
    monkeypatch.chdir(FOLDER.parent)
    repeated = pytester.runpytest_inprocess(*shlex.split(again), "-p", "no:cacheprovider")
    repeated.assert_outcomes(failed=1)


def test_the_mended_bot_passes_every_seed(pytester: pytest.Pytester) -> None:
    shutil.copytree(ORDERS, pytester.path / "tested_bot")
    pytester.makeconftest('pytest_plugins = ["tests.proof.judging"]')

    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=40)
