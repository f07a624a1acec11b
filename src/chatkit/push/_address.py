"""Connections to public addresses only, for URLs that strangers choose.

The name is resolved here, and the address that was found good is the one that is connected to, so a name that
resolves to something else a moment later gains nothing. TLS still checks the name.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import anyio.to_thread
import httpcore

from ._sender import BusyError

LOOKUPS_MAX = 16
"""Names being resolved at the same moment. A name whose servers do not answer holds a thread for a while."""

_NAT64 = IPv6Network("64:ff9b::/96")


class NotPublicError(Exception):
    """A host has an address that is not one of the open Internet."""


class PublicOnly(httpcore.AsyncNetworkBackend):
    """Connects as httpcore does, to public addresses only."""

    def __init__(self) -> None:
        self._inner = httpcore.AnyIOBackend()
        self._looking: set[object] = set()
        self._limiter: anyio.CapacityLimiter | None = None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of a host that answers.

        Raises:
            NotPublicError: One of its addresses is not public.
            BusyError: Too many names are being resolved.
            httpcore.ConnectError: None of them answers, or there is none.
        """
        addresses = await self._addresses(host, port)
        if not all(is_public(address) for address in addresses):
            raise NotPublicError
        failed: Exception = httpcore.ConnectError("the host has no address")
        for address in addresses:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed

    async def _addresses(self, host: str, port: int) -> list[str]:
        """What a name resolves to, or the address that it is. The resolver's thread is not waited for for ever."""
        if len(self._looking) >= LOOKUPS_MAX:
            raise BusyError("too many names are being resolved")
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(LOOKUPS_MAX)
        ticket = object()
        self._looking.add(ticket)

        def look() -> list[str]:
            try:
                found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            finally:
                self._looking.discard(ticket)
            return list(dict.fromkeys(str(entry[4][0]) for entry in found))

        try:
            return await anyio.to_thread.run_sync(look, abandon_on_cancel=True, limiter=self._limiter)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the host's name cannot be resolved: {error}") from None


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open Internet, by itself and by the IPv4 address that it carries."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return all(each.is_global and not each.is_multicast for each in (ip, *_inside(ip)))


def is_private_literal(host: str) -> bool:
    """Whether a host of a URL is an IP address, and none of the open Internet. Of a name nothing is known yet."""
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return not is_public(host)


def _inside(ip: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """The IPv4 addresses that an IPv6 one stands for: mapped, 6to4, Teredo, NAT64."""
    if isinstance(ip, IPv4Address):
        return []
    found = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
    if ip in _NAT64:
        found.append(IPv4Address(int(ip) & 0xFFFFFFFF))
    return [each for each in found if each is not None]
