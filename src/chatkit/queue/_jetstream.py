"""One connection to JetStream: its stream and consumer are made sure of, work is put, asked for and answered.

JetStream's own protocol is spoken here, over nats-py's core: requests of nats-py wait out their time when the
connection has ended, and its `fetch` leaves requests behind that take work nobody waits for. What is done after a
failure is `jetstream`'s business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any, cast

import anyio
import msgspec

from .._auto_reset_event import AutoResetEvent
from ..drivers.nats import FAILURES, NatsClient
from ..errors import ConfigurationError, OverloadedError, TooLargeError
from ..ports import Clock
from ._jetstream_config import DURABLE, NS, StreamConfig

try:
    from nats import errors
    from nats.aio.msg import Msg
except ImportError:
    raise ConfigurationError(
        'a queue on JetStream needs nats-py: pip install "chatkit-engine[nats]"'
    ) from None

ANSWER_S = 2.0
"""How long the server may take to answer; beyond it the connection counts as broken."""

IDLE_S = 5.0
"""How long the server keeps one request for work open while there is none."""

FULL_RETRY_S = 1.0
_FULL = {10023, 10047, 10077}  # no memory or disk, the bound of the account, the bound of the stream
_NAME_IN_USE = 10058
_NO_MESSAGES, _TIMED_OUT, _NOBODY = "404", "408", "503"


class BrokenError(Exception):
    """The connection could not be made, has ended, or is not answered on; the message says why."""


class MissingError(Exception):
    """There is a connection, but no stream or no consumer behind it, or JetStream is not ready."""


class Arrival(msgspec.Struct, frozen=True):
    """A message that is work, and when it came."""

    message: Msg
    at_s: float


class _Answer:
    """Of one call."""

    def __init__(self) -> None:
        self.arrived = anyio.Event()
        self.message: Msg | None = None


class JetStreamConnection:
    """A connection of nats-py, and what JetStream says on it.

    Attributes:
        is_sure: Whether stream and consumer were there when they were last needed.
    """

    def __init__(self, client: NatsClient, config: StreamConfig, clock: Clock) -> None:
        self._client, self._config, self._clock = client, config, clock
        self._inbox = client.new_inbox()
        self._tokens = count()
        self._answers: dict[str, _Answer] = {}
        self._now: dict[str, int] = {}  # requests for what is there, and how much each may still bring
        self._idle: dict[str, int] = {}  # the one that waits for the next
        self._arrived: deque[Arrival] = deque()
        self._refusal = ""
        self._changed = AutoResetEvent()
        self._failure: Exception | None = None
        self._ended = self.is_sure = False

    @property
    def is_open(self) -> bool:
        """Whether it can be used, as far as is known here."""
        return self._client.is_connected and not self._ended

    async def open(self) -> None:
        """Raises BrokenError; `aclose` is to be called then too."""
        with self._translated():
            await self._client.open(self._on_error, self._on_end)
            await self._listen(f"{self._inbox}.*", self._hear_answer)
            await self._listen(f"{self._inbox}.now.*", partial(self._hear_work, self._now))
            await self._listen(f"{self._inbox}.idle.*", partial(self._hear_work, self._idle))

    async def aclose(self) -> None:
        """End it: whoever waits for an answer gets a BrokenError."""
        await self._on_end()
        await self._client.end()

    # --- calls ---

    async def make_sure(self) -> None:
        """The stream and its consumer are there, made if they were not.

        A stream that is there is taken with its own bounds, and the consumer gets what was configured here.

        Raises:
            ConfigurationError: The stream is no work queue, or takes other subjects.
        """
        config = self._config
        try:
            await self._api(f"STREAM.CREATE.{config.stream}", config.of_stream())
        except _NameInUseError:
            found = (await self._api(f"STREAM.INFO.{config.stream}"))["config"]
            if found.get("retention") != "workqueue" or found.get("subjects") != [f"{config.subjects}*"]:
                raise ConfigurationError(
                    f"the stream {config.stream} is there, and is no queue of chatkit"
                ) from None
        wanted = {"stream_name": config.stream, "config": config.of_consumer()}
        await self._api(f"CONSUMER.DURABLE.CREATE.{config.stream}.{DURABLE}", wanted)
        self.is_sure = True

    async def put(self, token: str, data: bytes, put_id: str) -> None:
        """Store a message under a subject; one with the same id that is stored already is not stored again.

        Raises:
            OverloadedError: The stream is full.
        """
        headers = {"Nats-Msg-Id": put_id, "Nats-Expected-Stream": self._config.stream}
        answer = await self._call(f"{self._config.subjects}{token}", data, headers)
        self._checked(answer)

    async def answer(self, reply: str, what: bytes) -> None:
        """Tell what became of a message; returns when the server has noted it, or knows nothing of the message."""
        try:
            await self._call(reply, what)
        except MissingError:  # the consumer is gone, and the message with it
            self.is_sure = False

    async def lag(self) -> int:
        """How many messages are not acknowledged."""
        info = await self._api(f"CONSUMER.INFO.{self._config.stream}.{DURABLE}")
        return int(info["num_pending"]) + int(info["num_ack_pending"])

    async def pull(self, limit: int) -> list[Arrival]:
        """Messages: those that are there, else the next one; after IDLE_S without any, none.

        What the requests of a cancelled call bring is given to the next one, if it is not half gone by then.
        """
        oldest_s = self._clock.now_s() - self._config.visibility_s / 2
        while self._arrived and self._arrived[0].at_s < oldest_s:
            self._arrived.popleft()  # it comes again
        if not self._arrived:
            token = await self._ask(self._now, "now", limit, no_wait=True)
            await self._finish(self._now, token, ANSWER_S)
        if not self._arrived:
            token = next(iter(self._idle), "") or await self._ask(
                self._idle, "idle", 1, expires=int(IDLE_S * NS)
            )
            await self._finish(self._idle, token, IDLE_S + ANSWER_S)
        return [self._arrived.popleft() for _ in range(min(limit, len(self._arrived)))]

    async def _ask(self, requests: dict[str, int], kind: str, limit: int, **how: Any) -> str:
        token = self._token()
        requests[token] = limit
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._config.stream}.{DURABLE}"
        wanted = msgspec.json.encode({"batch": limit, **how})
        with self._translated(), anyio.fail_after(ANSWER_S):
            await self._client.publish(subject, wanted, f"{self._inbox}.{kind}.{token}")
        return token

    async def _finish(self, requests: dict[str, int], token: str, wait_s: float) -> None:
        """Wait until a request has brought all that it will."""
        with anyio.move_on_after(wait_s):
            while token in requests and self.is_open:
                await self._changed.wait()
        if self._arrived:
            return
        refusal, self._refusal = self._refusal, ""
        if refusal:
            raise MissingError(refusal)
        if token in requests:
            raise BrokenError(self._why(f"no answer within {wait_s:g} s"))

    async def _api(self, name: str, wanted: Mapping[str, Any] | None = None) -> dict[str, Any]:
        data = b"" if wanted is None else msgspec.json.encode(wanted)
        return self._checked(await self._call(f"$JS.API.{name}", data))

    async def _call(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> Msg:
        """The answer to a message. Raises BrokenError, and MissingError if nobody listens."""
        token, answer = self._token(), _Answer()
        self._answers[token] = answer
        try:
            with self._translated(), anyio.fail_after(ANSWER_S):
                await self._client.publish(subject, data, f"{self._inbox}.{token}", headers)
                if self.is_open:
                    await answer.arrived.wait()
        finally:
            self._answers.pop(token, None)
        if answer.message is None:
            raise BrokenError(self._why("it has ended"))
        if _status(answer.message)[0] == _NOBODY:
            raise MissingError(
                "JetStream does not answer: it is off, or has no such stream, or no leader for it"
            )
        return answer.message

    def _checked(self, answer: Msg) -> dict[str, Any]:
        try:
            body = msgspec.json.decode(answer.data, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise BrokenError(f"the answer is none of JetStream: {error}") from None
        refusal = body.get("error")
        if not refusal:
            return body
        code, text = refusal.get("err_code"), str(refusal.get("description"))
        if code in _FULL:
            raise OverloadedError(f"the queue is full: {text}", retry_after_s=FULL_RETRY_S)
        raise (_NameInUseError if code == _NAME_IN_USE else MissingError)(text)

    # --- what arrives, in nats-py's reading task: nothing may raise ---

    async def _listen(self, inbox: str, hear: Callable[[Msg], None]) -> None:
        await self._client.subscribe(inbox, future=cast(Any, _Ear(hear)))

    def _hear_answer(self, message: Msg) -> None:
        answer = self._answers.get(message.subject.rpartition(".")[2])
        if answer is not None:
            answer.message = message
            answer.arrived.set()

    def _hear_work(self, requests: dict[str, int], message: Msg) -> None:
        """A message for the oldest request. Or that a request is over: then its subject is ours, and wants no reply."""
        code, text = _status(message)
        if message.reply:
            self._arrived.append(Arrival(message, self._clock.now_s()))
            self._count(requests)
        elif requests.pop(message.subject.rpartition(".")[2], None) and code not in {
            _NO_MESSAGES,
            _TIMED_OUT,
        }:
            self._refusal = text or code
        self._changed.set()

    def _count(self, requests: dict[str, int]) -> None:
        token = next(iter(requests), None)
        if token is not None:
            requests[token] -= 1
            if not requests[token]:
                del requests[token]

    async def _on_error(self, error: Exception) -> None:
        self._failure = error

    async def _on_end(self) -> None:
        self._ended = True
        for answer in self._answers.values():
            answer.arrived.set()
        self._changed.set()

    def _token(self) -> str:
        return str(next(self._tokens))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except errors.MaxPayloadError:
            raise TooLargeError("the server takes less (max_payload)") from None
        except TimeoutError:
            raise BrokenError(f"no answer within {ANSWER_S:g} s") from None
        except FAILURES as error:
            raise BrokenError(self._why(str(error) or repr(error))) from error

    def _why(self, otherwise: str) -> str:
        """The first cause: what nats-py raises in the end says no more than that there is no server."""
        return str(self._failure or self._client.last_error or otherwise) or otherwise


class _NameInUseError(MissingError):
    """A stream of this name is there, made with other settings."""


class _Ear:
    """Takes every message of a subscription, as nats-py gives it to the future of a single request."""

    def __init__(self, hear: Callable[[Msg], None]) -> None:
        self._hear = hear

    def cancelled(self) -> bool:
        return False

    def set_result(self, message: Msg) -> None:
        self._hear(message)


def _status(message: Msg) -> tuple[str, str]:
    """The code and the words of a message that is none but says something about a request."""
    headers: Mapping[str, str] = message.headers or {}
    if message.data:
        return "", ""
    return headers.get("Status", ""), headers.get("Description", "")
