"""A line's messages as WebSocket bytes: handshake, frames and close in slices of any size, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from chatkit.testing.line import LOST, Carrier, Closed, Message, Opened
from chatkit.testing.rng import Rng
from chatkit.testing.websocket_bytes import ClientBytes, ServerBytes, slices
from chatkit.wire.events import FRAME_BYTES_MAX

JSON = "chatkit.v1.json"


class Lowest:
    """The random stream that cuts the finest slices."""

    def random(self) -> float:
        return 0.0


def carry(sender: Carrier, receiver: Carrier, *messages: Message) -> list[Message]:
    """Say these; what the receiver makes of the slices."""
    heard: list[Message] = []
    for message in messages:
        sender.say(message)
        for parcel in sender.parcels():
            heard += receiver.hear(parcel)
    return heard


def opened(subprotocol: str = JSON) -> tuple[ClientBytes, ServerBytes]:
    client, server = ClientBytes(subprotocol, Lowest()), ServerBytes(Lowest())
    assert carry(client, server, Opened(subprotocol)) == [Opened(subprotocol)]
    assert carry(server, client, Opened(subprotocol)) == [Opened(subprotocol)]
    return client, server


def sizes(data: Sequence[bytes]) -> list[int]:
    return [len(piece) for piece in data]


def test_slices_are_all_of_it_in_order_fine_at_first_or_coarse() -> None:
    rng = Rng(1).stream("slices")
    data = bytes(range(256)) * 40
    cuts = [list(slices(data, rng)) for _ in range(40)]
    assert all(b"".join(cut) == data for cut in cuts)
    assert {max(sizes(cut[:30])) <= 7 for cut in cuts} == {True, False}
    assert all(len(cut) < 300 for cut in cuts)
    assert sizes(list(slices(data[:100], Lowest()))) == [1] * 100


def test_frames_cross_byte_by_byte_both_ways() -> None:
    client, server = opened()
    assert carry(client, server, "到了吗", b"\x00\xff", "") == ["到了吗", b"\x00\xff", ""]
    assert carry(server, client, b"x" * 70_000, "y" * 200) == [b"x" * 70_000, "y" * 200]


def test_nothing_is_heard_of_a_frame_whose_last_byte_is_missing() -> None:
    client, server = opened()
    client.say("whole")
    *first, last = client.parcels()
    assert [message for parcel in first for message in server.hear(parcel)] == []
    assert server.hear(last) == ["whole"]


def test_a_stream_that_ends_inside_a_frame_is_a_loss() -> None:
    client, server = opened()
    client.say("half")
    for parcel in client.parcels()[:-1]:
        assert list(server.hear(parcel)) == []
    assert server.hear(None) == [LOST]
    assert server.hear(None) == [LOST]


@pytest.mark.parametrize("end", [ClientBytes(JSON, Lowest()), ServerBytes(Lowest())])
def test_a_stream_that_ends_inside_the_handshake_is_a_loss(end: Carrier) -> None:
    assert end.hear(None) == [LOST]


def test_a_close_crosses_with_code_and_reason_and_nothing_is_said_after_it() -> None:
    client, server = opened()
    assert carry(server, client, Closed(4001, "no sign of life"), "too late") == [
        Closed(4001, "no sign of life")
    ]
    assert b"".join(client.parcels()) != b""  # the closing handshake
    client.say("too late")
    assert client.parcels() == ()


def test_a_close_without_any_code_is_1005() -> None:
    client, server = opened()
    assert list(server.hear(b"\x88\x80\x00\x00\x00\x00")) == [Closed(1005, "")]
    assert client.hear(None) == [LOST]


def test_nothing_is_said_before_the_handshake_is_through() -> None:
    client = ClientBytes(JSON, Lowest())
    client.say("early")
    client.say(Closed(1000))
    assert client.parcels() == ()


def test_an_unknown_subprotocol_is_opened_without_one() -> None:
    client, server = ClientBytes("chat", Lowest()), ServerBytes(Lowest())
    assert carry(client, server, Opened("chat")) == [Opened(None)]
    assert carry(server, client, Opened(None), Closed(4204, "no")) == [Opened(None), Closed(4204, "no")]


def test_a_frame_above_the_limit_closes_with_1009_at_both_ends() -> None:
    client, server = opened()
    assert carry(client, server, "x" * (FRAME_BYTES_MAX + 2000))[0] == Closed(
        1009, "frame with 1002000 bytes exceeds limit of 1001024 bytes"
    )
    answers = [message for parcel in server.parcels() for message in client.hear(parcel)]
    assert [message.code for message in answers if isinstance(message, Closed)] == [1009]


def test_bytes_that_are_no_frame_close_with_1002() -> None:
    _, server = opened()
    closed = server.hear(b"\xff\xff")[0]
    assert isinstance(closed, Closed)
    assert closed.code == 1002


def test_an_answer_that_is_no_upgrade_is_a_loss() -> None:
    client = ClientBytes(JSON, Lowest())
    client.say(Opened(JSON))
    client.parcels()
    assert client.hear(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") == [LOST]
