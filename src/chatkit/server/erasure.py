"""Erasing a user. Called by `server`, for hosts and administrators.

An erasure is kept in the store from its first step to its last, and each step is a command of its own that may be done
twice: whoever was interrupted, or killed, goes on from the beginning and finds less to do. A server that starts goes on
with what it finds. Who was told of a message hears that it is gone by the way of every recall.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final, Literal

import anyio
import msgspec

from .._abilities import offers
from .._auto_reset_event import AutoResetEvent
from ..errors import InternalError, NotFoundError, RefusedError, UnavailableError
from ..ports import Clock
from ..storage import base
from ..storage.base import (
    Done,
    Erasure,
    MembersChanged,
    ModerationReader,
    PersonReader,
    Place,
    Recalled,
    Reviewed,
    Revoked,
    Store,
)
from .engine import Engine
from .person import messages_of, person_reader, places_of
from .side_by_side import for_each

logger = logging.getLogger(__name__)

Bodies = Literal["keep", "erase"]
"""What becomes of the messages that a user wrote."""

AT_ONCE: Final = 100
"""Recalls that are under way at the same time, far fewer than fit into a commit queue."""

_TRIES: Final = 20
_REVOKED_WITHIN_S: Final = 1.5
_PAUSE_S: Final = 0.5
_AGAIN_S: Final = 30.0
_BLOCKS_PER_READ: Final = 200
_HELD_PER_READ: Final = 200


class Erased(msgspec.Struct, frozen=True):
    """What was done.

    Attributes:
        conversations: In how many the user was.
        messages: How many of their bodies went in this run.
    """

    conversations: int
    messages: int


class _Waiting:
    """Somebody who waits for the end of an erasure.

    Attributes:
        erases_bodies: What they asked for.
        begun: Whether it is in the store.
    """

    def __init__(self, erases_bodies: bool) -> None:
        self.erases_bodies = erases_bodies
        self.begun = False
        self._done = anyio.Event()
        self._result: Erased | RefusedError | None = None

    def end(self, result: Erased | RefusedError) -> None:
        self._result = result
        self._done.set()

    async def result(self) -> Erased:
        await self._done.wait()
        if isinstance(self._result, RefusedError):
            raise self._result.fresh()
        assert self._result is not None, "it has ended"
        return self._result


class Erasures:
    """Erases users, one after the other and step by step, in a task of its own: whoever asked may go.

    Args:
        engine: Carries the steps out.
        store: Knows what there is of a user, and who is being erased.
        clock: For times.
    """

    def __init__(self, engine: Engine, store: Store, clock: Clock) -> None:
        self._engine = engine
        self._store = store
        self._clock = clock
        self._waiting: dict[str, list[_Waiting]] = {}
        self._begun = AutoResetEvent()

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return self._clock.now_ms()

    async def erase(self, user_id: str, bodies: Bodies, by: str | None) -> Erased:
        """See `ChatServer.erase_user`."""
        person_reader(self._store)  # before anything is done
        waiting = _Waiting(bodies == "erase")
        self._waiting.setdefault(user_id, []).append(waiting)
        try:
            await self._do(base.BeginErasure(user_id, waiting.erases_bodies, by, self.now_ms()), Done)
            waiting.begun = True
            self._begun.set()
            return await waiting.result()
        finally:
            self._forget(user_id, waiting)

    def _forget(self, user_id: str, waiting: _Waiting) -> None:
        left = [it for it in self._waiting.get(user_id, []) if it is not waiting]
        self._waiting[user_id] = left
        if not left:
            del self._waiting[user_id]

    async def run(self) -> None:
        """Go on with what was begun and not ended, whoever began it and when, until cancelled."""
        try:
            while True:
                is_done = await self._go_on_with_all()
                await self._begun.wait(None if is_done else _AGAIN_S)
        finally:
            for user_id in [*self._waiting]:
                for waiting in self._waiting[user_id]:
                    waiting.end(UnavailableError("the server stops; it is gone on with at its next start"))

    async def _go_on_with_all(self) -> bool:
        """Whether nothing is left to be done."""
        if not offers(self._store, PersonReader):
            return True
        begun = [(user_id, it) for user_id, some in self._waiting.items() for it in some if it.begun]
        try:
            found = await self._store.erasures()
        except RefusedError as error:
            logger.warning("storage refused to say who is being erased: %s", error)
            return False
        for user_id, waiting in begun:
            if all(it.user_id != user_id for it in found):  # another node has come to its end
                waiting.end(Erased(0, 0))
        return all([await self._ended(it) for it in found])

    async def _ended(self, erasure: Erasure) -> bool:
        result: Erased | RefusedError
        try:
            result = await self._go_on(erasure)
        except RefusedError as error:
            logger.warning("an erasure was refused, and is gone on with later: %s", error)
            result = error
        except Exception:
            logger.exception("an erasure failed, and is gone on with later")
            result = InternalError("the erasure failed; it is gone on with later")
        for waiting in self._waiting.get(erasure.user_id, []):
            if waiting.begun and waiting.erases_bodies <= erasure.erases_bodies:
                waiting.end(result)
        return isinstance(result, Erased)

    async def _go_on(self, erasure: Erasure) -> Erased:
        user_id, now_ms = erasure.user_id, self.now_ms()
        await self._do(base.Revoke("BANNED", user_id, "", b"", None, now_ms), Revoked)
        await self._do(base.ForgetDevices(user_id), Done)
        await self._unblock(user_id)
        await anyio.sleep(_REVOKED_WITHIN_S)  # what other nodes still store for them is found below
        await self._refuse_held(user_id)
        conversations = messages = 0
        refused: list[RefusedError] = []
        async for place in places_of(self._store, user_id):
            conversations += 1
            await self._leave(user_id, place, refused)
            if erasure.erases_bodies:
                messages += await self._erase_bodies(user_id, place.conversation_id, refused)
        if refused:  # it has not ended, but all else is done
            raise refused[0]
        by, done = erasure.by_id or None, (conversations, messages)
        await self._do(base.EndErasure(user_id, erasure.erases_bodies, by, *done, self.now_ms()), Done)
        return Erased(conversations, messages)

    async def _unblock(self, user_id: str) -> None:
        while blocks := await self._store.blocks(user_id, None, _BLOCKS_PER_READ):
            await self._each([base.UnblockUser(user_id, it.user_id) for it in blocks], Done)

    async def _refuse_held(self, user_id: str) -> None:
        """What a moderator holds of a user is stored for nobody any more."""
        after = 0
        if not offers(self._store, ModerationReader):
            return
        while held := await self._store.held_messages(after, _HELD_PER_READ):
            for it in held:
                if it.sender_id == user_id:
                    await self._do(
                        base.Review(
                            it.held_id, it.conversation_id, user_id, None, False, self.now_ms(), "erased"
                        ),
                        Reviewed,
                    )
            after = held[-1].held_id

    async def _leave(self, user_id: str, place: Place, refused: list[RefusedError]) -> None:
        """End what there is of a user in a conversation; a SINGLE stays, for the other one."""
        now_ms = self.now_ms()
        if place.muted_until_ms and place.is_member:
            await self._try(base.Mute(place.conversation_id, user_id, 0), Done, refused)
        if place.is_member and place.type == "GROUP":
            leave = base.RemoveMember(place.conversation_id, None, user_id, now_ms)
            await self._try(leave, MembersChanged, refused)

    async def _erase_bodies(self, user_id: str, conversation_id: str, refused: list[RefusedError]) -> int:
        """Recall the messages that a user wrote in a conversation, and their edits with them; how many there were."""
        count, refused_before = 0, len(refused)
        async for some in messages_of(self._store, conversation_id, user_id, AT_ONCE):
            now_ms = self.now_ms()
            left = [it.message_id for it in some if it.kind == "USER" and not it.is_recalled]
            recalls = [base.Recall(it, None, 0, now_ms) for it in left]
            await for_each(lambda recall: self._try(recall, Recalled, refused), recalls)
            count += len(left)
        return count - (len(refused) - refused_before)

    async def _each(self, commands: Sequence[base.Command], expected: type[Any]) -> None:
        await for_each(lambda command: self._do(command, expected), commands)

    async def _try(self, command: base.Command, expected: type[Any], refused: list[RefusedError]) -> None:
        """One step; refused for good, it is added to `refused` and keeps nothing else back."""
        try:
            await self._do(command, expected)
        except RefusedError as error:
            if error.retryable:
                raise
            refused.append(error)

    async def _do(self, command: base.Command, expected: type[Any]) -> None:
        """One step, again while a retry may help. What is gone already is no refusal."""
        for turn in range(_TRIES):
            try:
                await self._engine.execute(command, expected)
                return
            except NotFoundError:
                return
            except RefusedError as error:
                if not error.retryable or turn == _TRIES - 1:
                    raise
                await anyio.sleep(error.retry_after_s or _PAUSE_S)
