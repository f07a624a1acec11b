"""Files of TLS that the environment and the addresses name: whether they can be read, and by whom."""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

from .base import Finding, Subject, in_thread

_VARIABLES: Final = ("SSL_CERT_FILE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY")
_PARAMETERS: Final = ("sslrootcert", "sslcert", "sslkey", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_AUTHORITIES: Final = ("SSL_CERT_FILE", "PGSSLROOTCERT", "sslrootcert", "ssl_ca_certs")
_KEYS: Final = ("PGSSLKEY", "sslkey", "ssl_keyfile")
_NO_FILE: Final = ("", "system")  # `system` is PostgreSQL's word for the store of the machine


async def certificates(subject: Subject) -> list[Finding]:
    """Every file of TLS that is named anywhere; nothing where none is."""
    named = [*_of_environment(os.environ), *_of_addresses(subject)]
    found: list[Finding] = await in_thread(lambda: [_look(name, Path(path)) for name, path in named])
    return found


def _of_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in _VARIABLES:
        if environ.get(name, "") not in _NO_FILE:
            yield name, environ[name]


def _of_addresses(subject: Subject) -> Iterator[tuple[str, str]]:
    for address in (subject.storage, subject.bus, subject.queue or ""):
        for name, value in parse_qsl(address.partition("?")[2]):
            if name in _PARAMETERS and value not in _NO_FILE:
                yield name, value


def _look(name: str, path: Path) -> Finding:
    if not os.access(path, os.R_OK) or not path.is_file():
        words = f"{name} names {path}, which cannot be read"
        return Finding(
            "certificates", "failure", words, "name another file, or let the user of the server read it"
        )
    if name in _AUTHORITIES and not _holds_certificates(path):
        words = f"{name} names {path}, which holds no certificate"
        return Finding("certificates", "failure", words, "a file of certificates in PEM belongs there")
    if name in _KEYS and path.stat().st_mode & stat.S_IROTH:
        words = f"everybody may read {path}, the key that {name} names"
        return Finding("certificates", "warning", words, f"chmod o-r {path}")
    return Finding("certificates", "ok", f"{name}: {path}")


def _holds_certificates(path: Path) -> bool:
    try:
        ssl.create_default_context(cafile=str(path))
    except (ssl.SSLError, OSError, ValueError):
        return False
    return True
