"""The verbs for hosts that end logins."""

from __future__ import annotations

from ..errors import BadRequestError
from ..storage.base import RevocationKind, Revoke, Revoked
from ..wire import events as ev
from .host import check_ids, check_value
from .login import Login, digest_of_token
from .member_verbs import MemberVerbs


class LoginVerbs(MemberVerbs):
    """What a host may do about who is here; `ChatServer` is one.

    When a call returns, it is durable, the sessions of this node have ended, and those of the other nodes end within a
    second. An UnavailableError says that storage did not answer: it may have taken effect, and may be repeated.

    Attributes:
        login: Who a token proves its bearer to be.
    """

    login: Login

    async def revoke(
        self, *, user_id: str | None = None, device_id: str | None = None, token: str | None = None
    ) -> None:
        """End the logins of a user, of one of their devices, or by one token: close 4101, resume tokens are gone.

        A token is refused for good from here on. Of a user or device those are refused that were issued up to now; a
        token that does not say when it was issued (`Identity.issued_at_ms`, the claim `iat`) is refused by nobody but
        the host, who is asked about it again.

        Args:
            user_id: Whose.
            device_id: Only this device of theirs.
            token: Instead of both: the token, also one that the host refuses already.

        Raises:
            BadRequestError: Neither or both of user and token, or no valid id.
            UnavailableError: See above.

        Source: docs/embedding.md#ending-a-login
        """
        if (token is None) == (user_id is None) or (token is not None and device_id is not None):
            raise BadRequestError("give either `user_id`, with or without `device_id`, or `token`")
        if token is not None:
            check_value(ev.Token, "token", token, shown=False)
            ends_ms = await self.login.end_of(token)
            await self._revoke(
                Revoke("REVOKED", "", "", digest_of_token(token), ends_ms, self.login.now_ms())
            )
        else:
            check_ids(user_id, *(() if device_id is None else (device_id,)))
            await self._revoke_user("REVOKED", user_id, device_id, None)

    async def disconnect(self, user_id: str, device_id: str | None = None) -> None:
        """End the connections of a user, or of one device: close 4003. They may come back at once.

        Raises:
            BadRequestError: No valid id.
            UnavailableError: See the class.
        """
        check_ids(user_id, *(() if device_id is None else (device_id,)))
        await self._revoke_user("DISCONNECTED", user_id, device_id, self.login.now_ms())

    async def ban(self, user_id: str) -> None:
        """Keep a user out until `unban`: close 4202, resume tokens are gone, logins and requests are FORBIDDEN.

        Raises:
            BadRequestError: No valid id.
            UnavailableError: See the class.
        """
        check_ids(user_id)
        await self._revoke_user("BANNED", user_id, None, None)

    async def unban(self, user_id: str) -> None:
        """Let a user log in again; one who was not banned may anyhow.

        Raises:
            BadRequestError: No valid id.
            UnavailableError: See the class.
        """
        check_ids(user_id)
        await self._revoke_user("BANNED", user_id, None, 0)

    async def _revoke_user(
        self, kind: RevocationKind, user_id: str | None, device_id: str | None, ends_ms: int | None
    ) -> None:
        assert user_id is not None, "it was checked"
        await self._revoke(Revoke(kind, user_id, device_id or "", b"", ends_ms, self.login.now_ms()))

    async def _revoke(self, command: Revoke) -> None:
        await self.engine.execute(command, Revoked)
