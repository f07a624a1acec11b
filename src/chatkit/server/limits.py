"""How much one user, device, conversation or address may ask of a server: one frozen value with defaults.

What bounds the server as a whole (queues, buffers, pages) is in `config`; what keeps one peer from taking the share of
the others is here. Whatever goes beyond a rate is refused with RATE_LIMITED and the time to wait, and nothing of it
was done. The verbs of the host (`ChatServer.send` and so on) are not limited.
"""

from __future__ import annotations

import msgspec

from ..core.rate_limit import Rate


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The share of one peer. None where a rate stands: no limit.

    Attributes:
        sends_per_user: Messages and recalls of a user, over all devices, by socket and HTTP.
        sends_per_conversation: Messages to a conversation, over all senders.
        events_per_session: Events of any kind from one connection; beyond it RATE_LIMITED, then close 4002.
        requests_per_user: HTTP requests and pulls (SYNC) of a user.
        reads_in_flight_per_user: Pages, lists and searches that run at the same moment for a user; further ones wait.
        commit_share_per_user: Of the commit queue, the part that commands of one user may fill, by rows.
        sessions_per_user: Open connections of a user.
        devices_per_user: Devices a user may have; a further one takes the place of the one unseen for longest that is
            not online, and is refused with RATE_LIMITED if all are.
        new_devices_per_user: Logins of a user with a device id not seen before.
        conversations_created_per_user: Conversations that a user creates.
        members_added_per_user: Users whom a user adds to groups, those at creation among them.
        added_per_user: How often others may make a user a member of something.
        connections_per_address: Open connections from one address.
        logins_pending_per_address: Open connections from one address that have not logged in.
        new_connections: Connections taken in per second, over all addresses.
    """

    sends_per_user: Rate | None = Rate(10, 30)
    sends_per_conversation: Rate | None = Rate(100, 200)
    events_per_session: Rate | None = Rate(100, 1_000)
    requests_per_user: Rate | None = Rate(50, 500)
    reads_in_flight_per_user: int = 2
    commit_share_per_user: float = 0.05
    sessions_per_user: int = 40
    devices_per_user: int = 20
    new_devices_per_user: Rate | None = Rate(20 / 3600, 20)
    conversations_created_per_user: Rate | None = Rate(100 / 3600, 100)
    members_added_per_user: Rate | None = Rate(2_000 / 3600, 2_000)
    added_per_user: Rate | None = Rate(200 / 3600, 200)
    connections_per_address: int = 1_000
    logins_pending_per_address: int = 100
    new_connections: Rate | None = Rate(200, 1_000)
