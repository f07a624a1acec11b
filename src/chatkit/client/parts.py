"""Puts the parts of a client together, once. Everything here is shared by all connections of one client."""

from __future__ import annotations

from .._auto_reset_event import AutoResetEvent
from ..errors import UnavailableError
from ..ports import Ports
from ..wire.codec import Codec
from ..wire.events import Limits
from .base import LocalStore, refused_for_now
from .config import ClientConfig
from .conversations import Conversations
from .cursors import Cursors
from .heads import Heads
from .mailbox import Mailbox
from .outgoing import Outgoing
from .pulls import Pulls
from .receiver import Receiver
from .requests import Requests
from .router import Router
from .sender import Sender
from .syncer import Syncer


class Parts:
    """The parts, by name."""

    def __init__(self, config: ClientConfig, ports: Ports, codec: Codec, store: LocalStore) -> None:
        self.config = config
        self.ports = ports
        self.codec = codec
        self.store = store
        self.wake = AutoResetEvent()
        self.mailbox = Mailbox(config.events_max, config.events_low)
        self.conversations = Conversations(config.held_max)
        self.conversations.reload(store.records())
        self.pulls = Pulls(config.gap_wait_s, ports)
        self.sender = Sender(store, config, ports, self.wake)
        self.cursors = Cursors(store, config, ports)
        self.requests = Requests(config.requests_max, self.wake)
        self.receiver = Receiver(
            codec, self.conversations, self.pulls, self.sender, self.cursors, self.mailbox, store
        )
        self.heads = Heads(self.conversations, self.receiver, self.pulls, self.cursors)
        self.syncer = Syncer(
            config,
            ports,
            self.conversations,
            self.pulls,
            self.receiver,
            self.heads,
            self.requests,
            self.mailbox,
            self.wake,
        )
        self.outgoing = Outgoing(codec, self.sender, self.cursors, self.requests, self.wake)
        self.router = Router(
            self.conversations, self.receiver, self.heads, self.sender, self.cursors, self.requests
        )

    def connected(self, user_id: str, limits: Limits) -> None:
        """A login holds: every part begins with it."""
        self.receiver.user_id = user_id
        self.heads.connected()
        self.requests.connected()
        self.outgoing.connected(limits)

    def recover(self) -> UnavailableError | None:
        """After the store refused a batch: make memory what the store holds. Only while not connected.

        Returns:
            Why that is not possible yet, or None.
        """
        if self.receiver.failure is None:
            return None
        try:
            self.conversations.reload(self.store.records())
            self.sender.reload()
            self.cursors.reload()
        except UnavailableError as error:
            if not refused_for_now(error):
                raise
            return error
        self.receiver.failure = None
        return None

    def check_in_step(self) -> None:
        """Raises UnavailableError while memory and store differ, for the store refused to take what came."""
        if isinstance(self.receiver.failure, UnavailableError):
            raise self.receiver.failure.fresh()

    def disconnected(self) -> None:
        """The connection is gone: what was under way goes back, what was waited for fails."""
        self.outgoing.disconnected()
        self.requests.disconnected()
        self.sender.disconnected()
        self.cursors.disconnected()
        self.pulls.clear()
