"""The verbs for hosts about how long messages are kept. `ChatServer` has them."""

from __future__ import annotations

from .._arguments import check_number
from ..errors import BadRequestError, ConfigurationError
from ..storage.base import Done
from ..storage.cold import EXPIRE_MAX
from .archiving.config import milliseconds_kept
from .host import HostVerbs, check_ids, named


class RetentionVerbs(HostVerbs):
    """What a host may do about how long messages are kept; `ChatServer` is one."""

    async def set_retention(
        self, conversation_id: str, keep_s: float | None, *, by: str | None = None
    ) -> None:
        """Say how long messages of a conversation are kept; then they are deleted for good, as `delete_history` does.

        A server with `archiving` does it within `ArchiveConfig.interval_s`, or `chatkit archive run`. The newest entry
        of a conversation stays.

        Args:
            conversation_id: Which.
            keep_s: So many seconds, to the millisecond and at least one; 0 is for ever; None leaves it to
                `ArchiveConfig.keep_s`.
            by: Who asked for it, for the audit; None: the host.

        Raises:
            BadRequestError: No valid id, or a number below 0.
            NotFoundError: There is no such conversation.
            UnavailableError: Storage refused; a retry is safe.
        """
        check_ids(conversation_id, *named(by))
        keep_ms = None if keep_s is None else _milliseconds(keep_s)
        await self.engine.execute(self.engine.retention(conversation_id, keep_ms, by), Done)

    async def delete_history(self, conversation_id: str, up_to_seq: int, *, by: str | None = None) -> None:
        """Delete the messages of a conversation up to a seq for good, for everybody. The newest entry stays.

        Nobody can read them from then on; who pages through the conversation is told where it begins now. Very many go
        in steps, the oldest first. Their bodies leave the log and the archive with the next run of the archiver. What
        stays of them: their numbers, so that there is no gap, and their keys, so that a resend gets its old answer.

        Args:
            conversation_id: Which.
            up_to_seq: The last one to go; one that is gone already changes nothing.
            by: Who asked for it, for the audit; None: the host.

        Raises:
            BadRequestError: No valid id, or a seq below 1.
            NotFoundError: There is no such conversation.
            UnavailableError: Storage refused, and the oldest may be gone already; a retry is safe.
        """
        check_ids(conversation_id, *named(by))
        if type(up_to_seq) is not int or up_to_seq < 1:
            raise BadRequestError("up_to_seq must be a whole number of at least 1")
        _, head_seq = (await self.store.head_seqs([conversation_id])).get(conversation_id, ("", 0))
        # with each go the rows of what was said of it, so one commit takes not too many
        for floor_seq in (*range(EXPIRE_MAX, min(up_to_seq, head_seq), EXPIRE_MAX), up_to_seq):
            await self.engine.execute(self.engine.expiry(conversation_id, floor_seq, by), Done)


def _milliseconds(keep_s: float) -> int:
    try:
        check_number("keep_s", keep_s, least=0)
    except ConfigurationError as error:
        raise BadRequestError(str(error)) from None
    if keep_s > 1e11:
        raise BadRequestError("keep_s must be at most 100000000000")
    return milliseconds_kept(keep_s)
