"""Asks the host's moderator: the only place where anything waits for it. What it answers is held to what it may be.

A moderator that fails is logged when it begins to, and when it works again; in between it is counted.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from typing import Any, Final

import anyio
import msgspec
from anyio.abc import TaskGroup

from ...errors import ConfigurationError, RefusedError
from ...storage.base import Append, Verdict
from ...wire.payload import canonical
from .config import ModerationConfig
from .rewriting import with_text
from .verdicts import Allow, Hold, Moderator, Refuse, Rewrite, Submission

logger = logging.getLogger(__name__)

REASON_MAX: Final = 256


class _NoAnswerError(Exception):
    """What came is none."""


class _Call:
    """One call of the moderator, which may go on after nobody waits for it any more."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.scope = anyio.CancelScope()
        self.answer: object = None
        self.error: Exception | None = None


class Asking:
    """The host's moderator, with a deadline and a stated answer when it fails.

    Args:
        moderator: Async or not; one that is not must not wait, since everybody waits with it.
        config: Its deadline and what its failure means.

    Attributes:
        last_failure: What went wrong the last time; None if nothing did.

    Raises:
        ConfigurationError: It cannot be called.
    """

    def __init__(self, moderator: Moderator, config: ModerationConfig) -> None:
        if not callable(moderator):
            raise ConfigurationError("moderator must be an async callable from submissions to verdicts")
        self._moderator = moderator
        self._config = config
        self._hanging = 0
        self.last_failure: str | None = None
        bounds, retry_ms = config.bounds, config.retry_ms
        self.allowed = Verdict("ALLOW", bounds=bounds, retry_ms=retry_ms)
        self.unasked = Verdict("UNASKED", bounds=bounds, retry_ms=retry_ms)
        self._on_failure = self.allowed if config.on_failure == "open" else self.unasked

    async def ask(self, tasks: TaskGroup, commands: Sequence[Append]) -> tuple[list[Verdict], str | None]:
        """The verdict for each message, and what went wrong, if anything did. Never raises.

        Args:
            tasks: Where the call runs. One that does not end at its deadline, nor when it is cancelled, is left there;
                while as many hang as may run at once, the moderator is not called.
            commands: The messages.
        """
        try:
            answers = await self._answers(tasks, [_submission(it) for it in commands])
        except Exception as error:  # of a stranger's function: whatever it is
            failure = (
                f"{type(error).__name__}: {error}"
                if isinstance(error, _NoAnswerError)
                else type(error).__name__
            )
            self._note(failure)
            return [self._on_failure] * len(commands), failure
        verdicts, failure_of_one = [], None
        for answer, command in zip(answers, commands, strict=True):
            try:
                verdicts.append(self._verdict(answer, command))
            except (_NoAnswerError, RefusedError) as error:
                failure_of_one = str(error)
                verdicts.append(self._on_failure)
        self._note(failure_of_one)
        return verdicts, failure_of_one

    async def _answers(self, tasks: TaskGroup, submissions: list[Submission]) -> Sequence[object]:
        if self._hanging >= self._config.batches_max:
            raise _NoAnswerError(f"{self._hanging} earlier calls of it do not end")
        call = _Call()
        tasks.start_soon(self._run, call, submissions)
        with anyio.move_on_after(self._config.timeout_s):
            await call.done.wait()
        if not call.done.is_set():
            self._hanging += 1
            call.scope.cancel()
            raise TimeoutError
        if call.error is not None:
            raise call.error
        answer = call.answer
        if not isinstance(answer, list | tuple):
            raise _NoAnswerError(f"it returned {type(answer).__name__}, not a list of verdicts")
        if len(answer) != len(submissions):
            raise _NoAnswerError(f"it returned {len(answer)} verdicts for {len(submissions)} messages")
        return answer

    async def _run(self, call: _Call, submissions: list[Submission]) -> None:
        late = False
        try:
            with call.scope:
                answer: Any = self._moderator(submissions)
                call.answer = await answer if inspect.isawaitable(answer) else answer
        except Exception as error:
            call.error = error
        finally:
            late = call.scope.cancel_called
            call.done.set()
            self._hanging -= late

    def _verdict(self, answer: object, command: Append) -> Verdict:
        """Raises _NoAnswerError or RefusedError."""
        bounds, retry_ms = self._config.bounds, self._config.retry_ms
        match answer:
            case Allow():
                return self.allowed
            case Refuse():
                return Verdict("REFUSE", _reason(answer.reason), None, bounds, retry_ms)
            case Hold():
                return Verdict("HOLD", _reason(answer.reason), None, bounds, retry_ms)
            case Rewrite():
                content = answer.content
                if isinstance(content, str):
                    content = with_text(msgspec.json.decode(command.payload), content)
                return Verdict("ALLOW", "", canonical(content), bounds, retry_ms)
        raise _NoAnswerError(f"it returned {type(answer).__name__} for a message, not a verdict")

    def _note(self, failure: str | None) -> None:
        if failure is not None and self.last_failure is None:
            held_to = "stored as they are" if self._config.on_failure == "open" else "refused for now"
            logger.error("the moderator failed, and messages are %s: %s", held_to, failure)
        elif failure is None and self.last_failure is not None:
            logger.warning("the moderator works again")
        self.last_failure = failure


def _submission(command: Append) -> Submission:
    return Submission(
        command.conversation_id,
        command.sender_id,
        command.client_msg_id,
        msgspec.json.decode(command.payload),
        command.at_ms,
    )


def _reason(reason: object) -> str:
    """Words that every store and every client can hold. Raises _NoAnswerError."""
    if not isinstance(reason, str) or len(reason) > REASON_MAX or "\x00" in reason:
        raise _NoAnswerError(f"the reason of a verdict is a text of at most {REASON_MAX} characters")
    try:
        reason.encode()
    except UnicodeEncodeError:
        raise _NoAnswerError("the reason of a verdict holds a lone surrogate") from None
    return reason
