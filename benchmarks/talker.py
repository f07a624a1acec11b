"""A client of chatkit that sends when it is told to, and confirms what it gets."""

from __future__ import annotations

import itertools
import time
from typing import Any

from .measured import Listener
from .wire_client import WireClient

TEXT = "x" * 100


class ConfirmingTalker:
    """Sends texts, tells when each was acknowledged, and confirms each read with one cumulative DELIVERED_ACK."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        nonce = f"{time.monotonic_ns():x}"  # a log that is kept has seen the keys of an earlier load
        self._keys = (f"{nonce}-{number}" for number in itertools.count())
        self._sent_at: dict[str, float] = {}
        self._refused: str | None = None
        self.client: WireClient

    @property
    def failure(self) -> str | None:
        return self._refused or self.client.failure

    def send(self, conversation_id: str, count: int) -> None:
        events, now = [], time.monotonic()
        for key in itertools.islice(self._keys, count):
            self._sent_at[key] = now
            payload = {"type": "TEXT", "text": TEXT}
            message = {"event": "SEND_MSG", "conversationId": conversation_id, "clientMsgId": key}
            events.append({**message, "payload": payload})
        self.client.send(events)

    def close(self) -> None:
        self.client.close()

    def heard(self, client: WireClient, events: list[dict[str, Any]]) -> None:
        """What a read has brought."""
        acks: list[dict[str, Any]] = []
        news: list[dict[str, Any]] = []
        for event in events:
            kind = event["event"]
            if kind == "MSG_ACK":
                acks.append(event)
            elif kind == "NEW_MSG":
                news.append(event)
            elif kind == "ERROR":
                self._refused = f"the server refused: {event}"
        if acks:
            now = time.monotonic()
            waits_ms = [1000 * (now - self._sent_at.pop(it["clientMsgId"])) for it in acks]
            self._listener.on_acked(self, acks[0]["conversationId"], waits_ms)
        if news:
            last = news[-1]
            confirmation = {"conversationId": last["conversationId"], "upToSeq": last["seq"]}
            client.send([{"event": "DELIVERED_ACK", **confirmation}])
            self._listener.on_delivered(self, len(news))
