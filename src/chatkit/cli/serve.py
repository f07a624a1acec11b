"""`chatkit serve`: one node, or several on one port, each a process run on uvicorn."""

from __future__ import annotations

import gc
import importlib.util
import logging
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import anyio
import click
import h11
import msgspec
import uvicorn
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute

from ..assemble import open_archive, open_bus, open_queue, open_store
from ..gateway.websocket_asgi import asgi_app
from ..gateway.websocket_protocol import ChatHttpProtocol, ChatWebSocketProtocol, hide_queries
from ..observability.instrument import Instrument
from ..server.config import ServerConfig
from ..server.server import ChatServer
from ..wire.events import FRAME_BYTES_MAX
from .common import exit_codes
from .configured import Configuration, configuration, configured, warn
from .descriptors import descriptors_max, fitted
from .logging_setup import LEVELS, LogFormat, log_format_option, set_up_logging
from .login_options import Login, authenticator_from, login_options
from .metrics_port import MetricsPort, address_of_process
from .push_option import push_of
from .supervisor import ServerProcess, Serving, Supervisor, check_can_share
from .traces_option import traces_option, traces_that_leave
from .web import WebServer, listen, url_of

_SPARE_CONNECTIONS = 1_000  # for HTTP, beside the sessions
_COLLECT_AFTER = 20_000  # containers made and not freed; 700 is Python's own
_SHUTDOWN_S = 2  # for requests that are still coming in after the drain
_CLOSING_S = 5  # for the store and the bus after that; then a process among several is killed
_WORKERS_MAX = 256


@configured()
@click.command(context_settings={"show_default": True})
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0 for any.")
@click.option(
    "--storage",
    default="sqlite:///chat.db",
    show_default=True,
    help="memory://, sqlite:///PATH or postgresql://HOST/NAME",
)
@click.option(
    "--bus",
    default="local://",
    show_default=True,
    help="To other nodes on the log: nats://HOST or redis://HOST",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, _WORKERS_MAX),
    help="Server processes that share the port, each a node of its own. More than one needs PostgreSQL and a bus.",
)
@click.option(
    "--queue",
    help="Where workers hear of work: jetstream://HOST or kafka://HOST. Without one they look into the storage.",
)
@click.option(
    "--push", type=click.Path(dir_okay=False), help="The file that names push providers: run a worker."
)
@click.option(
    "--archive",
    help="Where old messages go, and are read: file:///FOLDER or s3://BUCKET/PREFIX. A server on PostgreSQL only reads "
    "there: `chatkit archive run`.",
)
@click.option("--blobs", help="Where uploaded files are kept: dir:///FOLDER or s3://BUCKET/PREFIX.")
@click.option(
    "--metrics",
    metavar="HOST:PORT",
    help="A port for Prometheus, such as 127.0.0.1:9464. It asks nobody for a login.",
)
@login_options
@click.option(
    "--log-level",
    default="warning",
    show_default=True,
    type=click.Choice(LEVELS),
    help="info: logins, refusals, start and end. Never a message or a token.",
)
@log_format_option
@traces_option
@click.option(
    "--json", "as_json", is_flag=True, allow_from_autoenv=False, help="Print the address as a JSON object."
)
def serve(
    host: str,
    port: int,
    storage: str,
    bus: str,
    workers: int,
    queue: str | None,
    push: str | None,
    archive: str | None,
    blobs: str | None,
    metrics: str | None,
    log_level: str,
    log_format: LogFormat,
    traces: float | None,
    as_json: bool,
    **login: Any,
) -> None:
    """Run a server: WebSocket and HTTP on one port. SIGTERM drains.

    Each option may come from the environment (CHATKIT_PORT, CHATKIT_LOG_LEVEL) and from a file (`port`, `log_level`);
    so may each other setting: CHATKIT_HEARTBEAT_S=10, CHATKIT_LIMITS__SENDS_PER_USER=10/30. `chatkit config show`
    says which is in force.
    """
    _set_up_logging(log_level, log_format)
    warn()
    with exit_codes():
        check_sharing(workers, storage, bus, metrics)
        process = None
        if workers > 1:
            announce = partial(_announce, as_json)
            config = configuration().settings.server()
            process = Supervisor(workers, host, port, announce, _end_within_s(config)).run()
            _set_up_logging(log_level, log_format, process.number)
            metrics = None if metrics is None else address_of_process(metrics, process.number)
        port_of_metrics = None if metrics is None else MetricsPort(metrics)
        instruments = traces_that_leave(traces)
        if port_of_metrics is not None:
            instruments.append(port_of_metrics.metrics)
        server = assembled(
            configuration(), storage, bus, queue, push, archive, blobs, Login(**login), instruments
        )
        if process is None:
            run(server, listen(host, port), partial(_alongside, as_json, port_of_metrics))
        else:
            run(server, process.listener, partial(_alongside_of, process, port_of_metrics))


def check_sharing(workers: int, storage: str, bus: str, metrics: str | None) -> None:
    """Raises ConfigurationError if so many processes cannot share the log, or have no ports for their figures."""
    check_can_share(workers, storage, bus)
    if metrics is not None:
        address_of_process(metrics, workers)


def _end_within_s(config: ServerConfig) -> float:
    """How long a process may take from SIGTERM to its end."""
    spread_s = min(config.drain_spread_s, config.drain_timeout_s)
    return spread_s + 2 * config.drain_timeout_s + _SHUTDOWN_S + _CLOSING_S


def assembled(
    chosen: Configuration,
    storage: str,
    bus: str,
    queue: str | None,
    push: str | None,
    archive: str | None,
    blobs: str | None,
    login: Login,
    instruments: Sequence[Instrument] = (),
) -> ChatServer:
    """A server of the parts that were chosen; nothing is opened or connected. Raises ConfigurationError."""
    providers, delivery = push_of(chosen, push) or (None, None)
    return ChatServer(
        store=open_store(storage),
        authenticate=authenticator_from(login),
        config=fitted(chosen.settings.server(), descriptors_max()),
        bus=open_bus(bus),
        push=providers,
        delivery=delivery,
        queue=None if queue is None else open_queue(queue),
        archive=None if archive is None else open_archive(archive),
        archiving=chosen.settings.archiving() if archive is not None and is_alone(storage) else None,
        blobs=None if blobs is None else open_archive(blobs),
        blob_config=chosen.settings.blobs(),
        instruments=instruments,
        drain_on_signals=False,  # `_run` drains
    )


def is_alone(storage: str) -> bool:
    """Whether a log has one server, which does the archiving then."""
    return not storage.startswith(("postgresql://", "postgres://"))


Alongside = Callable[[str], Coroutine[Any, Any, None]]
"""Runs beside a server that listens; takes its `http://` address, and is cancelled when the server drains."""


def run(
    server: ChatServer,
    listener: socket.socket,
    alongside: Alongside,
    *,
    extra_routes: Sequence[BaseRoute] = (),
) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Returns after a clean end.

    Args:
        listener: Where; it is closed at the end.
        alongside: What to do beside it, the announcement of the address first of all.
        extra_routes: Routes beside chatkit's own.

    Raises:
        ConfigurationError: The store cannot be opened.
    """
    web = WebServer(_web_config(server, extra_routes))
    anyio.run(_run, server, web, listener, alongside, backend_options={"use_uvloop": _has_uvloop()})


async def _run(server: ChatServer, web: WebServer, listener: socket.socket, alongside: Alongside) -> None:
    with (
        listener,
        anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals,
    ):
        async with server, anyio.create_task_group() as tasks:
            tasks.start_soon(web.serve, [listener])
            _spare_the_collector()
            async with anyio.create_task_group() as beside:
                beside.start_soon(alongside, url_of(listener))
                await anext(signals)
                beside.cancel_scope.cancel()
            await server.drain()
            web.should_exit = True


def _spare_the_collector() -> None:
    """Look for garbage cycles less often, and never in what was loaded at the start.

    What messages and ended connections leave behind is freed by its reference count. What is in cycles waits until
    some 600,000 containers have been made and not freed, and until they are a quarter of those that are kept.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 10, 3)


def _web_config(server: ChatServer, extra_routes: Sequence[BaseRoute]) -> uvicorn.Config:
    return uvicorn.Config(
        asgi_app(server, extra_routes=extra_routes),
        http=ChatHttpProtocol,
        ws=ChatWebSocketProtocol,
        limit_concurrency=server.config.sessions_max + _SPARE_CONNECTIONS,
        ws_max_size=FRAME_BYTES_MAX,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )


def _announce(as_json: bool, listener: socket.socket, said: Sequence[Serving]) -> None:
    """Say where several processes serve."""
    host, port = listener.getsockname()[:2]
    metrics = [each.metrics for each in said if each.metrics is not None]
    if as_json:
        where = {"host": host, "port": port, "workers": len(said)}
        click.echo(msgspec.json.encode({**where, "metrics": metrics} if metrics else where))
        return
    click.echo(f"chatkit serves on {url_of(listener)} with {len(said)} processes")
    for url in metrics:
        click.echo(f"metrics on {url}")


async def _alongside_of(process: ServerProcess, port_of_metrics: MetricsPort | None, _: str) -> None:
    """What one of several processes does: tell its parent, end with it, and answer whoever looks at its figures."""
    process.serves(Serving(None if port_of_metrics is None else port_of_metrics.url))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(process.end_with_parent)
        if port_of_metrics is not None:
            tasks.start_soon(port_of_metrics.run)


async def _alongside(as_json: bool, port_of_metrics: MetricsPort | None, http_url: str) -> None:
    """Say where everything is, and answer whoever looks at the figures."""
    address = urlsplit(http_url)
    said: dict[str, object] = {"host": address.hostname, "port": address.port}
    words = [f"chatkit serves on {http_url}"]
    if port_of_metrics is not None:
        said["metrics"] = port_of_metrics.url
        words.append(f"metrics on {port_of_metrics.url}")
    click.echo(msgspec.json.encode(said) if as_json else "\n".join(words))
    if port_of_metrics is not None:
        await port_of_metrics.run()


def _set_up_logging(level: str, log_format: LogFormat = "text", process: int | None = None) -> None:
    """As every command, and what the web server says of strangers in one line without their words."""
    set_up_logging(level, log_format, process=process)
    for keep in (_in_one_line, hide_queries):
        logging.getLogger("uvicorn.error").addFilter(keep)  # once, however often it is added


def _in_one_line(record: logging.LogRecord) -> bool:
    """Keep what a peer did wrong on the wire to one line, or none: uvicorn would log a stack for it.

    Strangers can send what is no HTTP without end; they get their answer, and the log is not for them to fill.
    """
    if record.msg == "Invalid HTTP request received.":
        return False
    error = record.exc_info[1] if record.exc_info else None
    cancelled = type(error).__name__ == "CancelledError"  # a request still coming in when the node ended
    if cancelled or isinstance(error, UnicodeDecodeError | h11.LocalProtocolError | ClientDisconnect):
        record.exc_info = None
        record.msg, record.args = "a peer broke the protocol: %s", (type(error).__name__,)
    return True


def _has_uvloop() -> bool:
    return importlib.util.find_spec("uvloop") is not None
