"""Phones that sleep: members of every group that never connect. At the end each was told of what is newest there."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from chatkit import sign_token
from chatkit.storage.base import Entry, message_place

SLEEPERS = 10
PROVIDER = "webhook"
SECRET = "a-secret-of-the-receiver-of-pushes"


class Receiver:
    """Where the workers' webhook posts to.

    Attributes:
        newest: The seq of the newest message that a phone was told of, by (user, conversation).
        ids: How often each push came.
    """

    def __init__(self) -> None:
        self.newest: dict[tuple[str, str], int] = {}
        self.ids = Counter[str]()
        self._lock = threading.Lock()
        took = self.took

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                took(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def port(self) -> int:
        return self._server.server_port

    def took(self, push: Mapping[str, Any]) -> None:
        """A push came."""
        place = message_place(push["messageId"])
        assert place is not None
        with self._lock:
            self.ids[push["id"]] += 1
            phone = (push["token"], push["conversationId"])
            self.newest[phone] = max(self.newest.get(phone, 0), place[2])

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """Until the end of the block."""
        thread = threading.Thread(target=self._server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    @property
    def configuration(self) -> str:
        """The push file of the workers."""
        return f"""
[{PROVIDER}]
url = "http://127.0.0.1:{self.port}/"
secret = "{SECRET}"
[delivery]
push_after_s = 2
poll_s = 0.5
sweep_after_s = 5
lease_s = 15
"""


def sleeper_of(number: int) -> str:
    """Who sleeps in the group of a number."""
    return f"z-{number % SLEEPERS}"


def register(port: int, secret: str) -> None:
    """Every sleeper's phone says how it is woken: its token is its user's id."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        for number in range(SLEEPERS):
            user = sleeper_of(number)
            headers = {"Authorization": f"Bearer {sign_token(secret, user_id=user)}", "X-Device-Id": "phone"}
            body = {"provider": PROVIDER, "token": user}
            client.post("/v1/devices", json=body, headers=headers).raise_for_status()


def untold(receiver: Receiver, groups: Sequence[str], logs: Mapping[str, Sequence[Entry]]) -> list[str]:
    """What is wrong, in words."""
    wrong = []
    for number, name in enumerate(groups):
        newest = max((it.seq for it in logs[name] if it.client_msg_id is not None), default=0)
        told = receiver.newest.get((sleeper_of(number), name), 0)
        if told != newest:
            wrong.append(
                f"{sleeper_of(number)} was told of seq {told} of {name}, whose newest message is {newest}"
            )
    return wrong
