"""What happens to devices and logins: opening, resuming, renewing. For each command: what it needs and what it does."""

from __future__ import annotations

from . import rules
from .commands import EndLogins, OpenSession, RenewLogin, ResumeSession
from .keys import Keys
from .outcomes import Done, MembershipSnapshot, SessionOpened
from .state import DeviceCursor, DeviceState, MembershipState, State, TokenRow


def keys_of_open(keys: Keys, command: OpenSession) -> None:
    """The user's devices and conversations."""
    keys.devices.add(command.user_id)
    keys.listed.add(command.user_id)


def open_session(state: State, command: OpenSession) -> SessionOpened:
    """Register the device, replace its resume token, and list the user's conversations."""
    return _open(state, command, command.user_id, command.identity_expires_ms, command.scope)


def keys_of_resume(keys: Keys, command: ResumeSession) -> None:
    """The token that is shown."""
    keys.token_hashes.add(command.used_hash)


def keys_after_resume(state: State, command: ResumeSession, more: Keys) -> None:
    """Devices and conversations of the token's user."""
    place = state.token_places[command.used_hash]
    if place is not None:
        user_id = place[0]
        if user_id not in state.devices:
            more.devices.add(user_id)
        if user_id not in state.listed:
            more.listed.add(user_id)


def resume_session(state: State, command: ResumeSession) -> SessionOpened:
    """Spend a resume token and go on as if its user had logged in."""
    place = state.token_places[command.used_hash]
    token = state.tokens[place] if place is not None else None
    if token is None or token.token_hash != command.used_hash or token.device_id != command.device_id:
        raise rules.token_revoked()
    if command.at_ms > token.expires_ms:
        raise rules.token_revoked()
    rules.check_login(token.identity_expires_ms, command.leeway_ms, command.at_ms)
    return _open(state, command, token.user_id, token.identity_expires_ms, token.scope)


def _open(
    state: State,
    command: OpenSession | ResumeSession,
    user_id: str,
    identity_expires_ms: int | None,
    scope: str,
) -> SessionOpened:
    device_id = command.device_id
    register(state, user_id, device_id, command.at_ms)
    _see(state, user_id, device_id, command.at_ms)
    token = TokenRow(
        user_id, device_id, command.resume_hash, command.resume_expires_ms, identity_expires_ms, scope
    )
    _replace_token(state, token)
    return SessionOpened(user_id, device_id, identity_expires_ms, scope, _conversations(state, user_id))


def _conversations(state: State, user_id: str) -> tuple[MembershipSnapshot, ...]:
    """The user's conversations by id, each as this batch sees it."""
    found = []
    for key, loaded in state.listed[user_id].items():
        conversation = state.conversations.get(key)
        found.append(loaded if conversation is None else conversation.snapshot())
    return tuple(sorted(found, key=lambda it: it.conversation_id))


def _replace_token(state: State, token: TokenRow) -> None:
    """Keep a device's resume token; the former one no longer holds."""
    place = (token.user_id, token.device_id)
    state.tokens[place] = state.new_tokens[place] = token
    state.token_places[token.token_hash] = place


def _see(state: State, user_id: str, device_id: str, at_ms: int) -> None:
    """Note when a known device was seen; one that is not known stays unknown."""
    device = state.devices[user_id].get(device_id)
    if device is not None:
        device.last_seen_ms = at_ms
        device.changed = True


def keys_of_renew_login(keys: Keys, command: RenewLogin) -> None:
    """The device and its resume token."""
    keys.devices.add(command.user_id)
    keys.tokens.add((command.user_id, command.device_id))


def renew_login(state: State, command: RenewLogin) -> Done:
    """Keep a newer login with the device's resume token; without one there is nothing to do."""
    _see(state, command.user_id, command.device_id, command.at_ms)
    token = state.tokens[command.user_id, command.device_id]
    if token is not None:
        _replace_token(
            state, token._replace(identity_expires_ms=command.identity_expires_ms, scope=command.scope)
        )
    return Done()


def register(state: State, user_id: str, device_id: str, at_ms: int) -> None:
    """Make sure that a device is known and has a cursor wherever its user is a member.

    Where the user's cursors are not loaded the store does it, in one statement for all conversations. If that makes
    more than `DEVICES_MAX` devices, the longest unseen other one is forgotten.
    """
    known = state.devices[user_id]
    if device_id in known:
        return
    for membership in state.with_cursors(user_id):
        if membership.is_current:
            start = start_of_device(membership)
            membership.devices[device_id] = DeviceCursor(start, at_ms, new=True)
    unseen = sorted(known, key=lambda other: (known[other].last_seen_ms, other))
    known[device_id] = DeviceState(at_ms, at_ms, changed=True)
    state.registered[user_id, device_id] = at_ms
    for surplus in unseen[: max(0, len(known) - rules.DEVICES_MAX)]:
        _forget(state, user_id, surplus)


def start_of_device(membership: MembershipState) -> int:
    """Where a device starts that has no cursor here yet."""
    cursors = [device.delivered_seq for device in membership.devices.values()]
    return rules.start_of_device(cursors, membership.intervals)


def _forget(state: State, user_id: str, device_id: str) -> None:
    """Drop a device with its cursors and its token; what only this one still missed is missed no more."""
    place = (user_id, device_id)
    del state.devices[user_id][device_id]
    state.registered.pop(place, None)
    state.forgotten.add(place)
    state.tokens[place] = None
    state.new_tokens.pop(place, None)
    for membership in state.with_cursors(user_id):
        if membership.devices.pop(device_id, None) is not None and membership.is_current:
            membership.conversation.may_close = True


def keys_of_end_logins(keys: Keys, command: EndLogins) -> None:
    """Nothing."""


def end_logins(state: State, command: EndLogins) -> Done:
    """Forget every resume token, also those that this batch gave."""
    state.logins_ended = True
    state.new_tokens.clear()
    state.tokens.update(dict.fromkeys(state.tokens))
    return Done()
