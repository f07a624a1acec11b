"""Versions of what chatkit runs on, and the extras that the settings need."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from ...drivers.sqlite import SQLITE_VERSION
from ...drivers.sqlite_releases import faults_of
from .base import Finding, Subject

PYTHON_MIN: Final = (3, 11)

_ZSTD: Final = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"

NEEDS: Final = {
    "server": ("starlette", "uvicorn", "jwt"),
    "postgres": ("asyncpg",),
    "nats": ("nats",),
    "redis": ("redis",),
    "kafka": ("confluent_kafka",),
    "metrics": ("prometheus_client",),
    "otel": ("opentelemetry.trace",),
    "archive": ("obstore", _ZSTD),
    "push": ("h2", "jwt", "cryptography", "google.auth", "http_ece"),
}
"""Modules of each extra."""

_SCHEMES: Final = {
    "postgresql": "postgres",
    "postgres": "postgres",
    "nats": "nats",
    "tls": "nats",
    "redis": "redis",
    "rediss": "redis",
    "jetstream": "nats",
    "jetstream+tls": "nats",
    "kafka": "kafka",
}
"""The extra that an address needs."""

_NEEDS_PUSH: Final = ("apns", "fcm", "webpush")


async def python(_: Subject) -> list[Finding]:
    """Python and chatkit itself."""
    shown = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < PYTHON_MIN:
        return [Finding("python", "failure", f"Python {shown}", "take Python 3.11 or newer")]
    return [Finding("python", "ok", f"Python {shown}, chatkit {_version('chatkit-engine')}")]


async def sqlite(subject: Subject) -> list[Finding]:
    """The SQLite that Python brings, where the log is in a file."""
    if subject.file is None:
        return []
    shown, faults = ".".join(map(str, SQLITE_VERSION)), faults_of(SQLITE_VERSION)
    if not faults:
        return [Finding("sqlite", "ok", f"SQLite {shown}: nothing is known against it")]
    return [
        Finding(
            "sqlite",
            "warning",
            f"SQLite {shown} {fault.words}",
            fault.advice,
        )
        for fault in faults
    ]


async def extras(subject: Subject) -> list[Finding]:
    """Whether what the settings need is installed and can be loaded."""
    findings = [_extra(name) for name in sorted(_needed(subject))]
    return [found for found in findings if found is not None]


def _needed(subject: Subject) -> set[str]:
    addresses = (subject.storage, subject.bus, subject.queue or "")
    needed = {_SCHEMES[scheme] for it in addresses if (scheme := it.partition("://")[0]) in _SCHEMES}
    if any(kind in _NEEDS_PUSH for kind in subject.pushes):
        needed.add("push")
    if subject.archive is not None or (subject.blobs or "").startswith("s3://"):
        needed.add("archive")
    return {"server", *subject.features, *needed}


def _extra(name: str) -> Finding | None:
    missing = [module for module in NEEDS[name] if not _can_be_loaded(module)]
    if not missing:
        return Finding("extras", "ok", f"{name}: {', '.join(NEEDS[name])}")
    words = f"{name} lacks {', '.join(missing)}"
    return Finding("extras", "failure", words, f"pip install 'chatkit-engine[{name}]'")


def _can_be_loaded(module: str) -> bool:
    try:
        importlib.import_module(module)
    except Exception:  # one that is there and broken is of no use either
        return False
    return True


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "from a checkout"
