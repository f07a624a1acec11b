"""`ChatApi` without `await`. Made by `make sync`; changes belong into client/api.py."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, overload

from ..client import api as module
from ..client._http import ATTEMPTS_MAX, AsyncClient
from ..client._token import Token
from ..client.api import MemberPage, MessagePage, RecentConversations
from ..client.media import OnProgress, Upload
from ..client.validate import Address, Moment
from ..ports import Ports
from ..types import (
    ConversationType,
    GrantedRole,
    History,
    Member,
    Message,
    Payload,
    Pin,
    SearchPage,
    Sent,
    UserPresence,
)
from ..wire.http import BansResult as BanPage
from ..wire.http import BlocksResult as BlockPage
from ..wire.http import ConversationResult as Conversation
from ..wire.http import ConversationRow
from ..wire.http import ConversationsResult as ConversationPage
from ..wire.http import MembersChangedResult as MembersChanged
from ..wire.http import PushResult as PushProviders
from ..wire.http import ReceiptsResult as ReceiptPage
from ..wire.http import StatusResult as Status
from ._blocking import Blocking


class ChatApi(Blocking[module.ChatApi]):
    """As `chatkit.ChatApi`, which says more, without `await`: each call blocks its thread.

    Only for use inside `with`, by any number of threads.
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
        super().__init__(
            module.ChatApi(
                base_url,
                token=token,
                device_id=device_id,
                timeout_s=timeout_s,
                attempts_max=attempts_max,
                ssl_context=ssl_context,
                proxy=proxy,
                headers=headers,
                client=client,
                ports=ports,
            )
        )

    @classmethod
    def from_env(cls, **options: Any) -> Self:
        """One as the environment says, for programs that are set up from outside.

        As `from_env` of `chatkit.ChatApi`, which says more.
        """
        blocking = cls.__new__(cls)
        Blocking.__init__(blocking, module.ChatApi.from_env(**options))
        return blocking

    def send(self, conversation_id: str, content: str | Payload, *, client_msg_id: str | None = None) -> Sent:
        """Send a message; returns once it is durable. With the same `client_msg_id`, the same answer for ever.

        As `send` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.send, conversation_id, content, client_msg_id=client_msg_id)

    def history(self, conversation_id: str, from_seq: int = 1, limit: int = 50) -> MessagePage:
        """Entries from `from_seq` on, ascending; at most `limit`, itself at most 200.

        As `history` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.history, conversation_id, from_seq, limit)

    def sync(self, conversation_id: str, last_seq: int) -> MessagePage:
        """Entries after `last_seq`, ascending; at most 200.

        As `sync` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.sync, conversation_id, last_seq)

    def messages(self, conversation_id: str, *, after_seq: int = 0) -> Iterator[Message]:
        """Every visible entry after `after_seq`, page by page, up to the head.

        As `messages` of `chatkit.ChatApi`, which says more.
        """
        return self._iterate(self._made.messages(conversation_id, after_seq=after_seq))

    def mark_delivered(self, message_id: str) -> None:
        """The device holds exactly this message. The device is the token's, or `device_id`.

        As `mark_delivered` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.mark_delivered, message_id)

    def mark_read(self, conversation_id: str, up_to_seq: int) -> int:
        """The user has read everything up to here. Returns the read cursor, which never goes back.

        As `mark_read` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.mark_read, conversation_id, up_to_seq)

    def status(self, message_id: str, *, cursor: str | None = None, limit: int = 50) -> Status:
        """How far one's own message has got; `deliveries` is one page, `next_cursor` leads to the next.

        As `status` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.status, message_id, cursor=cursor, limit=limit)

    def recall(self, message_id: str) -> Sent:
        """Withdraw one's own message. Returns the recall's own entry, with an empty conversation id and key.

        As `recall` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.recall, message_id)

    def report(self, message_id: str, reason: str, note: str = "") -> None:
        """Tell the administrators of a message of somebody else; a second time changes nothing.

        As `report` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.report, message_id, reason, note)

    def search(
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

        As `search` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(
            self._made.search,
            query,
            conversation_id=conversation_id,
            sender_id=sender_id,
            after=after,
            before=before,
            cursor=cursor,
            limit=limit,
        )

    def create_conversation(
        self,
        type: ConversationType,
        member_ids: Sequence[str],
        *,
        conversation_id: str | None = None,
        title: str = "",
        history: History = "FROM_JOIN",
    ) -> Conversation:
        """Create a conversation with the caller in it; or get the one that exists with this id or pair.

        As `create_conversation` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(
            self._made.create_conversation,
            type,
            member_ids,
            conversation_id=conversation_id,
            title=title,
            history=history,
        )

    def conversation(self, conversation_id: str) -> Conversation:
        """One conversation, with its first 200 members.

        As `conversation` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.conversation, conversation_id)

    def conversations(self, *, cursor: str | None = None, limit: int = 50) -> ConversationPage:
        """One page of the caller's conversations, by id; `next_cursor` leads to the next.

        As `conversations` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.conversations, cursor=cursor, limit=limit)

    def recent_conversations(self, *, cursor: str | None = None, limit: int = 50) -> RecentConversations:
        """One page of the caller's conversations, newest activity first, each with its last message.

        As `recent_conversations` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.recent_conversations, cursor=cursor, limit=limit)

    def all_conversations(self) -> Iterator[ConversationRow]:
        """All of the caller's conversations, page by page.

        As `all_conversations` of `chatkit.ChatApi`, which says more.
        """
        return self._iterate(self._made.all_conversations())

    def members(self, conversation_id: str, *, cursor: str | None = None, limit: int = 50) -> MemberPage:
        """One page of the members, by user id; `next_cursor` leads to the next.

        As `members` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.members, conversation_id, cursor=cursor, limit=limit)

    def all_members(self, conversation_id: str) -> Iterator[Member]:
        """All members, page by page.

        As `all_members` of `chatkit.ChatApi`, which says more.
        """
        return self._iterate(self._made.all_members(conversation_id))

    def receipts(self, conversation_id: str, *, cursor: str | None = None, limit: int = 50) -> ReceiptPage:
        """One page of how far each member has got; `next_cursor` leads to the next.

        As `receipts` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.receipts, conversation_id, cursor=cursor, limit=limit)

    def add_members(
        self, conversation_id: str, user_ids: Sequence[str], *, role: GrantedRole = "MEMBER"
    ) -> MembersChanged:
        """Add at least one user to a group as this role; those who are members already change nothing.

        As `add_members` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.add_members, conversation_id, user_ids, role=role)

    def remove_member(self, conversation_id: str, user_id: str) -> MembersChanged:
        """Remove a member, or leave; nothing if the user is no member.

        As `remove_member` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.remove_member, conversation_id, user_id)

    def set_title(self, conversation_id: str, title: str) -> Conversation:
        """Change a group's title; one line of at most 256 characters.

        As `set_title` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.set_title, conversation_id, title)

    def set_description(self, conversation_id: str, description: str) -> Conversation:
        """Say what a group is for; at most 1,024 characters.

        As `set_description` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.set_description, conversation_id, description)

    def pins(self, conversation_id: str) -> list[Pin]:
        """What is pinned of what the caller may see, pinned last first; at most 50.

        As `pins` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.pins, conversation_id)

    def transfer_ownership(self, conversation_id: str, user_id: str) -> Conversation:
        """Make another member the owner of one's own group.

        As `transfer_ownership` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.transfer_ownership, conversation_id, user_id)

    def set_history(self, conversation_id: str, history: History) -> Conversation:
        """What those may read of the time before who join a group from now on: FROM_JOIN nothing, FROM_START all of it.

        As `set_history` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.set_history, conversation_id, history)

    def set_role(self, conversation_id: str, user_id: str, role: GrantedRole) -> None:
        """Make a member an ADMIN, a MEMBER or a GUEST, as long as their membership lasts.

        As `set_role` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.set_role, conversation_id, user_id, role)

    def silence_member(self, conversation_id: str, user_id: str, until: Moment | None = None) -> None:
        """A member may not write until then; a later one replaces it. `Member.silenced_until_ms` says so.

        As `silence_member` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.silence_member, conversation_id, user_id, until)

    def unsilence_member(self, conversation_id: str, user_id: str) -> None:
        """A member may write again. Raises as `silence_member`.

        As `unsilence_member` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.unsilence_member, conversation_id, user_id)

    def ban_member(self, conversation_id: str, user_id: str) -> None:
        """Keep a user out of a group: a member is removed, and nobody but the host adds them again. Twice is once.

        As `ban_member` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.ban_member, conversation_id, user_id)

    def unban_member(self, conversation_id: str, user_id: str) -> None:
        """Let a user be added again; without a ban nothing happens. Raises ForbiddenError as `ban_member`.

        As `unban_member` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.unban_member, conversation_id, user_id)

    def bans(self, conversation_id: str, *, cursor: str | None = None, limit: int = 50) -> BanPage:
        """One page of who is banned from a group, by user id; `next_cursor` leads to the next.

        As `bans` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.bans, conversation_id, cursor=cursor, limit=limit)

    def block(self, user_id: str) -> None:
        """Block a user: they can neither add the caller to anything nor write to them in a SINGLE. Twice is once.

        As `block` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.block, user_id)

    def unblock(self, user_id: str) -> None:
        """End a block; without one nothing happens.

        As `unblock` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.unblock, user_id)

    def blocks(self, *, cursor: str | None = None, limit: int = 50) -> BlockPage:
        """One page of whom the caller blocked, by user id; `next_cursor` leads to the next.

        As `blocks` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.blocks, cursor=cursor, limit=limit)

    def upload(
        self,
        source: bytes | str | os.PathLike[str],
        *,
        mime: str | None = None,
        name: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Upload:
        """Upload a file; returns once the server has all of it. See `ChatClient.upload`.

        As `upload` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.upload, source, mime=mime, name=name, on_progress=on_progress)

    @overload
    def download(
        self, message: Message | str, to: None = None, *, on_progress: OnProgress | None = None
    ) -> bytes: ...

    @overload
    def download(
        self, message: Message | str, to: str | os.PathLike[str], *, on_progress: OnProgress | None = None
    ) -> Path: ...

    def download(
        self,
        message: Message | str,
        to: str | os.PathLike[str] | None = None,
        *,
        on_progress: OnProgress | None = None,
    ) -> bytes | Path:
        """The file that a message names. See `ChatClient.download`.

        As `download` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.download, message, to, on_progress=on_progress)  # type: ignore[arg-type]

    def push_providers(self) -> PushProviders:
        """What devices may register with, and what browsers need for it. Needs no login.

        As `push_providers` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.push_providers)

    def register_push(self, provider: str, token: str, *, hide_body: bool = False) -> None:
        """The device is woken by pushes of this provider from now on; its former registration is replaced.

        As `register_push` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.register_push, provider, token, hide_body=hide_body)

    def unregister_push(self, device_id: str | None = None) -> None:
        """A device is woken no more; without a registration nothing happens.

        As `unregister_push` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.unregister_push, device_id)

    def mute(
        self,
        conversation_id: str,
        until: Moment | None = None,
        *,
        level: Literal["MENTIONS", "NONE"] = "NONE",
    ) -> None:
        """The user's devices are not woken for a conversation; connections get everything. A later one replaces it.

        As `mute` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.mute, conversation_id, until, level=level)

    def unmute(self, conversation_id: str) -> None:
        """The user's devices are woken for a conversation again; without a mute nothing happens.

        As `unmute` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.unmute, conversation_id)

    def presence(self, user_ids: Sequence[str]) -> list[UserPresence]:
        """Who of these is online, in this order; left out are those whom the caller may not know of.

        As `presence` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.presence, user_ids)

    def health(self) -> bool:
        """Whether the server's process answers.

        As `health` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.health)

    def ready(self) -> bool:
        """Whether the server takes messages now; false too while it cannot be reached, or gives no answer in time.

        As `ready` of `chatkit.ChatApi`, which says more.
        """
        return self._wait(self._made.ready)
