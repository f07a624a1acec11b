"""What is killed in the middle: one request each, or one burst of them, of every kind that changes the store.

`arrange` runs before the kill is set up and what it did must outlive everything; `act` is what is cut. After the
restart `act` runs once more, as a client would send again what it got no answer to, and must finish the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed

from tests.blackbox.peer import send_msg

from .stage import ALICE, BOB, CAROL, DAVE, GROUP, MESSAGES, Stage

BATCH = 12
SENDS_PAST_CHECKPOINT = 6

Told = list[bytes]
"""Answers as they came, one item each."""


def _nothing(stage: Stage) -> None:
    """There is nothing to arrange."""


@dataclass(frozen=True)
class Workload:
    """One kind of request.

    Attributes:
        act: Yields each answer as it arrives, in the order in which the store changes; takes what `arrange` returned.
        follow: Waits for what leaves after the last answer.
        repeats: Whether the same request again gets the identical answer.
        long_log: Whether it starts from the file whose write-ahead log is nearly full.
    """

    name: str
    act: Callable[[Stage, Any], Iterator[bytes]]
    arrange: Callable[[Stage], Any] = _nothing
    follow: Callable[[Stage], None] = _nothing
    repeats: bool = True
    long_log: bool = False


def until_cut(answers: Iterable[bytes]) -> Told:
    """The answers up to the last, or up to where the connection broke."""
    told: Told = []
    try:
        for answer in answers:
            told.append(answer)
    except (ConnectionClosed, httpx.TransportError, OSError):
        pass  # what was told until here is what counts
    return told


def _send(stage: Stage, _: Any) -> Iterator[bytes]:
    yield stage.alice.say(GROUP, "the message", "the-message").raw


def _pushed(stage: Stage) -> None:
    stage.bob.expect("NEW_MSG")


def _batch(stage: Stage, _: Any) -> Iterator[bytes]:
    """Several messages in one frame."""
    keys = [f"batch-{number}" for number in range(BATCH)]
    stage.alice.send(*(send_msg(GROUP, key, key) for key in keys))
    for key in keys:
        yield stage.alice.expect("MSG_ACK", clientMsgId=key).raw


def _past_checkpoint(stage: Stage, _: Any) -> Iterator[bytes]:
    """Messages one after the other; one of them makes the write-ahead log long enough to be copied back."""
    for number in range(SENDS_PAST_CHECKPOINT):
        yield stage.alice.say(GROUP, f"past {number}", f"past-{number}").raw


def _own_message(stage: Stage) -> str:
    message_id: str = stage.alice.say(GROUP, "to be recalled", "to-be-recalled")["messageId"]
    return message_id


def _recall(stage: Stage, message_id: str) -> Iterator[bytes]:
    yield stage.alice.ask("RECALL", ref="recall", messageId=message_id).raw


def _last_unconfirmed(stage: Stage) -> str:
    """A message that only carol's phone has not confirmed."""
    message_id: str = stage.alice.say(GROUP, "to be confirmed", "to-be-confirmed")["messageId"]
    for user in (ALICE, BOB):
        _http(stage.api(user).post(f"/v1/messages/{message_id}/delivered"), 204)
    return message_id


def _delivered(stage: Stage, message_id: str) -> Iterator[bytes]:
    yield _http(stage.api(CAROL).post(f"/v1/messages/{message_id}/delivered"), 204)


def _warm(stage: Stage) -> None:
    stage.warm()


def _read(stage: Stage, _: Any) -> Iterator[bytes]:
    query = {"upToSeq": MESSAGES + 1}
    yield _http(stage.api(BOB).post(f"/v1/conversations/{GROUP}/read", params=query), 200)


def _remove(stage: Stage, _: Any) -> Iterator[bytes]:
    """Whoever asks for it again is told that there is no such member any more."""
    yield _http(stage.world.remove(ALICE, GROUP, CAROL), 200, 404)


def _add(stage: Stage, _: Any) -> Iterator[bytes]:
    yield _http(stage.world.add(ALICE, GROUP, DAVE), 200)


def _create(stage: Stage, _: Any) -> Iterator[bytes]:
    yield _http(stage.api(ALICE).create("GROUP", [ALICE, BOB, DAVE], "another-group"), 201, 200)


def _say_some(stage: Stage) -> None:
    for number in range(MESSAGES):
        stage.alice.say(GROUP, f"said {number}", f"said-{number}")


def _stop(stage: Stage, _: Any) -> Iterator[bytes]:
    """A stop in good order, which copies the write-ahead log back and takes it away."""
    stage.server.terminate()
    stage.server.exit_code()
    yield from ()


def _http(response: httpx.Response, *expected: int) -> bytes:
    assert response.status_code in expected, response.text
    return response.content


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("send", _send, follow=_pushed),
        Workload("batch", _batch, follow=_pushed),
        Workload("recall", _recall, _own_message),
        Workload("remove", _remove, _warm, repeats=False),
        Workload("add", _add, _warm, repeats=False),
        Workload("create", _create, _warm, repeats=False),
        Workload("delivered", _delivered, _last_unconfirmed),
        Workload("read", _read, _warm),
        Workload("checkpoint", _past_checkpoint, long_log=True),
        Workload("stop", _stop, _say_some),
    )
}
