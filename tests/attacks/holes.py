"""Planted holes: small, likely slips in checks of rights, each of which the matrix of foreign ids must find.

`python -m tests.attacks.holes [NAME ...]` plants each in a process of its own, runs the matrix on SQLite, and says what
was found first. Without a name, all of them. Ends with 0 if each was found.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from typing import Final

import anyio

from tests.proof.mutants.plant import Edit, Mutant, plant

_PATIENCE_S = 300.0
_ENOUGH = 1
"""Findings after which a hole has been found well enough."""


def _hole(name: str, story: str, module: str, old: str, new: str) -> Mutant:
    return Mutant(name, story, (Edit(f"chatkit.{module}", old, new),), ("matrix",))


_JOINED: Final = """        found = self.membership(self.find(conversation_id), user_id)
        if not found.is_current:
            raise not_found()
"""
_SCOPE: Final = """        if ADMIN_SCOPE not in proof.identity.scope.split(" "):
            raise NotFoundError(NO_SUCH_PATH)
"""

_LISTED: Final = (
    _hole(
        "no membership check at all",
        "whoever asks for a conversation will be in it",
        "core.log.state",
        _JOINED,
        _JOINED.partition("        if")[0],
    ),
    _hole(
        "left is still in",
        "who was a member once may go on reading",
        "core.log.state",
        _JOINED,
        _JOINED.replace("found.is_current", "found.intervals"),
    ),
    _hole(
        "another word for those who left",
        "a helpful message for former members",
        "core.log.state",
        _JOINED,
        _JOINED.replace("not_found()", "type(not_found())('you left') if found.intervals else not_found()"),
    ),
    _hole(
        "one read without its check",
        "a conversation's title is no secret",
        "storage.sqlite.reads",
        "return describe(state, state.joined(conversation_id, user_id).conversation)",
        "return describe(state, state.find(conversation_id))",
    ),
    _hole(
        "members without a check",
        "the list of members is no secret",
        "storage.sqlite.reads",
        """    loaded = joined(connection, conversation_id, user_id).conversation
    rows = connection.execute(SELECT_MEMBERS""",
        """    loaded = _found(connection, conversation_id)
    if loaded is None:
        raise not_found()
    rows = connection.execute(SELECT_MEMBERS""",
    ),
    _hole(
        "seqs beyond the leave",
        "an interval ends at the head",
        "core.visibility",
        "last = head_seq if interval.leave_seq is None else min(interval.leave_seq - 1, head_seq)",
        "last = head_seq",
    ),
    _hole(
        "seqs before the join",
        "a page begins where it is asked to",
        "core.visibility",
        "first = max(interval.join_seq, after_seq + 1)",
        "first = after_seq + 1",
    ),
    _hole(
        "status for any reader",
        "whoever knows the id may know who has read it",
        "storage.sqlite.reads",
        "if not rows or rows[0][:2] != (epoch, user_id):",
        "if not rows or rows[0][0] != epoch:",
    ),
    _hole(
        "recall tells what is hidden",
        "only the author may recall, so that check is enough",
        "core.log.messages",
        "        rules.check_visible(state.membership(conversation, command.by).intervals, row.seq)\n",
        "        pass\n",
    ),
    _hole(
        "reports of what is hidden",
        "whoever reports it has seen it",
        "core.log.reports",
        "    rules.check_visible(state.membership(conversation, command.user_id).intervals, row.seq)\n",
        "",
    ),
    _hole(
        "any member silences",
        "the one who is silenced may not, so the others may",
        "core.log.standing",
        """        return Updated(describe(state, conversation), False)
    check_may(state, conversation, command, "SILENCE_MEMBERS", membership.role)
""",
        """        return Updated(describe(state, conversation), False)
""",
    ),
    _hole(
        "any member bans",
        "whoever is in may throw out",
        "core.log.standing",
        'check_may(state, conversation, command, "BAN_MEMBERS", membership.role',
        '_both and (state, conversation, command, "BAN_MEMBERS", membership.role',
    ),
    _hole(
        "delivered without having seen it",
        "confirming what one cannot see does no harm",
        "core.log.cursors",
        "    rules.check_visible(membership.intervals, row.seq)\n",
        "",
    ),
    _hole(
        "anybody types",
        "the audience is there, so the conversation is",
        "server.typing",
        "if audience is None or session not in audience.sessions:",
        "if audience is None:",
    ),
    _hole(
        "the scope is not asked for",
        "who has found the path is an administrator",
        "gateway.admin_api",
        _SCOPE,
        "",
    ),
    _hole(
        "a scope that only looks like it",
        "a word in a text",
        "gateway.admin_api",
        'if ADMIN_SCOPE not in proof.identity.scope.split(" "):',
        'if "chat" not in proof.identity.scope:',
    ),
    _hole(
        "an administrators' path is told from none",
        "say what is missing",
        "gateway.admin_api",
        _SCOPE,
        _SCOPE.replace("NO_SUCH_PATH", '"for administrators"'),
    ),
    _hole(
        "presence of anybody",
        "who is online is no secret",
        "server.presence",
        "return [self._describe(it, known[it]) for it in dict.fromkeys(others) if it in known]",
        "return [self._describe(it, known.get(it)) for it in dict.fromkeys(others)]",
    ),
    _hole(
        "a search where nobody is a member",
        "what may be read is judged of each message",
        "storage.sqlite.search",
        "    return [joined(connection, conversation_id, user_id).conversation.key]",
        """    asked = "SELECT conversation_key FROM conversation WHERE conversation_id = ?"
    return [key for (key,) in connection.execute(asked, (conversation_id,))]""",
    ),
    _hole(
        "a token for any device",
        "the device is what HELLO says",
        "server.login",
        "        if proof.identity.device_id not in (None, event.device_id):\n",
        "        if not event.device_id:\n",
    ),
    _hole(
        "a resume token for any device",
        "the token is secret enough",
        "core.log.sessions",
        "token.token_hash != command.used_hash or token.device_id != command.device_id:",
        "token.token_hash != command.used_hash:",
    ),
    _hole(
        "anybody's sender",
        "the body says who sends",
        "gateway.http_api",
        "if body.sender_id is not UNSET and body.sender_id != call.user_id:",
        "if body.sender_id is not UNSET and not body.sender_id:",
    ),
)
HOLES: Final = {hole.name: hole for hole in _LISTED}


def found_here(name: str | None) -> list[str]:
    """What the matrix finds in this process, with a hole planted in it."""
    if name is not None:
        plant(HOLES[name])
    from chatkit import open_store

    from .matrix import findings

    with tempfile.TemporaryDirectory() as folder:
        return anyio.run(partial(findings, open_store(f"sqlite:///{folder}/chat.db"), most=_ENOUGH))


def found_apart(name: str) -> list[str]:
    """The same in a process of its own.

    Raises:
        RuntimeError: The run broke. A scene that cannot be set up has found nothing.
    """
    command = [sys.executable, "-m", "tests.attacks.holes", "--here", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{name}: {done.stderr}")
    return done.stdout.splitlines()


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if every hole was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.holes")
    parser.add_argument("names", nargs="*", help="which ones (default: all)")
    parser.add_argument("--here", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.here:
        for words in found_here(options.here):
            print(words)
        return 0
    names = options.names or [*HOLES]
    missed = 0
    for name in names:
        found = found_apart(name)
        missed += not found
        print(f"{name:42}{found[0][:100] if found else 'NOT FOUND'}", flush=True)
    print(f"{len(names) - missed} of {len(names)} found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
