"""The server's end of a WebSocket after the handshake, without I/O: bytes to messages, and back.

What nearly every frame is, a whole message of moderate size, is read here. Every other frame is given as a whole to the
connection object of `websockets`, the judge, which says what it is; so the judge always stands between two frames, and
there is none while nothing is under way that spans frames. Source: RFC 6455, 5; docs/design/0025-the-fast-path.md
"""

from __future__ import annotations

import logging

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from ..wire.events import CloseCode
from .small_frames import CONTROL_FLOOD, FRAGMENT_FLOOD, SmallFrames

try:
    from websockets.speedups import apply_mask
except ImportError:  # no wheel for this platform
    from websockets.utils import apply_mask

_TEXT, _BINARY = 0x81, 0x82
"""How a whole message begins."""

_OPCODE_BITS = 0x0F
_OPCODES = frozenset(Opcode)

_MASK_BYTES = 4
_SHORT_MAX = 125
_MEDIUM, _LONG = 126, 127
_SHORT_HEADS = {first: [bytes((first, size)) for size in range(_SHORT_MAX + 1)] for first in (_TEXT, _BINARY)}

logger = logging.getLogger(__name__)


def head_of(size: int, *, binary: bool) -> bytes:
    """What goes before a message of so many bytes."""
    first = _BINARY if binary else _TEXT
    if size <= _SHORT_MAX:
        return _SHORT_HEADS[first][size]
    if size <= 0xFFFF:
        return bytes((first, _MEDIUM)) + size.to_bytes(2, "big")
    return bytes((first, _LONG)) + size.to_bytes(8, "big")


class Framing:
    """Of one connection.

    Args:
        bytes_max: Of a message.

    Attributes:
        output: What is to be written beside messages: pongs and a close frame.
        is_text: Whether the last message came as text; its bytes are UTF-8 then.
        ended: Whether no message comes any more: a close frame was sent, or has come.
        answered: Whether the peer has closed, or has answered our close.
        broken: Whether the peer broke the protocol or spent a budget; what is to be written says how.
    """

    __slots__ = (
        "_at",
        "_bytes_max",
        "_data",
        "_judge",
        "_parts",
        "_small",
        "answered",
        "broken",
        "ended",
        "is_text",
        "output",
    )

    def __init__(self, bytes_max: int) -> None:
        self.is_text = self.ended = self.answered = self.broken = False
        self._bytes_max = bytes_max
        self._data: bytes | bytearray = b""
        self._at = 0
        self.output = b""
        self._judge: Protocol | None = None  # these three are made for the few who need them
        self._small: SmallFrames | None = None
        self._parts: list[bytes] | None = None

    def allow(self, bytes_max: int) -> None:
        """Take messages of this size from now on."""
        self._bytes_max = bytes_max
        if self._judge is not None:
            self._judge.max_message_size = bytes_max

    # --- in ---

    def feed(self, data: bytes) -> None:
        """Bytes have come; `next_message` says what they are."""
        if self._at:
            self._forget_read()
        if not self._data:
            self._data = data
        elif type(self._data) is bytearray:  # a long frame comes in many slices
            self._data += data
        else:
            self._data = bytearray().join((self._data, data))

    def next_message(self, now_s: float) -> bytes | None:
        """The next whole message; None if there is none before more bytes come.

        Args:
            now_s: Monotonic; for the budget of control frames.
        """
        while not (self.answered or self.broken):
            data, at = self._data, self._at
            known = len(data) - at
            if known < 2:
                break
            first, size, head = data[at], data[at + 1] - 0x80, 6
            plain = first in (_TEXT, _BINARY)
            if size < 0 or not (plain or first & _OPCODE_BITS in _OPCODES):
                self._judge_frame(bytes(data[at:]), now_s)  # it fails at once
                break
            if size == _MEDIUM:
                size, head = int.from_bytes(data[at + 2 : at + 4], "big"), 8
            elif size == _LONG:
                size, head = int.from_bytes(data[at + 2 : at + 10], "big"), 14
            if known < head - _MASK_BYTES:
                break
            if size > self._bytes_max:
                self._judge_frame(bytes(data[at:]), now_s)  # so does this
                break
            end = at + head + size
            if end > len(data):
                break
            self._at = end
            if plain and self._judge is None:
                start = at + head
                self.is_text = first == _TEXT
                message = self._checked(apply_mask(data[start:end], data[start - _MASK_BYTES : start]))
            else:
                message = self._judge_frame(bytes(data[at:end]), now_s)
            if message is not None:
                return message
        self._forget_read()
        return None

    def _forget_read(self) -> None:
        if self.answered or self.broken or self._at == len(self._data):
            self._data = b""
        elif type(self._data) is bytearray:
            del self._data[: self._at]  # copies nothing: a long frame comes in many slices
        elif self._at:
            self._data = self._data[self._at :]
        self._at = 0

    def _checked(self, message: bytes) -> bytes | None:
        """The message, if it is what it says it is."""
        if self.is_text and not message.isascii():
            try:
                message.decode()
            except UnicodeDecodeError:
                self._cut(CloseCode.INVALID_DATA, "")
                return None
        return message

    def _judge_frame(self, frame: bytes, now_s: float) -> bytes | None:
        """Have `websockets` look at a frame, which is whole or wrong. Returns a message that it completes."""
        judge = self._judge or self._call_judge()
        judge.receive_data(frame)
        if judge.parser_exc is not None:
            self._break(judge)
            return None
        message = None
        for event in judge.events_received():
            if isinstance(event, Frame):
                message = self._take(event, now_s)
        if self._judge is judge:
            self.output += b"".join(judge.data_to_send())
            if self.answered or (judge.state is State.OPEN and judge.current_size is None):
                self._dismiss(judge)
        return message

    def _take(self, frame: Frame, now_s: float) -> bytes | None:
        if self._small is None:
            self._small = SmallFrames()
        if frame.opcode is Opcode.CLOSE:
            self.ended = self.answered = True
        elif frame.opcode is Opcode.PING or frame.opcode is Opcode.PONG:
            if not self._small.control_frame(now_s):
                self._cut(*CONTROL_FLOOD)
        elif frame.opcode is Opcode.CONT:
            return self._take_fragment(frame, self._small)
        else:  # a whole one would have been read above, but for after the end
            self._small.first_fragment()
            self.is_text = frame.opcode is Opcode.TEXT
            self._parts = [bytes(frame.data)]
        return None

    def _take_fragment(self, frame: Frame, small: SmallFrames) -> bytes | None:
        if not small.fragment(len(frame.data)):
            self._cut(*FRAGMENT_FLOOD)
        elif not self.ended and self._parts is not None:
            self._parts.append(bytes(frame.data))
            if frame.fin:
                message, self._parts = b"".join(self._parts), None
                return self._checked(message)
        return None

    # --- out ---

    def take_output(self) -> bytes:
        """What is to be written beside messages; it is taken once."""
        output, self.output = self.output, b""
        return output

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake; of what comes from now on only the peer's close counts."""
        judge = self._judge or self._call_judge()
        judge.send_close(code, reason)
        self.output += b"".join(judge.data_to_send())
        self._parts = None
        self.ended = True

    def free(self) -> None:
        """The connection is gone. The judge, which its own generator holds, goes too."""
        if self._judge is not None:
            self._dismiss(self._judge)

    def _cut(self, code: int, reason: str) -> None:
        judge = self._judge or self._call_judge()
        if judge.state is State.OPEN:
            judge.send_close(code, reason)
            self._break(judge)

    def _break(self, judge: Protocol) -> None:
        self.output += b"".join(judge.data_to_send())
        self._parts = None
        self.ended = self.broken = True
        self._dismiss(judge)

    def _call_judge(self) -> Protocol:
        self._judge = Protocol(Side.SERVER, max_size=self._bytes_max, logger=logger)
        return self._judge

    def _dismiss(self, judge: Protocol) -> None:
        judge.parser.close()
        judge.parser_exc = None
        self._judge = None
