"""A pytest plugin for our own tests: what passed with the `chat_` fixtures is held against the invariants.

It stands over chatkit's own plugin: `chat_history` is a `CompleteHistory`, `chat_client` fills in what the store and
the devices hold at the end. Only `tests/conftest.py` and the projects of the tests name it; no user has it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import anyio
import pytest

from chatkit.client.store.base import LocalStore
from chatkit.server.server import ChatServer
from chatkit.testing.devices import Devices
from chatkit.testing.history import History
from chatkit.testing.recording import RecordingServer

from .checker import check, report
from .dumps import CompleteHistory, DeviceDump, dump_device, dump_store
from .partial_history import half_known, judged

_passed = pytest.StashKey[bool]()
_half_known = pytest.StashKey[set[str]]()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Remember whether the test passed."""
    made = yield
    made_report: pytest.TestReport = made.get_result()
    if made_report.when == "call":
        item.stash[_passed] = made_report.passed


@pytest.fixture
def chat_history(request: pytest.FixtureRequest) -> Iterator[CompleteHistory]:
    """All that happened in the test; if the test passed, its end holds it against the invariants.

    What was done unseen is held against nobody: see `partial_history`. A test that has a `chat_history` of its own is
    not judged.
    """
    history = CompleteHistory(anyio.current_time)
    yield history
    if request.node.stash.get(_passed, False) and history.store is not None:
        _hold_against_invariants(history, request.node.stash[_half_known])


def _hold_against_invariants(history: CompleteHistory, half_known: set[str]) -> None:
    violations = judged(check(history, quiescent=False).violations, half_known)
    if violations:
        pytest.fail(report(history, violations[0]), pytrace=False)


@pytest.fixture
async def chat_client(
    request: pytest.FixtureRequest, chat_client: Devices, chat_server: ChatServer, chat_history: History
) -> AsyncIterator[Devices]:
    """As chatkit's own; what is left at the end is written into the history."""
    dumps = DeviceDumps()
    chat_client.at_close = dumps.dump
    async with chat_client.all_left():
        yield chat_client
    if isinstance(chat_history, CompleteHistory):
        chat_history.devices += dumps.latest()
        names = conversation_ids(chat_history)
        chat_history.store = await dump_store(chat_server.store, names)
        sessions = chat_server.sessions if isinstance(chat_server, RecordingServer) else ()
        request.node.stash[_half_known] = half_known(chat_history, sessions)


class DeviceDumps:
    """What each device held when its app last ended."""

    def __init__(self) -> None:
        self._latest: dict[tuple[str, str], DeviceDump] = {}

    def dump(self, user_id: str, device_id: str, store: LocalStore) -> None:
        """Read what a device holds; for `Devices.at_close`."""
        self._latest[user_id, device_id] = dump_device(user_id, device_id, store, crashed=True, online=False)

    def latest(self) -> list[DeviceDump]:
        """The last of each device."""
        return list(self._latest.values())


def conversation_ids(history: CompleteHistory) -> list[str]:
    """Every conversation that a device holds or a call names."""
    named = {record.conversation_id for dump in history.devices for record in dump.records}
    for call in history.calls:
        named |= {values.get("conversation_id") or "" for values in (call.args, call.answer)}
    return sorted(named - {""})
