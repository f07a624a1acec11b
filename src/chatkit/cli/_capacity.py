"""What a load takes: nodes, databases, traffic and disk, by arithmetic alone. Called by `chatkit capacity`.

Every formula is in docs/scale.md with its result for the defaults, and a test compares them. Prices are CPU time of one
machine (`python -m benchmarks.capacity`); that they add up, and that databases divide the work evenly, is assumed.
"""

from __future__ import annotations

from math import ceil
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

SECONDS_PER_DAY = 86_400
CONNECTIONS_PER_NODE_TO_DATABASE = 20
"""A node opens at most so many: 10 for reads, 10 for commits."""

SEND_BYTES, PUSH_BYTES, ACK_BYTES, CONFIRMATION_BYTES = 140, 224, 232, 96
"""SEND_MSG and NEW_MSG without their payload, MSG_ACK and DELIVERED_ACK: JSON with ids of 36 characters."""

Some = Annotated[float, Meta(ge=1e-6, le=1e15)]
Maybe = Annotated[float, Meta(ge=0, le=1e15)]
Share = Annotated[float, Meta(ge=1e-6, le=1)]
Count = Annotated[int, Meta(gt=0, le=10**12)]


class Inputs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked, what one machine was measured to take, and how large the machines are.

    Each field is an option of `chatkit capacity`, and a key of the file for `--from`.
    """

    daily_users: Annotated[Count, Meta(description="Users in a day.")] = 50_000_000
    messages_per_user: Annotated[Some, Meta(description="Messages that each sends in a day.")] = 30.0
    peak_factor: Annotated[Some, Meta(description="The busiest second against the average one.")] = 6.0
    online_share: Annotated[
        Maybe, Meta(description="Connections at the peak for each daily user; devices count.")
    ] = 0.16
    deliveries: Annotated[Maybe, Meta(description="Online devices that each message is pushed to.")] = 1.35
    payload_bytes: Annotated[Count, Meta(description="Of a message, as JSON.")] = 148
    conversations_per_user: Annotated[
        Maybe, Meta(description="Of a user who is online; their heads are looked at.")
    ] = 20.0
    retention_days: Annotated[Maybe, Meta(description="How long messages are kept.")] = 30.0
    headroom: Annotated[Share, Meta(description="Share of a core to be used at the peak.")] = 0.5

    node_cores: Annotated[Count, Meta(description="Of a machine with nodes; a node is a process on one.")] = (
        16
    )
    connections_per_node: Annotated[Count, Meta(description="sessions_max of the server.")] = 20_000
    database_cores: Annotated[Count, Meta(description="Of a machine with PostgreSQL.")] = 32
    heartbeat_s: Annotated[Some, Meta(description="heartbeat_s of the server.")] = 25.0
    heads_check_s: Annotated[
        Some, Meta(description="heads_check_s of the server, which is 3 by default with a bus.")
    ] = 300.0
    commit_ms: Annotated[
        Some, Meta(description="How long a commit takes; what comes meanwhile goes together.")
    ] = 5.0

    sqlite_us_per_message: Annotated[
        Maybe, Meta(description="CPU of a node on a SQLite file for a message and its confirmations.")
    ] = 34.2
    server_us_per_command: Annotated[
        Maybe, Meta(description="CPU of a node for a message or a confirmation.")
    ] = 24.9
    server_us_per_transaction: Annotated[Maybe, Meta(description="CPU of a node for a batch of them.")] = (
        1522.3
    )
    server_us_per_crossing: Annotated[
        Maybe, Meta(description="CPU of both nodes for a push at another one.")
    ] = 11.6
    server_us_per_ping: Annotated[Maybe, Meta(description="CPU of a node for a PING.")] = 130
    server_us_per_look: Annotated[
        Maybe, Meta(description="CPU of a node for a head or a device looked at.")
    ] = 1.14
    database_us_per_command: Annotated[Maybe, Meta(description="CPU of PostgreSQL for a command.")] = 6.3
    database_us_per_transaction: Annotated[Maybe, Meta(description="CPU of PostgreSQL for a batch.")] = 1499.7
    database_us_per_look: Annotated[Maybe, Meta(description="CPU of PostgreSQL for a head or a device.")] = (
        1.2
    )
    bus_us_per_message: Annotated[Maybe, Meta(description="CPU of NATS for a message.")] = 1.5
    node_mib: Annotated[Maybe, Meta(description="Memory of a node without connections.")] = 37
    connection_kib: Annotated[Maybe, Meta(description="Memory of an idle connection.")] = 4.4
    sqlite_bytes_per_message: Annotated[Maybe, Meta(description="On disk, beside the payload.")] = 277
    postgres_bytes_per_message: Annotated[
        Maybe, Meta(description="On disk with indexes, beside the payload.")
    ] = 406
    wal_bytes_per_message: Annotated[Maybe, Meta(description="Of PostgreSQL's log, beside it.")] = 875


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes. `--json` prints these, with the inputs under `inputs`.

    Attributes:
        stage: `one file` (a node on SQLite), `one database` (nodes on a PostgreSQL), `sharded` (several).
        messages_per_s: At the peak, as everything else that is per second.
        received_bytes_per_s: SEND_MSG alone.
        traffic_bytes_per_s: These, MSG_ACK, NEW_MSG and DELIVERED_ACK; without frames, TCP and TLS.
        commands_per_s: Messages, and a confirmation for each delivery.
        nodes: Processes, each with a core of its own.
        nodes_for_connections: What connections alone would take.
        nodes_for_cpu: What CPU alone would take.
        node_busy_cores: CPU of all nodes together.
        commands_per_transaction: How many a node commits together.
        looks_per_s: Heads and devices that nodes compare with the log.
        database_busy_cores: CPU of all databases together.
        look_busy_cores: Part of it that looks take.
        databases: Partitions, each a machine with PostgreSQL.
        messages_per_s_of_one_database: What one of them takes at the peak, with its share of connections.
        database_connections: That all nodes together may open.
        stored_bytes_per_day: In the message table and its indexes, or in the SQLite file.
        wal_bytes_per_day: That PostgreSQL writes and ships to standbys; on one file 0.
        stored_bytes: Of all days that are kept.
    """

    stage: Literal["one file", "one database", "sharded"]
    messages_per_s: float
    deliveries_per_s: float
    connections: int
    received_bytes_per_s: float
    traffic_bytes_per_s: float
    commands_per_s: float
    pings_per_s: float
    looks_per_s: float
    commands_per_transaction: float
    transactions_per_s: float
    nodes: int
    nodes_for_connections: int
    nodes_for_cpu: int
    node_busy_cores: float
    node_machines: int
    node_memory_bytes: float
    bus_busy_cores: float
    database_busy_cores: float
    look_busy_cores: float
    databases: int
    messages_per_s_of_one_database: float
    database_connections: int
    stored_bytes_per_day: float
    wal_bytes_per_day: float
    stored_bytes: float


class Traffic(msgspec.Struct, frozen=True):
    """What comes at the peak, in a second."""

    messages: float
    deliveries: float
    commands: float
    pings: float
    looks: float
    connections: int


def capacity(given: Inputs) -> Capacity:
    """What a load takes."""
    traffic = traffic_of(given)
    on_file = fits_one_file(given, traffic)
    nodes, batch = (1, _batch(given, traffic, 1)) if on_file else nodes_of(given, traffic)
    transactions = traffic.commands / batch
    node_cores = node_cores_of(given, traffic, nodes)
    look_cores = 0.0 if on_file else traffic.looks * given.database_us_per_look / 1e6
    database_cores = (
        0.0
        if on_file
        else look_cores
        + (
            traffic.commands * given.database_us_per_command
            + transactions * given.database_us_per_transaction
        )
        / 1e6
    )
    databases = 0 if on_file else max(1, ceil(database_cores / (given.database_cores * given.headroom)))
    stored = given.sqlite_bytes_per_message if on_file else given.postgres_bytes_per_message
    messages_per_day = given.daily_users * given.messages_per_user
    stored_per_day = messages_per_day * (given.payload_bytes + stored)
    return Capacity(
        stage="one file" if on_file else "one database" if databases == 1 else "sharded",
        messages_per_s=traffic.messages,
        deliveries_per_s=traffic.deliveries,
        connections=traffic.connections,
        received_bytes_per_s=traffic.messages * (SEND_BYTES + given.payload_bytes),
        traffic_bytes_per_s=traffic.messages * (SEND_BYTES + given.payload_bytes + ACK_BYTES)
        + traffic.deliveries * (PUSH_BYTES + given.payload_bytes + CONFIRMATION_BYTES),
        commands_per_s=traffic.commands,
        pings_per_s=traffic.pings,
        looks_per_s=0.0 if on_file else traffic.looks,
        commands_per_transaction=batch,
        transactions_per_s=transactions,
        nodes=nodes,
        nodes_for_connections=_at_least_one(traffic.connections / given.connections_per_node),
        nodes_for_cpu=_at_least_one(node_cores / given.headroom),
        node_busy_cores=node_cores,
        node_machines=ceil(nodes / given.node_cores),
        node_memory_bytes=nodes * given.node_mib * 2**20 + traffic.connections * given.connection_kib * 2**10,
        bus_busy_cores=0.0 if nodes == 1 else traffic.messages * given.bus_us_per_message / 1e6,
        database_busy_cores=database_cores,
        look_busy_cores=look_cores,
        databases=databases,
        messages_per_s_of_one_database=(
            traffic.messages * given.database_cores * given.headroom / database_cores
            if database_cores
            else 0.0
        ),
        database_connections=0 if on_file else nodes * CONNECTIONS_PER_NODE_TO_DATABASE,
        stored_bytes_per_day=stored_per_day,
        wal_bytes_per_day=0.0
        if on_file
        else messages_per_day * (given.payload_bytes + given.wal_bytes_per_message),
        stored_bytes=stored_per_day * given.retention_days,
    )


def traffic_of(given: Inputs) -> Traffic:
    """What comes at the peak."""
    messages = given.daily_users * given.messages_per_user / SECONDS_PER_DAY * given.peak_factor
    deliveries = messages * given.deliveries
    connections = ceil(given.daily_users * given.online_share)
    heads = connections * given.conversations_per_user / given.heads_check_s
    pings = connections / given.heartbeat_s
    return Traffic(messages, deliveries, messages + deliveries, pings, heads + pings, connections)


def fits_one_file(given: Inputs, traffic: Traffic) -> bool:
    """Whether one node on a SQLite file takes all of it."""
    busy_cores = (
        traffic.messages * given.sqlite_us_per_message + traffic.pings * given.server_us_per_ping
    ) / 1e6
    return busy_cores <= given.headroom and traffic.connections <= given.connections_per_node


def nodes_of(given: Inputs, traffic: Traffic) -> tuple[int, float]:
    """How many nodes, and how many commands each commits together: fewer, the more nodes share them."""
    nodes = _at_least_one(traffic.connections / given.connections_per_node)
    while (more := _at_least_one(node_cores_of(given, traffic, nodes) / given.headroom)) > nodes:
        nodes = more
    return nodes, _batch(given, traffic, nodes)


def node_cores_of(given: Inputs, traffic: Traffic, nodes: int) -> float:
    """CPU of all nodes together, in cores."""
    crossings = traffic.deliveries * (nodes - 1) / nodes
    looks = traffic.looks if nodes > 1 else 0.0
    used_us = (
        traffic.commands * given.server_us_per_command
        + traffic.commands / _batch(given, traffic, nodes) * given.server_us_per_transaction
        + crossings * given.server_us_per_crossing
        + traffic.pings * given.server_us_per_ping
        + looks * given.server_us_per_look
    )
    return used_us / 1e6


def _batch(given: Inputs, traffic: Traffic, nodes: int) -> float:
    return max(1.0, traffic.commands / nodes * given.commit_ms / 1000)


def _at_least_one(count: float) -> int:
    return max(1, ceil(count))
