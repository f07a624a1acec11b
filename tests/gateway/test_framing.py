"""Frames of a WebSocket without I/O: read as `websockets` itself reads them, however they come, and bounded."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode, apply_mask
from websockets.protocol import Protocol, Side, State

from chatkit.gateway.framing import Framing, head_of
from chatkit.gateway.small_frames import CONTROL_FRAMES, FRAGMENTS_MAX

BYTES_MAX = 300
Message = tuple[bool, bytes]


def masked(first: int, data: bytes, mask: bytes = b"abcd") -> bytes:
    """A frame as a client sends it, whatever its first byte says."""
    size = len(data)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65536:
        head = bytes((first, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 0xFF)) + size.to_bytes(8, "big")
    return head + mask + apply_mask(data, mask)


def read(framing: Framing, slices: Iterable[bytes]) -> list[Message]:
    """The messages in these slices."""
    messages = []
    for data in slices:
        framing.feed(data)
        while (message := framing.next_message(0.0)) is not None:
            assert type(message) is bytes
            messages.append((framing.is_text, message))
    return messages


def as_websockets_reads(data: bytes) -> tuple[list[Message], bytes]:
    """The messages in all of it, and what is to be written."""
    judge = Protocol(Side.SERVER, max_size=BYTES_MAX)
    judge.receive_data(data)
    messages: list[Message] = []
    parts: list[bytes] = []
    is_text = False
    written = b"".join(judge.data_to_send())
    for event in judge.events_received():
        assert isinstance(event, Frame)
        if event.opcode in (Opcode.TEXT, Opcode.BINARY):
            is_text, parts = event.opcode is Opcode.TEXT, []
        if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            parts.append(bytes(event.data))
            if event.fin:
                messages.append((is_text, b"".join(parts)))
    return messages, written


def cut_up(data: bytes, places: list[int]) -> list[bytes]:
    ends = [*sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


whole = st.builds(
    masked,
    st.sampled_from([0x81, 0x82]),
    st.text(max_size=60).map(str.encode),
    st.binary(min_size=4, max_size=4),
)
fragments = st.lists(st.text(max_size=20).map(str.encode), min_size=2, max_size=4).map(
    lambda parts: b"".join(
        masked((0x80 if n == len(parts) - 1 else 0) | (0 if n else 1), part) for n, part in enumerate(parts)
    )
)
control = st.builds(masked, st.sampled_from([0x89, 0x8A]), st.binary(max_size=20))
anything = st.builds(masked, st.integers(0, 255), st.binary(max_size=BYTES_MAX + 20))
PLACES = st.lists(st.integers(0, 10_000), max_size=20)


@given(st.lists(whole | fragments | control, max_size=8).map(b"".join), PLACES)
def test_good_frames_are_read_as_websockets_reads_them_however_they_are_cut(
    data: bytes, places: list[int]
) -> None:
    framing = Framing(BYTES_MAX)
    assert (read(framing, cut_up(data, places)), framing.take_output()) == as_websockets_reads(data)
    assert not (framing.broken or framing.ended)
    assert framing._judge is None, "nothing is under way that spans frames"


@given(
    st.lists(whole | fragments | control | anything, max_size=6).map(b"".join) | st.binary(max_size=40),
    PLACES,
)
def test_of_bad_frames_no_more_is_read_and_the_same_is_said(data: bytes, places: list[int]) -> None:
    framing = Framing(BYTES_MAX)
    messages, written = as_websockets_reads(data)
    found = read(framing, cut_up(data, places))
    for place, (is_text, message) in enumerate(messages):
        if is_text and not is_utf8(message):
            assert found == messages[:place]
            assert framing.take_output().endswith(b"\x88\x02" + (1007).to_bytes(2, "big"))
            break
    else:
        assert found == messages
        output = framing.take_output()
        assert output[:4] == written[:4]
        assert output.startswith(written[:-1]) or framing.broken
        assert framing.broken or output == written
    framing.free()


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def code_of(framing: Framing) -> int:
    output = framing.take_output()
    assert framing.broken and framing.ended
    at = output.rindex(b"\x88")
    return int.from_bytes(output[at + 2 : at + 4], "big")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x01x", 1002),
        (b"\x81\x00", 1002),
        (masked(0xC1, b""), 1002),
        (masked(0xA1, b""), 1002),
        (masked(0x91, b"x"), 1002),
        (b"\x83\x80", 1002),
        (b"\x8b\x80", 1002),
        (masked(0x80, b"x"), 1002),
        (masked(0x01, b"x") + masked(0x81, b"x"), 1002),
        (masked(0x09, b"x"), 1002),
        (masked(0x89, b"x" * 126), 1002),
        (masked(0x88, b"x"), 1002),
        (masked(0x88, (1).to_bytes(2, "big")), 1002),
        (b"\x81\xfe\xff\xff", 1009),
        (b"\x82\xff\x00\x00\x00\x01\x00\x00\x00\x00", 1009),
        (b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff", 1009),
        (masked(0x01, b"x" * 200) + masked(0x80, b"x" * 200), 1009),
        (masked(0x81, b"\xff"), 1007),
        (masked(0x81, b"\xed\xa0\x80"), 1007),
        (masked(0x01, "é".encode()[:1]) + masked(0x80, b"x"), 1007),
        (masked(0x89, b"") * (CONTROL_FRAMES.burst + 1), 4002),
        (masked(0x01, b"[") + masked(0x00, b"") * 17, 1009),
        (masked(0x01, b"[") + masked(0x00, b" ") * (FRAGMENTS_MAX + 1), 1009),
    ],
)
def test_whoever_breaks_the_protocol_is_told_so_as_soon_as_it_shows(data: bytes, code: int) -> None:
    framing = Framing(BYTES_MAX if code != 1009 or len(data) < 5_000 else 5_000)
    assert read(framing, [data[:-1], data[-1:]]) == []
    assert code_of(framing) == code
    assert read(framing, [masked(0x81, b"more")]) == []
    assert framing.take_output() == b""


def test_a_message_split_within_a_letter_is_text() -> None:
    first, second = "é".encode()[:1], "é".encode()[1:]
    assert read(Framing(BYTES_MAX), [masked(0x01, first) + masked(0x80, second)]) == [(True, "é".encode())]


def test_what_was_not_asked_for_yet_stays() -> None:
    framing = Framing(BYTES_MAX)
    framing.feed(masked(0x81, b"a") + masked(0x82, b"b") + masked(0x81, b"c")[:3])
    assert framing.next_message(0.0) == b"a"
    framing.feed(masked(0x81, b"c")[3:])
    assert [framing.next_message(0.0), framing.next_message(0.0), framing.next_message(0.0)] == [
        b"b",
        b"c",
        None,
    ]


def test_the_peer_closes() -> None:
    framing = Framing(BYTES_MAX)
    close = masked(0x88, (1000).to_bytes(2, "big") + b"bye")
    assert read(framing, [masked(0x81, b"last") + close + masked(0x81, b"behind")]) == [(True, b"last")]
    assert framing.answered
    assert framing.ended
    assert framing.take_output() == b"\x88\x05\x03\xe8bye"


def test_after_our_close_only_the_answer_counts() -> None:
    framing = Framing(BYTES_MAX)
    framing.close(4203, "no")
    assert framing.take_output() == b"\x88\x04\x10\x6bno"
    assert read(framing, [masked(0x81, b"late") + masked(0x01, b"la") + masked(0x80, b"te")]) == []
    assert not framing.answered
    assert read(framing, [masked(0x88, (4203).to_bytes(2, "big"))]) == []
    assert framing.answered
    assert not framing.broken
    assert framing.take_output() == b""


def test_a_close_between_fragments_drops_them() -> None:
    framing = Framing(BYTES_MAX)
    assert read(framing, [masked(0x01, b"be")]) == []
    framing.close(1001, "")
    assert read(framing, [masked(0x80, b"gun") + masked(0x88, b"")]) == []
    assert framing.answered


def test_a_larger_message_is_taken_once_it_is_allowed() -> None:
    framing = Framing(10)
    read(framing, [masked(0x01, b"x" * 8)])
    framing.allow(100)
    assert read(framing, [masked(0x80, b"x" * 40), masked(0x81, b"y" * 90)]) == [
        (True, b"x" * 48),
        (True, b"y" * 90),
    ]


def test_a_long_frame_in_many_slices_is_read() -> None:
    data = masked(0x82, bytes(range(256)) * 2_000)
    framing = Framing(10**6)
    pieces = [data[at : at + 1_000] for at in range(0, len(data), 1_000)]
    assert read(framing, pieces) == [(False, bytes(range(256)) * 2_000)]
    assert not framing._data


def test_a_slice_of_a_long_frame_does_not_copy_what_came_before() -> None:
    size = 10**6
    framing = Framing(size)
    assert read(framing, [masked(0x82, b"x" * size)[: size // 2], b"x", b"x"]) == []
    tracemalloc.start()
    try:
        assert read(framing, [b"x"] * 10) == []
        assert tracemalloc.get_traced_memory()[1] < size // 4
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 200_000])
@pytest.mark.parametrize("binary", [False, True])
def test_a_client_reads_what_is_written(size: int, binary: bool) -> None:
    client = Protocol(Side.CLIENT, state=State.OPEN, max_size=None)
    client.receive_data(head_of(size, binary=binary) + b"x" * size)
    (frame,) = client.events_received()
    assert frame == Frame(Opcode.BINARY if binary else Opcode.TEXT, b"x" * size)
