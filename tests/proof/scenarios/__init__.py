"""The contract's own traps, each as a short script by name: real servers, real devices, virtual time, one seed.

    outcome = run_scenario("lost-welcome", seed=7, store="sqlite")
    assert outcome.good

A scenario brings about one situation in which chat systems lose, double or show what they must not, proves that it
did come about, demands what is promised, and hands the whole history to the checker. With a store of one's own in the
place of `store` it is a trial of that store. From the command line: `python -m tests.proof.scenarios`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from chatkit.errors import ConfigurationError
from chatkit.testing.virtual_time import run_virtual

from ..simulation.plan import Storage
from . import catching_up, connecting, membership, nodes, sending
from .scenario import SERVER, Outcome, PromiseBrokenError, Scenario, TrapNotSetOffError
from .stage import MakeStore, Stage

__all__ = [
    "SCENARIOS",
    "MakeStore",
    "Outcome",
    "PromiseBrokenError",
    "Scenario",
    "TrapNotSetOffError",
    "run_scenario",
]

_ONE_BY_ONE: Final = replace(SERVER, commit_batch_max=1)
_IN_MEMORY = Path("/dev/shm")

SCENARIOS: Final[dict[str, Scenario]] = {
    "late-joiner-and-rejoin": Scenario(play=membership.late_joiner_and_rejoin),
    "removal-whose-answer-was-lost": Scenario(play=membership.removal_whose_answer_was_lost),
    "refusal-in-the-middle-of-a-pipeline": Scenario(
        play=sending.refusal_in_the_middle_of_a_pipeline, server=_ONE_BY_ONE
    ),
    "refused-then-seen-in-the-log": Scenario(play=sending.refused_then_seen_in_the_log, server=_ONE_BY_ONE),
    "reconnect-between-send-and-commit": Scenario(play=sending.reconnect_between_send_and_commit),
    "server-crash-after-commit-before-ack": Scenario(play=sending.server_crash_after_commit_before_ack),
    "server-crash-before-commit": Scenario(play=sending.server_crash_before_commit),
    "app-crash-with-pending-sends": Scenario(play=sending.app_crash_with_pending_sends, server=_ONE_BY_ONE),
    "drain-while-sending": Scenario(play=sending.drain_while_sending, server=_ONE_BY_ONE),
    "commit-between-hub-and-heads": Scenario(
        play=connecting.commit_between_hub_and_heads, window_bytes=20_000
    ),
    "lost-welcome": Scenario(play=connecting.lost_welcome),
    "late-hello": Scenario(play=connecting.late_hello),
    "half-open-line": Scenario(play=connecting.half_open_line),
    "slow-reader-behind-then-caught-up": Scenario(
        play=connecting.slow_reader_behind_then_caught_up,
        server=replace(SERVER, send_buffer_bytes=3_000),
        window_bytes=2_000,
    ),
    "duplicate-devices-replaced-4201": Scenario(play=connecting.duplicate_devices_replaced),
    "recall-overtakes-its-message": Scenario(play=catching_up.recall_overtakes_its_message),
    "restored-log-with-a-new-epoch": Scenario(play=catching_up.restored_log_with_a_new_epoch),
    "receipts-missed-offline": Scenario(play=catching_up.receipts_missed_offline),
    "two-nodes-all-messages-lost": Scenario(play=nodes.two_nodes_all_messages_lost, nodes=2),
    "removed-through-the-other-node": Scenario(play=nodes.removed_through_the_other_node, nodes=2),
    "resend-through-the-other-node": Scenario(play=nodes.resend_through_the_other_node, nodes=2),
}
"""By name."""


def run_scenario(name: str, seed: int = 0, store: Storage | MakeStore = "memory") -> Outcome:
    """Play a scenario to its end, in virtual time.

    Args:
        name: One of `SCENARIOS`.
        seed: Draws delays, jitter, ids and the order of tasks.
        store: The servers' store: `memory`, `sqlite` (in a file, without threads), or what makes an empty one of one's
            own. That must not use threads or real sockets, which do not live in virtual time.

    Returns:
        The history, the checker's verdict, and alarms; `good` if nothing is wrong.

    Raises:
        ConfigurationError: There is no such scenario.
        PromiseBrokenError: A demand of the scenario was not met, or not everybody had everything in the end.
        TrapNotSetOffError: The situation did not come about, so nothing was shown.
    """
    scenario = SCENARIOS.get(name)
    if scenario is None:
        raise ConfigurationError(f"there is no scenario {name!r}; there are {', '.join(SCENARIOS)}")
    with tempfile.TemporaryDirectory(dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None) as folder:
        return run_virtual(_play, scenario, seed, store, Path(folder), seed=seed)


async def _play(scenario: Scenario, seed: int, store: Storage | MakeStore, folder: Path) -> Outcome:
    async with Stage(scenario, seed, store, folder) as stage:
        return await stage.played()
