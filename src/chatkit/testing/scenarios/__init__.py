"""wip"""

from __future__ import annotations

import tempfile
from pathlib import Path

from msgspec.structs import replace

from ..simulation.plan import Storage
from ..virtual_time import run_virtual
from . import catching_up, connecting, nodes, sending
from .membership import late_joiner_and_rejoin, removal_whose_answer_was_lost
from .scenario import SERVER, Outcome, Scenario
from .stage import MakeStore, Stage

ONE = replace(SERVER, commit_batch_max=1)
SCENARIOS = {
 **{n.replace("_","-"): Scenario(line="x", play=getattr(catching_up, n)) for n in (
 "recall_overtakes_its_message","restored_log_with_a_new_epoch","receipts_missed_offline")},
 **{n.replace("_","-"): Scenario(line="x", play=getattr(nodes, n), nodes=2) for n in (
 "two_nodes_all_hints_lost","removed_through_the_other_node", "resend_through_the_other_node")},
    "commit-between-hub-and-heads": Scenario(
        line="x", play=connecting.commit_between_hub_and_heads, window_bytes=20_000
    ),
    "slow-reader-behind-then-caught-up": Scenario(
        line="x",
        play=connecting.slow_reader_behind_then_caught_up,
        window_bytes=2_000,
        server=replace(SERVER, send_buffer_bytes=3_000),
    ),
    **{
        n.replace("_", "-"): Scenario(line="x", play=getattr(connecting, n))
        for n in ("lost_welcome", "late_hello", "half_open_line", "duplicate_devices_replaced")
    },
    **{
        n.replace("_", "-"): Scenario(line="x", play=getattr(sending, n), server=ONE)
        for n in (
            "refusal_in_the_middle_of_a_pipeline",
            "refused_then_seen_in_the_log",
            "reconnect_between_send_and_commit",
            "server_crash_after_commit_before_ack",
            "server_crash_before_commit",
            "app_crash_with_pending_sends",
            "drain_while_sending",
        )
    },
    "late-joiner-and-rejoin": Scenario(line="x", play=late_joiner_and_rejoin),
    "removal-whose-answer-was-lost": Scenario(line="x", play=removal_whose_answer_was_lost),
}


def run_scenario(name: str, seed: int = 0, store: Storage | MakeStore = "memory") -> Outcome:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        return run_virtual(_run, SCENARIOS[name], seed, store, Path(folder), seed=seed)


async def _run(scenario: Scenario, seed: int, store: Storage | MakeStore, folder: Path) -> Outcome:
    async with Stage(scenario, seed, store, folder) as stage:
        return await stage.played()
