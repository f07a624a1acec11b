"""The transcript of a run: in order of what happened, shortened from its beginning."""

from __future__ import annotations

import msgspec
import pytest

from chatkit.client.events import MessageReceived, Typing
from chatkit.errors import ConnectionLostError, RefusedError
from chatkit.testing import History, transcript
from chatkit.types import Message
from chatkit.wire.codec import CODECS, Codec
from tests.proof.checker import check
from tests.proof.dumps import CompleteHistory

JSON = CODECS["chatkit.v1.json"]


def test_equal_times_are_told_in_the_order_in_which_they_came() -> None:
    history = History(lambda: 0.0)
    call = history.invoke("ann", "phone", "send", conversation_id="c-1")
    history.frame("ann", "phone", '{"event":"SEND_MSG"}', JSON, up=True, connection=1, node="n-1")
    history.info(call, ConnectionLostError("cut"))
    incident = history.happened("cut", "ann/phone")
    history.ended(incident)
    history.frame(
        "ann", "phone", '[{"event":"A"},{"event":"B","seq":2}]', JSON, up=False, connection=1, node="n-1"
    )
    history.app_event("ann", "phone", 1, Typing("c-1", "bob"))

    assert [line.split("  ", 1)[1] for line in transcript(history).splitlines()] == [
        "   0.000  ann/phone calls send conversation_id=c-1",
        "   0.000  ann/phone -> n-1 SEND_MSG",
        "   0.000  ann/phone has from send: ConnectionLostError, and nobody knows whether it took effect",
        "   0.000  cut ann/phone",
        "   0.000  over: cut ann/phone",
        "   0.000  ann/phone <- n-1 A",
        "   0.000  ann/phone <- n-1 B seq=2",
        "   0.000  ann/phone is told Typing conversation_id=c-1 user_id=bob",
    ]


def test_heartbeats_are_left_out_and_what_nobody_can_read_is_said() -> None:
    history = History(lambda: 7.0)
    history.frame(
        "ann", "phone", '[{"event":"PING"},{"event":"X"},3]', JSON, up=True, connection=1, node="n-1"
    )
    history.frame("ann", "phone", "{", JSON, up=True, connection=1, node="n-1")

    assert transcript(history).splitlines() == [
        "     7.000  ann/phone -> n-1 X",
        "     7.000  ann/phone -> n-1 3",
        "     7.000  ann/phone -> n-1 1 bytes that are no json",
    ]


def test_the_last_lines_are_kept() -> None:
    history = History(lambda: 1.0)
    for number in range(5):
        history.fail(history.invoke("", "", f"op-{number}"), RefusedError("no"))

    assert transcript(history, 3).splitlines() == [
        "earlier lines are left out",
        "     1.000  the host has from op-3: RefusedError",
        "     1.000  the host calls op-4",
        "     1.000  the host has from op-4: RefusedError",
    ]
    assert "left out" not in transcript(history, 10)


def test_no_line_is_longer_than_a_terminal_is_wide() -> None:
    history = History(lambda: 1.0)
    history.invoke("ann", "phone", "send", **{f"field_{number}": "x" * 500 for number in range(50)})

    assert len(transcript(history)) == 140


def test_an_entry_is_told_by_its_place_and_its_text() -> None:
    history = History(lambda: 1.0)
    message = Message("c-1", 4, "m-4", "bob", 9, {"type": "TEXT", "text": "line\n\x1b[31mred 到"}, None)
    history.app_event("ann", "phone", 1, MessageReceived(message))
    history.ok(history.invoke("ann", "phone", "history"), items=[message, message])
    page = {"event": "SYNC_PAGE", "messages": [{"seq": 4}, {"seq": 5}]}
    heads = {"event": "HEADS", "conversations": [{"conversationId": "c-1", "headSeq": 7}]}
    history.frame("ann", "phone", msgspec.json.encode([page, heads]), JSON, up=False, connection=1, node="n")

    assert [line.split("  ", 1)[1].strip() for line in transcript(history).splitlines()] == [
        "1.000  ann/phone is told MessageReceived message=c-1 seq 4 of bob: line\\n\\x1b[31mred 到",
        "1.000  ann/phone calls history",
        "1.000  ann/phone has from history: ok items=[4, 4]",
        "1.000  ann/phone <- n SYNC_PAGE messages=[4, 5]",
        "1.000  ann/phone <- n HEADS conversations=[c-1 to 7]",
    ]


def test_tokens_are_not_told() -> None:
    history = History(lambda: 1.0)
    hello = '{"event":"HELLO","token":"t-secret","resumeToken":"r-secret","deviceId":"phone"}'
    history.frame("ann", "phone", hello, JSON, up=True, connection=1, node="n")

    assert transcript(history).endswith("HELLO token=... resumeToken=... deviceId=phone")


@pytest.mark.parametrize("data", [b"\xff", b'"\xff"', b"[" * 100_000, b"\xc1"])
@pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.name)
def test_bytes_of_any_kind_are_told(data: bytes, codec: Codec) -> None:
    history = CompleteHistory(lambda: 1.0)
    history.frame("ann", "phone", data, codec, up=False, connection=1, node="n")
    history.app_event("ann", "phone", 1, object())

    assert "ann/phone <- n " in transcript(history)
    assert "S25" in {it.invariant for it in check(history, quiescent=False).violations}
