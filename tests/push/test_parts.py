"""What all providers share: the push itself, cutting, the breaker, the slots, and the provider that only logs."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import anyio
import pytest

from chatkit.errors import BadRequestError, ClosedError, TooLargeError
from chatkit.ports import Ports
from chatkit.push._answers import retry_after_s
from chatkit.push._breaker import FAILURES_MAX, OPEN_MAX_S, OPEN_S, TRACKED_MAX, Breakers
from chatkit.push._http import Answer
from chatkit.push._payload import fitted
from chatkit.push._sender import Attempt, LostError, Sender
from chatkit.push.base import BATCH_MAX, Dead, Delivered, Push, Refused, Result, Retry, Unknown
from chatkit.push.log import LogPushProvider

FAILED = Retry(0.0, "no")
NOW_MS = 1_800_000_000_000


def push(**changes: Any) -> Push:
    plain: dict[str, Any] = {
        "token": "t" * 64,
        "collapse_id": "c",
        "conversation_id": "c",
        "message_id": "m",
        "expires_at_ms": 2**50,
        "title": "Ann",
        "body": "hello",
    }
    return Push(**(plain | changes))


class Clock:
    def __init__(self) -> None:
        self.s = 100.0

    def now_s(self) -> float:
        return self.s

    def now_ms(self) -> int:
        return NOW_MS + int(self.s * 1000)


class Half:
    def random(self) -> float:
        return 0.5


# The push


async def test_a_push_has_the_same_id_in_every_process() -> None:
    assert push().id == push(title="other", body=None, badge=3).id
    program = (
        "from chatkit.push.base import Push\n"
        "print(Push(token='t'*64,collapse_id='x',conversation_id='c',message_id='m',expires_at_ms=1).id)"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == push().id


async def test_another_device_or_message_has_another_id() -> None:
    others = [push(), push(token="u"), push(conversation_id="d"), push(message_id="n")]
    assert len({each.id for each in others}) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"token": ""},
        {"token": None},
        {"token": "t" * 5000},
        {"collapse_id": "c" * 300},
        {"message_id": 7},
        {"title": "x" * 30_000},
        {"body": b"x"},
        {"body": "\ud83d"},
        {"badge": -1},
        {"badge": True},
        {"badge": 2**60},
        {"expires_at_ms": 1.5},
        {"priority": "urgent"},
        {"data": [1]},
        {"data": {"a": 1}},
        {"data": {"": "x"}},
        {"data": {str(number): "x" for number in range(33)}},
    ],
)
async def test_a_push_that_cannot_be_is_refused_when_it_is_made(changes: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError) as caught:
        push(**changes)
    assert "x" * 50 not in str(caught.value)


# Cutting


def layout(title: str | None, body: str | None) -> dict[str, Any]:
    return {"title": title, "body": body}


@pytest.mark.parametrize("char", ["a", "ä", "漢", "\U0001f600", '"', "\\", "\x00", "\u2028"])
async def test_a_body_is_cut_by_whole_characters_and_stays_json(char: str) -> None:
    made = fitted(push(body=char * 10_000), layout, 500)
    assert made is not None
    found = json.loads(made)

    assert len(made) <= 500
    assert found["title"] == "Ann"
    assert found["body"] == char * (len(found["body"]) - 1) + "…"
    longer = json.dumps(found | {"body": char + found["body"]}, ensure_ascii=False, separators=(",", ":"))
    assert len(longer.encode()) > 500 - 6, "nothing that fits is cut"


async def test_what_fits_is_not_cut() -> None:
    for bytes_max in range(40, 60):
        made = fitted(push(), layout, bytes_max)
        assert made == b'{"title":"Ann","body":"hello"}'


async def test_the_title_is_cut_only_where_no_body_fits() -> None:
    made = fitted(push(title="T" * 1000), layout, 200)
    assert made is not None
    found = json.loads(made)

    assert found["body"] is None
    assert found["title"].endswith("T…")
    assert len(made) <= 200


async def test_data_is_never_cut() -> None:
    assert fitted(push(), lambda title, body: {"data": "x" * 500}, 400) is None
    assert fitted(push(title=None, body=None), lambda title, body: {"data": "x" * 500}, 400) is None


# Times to wait


@pytest.mark.parametrize(
    ("said", "wait_s"),
    [
        ("7", 7.0),
        ("", 0.0),
        ("soon", 0.0),
        ("-7", 0.0),
        ("٣", 0.0),
        ("9" * 4000, 999_999_999.0),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        ("Fri, 15 Jan 99999999 08:00:30 GMT", 0.0),
    ],
)
async def test_what_an_answer_says_of_the_time(said: str, wait_s: float) -> None:
    assert retry_after_s(Answer(503, {"retry-after": said}, b""), NOW_MS) == wait_s


# The breaker


def breakers(clock: Clock) -> Breakers:
    return Breakers(Ports(clock=clock, random=Half()))


def fail(subject: Breakers, times: int, service: str = "s") -> None:
    for _ in range(times):
        assert subject.wait_s(service) is None
        subject.saw(service, FAILED, was_asked=True)


async def test_a_breaker_opens_after_so_many_failures_in_a_row() -> None:
    subject = breakers(Clock())
    fail(subject, FAILURES_MAX - 1)
    assert subject.wait_s("s") is None
    subject.saw("s", Delivered(), was_asked=True)
    fail(subject, FAILURES_MAX)

    assert subject.wait_s("s") == OPEN_S * 1.25
    assert subject.wait_s("other") is None


async def test_one_try_after_a_while_and_longer_waits_each_time() -> None:
    clock = Clock()
    subject = breakers(clock)
    fail(subject, FAILURES_MAX)
    for doubled in (2, 4, 8, 16, 30, 30):
        clock.s += OPEN_MAX_S
        assert subject.wait_s("s") is None
        assert subject.wait_s("s") is not None, "one at a time"
        subject.saw("s", FAILED, was_asked=True)
        assert subject.wait_s("s") == OPEN_S * doubled * 1.25


@pytest.mark.parametrize("result", [Delivered(), Dead(), Refused(), Retry(1.0, failed=False)])
async def test_any_answer_closes_it(result: Result) -> None:
    clock = Clock()
    subject = breakers(clock)
    fail(subject, FAILURES_MAX)
    clock.s += OPEN_S
    assert subject.wait_s("s") is None
    subject.saw("s", result, was_asked=True)

    assert [subject.wait_s("s") for _ in range(3)] == [None] * 3


@pytest.mark.parametrize("given_up", [True, False])
async def test_a_try_that_told_nothing_leaves_room_for_another(given_up: bool) -> None:
    clock = Clock()
    subject = breakers(clock)
    fail(subject, FAILURES_MAX)
    clock.s += OPEN_S
    assert subject.wait_s("s") is None
    if given_up:
        subject.left("s")
    else:
        subject.saw("s", Refused("expired"), was_asked=False)

    assert subject.wait_s("s") is None
    assert subject.wait_s("s") is not None


async def test_late_failures_do_not_hold_it_open() -> None:
    clock = Clock()
    subject = breakers(clock)
    fail(subject, FAILURES_MAX)
    clock.s += OPEN_S / 2
    for _ in range(20):
        subject.saw("s", Unknown("late"), was_asked=True)

    assert subject.wait_s("s") == OPEN_S / 2 * 1.25


async def test_so_many_services_are_remembered() -> None:
    subject = breakers(Clock())
    for number in range(TRACKED_MAX + 50):
        fail(subject, 1, f"s-{number}")

    assert len(subject._failing) == TRACKED_MAX


async def test_waits_grow_and_are_never_shorter_than_asked_for() -> None:
    subject = breakers(Clock())
    waits = [subject.saw("s", FAILED, was_asked=True) for _ in range(4)]
    asked = subject.saw("s", Retry(100.0), was_asked=True)

    assert [wait.after_s for wait in waits if isinstance(wait, Retry)] == [1.0, 2.0, 4.0, 8.0]
    assert isinstance(asked, Retry)
    assert asked.after_s == 125.0


# The slots


async def test_so_many_are_under_way_of_all_calls_together() -> None:
    under_way = most = 0

    async def one(push: Push, attempt: Attempt) -> Result:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await anyio.sleep(0.005)
        under_way -= 1
        return Delivered()

    sender = Sender(one, ports=Ports(), in_flight_max=3)
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(sender.send, [push()] * 10)

    assert most == 3


async def test_no_push_begins_when_the_time_of_the_call_is_over() -> None:
    async def one(push: Push, attempt: Attempt) -> Result:
        attempt.left = True
        await anyio.sleep_forever()
        raise AssertionError

    sender = Sender(one, ports=Ports(), in_flight_max=1, timeout_s=0.05)
    with anyio.fail_after(2.0):
        results = await sender.send([push()] * 20)

    assert [type(result) for result in results][:1] == [Unknown]
    assert [type(result) for result in results][-15:] == [Retry] * 15


@pytest.mark.parametrize(
    ("left", "error", "kind"),
    [
        (False, LostError("no"), Retry),
        (True, LostError("no"), Unknown),
        (False, ValueError("secret-token"), Retry),
        (True, ValueError("secret-token"), Unknown),
    ],
)
async def test_what_never_left_may_be_tried_again_and_what_left_is_unknown(
    left: bool, error: Exception, kind: type[Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def one(push: Push, attempt: Attempt) -> Result:
        attempt.left = left
        if push.message_id == "bad":
            raise error
        return Delivered()

    bad, good = await Sender(one, ports=Ports()).send([push(message_id="bad"), push()])

    assert type(bad) is kind
    assert good == Delivered()
    assert "secret-token" not in caplog.text + repr(bad)
    assert ("ValueError at test_parts.py" in caplog.text) is isinstance(error, ValueError)


# The log


async def test_the_log_says_that_a_push_was_due_and_not_what(caplog: pytest.LogCaptureFixture) -> None:
    provider = LogPushProvider()
    with caplog.at_level(logging.DEBUG):
        assert await provider.send([push(), push(expires_at_ms=1)]) == [
            Delivered(push().id),
            Refused("expired"),
        ]

    assert caplog.messages == [f"push {push().id} was due: message m"]
    with pytest.raises(TooLargeError):
        await provider.send([push()] * (BATCH_MAX + 1))
    await provider.aclose()
    with pytest.raises(ClosedError):
        await provider.send([])


# Optional packages


@pytest.mark.parametrize(
    ("missing", "program"),
    [
        (
            "h2",
            "from chatkit.push.apns import ApnsPushProvider as P; P(key=k, key_id='k', team_id='t', topic='t')",
        ),
        (
            "jwt",
            "from chatkit.push.apns import ApnsPushProvider as P; P(key=k, key_id='k', team_id='t', topic='t')",
        ),
        (
            "cryptography",
            "from chatkit.push.webpush import WebPushProvider as P; P(key=k, contact='mailto:a@b.c')",
        ),
        (
            "http_ece",
            "from chatkit.push.webpush import WebPushProvider as P; P(key=k, contact='mailto:a@b.c')",
        ),
        ("google", "from chatkit.push.fcm import FcmPushProvider as P; P(project_id='p', credentials='x')"),
    ],
)
async def test_a_missing_package_names_the_extra(missing: str, program: str) -> None:
    from .stages import PEM

    lines = [
        f"import sys; sys.modules[{missing!r}] = None",
        f"k = {PEM!r}",
        f"try: exec({program!r})",
        "except Exception as error: print(type(error).__name__, error)",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith("ConfigurationError")
    assert "pip install 'chatkit-engine[push]'" in done.stdout


async def test_what_needs_no_extra_does_without() -> None:
    program = (
        "import sys\n"
        "for name in ('h2', 'jwt', 'cryptography', 'google', 'http_ece'): sys.modules[name] = None\n"
        "import chatkit.push.apns, chatkit.push.fcm, chatkit.push.webpush\n"
        "from chatkit.push.log import LogPushProvider\n"
        "from chatkit.push.webhook import WebhookPushProvider\n"
        "LogPushProvider(); WebhookPushProvider(url='https://example.org', secret='s' * 32); print('fine')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("fine\n", "")
