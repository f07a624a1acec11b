"""Every scenario holds on both stores, and each falls to a fault of the kind that it is there for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from chatkit.client._reconnect import Ended, ReconnectLoop
from chatkit.client.conversation import Conversation, Conversations
from chatkit.client.store.sqlite import SqliteStore as LocalSqliteStore
from chatkit.core.resend import PendingSend, ResendQueue
from chatkit.core.timeline import Step, Timeline, recall_target
from chatkit.errors import ConfigurationError
from chatkit.server.committer import Committer
from chatkit.server.live.hub import Hub
from chatkit.server.publisher import Publisher
from chatkit.server.session import Session as ServerSession
from chatkit.server.watchdog import Watchdog
from chatkit.storage.base import Command, Entry, Outcome, Page
from chatkit.storage.memory import MemoryStore
from chatkit.types import Message

from .scenarios import (
    SCENARIOS,
    PromiseBrokenError,
    Scenario,
    TrapNotSetOffError,
    run_scenario,
)
from .scenarios import __main__ as command
from .scenarios.demands import holds, require
from .scenarios.stage import Stage
from .simulation.plan import Storage

# --- they hold ---


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_it_holds(name: str, store: Storage, seed: int) -> None:
    outcome = run_scenario(name, seed, store)

    assert outcome.alarms == []
    assert [str(violation) for violation in outcome.verdict.violations] == []


def test_it_holds_with_a_store_of_ones_own() -> None:
    assert run_scenario("late-joiner-and-rejoin", store=lambda ids: MemoryStore(ids=ids)).good


def test_a_seed_is_one_history() -> None:
    digests = [run_scenario("lost-welcome", seed).history.digest() for seed in (1, 1, 2)]

    assert digests[0] == digests[1] != digests[2]


# --- they bite: stores ---


class NoHoles(MemoryStore):
    """Its pages end before the first entry that the reader may not see, and never step over it."""

    async def page(
        self, conversation_id: str, user_id: str, after_seq: int, *bounds: Any, **how: Any
    ) -> Page:
        page = await super().page(conversation_id, user_id, after_seq, *bounds, **how)
        entries = tuple(entry for at, entry in enumerate(page.entries, after_seq + 1) if entry.seq == at)
        return replace(page, entries=entries, up_to_seq=after_seq + len(entries))


class AllToEverybody(MemoryStore):
    """Its pages show the whole log to every member."""

    async def page(self, conversation_id: str, user_id: str, *args: Any, **how: Any) -> Page:
        return await super().page(conversation_id, "ann", *args, **how)


class Forgetful(MemoryStore):
    """It knows a sender's key only as long as the transaction lasts."""

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        outcomes = await super().commit(commands)
        for log in self._tables.by_id.values():
            log.by_client_id.clear()
        return outcomes


@pytest.mark.parametrize(
    ("name", "store"),
    [
        ("late-joiner-and-rejoin", NoHoles),
        ("late-joiner-and-rejoin", AllToEverybody),
        ("server-crash-after-commit-before-ack", Forgetful),
        ("reconnect-between-send-and-commit", Forgetful),
        ("refused-then-seen-in-the-log", Forgetful),
        ("app-crash-with-pending-sends", Forgetful),
        ("restored-log-with-a-new-epoch", Forgetful),
        ("resend-through-the-other-node", Forgetful),
    ],
)
def test_a_bad_store_is_found(name: str, store: type[MemoryStore]) -> None:
    with pytest.raises(PromiseBrokenError):
        run_scenario(name, store=lambda ids: store(ids=ids))


# --- they bite: servers and clients ---


def nothing(*_: Any, **__: Any) -> None:
    """What somebody forgot to write."""


async def nothing_at_all(*_: Any, **__: Any) -> None:
    """The same, awaited."""


def forgets_early_recalls(self: Timeline, message: Message, step: Step) -> None:
    target = recall_target(message)
    if target in self._held:
        step.recalled_seqs.append(target)
        self._blank(target)


def forgets_what_was_under_way(self: ResendQueue) -> None:
    for key in list(self._sent_at_s):
        self.resolve(*key)
    self._due.clear()


def holds_nothing_back(self: Publisher, pending: Any, error: Any) -> None:
    command = pending.command
    pending.session.refuse(error, pending.ref, command.conversation_id, command.client_msg_id)


def applies_out_of_turn(self: Hub, entry: Entry, origin: Any, apply: Any = Hub.publish) -> Any:
    audience = self.audience(entry.conversation_id)
    if audience is not None:
        audience.position = max(audience.position, entry.seq - 1)
    return apply(self, entry, origin)


def keeps_the_old_one(self: Hub, session: Any, conversations: Any, join: Any = Hub.join) -> None:
    join(self, session, conversations)


def heads_are_the_truth(self: Conversations, *args: Any, adopt: Any = Conversations.adopt) -> Any:
    self.unknown.pop(args[0], None)
    return adopt(self, *args)


def no_pending(self: LocalSqliteStore) -> list[PendingSend]:
    return []


@pytest.mark.parametrize(
    ("name", "whose", "what", "instead"),
    [
        ("removal-whose-answer-was-lost", Hub, "publish", applies_out_of_turn),
        ("removed-through-the-other-node", Hub, "publish", applies_out_of_turn),
        ("two-nodes-all-messages-lost", Watchdog, "_check_heads", nothing_at_all),
        ("refusal-in-the-middle-of-a-pipeline", Publisher, "refuse_send", holds_nothing_back),
        ("refused-then-seen-in-the-log", ResendQueue, "_is_owed", nothing),
        ("server-crash-before-commit", ResendQueue, "disconnected", forgets_what_was_under_way),
        ("app-crash-with-pending-sends", LocalSqliteStore, "pending", no_pending),
        ("drain-while-sending", Committer, "flush", nothing_at_all),
        ("commit-between-hub-and-heads", Conversations, "adopt", heads_are_the_truth),
        ("lost-welcome", Ended, "token_refused", False),
        ("late-hello", ReconnectLoop, "_replaced_by_itself", nothing),
        ("half-open-line", Watchdog, "_check_deadlines", nothing_at_all),
        ("slow-reader-behind-then-caught-up", ServerSession, "mark_behind", nothing),
        ("duplicate-devices-replaced-4201", Hub, "join", keeps_the_old_one),
        ("recall-overtakes-its-message", Timeline, "_note_recall", forgets_early_recalls),
        ("restored-log-with-a-new-epoch", Conversation, "renewed", nothing),
        ("receipts-missed-offline", Conversation, "others_rise", nothing),
    ],
)
def test_a_fault_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, whose: object, what: str, instead: object
) -> None:
    monkeypatch.setattr(whose, what, instead)

    with pytest.raises(PromiseBrokenError):
        run_scenario(name)


def test_each_scenario_is_shown_to_bite() -> None:
    marks = [*test_a_bad_store_is_found.pytestmark, *test_a_fault_is_found.pytestmark]  # type: ignore[attr-defined]  # pytest's

    assert {case[0] for mark in marks for case in mark.args[1]} == set(SCENARIOS)


# --- what goes wrong is told ---


async def nothing_to_see(stage: Stage) -> None:
    require(False, "something happens")


async def not_as_promised(stage: Stage) -> None:
    holds(False, "it is as promised")


async def loses_a_message_behind_everybody(stage: Stage) -> None:
    """What the checker alone can see."""
    await stage.host.create("c-1", "ann", "bob")
    await stage.host.send("c-1", "ann", "m-1")
    stage.history.calls[-1].answer["seq"] = 7


async def stays_away(stage: Stage) -> None:
    await stage.host.create("c-1", "ann", "bob")
    await stage.device("ann", node=None)


def test_a_trap_that_is_not_set_off_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCENARIOS, "it", Scenario(play=nothing_to_see))

    with pytest.raises(TrapNotSetOffError, match="something happens"):
        run_scenario("it")


def test_a_device_that_lacks_something_in_the_end_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCENARIOS, "it", Scenario(play=stays_away))

    with pytest.raises(PromiseBrokenError, match="ann/phone lacks c-1 up to seq 1"):
        run_scenario("it")


def test_what_the_checker_finds_is_in_the_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCENARIOS, "it", Scenario(play=loses_a_message_behind_everybody))

    outcome = run_scenario("it")

    assert not outcome.good
    assert "S1" in {violation.invariant for violation in outcome.verdict.violations}


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no scenario 'nowhere'; there are late-joiner-and-rejoin"):
        run_scenario("nowhere")


# --- the command ---


def test_it_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[::2] == list(SCENARIOS)
    assert all(line.startswith("    ") and line.strip() for line in lines[1::2])


def test_it_plays_those_that_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        command.main(["late-hello", "lost-welcome", "--seed", "4", "--seeds", "2", "--store", "sqlite"]) == 0
    )

    assert capsys.readouterr().out.splitlines() == [
        "late-hello seed 4: good",
        "late-hello seed 5: good",
        "lost-welcome seed 4: good",
        "lost-welcome seed 5: good",
    ]


@pytest.mark.parametrize(
    ("play", "told"),
    [
        (nothing_to_see, "it seed 0: TrapNotSetOffError: not so: something happens"),
        (not_as_promised, "it seed 0: PromiseBrokenError: not so: it is as promised"),
        (loses_a_message_behind_everybody, "it seed 0: BAD\nS1 "),
    ],
)
def test_it_fails_with_what_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], play: Any, told: str
) -> None:
    monkeypatch.setitem(SCENARIOS, "it", Scenario(play=play))

    assert command.main(["it"]) == 1
    assert capsys.readouterr().out.startswith(told)


def test_it_refuses_an_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        command.main(["nowhere"])

    assert refused.value.code == 2
    assert "there is no scenario nowhere" in capsys.readouterr().err
