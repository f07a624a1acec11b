"""`chatkit worker`: pushes to devices that did not confirm their messages, as a process of its own."""

from __future__ import annotations

import signal

import anyio
import click
import msgspec

from .._abilities import offers
from ..assemble import Providers, open_queue, open_store
from ..errors import ConfigurationError
from ..observability.instrument import Instrument
from ..queue.base import Connects, Queue
from ..server.delivery.config import DeliveryConfig
from ..server.delivery.worker import DeliveryWorker
from ..storage.base import DeadLetter, Store
from .common import exit_codes
from .configured import Configuration, configuration, configured, warn
from .logging_setup import LEVELS, LogFormat, log_format_option, set_up_logging
from .metrics_port import MetricsPort
from .push_option import push_of
from .traces_option import traces_option, traces_that_leave

_SHOWN_MAX = 100
_END_WITHIN_S = 25.0
"""For what is under way at a signal; what is left of it comes again when its lease has ended."""


class Status(msgspec.Struct, frozen=True, rename="camel"):
    """What `--status` prints."""

    waiting: int
    oldest_ms: int | None
    dead: int
    dead_letters: list[DeadLetter]


@configured()
@click.command(context_settings={"show_default": True})
@click.option(
    "--storage",
    required=True,
    help="postgresql://HOST/NAME. A SQLite file belongs to its server, which runs a worker itself: serve --push.",
)
@click.option("--push", type=click.Path(dir_okay=False), help="The file that names the push providers.")
@click.option(
    "--metrics",
    metavar="HOST:PORT",
    help="A port for Prometheus, such as 127.0.0.1:9464. It asks nobody for a login.",
)
@click.option("--queue", help="The queue of the servers: jetstream://HOST or kafka://HOST.")
@click.option(
    "--status",
    is_flag=True,
    allow_from_autoenv=False,
    help="Print what waits and what was given up, as a JSON object, and end.",
)
@click.option(
    "--log-level",
    default="info",
    type=click.Choice(LEVELS),
    help="info: dropped tokens, start and end. Never a message or a token.",
)
@log_format_option
@traces_option
def worker(
    storage: str,
    push: str | None,
    metrics: str | None,
    queue: str | None,
    status: bool,
    log_level: str,
    log_format: LogFormat,
    traces: float | None,
) -> None:
    """Push to devices that did not confirm a message in time. Any number of workers may run. SIGTERM ends it."""
    set_up_logging(log_level, log_format)
    warn()
    with exit_codes():
        if status:
            click.echo(msgspec.json.encode(anyio.run(_status, log_of(storage))))
            return
        parts = worker_parts_of(configuration(), storage, push, queue)
        port = None if metrics is None else MetricsPort(metrics)
        instruments = traces_that_leave(traces)
        if port is not None:
            instruments.append(port.metrics)
        anyio.run(_run, *parts, port, instruments)


def log_of(storage: str) -> Store:
    """The log of servers that have workers of their own; nothing is opened. Raises ConfigurationError."""
    store = open_store(storage)
    if not storage.startswith(("postgresql://", "postgres://")):
        raise ConfigurationError("only PostgreSQL has workers of their own; use serve --push for a file")
    return store


def worker_parts_of(
    chosen: Configuration, storage: str, push: str | None, queue: str | None
) -> tuple[Store, Providers, DeliveryConfig, Queue | None]:
    """What a worker is made of; nothing is opened or connected. Raises ConfigurationError."""
    store = log_of(storage)
    found = push_of(chosen, push)
    if found is None:
        raise ConfigurationError("give --push FILE (docs/push.md), or --status")
    return store, *found, None if queue is None else open_queue(queue)


async def _status(store: Store) -> Status:
    await store.migrate()
    try:
        lag = await store.deliveries.lag()
        letters = await store.deliveries.dead_letters(_SHOWN_MAX)
    finally:
        await store.aclose()
    return Status(lag.waiting, lag.oldest_ms, lag.dead, letters)


async def _run(
    store: Store,
    providers: Providers,
    config: DeliveryConfig,
    queue: Queue | None,
    port: MetricsPort | None,
    instruments: list[Instrument],
) -> None:
    """Work until a signal, then end what is under way."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        await store.migrate()
        try:
            if offers(queue, Connects):
                await queue.connect()
            worker = DeliveryWorker(store, providers, config=config, queue=queue, instruments=instruments)
            async with anyio.create_task_group() as tasks, anyio.create_task_group() as beside:
                tasks.start_soon(worker.run)
                click.echo("chatkit worker runs" + ("" if port is None else f", metrics on {port.url}"))
                if port is not None:
                    beside.start_soon(port.run)
                await anext(signals)
                beside.cancel_scope.cancel()
                worker.stop()
                tasks.cancel_scope.deadline = anyio.current_time() + _END_WITHIN_S
        finally:
            with anyio.CancelScope(shield=True):
                if queue is not None:
                    await queue.aclose()
                for provider in providers.values():
                    await provider.aclose()
                await store.aclose()
