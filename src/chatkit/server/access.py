"""Who may not be here, as this node knows it: what was revoked, and the sessions and requests that end by it.

All revocations that hold are in memory (about 500 bytes each), so that no request costs a read. Those made here are
known in the order of their commits; those of other nodes are read from the store, at once when the bus says so and
every `POLL_S` in any case, for a bus may lose. Whether a session of this node is from before a revocation made
elsewhere is asked of the store, which has no resume token of it then: clocks decide nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final

import anyio

from .._auto_reset_event import AutoResetEvent
from ..core.log.access import refusal, subjects_of
from ..core.log.keys import Subject
from ..errors import RefusedError, TokenRevokedError
from ..ports import Clock
from ..storage.base import Revocation, RevocationKind, Store
from ..wire import events as ev
from .live.hub import Hub
from .pending import PendingCommand
from .proof import Proof
from .session import Session

logger = logging.getLogger(__name__)

POLL_S: Final = 0.5
_PER_READ: Final = 1_000
_DEVICES_PER_READ: Final = 500
_BEGIN_RETRY_S: Final = 1.0
_SWEEP_LEAST: Final = 1_000

_CODES: Final[dict[RevocationKind, tuple[int, str]]] = {
    "REVOKED": (ev.CloseCode.TOKEN_REVOKED, "the login was revoked"),
    "BANNED": (ev.CloseCode.BANNED, "this user is banned"),
    "DISCONNECTED": (ev.CloseCode.DISCONNECTED, "disconnected by the host"),
}


class Access:
    """What was revoked, and the end of the sessions that it reaches.

    Args:
        refuse_queued: Takes back what still waits in the commit queue of whoever is sent away: calls back for each
            command, for the error to refuse it with or None.
        clustered: Whether other nodes revoke too.
    """

    def __init__(
        self,
        store: Store,
        hub: Hub,
        refuse_queued: Callable[[Callable[[PendingCommand], RefusedError | None]], None],
        clock: Clock,
        *,
        clustered: bool,
    ) -> None:
        self._store = store
        self._hub = hub
        self._refuse_queued = refuse_queued
        self._clock = clock
        self._clustered = clustered
        self._held: dict[Subject, dict[RevocationKind, Revocation]] = {}
        self._sweep_at = _SWEEP_LEAST
        self._read_to = 0
        self._unread: dict[tuple[Subject, RevocationKind], list[int]] = {}
        self._uncertain: set[Session] = set()
        self._woken = AutoResetEvent()
        self.position = 0
        """Of the newest revocation that this node knows: whoever asks a host now gets an answer from after it."""

    # --- for logins and requests ---

    def check(self, proof: Proof) -> None:
        """Hold a login to what this node knows now; costs no read.

        Raises:
            TokenRevokedError: It was revoked.
            BannedError: Its user is banned.
            UnavailableError: Its user was revoked after the host was asked, and only the host knows whether it still
                holds: ask again.
        """
        error = self._refusal_of(proof)
        if error is not None:
            raise error

    def check_token(self, token_hash: bytes) -> None:
        """Refuse a revoked token before anybody is asked about it. Raises TokenRevokedError."""
        error = refusal(self._held.get(("", "", token_hash), {}).values(), None, None)
        if error is not None:
            raise error

    def is_banned(self, user_id: str) -> bool:
        """Whether this node knows that a user may not be here."""
        banned = self._held.get((user_id, "", b""), {}).get("BANNED")
        return banned is not None and banned.holds

    def _refusal_of(self, proof: Proof) -> RefusedError | None:
        identity = proof.identity
        for subject in subjects_of(identity.user_id, identity.device_id, proof.token_hash):
            held = self._held.get(subject, {})
            error = refusal(held.values(), identity.issued_at_ms, proof.asked_at)
            if error is not None:
                return error
        return None

    def _refusal_of_request(self, pending: PendingCommand) -> RefusedError | None:
        """Why a queued command is refused that came by a request; None also for those of sessions, which are ended."""
        return None if pending.proof is None else self._refusal_of(pending.proof)

    # --- what happens here ---

    def committed(self, revocation: Revocation) -> None:
        """A revocation made here is durable: whoever it reaches and is here now has opened before it."""
        if revocation.position > self._read_to:
            if self._clustered:
                self._unread.setdefault(_place(revocation), []).append(revocation.position)
            self._keep(revocation)
        if revocation.ends_ms != 0:
            for session in self._reached(revocation):
                self._end(session, revocation.kind)

    def joined(self, session: Session) -> None:
        """A session was let in; if anything was ever revoked that reaches it, the store is asked which came first."""
        if not self._clustered:
            return
        subjects = subjects_of(session.user_id, session.device_id, session.token_hash)
        if any(subject in self._held for subject in subjects):
            self._uncertain.add(session)
            self._woken.set()

    def look(self) -> None:
        """Another node says that something was revoked."""
        self._woken.set()

    # --- what happens elsewhere ---

    async def begin(self) -> None:
        """Know everything that was revoked so far. Must be awaited before the first session; waits for storage."""
        while True:
            try:
                await self._read_new()
            except RefusedError as error:
                logger.warning("storage does not say who was revoked: %s", error)
                await anyio.sleep(_BEGIN_RETRY_S)
            else:
                return

    async def run(self) -> None:
        """Follow the other nodes until cancelled."""
        while True:
            await self._woken.wait(POLL_S)
            try:
                await self._read_new()
                await self._ask_about_uncertain()
            except RefusedError as error:
                logger.warning("storage does not say who was revoked: %s", error)
                await anyio.sleep(POLL_S)
            except Exception:
                logger.exception("following revocations failed")
                await anyio.sleep(POLL_S)

    async def _read_new(self) -> None:
        while True:
            found = await self._store.revocations(self._read_to, _PER_READ)
            for revocation in found:
                self._read_to = revocation.position
                self._learn(revocation)
            if len(found) < _PER_READ:
                return

    def _learn(self, revocation: Revocation) -> None:
        """Read one, in the order of positions. Of those made here that are not read yet, any is newer than this one."""
        place = _place(revocation)
        made_here = self._unread.get(place, [])
        if revocation.position in made_here:
            made_here.remove(revocation.position)
            if not made_here:
                del self._unread[place]
            return
        if not made_here:
            self._keep(revocation)
        if revocation.ends_ms == 0:
            return
        reached = self._reached(revocation)
        if revocation.kind != "DISCONNECTED":
            self._uncertain.update(reached)
            return
        for session in reached:  # one that came back meanwhile comes back once more
            self._end(session, "DISCONNECTED")

    async def _ask_about_uncertain(self) -> None:
        """End the sessions whose resume token is gone: their login was revoked after they were opened."""
        while self._uncertain:
            part = list(self._uncertain)[:_DEVICES_PER_READ]
            newest = await self._store.resume_hashes([(it.user_id, it.device_id) for it in part])
            for session in part:
                self._uncertain.discard(session)
                kept = newest.get((session.user_id, session.device_id))
                if kept is None:
                    self._end(session, self._kind_against(session))
                elif kept != session.resume_hash and not session.closed:
                    session.close(ev.CloseCode.REPLACED, "a newer session of this device took over")
                    self._hub.leave(session)

    def _kind_against(self, session: Session) -> RevocationKind:
        return "BANNED" if "BANNED" in self._held.get((session.user_id, "", b""), {}) else "REVOKED"

    # --- inside ---

    def _keep(self, revocation: Revocation) -> None:
        self.position = max(self.position, revocation.position)
        subject, kind = _place(revocation)
        kinds = self._held.setdefault(subject, {})
        kinds.pop(kind, None)
        if revocation.holds:
            kinds[kind] = revocation
            self._refuse_queued(self._refusal_of_request)
        if not kinds:
            del self._held[subject]
        if len(self._held) > self._sweep_at:
            self._sweep()

    def _sweep(self) -> None:
        """Forget the tokens that have ended by themselves."""
        now_ms = self._clock.now_ms()
        for subject, kinds in list(self._held.items()):
            if all(it.ends_ms is not None and it.ends_ms < now_ms for it in kinds.values()):
                del self._held[subject]
        self._sweep_at = max(_SWEEP_LEAST, 2 * len(self._held))

    def _reached(self, revocation: Revocation) -> list[Session]:
        presence = self._hub.presence
        if revocation.token_hash:
            return [it for it in presence.all_sessions() if it.token_hash == revocation.token_hash]
        sessions: Iterable[Session] = presence.sessions([revocation.user_id])
        return [it for it in sessions if revocation.device_id in ("", it.device_id)]

    def _end(self, session: Session, kind: RevocationKind) -> None:
        code, reason = _CODES[kind]
        if kind == "DISCONNECTED":
            session.close(code, reason)
        else:
            session.cut(code, reason)
            error = TokenRevokedError(reason)
            self._refuse_queued(lambda pending: error if pending.session is session else None)
        self._hub.leave(session)


def _place(revocation: Revocation) -> tuple[Subject, RevocationKind]:
    """Of those with the same place the newest holds."""
    return (revocation.user_id, revocation.device_id, revocation.token_hash), revocation.kind
