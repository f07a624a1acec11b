"""What `chatkit serve` logs: who logs in and what is refused; never a message or a token, at no level."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from chatkit import sign_token

from .command import SECRET, next_line, started


@pytest.mark.parametrize(("level", "log_format"), [("debug", "text"), ("info", "text"), ("debug", "json")])
def test_logins_and_refusals_are_said_and_no_secrets(level: str, log_format: str, tmp_path: Path) -> None:
    token = sign_token(SECRET, user_id="ann")
    arguments = ("serve", "--storage", "memory://", "--port", "0", "--json", "--log-level", level)
    arguments = (*arguments, "--log-format", log_format)
    with started(*arguments, cwd=tmp_path) as process:
        port = json.loads(next_line(process))["port"]
        httpx.get(f"http://127.0.0.1:{port}/v1/sync?token={token}", trust_env=False, verify=False)
        url, protocols = f"ws://127.0.0.1:{port}/v1/ws", [Subprotocol("chatkit.v1.json")]
        with connect(f"{url}?token={token}", subprotocols=protocols, proxy=None):
            pass
        with connect(url, subprotocols=protocols, proxy=None) as socket:
            socket.send(json.dumps({"event": "HELLO", "token": token, "deviceId": "phone"}))
            socket.recv()
            payload = {"type": "TEXT", "text": "a word that is nobody's business"}
            message = {"event": "SEND_MSG", "conversationId": "c-1", "clientMsgId": "k", "payload": payload}
            for _ in range(3):
                socket.send(json.dumps(message))
                socket.recv()
        process.terminate()
        _, log = process.communicate(timeout=20)

    assert "user ann logged in on device phone" in log
    assert log.count("refused with NOT_FOUND: user ann, device phone") == 1
    assert ": an HTTP request" in log
    assert "nobody's business" not in log
    assert token not in log
    if log_format == "json":
        records = [json.loads(line) for line in log.splitlines()]
        assert {"time", "level", "logger", "node", "event", "template"} == set(records[0])
        assert {record["level"] for record in records} >= {"info"}
