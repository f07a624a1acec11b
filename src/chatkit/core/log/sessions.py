"""What happens to devices and logins: opening, resuming, renewing. For each command: what it needs and what it does."""

from __future__ import annotations

from ...errors import TokenExpiredError
from . import rules
from .access import check_login, keys_of_login
from .audit import note
from .commands import (
    ANY_DEVICE,
    DeviceRule,
    EndLogins,
    LoginTerms,
    OpenSession,
    RenewLogin,
    ResumeSession,
    SeeDevices,
)
from .keys import Keys
from .outcomes import Done, MembershipSnapshot, SessionOpened
from .state import DeviceState, State, TokenRow


def keys_of_open(keys: Keys, command: OpenSession) -> None:
    """The user's devices and conversations, and what may stand against the login."""
    keys.devices.add(command.user_id)
    keys.listed.add(command.user_id)
    keys_of_login(keys, command)


def open_session(state: State, command: OpenSession) -> SessionOpened:
    """Register the device, replace its resume token, and list the user's conversations."""
    check_login(state, command)
    token = TokenRow(
        command.user_id,
        command.device_id,
        command.resume_hash,
        command.resume_expires_ms,
        command.identity_expires_ms,
        command.scope,
        command.token_hash,
        command.at_ms,
    )
    return _open(state, token, command.at_ms, command.rule)


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
    terms, login_ms = LoginTerms(token.identity_expires_ms, token.scope), token.login_ms
    if command.renewed is not None:
        terms, login_ms = command.renewed, command.at_ms
    elif command.login_max_ms is not None and command.at_ms - login_ms > command.login_max_ms:
        raise TokenExpiredError("the login must be proved again")
    rules.check_login(terms.expires_ms, command.leeway_ms, command.at_ms)
    following = token._replace(
        token_hash=command.resume_hash,
        expires_ms=command.resume_expires_ms,
        identity_expires_ms=terms.expires_ms,
        scope=terms.scope,
        login_ms=login_ms,
    )
    return _open(state, following, command.at_ms, command.rule)


def _open(state: State, token: TokenRow, at_ms: int, rule: DeviceRule) -> SessionOpened:
    user_id, device_id = token.user_id, token.device_id
    register(state, user_id, device_id, at_ms, rule)
    _see(state, user_id, device_id, at_ms)
    _replace_token(state, token)
    conversations = _conversations(state, user_id)
    return SessionOpened(
        user_id, device_id, token.identity_expires_ms, token.scope, conversations, token.login_hash
    )


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
    """The device and its resume token, and what may stand against the login."""
    keys.devices.add(command.user_id)
    keys.tokens.add((command.user_id, command.device_id))
    keys_of_login(keys, command)


def renew_login(state: State, command: RenewLogin) -> Done:
    """Keep a newer login with the device's resume token; without one there is nothing to do."""
    check_login(state, command)
    _see(state, command.user_id, command.device_id, command.at_ms)
    token = state.tokens[command.user_id, command.device_id]
    if token is not None:
        renewed = token._replace(
            identity_expires_ms=command.identity_expires_ms,
            scope=command.scope,
            login_hash=command.token_hash,
            login_ms=command.at_ms,
        )
        _replace_token(state, renewed)
    return Done()


def keys_of_see_devices(keys: Keys, command: SeeDevices) -> None:
    """The devices."""
    keys.devices.update(user_id for user_id, _ in command.devices)


def see_devices(state: State, command: SeeDevices) -> Done:
    """Note that they are online."""
    for user_id, device_id in command.devices:
        _see(state, user_id, device_id, command.at_ms)
    return Done()


def register(state: State, user_id: str, device_id: str, at_ms: int, rule: DeviceRule = ANY_DEVICE) -> None:
    """Make sure that a device is known. It needs no cursors: without a row it is where the farthest one is.

    If that makes more devices than the rule allows, the longest unseen ones that are not online are forgotten.

    Raises:
        RateLimitedError: There are not enough of those; nothing was changed.
    """
    known = state.devices[user_id]
    if device_id in known:
        return
    surplus = _surplus(known, at_ms, rule)
    known[device_id] = DeviceState(at_ms, at_ms, changed=True)
    for unseen in surplus:
        forget(state, user_id, unseen)


def _surplus(known: dict[str, DeviceState], at_ms: int, rule: DeviceRule) -> list[str]:
    """The devices to forget for one more: the longest unseen that are not online. Raises RateLimitedError."""
    devices_max = rules.DEVICES_MAX if rule.devices_max is None else rule.devices_max
    count = len(known) + 1 - devices_max
    if count <= 0:
        return []
    offline = [
        other
        for other, device in known.items()
        if other not in rule.online and (rule.seen_ms is None or device.last_seen_ms < at_ms - rule.seen_ms)
    ]
    if len(offline) < count:
        raise rules.too_many_devices(devices_max)
    return sorted(offline, key=lambda other: (known[other].last_seen_ms, other))[:count]


def forget(state: State, user_id: str, device_id: str) -> None:
    """Drop a device with its cursors and its token; what only this one still missed is missed no more."""
    place = (user_id, device_id)
    del state.devices[user_id][device_id]
    state.forgotten.add(place)
    state.tokens[place] = None
    state.new_tokens.pop(place, None)
    state.push_tokens.pop(place, None)
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
    note(state, None, command.at_ms, None, "LOGINS_ENDED", "")
    return Done()
