"""`ChatServer.explain`: the store's account of a message, and what this node has of its readers."""

from __future__ import annotations

from typing import Any

import pytest

from chatkit.errors import BadRequestError, ConfigurationError, NotFoundError
from chatkit.server.explain import explain_message
from chatkit.types import Explanation

from .harness import GatedStore, group, login, serving, text


def said(found: Explanation, event: str) -> list[tuple[str | None, str | None, str]]:
    """Whom an event is about, and in which words."""
    return [(it.user_id, it.device_id, it.words) for it in found.facts if it.event == event]


async def test_who_is_online_here_was_offered_it_and_confirmed_it() -> None:
    async with serving() as server:
        name = await group(server, "ann", "bob", "cat")
        ann, bob = await login(server, "ann"), await login(server, "bob")
        ann.say(text(name, "k-1", "canary"))
        (ack,) = await ann.hear("MSG_ACK")
        await bob.hear("NEW_MSG")
        bob.say({"event": "DELIVERED_ACK", "conversationId": name, "upToSeq": 2})
        bob.say({"event": "READ", "conversationId": name, "upToSeq": 2})
        await ann.hear("RECEIPT")
        found = await server.explain(ack["messageId"])
        of_cat = await server.explain(ack["messageId"], user_id="cat")

    assert (found.conversation_id, found.seq, found.client_msg_id) == (name, 2, "k-1")
    assert {user for user, _, _ in said(found, "ONLINE")} == {"ann", "bob"}
    assert {"offered everything up to seq 2" in words for *_, words in said(found, "ONLINE")} == {True}
    assert [it[:2] for it in said(found, "CONFIRMED")] == [("bob", "phone")]
    assert [it[0] for it in said(found, "PENDING")] == ["ann", "cat"]
    assert said(of_cat, "ONLINE") == []
    assert of_cat.reader_count == 1
    assert "canary" not in repr(found)


async def test_what_is_no_message_and_no_argument() -> None:
    async with serving() as server:
        with pytest.raises(NotFoundError, match="no message has such an id"):
            await server.explain("m-1")
        arguments: list[tuple[object, dict[str, Any]]] = [
            (7, {}),
            ("1-e-1", {"user_id": "a b"}),
            ("1-e-1", {"limit": 0}),
            ("1-e-1", {"limit": 1_001}),
        ]
        for name, options in arguments:
            with pytest.raises(BadRequestError):
                await server.explain(name, **options)  # type: ignore[arg-type]


async def test_a_store_that_keeps_no_trail_says_so() -> None:
    class Plain:
        """A store of a host's own."""

    async with serving(GatedStore()) as server:
        with pytest.raises(ConfigurationError, match="no `trail`"):
            await explain_message(Plain(), server._hub.presence, server.ports.clock, "m", None, 1)  # type: ignore[arg-type]
