"""Room for sockets: as many descriptors as the system allows, and a configuration that fits into them.

A server that has no descriptor left takes nobody in, whoever comes. So sessions have half of them, strangers a quarter
(`gateway.strangers`), and the rest is for the log, for requests and for what is being closed.
"""

from __future__ import annotations

from msgspec.structs import replace

from ..gateway import strangers
from ..server.config import ServerConfig


def descriptors_max() -> int:
    """How many descriptors the process may open, after it has asked for all that it can get."""
    try:
        import resource
    except ImportError:  # not on Windows
        return strangers.descriptors_max()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return strangers.descriptors_max()


def fitted(config: ServerConfig, descriptors: int) -> ServerConfig:
    """A configuration with no more sessions than half of the descriptors, and a quarter for one address."""
    limits = replace(
        config.limits,
        connections_per_address=max(1, min(config.limits.connections_per_address, descriptors // 4)),
        logins_pending_per_address=max(1, min(config.limits.logins_pending_per_address, descriptors // 8)),
    )
    return replace(config, sessions_max=max(1, min(config.sessions_max, descriptors // 2)), limits=limits)
