"""What one run is made of, drawn whole from its seed: sizes, bounds, rates, and which faults it has."""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from chatkit.client.config import ClientConfig
from chatkit.core.rate_limit import Rate
from chatkit.server.config import ServerConfig
from chatkit.server.limits import Limits
from chatkit.testing.rng import Rng, Stream
from chatkit.testing.virtual_time import Backend

from .moderation import ModerationPlan, draw_moderation

Storage = Literal["memory", "sqlite"]

RECALL_WINDOW_S: Final = 20.0

FAULTS: Final = (
    "cut",
    "half-open",
    "one-way up",
    "one-way down",
    "slow line",
    "refused connection",
    "reconnect storm",
    "server crash",
    "server drain",
    "app crash",
    "storage slow",
    "storage busy",
    "storage answer lost",
    "storage read refused",
    "disk full",
    "disk broken",
    "local store full",
    "clock jump",
    "bus loss",
    "bus repeat",
    "bus reorder",
)
"""Everything that may befall a run. Those of the disk need SQLite, those of the bus more than one node."""

_CALM_SHARE = 0.1
"""Runs without any fault: data was lost in healthy clusters too."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run, before it begins.

    Attributes:
        seed: Draws all the rest, and everything in the run.
        backend: Whose event loop.
        storage: The server's store.
        nodes: Servers over that one store.
        users: Users, each with `devices` of them.
        groups: Group conversations at the beginning; some SINGLEs come on top.
        seconds: Virtual seconds of work under faults.
        think_s: Mean pause of an app between two acts.
        latency_s: Least and most delay of a frame.
        storage_s: Least and most that a call of the store takes.
        commits_in_flight_max: How many batches a server may have under way at the same time.
        faults: Which kinds this run has.
        fault_every_s: Mean time between two of them.
        fault_s: Mean time that one lasts.
        sliced_share: Connections that are carried as WebSocket bytes in small slices.
        sqlite_devices_share: Devices whose local store is a SQLite file.
        bots_share: Devices whose app is a bot: it takes its events with `consume`.
        handler_crash_share: Entries over which the handler of a bot crashes.
        token_s: Life of a login token; None for ever.
        page_size: Of every page that chatkit reads or sends in parts; None for the true sizes.
        moderation: What the moderator is like; None: there is none.
        dead_bus: Whether the bus between the nodes drops everything, from the beginning to the end.
    """

    seed: int
    backend: Backend
    storage: Storage
    nodes: int
    users: int
    devices: int
    groups: int
    seconds: float
    think_s: float
    latency_s: tuple[float, float]
    storage_s: tuple[float, float]
    commits_in_flight_max: int
    faults: tuple[str, ...]
    fault_every_s: float
    fault_s: float
    sliced_share: float
    sqlite_devices_share: float
    bots_share: float
    handler_crash_share: float
    token_s: float | None
    page_size: int | None
    server: ServerConfig
    client: ClientConfig
    dead_bus: bool = False
    moderation: ModerationPlan | None = None


def on_a_dead_bus(plan: Plan) -> Plan:
    """The same run on two or three nodes whose bus drops everything, and where nothing else goes wrong.

    Nothing slows a delivery down either but the network and the store: no limits of one peer, and pages of true size.
    """
    return replace(
        plan,
        nodes=max(plan.nodes, 2),
        faults=(),
        page_size=None,
        server=replace(plan.server, limits=Limits.unlimited()),
        dead_bus=True,
        moderation=None,
    )


def draw_plan(seed: int) -> Plan:
    """The plan of this seed; the same in every process and on every machine."""
    rng, bots = Rng(seed).stream("plan"), Rng(seed).stream("bots")
    storage: Storage = rng.choice(("memory", "sqlite"))
    nodes = rng.choice((1, 1, 2, 3))
    users, devices = rng.randint(3, 5), rng.choice((1, 2, 2))
    return Plan(
        seed=seed,
        backend="trio" if rng.random() < 0.1 else "asyncio",
        storage=storage,
        nodes=nodes,
        users=users,
        devices=devices,
        groups=rng.randint(1, 3),
        seconds=rng.uniform(8, 20),
        think_s=users * devices / rng.choice((3, 6, 12)),
        latency_s=rng.choice(((0.0, 0.0), (0.001, 0.01), (0.005, 0.15))),
        storage_s=rng.choice(((0.0, 0.0), (0.001, 0.02), (0.01, 0.1))),
        commits_in_flight_max=Rng(seed).stream("commits").choice((1, 4)),
        faults=_faults(rng, storage, nodes),
        fault_every_s=rng.uniform(0.4, 3),
        fault_s=rng.uniform(0.5, 4),
        sliced_share=rng.choice((0.0, 0.0, 0.0, 0.3)),
        sqlite_devices_share=rng.choice((0.0, 0.3)),
        bots_share=bots.choice((0.0, 0.5)),
        handler_crash_share=bots.choice((0.0, 0.02, 0.1)),
        token_s=rng.choice((None, None, 12.0)),
        page_size=Rng(seed).stream("page size").choice((None, 1, 2, 3, 4)),
        server=_server(rng),
        client=_client(rng),
        moderation=draw_moderation(Rng(seed).stream("moderation")),
    )


def _faults(rng: Stream, storage: Storage, nodes: int) -> tuple[str, ...]:
    if rng.random() < _CALM_SHARE:
        return ()
    possible = [
        fault
        for fault in FAULTS
        if (storage == "sqlite" or not fault.startswith("disk"))
        and (nodes > 1 or not fault.startswith("bus"))
    ]
    share = rng.choice((0.3, 0.6, 1.0))
    return tuple(fault for fault in possible if rng.random() < share)


def _server(rng: Stream) -> ServerConfig:
    """Bounds small enough that some runs fill them."""
    return ServerConfig(
        limits=_limits(rng),
        heartbeat_s=rng.choice((3.0, 4.0, 12.0)),
        hello_timeout_s=5.0,
        request_timeout_s=8.0,
        recall_window_s=RECALL_WINDOW_S,
        stream_idle_s=rng.choice((0.5, 2.0)),
        token_leeway_s=1.0,
        commit_queue_max=rng.choice((20, 200, 20_000)),
        commit_batch_max=rng.choice((1, 4, 1_000)),
        send_buffer_bytes=rng.choice((700, 20_000, 1_048_576)),  # a long message does not fit into 700
        sync_queue_max=rng.choice((2, 256)),
        page_bytes_max=rng.choice((300, 5_000, 262_144)),
        overload_retry_s=0.3,
        reconnect_after_s=0.5,
        drain_timeout_s=2.0,
    )


def _limits(rng: Stream) -> Limits:
    """None of one peer, the defaults, or some that everybody meets."""
    tight = Limits(
        sends_per_user=Rate(rng.choice((2.0, 10.0)), rng.choice((1, 3, 10))),
        sends_per_conversation=Rate(rng.choice((3.0, 20.0)), rng.choice((2, 10))),
        events_per_user=Rate(rng.choice((10.0, 100.0)), rng.choice((30, 200))),
        requests_per_user=Rate(rng.choice((5.0, 50.0)), rng.choice((10, 100))),
        reads_in_flight_per_user=rng.choice((1, 2)),
        reads_waiting_per_user=rng.choice((4, 64)),
        commit_share_per_user=rng.choice((0.05, 0.3)),
    )
    return rng.choice((Limits.unlimited(), Limits.unlimited(), Limits(), tight))


def _client(rng: Stream) -> ClientConfig:
    events_max = rng.choice((8, 100, 10_000))
    return ClientConfig(
        connect_timeout_s=3.0,
        hello_timeout_s=3.0,
        request_timeout_s=8.0,
        send_timeout_s=rng.choice((3.0, 20.0)),
        close_timeout_s=1.0,
        ack_wait_s=rng.choice((4.0, 30.0)),
        goaway_wait_s=1.0,
        backoff_base_s=0.2,
        backoff_max_s=2.0,
        stable_after_s=3.0,
        events_max=events_max,
        events_low=events_max // 2,
        window=rng.choice((1, 4, 64)),
        held_max=rng.choice((4, 1_000)),
        page_limit=rng.choice((2, 20, 200)),
        pending_max=rng.choice((5, 1_000)),
    )
