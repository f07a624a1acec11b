"""What a stored body must be. Called by the stores, before one goes into an answer."""

from __future__ import annotations

import msgspec


class _Object(msgspec.Struct):
    """Any JSON object; decoding to it reads all of it and keeps nothing."""


_decode_object = msgspec.json.Decoder(_Object).decode


def body_fault(payload: object, *, is_recalled: bool) -> str:
    """What is wrong with a stored body, in words that tell nothing of it; empty if nothing is.

    A body is one JSON object in UTF-8. A recalled one was overwritten with zeros.
    """
    if not isinstance(payload, bytes):  # a damaged row may say anything, also against its schema
        return "no body"
    if is_recalled:
        return "a recalled body that was not erased" if payload.strip(b"\0") else ""
    try:
        _decode_object(payload.decode())
    except ValueError:  # msgspec's errors and wrong UTF-8
        return "a body that is not JSON"
    return ""
