"""How long entries of the log took to the devices that were online: by what arrived there, and by no part of a server.

The clock of an entry starts when the first device of all sees it: its sender by the MSG_ACK, or whoever is on the same
node by the push.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from chatkit.testing.history import Frame

from ..dumps import CompleteHistory
from ..membership import Stay, stays

DELAY_MAX_S: Final = 5.0
"""Nodes that hear nothing of each other look every 3 s; the rest is for the store, the network and a pull."""

_SHOWN_MAX = 5

Device = tuple[str, str]


class Delivery(NamedTuple):
    """One entry to one device."""

    user_id: str
    device_id: str
    conversation_id: str
    seq: int


class _Sights:
    """Who saw which entry first when, and which devices were connected when."""

    def __init__(self, history: CompleteHistory) -> None:
        self.online_s: dict[Device, list[tuple[float, float]]] = defaultdict(list)
        self.of_anybody: dict[tuple[str, int], float] = {}
        self.of_device: dict[Delivery, float] = {}
        self._ended_s = history.connections_ended_s
        for frame in history.frames:
            for event in _events(frame) if not frame.up else ():
                self._take(frame, event)

    def _take(self, frame: Frame, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "WELCOME":
            ended_s = self._ended_s.get(frame.connection, frame.at_s)
            self.online_s[frame.user_id, frame.device_id].append((frame.at_s, ended_s))
        elif kind in ("NEW_MSG", "MSG_ACK"):
            self._seen(frame, event)
        elif kind == "SYNC_PAGE":
            for entry in event["messages"]:
                self._seen(frame, entry)

    def _seen(self, frame: Frame, entry: dict[str, Any]) -> None:
        name, seq = entry["conversationId"], entry["seq"]
        self.of_anybody.setdefault((name, seq), frame.at_s)
        self.of_device.setdefault(Delivery(frame.user_id, frame.device_id, name, seq), frame.at_s)

    def online(self, device: Device, since_s: float) -> bool:
        """Whether a device kept one connection for long enough after this."""
        until_s = since_s + DELAY_MAX_S
        return any(began_s <= since_s and until_s <= ended_s for began_s, ended_s in self.online_s[device])


def delays_s(history: CompleteHistory) -> dict[Delivery, float]:
    """Of each entry to each device that was online and whose user was a member and stayed one; infinite: never."""
    assert history.store is not None, "the log is read before the end"
    sights, found = _Sights(history), {}
    for name, log in history.store.logs.items():
        of_users = stays(log.entries)
        for entry in log.entries:
            since_s = sights.of_anybody.get((name, entry.seq))
            if since_s is None:
                continue
            for device in sights.online_s:
                if _stays(of_users.get(device[0], []), entry.seq) and sights.online(device, since_s):
                    delivery = Delivery(*device, name, entry.seq)
                    found[delivery] = sights.of_device.get(delivery, math.inf) - since_s
    return found


def late(delays: Mapping[Delivery, float]) -> list[str]:
    """The deliveries that took too long, in words."""
    ordered = sorted(delays.items(), key=lambda item: (-item[1], item[0]))
    return [
        f"seq {to.seq} of {to.conversation_id} took {delay_s:.2f} s to {to.user_id}/{to.device_id}"
        for to, delay_s in ordered
        if delay_s > DELAY_MAX_S
    ][:_SHOWN_MAX]


def _stays(of_user: list[Stay], seq: int) -> bool:
    return any(stay.holds(seq) and stay.ended_seq is None for stay in of_user)


def _events(frame: Frame) -> Iterator[dict[str, Any]]:
    decoded = (msgspec.msgpack if frame.codec.binary else msgspec.json).decode(frame.data)
    yield from decoded if isinstance(decoded, list) else [decoded]
