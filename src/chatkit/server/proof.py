"""What a login or a request was let in by."""

from __future__ import annotations

import msgspec

from ..types import Identity


class Proof(msgspec.Struct, frozen=True):
    """A token, and who it proved.

    Attributes:
        identity: What the host said.
        token_hash: Digest of the token.
        asked_at: Position of the newest revocation that was known before the host was asked.
    """

    identity: Identity
    token_hash: bytes
    asked_at: int

    @property
    def user_id(self) -> str:
        """Whom it proved."""
        return self.identity.user_id
