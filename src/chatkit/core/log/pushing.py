"""What happens to push tokens and to who is woken. For each command: what it needs, and what it does.

None of these rows is loaded: each command says all of what its row holds from now on.
"""

from __future__ import annotations

from hashlib import sha256

from .access import check_login, keys_of_login
from .commands import Mute, RegisterPush, UnregisterPush
from .keys import Keys
from .outcomes import Done
from .sessions import register
from .state import PushTokenRow, State


def keys_of_mute(keys: Keys, command: Mute) -> None:
    """The membership."""
    keys.conversations.add(command.conversation_id)
    keys.members.add((command.conversation_id, command.user_id))


def mute(state: State, command: Mute) -> Done:
    """Keep until when a member is not woken."""
    membership = state.joined(command.conversation_id, command.user_id)
    state.mutes[membership.conversation.key, command.user_id] = (
        command.until_ms,
        command.but_mentions and command.until_ms > 0,
    )
    return Done()


def keys_of_register_push(keys: Keys, command: RegisterPush) -> None:
    """The user's devices, and what may stand against the login."""
    keys.devices.add(command.user_id)
    keys_of_login(keys, command)


def register_push(state: State, command: RegisterPush) -> Done:
    """Keep a device's token, and make sure that the device is known."""
    check_login(state, command)
    register(state, command.user_id, command.device_id, command.at_ms, command.rule)
    place = (command.user_id, command.device_id)
    digest = push_token_hash(command.provider, command.token)
    for other in [it for it, row in state.push_tokens.items() if row.token_hash == digest]:
        del state.push_tokens[other]
    state.taken_push.add(digest)
    state.dropped_push.append(
        (*place, None, None)
    )  # its former one goes, also if this one is taken from it again
    state.push_tokens[place] = PushTokenRow(
        *place,
        command.provider,
        command.token,
        digest,
        command.hide_body,
        command.at_ms,
        command.token_hash,
    )
    return Done()


def keys_of_unregister_push(keys: Keys, command: UnregisterPush) -> None:
    """Nothing."""


def unregister_push(state: State, command: UnregisterPush) -> Done:
    """Forget a device's token."""
    place = (command.user_id, command.device_id)
    row = state.push_tokens.get(place)
    if row is not None and _is_meant(row, command):
        del state.push_tokens[place]
    state.dropped_push.append((*place, command.token, command.before_ms))
    return Done()


def _is_meant(row: PushTokenRow, command: UnregisterPush) -> bool:
    if command.before_ms is not None and row.at_ms > command.before_ms:
        return False
    return command.token in (None, row.token)


def push_token_hash(provider: str, token: str) -> bytes:
    """Names a token in the tables: 16 bytes."""
    return sha256(f"{provider}\0{token}".encode()).digest()[:16]
