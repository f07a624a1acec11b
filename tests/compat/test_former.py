"""The former version's client on this server, the other way round, and through an upgrade; and the frames of both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chatkit.errors import ProtocolError
from chatkit.server.cluster import messages as cm
from chatkit.wire.codec import JSON, MSGPACK, BadItem
from tests.blackbox.server_process import ServerProcess
from tests.blackbox.tokens import SECRET
from tests.server.cluster.test_messages import EACH
from tests.wire.golden import FOLDER, cases, compact

from .former import ROOT, Former, build

STORY = Path(__file__).parent / "story.py"
WAIT_S = 60.0

NEW_IN_THIS_VERSION = {"PRESENCE", "STREAM_PART", "STREAM_ACK"}
"""Events that the former version does not know."""

NEW_FIELDS = {
    "MSG_ACK": {"payload"},
    "SYNC": {"history"},
    "SYNC_PAGE": {"floorSeq"},
    "ERROR": {"reason", "expectedPart"},
    "CONVERSATION": {"title"},
}
"""Fields of events that it passes over."""

NEW_IN_HEADS = {"title", "lastActivityTs", "mutedUntil"}
"""Fields of a conversation in HEADS that it passes over."""

NEW_IN_ENTRIES = {"stream"}
"""Fields of an entry of a page that it passes over."""

NEW_BETWEEN_NODES = {cm.UsersAvailable, cm.ContentRefused, cm.StreamPart}
"""Kinds of cluster messages that it does not know."""


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> Former:
    return build(tmp_path_factory.mktemp("former"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path)
    yield server
    server.stop()


class Versions:
    """Which chatkit each process imports: the installed one, or the former one."""

    def __init__(self, former: Former) -> None:
        self._former = former

    def environment(self, name: str) -> dict[str, str]:
        return self._former.environment if name == "former" else {}

    def is_in(self, name: str, file: str) -> bool:
        folder = self._former.library if name == "former" else ROOT / "src"
        return Path(file).is_relative_to(folder)


@pytest.mark.parametrize(
    ("client", "before", "after", "codec"),
    [
        ("former", "this", "this", "json"),
        ("this", "former", "former", "msgpack"),
        ("former", "former", "this", "msgpack"),
    ],
    ids=["former client", "former server", "upgrade of the server"],
)
def test_the_story_is_the_same(
    former: Former, server: ServerProcess, tmp_path: Path, client: str, before: str, after: str, codec: str
) -> None:
    versions = Versions(former)
    server.environment = versions.environment(before)
    server.start()
    story = _begin(versions.environment(client), server, codec, tmp_path)
    try:
        assert _line(story) == "first part", story.communicate()[1].decode()
        server.terminate()
        assert server.exit_code() == 0, server.log
        server.environment = versions.environment(after)
        server.start()
        output, errors = story.communicate(b"go on\n", WAIT_S)
    finally:
        story.kill()
    assert story.returncode == 0, errors.decode()
    report = json.loads(output)

    assert versions.is_in(client, report["chatkit"])
    assert report["resumed"] == [[False, True], [False, True]]
    assert report["caught_up"] == [f"away {number}" for number in range(30)]
    assert report["status"] == "READ"
    _check_log(report["log"], report["recalled"])
    assert "Traceback" not in server.log


def _begin(
    environment: dict[str, str], server: ServerProcess, codec: str, folder: Path
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", str(STORY), server.http_url, SECRET, codec, str(folder)]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=os.environ | environment,
    )


def _line(story: subprocess.Popen[bytes]) -> str:
    assert story.stdout is not None
    return story.stdout.readline().decode().strip()


def _check_log(log: list[list[Any]], recalled: int) -> None:
    """Without a hole, each text once, and the recalled one gone."""
    assert [seq for seq, _, _ in log] == list(range(1, len(log) + 1))
    texts = [text for _, kind, text in log if kind == "TEXT"]
    assert texts == ["one", "three", *(f"away {number}" for number in range(30))]
    assert [kind for seq, kind, _ in log if seq == recalled] == ["RECALLED"]


# --- frames ---


def test_every_vector_of_the_former_version_is_still_one_of_this(former: Former) -> None:
    """So `tests/wire` decodes and encodes all of them; a case is never changed or removed."""
    for path in sorted((former.source / "tests" / "wire" / "vectors").glob("*.json")):
        mine = json.loads((FOLDER / path.name).read_text(encoding="utf-8"))
        for case in json.loads(path.read_text(encoding="utf-8")):
            assert case in mine, (path.name, case["name"])


READS = """
import json, sys
from chatkit.server.cluster import messages as cm
from chatkit.wire.codec import JSON, MSGPACK, BadItem
known = []
for side, name, text, packed in json.load(sys.stdin):
    for codec, frame in ((JSON, text.encode()), (MSGPACK, bytes.fromhex(packed))):
        found = list(codec.client_events(frame) if side == "client" else codec.server_events(frame))
        known.append([side, name, [codec.encode(it).hex() for it in found if not isinstance(it, BadItem)]])
print(json.dumps(known))
"""


def test_the_former_version_reads_the_frames_of_this_one_and_passes_over_what_is_new(former: Former) -> None:
    """What it knows it reads alike; of a new event from a server nothing, of a new event from a client a refusal."""
    given = [
        (side, case["json"]["event"], compact(case["json"]).decode(), case["msgpack"])
        for side in ("client", "server")
        for _, case in cases(side)
    ]
    read = json.loads(former.run(READS, given=json.dumps(given).encode()))
    wanted = [
        [side, name, [] if name in NEW_IN_THIS_VERSION else [_as_former(name, codec, frame).hex()]]
        for side, name, text, packed in given
        for codec, frame in ((msgspec.json, text.encode()), (msgspec.msgpack, bytes.fromhex(packed)))
    ]

    assert read == wanted


def _as_former(name: str, codec: Any, frame: bytes) -> bytes:
    """A frame without the fields that the former version does not know."""
    if name not in NEW_FIELDS and name != "HEADS":
        return frame
    fields = _without(codec.decode(frame), NEW_FIELDS.get(name, set()))
    if name == "HEADS":
        fields["conversations"] = [_without(it, NEW_IN_HEADS) for it in fields["conversations"]]
    if name == "SYNC_PAGE":
        fields["messages"] = [_without(it, NEW_IN_ENTRIES) for it in fields["messages"]]
    encoded: bytes = codec.encode(fields)
    return encoded


def _without(fields: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


NODES = """
import sys
from chatkit.server.cluster import messages as cm
said = sys.stdin.buffer.read()
read = []
for raw in cm.split(said):
    try:
        read.append(cm.decode(raw))
    except cm.UnreadableError:
        pass
sys.stdout.buffer.write(cm.encode(read))
"""


def test_nodes_of_both_versions_understand_each_other(former: Former) -> None:
    """The former node reads each message but of the kinds that are new, and what it writes of them is read here."""
    said = former.run(NODES, given=cm.encode(EACH))
    heard = [cm.decode(raw) for raw in cm.split(said)]

    assert heard == [it for it in EACH if type(it) not in NEW_BETWEEN_NODES]


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])
def test_a_field_or_an_event_of_a_later_version_costs_nothing(codec: Any) -> None:
    """What the next version will need of this one."""
    newer = {"event": "NEWS_OF_TOMORROW", "x": 1}
    pong = {"event": "PONG", "serverTs": 5, "addedLater": [1]}
    (known,) = codec.server_events(codec.encode([newer, pong]))
    assert known.server_ts == 5
    ping, refused = codec.client_events(codec.encode([{"event": "PING", "addedLater": 1}, newer]))
    assert not isinstance(ping, BadItem)
    assert isinstance(refused, BadItem)
    with pytest.raises(ProtocolError):
        codec.server_events(codec.encode({"event": "PONG", "serverTs": "now"}))
