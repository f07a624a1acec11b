"""What servers and clients hold in memory: counted at rest and after everybody has left, and against its bounds.

A history that is complete but for one number may come from a server that is not well: bytes that are never
subtracted, a session that stays in the hub, a bound that is not applied. Reads private attributes, since nothing else
knows these numbers; each is named once, here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, Literal

import anyio
import msgspec

from chatkit.client.client import ChatClient
from chatkit.core.rate_limit import RateLimiter
from chatkit.core.resend import WINDOW_BYTES
from chatkit.server.seq_check import CONVERSATIONS_MAX
from chatkit.server.server import ChatServer
from chatkit.server.session import Session
from chatkit.wire.events import PAYLOAD_BYTES_MAX

Moment = Literal["at rest", "left", "peak", "drained"]


class Count(msgspec.Struct, frozen=True):
    """How many of something there were, and how many there may be.

    Attributes:
        moment: `at rest` when everybody is connected and has everything; `left` once the clients have left, and then
            the servers; `peak` for the most that was seen while the run lasted; `drained` when a server has sent
            everybody away.
        where: A node, "clients", or "process".
        what: Of what.
        count: How many.
        least: How many there must be.
        most: How many there may be.
    """

    moment: Moment
    where: str
    what: str
    count: float
    least: float = 0
    most: float = 0

    @property
    def right(self) -> bool:
        """Whether it is within its bounds."""
        return self.least <= self.count <= self.most


def server_counts(
    moment: Moment, name: str, server: ChatServer, members: Mapping[str, Collection[str]], online: int
) -> Iterator[Count]:
    """What a server holds that has nothing to do.

    Args:
        moment: When.
        name: The server's.
        server: The server.
        members: By conversation, who belongs to it.
        online: Connections that it has, each logged in.
    """

    def exactly(what: str, count: float, wanted: float = 0) -> Count:
        return Count(moment, name, what, count, wanted, wanted)

    parts = _Parts(server)
    wanted = _audiences(server, members)
    yield exactly("sessions", len(list(server._sessions)), online)
    yield exactly("devices in the hub", len(server._hub.presence.all_sessions()), online)
    yield exactly("logins", len(parts.login), online)
    yield exactly("audiences", len(parts.audiences), len(wanted))
    yield exactly(
        "sessions in audiences", sum(len(it.sessions) for it in parts.audiences), sum(wanted.values())
    )
    sessions = server._hub.presence.all_sessions()
    yield exactly(
        "conversations of sessions", sum(len(it.last_pushed_seq) for it in sessions), sum(wanted.values())
    )
    yield exactly("entries that came early", sum(len(it._early) for it in parts.audiences))
    yield exactly("sessions that are behind", sum(len(it.behind) for it in sessions))
    yield exactly("events in send buffers", sum(len(it._buffer) for it in sessions))
    yield exactly("bytes in send buffers", sum(it._buffer_bytes for it in sessions))
    yield exactly("commands in the queue", len(parts.waiting))
    yield exactly("cost of the queue", parts.waiting.cost)
    yield exactly("payload bytes of the queue", parts.waiting.payload_bytes)
    yield exactly("messages with the moderator", moderating_count(server))
    yield exactly("batches under way", len(server._committer._in_flight))
    yield exactly("commands without an answer", unanswered_count(server))
    yield exactly("receipts that wait", len(parts.receipts._moved) + len(parts.receipts._large))
    yield exactly(
        "SYNC requests that wait", sum(len(it.requests) + it.serving for it in parts.readings.values())
    )
    yield exactly("HEADS listings under way", sum(it.heads is not None for it in parts.readings.values()))
    yield exactly("signs to reconcile", _signs(server._reconciler._to_reconcile))
    yield exactly("signs without an answer", _signs(server._reconciler._unanswered))
    yield exactly("ended sessions that are kept", len(list(kept_sessions(server))))
    if server._bridge is not None:
        yield exactly("messages for the bus", sum(map(len, server._bridge._leaving.values())))
        yield exactly("topics of the bus", len(server._bus._topics), len(wanted) + 1)  # type: ignore[union-attr]


def unanswered_count(server: ChatServer) -> int:
    """Commands that were queued and have no outcome yet."""
    return server._committer._submitted - server._committer._answered + moderating_count(server)


def moderating_count(server: ChatServer) -> int:
    """Messages that wait for the moderator or are with it."""
    return 0 if server._moderation is None else len(server._moderation._lanes)


def server_peaks(server: ChatServer) -> Iterator[tuple[str, float, float]]:
    """What has a bound: what it is, how much there is now, how much there may be."""
    config, parts = server.config, _Parts(server)
    for batch in server._committer._in_flight:
        most = max(config.commit_batch_max, batch.commands[0].cost)
        yield "cost of one batch", sum(it.cost for it in batch.commands), most
    yield (
        "batches under way",
        len(server._committer._in_flight),
        server.store.commits_in_flight_max,
    )
    yield "cost of the commit queue", parts.waiting.cost, config.commit_queue_max + _LARGEST_COST
    yield (
        "bytes of the commit queue",
        parts.waiting.payload_bytes,
        config.commit_queue_bytes_max + _LARGEST_BYTES,
    )
    if server._moderation is not None:
        yield "messages with the moderator", moderating_count(server), server._moderation._config.queue_max
    yield "sessions", len(server._sessions._sessions), config.sessions_max
    yield "entries that came early", max((len(it._early) for it in parts.audiences), default=0), 256
    for session in server._sessions:
        if len(session._buffer) > 1:
            yield "bytes in a send buffer", session._buffer_bytes, 4 * config.send_buffer_bytes
    for reading in parts.readings.values():
        yield "SYNC requests that wait", len(reading.requests), config.sync_queue_max


_LARGEST_COST: Final = 16
"""What one command of a simulated run adds at most, a group of five users: the queue takes one more while it is below
its bound."""

_LARGEST_BYTES: Final = 64 * 1024


def client_counts(moment: Moment, clients: Collection[ChatClient]) -> Iterator[Count]:
    """What clients hold together that are connected and have everything."""
    running = [client._runtime for client in clients if client._runtime is not None]

    def none(what: str, count: int) -> Count:
        return Count(moment, "clients", what, count)

    yield Count(
        moment,
        "clients",
        "connections",
        sum(it.status.connected for it in running),
        len(clients),
        len(clients),
    )
    yield none("messages pending", sum(len(it.outbox._queue) for it in running))
    yield none("messages under way", sum(len(it.outbox._queue._sent_at_s) for it in running))
    yield none("bytes under way", sum(it.outbox._queue._bytes_under_way for it in running))
    yield none("sends that wait", sum(len(it.outbox._waiters) for it in running))
    yield none(
        "requests that wait", sum(len(it.requests._waiting) + len(it.requests._to_send) for it in running)
    )
    yield none("calls that wait", sum(len(it._calls) for it in running))
    yield none("cursors to be sent", sum(not it.cursors.idle for it in running))
    yield none("events not taken", sum(len(it.events) for it in running))
    unknown = [found for it in running for found in it.conversations.unknown.values()]
    # what was answered after its sender had left is remembered, in case they come back: so that it is told once
    yield none("unknown conversations", sum(it.proved or bool(it.acks) or not it.own for it in unknown))
    timelines = [
        conversation.timeline for it in running for conversation in it.conversations if not conversation.left
    ]
    yield none("entries above a gap", sum(len(it._held) + len(it._notified) for it in timelines))
    yield none("early recalls", sum(len(it._early) for it in timelines))


def client_peaks(client: ChatClient) -> Iterator[tuple[str, float, float]]:
    """As `server_peaks`. What a local store kept from before a restart is no part of `pending_max`."""
    runtime, config = client._runtime, client._config
    if runtime is None:
        return
    yield "messages under way", len(runtime.outbox._queue._sent_at_s), config.window
    yield "bytes under way", runtime.outbox._queue._bytes_under_way, WINDOW_BYTES + PAYLOAD_BYTES_MAX
    yield "messages pending", len(runtime.outbox._queue), config.pending_max
    for conversation in runtime.conversations:
        timeline = conversation.timeline
        others = timeline._held.keys() - timeline._notified  # answered sends are bounded in bytes
        yield "entries above a gap", len(others), config.held_max
        yield "early recalls", len(timeline._early), config.held_max


class Peaks:
    """The most that was seen of everything that has a bound."""

    def __init__(self) -> None:
        self._most: dict[tuple[str, str], tuple[float, float]] = {}

    def look(self, where: str, seen: Iterator[tuple[str, float, float]]) -> None:
        """Take note of what there is now. Kept is what is furthest beyond its bound, or nearest to it."""
        for what, count, most in seen:
            known = self._most.get((where, what))
            if known is None or count - most > known[0] - known[1]:
                self._most[where, what] = count, most

    def counts(self) -> list[Count]:
        """One for each place and thing."""
        return [Count("peak", *place, *seen[:1], 0, seen[1]) for place, seen in sorted(self._most.items())]


def kept_sessions(server: ChatServer) -> Iterator[str]:
    """Where anything of the server still names a session that has ended; each place once for each session."""
    live = set(server._sessions)
    for path, container in containers(server):
        if isinstance(container, dict | set):
            yield from (path for it in container if isinstance(it, Session) and it not in live)


def bound_of(path: str, fresh: int) -> int:
    """How much a container may hold once everybody has left: what it did when the server was fresh, or what it is to
    remember whoever is there.
    """
    remembers = any(path.endswith(it) for it in ("._check._due", "._check._epochs", "._check._sure_from"))
    return CONVERSATIONS_MAX if remembers else fresh


def sizes(server: ChatServer) -> dict[str, int]:
    """How much each container of the server holds, by where it is."""
    return {path: len(container) for path, container in containers(server)}


def containers(server: ChatServer) -> Iterator[tuple[str, Collection[Any]]]:
    """Every container that is reached from a server through chatkit's own objects, with the way to it.

    Not entered are sessions, the store, the bus, values that never change, and what `limiters` gives.
    """
    return ((path, it) for path, it in _reached(server) if isinstance(it, dict | set | list | deque))


def limiters(server: ChatServer) -> Iterator[tuple[str, RateLimiter[Any]]]:
    """Every rate limiter, with the way to it: it forgets by time, and keeps a bound of its own."""
    return ((path, it) for path, it in _reached(server) if isinstance(it, RateLimiter))


def _reached(server: ChatServer) -> Iterator[tuple[str, Any]]:
    seen: set[int] = set()
    ahead: deque[tuple[str, Any]] = deque([("server", server)])
    while ahead:
        path, it = ahead.popleft()
        if id(it) in seen:
            continue
        seen.add(id(it))
        yield path, it
        if isinstance(it, dict):
            ahead.extend((f"{path}[]", value) for value in it.values())
        elif isinstance(it, set | list | deque):
            ahead.extend((f"{path}[]", value) for value in it)
        elif _is_part(it):
            ahead.extend((f"{path}.{name}", value) for name, value in _attributes(it))


def task_names() -> list[str]:
    """Of every task that runs now, but for the one that asks."""
    asking = anyio.get_current_task().id
    return sorted(it.name or "" for it in anyio.get_running_tasks() if it.id != asking)


class _Parts:
    """The parts of a server that hold something."""

    def __init__(self, server: ChatServer) -> None:
        self.waiting = server._committer._waiting
        self.receipts = server._reconciler._receipts
        self.login = server.login._proved
        self.readings = server.sync._readings
        self.audiences = list(server._hub._audiences.values())


def _audiences(server: ChatServer, members: Mapping[str, Collection[str]]) -> dict[str, int]:
    """By conversation that anybody of is here, how many sessions its audience must have."""
    here = {name: len(server._hub.presence.sessions(users)) for name, users in members.items()}
    return {name: count for name, count in here.items() if count}


def _signs(queue: Any) -> int:
    noted = queue._noted
    flags = noted.changes + noted.all_logs + noted.all_devices
    return len(noted.logs) + len(noted.joins) + len(noted.devices) + int(flags)


_ENTERED: Final = ("chatkit.server.", "chatkit.core.", "chatkit._auto_reset_event")


def _is_part(it: object) -> bool:
    module = type(it).__module__
    frozen = isinstance(it, msgspec.Struct) and it.__struct_config__.frozen
    return module.startswith(_ENTERED) and not frozen and not isinstance(it, Session | RateLimiter | type)


def _attributes(it: object) -> Iterator[tuple[str, Any]]:
    yield from getattr(it, "__dict__", {}).items()
    for kind in type(it).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if hasattr(it, name):
                yield name, getattr(it, name)
