"""`chatkit bench`: how fast a deployment answers, asked by pairs of its own users over the client SDK."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

import anyio
import click
import msgspec

from ..errors import ChatkitError, RefusedError
from ..ports import Clock, Ports
from ..server.auth import sign_token
from ..storage.verify_report import Progress
from ._progress import Shown, shown
from .common import exit_codes
from .configured import configured
from .login_options import Login, secret_options, signing_secret

if TYPE_CHECKING:  # the client brings httpx, which brings rich: no other command waits for them to load
    from ..client.client import ChatClient

PREFIX: Final = "chatkit-bench"
"""What the names of its users and conversations begin with."""

PAIRS_MAX, RATE_MAX, SECONDS_MAX, TEXT_MAX = 500, 5_000, 300, 10_000

RATE_PER_USER_MAX: Final = 8
"""Messages of a user in a second: by default a server takes 10, and its refusals would be what is measured."""

_WARM_UP_S = 1.0
_ANSWER_S = 15.0
_CONNECT_S = 20.0
_CONNECT_AT_ONCE = 8
_TTL_S = 3_600


class Milliseconds(msgspec.Struct, frozen=True):
    """What half, 95 % and 99 % of the messages took at most; None if there was none."""

    p50: float | None
    p95: float | None
    p99: float | None


class BenchResult(msgspec.Struct, frozen=True):
    """What `--json` prints.

    Attributes:
        run: What this run's users and conversations are named after.
        pairs: Pairs that talked.
        seconds: How long messages were sent, after the warm-up.
        sent: Messages that were asked for in that time; the figures below are of these.
        acked: Of these, what was durable and acknowledged.
        delivered: Of these, what the other side's app had.
        acked_per_s: Acknowledgements in a second.
        delivered_per_s: Deliveries in a second.
        send_to_ack_ms: From `send` to its answer, at the sender.
        delivery_ms: From `send` to the event at the receiver.
        errors: What went wrong, by its code or class.
    """

    run: str
    pairs: int
    seconds: float
    sent: int
    acked: int
    delivered: int
    acked_per_s: float
    delivered_per_s: float
    send_to_ack_ms: Milliseconds
    delivery_ms: Milliseconds
    errors: dict[str, int]

    @property
    def complete(self) -> bool:
        """Whether every message was acknowledged and delivered."""
        return self.sent == self.acked == self.delivered and not self.errors


@configured("jwt_secret", "jwt_secret_file", "jwt_secret_env")
@click.command(short_help="Measure how fast a server answers.", context_settings={"show_default": True})
@click.argument("url")
@click.option("--pairs", default=10, type=click.IntRange(1, PAIRS_MAX), help="Pairs of users that talk.")
@click.option(
    "--rate", default=20.0, type=click.FloatRange(0.1, RATE_MAX), help="Messages a second, of all together."
)
@click.option("--seconds", default=10.0, type=click.FloatRange(1, SECONDS_MAX), help="How long to measure.")
@click.option("--text", default=100, type=click.IntRange(40, TEXT_MAX), help="Characters of a message.")
@secret_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def bench(url: str, pairs: int, rate: float, seconds: float, text: int, as_json: bool, **login: Any) -> None:
    """Measure how long a message takes at the server at URL: until it is durable, and until the other side has it.

    It signs tokens with the server's secret, as `chatkit token` does, for users of its own (chatkit-bench-...), which
    talk in pairs in conversations of their own. Messages are sent at a steady rate, whatever the answers take. What it
    writes stays in the log. Ends with 1 if a message was not acknowledged or not delivered.
    """
    if not (isfinite(rate) and isfinite(seconds)):
        raise click.UsageError("--rate and --seconds are numbers")
    if rate > RATE_PER_USER_MAX * pairs:
        needed = -(-rate // RATE_PER_USER_MAX)
        raise click.UsageError(f"--rate {rate:g} is too much for so few users: --pairs {needed:g} at least")
    with exit_codes():
        ports = Ports()
        run = Bench(url, signing_secret(Login(**login)), pairs, rate, seconds, text, ports)
        with shown(ports.clock) as progress:
            found = anyio.run(run.run, progress)
    click.echo(msgspec.json.encode(found) if as_json else "\n".join(_lines(found)))
    if not found.complete:
        raise SystemExit(1)


class _Message:
    """One message under way."""

    __slots__ = ("acked_s", "counts", "delivered", "delivered_s", "sent_s")

    def __init__(self, sent_s: float, counts: bool) -> None:
        self.sent_s = sent_s
        self.counts = counts
        self.acked_s: float | None = None
        self.delivered_s: float | None = None
        self.delivered = anyio.Event()


class Bench:
    """One run.

    Args:
        url: The server.
        secret: Signs the tokens of its users.
        pairs: How many talk.
        rate: Messages a second, of all together.
        seconds: How long it is measured, after a warm-up of a second.
        text: Characters of a message.
        ports: Clock and ids.
    """

    def __init__(
        self, url: str, secret: str, pairs: int, rate: float, seconds: float, text: int, ports: Ports
    ) -> None:
        self._url, self._secret = url, secret
        self._pairs, self._rate, self._seconds, self._text = pairs, rate, seconds, text
        self._clock: Clock = ports.clock
        self._run = f"{PREFIX}-{ports.ids.token_bytes(5).hex()}"
        self._messages: dict[str, _Message] = {}
        self._errors: Counter[str] = Counter()

    async def run(self, progress: Shown) -> BenchResult:
        """Connect, talk, wait for what is under way, and reckon.

        Raises:
            ChatkitError: Not everybody could log in.
        """
        async with AsyncExitStack() as stack:
            senders = await self._connected(stack, progress)
            await self._talk(senders, progress)
            with anyio.move_on_after(_ANSWER_S):
                for message in self._messages.values():
                    await message.delivered.wait()
        return self._result()

    async def _connected(self, stack: AsyncExitStack, progress: Shown) -> list[tuple[ChatClient, str]]:
        """All log in, and receivers listen; returns each sender with its conversation."""
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        clients = [self._client(f"{self._run}-{side}{n}") for n in range(self._pairs) for side in "ab"]
        for done, client in enumerate(clients):
            await stack.enter_async_context(client)
            if done % _CONNECT_AT_ONCE == _CONNECT_AT_ONCE - 1:
                await client.wait_connected(_CONNECT_S)
                progress.step(Progress("connecting", done, len(clients)))
        for client in clients:
            await client.wait_connected(_CONNECT_S)
        for receiver in clients[1::2]:
            tasks.start_soon(self._receive, receiver)
        senders = clients[::2]
        return [(sender, await self._conversation(number)) for number, sender in enumerate(senders)]

    def _client(self, user_id: str) -> ChatClient:
        from ..client.client import ChatClient

        return ChatClient(self._url, token=self._token(user_id), device_id="bench")

    def _token(self, user_id: str) -> str:
        return sign_token(self._secret, user_id=user_id, ttl_s=_TTL_S)

    async def _conversation(self, number: int) -> str:
        """The one of a pair."""
        from ..client.api import ChatApi

        name = f"{self._run}-{number}"
        async with ChatApi(self._url, token=self._token(f"{self._run}-a{number}")) as api:
            await api.create_conversation("SINGLE", [f"{self._run}-b{number}"], conversation_id=name)
        return name

    async def _receive(self, client: ChatClient) -> None:
        from ..client.events import MessageReceived

        async for event in client.events():
            if isinstance(event, MessageReceived):
                words = str(event.message.payload.get("text", "")).split(" ", 1)[0]
                found = self._messages.get(words)
                if found is not None and found.delivered_s is None:
                    found.delivered_s = self._clock.now_s()
                    found.delivered.set()

    async def _talk(self, senders: Sequence[tuple[ChatClient, str]], progress: Shown) -> None:
        """Send at the rate, each pair in its turn; returns when all of it is answered."""
        total = round(self._rate * (_WARM_UP_S + self._seconds))
        began_s = self._clock.now_s()
        async with anyio.create_task_group() as tasks:
            for number in range(total):
                due_s = number / self._rate
                await anyio.sleep(max(0.0, began_s + due_s - self._clock.now_s()))
                client, conversation_id = senders[number % len(senders)]
                key = f"{self._run}-m{number}"
                self._messages[key] = _Message(began_s + due_s, counts=due_s >= _WARM_UP_S)
                tasks.start_soon(self._send, client, conversation_id, key)
                progress.step(Progress("measuring", number, total))

    async def _send(self, client: ChatClient, conversation_id: str, key: str) -> None:
        try:
            await client.send(conversation_id, f"{key} ".ljust(self._text, "."), timeout=_ANSWER_S)
        except ChatkitError as error:
            self._errors[error.code if isinstance(error, RefusedError) else type(error).__name__] += 1
        else:
            self._messages[key].acked_s = self._clock.now_s()

    def _result(self) -> BenchResult:
        counted = [it for it in self._messages.values() if it.counts]
        acks = [it.acked_s - it.sent_s for it in counted if it.acked_s is not None]
        deliveries = [it.delivered_s - it.sent_s for it in counted if it.delivered_s is not None]
        return BenchResult(
            run=self._run,
            pairs=self._pairs,
            seconds=self._seconds,
            sent=len(counted),
            acked=len(acks),
            delivered=len(deliveries),
            acked_per_s=round(len(acks) / self._seconds, 1),
            delivered_per_s=round(len(deliveries) / self._seconds, 1),
            send_to_ack_ms=_milliseconds(acks),
            delivery_ms=_milliseconds(deliveries),
            errors=dict(self._errors),
        )


def _milliseconds(times_s: Sequence[float]) -> Milliseconds:
    ordered = sorted(times_s)
    parts = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    if not ordered:
        return Milliseconds(**dict.fromkeys(parts))
    last = len(ordered) - 1
    return Milliseconds(
        **{
            name: round(1000 * ordered[min(last, int(part * len(ordered)))], 2)
            for name, part in parts.items()
        }
    )


def _lines(found: BenchResult) -> list[str]:
    lines = [
        f"{found.run}: {found.pairs} pairs, {found.seconds:g} s",
        f"sent {found.sent}, acknowledged {found.acked} ({found.acked_per_s:g}/s), "
        f"delivered {found.delivered} ({found.delivered_per_s:g}/s)",
        _line("send to ack", found.send_to_ack_ms),
        _line("delivery", found.delivery_ms),
    ]
    return lines + [f"failed: {count} with {name}" for name, count in sorted(found.errors.items())]


def _line(name: str, found: Milliseconds) -> str:
    parts = ((part, getattr(found, part)) for part in ("p50", "p95", "p99"))
    return f"{name:<12}" + "  ".join(
        f"{part.upper()} {'-' if it is None else f'{it:,.1f} ms'}" for part, it in parts
    )
