"""The verbs for hosts that concern all there is of a user."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ..storage.base import Done, EntryReader, RecordAct
from .erasure import Bodies, Erased, Erasures
from .host import HostVerbs, check_ids, check_value, named
from .person import lines_of


class PersonVerbs(HostVerbs):
    """What a host may do for the law; `ChatServer` is one.

    Attributes:
        erasures: Erases, step by step.
        log: Reads of the log, with the bodies that are in an archive.
    """

    erasures: Erasures
    log: EntryReader

    async def erase_user(self, user_id: str, *, bodies: Bodies = "keep", by: str | None = None) -> Erased:
        """Erase what there is of a user: devices, logins, push tokens, cursors of devices, blocks, mutes, memberships.

        When it returns, they are banned (`unban` lets somebody in under that id again), their connections have ended,
        they are a member of no group (one that they owned has another owner), and with `bodies="erase"` each message
        that they wrote is recalled, for everybody, as by any recall. SINGLEs stay for the other one, and so do ids of
        messages and keys, and that all this was done, in the audit. It takes many small steps among the work of
        others; if it is interrupted, or the process killed, the next server that starts goes on. A second call does
        what is left.

        Args:
            user_id: Whom; nobody need know this id.
            bodies: What becomes of the messages that they wrote.
            by: Who asked for it, for the audit; None: the host.

        Raises:
            BadRequestError: No valid id, or neither "keep" nor "erase".
            ConfigurationError: The store cannot say what there is of a user.
            UnavailableError: Storage refused for long; the erasure is kept, and a retry is safe.

        Source: docs/privacy.md
        """
        check_ids(user_id, *named(by))
        check_value(Bodies, "value of `bodies`", bodies)
        return await self.erasures.erase(user_id, bodies, by)

    async def note_read(self, by: str, what: str, query: str) -> None:
        """Write down in the audit that an administrator read something, before they get it.

        Args:
            by: Who.
            what: A path of the administration, such as `messages/ID`.
            query: What was asked of it.

        Raises:
            UnavailableError: Storage refused; then they do not get it either.
        """
        command = RecordAct("READ", by, what, {"query": query}, self.erasures.now_ms())
        await self.engine.execute(command, Done)

    async def export_user(self, user_id: str, *, by: str | None = None) -> AsyncIterator[bytes]:
        """All there is of a user, as lines of JSON, in bounded memory: what is shown is in docs/privacy.md.

        That it was done is in the audit before the first line comes.

        Args:
            user_id: Whose.
            by: Who asked for it, for the audit; None: the host.

        Raises:
            BadRequestError: No valid id.
            ConfigurationError: The store cannot say what there is of a user.
            UnavailableError: Storage refused; begin again.
        """
        check_ids(user_id, *named(by))
        now_ms = self.erasures.now_ms()
        await self.engine.execute(RecordAct("EXPORTED", by, user_id, {}, now_ms), Done)
        async for line in lines_of(self.store, self.log, user_id, now_ms):
            yield line
