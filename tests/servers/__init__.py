"""Real servers for the tests, each as a fixture of its own module: started once for all tests of a process, on
loopback, in a temporary folder, and stopped by their process id.

A server that is not here skips its tests with the reason; with `CI=true` that is a failure.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """End a test that needs something which is not here."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI needs it: {what}", pytrace=False)
    pytest.skip(what)
