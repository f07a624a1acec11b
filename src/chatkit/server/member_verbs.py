"""The verbs for hosts about what members of a group are: roles, silence, bans; and about what was said there."""

from __future__ import annotations

from datetime import datetime

from ..errors import BadRequestError
from ..storage.base import Ban, Conversation, MembersChanged, Recalled, Updated
from ..types import GrantedRole, History, Sent
from ..wire import events as ev
from ..wire.http import FOR_EVER_MS
from .host import HostVerbs, check_ids, check_page, check_value, named


class MemberVerbs(HostVerbs):
    """What a host may do to the members of a group; `ChatServer` is one.

    With `by=None` it is the host's own authority, which no policy limits, and the audit names no actor; else the policy
    decides what that user may (ForbiddenError with the reason ROLE). When a call returns it is durable and holds on
    every node. All raise RefusedError: NotFoundError where there is no such conversation or member, ForbiddenError for
    a SINGLE, UnavailableError where storage refused; a retry is safe.

    Source: docs/roles.md
    """

    async def set_role(
        self, conversation_id: str, user_id: str, role: GrantedRole, *, by: str | None = None
    ) -> Conversation:
        """Make a member an ADMIN, a MEMBER or a GUEST, as long as the membership lasts.

        The owner's role is changed by `transfer_ownership`.
        """
        check_ids(conversation_id, user_id, *named(by))
        check_value(GrantedRole, "role", role)
        command = self.engine.set_role(conversation_id, by, user_id, role)
        return (await self.engine.execute(command, Updated)).conversation

    async def silence_member(
        self,
        conversation_id: str,
        user_id: str,
        until: datetime | None = None,
        *,
        by: str | None = None,
    ) -> Conversation:
        """A member may read, and not write until then: their sends are ForbiddenError with the reason SILENCED.

        It outlives the membership. A later one replaces it.

        Args:
            conversation_id: The group.
            user_id: The member.
            until: With its time zone; None for ever.
            by: In whose name; None is the host.
        """
        until_ms = FOR_EVER_MS if until is None else _unix_ms(until)
        return await self._silence(conversation_id, user_id, until_ms, by)

    async def unsilence_member(
        self, conversation_id: str, user_id: str, *, by: str | None = None
    ) -> Conversation:
        """A member may write again; one who may anyway is none the worse."""
        return await self._silence(conversation_id, user_id, 0, by)

    async def _silence(
        self, conversation_id: str, user_id: str, until_ms: int, by: str | None
    ) -> Conversation:
        check_ids(conversation_id, user_id, *named(by))
        command = self.engine.silence(conversation_id, by, user_id, until_ms)
        return (await self.engine.execute(command, Updated)).conversation

    async def ban_member(self, conversation_id: str, user_id: str, *, by: str | None = None) -> Conversation:
        """Keep a user out of a group: a member is removed, and nobody but the host adds them again, which ends the ban.

        Also who is no member can be banned. Twice is once. A user whom no group and no login may see is for `ban`.

        Raises:
            BadRequestError: More than 10,000.
        """
        check_ids(conversation_id, user_id, *named(by))
        command = self.engine.ban(conversation_id, by, user_id)
        return (await self.engine.execute(command, MembersChanged)).conversation

    async def unban_member(
        self, conversation_id: str, user_id: str, *, by: str | None = None
    ) -> Conversation:
        """End a ban; the user is no member by that. Without a ban nothing happens."""
        check_ids(conversation_id, user_id, *named(by))
        command = self.engine.unban(conversation_id, by, user_id)
        return (await self.engine.execute(command, MembersChanged)).conversation

    async def bans(
        self, conversation_id: str, *, by: str | None = None, after: str | None = None, limit: int = 50
    ) -> list[Ban]:
        """Who is banned from a group, by user id, those after `after`; at most `limit`, 1 to 1,000."""
        check_ids(conversation_id, *named(by))
        check_ids(*named(after))
        check_page(0, limit)
        self.engine.check_loop()
        return await self.store.bans(conversation_id, by, self.engine.policy, after, limit)

    async def set_history(
        self, conversation_id: str, history: History, *, by: str | None = None
    ) -> Conversation:
        """What those may read of the time before who join a group from now on; it changes nothing for its members."""
        check_ids(conversation_id, *named(by))
        check_value(History, "history", history)
        command = self.engine.update(conversation_id, by, history=history)
        return (await self.engine.execute(command, Updated)).conversation

    async def recall(self, message_id: str, *, by: str | None = None) -> Sent:
        """Withdraw a message, however old; in the name of its author only within the recall window.

        The entry that says so stands under the author's name, or under the owner's where the author has left. Again is
        the same answer.

        Raises:
            NotFoundError: No such message.
            RecallWindowPassedError: `by` is the author, and it is too old.
        """
        check_value(ev.MessageId, "message id", message_id)
        check_ids(*named(by))
        entry = (await self.engine.execute(self.engine.withdraw(message_id, by), Recalled)).entry
        return Sent(entry.conversation_id, "", entry.message_id, entry.seq, entry.server_ts, entry.epoch)


def _unix_ms(moment: object) -> int:
    """Raises BadRequestError for what is no moment."""
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise BadRequestError("until: a datetime with its time zone")
    return max(1, int(moment.timestamp() * 1000))
