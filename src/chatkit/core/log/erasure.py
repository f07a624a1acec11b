"""What happens when a user is erased, and acts that have no other effect than their row in the audit. For each command:
what it needs, and what it does.

An erasure is many small steps, most of which are commands that others use too (a ban, the end of a membership, a recall
by the host). Here are its beginning, which is kept until its end so that a server that was killed in between goes on
with it, and what no other command does. `server.erasure` takes the steps.
"""

from __future__ import annotations

from .audit import HOST, note
from .commands import BeginErasure, EndErasure, ForgetDevices, RecordAct
from .keys import Keys
from .outcomes import Done
from .sessions import forget
from .state import State


def keys_of_record(keys: Keys, command: RecordAct) -> None:
    """Nothing."""


def record_act(state: State, command: RecordAct) -> Done:
    """Write down an act that changes nothing else."""
    note(state, None, command.at_ms, command.by, command.action, command.subject, **command.detail)
    return Done()


def keys_of_begin(keys: Keys, command: BeginErasure) -> None:
    """Nothing: one that is under way goes on."""


def begin_erasure(state: State, command: BeginErasure) -> Done:
    """Keep that a user is being erased."""
    state.begun_erasures.append((command.user_id, command.erases_bodies, command.by or HOST, command.at_ms))
    bodies = "erase" if command.erases_bodies else "keep"
    note(state, None, command.at_ms, command.by, "ERASURE_BEGAN", command.user_id, bodies=bodies)
    return Done()


def keys_of_forget(keys: Keys, command: ForgetDevices) -> None:
    """The user's devices."""
    keys.devices.add(command.user_id)


def forget_devices(state: State, command: ForgetDevices) -> Done:
    """Drop all devices of a user, with what hangs on them."""
    for device_id in [*state.devices[command.user_id]]:
        forget(state, command.user_id, device_id)
    return Done()


def keys_of_end(keys: Keys, command: EndErasure) -> None:
    """Nothing."""


def end_erasure(state: State, command: EndErasure) -> Done:
    """The user is erased; what is kept of that is the audit."""
    state.ended_erasures.append((command.user_id, command.erases_bodies))
    counts = {"conversations": str(command.conversations), "messages": str(command.messages)}
    note(state, None, command.at_ms, command.by, "ERASED", command.user_id, **counts)
    return Done()
