"""The moderator of a run, and whoever reviews: verdicts, delays and failures are drawn, and go into the history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import anyio
import msgspec

from chatkit.errors import ChatkitError
from chatkit.server.moderation.config import ModerationConfig
from chatkit.server.moderation.verdicts import (
    Allow,
    Hold,
    ModeratorVerdict,
    Refuse,
    Rewrite,
    Submission,
)
from chatkit.server.server import ChatServer
from chatkit.testing.rng import Stream
from chatkit.types import HeldMessage, Payload
from chatkit.wire.payload import encode

from ..dumps import CompleteHistory, Moderated

LOOKED_AT: Final = 20
"""Held messages that are looked at together."""


class ModerationPlan(msgspec.Struct, frozen=True):
    """What the moderator of a run is like.

    Attributes:
        refuse: The share of messages that are refused; so `rewrite` and `hold`.
        fail: The share of batches that it fails with: it raises, hangs, or answers nonsense.
        delay_s: The most that it takes.
    """

    refuse: float
    rewrite: float
    hold: float
    fail: float
    delay_s: float
    config: ModerationConfig


def draw_moderation(rng: Stream) -> ModerationPlan | None:
    """A moderator for one run in three."""
    if rng.random() >= 1 / 3:
        return None
    return ModerationPlan(
        refuse=rng.choice((0.05, 0.2)),
        rewrite=rng.choice((0.1, 0.3)),
        hold=rng.choice((0.0, 0.05, 0.15)),
        fail=rng.choice((0.0, 0.0, 0.1)),
        delay_s=rng.choice((0.0, 0.05, 1.5)),
        config=ModerationConfig(
            on_failure=rng.choice(("closed", "open")),
            timeout_s=1.0,
            parts_unseen=rng.random() < 0.5,
            retry_s=0.3,
            batch_max=rng.choice((1, 3, 100)),
            batches_max=rng.choice((1, 4)),
            queue_max=rng.choice((50, 10_000)),
            held_per_user_max=rng.choice((3, 100)),
            held_max=rng.choice((8, 10_000)),
            held_retry_s=rng.choice((0.3, 2.0)),  # 0.3: some are refused for now while their review ends
        ),
    )


class SimulatedModerator:
    """The moderator as one node asks it.

    Args:
        calm: Whether nothing is to fail any more.
    """

    def __init__(self, plan: ModerationPlan, rng: Stream, history: CompleteHistory, calm: Any) -> None:
        self._plan = plan
        self._rng = rng
        self._history = history
        self._calm = calm
        self._looked_at_s: dict[tuple[str, str, str], float] = {}

    def looked(self, sends: Sequence[tuple[str, str, str]]) -> None:
        """The node asks the store which of these are new, just now."""
        self._looked_at_s.update(dict.fromkeys(sends, anyio.current_time()))

    async def __call__(self, submissions: Sequence[Submission]) -> Any:
        """Verdicts, sooner or later, or none."""
        if not self._calm():
            try:
                await anyio.sleep(self._rng.uniform(0, self._plan.delay_s))
            except anyio.get_cancelled_exc_class():
                self._note(submissions, None)  # too late
                raise
            if self._rng.random() < self._plan.fail:
                self._note(submissions, None)
                return await self._fail(submissions)
        verdicts = [self._verdict(it) for it in submissions]
        self._note(submissions, verdicts)
        return verdicts

    async def _fail(self, submissions: Sequence[Submission]) -> Any:
        kind = self._rng.choice(("raise", "hang", "too few"))
        if kind == "raise":
            raise RuntimeError("the moderator is down")
        if kind == "hang":
            await anyio.sleep_forever()
        return [Allow()] * (len(submissions) - 1)

    def _verdict(self, it: Submission) -> ModeratorVerdict:
        drawn, plan = self._rng.random(), self._plan
        if drawn < plan.refuse:
            return Refuse("not here")
        if drawn < plan.refuse + plan.rewrite:
            return Rewrite(rewritten(it.text))
        if drawn < plan.refuse + plan.rewrite + plan.hold:
            return Hold("to be looked at")
        return Allow()

    def _note(self, submissions: Sequence[Submission], verdicts: Sequence[ModeratorVerdict] | None) -> None:
        """A failure may let messages through; so may a verdict that came too late."""
        fallback = "open" if self._plan.config.on_failure == "open" else ""
        for place, it in enumerate(submissions):
            verdict = None if verdicts is None else verdicts[place]
            key = (it.conversation_id, it.sender_id, it.client_msg_id)
            instead = None
            if isinstance(verdict, Rewrite):
                assert isinstance(verdict.content, str)
                instead = encode(_said_instead(it.payload, verdict.content))
            self._history.moderated.append(
                Moderated(
                    self._looked_at_s.get(key, 0.0),
                    anyio.current_time(),
                    key,
                    encode(it.payload),
                    "fail" if verdict is None else type(verdict).__name__.lower(),
                    instead,
                    fallback == "open",
                )
            )


def _said_instead(payload: Payload, text: str) -> Payload:
    """What is stored in place of a payload: an EDIT still names its message, a STREAM takes parts, and a TITLE, which
    has one text in a run, is one still. What it mentions and answers stays, and no other words."""
    rest = {name: value for name, value in payload.items() if name != "fallbackText"}
    if payload["type"] == "EDIT":
        return {**rest, "payload": _said_instead(payload["payload"], text)}
    if payload["type"] == "TITLE":
        return {**rest, "title" if payload.get("title") else "description": text}
    if payload["type"] == "STREAM":
        return {**rest, "text": text}
    kept: Payload = {name: payload[name] for name in ("mentions", "replyTo") if name in payload}
    return {"type": "TEXT", "text": text, **kept}


def rewritten(text: str) -> str:
    """What a moderator or a reviewer makes of a text; its canary is still in it."""
    return f"{text} (in other words)"


class Reviewer:
    """Whoever decides about what is held."""

    def __init__(self, rng: Stream, history: CompleteHistory) -> None:
        self._rng = rng
        self._history = history

    async def review_one(self, server: ChatServer) -> None:
        """Decide about one of the held messages, any of the first ones."""
        held = await server.held_messages(0, LOOKED_AT)
        if held:
            await self._decide(server, self._rng.choice(held), self._rng.random())

    async def review_all(self, server: ChatServer) -> int:
        """Release what is held; returns how many there were."""
        held = await server.held_messages(0, LOOKED_AT)
        for it in held:
            await self._decide(server, it, 1.0)
        return len(held)

    async def _decide(self, server: ChatServer, held: HeldMessage, drawn: float) -> None:
        decision = "refuse" if drawn < 0.5 else "rewrite" if drawn < 0.7 else "release"
        content = {"type": "TEXT", "text": rewritten(_words(held.payload))} if decision == "rewrite" else None
        call = self._history.invoke(
            "",
            "",
            "review",
            conversation_id=held.conversation_id,
            sender_id=held.sender_id,
            client_msg_id=held.client_msg_id,
            decision=decision,
            payload=content,
        )
        try:
            if decision == "refuse":
                await server.refuse_held(held.held_id, "not after all")
            else:
                await server.release_held(held.held_id, content=content)
        except ChatkitError as error:
            (self._history.info if error.retryable else self._history.fail)(call, error)
        except anyio.get_cancelled_exc_class() as cancelled:
            self._history.info(call, cancelled)
            raise
        else:
            self._history.ok(call)


def _words(payload: Payload) -> str:
    return str(payload.get("text") or payload.get("fallbackText"))
