"""Holds the history of a run against what chatkit promises at every moment: the invariants, each with its number.

    verdict = check(history)
    for violation in verdict.violations:
        print(report(history, violation))

Reads a `CompleteHistory` and nothing else. Which calls it knows, and what it takes from their arguments and answers:

- `send`: `conversation_id`, `client_msg_id`, `payload`; answer: the fields of `chatkit.types.Sent`
- `recall`: `message_id`; answer: the fields of `Sent`
- `create`: answer: `conversation_id`, and `type` if it is told
- `add`, `remove`: `conversation_id`, `user_ids`; answer: the fields of `storage.base.Conversation`
- `mark_read`: `conversation_id`, `up_to_seq`
- `history`: `conversation_id`, `before_seq`, `limit`; answer: `items`, a list of `chatkit.types.Message`
- `page`: `last_seq`, `limit`; answer: the fields of `storage.base.Page`
- `list`: answer: `items`, a list of `storage.base.ListedConversation`; with `limit`, and without `after`, it is asked
  whether all are there
- `review`: `conversation_id`, `sender_id`, `client_msg_id`, `decision` (refuse, release, rewrite), `payload` (instead)
- `renew_epoch`: `conversation_id`; answer: the new epoch as `epoch` or `value`

Of others it only asks that they return. Of each with `timeout_s` it asks that it returns by then, to the millisecond:
whoever records notes it in virtual time only, for a real machine may be late.

Whoever records must note a frame upwards before the server takes it and a frame downwards when the device gets it, dump
every conversation that was created, and keep each device's local store for as long as the device has its name (an app
is told everything once per local store). A log that was replaced by an older copy of it must be told of by an
incident `restored` (`RESTORED`).

Not judged: S12 (crash states: each of them is a history of its own), S21 and L4 (there is no push
yet), L3, L6 to L8, L10.
"""

from __future__ import annotations

from ..dumps import CompleteHistory
from .index import RESTORED, Index
from .invariants import INVARIANTS
from .report import report
from .verdict import Breach, Invariant, Verdict, Violation

__all__ = ["INVARIANTS", "RESTORED", "Breach", "Invariant", "Verdict", "Violation", "check", "report"]


def check(
    history: CompleteHistory, *, recall_window_ms: int | None = None, quiescent: bool = True
) -> Verdict:
    """Hold a history against every invariant that it can be judged by.

    Args:
        history: What happened. Without `store`, what needs the log is not judged; without `devices`, nor is what
            needs them: `Verdict.unjudged` says so.
        recall_window_ms: How long after sending an author may recall; None does not judge that.
        quiescent: The run ended in peace: the faults were over, everybody connected and in time to have everything.
            Otherwise nothing is asked of the end.

    Returns:
        Every violation, and how many facts each invariant looked at. Pure; raises nothing for any history that keeps
        to the argument and answer names above.
    """
    index = Index(history, recall_window_ms, quiescent)
    violations: list[Violation] = []
    facts: dict[str, int] = {}
    for invariant in INVARIANTS.values():
        findings = list(invariant.find(index))
        facts[invariant.number] = len(findings)
        for found in filter(None, findings):
            violations.append(Violation(invariant.number, invariant.title, found))
    return Verdict(violations, facts)
