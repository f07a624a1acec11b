"""New connections: counted by address, by second and by user; whoever is turned away is told when to come back."""

from __future__ import annotations

from typing import Any

import anyio
import httpx

from chatkit import ChatClient, ClientConfig, Identity, MemoryConnector, Reconnecting, asgi_app
from chatkit.core.connection import State
from chatkit.core.rate_limit import Rate
from chatkit.server.limits import Limits
from chatkit.server.login_request import LoginRequest
from chatkit.server.session import Session
from chatkit.wire.codec import JSON

from .harness import HarnessServer, Peer, by_name, login, serving


def limited(**limits: Any) -> dict[str, Any]:
    return {"limits": Limits(**limits), "overload_retry_s": 2.5}


def opened(server: HarnessServer, address: str | None = "10.0.0.1") -> Session:
    request = None if address is None else LoginRequest(client_address=address)
    return server.connect(JSON, lambda: None, request)


def refusal(session: Session) -> dict[str, Any]:
    """The ERROR before the close."""
    frame = session.next_frame()
    assert frame is not None
    (event,) = [JSON.plain(frame)]
    assert isinstance(event, dict)
    assert session.close_code == 4002
    return event


def end_all(server: HarnessServer) -> None:
    for session in list(server._sessions):
        server.disconnected(session)


async def test_one_address_has_so_many_connections() -> None:
    async with serving(**limited(connections_per_address=3)) as server:
        sessions = [opened(server) for _ in range(4)]
        assert [it.close_code for it in sessions] == [None, None, None, 4002]
        error = refusal(sessions[3])
        assert (error["code"], error["retryAfterMs"]) == ("OVERLOADED", 2500)
        assert opened(server, "10.0.0.2").close_code is None
        assert opened(server, None).close_code is None

        server.disconnected(sessions[3])
        server.disconnected(sessions[0])
        assert opened(server).close_code is None
        end_all(server)
        assert len(server._sessions._admission) == 0


async def test_of_ipv6_a_network_counts_as_one_address() -> None:
    async with serving(**limited(connections_per_address=2)) as server:
        addresses = [
            "2001:db8:0:1::1",
            "2001:db8:0:1:ffff::2",
            "2001:db8:0:1::3",
            "2001:db8:0:2::1",
            "fe80::1%lo",
        ]
        sessions = [opened(server, it) for it in addresses]
        assert [it.close_code for it in sessions] == [None, None, 4002, None, None]
        mapped = [
            opened(server, it)
            for it in ("::ffff:10.0.0.9", "10.0.0.9", "::ffff:10.0.0.9", "no address: at all")
        ]
        assert [it.close_code for it in mapped] == [None, None, 4002, None]
        end_all(server)
        assert len(server._sessions._admission) == 0


async def test_of_those_that_do_not_log_in_the_oldest_makes_room() -> None:
    async with serving(**limited(logins_pending_per_address=2)) as server:
        first, second, third = (opened(server) for _ in range(3))
        assert (second.close_code, third.close_code) == (None, None)
        assert refusal(first)["code"] == "OVERLOADED"

        second.state = State.OPEN  # logged in: it keeps nobody out and is kept
        fourth = opened(server)
        assert (second.close_code, third.close_code, fourth.close_code) == (None, None, None)
        opened(server)
        assert third.close_code == 4002
        end_all(server)


async def test_so_many_are_taken_in_a_second() -> None:
    async with serving(**limited(new_connections=Rate(1, 2))) as server:
        sessions = [opened(server, None) for _ in range(3)]
        assert [it.close_code for it in sessions] == [None, None, 4002]
        error = refusal(sessions[2])
        assert error["code"] == "RATE_LIMITED"
        assert error["retryable"]
        assert error["retryAfterMs"] == 2500
        end_all(server)


async def test_who_is_refused_by_the_rate_costs_no_earlier_login_its_place() -> None:
    async with serving(**limited(new_connections=Rate(1, 2), logins_pending_per_address=2)) as server:
        sessions = [opened(server) for _ in range(4)]
        assert [it.close_code for it in sessions] == [None, None, 4002, 4002]
        end_all(server)


async def test_an_address_with_too_many_connections_takes_nothing_from_the_rate_of_all() -> None:
    async with serving(**limited(new_connections=Rate(1, 2), connections_per_address=1)) as server:
        sessions = [opened(server) for _ in range(4)]
        assert [it.close_code for it in sessions] == [None, 4002, 4002, 4002]
        assert opened(server, "10.0.0.2").close_code is None
        end_all(server)


async def test_one_address_is_taken_in_so_often_and_leaves_the_rest_to_the_others() -> None:
    limits = {"new_connections_per_address": Rate(0.01, 3), "new_connections": Rate(1, 6)}
    async with serving(**limited(**limits)) as server:
        for _ in range(20):
            session = opened(server, "2001:db8:0:1::1")
            server.disconnected(session)
        assert refusal(session)["code"] == "RATE_LIMITED"
        assert [opened(server, f"10.0.0.{number}").close_code for number in range(3)] == [None] * 3
        assert [opened(server, "10.0.0.9").close_code for _ in range(9)] == [4002] * 9, "the rate of all"
        await anyio.sleep(1)
        assert opened(server, "10.0.0.9").close_code is None, (
            "what the rate of all refused took nothing from its own"
        )
        end_all(server)


async def test_by_default_no_address_takes_all_of_the_new_connections() -> None:
    async with serving(limits=Limits()) as server:
        for _ in range(2_000):
            server.disconnected(opened(server))
        assert opened(server, "10.0.0.2").close_code is None
        end_all(server)


async def ask(server: HarnessServer, token: str, address: str = "10.0.0.1") -> httpx.Response:
    transport = httpx.ASGITransport(asgi_app(server), client=(address, 1))
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=headers) as http:
        return await http.get("/v1/conversations")


async def test_http_logins_that_fail_take_from_the_rate_of_their_address_and_the_host_is_not_asked() -> None:
    asked: list[str] = []

    async def authenticate(token: str) -> Identity:
        asked.append(token)
        return await by_name(token)

    limits = {"new_connections_per_address": Rate(0.1, 3)}
    async with serving(**limited(**limits), authenticate=authenticate) as server:
        statuses = [(await ask(server, token)).status_code for token in ["ann"] * 9 + ["nobody"] * 4]
        refused = await ask(server, "ann")

        assert statuses == [200] * 9 + [401] * 3 + [429], "those that succeed take nothing"
        assert asked == ["ann"] * 9 + ["nobody"] * 3
        assert refused.json()["code"] == "RATE_LIMITED"
        assert int(refused.headers["retry-after"]) >= 7
        assert opened(server).close_code == 4002
        assert (await ask(server, "ann", "10.0.0.2")).status_code == 200
        await anyio.sleep(10)
        assert (await ask(server, "ann")).status_code == 200
        end_all(server)


async def test_a_user_has_so_many_connections() -> None:
    async with serving(**limited(sessions_per_user=2)) as server:
        first, _ = await login(server, "ann", "phone"), await login(server, "ann", "tablet")
        third = Peer(server)
        third.say({"event": "HELLO", "token": "ann", "deviceId": "laptop"})
        (error,) = await third.hear("ERROR")
        assert (error["code"], error["retryAfterMs"]) == ("OVERLOADED", 2500)
        assert third.session.close_code == 4002
        await login(server, "ben", "phone")

        again = await login(server, "ann", "phone")  # in the place of the same device
        assert first.session.close_code == 4201
        assert again.session.close_code is None


async def test_while_the_node_drains_a_new_connection_hears_when_to_come_back() -> None:
    async with serving() as server:
        server._sessions.turn_away()
        session = opened(server)
        frame = session.next_frame()
        assert frame is not None
        assert JSON.plain(frame)["event"] == "GOAWAY"
        assert session.close_code == 1001
        end_all(server)


async def test_the_sdk_comes_back_when_it_was_told_to() -> None:
    async with serving(**limited(new_connections=Rate(0.05, 1))) as server:
        device = opened(server, None)  # the only one that is taken in for 20 s
        config = ClientConfig(backoff_base_s=0.01, backoff_max_s=0.02)
        async with ChatClient(
            "memory://", token="ann", device_id="phone", connector=MemoryConnector(server), config=config
        ) as chat:
            async for event in chat.events():
                if isinstance(event, Reconnecting):
                    break
            assert event.delay_s >= 19.0
            await chat.aclose()
        server.disconnected(device)
