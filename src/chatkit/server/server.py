"""ChatServer: holds the parts and runs them.

The parts, in the order of a message: `gateway` -> `session` -> `dispatch` -> `engine` -> `committer` -> store ->
`publisher` -> `live.hub` -> `session` -> `gateway`. Beside them: `cluster`, for other servers on the same log, and
`watchdog`, for what is done by time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Self, cast

import anyio

from .._abilities import offers
from .._arguments import check_callable, check_has, check_kind
from .._event_loop import LoopGuard
from ..archive.base import ArchiveStore
from ..bus.base import Bus, Connects
from ..core.policy import DEFAULT_POLICY, Policy
from ..errors import ConfigurationError, RefusedError
from ..observability.instrument import Instrument, Instruments
from ..ports import Ports
from ..push.base import PushProvider
from ..queue.base import Connects as QueueConnects
from ..queue.base import Queue
from ..storage.base import ContactReader, Done, ModerationReader, Store, StreamReader
from ..types import Explanation
from ..wire import events as ev
from ..wire.codec import Codec
from .access import Access
from .admission import Admission
from .allowance import Allowance
from .archiving.config import ArchiveConfig
from .archiving.service import Archiving
from .asking import Asking, ResumeAuthorizer
from .auth import Authenticator
from .background import Background
from .batch_report import reports_of
from .blobs.config import BlobConfig
from .blobs.service import Blobs
from .cluster.bridge import ClusterBridge
from .cluster.reconcile import Reconciler
from .cluster.reconcile_queue import ReconcileQueue
from .committer import NOT_RUNNING, CommitListener, Committer
from .config import ServerConfig
from .delivery.config import DeliveryConfig
from .delivery.feed import QueueFeed
from .delivery.lag_report import LagReports
from .delivery.notices import Compose
from .delivery.worker import DeliveryWorker
from .devices import Devices
from .dispatch import Dispatch
from .drain import Drain
from .engine import Engine
from .erasure import Erasures
from .explain import READERS_SHOWN, ReaderLimit, explain_message
from .host import check_ids, check_value
from .host_sends import HostSends
from .live.hub import Hub
from .login import Login
from .login_request import LoginRequest
from .login_verbs import LoginVerbs
from .moderation.asking import Asking as ModeratorAsking
from .moderation.config import ModerationConfig
from .moderation.expiry import LOOK_S, HoldExpiry
from .moderation.lanes import Lanes
from .moderation.stage import HoldsBack, Moderation
from .moderation.verbs import ModerationVerbs
from .moderation.verdicts import Moderator
from .pending import PendingCommand
from .person_verbs import PersonVerbs
from .presence import PresenceService
from .publisher import Publisher
from .read_gate import ReadGate
from .receipts import Receipts
from .restoration import Restoration
from .retention_verbs import RetentionVerbs
from .sampler import Sampler
from .search_verbs import SearchVerbs
from .searching import Searching
from .seq_check import SeqCheck
from .session import Session
from .sessions import Sessions
from .signals import forget, keep_back, stay_between
from .streams import Streams
from .sync import Sync
from .typing import Typing
from .watchdog import Watchdog

logger = logging.getLogger(__name__)


class ChatServer(LoginVerbs, ModerationVerbs, PersonVerbs, RetentionVerbs, SearchVerbs):
    """A chat server to embed: `async with ChatServer(...) as server`, and `asgi_app(server)` to reach it by.

    Inside the `async with` it takes sessions and requests; leaving it drains. It may be entered again once it was left,
    in another event loop too, and left by another task than the one that entered it; all of its coroutines belong to
    the event loop that it was entered in.

    Args:
        store: Where the log lives; opened on entering, closed on leaving.
        authenticate: Who a token proves its bearer to be.
        authorize_resume: Asked when a client comes back by a resume token: whether that login still holds. None: it
            holds until it ends, was revoked, or is `login_max_s` old.
        config: Bounds and times.
        ports: Clock, random numbers, ids.
        bus: Where the other servers on the same log hear of what happens here; None: there is no other. A place on a
            bus is left with the server: with one, the server is entered once.
        push: Ways to devices that sleep, by the names that devices register with. With them the server runs a delivery
            worker; None: it runs none (another process may, see `DeliveryWorker`). They stay open when it is left.
        compose_push: Puts what is pushed into words. None: ids for names, in English.
        delivery: Times and bounds of the delivery worker.
        queue: Where workers hear which conversations have work, such as `open_queue("jetstream://HOST")`; None: they
            look into the store alone. It is closed when the server is left: with one, the server is entered once.
        archive: Where bodies of older messages are, such as `open_archive("file:///FOLDER")`; needed once any are
            there. It stays open when the server is left.
        archiving: What is moved there, and when, by this server; None: nothing (another process may do it).
        blobs: Where uploaded files are kept, such as `open_archive("file:///FOLDER")`; None: there are none, and what
            messages say of files is between clients. All servers of a log should have it, or none. It stays open when
            the server is left.
        blob_config: How much may be uploaded, and how links hold.
        policy: What each role may do in a conversation, such as `RolePolicy({...})`: docs/roles.md.
        instruments: Told what happens, such as metrics and traces; see `Instrument`. Of its worker too.
        moderator: Asked about each message of a user before it is stored; see `Moderator`. None: nothing is moderated.
            All servers of a log should have one, or none. It needs a store that is a `ModerationReader`.
        moderation: Its deadline, what its failure means, and the bounds of what is held.
        drain_on_signals: Where the program that runs the event loop (uvicorn, hypercorn, granian) handles SIGTERM,
            drain first, then let it have the signal. For the main thread and asyncio; elsewhere it has no effect.

    Attributes:
        engine: For endpoints such as `asgi_app`, not for hosts: the verbs of users.
        sync: For endpoints, not for hosts: pages of the log.
        login: For endpoints, not for hosts: tokens to identities.
        allowance: For endpoints, not for hosts: what a user may still ask for.
        admission: For endpoints, not for hosts: what an address may still ask for.
        reads: For endpoints, not for hosts: whose turn it is to read.
        push: As it was given.
        presence: For endpoints, not for hosts: who is online.
        blob_service: For endpoints, not for hosts: uploaded files; None: none are kept.
        log: For endpoints, not for hosts: pages of the log with bodies that are in the archive.
        searching: For endpoints, not for hosts: what a user finds.
    """

    def __init__(
        self,
        *,
        store: Store,
        authenticate: Authenticator,
        authorize_resume: ResumeAuthorizer | None = None,
        config: ServerConfig | None = None,
        ports: Ports | None = None,
        bus: Bus | None = None,
        push: Mapping[str, PushProvider] | None = None,
        compose_push: Compose | None = None,
        delivery: DeliveryConfig | None = None,
        queue: Queue | None = None,
        archive: ArchiveStore | None = None,
        archiving: ArchiveConfig | None = None,
        blobs: ArchiveStore | None = None,
        blob_config: BlobConfig | None = None,
        instruments: Iterable[Instrument] = (),
        moderator: Moderator | None = None,
        moderation: ModerationConfig | None = None,
        policy: Policy = DEFAULT_POLICY,
        drain_on_signals: bool = True,
    ) -> None:
        check_has("policy", policy, "allows", "a Policy, such as RolePolicy()")
        check_has("store", store, "commit", "a Store, such as open_store('sqlite:///chat.db')")
        if config is not None and getattr(config, "presence", False):
            check_has("store", store, "contacts", "a Store that can say who knows whom (ContactReader)")
        check_callable("authenticate", authenticate, "an async callable, such as jwt_authenticator(secret)")
        if bus is not None:
            check_has("bus", bus, "subscribe", "a Bus, or None for a server that is alone on its log")
        if moderator is not None:
            check_callable("moderator", moderator, "an async callable from submissions to verdicts")
            check_has("store", store, "to_moderate", "a Store that keeps what is held (ModerationReader)")
        check_kind("config", config, ServerConfig, optional=True)
        check_kind("moderation", moderation, ModerationConfig, optional=True)
        check_kind("ports", ports, Ports, optional=True)
        if queue is not None:
            check_has("queue", queue, "put", "a Queue, such as open_queue('jetstream://HOST')")
        self.push, self._compose_push, self._delivery = push, compose_push, delivery
        self._queue = queue
        if archive is not None:
            check_has("archive", archive, "names", "an ArchiveStore, such as open_archive('file:///FOLDER')")
        check_kind("archiving", archiving, ArchiveConfig, optional=True)
        self._archive, self._archive_config = archive, archiving
        if blobs is not None:
            check_has("blobs", blobs, "names", "an ArchiveStore, such as open_archive('file:///FOLDER')")
        check_kind("blob_config", blob_config, BlobConfig, optional=True)
        self._blobs, self._blob_config = blobs, blob_config or BlobConfig()
        self._instruments = Instruments(instruments)
        self._moderator, self._moderation_config = moderator, moderation or ModerationConfig()
        self._policy = policy
        self._drain_on_signals = drain_on_signals
        self._entered = self._left = self._warned = False
        self._guard: LoopGuard | None = None
        self._authenticate, self._authorize_resume = authenticate, authorize_resume
        self._assemble(store, config or ServerConfig(), ports or Ports(), bus)

    def _assemble(self, store: Store, config: ServerConfig, ports: Ports, bus: Bus | None) -> None:
        """Make the parts: anew for each time the server is entered, for they belong to one event loop.

        Each group is given what the groups before it made.
        """
        self.config, self.ports, self._bus = config, ports, bus
        self._background = Background(self._failed)
        self._make_readers(store)
        self._make_live(store)
        super().__init__(self._make_engine(store), store)
        self._make_verbs(store)
        self._make_sessions(store)
        self._make_watch(store)

    def _make_readers(self, store: Store) -> None:
        """What reads the log beside those who talk: the archive, search, and who wakes devices."""
        self._feed = None if self._queue is None else QueueFeed(self._queue, self.ports.clock)
        self._worker = self._delivery_worker(store, self.ports)
        self._archiving = Archiving(
            store,
            self._archive,
            self._archive_config,
            self.ports,
            lambda command: self.engine.execute(command, Done),
        )
        self.log = self._archiving.log
        self.searching = Searching(store, self.log, self.ports.clock, is_on=self.config.search)

    def _make_live(self, store: Store) -> None:
        """Who is online here, what they are pushed, and the other nodes."""
        config, ports, bus = self.config, self.ports, self._bus
        self._to_reconcile = ReconcileQueue()
        self._hub = Hub(self._to_reconcile, bus, self._instruments)
        self._receipts = Receipts(self._hub, self._to_reconcile, store)
        clustered = bus is not None
        self._access = Access(store, self._hub, self._refuse_queued, ports.clock, clustered=clustered)
        self._devices = Devices(self._hub.presence, config.limits, ports.clock, clustered=clustered)
        self._bridge = (
            None
            if bus is None
            else ClusterBridge(
                bus,
                self._hub,
                self._receipts,
                self._to_reconcile,
                ports.random,
                on_revoked=self._access.look,
                on_available=lambda message: self.presence.hear(message),
            )
        )
        self.presence = PresenceService(
            cast("ContactReader", store) if config.presence else None,
            self._hub,
            self._bridge,
            config,
            ports.clock,
            ports.ids.token_bytes(8).hex() if config.presence else "",
        )

    def _make_engine(self, store: Store) -> Engine:
        """What changes the log: the engine, its queue of commits, and who tells what became of them."""
        config = self.config
        self.allowance = Allowance(config.limits, config.typing_interval_s, self.ports.clock)
        publisher = Publisher(
            self._hub,
            self._receipts,
            self._to_reconcile,
            self._bridge,
            self._access,
            self.allowance,
            config,
            self._feed,
        )
        self._check = SeqCheck(self._instruments)
        reports = reports_of(self._instruments, self.ports.clock, self._hub, self._check)
        lanes = Lanes()
        listener: CommitListener = publisher if self._moderator is None else HoldsBack(publisher, lanes)
        self._committer = Committer(store, listener, self._devices, config, reports)
        self._moderation = self._moderate(store, lanes, listener)
        self._host_sends = HostSends(store, publisher, self._to_reconcile)
        return Engine(
            store,
            self._committer,
            self._host_sends,
            publisher,
            self._access,
            self.allowance,
            config,
            self.ports,
            self._moderation,
            self._policy,
            keep_reported_bodies=self._moderation_config.keep_reported_bodies,
            keeps_blobs=self._blobs is not None,
        )

    def _make_verbs(self, store: Store) -> None:
        """What a session or a request asks for, beside the engine."""
        config, spawn = self.config, self._background.spawn
        self.reads = ReadGate(config.limits)
        self.blob_service = self._keep_blobs(store, self.engine, self.ports)
        self.login = Login(
            self.engine,
            Asking(self._authenticate, self._authorize_resume, config.hello_timeout_s),
            self._access,
            self._devices,
            self.allowance,
            self.reads,
            config,
            self.ports,
            spawn,
            self._instruments,
        )
        self.sync = Sync(
            store,
            self._archiving.log,
            self._hub,
            self._to_reconcile,
            self.allowance,
            self.reads,
            config,
            spawn,
            self._instruments,
        )
        self._streams = Streams(
            store if offers(store, StreamReader) else None,
            self.engine,
            self._committer,
            self.allowance,
            config,
            self.ports.clock,
            moderated=self._moderator is not None,
            unseen=self._moderation_config.parts_unseen,
        )
        self._restoration = Restoration(store, self.engine)
        self.erasures = Erasures(self.engine, store, self.ports.clock)

    def _make_sessions(self, store: Store) -> None:
        """Who is let in, where their events go, and how all of them end."""
        config = self.config
        dispatch = Dispatch(
            self.engine,
            self.login,
            self.sync,
            Typing(store, self._hub, self._bridge, self._committer, self.allowance, config),
            self.presence,
            self._streams,
            self.allowance,
            self._hub,
            self._restoration,
            self.ports.clock,
            self._background.spawn,
            self._instruments,
        )
        self.admission = Admission(config.limits, config.overload_retry_s)
        self._sessions = Sessions(dispatch, self.admission, config, self.ports)
        self._drain = Drain(self._sessions, self._committer, config, self.ports.clock, self._moderation)

    def _make_watch(self, store: Store) -> None:
        """What finds by itself that something was missed, ended or is late."""
        self._reconciler = Reconciler(
            store,
            self._archiving.log,
            self._hub,
            self._receipts,
            self._committer,
            self._to_reconcile,
            self.config.gap_wait_s,
            self.ports.clock,
            self._check,
            self._instruments,
        )
        self._sampler = Sampler(
            self._instruments, store, self._hub, self._sessions, self._committer, self.searching
        )
        self._lag_reports = LagReports(self._instruments, store, self.ports.clock, working=False)
        self._watchdog = Watchdog(
            store,
            self._sessions,
            self.login,
            self._receipts,
            self.presence,
            self._reconciler,
            self._to_reconcile,
            self._bridge,
            self._restoration,
            self._access,
            self._devices,
            self.engine,
            self.config,
            self.ports.clock,
        )

    def _moderate(self, store: Store, lanes: Lanes, listener: CommitListener) -> Moderation | None:
        if self._moderator is None:
            return None
        return Moderation(
            ModeratorAsking(self._moderator, self._moderation_config),
            cast("ModerationReader", store),
            lanes,
            self._committer,
            listener,
            self._moderation_config,
            self.config,
            self.ports.clock,
            self._instruments,
        )

    def _keep_blobs(self, store: Store, engine: Engine, ports: Ports) -> Blobs | None:
        if self._blobs is None:
            return None
        banned = self._access.is_banned
        return Blobs(store, self._blobs, self._blob_config, engine, self.reads, banned, ports)

    def _delivery_worker(self, store: Store, ports: Ports) -> DeliveryWorker | None:
        if self.push is None:
            return None
        return DeliveryWorker(
            store,
            self.push,
            compose=self._compose_push,
            config=self._delivery,
            ports=ports,
            queue=self._queue,
            instruments=self._instruments.given,
        )

    @property
    def running(self) -> bool:
        """Whether it was entered and not left."""
        return self._background.running

    @property
    def ready(self) -> bool:
        """Whether it can take messages now."""
        return self.running and not self._sessions.draining and self.store.healthy

    async def __aenter__(self) -> Self:
        self._check_may_enter()
        self._entered, self._guard = True, LoopGuard("ChatServer")
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._leave)
            undo.push(_log_failure)
            secret = await self.store.migrate()
            if offers(self._bus, Connects):
                await self._bus.connect()
            if offers(self._queue, QueueConnects):
                await self._queue.connect()
            await self._archiving.start(secret)
            await self.searching.start()
            self.engine.start(secret, self._guard)
            if self.blob_service is not None:
                await self.blob_service.start(secret)
            await self._reconciler.begin()
            await self._access.begin()
            await self._background.open(self._begin)
            undo.push_async_callback(self._background.close)
            self._committer.open()
            await self._restoration.start(secret)
            undo.pop_all()
        self._background.start(self.erasures.run)
        if self._drain_on_signals and keep_back(self.drain):
            self._background.start(partial(stay_between, self.drain))
        logger.info("the server takes sessions and requests")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._guard is not None, "entered before it is left"
        self._guard.check()
        try:
            with anyio.CancelScope(shield=True):
                await self.drain()
                self._abandon()
                await self._background.close()
        finally:
            self._background.cancel()
            await self._leave()
            logger.info("the server was left")
        return None

    def _check_may_enter(self) -> None:
        """Make the parts anew if they were used. Raises ConfigurationError if the server cannot be entered now."""
        if self._entered:
            raise ConfigurationError(
                "this ChatServer is entered already; leave it first, or make another one"
            )
        if self._left:
            if self._bus is not None or self._queue is not None:
                raise ConfigurationError(
                    "this ChatServer has left its bus or queue; make another one with a new place there"
                )
            self._assemble(self.store, self.config, self.ports, None)

    def connect(self, codec: Codec, wake: Callable[[], None], request: LoginRequest | None = None) -> Session:
        """A session for a connection that was just opened. The caller must call `disconnected` when it ends.

        Args:
            codec: The wire form it speaks.
            wake: Called when there is something to write.
            request: What came with the handshake; None: nothing, and no address to count it under.
        """
        return self._sessions.open(codec, wake, request or LoginRequest())

    def disconnected(self, session: Session) -> None:
        """The connection has ended; nothing is sent to the session any more."""
        self._sessions.end(session)

    def warn_not_running(self) -> None:
        """For endpoints: somebody came before the server was entered. Logged once, for it is a matter of set-up."""
        if not (self._entered or self._left or self._warned):
            self._warned = True
            logger.error("%s. A host without lifespan, such as daphne, cannot run it", NOT_RUNNING)

    async def explain(
        self, message_id: str, *, user_id: str | None = None, limit: int = READERS_SHOWN
    ) -> Explanation:
        """What became of a message, or of another entry of a log: who sent it, who has it, who was pushed to.

        It never holds the message's words, nor a token. Recalled messages and those of a former epoch have their
        account too. Of sessions it says what this node has; those of other nodes are not asked.

        Args:
            message_id: Its id.
            user_id: Tell only of this one of its readers.
            limit: Most readers that are told of, from 1 to 1,000, the first by id.

        Raises:
            BadRequestError: No valid id, or limit.
            NotFoundError: There is no such entry; the words say why.
            UnavailableError: Storage refused; a retry is safe.

        Source: docs/observability.md#explain
        """
        check_value(str, "message id", message_id)
        check_ids(*(() if user_id is None else (user_id,)))
        check_value(ReaderLimit, "limit", limit)
        self.engine.check_loop()
        return await explain_message(
            self.store, self._hub.presence, self.ports.clock, message_id, user_id, limit
        )

    async def drain(self) -> None:
        """Take nobody in any more, send everybody away over `drain_spread_s`, and answer what was accepted.

        Afterwards every accepted message is durable and answered, as far as `drain_timeout_s` allowed, and new work is
        refused. Safe to repeat.
        """
        if self._guard is not None:
            self._guard.check()
        self._archiving.stop()
        if self._worker is not None:
            self._worker.stop()
        await self._drain.run(running=self.running)
        if self._worker is not None and self.running:
            with anyio.move_on_after(self.config.drain_timeout_s):  # what is with a provider is noted
                await self._worker.ended()

    def _refuse_queued(self, why: Callable[[PendingCommand], RefusedError | None]) -> None:
        if self._moderation is not None:
            self._moderation.refuse_queued(why)
        self._committer.refuse_queued(why)

    def _abandon(self) -> None:
        """Refuse what is still waiting."""
        if self._moderation is not None:
            self._moderation.abandon()
        self._committer.abandon()

    def _begin(self) -> None:
        self._background.start(self._committer.run)
        if self._moderation is not None:
            self._background.start(self._moderation.run)
            expiry = HoldExpiry(
                cast("ModerationReader", self.store), self.engine, self._moderation_config, self.ports.clock
            )
            self._background.every(LOOK_S, expiry.look)
        self._background.start(self._host_sends.run)
        self._background.every(self._streams.look_s, self._streams.end_idle)
        self._background.start(self._reconciler.run)
        if self._bridge is not None:
            self._background.start(self._bridge.run)
        self._watchdog.start(self._background)
        if self.searching.is_on:
            self._background.start(self.searching.run)
        if self._archiving.interval_s is not None:
            self._background.every(self._archiving.interval_s, self._archiving.run)
        if self.blob_service is not None:
            self._background.every(self.blob_service.config.collect_s, self.blob_service.collect)
        if self._worker is not None:
            self._background.start(self._worker.run)
        if self._feed is not None:
            self._background.start(self._feed.run)
        if self._sampler.wanted:
            self._background.start(self._sampler.run)
        if self._lag_reports.wanted and self._worker is None:
            self._background.start(self._lag_reports.run)

    async def _leave(self) -> None:
        """Leave the bus, and close the store in any case, also when cancelled."""
        forget(self.drain)
        with anyio.CancelScope(shield=True):
            try:
                if self._bus is not None:
                    await self._bus.aclose()
                if self._queue is not None:
                    await self._queue.aclose()
            finally:
                await self.store.aclose()
                self._committer.close(NOT_RUNNING)
                self._entered, self._left, self._guard = False, True, None
                self.engine.stop()

    def _failed(self) -> None:
        """A part of the server has failed: nothing is taken in any more, and nobody is left waiting."""
        self._committer.close("the server failed")
        self._abandon()
        for session in self._sessions:
            session.close(ev.CloseCode.OVERLOADED, "the server failed")


def _log_failure(
    kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
) -> None:
    """Say why a server cannot start: the programs that run hosts may end with 0 after it, or with no word."""
    if isinstance(error, Exception):
        logger.critical("the chat server cannot start: %s", error)
