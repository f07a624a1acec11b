"""The verbs for hosts: no token is asked for.

A verb that names a user (`creator_id`, `by`) acts with that user's rights; with `by=None` it acts on the host's own
authority, and the audit says so by naming no actor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, cast

import msgspec

from .._arguments import list_of_ids
from ..errors import BadRequestError, ConflictError, ForbiddenError
from ..storage.base import Appended, Conversation, Created, Done, MembersChanged, Store, Updated
from ..types import ConversationType, GrantedRole, History, Payload, Sent
from ..wire import events as ev
from ..wire.events import Description, Title
from .commit_queue import HOST
from .engine import Engine
from .entries import sent_of
from .pending import PendingCommand

_Number: Final = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
_Limit: Final = Annotated[int, msgspec.Meta(ge=1, le=1_000)]


class HostVerbs:
    """What a host may have done in the name of users; `ChatServer` is one.

    Attributes:
        engine: The verbs of users.
        store: For reads.
    """

    def __init__(self, engine: Engine, store: Store) -> None:
        self.engine = engine
        self.store = store

    async def create_conversation(
        self,
        kind: ConversationType,
        creator_id: str,
        member_ids: Sequence[str],
        *,
        conversation_id: str | None = None,
        title: str = "",
        history: History = "FROM_JOIN",
    ) -> Conversation:
        """Create a conversation in the name of a user, or return the existing one that is the same.

        For a conversation that must be there whenever the host starts, `ensure_conversation` is the verb. `history`
        says what those may read of the time before who join a group later: nothing, or with FROM_START all of it.

        Raises:
            BadRequestError: No valid ids, kind or title, not two members for a SINGLE, or too many for a group.
            ConflictError: The id belongs to another conversation, or to a group with other members by now.
            ForbiddenError: One of the members blocked the creator.
            UnavailableError: Storage refused; a retry is safe.

        Source: docs/protocol.md#post-v1conversations
        """
        members = _check_new(kind, creator_id, member_ids, title)
        if conversation_id is not None:
            check_ids(conversation_id)
        check_value(History, "history", history)
        command = self.engine.create(kind, creator_id, members, conversation_id, title, history=history)
        return (await self.engine.execute(command, Created)).conversation

    async def ensure_conversation(
        self,
        conversation_id: str,
        kind: ConversationType,
        creator_id: str,
        member_ids: Sequence[str],
        *,
        title: str = "",
        history: History = "FROM_JOIN",
    ) -> Conversation:
        """Have this conversation, with at least these members: for a lifespan that runs at every start.

        It is created if it is not there. If it is, whoever of the creator and the members is not in it is added, also
        who left or is banned from it; others stay, and so do its title, its owner and its history. It is done with the
        host's authority.

        Raises:
            BadRequestError: No valid ids, kind or title, not two members for a SINGLE, or too many for a group.
            ConflictError: The id belongs to a conversation of the other kind, or to a SINGLE of other users.
            UnavailableError: Storage refused; a retry is safe.
        """
        members = _check_new(kind, creator_id, member_ids, title)
        check_ids(conversation_id)
        check_value(History, "history", history)
        command = self.engine.create(
            kind, creator_id, members, conversation_id, title, by_host=True, history=history
        )
        try:
            return (await self.engine.execute(command, Created)).conversation
        except ConflictError:
            if kind == "SINGLE":
                raise
        try:
            return await self.add_members(conversation_id, None, (creator_id, *members))
        except ForbiddenError:
            raise ConflictError(f"{conversation_id!r} is the id of a SINGLE conversation") from None

    async def send(
        self,
        conversation_id: str,
        sender_id: str,
        content: str | Payload,
        *,
        client_msg_id: str,
        connection: object | None = None,
        moderate: bool = False,
    ) -> Sent:
        """Send a message as a user; returns once it is durable. The same key again gets the same answer.

        Args:
            conversation_id: Where to.
            sender_id: In whose name.
            content: A text, or a payload.
            client_msg_id: Its key.
            connection: Where the host has begun a transaction of its own on the database of the log: an asyncpg
                connection, or an AsyncSession or AsyncConnection of SQLAlchemy. The message is there exactly if that
                transaction is committed, and is pushed then; the answer is final if it is. Until it ends nobody else
                writes to the conversation.
            moderate: Whether the moderator is asked first, as about what users send themselves. What a host says
                itself is not moderated. Not with `connection`, whose transaction would wait for the moderator.

        Raises:
            HeldError: The moderator holds it for review; the same key tells what became of it.
            RefusedError: It was not stored; the class says why and whether a retry may help. A transaction of the host
                goes on as if nothing had been tried, but after an UnavailableError has to be rolled back; then it may
                be repeated.
            ConfigurationError: Nothing can be sent on this connection, which has no open transaction, say.

        Source: docs/transactions.md
        """
        check_ids(conversation_id, sender_id)
        check_value(ev.ClientMsgId, "clientMsgId", client_msg_id)
        payload = {"type": "TEXT", "text": content} if isinstance(content, str) else content
        command = self.engine.append(conversation_id, sender_id, client_msg_id, payload)
        if connection is not None:
            if moderate:
                raise BadRequestError("a message in a transaction of the host is not moderated")
            return sent_of(command, await self.engine.append_within(connection, command))
        if moderate:
            return await self.engine.append_and_wait(PendingCommand(command, user_id=HOST))
        return sent_of(command, await self.engine.execute(command, Appended))

    async def add_members(
        self,
        conversation_id: str,
        by: str | None,
        user_ids: Sequence[str],
        *,
        role: GrantedRole = "MEMBER",
    ) -> Conversation:
        """Add users to a group as this role, in the name of a member or, with `by=None`, with the host's authority.

        For the host neither blocks nor who left by their own choice count, and a ban ends by it. Its entries stand
        under the owner's name in the log; in the audit there is no actor. In a group that nobody is left in, the first
        of them by id becomes the owner. Raises RefusedError.
        """
        check_ids(conversation_id, *named(by))
        check_value(GrantedRole, "role", role)
        command = self.engine.add(conversation_id, by, _check_users(user_ids, "user_ids"), role)
        return (await self.engine.execute(command, MembersChanged)).conversation

    async def remove_member(self, conversation_id: str, by: str | None, user_id: str) -> Conversation:
        """End a membership; acts on live sessions at once. `by=None` is the host. Raises RefusedError.

        If it is the owner who goes, an admin becomes the owner, else a member: the one who has been there for longest.
        """
        check_ids(conversation_id, *named(by), user_id)
        command = self.engine.remove(conversation_id, by, user_id)
        return (await self.engine.execute(command, MembersChanged)).conversation

    async def set_title(self, conversation_id: str, title: str, *, by: str | None = None) -> Conversation:
        """Change a group's title, with the host's authority or in the name of a member. Raises RefusedError.

        The log gets a TITLE entry, under the owner's name where it is the host; whoever is online is told that it
        changed (CONVERSATION, UPDATED). What it is called already changes nothing, so that a retry is safe.
        """
        check_ids(conversation_id, *named(by))
        check_value(Title, "title", title)
        command = self.engine.update(conversation_id, by, title=title)
        return (await self.engine.execute(command, Updated)).conversation

    async def set_description(
        self, conversation_id: str, description: str, *, by: str | None = None
    ) -> Conversation:
        """Change what a group is for, at most 1,024 characters, as `set_title` changes what it is called."""
        check_ids(conversation_id, *named(by))
        check_value(Description, "description", description)
        command = self.engine.update(conversation_id, by, description=description)
        return (await self.engine.execute(command, Updated)).conversation

    async def transfer_ownership(
        self, conversation_id: str, user_id: str, *, by: str | None = None
    ) -> Conversation:
        """Make a member the owner of a group, with the host's authority or in the name of its owner.

        Raises:
            NotFoundError: No such conversation, or the user is no member of it.
            ForbiddenError: It is a SINGLE, or the role of `by` does not allow it.
            UnavailableError: Storage refused; a retry is safe.
        """
        check_ids(conversation_id, *named(by), user_id)
        command = self.engine.update(conversation_id, by, owner_id=user_id)
        return (await self.engine.execute(command, Updated)).conversation

    async def block(self, user_id: str, blocked_id: str) -> None:
        """A user blocks another one, who can neither add them to anything nor write to them in a SINGLE from now on.

        Twice is once. Raises BadRequestError for oneself and beyond 1,000; UnavailableError, a retry is safe.
        """
        check_ids(user_id, blocked_id)
        await self.engine.execute(self.engine.block(user_id, blocked_id), Done)

    async def unblock(self, user_id: str, blocked_id: str) -> None:
        """End a block; without one nothing happens. Raises UnavailableError; a retry is safe."""
        check_ids(user_id, blocked_id)
        await self.engine.execute(self.engine.unblock(user_id, blocked_id), Done)

    async def renew_epoch(self, conversation_id: str) -> str:
        """Give a restored log a new identity: all clients drop their cursors and sync afresh.

        Returns:
            The new epoch. Live sessions hear of it a moment later.

        Raises:
            BadRequestError: No valid id.
            NotFoundError: There is no such conversation.
            UnavailableError: Storage refused or did not answer in time; the log may have got a new epoch.
        """
        check_ids(conversation_id)
        command = self.engine.renew_epoch(conversation_id)
        await self.engine.execute(command, Done)
        return command.epoch


def _check_new(kind: object, creator_id: object, member_ids: object, title: object) -> tuple[str, ...]:
    check_value(ConversationType, "kind of conversation", kind)
    check_value(Title, "title", title)
    check_ids(creator_id)
    return _check_users(member_ids, "member_ids")


def _check_users(user_ids: object, name: str) -> tuple[str, ...]:
    listed = list_of_ids(name, user_ids)
    check_ids(*listed)
    return cast("tuple[str, ...]", listed)


def named(by: str | None) -> tuple[str, ...]:
    """In whose name, if in anybody's."""
    return () if by is None else (by,)


def check_ids(*values: object) -> None:
    """Hold ids that a host gives to the alphabet of ids. Raises BadRequestError."""
    for value in values:
        check_value(ev.Id, "id", value)


def check_number_of(what: str, value: object) -> None:
    """Hold the number of a row to what numbers there are. Raises BadRequestError."""
    check_value(_Number, f"number of a {what}", value)


def check_page(after: object, limit: object) -> None:
    """Hold a page's place and length to what there is: the number of a row, or 0; and 1 to 1,000. Raises
    BadRequestError."""
    check_number_of("row", after)
    check_value(_Limit, "length of a page", limit)


def check_value(kind: Any, name: str, value: object, *, shown: bool = True) -> None:
    """Hold what a host gives to the values of the contract; a secret is not shown. Raises BadRequestError."""
    try:
        msgspec.convert(value, kind)
        str(value).encode()
    except (msgspec.ValidationError, UnicodeEncodeError):  # a lone surrogate cannot be stored
        words = repr(value)[:128] if shown else "this"
        raise BadRequestError(f"{words} is not a valid {name}") from None
