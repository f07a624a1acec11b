"""`--metrics HOST:PORT`: the figures of a server or a worker on a port of their own, for Prometheus."""

from __future__ import annotations

import logging
from ipaddress import ip_address

import anyio
import uvicorn

from ..errors import ConfigurationError
from ..gateway.metrics_app import metrics_app
from .web import WebServer, listen, url_of

logger = logging.getLogger(__name__)

_REQUESTS_MAX = 20
_SHUTDOWN_S = 1
_PORT_MAX = 65535


class MetricsPort:
    """A port for figures, bound when this is made.

    Args:
        address: `HOST:PORT`; port 0 for any.

    Attributes:
        metrics: The instrument whose figures it shows, with those of the process beside them.
        url: Where they are.

    Raises:
        ConfigurationError: It is no address, it cannot be had, or the extra `metrics` is missing.
    """

    def __init__(self, address: str) -> None:
        from ..observability.metrics import Metrics, watch_process

        host, port = parts_of(address)
        self.metrics = Metrics()
        watch_process(self.metrics)
        self._listener = listen(host, port, "--metrics")
        self.url = f"{url_of(self._listener)}/metrics"
        if not _is_loopback(host):
            logger.warning("whoever reaches %s can read the figures of this server", self.url)

    async def run(self) -> None:
        """Answer until cancelled."""
        web = WebServer(
            uvicorn.Config(
                metrics_app(self.metrics),
                limit_concurrency=_REQUESTS_MAX,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_SHUTDOWN_S,
            )
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._serve, web)
            try:
                await anyio.sleep_forever()
            finally:
                web.should_exit = True

    async def _serve(self, web: WebServer) -> None:
        with self._listener, anyio.CancelScope(shield=True):
            await web.serve([self._listener])


def address_of_process(address: str, number: int) -> str:
    """The address for one of several processes: the first has the one that is given, each further one the next port.

    Raises:
        ConfigurationError: It is no address, or there is no such port.
    """
    _, port = parts_of(address)
    if port and port + number - 1 > _PORT_MAX:
        raise ConfigurationError(f"--metrics {address} leaves no port for server process {number}")
    return f"{address.rpartition(':')[0]}:{port + number - 1 if port else 0}"


def parts_of(address: str) -> tuple[str, int]:
    host, separator, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (separator and host and port.isascii() and port.isdigit() and int(port) <= _PORT_MAX):
        raise ConfigurationError("give --metrics an address, such as 127.0.0.1:9464")
    return host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
