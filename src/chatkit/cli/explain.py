"""`chatkit explain`: what became of one message."""

from __future__ import annotations

from typing import Final

import anyio
import click
import msgspec

from .._abilities import offers
from .._one_line import one_line
from ..assemble import open_store
from ..core.log.explain import explain as account_of
from ..errors import BadRequestError, ConfigurationError
from ..ports import SystemClock
from ..storage.base import READERS_MAX, MessageTrail, OpensToRead, Store, TrailReader
from ..types import Explanation, Fact
from ..wire.events import Id
from .common import exit_codes
from .configured import configured
from .utc import utc_to_ms

_WHEN: Final = {"EXACT": "   ", "AT_LATEST": "by "}


@configured("storage")
@click.command(short_help="Say what became of a message.", context_settings={"show_default": True})
@click.argument("message_id")
@click.option(
    "--storage",
    default="sqlite:///chat.db",
    help="The log: sqlite:///PATH, also while a server runs on it, or postgresql://HOST/NAME. It is only read.",
)
@click.option("--user", help="Tell only of this one of those who may read it.")
@click.option(
    "--limit",
    default=200,
    type=click.IntRange(1, READERS_MAX),
    help="Most of those who may read it that are told of.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def explain(message_id: str, storage: str, user: str | None, limit: int, as_json: bool) -> None:
    """Say what became of the message MESSAGE_ID: when it was stored, who has it on which device, who has read it, what
    was pushed to whom, and what waits. Each with its time, what that time means, and where it is from. Never its words.

    Ends with 1 if there is no such message, and says why.
    """
    with exit_codes():
        found = anyio.run(_explanation, open_store(storage), message_id, user, limit)
    click.echo(msgspec.json.encode(found) if as_json else "\n".join(map(one_line, _lines(found))))


async def _explanation(store: Store, message_id: str, user: str | None, limit: int) -> Explanation:
    if user is not None:
        _check_id(user)
    trail = await _trail(store, message_id, user, limit)
    return account_of(trail, SystemClock().now_ms())


async def _trail(store: Store, message_id: str, user: str | None, limit: int) -> MessageTrail:
    if not (offers(store, OpensToRead) and offers(store, TrailReader)):
        raise ConfigurationError("a log in the memory of a server cannot be read here; ask the server")
    await store.open_to_read()
    try:
        return await store.trail(message_id, user, limit)
    finally:
        with anyio.CancelScope(shield=True):
            await store.aclose()


def _check_id(user: str) -> None:
    try:
        msgspec.convert(user, Id)
    except msgspec.ValidationError:
        raise BadRequestError("--user takes 1-128 characters of A-Z a-z 0-9 . _ : @ -") from None


def _lines(found: Explanation) -> list[str]:
    key = "" if found.client_msg_id is None else f", key {found.client_msg_id}"
    more = f" (the first {found.reader_count}; there are more: --limit, --user)" if found.has_more else ""
    return [
        f"message  {found.message_id}",
        f"place    seq {found.seq} of {found.conversation_id} ({found.conversation_type}), epoch {found.epoch}",
        f"sender   {found.sender_id}{key}; {found.kind}",
        f"readers  {found.reader_count}{more}",
        "",
        *map(_line, found.facts),
        "",
        "Times are those of the clocks that noted them, in UTC; `by`: then or before. What nobody keeps:",
        *(f"- {it}" for it in found.not_kept),
    ]


def _line(fact: Fact) -> str:
    where = "/".join(filter(None, (fact.user_id, fact.device_id)))
    return f"{_time(fact):<27} {fact.event:<13} {where:<20} {fact.words} [{fact.source}]"


def _time(fact: Fact) -> str:
    if fact.at_ms is None:
        return "   now" if fact.time == "NOW" else "   not known"
    return _WHEN[fact.time] + utc_to_ms(fact.at_ms)
