"""What a check is given and what it finds; and how all of them are run, each within its time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import anyio
import msgspec

from ...server.config import ServerConfig

CHECK_S = 10.0
"""How long one check may take; then it has failed."""

Status = Literal["ok", "warning", "failure"]


class Finding(msgspec.Struct, frozen=True):
    """What a check found.

    Attributes:
        check: Its name.
        status: `warning`: it works, and will not always; `failure`: a server would not start, or would lose messages.
        words: What was seen. Never a secret.
        advice: What to do about it; "" if all is well.
    """

    check: str
    status: Status
    words: str
    advice: str = ""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked at.

    Attributes:
        storage: The address of the log.
        bus: That of the bus; `local://` for none.
        queue: That of the delivery queue; None for none.
        archive: That of the archive; None for none.
        blobs: That of the place for uploaded files; None for none.
        workers: How many server processes share all of it.
        reads_archive: Whether it shows old messages: a worker does not.
        jwks_url: Where the issuer publishes keys; None for nowhere.
        config: The server's settings.
        pushes: The kinds of push providers.
        features: Extras that other settings need.
        root: Where `proc` and `sys` are; for tests.
    """

    storage: str
    bus: str = "local://"
    queue: str | None = None
    archive: str | None = None
    blobs: str | None = None
    workers: int = 1
    reads_archive: bool = True
    jwks_url: str | None = None
    config: ServerConfig = ServerConfig()
    pushes: Sequence[str] = ()
    features: Sequence[str] = ()
    root: Path = Path("/")

    @property
    def file(self) -> Path | None:
        """The SQLite file; None if the log is elsewhere."""
        scheme, _, rest = self.storage.partition("://")
        return Path(rest[1:]) if scheme == "sqlite" else None


Check = Callable[[Subject], Awaitable[list[Finding]]]


async def run_all(checks: Sequence[Check], subject: Subject, *, check_s: float = CHECK_S) -> list[Finding]:
    """What every check found, in their order; they run side by side."""
    found: list[list[Finding]] = [[] for _ in checks]

    async def run(place: int, check: Check) -> None:
        found[place] = await _bounded(check, subject, check_s)

    async with anyio.create_task_group() as tasks:
        for place, check in enumerate(checks):
            tasks.start_soon(run, place, check)
    return [finding for findings in found for finding in findings]


async def _bounded(check: Check, subject: Subject, check_s: float) -> list[Finding]:
    name = check.__name__
    with anyio.move_on_after(check_s):
        try:
            return await check(subject)
        except Exception as error:  # whatever it is, the other checks are told; its words may hold an address
            why = getattr(error, "strerror", None) or type(error).__name__
            return [Finding(name, "failure", f"cannot be looked at: {why}")]
    return [Finding(name, "failure", f"no answer within {check_s:g} s", "see that it is reachable from here")]


async def in_thread(look: Callable[..., Any], *arguments: Any) -> Any:
    """Do something that blocks. A disk that hangs keeps its thread, and nobody else."""
    return await anyio.to_thread.run_sync(look, *arguments, abandon_on_cancel=True)
