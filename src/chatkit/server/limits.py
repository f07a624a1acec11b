"""How much one user, device, conversation or address may ask of a server: one frozen value with defaults.

What bounds the server as a whole (queues, buffers, pages) is in `config`; what keeps one peer from taking the share of
the others is here. Whatever goes beyond a rate is refused with RATE_LIMITED and the time to wait, and nothing of it
was done. Every node counts for itself: a user who is connected to two nodes has each rate twice. The verbs of the host
(`ChatServer.send` and so on) are not limited. Counted by `allowance`; docs/limits.md says what a client sees of each.
"""

from __future__ import annotations

from typing import Self

import msgspec

from .._arguments import check_kind, check_number
from ..core.rate_limit import Rate
from ..errors import ConfigurationError

_NO_BOUND = 2**31


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The share of one peer. None where a rate stands: no limit.

    Attributes:
        sends_per_user: Messages and recalls of a user, over all devices, by socket and HTTP. A repeat counts too.
        sends_per_conversation: Messages to a conversation, over all senders.
        stream_parts_per_user: Parts of streamed messages of a user, over all devices.
        stream_parts_per_conversation: Parts of streamed messages in a conversation, over all authors.
        events_per_user: Events of any kind from the connections of a user, those that could not be read among them;
            beyond it RATE_LIMITED, and close 4002 for the connection that goes on at twice the rate.
        typing_per_user: TYPING of a user in all conversations; in one of them `typing_interval_s` holds besides.
        requests_per_user: HTTP requests and pulls (SYNC) of a user.
        reads_in_flight_per_user: Pages, lists and listings that are read at the same moment for a user.
        reads_waiting_per_user: Further ones that wait for their turn; beyond it RATE_LIMITED.
        commit_share_per_user: Of the commit queue, and of the rows of one transaction while others wait, the part that
            commands of one user may fill.
        sessions_per_user: Open connections of a user.
        devices_per_user: Devices a user may have; a further one takes the place of the one unseen for longest that is
            not online, and is refused with RATE_LIMITED if all are.
        logins_per_user: Logins of a user, over all devices, by token and by resume token; beyond it close 4002.
        new_devices_per_user: Logins of a user with a device id not seen before.
        conversations_created_per_user: Conversations that a user creates; asking again for one that exists is free.
        members_added_per_user: Users whom a user makes members of something, those at creation among them.
        added_per_user: How often others may make a user a member of something; beyond it they are refused.
        reports_per_user: Messages that a user reports; a second report of one counts too.
        searches_per_user: Searches of a user, each page one.
        connections_per_address: Open connections from one address.
        logins_pending_per_address: Open connections from one address that have not logged in.
        new_connections_per_address: Connections taken in from one address, and HTTP requests whose login fails
            or is being asked about.
        new_connections: Connections taken in, over all addresses.
    """

    sends_per_user: Rate | None = Rate(10, 30)
    sends_per_conversation: Rate | None = Rate(100, 200)
    stream_parts_per_user: Rate | None = Rate(100, 500)
    stream_parts_per_conversation: Rate | None = Rate(500, 2_000)
    events_per_user: Rate | None = Rate(200, 2_000)
    typing_per_user: Rate | None = Rate(5, 20)
    requests_per_user: Rate | None = Rate(50, 500)
    reads_in_flight_per_user: int = 2
    reads_waiting_per_user: int = 64
    commit_share_per_user: float = 0.05
    sessions_per_user: int = 40
    devices_per_user: int = 20
    logins_per_user: Rate | None = Rate(2, 60)
    new_devices_per_user: Rate | None = Rate(20 / 3600, 20)
    conversations_created_per_user: Rate | None = Rate(100 / 3600, 100)
    members_added_per_user: Rate | None = Rate(2_000 / 3600, 2_000)
    added_per_user: Rate | None = Rate(200 / 3600, 200)
    reports_per_user: Rate | None = Rate(30 / 3600, 30)
    searches_per_user: Rate | None = Rate(5, 50)
    connections_per_address: int = 1_000
    logins_pending_per_address: int = 100
    new_connections_per_address: Rate | None = Rate(50, 500)
    new_connections: Rate | None = Rate(200, 1_000)

    def __post_init__(self) -> None:
        for name, kind in self.__annotations__.items():
            value = getattr(self, name)
            if kind == "Rate | None":
                check_kind(name, value, Rate, optional=True, hint=", such as Rate(10, 30)")
            elif kind == "int":
                check_number(name, value, whole=True)
            else:
                check_number(name, value)
                if value > 1:
                    raise ConfigurationError(f"{name} must be at most 1")

    @classmethod
    def unlimited(cls) -> Self:
        """No limit of one peer at all: for tests, imports and measurements; what bounds the whole server stays."""
        return cls(
            sends_per_user=None,
            sends_per_conversation=None,
            stream_parts_per_user=None,
            stream_parts_per_conversation=None,
            events_per_user=None,
            typing_per_user=None,
            requests_per_user=None,
            reads_in_flight_per_user=_NO_BOUND,
            reads_waiting_per_user=_NO_BOUND,
            commit_share_per_user=1.0,
            sessions_per_user=_NO_BOUND,
            devices_per_user=_NO_BOUND,
            logins_per_user=None,
            new_devices_per_user=None,
            conversations_created_per_user=None,
            members_added_per_user=None,
            added_per_user=None,
            reports_per_user=None,
            searches_per_user=None,
            connections_per_address=_NO_BOUND,
            logins_pending_per_address=_NO_BOUND,
            new_connections_per_address=None,
            new_connections=None,
        )
