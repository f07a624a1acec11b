"""`chatkit serve --traces`: spans go to whatever SDK is set up around the command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
from click.testing import CliRunner

from chatkit import sign_token
from chatkit.cli.commands import chatkit as command

from .command import SECRET

AROUND = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

provider = TracerProvider()
exporter = ConsoleSpanExporter(out=sys.stderr, formatter=lambda it: it.name + "\\n")
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

from chatkit.cli import main

main()
"""


def test_spans_of_what_a_server_did(tmp_path: Path) -> None:
    arguments = ["serve", "--storage", "memory://", "--port", "0", "--json", "--traces", "1"]
    with subprocess.Popen(
        [sys.executable, "-c", AROUND, *arguments],
        cwd=tmp_path,
        env={"CHATKIT_JWT_SECRET": SECRET, "PYTHONUNBUFFERED": "1", "PYTHONPATH": ":".join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            port = json.loads(process.stdout.readline())["port"]
            headers = {"Authorization": f"Bearer {sign_token(SECRET, user_id='ann')}"}
            base = f"http://127.0.0.1:{port}/v1"
            with httpx.Client(headers=headers, trust_env=False) as http:
                http.post(
                    f"{base}/conversations",
                    json={"type": "GROUP", "conversationId": "g", "memberIds": ["ann"]},
                ).raise_for_status()
                http.post(
                    f"{base}/messages/send",
                    json={"conversationId": "g", "clientMsgId": "k", "type": "TEXT", "content": "hello"},
                ).raise_for_status()
            process.terminate()
            _, spans = process.communicate(timeout=30)
        finally:
            process.kill()

    assert [it for it in spans.splitlines() if it in {"accept", "commit", "fan out"}] == [
        "commit",
        "fan out",
        "accept",
    ]
    assert "no SDK of OpenTelemetry" not in spans


def test_without_an_sdk_it_is_said_that_no_span_leaves(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chatkit", "serve", "--traces", "1"],  # and without a secret: it ends there
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "no SDK of OpenTelemetry is set up" in done.stderr


def test_a_ratio_is_a_part() -> None:
    result = CliRunner().invoke(command, ["serve", "--traces", "2"])
    assert result.exit_code == 2
    assert "--traces" in result.output
