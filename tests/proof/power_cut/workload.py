"""What the store is told to do, drawn from a seed.

The script writes commands that mostly make sense; what it does not know (a member gone in the meantime) is refused,
and that is an outcome too. Every body is made of one word that nothing else holds, so that it can be searched for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from chatkit.storage import base
from chatkit.testing.rng import Stream

USERS: Final = ("ann", "bob", "cat", "dan")
GROUPS: Final = ("g", "h")
CONVERSATIONS: Final = (*GROUPS, "s")
_BATCH_SIZES: Final = (1, 1, 1, 2, 4, 9, 25)
_WORDS: Final = (1, 1, 2, 5, 20, 80, 300)
"""How often a body repeats its word: from one sector to pages of overflow."""

_MEMBERS_MAX: Final = 100
_LONG_MS: Final = 10**9


def word_of(payload: bytes) -> bytes:
    """The word that a body of the script is made of, and nothing else holds."""
    text: str = msgspec.json.decode(payload)["text"]
    return text.split()[0].encode()


class Script:
    """Writes batches of commands.

    Args:
        rng: Every choice is drawn from it.
    """

    def __init__(self, rng: Stream) -> None:
        self._rng = rng
        self._sent = 0
        self._at_ms = 1_700_000_000_000
        self._heads = dict.fromkeys(CONVERSATIONS, 1)
        self._messages: list[base.Entry] = []
        self._token_of: dict[tuple[str, str], bytes] = {}
        self._makers: list[tuple[int, Callable[[], base.Command]]] = [
            (50, self.send),
            (6, self._recall),
            (10, self._deliver),
            (5, self._confirm),
            (8, self._read),
            (5, self._add),
            (3, self._remove),
            (4, self._open),
            (2, self._resume),
            (1, self._renew_login),
            (2, self._renew_epoch),
            (2, self._mute),
            (2, self._register_push),
        ]

    def opening(self) -> list[base.Command]:
        """Every conversation, and a device of every user."""
        groups: list[base.Command] = [
            base.CreateConversation(name, "GROUP", "ann", USERS, "title", "e0", 1000, self._now())
            for name in GROUPS
        ]
        single = base.CreateConversation("s", "SINGLE", "bob", ("ann", "bob"), "", "e0", 1000, self._now())
        return [*groups, single, *(self._session(user, "phone") for user in USERS)]

    def batch(self) -> list[base.Command]:
        """The next commands."""
        weights, makers = zip(*self._makers, strict=True)
        count = self._rng.choice(_BATCH_SIZES)
        return [maker() for maker in self._rng.choices(makers, weights, k=count)]

    def sends(self, count: int) -> list[base.Command]:
        """Messages only, which a client could send again."""
        return [self.send() for _ in range(count)]

    def learn(self, outcomes: Sequence[base.Outcome]) -> None:
        """Take note of what later commands can name."""
        for outcome in outcomes:
            entry = getattr(outcome, "entry", None)
            if entry is not None:
                self._heads[entry.conversation_id] = max(self._heads[entry.conversation_id], entry.seq)
            if isinstance(outcome, base.Appended):
                self._messages.append(outcome.entry)

    def send(self) -> base.Append:
        """A message with a new key."""
        self._sent += 1
        word = f"word{self._sent}x{self._rng.randbytes(6).hex()}"
        text = " ".join([word] * self._rng.choice(_WORDS))
        payload = msgspec.json.encode({"text": text, "type": "TEXT"})
        mac = hashlib.sha256(payload).digest()
        key = f"key-{self._sent}"
        return base.Append(self._conversation(), self._user(), key, payload, mac, self._now())

    def _recall(self) -> base.Command:
        if not self._messages:
            return self.send()
        entry = self._rng.choice(self._messages)
        return base.Recall(entry.message_id, entry.sender_id, _LONG_MS, self._now())

    def _deliver(self) -> base.Command:
        name = self._conversation()
        up_to_seq = self._rng.randint(1, self._heads[name])
        return base.AdvanceDelivered(name, self._user(), self._device(), up_to_seq, self._now())

    def _confirm(self) -> base.Command:
        if not self._messages:
            return self.send()
        entry = self._rng.choice(self._messages[-20:])
        return base.ConfirmMessage(entry.message_id, self._user(), self._device(), self._now())

    def _read(self) -> base.Command:
        name = self._conversation()
        return base.AdvanceRead(name, self._user(), self._rng.randint(1, self._heads[name]), self._now())

    def _add(self) -> base.Command:
        users = tuple(self._rng.sample(USERS[1:], 2))
        return base.AddMembers(self._group(), "ann", users, _MEMBERS_MAX, self._now())

    def _remove(self) -> base.Command:
        user = self._rng.choice(USERS[1:])
        return base.RemoveMember(self._group(), self._rng.choice(["ann", user]), user, self._now())

    def _open(self) -> base.Command:
        return self._session(self._user(), self._device())

    def _session(self, user: str, device: str) -> base.Command:
        token, at_ms = self._new_token(user, device), self._now()
        return base.OpenSession(user, device, token, at_ms + _LONG_MS, None, "all", at_ms)

    def _resume(self) -> base.Command:
        user, device = self._rng.choice(list(self._token_of))
        used, at_ms = self._token_of[user, device], self._now()
        return base.ResumeSession(used, device, self._new_token(user, device), at_ms + _LONG_MS, 0, at_ms)

    def _new_token(self, user: str, device: str) -> bytes:
        self._token_of[user, device] = token = self._rng.randbytes(16)
        return token

    def _renew_login(self) -> base.Command:
        at_ms = self._now()
        return base.RenewLogin(self._user(), self._device(), at_ms + _LONG_MS, "some", at_ms)

    def _renew_epoch(self) -> base.Command:
        return base.RenewEpoch(self._conversation(), self._rng.randbytes(4).hex(), self._now())

    def _mute(self) -> base.Command:
        return base.Mute(self._conversation(), self._user(), self._rng.choice([0, self._now() + _LONG_MS]))

    def _register_push(self) -> base.Command:
        token = self._rng.randbytes(1).hex()
        return base.RegisterPush(self._user(), self._device(), "log", token, False, self._now())

    def _now(self) -> int:
        self._at_ms += self._rng.randrange(3)
        return self._at_ms

    def _user(self) -> str:
        return self._rng.choice(USERS)

    def _device(self) -> str:
        return self._rng.choice(["phone", "phone", "tablet"])

    def _group(self) -> str:
        return self._rng.choice(GROUPS)

    def _conversation(self) -> str:
        return self._rng.choice(CONVERSATIONS)
