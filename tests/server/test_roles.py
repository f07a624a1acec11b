"""Roles, silence and bans on several nodes: what one node answered holds on every other one, with a bus or without."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chatkit import (
    ChatServer,
    ConfigurationError,
    ForbiddenError,
    NotFoundError,
    RolePolicy,
    open_store,
)
from chatkit.errors import BadRequestError, InternalError
from chatkit.types import ConversationType, Role

from .harness import by_name, group, login, text
from .nodes import Cluster, after, cluster, never

SOON_S = 1.0


@pytest.fixture(params=["memory", "sqlite"])
async def two(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    async with cluster(str(request.param)) as made:
        yield made


def kinds(events: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    return [(event["event"], event.get("change") or event.get("reason")) for event in events]


async def test_what_one_node_answered_holds_on_the_other_at_once_without_a_bus(two: Cluster) -> None:
    two.bus.fate = never
    a, b = two.nodes
    crowd = await group(a, "ann", "ben", "cat")
    ben = await login(b, "ben")
    await a.silence_member(crowd, "ben", by="ann")
    ben.say(text(crowd, "k1"))
    (refusal,) = await ben.hear("ERROR")
    assert (refusal["code"], refusal["reason"]) == ("FORBIDDEN", "SILENCED")

    await b.unsilence_member(crowd, "ben", by="ann")
    await a.set_role(crowd, "ben", "ADMIN", by="ann")
    sent = await b.send(crowd, "cat", "words", client_msg_id="k")
    await b.recall(sent.message_id, by="ben")
    await a.set_role(crowd, "ben", "GUEST", by="ann")
    with pytest.raises(ForbiddenError) as refused:
        await b.add_members(crowd, "ben", ["dan"])
    assert refused.value.reason == "ROLE"

    await a.ban_member(crowd, "ben", by="ann")
    ben.say(text(crowd, "k2"))
    (gone,) = await ben.hear("ERROR")
    assert gone["code"] == "NOT_FOUND"
    with pytest.raises(ForbiddenError):
        await b.add_members(crowd, "ann", ["ben"])


async def test_who_is_online_at_another_node_hears_of_it_within_a_second(two: Cluster) -> None:
    a, b = two.nodes
    crowd = await group(a, "ann", "ben", "cat")
    ben, cat = await login(b, "ben"), await login(b, "cat")
    await a.set_role(crowd, "ben", "ADMIN")
    assert kinds(await after(SOON_S, ben)) == [("CONVERSATION", "UPDATED")]
    await a.ban_member(crowd, "ben")

    assert ("CONVERSATION", "LEFT") in kinds(await after(SOON_S, ben))
    assert ("NEW_MSG", None) in kinds(await after(SOON_S, cat))
    await a.send(crowd, "cat", "after", client_msg_id="k")
    assert kinds(await after(SOON_S, ben)) == []


async def test_the_hosts_verbs_take_no_nonsense(two: Cluster) -> None:
    a = two.nodes[0]
    crowd = await group(a, "ann", "ben")
    for role in ("OWNER", "admin", None):
        with pytest.raises(BadRequestError):
            await a.set_role(crowd, "ben", role)  # type: ignore[arg-type]
    with pytest.raises(BadRequestError, match="time zone"):
        await a.silence_member(crowd, "ben", datetime(2030, 1, 1))  # noqa: DTZ001
    with pytest.raises(BadRequestError):
        await a.set_history(crowd, "ALL")  # type: ignore[arg-type]
    with pytest.raises(BadRequestError):
        await a.bans(crowd, limit=0)
    with pytest.raises(NotFoundError):
        await a.bans("nowhere")
    with pytest.raises(NotFoundError):
        await a.recall("1-none-1")
    await a.silence_member(crowd, "ben", datetime.now(UTC) + timedelta(days=9_999))
    with pytest.raises(ForbiddenError):
        await a.send(crowd, "ben", "x", client_msg_id="k")
    assert await a.bans(crowd) == []


class Broken:
    """A policy of a host that fails."""

    def allows(
        self,
        role: Role,
        action: str,
        *,
        target: Role | None = None,
        conversation_type: ConversationType = "GROUP",
    ) -> bool:
        raise ZeroDivisionError("no answer")


async def test_a_policy_that_fails_refuses_and_changes_nothing() -> None:
    async with ChatServer(
        store=open_store("memory://"), authenticate=by_name, policy=Broken(), drain_on_signals=False
    ) as server:
        crowd = await group(server, "ann", "ben")
        with pytest.raises(InternalError):
            await server.send(crowd, "ben", "x", client_msg_id="k")
        await server.set_role(crowd, "ben", "ADMIN")  # the host asks nobody
        assert [it.role for it in await _members(server, crowd)] == ["OWNER", "ADMIN"]
        assert len(await server.store.entries(crowd, 0, 9)) == 1


async def test_a_policy_is_one_and_a_table_has_known_words() -> None:
    for policy in (None, "OWNER", RolePolicy):
        with pytest.raises(ConfigurationError):
            ChatServer(store=open_store("memory://"), authenticate=by_name, policy=policy)  # type: ignore[arg-type]
    for table in ({"BOSS": set()}, {"ADMIN": {"FLY"}}):
        with pytest.raises(ConfigurationError, match="no such role or action"):
            RolePolicy(table)  # type: ignore[arg-type]
    assert not RolePolicy({}).allows("OWNER", "SEND_MESSAGES")


async def _members(server: ChatServer, conversation_id: str) -> list[Any]:
    return [it.member for it in await server.store.members(conversation_id, "ann", None, 9)]
