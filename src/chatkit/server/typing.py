"""TYPING: who is writing, said to the others who are online. Never stored; refused first when storage is slow."""

from __future__ import annotations

from ..core.cursors import RECEIPT_MEMBERS_MAX
from ..errors import ForbiddenError, NotFoundError, OverloadedError
from ..storage.base import Store
from ..wire import events as ev
from .allowance import Allowance
from .cluster.bridge import ClusterBridge
from .committer import Committer
from .config import ServerConfig
from .live.hub import Hub
from .session import Session

_QUEUE_SHARE = 0.25
"""Of the commit queue; above it TYPING is refused."""


class Typing:
    """Takes TYPING from sessions, at most one per user, conversation and interval."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        bridge: ClusterBridge | None,
        committer: Committer,
        allowance: Allowance,
        config: ServerConfig,
    ) -> None:
        self._store = store
        self._hub = hub
        self._bridge = bridge
        self._committer = committer
        self._allowance = allowance
        self._config = config

    def request(self, session: Session, event: ev.TypingCommand) -> None:
        """TYPING: pushed to the others. Source: docs/protocol.md#typing

        Raises:
            NotFoundError: Not a member.
            ForbiddenError: The group is too large for it.
            OverloadedError: Storage is slow or fails.
            RateLimitedError: Too soon after the user's last one, here or altogether.
        """
        audience = self._hub.audience(event.conversation_id)
        if audience is None or session not in audience.sessions:
            raise NotFoundError("no such conversation")
        if audience.member_count > RECEIPT_MEMBERS_MAX:
            raise ForbiddenError(f"no TYPING in groups over {RECEIPT_MEMBERS_MAX}")
        if self._committer.load >= _QUEUE_SHARE or not self._store.healthy:
            raise OverloadedError(
                "typing is switched off for now", retry_after_s=self._config.overload_retry_s
            )
        self._allowance.typing(session.user_id, event.conversation_id)
        self._hub.push_typing(event.conversation_id, session.user_id)
        if self._bridge is not None:
            self._bridge.typed(event.conversation_id, session.user_id)
            self._bridge.flush()
