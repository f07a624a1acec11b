"""The app: what `ChatClient` holds, on a screen. It keeps nothing and decides nothing about messages.

Whatever happens, what is shown is read again from the client's local store, by one task, at most every
`REFRESH_WAIT_S`. Fetching the past fills that store and is the only thing that waits for the network.
"""

from __future__ import annotations

from typing import ClassVar, Final

import anyio
import anyio.lowlevel
from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import AppFocus
from textual.widgets import Footer, OptionList, Static
from textual.widgets.option_list import Option

from .._auto_reset_event import AutoResetEvent
from .._one_line import one_line
from ..client.client import ChatClient
from ..client.events import CaughtUp, Connecting, ConversationListChanged, EpochChanged, SendFailed
from ..errors import ChatkitError, HeldError, SendOutcomeUnknownError
from ..types import Message
from ..wire.events import SEQ_MAX
from .compose import Compose
from .message_list import MessageList
from .words import Row, brief, conversation_row, plain, rows_of, state_of

REFRESH_WAIT_S: Final = 0.1
CONVERSATIONS_MAX: Final = 200
PAGE: Final = 50
ENTRIES_MAX: Final = 1_000
"""So many conversations are listed, so many entries are fetched at once, and so many of a conversation are shown."""

_READ_MAX: Final = 200

STYLE: Final = """
#state { height: 1; padding: 0 1; background: $panel; }
#conversations { width: 32; max-width: 40%; height: 1fr; text-wrap: nowrap; text-overflow: ellipsis; }
#messages { height: 1fr; }
#compose { height: auto; max-height: 6; }
#conversations, #messages, #compose { border: round $foreground 30%; border-title-color: $text-muted; }
#conversations:focus, #messages:focus, #compose:focus { border: round $accent; }
#note { display: none; height: auto; max-height: 4; padding: 0 1; color: $text-warning; }
"""


class ChatApp(App[ChatkitError | None]):
    """Conversations on the left, one of them on the right. Ends with the error that ended the client's events, or None.

    Args:
        client: Entered, in the loop that the app runs in; nobody else takes its events.
        address: What is said of the server at the top; nothing secret.
    """

    CSS = STYLE
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = "#conversations"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "list", "Conversations"),
        Binding("pageup", "older", "Older", priority=True),
        Binding("pagedown", "newer", "Newer", priority=True),
        Binding("ctrl+q", "quit", "Quit", priority=True),
    ]

    def __init__(self, client: ChatClient, address: str) -> None:
        super().__init__()
        self._client = client
        self._address = Content(brief(address))
        self._state = "connecting …"
        self._open = ""
        self._wanted = PAGE
        self._unsent: dict[str, str] = {}
        self._is_caught_up = False
        self._entries: list[Message] = []
        self._asked_below: int | None = None
        self._listed: list[Row] = []
        self._list_is_stale = True
        self._changed = AutoResetEvent()
        self._list_changed = AutoResetEvent()

    def compose(self) -> ComposeResult:
        """The panes."""
        yield Static(id="state")
        with Horizontal():
            yield OptionList(id="conversations")
            with Vertical():
                yield MessageList(id="messages")
                yield Static(id="note")
                yield Compose(id="compose", disabled=True)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to follow the client."""
        self.query_one("#conversations").border_title = Content("Conversations")
        self.run_worker(self._follow())
        self.run_worker(self._refresh())
        self.run_worker(self._complete_list())
        self._changed.set()

    # --- what the client says -------------------------------------------------------------------------

    async def _follow(self) -> None:
        try:
            async for event in self._client.events():
                self._state = state_of(event) or self._state
                match event:
                    case Connecting():
                        self._is_caught_up = False
                    case CaughtUp():
                        self._is_caught_up, self._asked_below = True, None
                        self._list_changed.set()
                    case EpochChanged():
                        self._asked_below = None
                    case ConversationListChanged():
                        self._list_is_stale = True
                        self._list_changed.set()
                    case SendFailed():
                        self._say(f"not sent: {event.error}")
                self._changed.set()
        except ChatkitError as error:
            self.exit(error)
            return
        if self._client.stopped is not None:
            self._state = f"ended: {brief(str(self._client.stopped))}"
            self._changed.set()

    async def _refresh(self) -> None:
        while True:
            await self._changed.wait()
            try:
                await self._show()
            except ChatkitError as error:
                self._say(str(error))
            await anyio.sleep(REFRESH_WAIT_S)

    async def _show(self) -> None:
        who = self._client.user_id or "…"
        state = Content.assemble((who, "bold"), " at ", self._address, "  ", (self._state, "dim"))
        self.query_one("#state", Static).update(state)
        if self._list_is_stale:
            self._list_is_stale = False
            await self._show_list()
        if self._open:
            await self._show_open()

    async def _show_list(self) -> None:
        listed = await self._client.conversations(limit=CONVERSATIONS_MAX, fetch=False)
        self._list([conversation_row(it, self._client.user_id) for it in listed])
        title = next((it.title for it in listed if it.conversation_id == self._open), "")
        self.query_one(MessageList).border_title = Content(brief(title) or one_line(self._open))

    async def _complete_list(self) -> None:
        """Fetch what this device lacks of the list, whenever that may be something."""
        while True:
            await self._list_changed.wait()
            try:
                await self._client.conversations(limit=CONVERSATIONS_MAX)
            except ChatkitError as error:  # the next change of the list, or the next connection, tries again
                self._say(str(error))
            self._list_is_stale = True
            self._changed.set()
            await anyio.sleep(REFRESH_WAIT_S)

    def _list(self, rows: list[Row]) -> None:
        if rows == self._listed:
            return
        pane = self.query_one("#conversations", OptionList)
        chosen = pane.highlighted_option
        self._listed = rows
        pane.set_options(Option(content, id=id_) for id_, content in rows)
        ids = [id_ for id_, _ in rows]
        pane.highlighted = ids.index(str(chosen.id)) if chosen is not None and chosen.id in ids else 0

    async def _show_open(self) -> None:
        client, pane = self._client, self.query_one(MessageList)
        self._entries = entries = await self._held(self._open, self._wanted)
        states = {
            it.seq: client.message_state(self._open, it.seq)
            for it in entries
            if it.sender_id == client.user_id and it.type not in ("MEMBER", "RECALLED")
        }
        pending = [it for it in client.pending() if it.conversation_id == self._open]
        pane.show(rows_of(entries, client.user_id, states, pending))
        self.call_after_refresh(self._look_at_edges)

    async def _look_at_edges(self) -> None:
        """Once it is on the screen: the newest row in view is read, and above the oldest one there may be more."""
        pane = self.query_one(MessageList)
        if not self._open or not self._entries:
            self._fill()
            return
        if pane.at_end and self.app_focus and self._entries[-1].conversation_id == self._open:
            try:
                await self._client.mark_read(self._open, self._entries[-1].seq)
            except ChatkitError as error:  # the next look tries again
                self._say(str(error))
        if pane.scroll_y <= 0:
            self._fill()

    async def _held(self, conversation_id: str, wanted: int) -> list[Message]:
        """The newest entries on this device, ascending."""
        found: list[Message] = []
        while len(found) < wanted:
            before_seq = found[0].seq if found else None
            limit = min(wanted - len(found), _READ_MAX)
            page = await self._client.history(
                conversation_id, before_seq=before_seq, limit=limit, fetch=False
            )
            found = page + found
            if len(page) < limit:
                break
        return found

    # --- the past -------------------------------------------------------------------------------------

    @on(MessageList.EdgeReached)
    def _edge_reached(self) -> None:
        self._changed.set()

    def _fill(self) -> None:
        """Show more of what is held, else fetch more."""
        if not self._open:
            return
        if len(self._entries) < self._wanted:
            self._fetch_older()
        elif self._wanted < ENTRIES_MAX:
            self._wanted += PAGE
            self._changed.set()
        else:
            self._say(f"only the newest {ENTRIES_MAX:,} entries of a conversation are shown here")

    def _fetch_older(self) -> None:
        """Fetch what is below the oldest entry, once: what comes of it is shown, or there is nothing below."""
        below = self._entries[0].seq if self._entries else SEQ_MAX
        if self._is_caught_up and self._asked_below != below:
            self._asked_below = below
            self.run_worker(self._fetch(self._open, below), group="fetch", exclusive=True)

    async def _fetch(self, conversation_id: str, before_seq: int) -> None:
        try:
            await self._client.history(conversation_id, before_seq=before_seq, limit=PAGE)
        except ChatkitError as error:
            self._asked_below = None  # the next look tries again
            self._say(str(error))
        else:
            self._changed.set()

    # --- what the user does ---------------------------------------------------------------------------

    @on(OptionList.OptionSelected, "#conversations")
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        """Open a conversation."""
        if event.option.id is None:
            return
        compose = self.query_one(Compose)
        if event.option.id != self._open:
            self._unsent[self._open] = compose.text
            self._open, self._wanted, self._asked_below = event.option.id, PAGE, None
            self._entries, self._list_is_stale = [], True
            compose.put(self._open, self._unsent.pop(self._open, ""))
            self.query_one(MessageList).begin()
            self._say("")
        compose.disabled = False
        compose.focus()
        self._changed.set()

    @on(MessageList.ReplyWanted)
    def _reply_wanted(self, event: MessageList.ReplyWanted) -> None:
        """Write an answer, to a message that can have one."""
        for message in self._entries:
            if str(message.seq) == event.row_id and message.type not in ("MEMBER", "RECALLED"):
                compose = self.query_one(Compose)
                compose.answer(message)
                compose.focus()

    @on(Compose.Submitted)
    def _submitted(self, event: Compose.Submitted) -> None:
        """Send what was written; the list shows at once that it waits."""
        self._say("")
        self.run_worker(self._send(event.conversation_id, event.text, event.reply_to))

    async def _send(self, conversation_id: str, text: str, reply_to: Message | None) -> None:
        self._changed.set()
        try:
            await self._client.send(conversation_id, text, reply_to=reply_to)
        except (SendOutcomeUnknownError, HeldError):
            pass  # it is queued, and shown as that
        except ChatkitError as error:
            self._give_back(conversation_id, text, reply_to, error)
        self._changed.set()

    def _give_back(
        self, conversation_id: str, text: str, reply_to: Message | None, error: ChatkitError
    ) -> None:
        """What was refused goes back to where it was written, above what is written there by now."""
        compose = self.query_one(Compose)
        if conversation_id == self._open:
            compose.put(conversation_id, "\n".join(filter(None, (text, compose.text))))
            compose.answer(reply_to)
            self._say(f"not sent: {error}")
        else:
            self._unsent[conversation_id] = "\n".join(filter(None, (text, self._unsent.get(conversation_id))))
            self._say(f"not sent to {conversation_id}: {error}")

    def on_app_focus(self, _: AppFocus) -> None:
        """What is in view counts as read again."""
        self._changed.set()

    async def action_quit(self) -> None:
        """End, once what was typed before has had its turn."""
        self.query_one(Compose).post_message(Compose.Finish())

    @on(Compose.Finished)
    async def _finished(self) -> None:
        """End; a message that was submitted just now is queued by then, as its worker takes its first step."""
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        self.exit()

    def action_list(self) -> None:
        """Go to the conversations; what is written answers no message any more."""
        self.query_one(Compose).answer(None)
        self.query_one("#conversations").focus()

    def action_older(self) -> None:
        """Scroll up, into the past."""
        self.query_one(MessageList).scroll_page_up(animate=False)
        self._changed.set()

    def action_newer(self) -> None:
        """Scroll down; what comes into view at the end is read."""
        self.query_one(MessageList).scroll_page_down(animate=False)
        self._changed.set()

    def _say(self, words: str) -> None:
        note = self.query_one("#note", Static)
        note.update(Content(plain(words)))
        note.display = bool(words)
