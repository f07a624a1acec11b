"""The host ends logins of a real server: every way in is closed, and the right one opens again.

The server runs in this process, on a real port, for only its host can revoke; who is turned away speaks from outside.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import anyio.to_thread
import httpx
import pytest

from .hosted import HostedServer, hosted
from .peer import Peer, send_msg
from .tokens import token
from .world import fresh, refused

USER = "ann"

End = Callable[[HostedServer, str], Awaitable[None]]
ENDS: dict[str, tuple[End, int]] = {
    "user": (lambda host, signed: host.revoke(user_id=USER), 4101),
    "device": (lambda host, signed: host.revoke(user_id=USER, device_id="phone"), 4101),
    "token": (lambda host, signed: host.revoke(token=signed), 4101),
    "ban": (lambda host, signed: host.ban(USER), 4202),
}


@pytest.fixture
async def host() -> AsyncIterator[HostedServer]:
    async with hosted() as made:
        yield made


def issued(device: str | None = "phone") -> str:
    """A token that says when it was issued, to the millisecond."""
    return token(USER, device, iat=time.time())


async def outside(function: Callable[..., Any], *args: Any) -> Any:
    """Something that waits for the server."""
    return await anyio.to_thread.run_sync(partial(function, *args))


async def enter(host: HostedServer, signed: str, device: str = "phone") -> Peer:
    def connected() -> Peer:
        peer = Peer(f"ws://127.0.0.1:{host.port}/v1/ws")
        peer.hello(signed, device)
        peer.heads()
        return peer

    return await outside(connected)


async def login_code(host: HostedServer, **hello: str) -> int:
    """The code that a login is closed with."""

    def tried() -> int:
        peer = Peer(f"ws://127.0.0.1:{host.port}/v1/ws")
        peer.send({"event": "HELLO", "deviceId": "phone", **hello})
        code = peer.close_code()
        assert not peer.seen("WELCOME")
        return code

    return await outside(tried)


async def get(host: HostedServer, signed: str, **headers: str) -> httpx.Response:
    headers |= {"authorization": f"Bearer {signed}"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{host.port}", trust_env=False) as web:
        return await web.get("/v1/conversations", headers=headers)


@pytest.mark.parametrize("name", ENDS)
async def test_every_way_in_is_closed(host: HostedServer, name: str) -> None:
    end, code = ENDS[name]
    signed = issued()
    await host.create_conversation("GROUP", "ben", ["ben", USER], conversation_id=(made := fresh("g")))
    peer = await enter(host, signed)
    resume_token = peer.welcome["resumeToken"]
    assert (await get(host, signed)).status_code == 200
    await end(host, signed)
    await host.send(made, "ben", "after the end", client_msg_id="k")
    assert await outside(peer.close_code) == code

    assert not peer.seen("NEW_MSG")
    refused(await get(host, signed), "FORBIDDEN" if name == "ban" else "TOKEN_REVOKED")
    assert await login_code(host, token=signed) == code
    assert await login_code(host, resumeToken=resume_token) == 4101
    assert (await host.store.head_seqs([made]))[made][1] == 2


@pytest.mark.parametrize("name", ["user", "device", "token"])
async def test_a_token_issued_later_opens_everything_again(host: HostedServer, name: str) -> None:
    signed = issued()
    await ENDS[name][0](host, signed)
    await anyio.sleep(0.005)
    later = issued()

    peer = await enter(host, later)
    assert (await get(host, later)).status_code == 200
    await outside(peer.ping)


async def test_a_lifted_ban_lets_the_old_token_in(host: HostedServer) -> None:
    signed = issued()
    await host.ban(USER)
    assert await login_code(host, token=signed) == 4202
    await host.unban(USER)

    await outside((await enter(host, signed)).ping)


async def test_who_is_disconnected_comes_back_by_its_resume_token(host: HostedServer) -> None:
    peer = await enter(host, issued())
    await host.disconnect(USER)
    assert await outside(peer.close_code) == 4003

    again = await outside(Peer, f"ws://127.0.0.1:{host.port}/v1/ws")
    welcome = await outside(again.resume, peer.welcome["resumeToken"], "phone")
    assert welcome["resumed"] is True


async def test_what_a_session_sends_while_it_is_revoked_is_stored_before_that_or_never(
    host: HostedServer,
) -> None:
    await host.create_conversation("GROUP", USER, [USER, "ben"], conversation_id=(made := fresh("g")))
    peer = await enter(host, issued())
    for number in range(100):
        await outside(peer.send, send_msg(made, "x", f"k{number}"))
    await host.revoke(user_id=USER)
    head = (await host.store.head_seqs([made]))[made][1]
    await outside(peer.send, send_msg(made, "x", "late"))
    await outside(peer.close_code)

    assert (await host.store.head_seqs([made]))[made][1] == head


async def test_the_tokens_device_beats_the_header(host: HostedServer) -> None:
    """A request can confirm for no other device than the one that its token names."""
    await host.create_conversation("GROUP", "ben", ["ben", USER], conversation_id=(made := fresh("g")))
    sent = await host.send(made, "ben", "hello", client_msg_id="k")
    headers = {"authorization": f"Bearer {issued()}", "x-device-id": "tablet"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{host.port}", trust_env=False) as web:
        confirmed = await web.post(f"/v1/messages/{sent.message_id}/delivered", headers=headers)
    status = await host.store.status(sent.message_id, "ben", None, 10)

    assert confirmed.status_code == 204
    assert [(it.device_id, it.state) for it in status.deliveries] == [("phone", "DELIVERED")]
