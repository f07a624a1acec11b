"""Links to a file: short-lived, signed, and of no use for anything else.

A link names the file with its size and type, the user it was given to, and its end. The signature covers these, and
whether it is to upload or to download by. So whoever made one up is told so before anything is looked up; and nothing
else in a URL gives a right.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final, Literal
from urllib.parse import urlencode

import msgspec

from ...errors import ForbiddenError
from ...storage.base import BlobRow

Direction = Literal["GET", "PUT"]

_PURPOSE: Final = b"chatkit blob links 1"


class SignedLink(msgspec.Struct, frozen=True):
    """What a link says, in the order of its query.

    Attributes:
        direction: Whether it is to download by or to upload.
        blob_id: The file.
        user_id: To whom it was given.
        size: Of the file.
        mime: Its type.
        expires_ms: When the link ends.
    """

    direction: Direction
    blob_id: str
    user_id: str
    size: int
    mime: str
    expires_ms: int

    @property
    def words(self) -> bytes:
        """What is signed."""
        return "\0".join(map(str, msgspec.structs.astuple(self))).encode()

    def is_of(self, row: BlobRow) -> bool:
        """Whether it is a link to this file."""
        return (self.blob_id, self.size, self.mime) == (row.blob_id, row.size, row.mime)


class Links:
    """Makes links and checks them.

    Args:
        key: The secret; the same on all nodes of a log.
    """

    def __init__(self, key: bytes) -> None:
        self._key = hmac.digest(key, _PURPOSE, hashlib.sha256)

    def make(self, link: SignedLink) -> str:
        """The path and query of a link, from the root of the API."""
        query = {"user": link.user_id, "bytes": link.size, "type": link.mime, "expires": link.expires_ms}
        return f"/v1/blobs/{link.blob_id}/content?{urlencode({**query, 'signature': self._sign(link)})}"

    def check(self, link: SignedLink, signature: str, now_ms: int) -> None:
        """Raises ForbiddenError for a link that was not made here, or has ended; ask for another one."""
        if not hmac.compare_digest(self._sign(link).encode(), signature.encode("utf-8", "surrogatepass")):
            raise refused_link()
        if link.expires_ms <= now_ms:
            raise ForbiddenError("this link has ended; ask for another one", reason="LINK")

    def _sign(self, link: SignedLink) -> str:
        digest = hmac.digest(self._key, link.words, hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def refused_link() -> ForbiddenError:
    """The answer to a link that is none."""
    return ForbiddenError("this link is not valid", reason="LINK")
