"""`ChatApi`: every HTTP request of the contract, for scripts, hosts and the command line. One method per request.

All requests but one are safe to repeat (a send carries its clientMsgId), so refusals that pass and lost connections are
retried inside the deadline, with jitter, and no earlier than the server asked for. What is returned are the bodies of
the contract, and pages with their payloads decoded.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Self, TypeVar, cast, overload

import msgspec
from msgspec import UNSET

from .._arguments import check_kind, check_number
from .._event_loop import LoopGuard
from ..core.policy import RANKS
from ..core.search import QUERY_MAX
from ..errors import (
    BadRequestError,
    ClientError,
    ClosedError,
    ConfigurationError,
    ProtocolError,
    RefusedError,
)
from ..ports import Ports
from ..transport.network import Network
from ..types import (
    ConversationSummary,
    ConversationType,
    GrantedRole,
    History,
    Member,
    Message,
    Payload,
    Pin,
    Role,
    SearchHit,
    SearchPage,
    Sent,
    UserPresence,
)
from ..wire import events as ev
from ..wire import http as wire
from ..wire.codec import JSON
from ..wire.http import BanRow as Ban
from ..wire.http import BansResult as BanPage
from ..wire.http import BlockRow as Block
from ..wire.http import BlocksResult as BlockPage
from ..wire.http import ConversationResult as Conversation
from ..wire.http import ConversationRow, PresenceUsers, ReceiptRow
from ..wire.http import ConversationsResult as ConversationPage
from ..wire.http import DeliveryRow as Delivery
from ..wire.http import MembersChangedResult as MembersChanged
from ..wire.http import PushResult as PushProviders
from ..wire.http import ReceiptsResult as ReceiptPage
from ..wire.http import StatusResult as Status
from ._http import ATTEMPTS_MAX, AsyncClient, Http, path
from ._token import Token, TokenSource
from .environment import DEVICE_ID, token_in, url_in
from .media import Media, OnProgress, Upload
from .validate import (
    Address,
    Moment,
    address_of,
    canonical_of,
    check,
    check_client_msg_id,
    check_conversation_id,
    check_device_id,
    check_message_id,
    check_seq,
    check_user_id,
    check_user_ids,
    end_of_mute_ms,
    marks_of,
    moment_ms,
    notify_of,
)

__all__ = [
    "Ban",
    "BanPage",
    "Block",
    "BlockPage",
    "ChatApi",
    "Conversation",
    "ConversationPage",
    "ConversationRow",
    "Delivery",
    "MemberPage",
    "MembersChanged",
    "MessagePage",
    "PushProviders",
    "ReceiptPage",
    "ReceiptRow",
    "RecentConversations",
    "Status",
]

_T = TypeVar("_T")
LIST_PAGES_MAX = 10_000
"""Pages that one list may have."""

_Positive = Annotated[int, msgspec.Meta(ge=1, le=ev.SEQ_MAX)]


class MemberPage(msgspec.Struct, frozen=True):
    """Current members by user id; `next_cursor` leads to the next page, None on the last."""

    members: list[Member]
    next_cursor: str | None


class MessagePage(msgspec.Struct, frozen=True):
    """Entries of a log that are visible to the caller, ascending.

    Attributes:
        conversation_id: The conversation.
        epoch: Identity of the log.
        head_seq: Its highest seq when the page was made.
        messages: The entries; a seq up to `up_to_seq` that is missing is not visible.
        up_to_seq: End of the page; the next one starts after it.
        more: Whether the log goes on.
    """

    conversation_id: str
    epoch: str
    head_seq: int
    messages: list[Message]
    up_to_seq: int
    more: bool


class RecentConversations(msgspec.Struct, frozen=True):
    """Conversations by activity; `next_cursor` leads to the next page, None on the last."""

    conversations: list[ConversationSummary]
    next_cursor: str | None


class ChatApi:
    """The HTTP side of a server, for one user.

    Every method raises, besides what it names: `RefusedError` (the server said no), `ConnectionLostError`,
    `DeadlineExceededError` (both after the retries), `ProtocolError`, and `BadRequestError` for arguments that the
    server would refuse, before anything is sent. After `aclose` it raises ClosedError. In another event loop than that
    of the first request it raises ConfigurationError: make one for each `asyncio.run`.

    Args:
        base_url: The server: `http://` or `https://` (`ws://` and `wss://` are taken for these), with its prefix.
        token: The login, or a callable (plain or async) that makes a fresh one: asked when the one before nears its end
            or was refused. Never part of an address.
        device_id: Names the device where the token does not.
        timeout_s: For one call with all its retries.
        attempts_max: Tries per call.
        ssl_context: For `https://`; None for the system's trust store (docs/connecting.md#certificates).
        proxy: Its address; True for what the environment says, False for none (docs/connecting.md#proxies).
        headers: Sent with every request.
        client: An httpx client of the caller's instead of these three; it stays open at the end.
        ports: Clock, random numbers and ids.

    Raises:
        ConfigurationError: An argument can never work; its name is in the message.
    """

    def __init__(
        self,
        base_url: Address,
        *,
        token: Token,
        device_id: str | None = None,
        timeout_s: float = 30.0,
        attempts_max: int = ATTEMPTS_MAX,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | bool = True,
        headers: Mapping[str, str] | None = None,
        client: AsyncClient | None = None,
        ports: Ports | None = None,
    ) -> None:
        check_kind("client", client, AsyncClient, optional=True)
        check_kind("ports", ports, Ports, optional=True)
        check_number("timeout_s", timeout_s)
        check_number("attempts_max", attempts_max, whole=True)
        if device_id is not None:
            check_device_id(device_id)
        if client is not None and not (ssl_context is None and proxy is True and headers is None):
            raise ConfigurationError("client: an httpx client brings its own ssl_context, proxy and headers")
        network = Network(ssl_context, proxy if client is None else False, headers)
        self._ports = ports or Ports()
        self._http = Http(
            address_of(base_url, "base_url"),
            TokenSource(token, timeout_s, self._ports),
            device_id,
            timeout_s,
            attempts_max,
            network,
            client,
            self._ports,
        )
        self._guard: LoopGuard | None = None

    @classmethod
    def from_env(cls, **options: Any) -> Self:
        """One as the environment says, for programs that are set up from outside.

        `CHATKIT_URL` is the server; `CHATKIT_TOKEN` the login, or `CHATKIT_TOKEN_FILE` a file with it, which is read
        again whenever a fresh one is needed; `CHATKIT_DEVICE_ID` names the device, if it is set.

        Args:
            options: Of `ChatApi`: `timeout_s`, `proxy`, and so on.

        Raises:
            ConfigurationError: A variable is missing or wrong; its name is in the message.
        """
        url, token = url_in(os.environ), token_in(os.environ)
        return cls(url, **{"token": token, "device_id": os.environ.get(DEVICE_ID) or None, **options})

    @classmethod
    def over(cls, http: Http, ports: Ports) -> Self:
        """One that shares a client's login and network; for `ChatClient` alone."""
        api = cls.__new__(cls)
        api._ports, api._http, api._guard = ports, http, None
        return api

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Release the connections. A second call does nothing."""
        self._check_loop()
        await self._http.aclose()

    # --- messages -------------------------------------------------------------------------------------

    async def send(
        self, conversation_id: str, content: str | Payload, *, client_msg_id: str | None = None
    ) -> Sent:
        """Send a message; returns once it is durable. With the same `client_msg_id`, the same answer for ever.

        Args:
            conversation_id: Where to.
            content: A text, or a payload.
            client_msg_id: Its key; made here by default.

        Returns:
            Where it is stored; `epoch` is "" (HTTP does not say it).

        Raises:
            BadRequestError: Whatever the server would refuse.
            ConflictError: The key was used with another payload.
            TooLargeError: The payload is above 64 KiB.
            ContentRefusedError: A moderator refused it; its words say why.
            HeldError: A moderator keeps it for review; the same key tells later what became of it.
        """
        check_conversation_id(conversation_id)
        payload = msgspec.json.decode(canonical_of(content))
        key = self._ports.ids.token_bytes(16).hex() if client_msg_id is None else client_msg_id
        check_client_msg_id(key)
        kind = payload.pop("type")
        is_plain = kind == "TEXT" and len(payload) == 1
        body = wire.SendBody(conversation_id, key, kind, payload["text"] if is_plain else payload)
        stored = await self._call("POST", "/v1/messages/send", wire.SendResult, body=body)
        instead = None if stored.payload is UNSET else stored.payload
        return Sent(conversation_id, key, stored.message_id, stored.seq, stored.server_ts, payload=instead)

    async def history(self, conversation_id: str, from_seq: int = 1, limit: int = 50) -> MessagePage:
        """Entries from `from_seq` on, ascending; at most `limit`, itself at most 200."""
        check_conversation_id(conversation_id)
        check(from_seq, _Positive, "from_seq")
        check(limit, _Positive, "limit")
        params = {"fromSeq": from_seq, "limit": limit}
        where = path("conversations", conversation_id, "messages")
        return _page(await self._call("GET", where, wire.PageResult, params=params))

    async def sync(self, conversation_id: str, last_seq: int) -> MessagePage:
        """Entries after `last_seq`, ascending; at most 200."""
        check_conversation_id(conversation_id)
        check_seq(last_seq)
        params = {"conversationId": conversation_id, "lastSeq": last_seq}
        return _page(await self._call("GET", "/v1/sync", wire.PageResult, params=params))

    async def messages(self, conversation_id: str, *, after_seq: int = 0) -> AsyncIterator[Message]:
        """Every visible entry after `after_seq`, page by page, up to the head.

        Raises:
            ProtocolError: A page leads no further.
        """
        while True:
            page = await self.sync(conversation_id, after_seq)
            for message in page.messages:
                yield message
            if not page.more:
                return
            if page.up_to_seq <= after_seq:
                raise ProtocolError("a page that is not the last one covers nothing")
            after_seq = page.up_to_seq

    async def mark_delivered(self, message_id: str) -> None:
        """The device holds exactly this message. The device is the token's, or `device_id`."""
        check_message_id(message_id)
        await self._call("POST", path("messages", message_id, "delivered"), type(None))

    async def mark_read(self, conversation_id: str, up_to_seq: int) -> int:
        """The user has read everything up to here. Returns the read cursor, which never goes back."""
        check_conversation_id(conversation_id)
        check_seq(up_to_seq)
        where, params = path("conversations", conversation_id, "read"), {"upToSeq": up_to_seq}
        return (await self._call("POST", where, wire.ReadResult, params=params)).read_seq

    async def status(self, message_id: str, *, cursor: str | None = None, limit: int = 50) -> Status:
        """How far one's own message has got; `deliveries` is one page, `next_cursor` leads to the next."""
        check_message_id(message_id)
        return await self._call(
            "GET", path("messages", message_id, "status"), Status, params=_list(cursor, limit)
        )

    async def recall(self, message_id: str) -> Sent:
        """Withdraw one's own message. Returns the recall's own entry, with an empty conversation id and key.

        Raises:
            ForbiddenError: Not the author.
            RecallWindowPassedError: Too late.
            ConnectionLostError: No answer, or none but that a repeat came too late (the cause); whether the recall took
                effect is unknown, a retry is safe.
        """
        check_message_id(message_id)
        stored = await self._call("POST", path("messages", message_id, "recall"), wire.SendResult)
        return Sent("", "", stored.message_id, stored.seq, stored.server_ts)

    async def report(self, message_id: str, reason: str, note: str = "") -> None:
        """Tell the administrators of a message of somebody else; a second time changes nothing.

        Args:
            message_id: Which; the user must see it.
            reason: A word for it, such as SPAM; at most 64 characters.
            note: What else there is to say; at most 1,000 characters.
        """
        check_message_id(message_id)
        check(reason, wire.ReportReason, "reason")
        check(note, wire.ReportNote, "note")
        body = wire.ReportBody(reason, note)
        await self._call("POST", path("messages", message_id, "report"), type(None), body=body)

    async def search(
        self,
        query: str,
        *,
        conversation_id: str | None = None,
        sender_id: str | None = None,
        after: Moment | None = None,
        before: Moment | None = None,
        cursor: str | None = None,
        limit: int = 20,
    ) -> SearchPage:
        """Messages that the caller may read and that match, the newest first; `next_cursor` leads to the next page.

        Args:
            query: Words, all of which must be found; "in quotes" they must follow each other, and `wor*` finds all
                that begin so. At most 256 characters.
            conversation_id: Only there; None: in all of the caller's conversations.
            sender_id: Only what this user wrote.
            after: Only what was sent then or later: a datetime with its time zone, or Unix milliseconds.
            before: Only what was sent earlier.
            cursor: `next_cursor` of the page before. A page with one may have few results, or none.
            limit: Most results; above 50 it is 50.

        Raises:
            BadRequestError: A query without any letter, digit or symbol.
            ForbiddenError: Search is switched off at this server.
            NotFoundError: Not a member.
        """
        check(query, Annotated[str, msgspec.Meta(max_length=QUERY_MAX)], "query")
        params = {"q": query, **_list(cursor, limit)}
        if conversation_id is not None:
            check_conversation_id(conversation_id)
            params["conversationId"] = conversation_id
        if sender_id is not None:
            check(sender_id, ev.Id, "sender_id")
            params["senderId"] = sender_id
        for name, moment in (("after", after), ("before", before)):
            if moment is not None:
                params[name] = moment_ms(moment, name)
        page = await self._call("GET", "/v1/search", wire.SearchResult, params=params)
        return SearchPage(tuple(map(_hit, page.results)), page.next_cursor, page.up_to_date)

    # --- conversations --------------------------------------------------------------------------------

    async def create_conversation(
        self,
        type: ConversationType,
        member_ids: Sequence[str],
        *,
        conversation_id: str | None = None,
        title: str = "",
        history: History = "FROM_JOIN",
    ) -> Conversation:
        """Create a conversation with the caller in it; or get the one that exists with this id or pair.

        Without an id one is made here, so that a repeated request cannot make a second group. `history` says what those
        may read of the time before who join a group later: nothing, or with FROM_START all of it.
        """
        if conversation_id is not None:
            check_conversation_id(conversation_id)
        check(type, ConversationType, "type")
        members = check_user_ids(member_ids, "member_ids")
        check(title, ev.Title, "title")
        key = conversation_id or f"c-{self._ports.ids.token_bytes(16).hex()}"
        check(history, History, "history")
        body = wire.CreateBody(type, members, key, title, history)
        return await self._call("POST", "/v1/conversations", Conversation, body=body)

    async def conversation(self, conversation_id: str) -> Conversation:
        """One conversation, with its first 200 members."""
        check_conversation_id(conversation_id)
        return await self._call("GET", path("conversations", conversation_id), Conversation)

    async def conversations(self, *, cursor: str | None = None, limit: int = 50) -> ConversationPage:
        """One page of the caller's conversations, by id; `next_cursor` leads to the next."""
        return await self._call("GET", "/v1/conversations", ConversationPage, params=_list(cursor, limit))

    async def recent_conversations(
        self, *, cursor: str | None = None, limit: int = 50
    ) -> RecentConversations:
        """One page of the caller's conversations, newest activity first, each with its last message.

        No conversation comes twice. Left out are those that became active after the first page was made; they are
        first when it is asked for again.

        Args:
            cursor: The `next_cursor` of the page before; None for the newest.
            limit: At most so many, itself at most 200; fewer where their messages are large.
        """
        page = await self._recent_rows(cursor, limit)
        return RecentConversations([_summary(row) for row in page.conversations], page.next_cursor)

    async def _recent_rows(self, cursor: str | None, limit: int) -> ConversationPage:
        params = {"order": "activity", **_list(cursor, limit)}
        return await self._call("GET", "/v1/conversations", ConversationPage, params=params)

    async def all_conversations(self) -> AsyncIterator[ConversationRow]:
        """All of the caller's conversations, page by page."""
        cursors = _Cursors()
        while cursors.more:
            page = await self.conversations(cursor=cursors.newest, limit=ev.PAGE_MAX)
            for row in page.conversations:
                yield row
            cursors.follow(page.next_cursor)

    async def members(
        self, conversation_id: str, *, cursor: str | None = None, limit: int = 50
    ) -> MemberPage:
        """One page of the members, by user id; `next_cursor` leads to the next."""
        page = await self._list_of(conversation_id, "members", wire.MembersResult, cursor, limit)
        return MemberPage([_member(row) for row in page.members], page.next_cursor)

    async def all_members(self, conversation_id: str) -> AsyncIterator[Member]:
        """All members, page by page."""
        cursors = _Cursors()
        while cursors.more:
            page = await self.members(conversation_id, cursor=cursors.newest, limit=ev.PAGE_MAX)
            for member in page.members:
                yield member
            cursors.follow(page.next_cursor)

    async def receipts(
        self, conversation_id: str, *, cursor: str | None = None, limit: int = 50
    ) -> ReceiptPage:
        """One page of how far each member has got; `next_cursor` leads to the next."""
        return await self._list_of(conversation_id, "receipts", ReceiptPage, cursor, limit)

    async def add_members(
        self, conversation_id: str, user_ids: Sequence[str], *, role: GrantedRole = "MEMBER"
    ) -> MembersChanged:
        """Add at least one user to a group as this role; those who are members already change nothing.

        Raises:
            ForbiddenError: The caller's role does not allow it (`reason` ROLE), or one of the users cannot be added by
                them: is banned, blocked the caller, or left by themselves where the host wants to be asked.
        """
        check_conversation_id(conversation_id)
        check(role, GrantedRole, "role")
        body = wire.MembersBody(check_user_ids(user_ids, "user_ids", wire.SomeUserIds), role)
        where = path("conversations", conversation_id, "members")
        return await self._call("POST", where, MembersChanged, body=body)

    async def remove_member(self, conversation_id: str, user_id: str) -> MembersChanged:
        """Remove a member, or leave; nothing if the user is no member.

        Repeated once, if not one byte of an answer came. Where the first try to leave had taken effect, the repeat can
        only say NotFoundError.
        """
        check_conversation_id(conversation_id)
        check_user_id(user_id)
        return await self._call(
            "DELETE", path("conversations", conversation_id, "members", user_id), MembersChanged, repeat=False
        )

    async def set_title(self, conversation_id: str, title: str) -> Conversation:
        """Change a group's title; one line of at most 256 characters.

        Raises:
            ForbiddenError: The caller's role does not allow it (`reason` ROLE), or a SINGLE.
        """
        check(title, ev.Title, "title")
        return await self._update(conversation_id, wire.UpdateBody(title=title))

    async def set_description(self, conversation_id: str, description: str) -> Conversation:
        """Say what a group is for; at most 1,024 characters.

        Raises:
            ForbiddenError: The caller's role does not allow it (`reason` ROLE), or a SINGLE.
        """
        check(description, ev.Description, "description")
        return await self._update(conversation_id, wire.UpdateBody(description=description))

    async def pins(self, conversation_id: str) -> list[Pin]:
        """What is pinned of what the caller may see, pinned last first; at most 50.

        Raises:
            NotFoundError: Not a member.
        """
        check_conversation_id(conversation_id)
        found = await self._call("GET", path("conversations", conversation_id, "pins"), wire.PinsResult)
        return [_pin(row) for row in found.pins]

    async def transfer_ownership(self, conversation_id: str, user_id: str) -> Conversation:
        """Make another member the owner of one's own group.

        Raises:
            ForbiddenError: Not the owner, or a SINGLE.
            NotFoundError: The user is no member.
        """
        check_user_id(user_id)
        return await self._update(conversation_id, wire.UpdateBody(owner_id=user_id))

    async def set_history(self, conversation_id: str, history: History) -> Conversation:
        """What those may read of the time before who join a group from now on: FROM_JOIN nothing, FROM_START all of it.

        Raises:
            ForbiddenError: The caller's role does not allow it (`reason` ROLE), or a SINGLE.
        """
        check(history, History, "history")
        return await self._update(conversation_id, wire.UpdateBody(history=history))

    async def _update(self, conversation_id: str, body: wire.UpdateBody) -> Conversation:
        check_conversation_id(conversation_id)
        return await self._call("PATCH", path("conversations", conversation_id), Conversation, body=body)

    # --- what members are ---

    async def set_role(self, conversation_id: str, user_id: str, role: GrantedRole) -> None:
        """Make a member an ADMIN, a MEMBER or a GUEST, as long as their membership lasts.

        Raises:
            ForbiddenError: The caller's role does not allow it (`reason` ROLE), it is the owner, or a SINGLE.
            NotFoundError: The user is no member.
        """
        check(role, GrantedRole, "role")
        await self._of_member("PUT", conversation_id, user_id, "role", wire.RoleBody(role))

    async def silence_member(self, conversation_id: str, user_id: str, until: Moment | None = None) -> None:
        """A member may not write until then; a later one replaces it. `Member.silenced_until_ms` says so.

        Args:
            conversation_id: The group.
            user_id: The member.
            until: When it ends: a datetime with its time zone, or Unix milliseconds. None for never.

        Raises:
            ForbiddenError: The caller's role does not allow it (`reason` ROLE), or a SINGLE.
            NotFoundError: The user is no member.
        """
        body = wire.SilenceBody(end_of_mute_ms(until))
        await self._of_member("PUT", conversation_id, user_id, "silence", body)

    async def unsilence_member(self, conversation_id: str, user_id: str) -> None:
        """A member may write again. Raises as `silence_member`."""
        await self._of_member("DELETE", conversation_id, user_id, "silence", None)

    async def ban_member(self, conversation_id: str, user_id: str) -> None:
        """Keep a user out of a group: a member is removed, and nobody but the host adds them again. Twice is once.

        Raises:
            ForbiddenError: The caller's role does not allow it (`reason` ROLE), or a SINGLE.
            BadRequestError: More than 10,000 are banned.
        """
        await self._ban("PUT", conversation_id, user_id)

    async def unban_member(self, conversation_id: str, user_id: str) -> None:
        """Let a user be added again; without a ban nothing happens. Raises ForbiddenError as `ban_member`."""
        await self._ban("DELETE", conversation_id, user_id)

    async def bans(self, conversation_id: str, *, cursor: str | None = None, limit: int = 50) -> BanPage:
        """One page of who is banned from a group, by user id; `next_cursor` leads to the next.

        Raises:
            ForbiddenError: The caller's role may not ban (`reason` ROLE).
        """
        return await self._list_of(conversation_id, "bans", BanPage, cursor, limit)

    async def _ban(self, method: str, conversation_id: str, user_id: str) -> None:
        check_conversation_id(conversation_id)
        check_user_id(user_id)
        await self._call(method, path("conversations", conversation_id, "bans", user_id), type(None))

    async def _of_member(
        self, method: str, conversation_id: str, user_id: str, what: str, body: wire.Body | None
    ) -> None:
        check_conversation_id(conversation_id)
        check_user_id(user_id)
        where = path("conversations", conversation_id, "members", user_id, what)
        await self._call(method, where, type(None), body=body)

    # --- blocks ---------------------------------------------------------------------------------------

    async def block(self, user_id: str) -> None:
        """Block a user: they can neither add the caller to anything nor write to them in a SINGLE. Twice is once.

        Raises:
            BadRequestError: Oneself, or more than 1,000.
        """
        check_user_id(user_id)
        await self._call("POST", path("blocks", user_id), type(None))

    async def unblock(self, user_id: str) -> None:
        """End a block; without one nothing happens."""
        check_user_id(user_id)
        await self._call("DELETE", path("blocks", user_id), type(None))

    async def blocks(self, *, cursor: str | None = None, limit: int = 50) -> BlockPage:
        """One page of whom the caller blocked, by user id; `next_cursor` leads to the next."""
        return await self._call("GET", "/v1/blocks", BlockPage, params=_list(cursor, limit))

    # --- push -----------------------------------------------------------------------------------------

    # --- files ------------------------------------------------------------------------------------------

    async def upload(
        self,
        source: bytes | str | os.PathLike[str],
        *,
        mime: str | None = None,
        name: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Upload:
        """Upload a file; returns once the server has all of it. See `ChatClient.upload`."""
        self._check_loop()
        return await self._media().upload(source, mime, name, on_progress)

    @overload
    async def download(
        self, message: Message | str, to: None = None, *, on_progress: OnProgress | None = None
    ) -> bytes: ...

    @overload
    async def download(
        self,
        message: Message | str,
        to: str | os.PathLike[str],
        *,
        on_progress: OnProgress | None = None,
    ) -> Path: ...

    async def download(
        self,
        message: Message | str,
        to: str | os.PathLike[str] | None = None,
        *,
        on_progress: OnProgress | None = None,
    ) -> bytes | Path:
        """The file that a message names. See `ChatClient.download`."""
        self._check_loop()
        return await self._media().download(message, to, on_progress)

    def _media(self) -> Media:
        return Media(self._http, self._http.backoff)

    # --- push -------------------------------------------------------------------------------------------

    async def push_providers(self) -> PushProviders:
        """What devices may register with, and what browsers need for it. Needs no login."""
        return await self._call("GET", "/v1/push", PushProviders, anonymous=True)

    async def register_push(self, provider: str, token: str, *, hide_body: bool = False) -> None:
        """The device is woken by pushes of this provider from now on; its former registration is replaced.

        The device is the token's, or `device_id`. Another device that had registered with the same token is not woken
        any more.

        Args:
            provider: One of the server's, such as "apns"; 1-32 of a-z, 0-9, `-` and `_`.
            token: The device's address, as the provider gave it to the app; 1-4,096 characters without NUL.
            hide_body: Whether pushes to it never hold a message's words.

        Raises:
            BadRequestError: The server has no such provider, no push can be sent to this token, or nothing names the
                device.
            ForbiddenError: The login is another device's than `device_id`.
        """
        check(provider, wire.PushProviderName, "provider")
        check(token, wire.PushToken, "token")
        check(hide_body, bool, "hide_body")
        device_id = self._http.device_id
        body = wire.RegisterPushBody(provider, token, hide_body, UNSET if device_id is None else device_id)
        await self._call("POST", "/v1/devices", type(None), body=body)

    async def unregister_push(self, device_id: str | None = None) -> None:
        """A device is woken no more; without a registration nothing happens.

        Args:
            device_id: One of the user's devices, this one by default.

        Raises:
            BadRequestError: It is not named here, nor was it to this ChatApi.
        """
        self._check_loop()
        device_id = self._http.device_id if device_id is None else device_id
        if device_id is None:
            raise BadRequestError("device_id: name the device, here or for the whole ChatApi")
        check(device_id, ev.Id, "device_id")
        await self._call("DELETE", path("devices", device_id, "push"), type(None))

    async def mute(
        self,
        conversation_id: str,
        until: Moment | None = None,
        *,
        level: Literal["MENTIONS", "NONE"] = "NONE",
    ) -> None:
        """The user's devices are not woken for a conversation; connections get everything. A later one replaces it.

        `muted_until` of the rows of `conversations` says until when, `notify` what wakes them still.

        Args:
            conversation_id: Where the user is a member.
            until: When it ends: a datetime with its time zone, or Unix milliseconds. None for never.
            level: What wakes them all the same: what mentions the user (MENTIONS), or nothing.

        Raises:
            NotFoundError: Not a member.
        """
        check_conversation_id(conversation_id)
        check(level, Literal["MENTIONS", "NONE"], "level")
        body = wire.MuteBody(end_of_mute_ms(until), level)
        await self._call("PUT", path("conversations", conversation_id, "mute"), type(None), body=body)

    async def unmute(self, conversation_id: str) -> None:
        """The user's devices are woken for a conversation again; without a mute nothing happens.

        Raises:
            NotFoundError: Not a member.
        """
        check_conversation_id(conversation_id)
        await self._call("DELETE", path("conversations", conversation_id, "mute"), type(None))

    # --- presence -------------------------------------------------------------------------------------

    async def presence(self, user_ids: Sequence[str]) -> list[UserPresence]:
        """Who of these is online, in this order; left out are those whom the caller may not know of.

        Args:
            user_ids: 1 to 100.

        Raises:
            ForbiddenError: Presence is switched off at this server.
        """
        users = check_user_ids(user_ids, "user_ids", PresenceUsers)
        answer = await self._call(
            "GET", "/v1/presence", wire.PresenceResult, params={"users": ",".join(users)}
        )
        return [UserPresence(it.user_id, it.state, it.last_seen_ts) for it in answer.presence]

    # --- the server -----------------------------------------------------------------------------------

    async def health(self) -> bool:
        """Whether the server's process answers.

        Raises:
            ConnectionLostError: It does not.
            ProtocolError: Something else answers, a proxy for example.
        """
        return (await self._call("GET", "/healthz", wire.Health, anonymous=True)).status == "ok"

    async def ready(self) -> bool:
        """Whether the server takes messages now; false too while it cannot be reached, or gives no answer in time.

        Raises:
            ConfigurationError: It can never be reached, for a reason on this side (SSL_CERT_FILE names no file).
            ClosedError: This ChatApi is closed.
        """
        try:
            answer = await self._call("GET", "/readyz", wire.Health, anonymous=True, repeat=False)
        except ClosedError:
            raise
        except (RefusedError, ClientError):
            return False
        return answer.status == "ok"

    async def _list_of(
        self, conversation_id: str, what: str, answer: type[_T], cursor: str | None, limit: int
    ) -> _T:
        check_conversation_id(conversation_id)
        where = path("conversations", conversation_id, what)
        return await self._call("GET", where, answer, params=_list(cursor, limit))

    async def _call(
        self,
        method: str,
        where: str,
        answer: type[_T],
        *,
        params: dict[str, Any] | None = None,
        body: Any = None,
        anonymous: bool = False,
        repeat: bool = True,
    ) -> _T:
        self._check_loop()
        return await self._http.call(
            method, where, answer, params=params, body=body, anonymous=anonymous, repeat=repeat
        )

    def _check_loop(self) -> None:
        """Its connections belong to the event loop of its first request. Raises ConfigurationError in another."""
        if self._guard is None:
            self._guard = LoopGuard("ChatApi")
        self._guard.check()


class _Cursors:
    """The cursors that a list was read with, so that no server can make it endless."""

    def __init__(self) -> None:
        self._followed: set[str | None] = set()
        self.newest: str | None = None
        self.more = True

    def follow(self, cursor: str | None) -> None:
        """Go on with the next page, or end. Raises ProtocolError for a cursor that leads back, and for too many."""
        self.more, self.newest = cursor is not None, cursor
        if cursor in self._followed or len(self._followed) >= LIST_PAGES_MAX:
            raise ProtocolError(
                "the pages of a list have no end: their cursor leads back, or there are too many"
            )
        self._followed.add(cursor)


def _list(cursor: str | None, limit: int) -> dict[str, Any]:
    check(limit, _Positive, "limit")
    check(cursor, str | None, "cursor")
    return {"limit": limit} if cursor is None else {"limit": limit, "cursor": cursor}


def _member(row: wire.MemberRow) -> Member:
    """A role of a newer server that is not known here counts as MEMBER."""
    role = row.member_role if row.member_role in RANKS else "MEMBER"
    return Member(row.user_id, cast("Role", role), row.joined_seq, row.silenced_until)


def _page(page: wire.PageResult) -> MessagePage:
    """With its payloads decoded. Raises ProtocolError for one that is no object."""
    messages = [_message(entry, page.head_seq) for entry in page.messages]
    return MessagePage(page.conversation_id, page.epoch, page.head_seq, messages, page.up_to_seq, page.more)


def _message(entry: ev.LogEntry, head_seq: int = 0) -> Message:
    """With its payload decoded, as it reads at a head. Raises ProtocolError for one that is no object."""
    return Message(
        entry.conversation_id,
        entry.seq,
        entry.message_id,
        entry.sender_id,
        entry.server_ts,
        JSON.payload(entry.payload),
        entry.client_msg_id if isinstance(entry.client_msg_id, str) else None,
        marks_of(JSON, entry, head_seq),
    )


def _pin(row: wire.PinRow) -> Pin:
    """With its message decoded. Raises ProtocolError for a payload that is no object."""
    message = None if row.message is UNSET else _message(row.message, row.pinned_by_seq)
    return Pin(row.seq, row.pinned_by, row.pinned_ts, message)


def _summary(row: ConversationRow) -> ConversationSummary:
    """With its message decoded. Raises ProtocolError for a payload that is no object."""
    return ConversationSummary(
        row.conversation_id,
        row.type,
        row.title,
        row.head_seq,
        row.read_seq,
        row.last_activity_ts,
        None if row.last_message is UNSET else _message(row.last_message, row.head_seq),
        row.unread,
        row.muted_until,
        row.unread_mentions,
        notify_of(row),
    )


def _hit(row: wire.SearchRow) -> SearchHit:
    """With its message decoded, as it was said up to its edit. Raises ProtocolError for a payload that is no object."""
    as_of_seq = row.message.seq if row.message.edit is UNSET else row.message.edit.seq
    return SearchHit(_message(row.message, as_of_seq), row.field, row.highlights, row.snippet)
