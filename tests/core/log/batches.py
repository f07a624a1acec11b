"""Batches of commands for hypothesis: few names, so that commands meet, and ids that a batch may make itself."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from chatkit.core.log import commands as c
from chatkit.core.log.outcomes import message_id
from chatkit.wire.payload import canonical, title_payload

USERS = ("ann", "bob", "cat", "dan")
GROUPS, SINGLES = ("g", "h"), ("s", "t")
CONVERSATIONS = (*GROUPS, *SINGLES)
DEVICES = ("phone", "tablet", "pc")
NOW = 1_000

user = st.sampled_from(USERS)
conversation = st.sampled_from(("g", "g", "g", *CONVERSATIONS))
device = st.sampled_from(DEVICES)
seq = st.integers(0, 10)
epoch = st.sampled_from(["e0"] * 5 + ["e1"])
name = st.builds(message_id, st.sampled_from([1, 1, 1, 1, 2]), epoch, st.integers(1, 10))
word = st.sampled_from("abcdefghijkl")
used = st.binary(min_size=1, max_size=1)
ends = st.sampled_from([None, NOW + 20, NOW + 40])


def _append(conversation_id: str, sender: str, key: str, other: bool) -> c.Append:
    payload = b'{"text":"%s","type":"TEXT"}' % (key + "!" * other).encode()
    return c.Append(conversation_id, sender, key, payload, payload[::-1], 0)


def _create(conversation_id: str, users: list[str], history: Any = "FROM_JOIN") -> c.CreateConversation:
    single = conversation_id in SINGLES
    members = tuple(users[:2] if single else users)
    kind: Any = "SINGLE" if single else "GROUP"
    return c.CreateConversation(
        conversation_id, kind, members[0], members, "" if single else "title", "e0", 9, 0, False, history
    )


def _refer(
    conversation_id: str,
    sender: str,
    key: str,
    name: str,
    kind: str,
    reaction: str,
    removed: bool,
    mentions: list[str],
) -> c.Append:
    seq = int(name.split("-")[2], 16)
    named = {"messageId": name, "seq": seq}
    payload: dict[str, Any] = {"type": "TEXT", "text": key, "replyTo": named}
    if kind == "EDIT":
        said = {"mentions": mentions} if mentions else {}
        payload = {"type": "EDIT", **named, "payload": {"type": "TEXT", "text": f"edited {key}", **said}}
    elif kind == "PINNED":
        payload = {"type": "PINNED", **named, "pinned": not removed}
    elif kind == "REACTION":
        payload = {"type": "REACTION", **named, "reaction": reaction, "removed": removed}
    encoded = canonical(payload)
    return c.Append(conversation_id, sender, f"{kind} {key}", encoded, encoded[::-1], 0, edit_window_ms=60)


def _mention(conversation_id: str, sender: str, key: str, mentions: list[str]) -> c.Append:
    encoded = canonical({"type": "TEXT", "text": key, "mentions": mentions})
    return c.Append(conversation_id, sender, f"mention {key}", encoded, encoded[::-1], 0)


def _title(conversation_id: str, sender: str, key: str, title: str | None, description: str) -> c.Append:
    encoded = canonical(title_payload(title, description))
    return c.Append(conversation_id, sender, f"title {key}", encoded, encoded[::-1], 0)


def _titled(title: str | None, description: str | None) -> c.TitleEntry | None:
    """Its key is given by `_timed`."""
    if (title, description) == (None, None):
        return None
    encoded = canonical(title_payload(title, description))
    return c.TitleEntry("", encoded, encoded[::-1])


mentioned = st.lists(st.sampled_from((*USERS, "eve", "*")), min_size=1, max_size=3)
mention = st.builds(_mention, conversation, user, word, mentioned)
title = st.builds(
    _title, conversation, user, word, st.sampled_from([None, "title", "new"]), st.sampled_from(["", "tea"])
)
titled = st.builds(_titled, st.sampled_from([None, "title", "new"]), st.sampled_from([None, None, "", "tea"]))
refer = st.builds(
    _refer,
    st.sampled_from(("g", "g", "g", "s")),
    user,
    word,
    name,
    st.sampled_from(["EDIT", "EDIT", "REACTION", "REACTION", "PINNED", "PINNED", "REPLY"]),
    st.sampled_from("xy"),
    st.sampled_from([False, False, True]),
    st.one_of(st.just([]), mentioned),
)
append = st.builds(_append, conversation, user, word, st.sampled_from([False, False, False, True]))
create = st.builds(
    _create,
    conversation,
    st.lists(user, min_size=1, max_size=4, unique=True),
    st.sampled_from(["FROM_JOIN", "FROM_START"]),
)
advance = st.builds(c.AdvanceDelivered, conversation, user, device, seq, st.just(0))
read = st.builds(c.AdvanceRead, conversation, user, seq, st.just(0))
confirm = st.builds(
    c.ConfirmMessage, name, user, device, st.just(0), st.sampled_from([None, None, None, *CONVERSATIONS])
)
acting = st.sampled_from(("ann", "ann", None, *USERS))
recall = st.builds(
    c.Recall, name, st.sampled_from((*USERS, *USERS, None)), st.sampled_from([20, 10_000]), st.just(0)
)
add = st.builds(
    c.AddMembers,
    st.sampled_from(("g", "g", "h")),
    st.sampled_from(("ann", "ann", "ann", None, *USERS)),
    st.lists(user, min_size=1, max_size=3).map(tuple),
    st.sampled_from([3, 9]),
    st.just(0),
    st.sampled_from([True, True, False]),
    st.sampled_from(["MEMBER", "MEMBER", "ADMIN", "GUEST"]),
)
remove = st.builds(
    c.RemoveMember, conversation, st.sampled_from(("ann", "ann", None, *USERS)), user, st.just(0)
)
update = st.builds(
    c.UpdateConversation,
    conversation,
    st.sampled_from(("ann", "ann", None, *USERS)),
    titled,
    st.one_of(st.none(), user),
    st.just(0),
    st.sampled_from([None, None, "FROM_START", "FROM_JOIN"]),
)
set_role = st.builds(
    c.SetRole, conversation, acting, user, st.sampled_from(["ADMIN", "MEMBER", "GUEST"]), st.just(0)
)
silence = st.builds(
    c.SilenceMember, conversation, acting, user, st.sampled_from([0, NOW + 40, NOW + 99]), st.just(0)
)
ban_member = st.builds(c.BanMember, conversation, acting, user, st.just(0))
unban_member = st.builds(c.UnbanMember, conversation, acting, user, st.just(0))
block = st.builds(c.BlockUser, user, user, st.just(0))
unblock = st.builds(c.UnblockUser, user, user)
leave = user.flatmap(
    lambda it: st.builds(c.RemoveMember, st.sampled_from(GROUPS), st.just(it), st.just(it), st.just(0))
)
renew = st.builds(c.RenewEpoch, conversation, st.just("e1"), st.just(0))
mute = st.builds(c.Mute, conversation, user, st.sampled_from([0, NOW, NOW + 99]), st.booleans())
reach = st.builds(
    c.RegisterPush, user, device, st.just("log"), st.sampled_from("pq"), st.booleans(), st.just(0)
)
unreach = st.builds(c.UnregisterPush, user, device, st.sampled_from([None, "p"]))
open_session = st.builds(
    c.OpenSession,
    user,
    device,
    st.just(b""),
    st.sampled_from([NOW + 30, NOW + 90]),
    ends,
    st.just("all"),
    st.just(0),
)
resume = st.builds(
    c.ResumeSession, used, device, st.just(b""), st.just(NOW + 90), st.sampled_from([0, 5]), st.just(0)
)
renew_login = st.builds(c.RenewLogin, user, device, ends, st.just("new"), st.just(0))
see = st.builds(lambda *place: c.SeeDevices((place,), 0), user, device)
revoke = st.builds(
    lambda kind, *subject: c.Revoke(kind, *subject, b"", None, 0),
    st.sampled_from(["REVOKED", "DISCONNECTED"]),
    user,
    st.sampled_from(["", "phone"]),
)
ban = st.builds(
    lambda name, ends_ms: c.Revoke("BANNED", name, "", b"", ends_ms, 0), user, st.sampled_from([0, None])
)

command = st.one_of(
    *(append, append, append, append, advance, advance, advance, confirm, confirm, read, recall, recall),
    *(refer, refer, refer, mention, mention, title),
    *(
        create,
        add,
        add,
        add,
        remove,
        leave,
        update,
        update,
        set_role,
        set_role,
        silence,
        ban_member,
        unban_member,
        block,
        unblock,
        renew,
        mute,
        reach,
        reach,
        unreach,
        open_session,
        open_session,
        resume,
        resume,
        renew_login,
        see,
        revoke,
        ban,
    ),
)


def _timed(commands: list[c.Command], sizes: list[int]) -> list[list[c.Command]]:
    """One millisecond after the other, and cut into batches. Resumed is mostly with a token handed out lately."""
    timed: list[c.Command] = []
    handed = [(b"never", "phone")]
    for turn, it in enumerate(commands):
        if isinstance(it, c.ResumeSession):
            token, of_device = handed[-1 - it.used_hash[0] % len(handed[-4:])]
            it = replace(it, used_hash=token, device_id=of_device if it.used_hash[0] % 3 else it.device_id)
        if isinstance(it, c.OpenSession | c.ResumeSession):
            it = replace(it, resume_hash=b"token of %d" % turn)
            handed.append((it.resume_hash, it.device_id))
        if isinstance(it, c.UpdateConversation) and it.titled is not None:
            it = replace(it, titled=replace(it.titled, client_msg_id=f"titled {turn}"))
        untimed = isinstance(it, c.Mute | c.UnregisterPush | c.UnblockUser)
        timed.append(it if untimed else replace(it, at_ms=NOW + turn))
    batches = []
    for size in sizes:
        batches.append(timed[:size])
        timed = timed[size:]
    return [batch for batch in [*batches, timed] if batch]


_BEGINNING: list[c.Command] = [
    _create("g", ["ann", "bob", "cat"]),
    _create("s", ["bob", "ann"]),
    *(
        _append("g", sender, key, False)
        for sender, key in zip(("ann", "bob", "cat") * 2, "abcdef", strict=True)
    ),
]

batches = st.builds(
    _timed,
    st.lists(command, min_size=25, max_size=80).map(lambda commands: [*_BEGINNING, *commands]),
    st.lists(st.integers(1, 20), max_size=12),
)
"""A history that begins with two conversations, cut anywhere."""
