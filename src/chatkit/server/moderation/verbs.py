"""The verbs for hosts about what is held for review and what users reported."""

from __future__ import annotations

from typing import cast

import msgspec

from ...errors import ConfigurationError, NotFoundError
from ...storage.base import Done, HeldRecord, ModerationReader, ReportRecord, Review, Reviewed
from ...types import HeldMessage, Payload, Report, Sent
from ...types import ReviewOutcome as ReviewOutcome
from ...wire import events as ev
from ...wire.http import PAGE_LIMIT, ReportNote, ReportReason, ReviewReason
from ...wire.payload import canonical
from ..host import HostVerbs, check_ids, check_number_of, check_page, check_value, named
from .rewriting import with_text

NOT_HELD = "no such message is held: it was decided already"


class ModerationVerbs(HostVerbs):
    """What a host may decide; `ChatServer` is one. An UnavailableError may be repeated: what is decided stays so.

    With `by` an act is audited as that user's, without as the host's own.
    """

    async def held_messages(self, after: int = 0, limit: int = PAGE_LIMIT) -> list[HeldMessage]:
        """What waits for a decision, the longest waiting first; go on with the last `held_id`. At most `limit`."""
        check_page(after, limit)
        return [_held(it) for it in await self._moderation_reader.held_messages(after, limit)]

    async def release_held(
        self, held_id: int, *, content: str | Payload | None = None, by: str | None = None
    ) -> ReviewOutcome:
        """Have a held message stored, at the end of its log, and after it what its sender sent there since.

        Args:
            held_id: Which.
            content: What is stored instead: a text, as of a `Rewrite`, or a payload.
            by: Who decides.

        Returns:
            What was stored by that. Nothing, while an earlier message of the sender is held there; and the message is
            among the refused, if its sender may not write there any more.

        Raises:
            NotFoundError: It was decided already.
            BadRequestError: The content is no payload.
            UnavailableError: See the class.
        """
        return await self._review(held_id, by, release=True, content=content)

    async def refuse_held(self, held_id: int, reason: str, *, by: str | None = None) -> ReviewOutcome:
        """Refuse a held message for good; its sender is told why. What waits behind it goes on. Raises as above."""
        check_value(ReviewReason, "reason", reason)
        return await self._review(held_id, by, release=False, reason=reason)

    async def report_message(self, user_id: str, message_id: str, reason: str, note: str = "") -> None:
        """A user reports a message; a second time changes nothing.

        Raises:
            NotFoundError: There is no such message, or the user does not see it.
            BadRequestError: It is their own, or none of a user; or the words do not fit.
            UnavailableError: Storage refused; a retry is safe.
        """
        check_ids(user_id)
        check_value(ev.MessageId, "message id", message_id)
        check_value(ReportReason, "reason", reason)
        check_value(ReportNote, "note", note)
        await self.engine.execute(self.engine.report(message_id, user_id, reason, note), Done)

    async def open_reports(self, after: int = 0, limit: int = PAGE_LIMIT) -> list[Report]:
        """Reports that nobody has resolved, the oldest first; go on with the last `report_id`. At most `limit`."""
        check_page(after, limit)
        return [_report(it) for it in await self._moderation_reader.reports(after, limit)]

    async def resolve_reports(self, message_id: str, resolution: str, *, by: str | None = None) -> None:
        """Be done with all open reports of a message; copies of it that came with them go.

        Raises:
            NotFoundError: There is no such message, or it has no open report.
            UnavailableError: See the class.
        """
        check_ids(*named(by))
        check_value(ev.MessageId, "message id", message_id)
        check_value(ReportReason, "resolution", resolution)
        await self.engine.execute(self.engine.resolve_reports(message_id, by, resolution), Done)

    @property
    def _moderation_reader(self) -> ModerationReader:
        self.engine.check_loop()
        if not hasattr(self.store, "held_messages"):
            raise ConfigurationError("this store keeps nothing of moderation (ModerationReader)")
        return cast("ModerationReader", self.store)

    async def _review(
        self,
        held_id: int,
        by: str | None,
        *,
        release: bool,
        reason: str = "",
        content: str | Payload | None = None,
    ) -> ReviewOutcome:
        check_number_of("held message", held_id)
        check_ids(*named(by))
        held = await self._moderation_reader.held_message(held_id)
        if held is None:
            raise NotFoundError(NOT_HELD)
        if isinstance(content, str):
            content = with_text(msgspec.json.decode(held.payload), content)
        payload = None if content is None else canonical(content)
        command = self.engine.review(held, by, release=release, reason=reason, payload=payload)
        return _outcome(command, await self.engine.execute(command, Reviewed))


def _held(it: HeldRecord) -> HeldMessage:
    return HeldMessage(
        it.held_id,
        it.conversation_id,
        it.sender_id,
        it.client_msg_id,
        it.at_ms,
        it.reason,
        msgspec.json.decode(it.payload),
    )


def _report(it: ReportRecord) -> Report:
    return Report(
        it.report_id,
        it.message_id,
        it.conversation_id,
        it.sender_id,
        it.reporter_id,
        it.reason,
        it.note,
        it.at_ms,
        None if it.body is None else msgspec.json.decode(it.body),
    )


def _outcome(command: Review, reviewed: Reviewed) -> ReviewOutcome:
    stored = tuple(
        Sent(it.conversation_id, it.client_msg_id or "", it.message_id, it.seq, it.server_ts, it.epoch)
        for it in reviewed.entries
    )
    return ReviewOutcome(stored, tuple(client_msg_id for client_msg_id, _ in reviewed.refused))
