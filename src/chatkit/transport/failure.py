"""Why a connection could not be made, in words that say what to look at. The WebSocket and the HTTP side share them."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from typing import Literal

FailureKind = Literal[
    "dns",
    "refused",
    "unreachable",
    "timeout",
    "certificate",
    "tls",
    "not-http",
    "proxy",
    "status",
    "subprotocol",
    "other",
]
"""What a failed try is about; one log line is written for each."""

SAID_MAX = 200
"""What others say is quoted up to so many characters."""

_UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def explain(error: BaseException, target: str, *, secure: bool) -> tuple[FailureKind, str]:
    """What kind of failure lies at the bottom of `error`, and a sentence about it.

    Args:
        error: What a library raised; its causes and groups are looked through.
        target: The host and port that was to be reached.
        secure: With TLS.
    """
    found = list(_causes(error))
    for one in found:
        explained = _explained(one, target)
        if explained is not None:
            return explained
    if any(isinstance(one, TimeoutError) for one in found):
        return "timeout", f"no answer from {target} in time"
    if secure and any(isinstance(one, ConnectionResetError | ConnectionAbortedError) for one in found):
        return "tls", f"{target} ended the connection where TLS begins; is it http:// or ws://?"
    return "other", f"cannot connect to {target}: {said(error)}"


def said(words: object, said_max: int = SAID_MAX) -> str:
    """What an error or a server said, on one line and bounded."""
    text = str(words) or type(words).__name__
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: 2 * said_max]).split())
    return line if len(line) <= said_max else line[: said_max - 1] + "…"


def _explained(error: BaseException, target: str) -> tuple[FailureKind, str] | None:
    match error:
        case ssl.SSLCertVerificationError():
            why = said(error.verify_message or error)
            return "certificate", (
                f"the certificate of {target} is not trusted ({why}); "
                "give its authority in `ssl_context` or SSL_CERT_FILE"
            )
        case ssl.SSLError():
            return "tls", f"no TLS at {target} ({said(error.reason or error)}); is it http:// or ws://?"
        case socket.gaierror():
            return "dns", f"the name of {target} is not known ({said(error.strerror or error)})"
        case ConnectionRefusedError():
            return "refused", f"nobody listens at {target} (connection refused)"
        case OSError(errno=number) if number in _UNREACHABLE:
            return "unreachable", f"there is no way to {target} ({said(error.strerror)})"
        case UnicodeError():
            return "dns", f"{target} holds a name that can be none ({said(error)})"
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it came from, and the members of groups; each once."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [it for it in (one.__cause__, one.__context__) if it is not None]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
