"""S22 and S25: resume tokens serve once and only their device; frames keep within the bounds of the contract."""

from __future__ import annotations

from collections import defaultdict

from chatkit.wire import events as ev

from .index import Index
from .traffic import Arrived
from .verdict import Findings
from .words import of_event, of_frame

# --- S22 ---


class _Tokens:
    """The resume tokens that were given out, in order, and those that were taken."""

    def __init__(self) -> None:
        self._given: dict[str, Arrived[ev.Welcome]] = {}
        self._of_device: dict[tuple[str, str], list[Arrived[ev.Welcome]]] = defaultdict(list)
        self._used: set[str] = set()

    def give(self, welcome: Arrived[ev.Welcome]) -> None:
        """A login holds, and has brought a new token."""
        event = welcome.event
        self._given[event.resume_token] = welcome
        self._of_device[event.user_id, event.device_id].append(welcome)

    def take(self, token: str, hello: Arrived[ev.Hello], user_id: str) -> str | None:
        """A login by token holds. Returns what is wrong with that."""
        source = self._given.get(token)
        if source is None:
            return "the resume token was given to nobody"
        owner = (source.event.user_id, source.event.device_id)
        if owner != (user_id, hello.event.device_id):
            return f"the resume token is that of {owner[0]}/{owner[1]}"
        if token in self._used:
            return "the resume token was used before"
        self._used.add(token)
        newer = any(source.position < it.position < hello.position for it in self._of_device[owner])
        return "the resume token had been replaced by a newer one" if newer else None


def resume_is_bound(index: Index) -> Findings:
    """A login by resume token is of the device that was given it, with its newest one, once."""
    tokens = _Tokens()
    for it in index.traffic.of(ev.Welcome):
        hello = index.traffic.hellos.get(it.frame.connection)
        if hello is not None:
            yield of_event(it, "", _wrong_login(it.event, hello, tokens))
        tokens.give(it)


def _wrong_login(welcome: ev.Welcome, hello: Arrived[ev.Hello], tokens: _Tokens) -> str | None:
    token, device_id = hello.event.resume_token, hello.event.device_id
    if welcome.device_id != device_id or welcome.resumed is not isinstance(token, str):
        return f"it is for {welcome.device_id}, resumed={welcome.resumed}; the HELLO was not"
    return tokens.take(token, hello, welcome.user_id) if isinstance(token, str) else None


# --- S25 ---


def bounded_frames(index: Index) -> Findings:
    """No frame is above the bounds, and the server sends nothing that is not of the contract."""
    for frame, why in index.traffic.undecodable:
        yield of_frame(frame, why)
    for frame, count in index.traffic.counts:
        within = count <= ev.BATCH_MAX and len(frame.data) <= ev.FRAME_BYTES_MAX
        yield of_frame(frame, None if within else f"{len(frame.data)} bytes, {count} events")
