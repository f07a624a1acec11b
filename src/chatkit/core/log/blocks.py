"""What happens to blocks, and what they forbid. For each command: what it needs, and what it does.

A block is one user's wish about another one. It is kept in a row of its own, and repeated in the SINGLE of the two, so
that a message there needs no further look.
"""

from __future__ import annotations

from collections.abc import Iterable

from . import rules
from .commands import BlockUser, UnblockUser
from .keys import Keys
from .outcomes import Done
from .state import State


def keys_of_block(keys: Keys, command: BlockUser | UnblockUser) -> None:
    """The block, how many there are, and the SINGLE of the two."""
    place = (command.user_id, command.blocked_id)
    keys.blocks.add(place)
    keys.block_counts.add(command.user_id)
    keys.pairs.add(rules.pair_of(place))


def block_user(state: State, command: BlockUser) -> Done:
    """Block a user; twice is once, and the block counts from the first time."""
    place = (command.user_id, command.blocked_id)
    if not state.blocks[place]:
        rules.check_may_block(*place, state.block_counts[command.user_id])
        _set(state, place, command.at_ms)
    return Done()


def unblock_user(state: State, command: UnblockUser) -> Done:
    """End a block; without one there is nothing to do."""
    place = (command.user_id, command.blocked_id)
    if state.blocks[place]:
        _set(state, place, None)
    return Done()


def _set(state: State, place: tuple[str, str], since_ms: int | None) -> None:
    """Begin a block, or end it (None), in its row and in the SINGLE of the two."""
    state.blocks[place] = since_ms is not None
    state.changed_blocks[place] = since_ms
    state.block_counts[place[0]] += 1 if since_ms is not None else -1
    single = state.pairs[rules.pair_of(place)]
    if single is not None and single.pair is not None:
        single.blocks ^= rules.block_bit(single.pair, place[0])
        single.changed = True


def check_not_blocked_by(state: State, user_id: str, others: Iterable[str]) -> None:
    """None of the others blocked the user: ForbiddenError."""
    if any(state.blocks[other, user_id] for other in others if other != user_id):
        raise rules.cannot_be_added()


def blocks_of_pair(state: State, pair: str) -> int:
    """Which members of a new SINGLE blocked the other one."""
    first, second = rules.members_of_pair(pair)
    return sum(
        rules.block_bit(pair, one)
        for one, other in ((first, second), (second, first))
        if state.blocks[one, other]
    )
