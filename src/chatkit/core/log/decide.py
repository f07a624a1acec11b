"""What a batch of commands does: which rows it needs, what becomes of each command, and what is to be written.

    keys = keys_of(commands)                     # or with `assume_new`, which may be in vain: `MayBeRepeatError`
    state = State()                              # the store loads `keys` into it
    more = keys_after(state, commands)           # and `more`, unless it is None
    outcomes, changes = decide(state, commands)  # the store writes `changes`
    outboxes = outboxes_of(changes, held)        # `held` was read before that, only for forgotten devices
    rows = close_confirmed(outboxes, leasts)     # `leasts` from one query over the cursors as they are then

`storage.transaction` calls them in this order for every store.
The flows are in `messages`, `streams`, `importing`, `moderation`, `reports`, `cursors`, `members`, `standing`,
`blocks`, `sessions`, `access` and `pushing`, each next to the keys that it needs. Why it is so:
docs/design/0005-one-decision-core.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ...errors import RefusedError
from . import (
    access,
    blobs,
    blocks,
    cursors,
    erasure,
    importing,
    members,
    messages,
    moderation,
    pushing,
    reports,
    retention,
    sessions,
    standing,
    streams,
)
from . import commands as c
from .changes import Changes, Outbox, OutboxRows, changes_of
from .keys import Keys
from .outcomes import Outcome, Refused
from .state import State

_FLOWS: dict[type, Callable[[State, Any], Outcome]] = {
    c.Append: messages.append,
    c.AppendPart: streams.append_part,
    c.EndStream: streams.end_stream,
    c.ModeratedAppend: moderation.append,
    c.Review: moderation.review,
    c.ReportMessage: reports.report,
    c.ResolveReports: reports.resolve_reports,
    c.Recall: messages.recall,
    c.AdvanceDelivered: cursors.advance_delivered,
    c.ConfirmMessage: cursors.confirm_message,
    c.AdvanceRead: cursors.advance_read,
    c.CreateConversation: members.create_conversation,
    c.ImportEntries: importing.import_entries,
    c.AddMembers: members.add_members,
    c.RemoveMember: members.remove_member,
    c.BanMember: standing.ban_member,
    c.UnbanMember: standing.unban_member,
    c.SetRole: standing.set_role,
    c.SilenceMember: standing.silence_member,
    c.UpdateConversation: members.update_conversation,
    c.BlockUser: blocks.block_user,
    c.UnblockUser: blocks.unblock_user,
    c.RenewEpoch: members.renew_epoch,
    c.SetRetention: retention.set_retention,
    c.Expire: retention.expire,
    c.OpenSession: sessions.open_session,
    c.ResumeSession: sessions.resume_session,
    c.RenewLogin: sessions.renew_login,
    c.EndLogins: sessions.end_logins,
    c.SeeDevices: sessions.see_devices,
    c.Revoke: access.revoke,
    c.RecordAct: erasure.record_act,
    c.BeginErasure: erasure.begin_erasure,
    c.ForgetDevices: erasure.forget_devices,
    c.EndErasure: erasure.end_erasure,
    c.Mute: pushing.mute,
    c.RegisterPush: pushing.register_push,
    c.UnregisterPush: pushing.unregister_push,
    c.ReserveBlob: blobs.reserve,
    c.FinishBlob: blobs.finish,
    c.CollectBlobs: blobs.collect,
    c.ForgetBlobs: blobs.forget,
}
_KEYS: dict[type, Callable[[Keys, Any], None]] = {
    c.Append: messages.keys_of_append,
    c.AppendPart: streams.keys_of_part,
    c.EndStream: streams.keys_of_end,
    c.ModeratedAppend: moderation.keys_of_append,
    c.Review: moderation.keys_of_review,
    c.ReportMessage: reports.keys_of_report,
    c.ResolveReports: reports.keys_of_resolve,
    c.Recall: messages.keys_of_recall,
    c.AdvanceDelivered: cursors.keys_of_advance_delivered,
    c.ConfirmMessage: cursors.keys_of_confirm,
    c.AdvanceRead: cursors.keys_of_advance_read,
    c.CreateConversation: members.keys_of_create,
    c.ImportEntries: importing.keys_of_import,
    c.AddMembers: members.keys_of_add,
    c.RemoveMember: members.keys_of_remove,
    c.BanMember: standing.keys_of_ban,
    c.UnbanMember: standing.keys_of_unban,
    c.SetRole: standing.keys_of_set_role,
    c.SilenceMember: standing.keys_of_silence,
    c.UpdateConversation: members.keys_of_update,
    c.BlockUser: blocks.keys_of_block,
    c.UnblockUser: blocks.keys_of_block,
    c.RenewEpoch: members.keys_of_renew_epoch,
    c.SetRetention: retention.keys_of_retention,
    c.Expire: retention.keys_of_retention,
    c.OpenSession: sessions.keys_of_open,
    c.ResumeSession: sessions.keys_of_resume,
    c.RenewLogin: sessions.keys_of_renew_login,
    c.EndLogins: sessions.keys_of_end_logins,
    c.SeeDevices: sessions.keys_of_see_devices,
    c.Revoke: access.keys_of_revoke,
    c.RecordAct: erasure.keys_of_record,
    c.BeginErasure: erasure.keys_of_begin,
    c.ForgetDevices: erasure.keys_of_forget,
    c.EndErasure: erasure.keys_of_end,
    c.Mute: pushing.keys_of_mute,
    c.RegisterPush: pushing.keys_of_register_push,
    c.UnregisterPush: pushing.keys_of_unregister_push,
    c.ReserveBlob: blobs.keys_of_reserve,
    c.FinishBlob: blobs.keys_of_finish,
    c.CollectBlobs: blobs.keys_of_collect,
    c.ForgetBlobs: blobs.keys_of_forget,
}
_KEYS_AFTER: dict[type, Callable[[State, Any, Keys], None]] = {
    c.Append: messages.keys_after_append,
    c.ModeratedAppend: moderation.keys_after_append,
    c.Recall: messages.keys_after_recall,
    c.ImportEntries: importing.keys_after_import,
    c.Review: moderation.keys_after_review,
    c.ReportMessage: reports.keys_after_report,
    c.AdvanceDelivered: cursors.keys_after_advance_delivered,
    c.ConfirmMessage: cursors.keys_after_confirm,
    c.AdvanceRead: cursors.keys_after_advance_read,
    c.ResumeSession: sessions.keys_after_resume,
}


def keys_of(commands: Iterable[c.Command], *, assume_new: bool = False) -> Keys:
    """What the commands themselves name; see `Keys.assumes_new`."""
    keys = Keys(assume_new=assume_new)
    for command in commands:
        _KEYS[type(command)](keys, command)
    return keys


def keys_after(state: State, commands: Iterable[c.Command]) -> Keys | None:
    """What only the first load shows to be needed; mostly nothing, which is None."""
    named = [
        (name_more, command)
        for command in commands
        if (name_more := _KEYS_AFTER.get(type(command)))
        and not (type(command) is c.Append and command.is_plain)
    ]
    if not named:
        return None
    more = Keys()
    for name_more, command in named:
        name_more(state, command, more)
    return more or None


def decide(state: State, commands: Iterable[c.Command]) -> tuple[list[Outcome], Changes]:
    """Run the commands in order; each sees what those before it did.

    Args:
        state: Holds what `keys_of` and `keys_after` named for these commands. It is used up.
        commands: One batch.

    Returns:
        One outcome per command, in order, a refusal having changed nothing; and what is to be written.

    Raises:
        MayBeRepeatError: The keys assumed that messages are new, and one may not be.
    """
    outcomes: list[Outcome] = []
    for command in commands:
        try:
            outcomes.append(_FLOWS[type(command)](state, command))
        except RefusedError as error:
            error.__traceback__ = None  # it would keep the whole state alive as long as the outcome
            outcomes.append(Refused(error))
    return outcomes, changes_of(state)


def close_confirmed(outboxes: Iterable[Outbox], leasts: Iterable[tuple[int, int]]) -> OutboxRows:
    """What is to be written of the outbox, last of all; nothing where it is as it was.

    Args:
        outboxes: Of `outboxes_of`.
        leasts: (conversation key, least) where the outbox may close: every device of every current member has confirmed
            everything up to `least`; of a member none of whose devices has a row, the farthest cursor counts. Entries
            before a membership hold nothing open, for its user need not have them.
    """
    least_of = dict(leasts)
    closed: list[tuple[int]] = []
    opened: list[tuple[int, int]] = []
    for it in outboxes:
        first_seq = _first_seq(it, least_of.get(it.conversation_key))
        if first_seq is not None and first_seq != it.stored_seq:
            opened.append((it.conversation_key, first_seq))
        elif first_seq is None and it.stored_seq is not None:
            closed.append((it.conversation_key,))
    return OutboxRows(closed, opened)


def _first_seq(outbox: Outbox, least: int | None) -> int | None:
    if outbox.first_seq is None or least is None:
        return outbox.first_seq
    return cursors.outbox_after(outbox.first_seq, outbox.head_seq, least)
