"""Links to a file: short-lived, signed, and of no use for anything else.

A link names the file, the user it was given to, and its end. The signature covers these, whether it is to upload or to
download by, and the file's size and type as they are in the log, so that a link to one file never becomes one to
another. Nothing else in a URL gives a right.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final, Literal
from urllib.parse import quote

from ...errors import ForbiddenError
from ...storage.base import BlobRow

Direction = Literal["GET", "PUT"]

_PURPOSE: Final = b"chatkit blob links 1"


class Links:
    """Makes links and checks them.

    Args:
        key: The secret; the same on all nodes of a log.
    """

    def __init__(self, key: bytes) -> None:
        self._key = hmac.digest(key, _PURPOSE, hashlib.sha256)

    def make(self, direction: Direction, row: BlobRow, user_id: str, expires_ms: int) -> str:
        """The path and query of a link, from the root of the API."""
        signature = self._sign(direction, row, user_id, expires_ms)
        user = quote(user_id, safe="")
        return f"/v1/blobs/{row.blob_id}/content?user={user}&expires={expires_ms}&signature={signature}"

    def check(
        self, direction: Direction, row: BlobRow, user_id: str, expires_ms: int, signature: str, now_ms: int
    ) -> None:
        """Raises ForbiddenError for a link that was not made here, or has ended; ask for another one."""
        expected = self._sign(direction, row, user_id, expires_ms)
        if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "surrogatepass")):
            raise ForbiddenError("this link is not valid", reason="LINK")
        if expires_ms <= now_ms:
            raise ForbiddenError("this link has ended; ask for another one", reason="LINK")

    def _sign(self, direction: Direction, row: BlobRow, user_id: str, expires_ms: int) -> str:
        words = (direction, row.blob_id, user_id, str(row.size), row.mime, str(expires_ms))
        digest = hmac.digest(self._key, "\0".join(words).encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
