"""Who may not be here: revocations and bans. What each needs and does, and how logins are held to them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ...errors import BannedError, RefusedError, TokenRevokedError, UnavailableError
from .audit import AuditAction, note
from .commands import OpenSession, RegisterPush, RenewLogin, Revoke
from .keys import Keys, Subject
from .outcomes import Revocation, Revoked
from .state import State, TokenRow

ASK_AGAIN_S: Final = 0.2
"""When a login may be tried again during which its user was revoked."""


def banned() -> BannedError:
    """The one answer to a banned user."""
    return BannedError("this user is banned")


def revoked() -> TokenRevokedError:
    """The one answer to a token that was withdrawn."""
    return TokenRevokedError("the login was revoked")


def keys_of_revoke(keys: Keys, command: Revoke) -> None:
    """The resume tokens that it reaches, and its place."""
    keys.new_revocations += 1
    if command.token_hash:
        keys.login_hashes.add(command.token_hash)
    elif command.device_id:
        keys.tokens.add((command.user_id, command.device_id))
    else:
        keys.token_users.add(command.user_id)


def revoke(state: State, command: Revoke) -> Revoked:
    """Keep a revocation and drop the resume tokens that it reaches."""
    made = Revocation(
        state.new_positions.pop(0),
        command.kind,
        command.user_id,
        command.device_id,
        command.token_hash,
        command.at_ms,
        command.ends_ms,
    )
    subject = (made.user_id, made.device_id, made.token_hash)
    state.revocations.setdefault(subject, {})[made.kind] = made
    state.new_revocations[subject, made.kind] = made
    if made.holds:
        _drop_tokens(state, made)
        if made.user_id:
            _drop_push(state, made.user_id, made.device_id)
        else:
            _drop_push_of_login(state, made.token_hash)
    action: AuditAction = "UNBANNED" if made.kind == "BANNED" and not made.holds else made.kind
    of_token = made.token_hash.hex()
    note(state, None, made.at_ms, None, action, made.user_id, device=made.device_id, token=of_token)
    return Revoked(made)


def _drop_tokens(state: State, revocation: Revocation) -> None:
    for place, token in state.tokens.items():
        if token is not None and reaches(revocation, token):
            state.tokens[place] = None
            state.new_tokens.pop(place, None)
            state.dropped_tokens.add(place)
            _drop_push(state, *place)


def _drop_push(state: State, user_id: str, device_id: str) -> None:
    """Nobody who was sent away is told anything more: forget where one device, or each of a user's, is reached."""
    for place in [*state.push_tokens]:
        if place[0] == user_id and device_id in ("", place[1]):
            del state.push_tokens[place]
    state.dropped_push.append((user_id, device_id, None, None))


def _drop_push_of_login(state: State, token_hash: bytes) -> None:
    for place, row in [*state.push_tokens.items()]:
        if row.login_hash == token_hash:
            del state.push_tokens[place]
    state.dropped_push_logins.append(token_hash)


def reaches(revocation: Revocation, token: TokenRow) -> bool:
    """Whether a resume token is of a login that is revoked."""
    if revocation.token_hash:
        return token.login_hash == revocation.token_hash
    return token.user_id == revocation.user_id and revocation.device_id in ("", token.device_id)


def keys_of_login(keys: Keys, command: OpenSession | RenewLogin | RegisterPush) -> None:
    """Everything that may stand against a login."""
    keys.revocations.update(subjects_of(command.user_id, command.device_id, command.token_hash))


def check_login(state: State, command: OpenSession | RenewLogin | RegisterPush) -> None:
    """Hold a login to what was revoked; see OpenSession for the refusals."""
    for subject in subjects_of(command.user_id, command.device_id, command.token_hash):
        error = refusal(state.revocations[subject].values(), command.issued_ms, command.asked_at)
        if error is not None:
            raise error


def refusal(
    revocations: Iterable[Revocation], issued_ms: int | None, asked_at: int | None
) -> RefusedError | None:
    """What revocations of one subject say to a login that they reach, a ban first; None if nothing.

    Args:
        revocations: Of the login's user, device or token.
        issued_ms: When the token was issued, if it says so.
        asked_at: Position of the newest revocation that was known before the host was asked; None: no matter.
    """
    by_kind = sorted(revocations, key=lambda it: it.kind)
    return next(filter(None, (_refusal(it, issued_ms, asked_at) for it in by_kind)), None)


def _refusal(revocation: Revocation, issued_ms: int | None, asked_at: int | None) -> RefusedError | None:
    if not revocation.holds:
        return None
    if revocation.kind == "BANNED":
        return banned()
    if revocation.token_hash:
        return revoked()
    if issued_ms is not None:
        return revoked() if issued_ms <= revocation.at_ms else None
    if asked_at is not None and revocation.position > asked_at:
        return UnavailableError("the login was revoked just now; try again", retry_after_s=ASK_AGAIN_S)
    return None


def subjects_of(user_id: str, device_id: str | None, token_hash: bytes) -> list[Subject]:
    """Everything by which a login may be reached."""
    subjects: list[Subject] = [(user_id, "", b""), ("", "", token_hash)]
    return subjects if device_id is None else [*subjects, (user_id, device_id, b"")]
