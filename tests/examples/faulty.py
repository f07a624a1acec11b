"""Runs an example on a bad day: `python faulty.py EXAMPLE.py FAULT PORT`."""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path
from typing import Any

from chatkit import ChatServer, UnavailableError

SLOW_S = 1.0


def revoke_fails_once() -> None:
    """As when storage does not answer."""
    revoke = ChatServer.revoke
    failed: list[bool] = []

    async def once_away(
        self: ChatServer,
        *,
        user_id: str | None = None,
        device_id: str | None = None,
        token: str | None = None,
    ) -> None:
        if not failed:
            failed.append(True)
            raise UnavailableError("storage did not answer")
        await revoke(self, user_id=user_id, device_id=device_id, token=token)

    ChatServer.revoke = once_away  # type: ignore[method-assign, assignment]


def sessions_end_slowly() -> None:
    """Django's database takes its time."""
    from django.contrib.sessions.backends.db import SessionStore

    delete = SessionStore.delete

    def slow(self: SessionStore, session_key: str | None = None) -> None:
        time.sleep(SLOW_S)
        delete(self, session_key)

    SessionStore.delete = slow


def views_in_a_transaction() -> None:
    """Django's ATOMIC_REQUESTS."""
    from django.conf import LazySettings

    configure = LazySettings.configure

    def atomic(self: LazySettings, **options: Any) -> None:
        options["DATABASES"]["default"]["ATOMIC_REQUESTS"] = True
        configure(self, **options)

    LazySettings.configure = atomic


FAULTS = {
    "revoke-fails-once": revoke_fails_once,
    "sessions-end-slowly": sessions_end_slowly,
    "views-in-a-transaction": views_in_a_transaction,
}

if __name__ == "__main__":
    _, example, fault, *arguments = sys.argv
    FAULTS[fault]()
    sys.argv = [example, *arguments]
    sys.path.insert(0, str(Path(example).parent))
    runpy.run_path(example, run_name="__main__")
