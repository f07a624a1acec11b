"""The end of logins: revoke, disconnect, ban; on one node and on several, with a bus that loses everything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

from chatkit.errors import (
    BadRequestError,
    BannedError,
    NotFoundError,
    TokenRevokedError,
    UnauthenticatedError,
    UnavailableError,
)
from chatkit.ports import Ports
from chatkit.server.auth import jwt_authenticator, sign_token
from chatkit.server.devices import SEEN_EVERY_S
from chatkit.server.limits import Limits
from chatkit.server.login import digest_of_token
from chatkit.server.server import ChatServer
from chatkit.types import Identity

from .harness import GatedStore, HarnessServer, Peer, group, serving, text
from .nodes import Cluster, at_once, cluster, never

ANN = "ann"
ENDS_S = 1.0

End = Callable[[ChatServer], Awaitable[None]]
ENDS: dict[str, tuple[End, int]] = {
    "user": (lambda server: server.revoke(user_id=ANN), 4101),
    "device": (lambda server: server.revoke(user_id=ANN, device_id="phone"), 4101),
    "token": (lambda server: server.revoke(token=ANN), 4101),
    "ban": (lambda server: server.ban(ANN), 4202),
    "disconnect": (lambda server: server.disconnect(ANN), 4003),
    "disconnect device": (lambda server: server.disconnect(ANN, "phone"), 4003),
}
FINAL = ["user", "device", "token", "ban"]


async def enter(server: HarnessServer, token: str = ANN, device_id: str = "phone") -> tuple[Peer, str]:
    """A peer that has logged in, and its resume token."""
    peer = Peer(server)
    peer.say({"event": "HELLO", "token": token, "deviceId": device_id})
    (welcome, _) = await peer.hear("WELCOME", "HEADS")
    return peer, welcome["resumeToken"]


async def answer(server: HarnessServer, device_id: str = "phone", **proof: str) -> tuple[int | None, str]:
    """How a login ends: the close code and the code of its ERROR; (None, "") if it holds."""
    peer = Peer(server)
    peer.say({"event": "HELLO", "deviceId": device_id, **proof})
    with anyio.fail_after(10):
        while peer.session.close_code is None and peer.session.identity is None:
            await anyio.sleep(0.01)
    errors = [event["code"] for event in peer.read() if event["event"] == "ERROR"]
    return peer.session.close_code, errors[0] if errors else ""


# --- one node ---


@pytest.mark.parametrize("name", ENDS)
async def test_the_sockets_end_before_the_call_returns(name: str) -> None:
    end, code = ENDS[name]
    async with serving() as server:
        ann, _ = await enter(server)
        ben, _ = await enter(server, "ben")
        await end(server)

        assert (ann.session.close_code, ben.session.close_code) == (code, None)
        assert not server._hub.presence.is_online(ANN)


@pytest.mark.parametrize("name", FINAL)
async def test_resume_tokens_are_gone(name: str) -> None:
    async with serving() as server:
        _, resume_token = await enter(server)
        await ENDS[name][0](server)

        assert await answer(server, resumeToken=resume_token) == (4101, "TOKEN_REVOKED")


async def test_who_is_disconnected_may_come_back() -> None:
    async with serving() as server:
        _, resume_token = await enter(server)
        await server.disconnect(ANN)

        assert await answer(server, resumeToken=resume_token) == (None, "")


async def test_a_revoked_token_is_refused_everywhere_for_good() -> None:
    async with serving() as server:
        _, first = await enter(server)
        resumed = Peer(server)
        resumed.say({"event": "HELLO", "deviceId": "phone", "resumeToken": first})
        await resumed.hear("WELCOME")
        await server.revoke(token=ANN)

        assert resumed.session.close_code == 4101, "its login came by that token, a resume ago"
        assert await answer(server, token=ANN) == (4101, "TOKEN_REVOKED")
        with pytest.raises(TokenRevokedError):
            await server.login.identify(ANN)
        assert await answer(server, token="ann/phone") == (None, ""), "another token of the same user"


async def test_another_spelling_of_a_revoked_jwt_is_refused_too() -> None:
    """The last letter of a signature has bits that nobody reads, and PyJWT passes over what is no base64."""
    secret = "a-secret-of-at-least-32-characters"
    token = sign_token(secret, user_id=ANN)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    place = letters.index(token[-1])
    spellings = [
        *(token[:-1] + letters[place ^ bits] for bits in (1, 2, 3)),
        token + "=",
        token + "!",
        token + "\n",
    ]
    async with serving(authenticate=jwt_authenticator(secret), ports=Ports()) as server:
        taken = [it for it in spellings if (await answer(server, token=it)) == (None, "")]
        await server.revoke(token=token)

        assert taken, "there are several spellings"
        assert {await answer(server, token=it) for it in taken} == {(4101, "TOKEN_REVOKED")}
        await server.revoke(token=taken[0])
        assert await answer(server, token=sign_token(secret, user_id=ANN, ttl_s=7)) == (None, "")


@pytest.mark.parametrize("token", ["a.b.c", "e30.x.y", "..", "x", "{}.a.b", "eyJhbGciOjF9x.a.b"])
def test_an_opaque_token_is_named_by_all_of_it(token: str) -> None:
    assert digest_of_token(token) != digest_of_token(token + "x")


async def test_a_device_that_is_revoked_leaves_the_others_alone() -> None:
    async with serving() as server:
        phone, _ = await enter(server)
        tablet, resume_token = await enter(server, device_id="tablet")
        await server.revoke(user_id=ANN, device_id="phone")

        assert (phone.session.close_code, tablet.session.close_code) == (4101, None)
        assert await answer(server, "tablet", resumeToken=resume_token) == (None, "")


async def test_a_banned_user_is_told_so_until_the_ban_is_lifted() -> None:
    async with serving() as server:
        await server.ban(ANN)
        assert await answer(server, token=ANN) == (4202, "FORBIDDEN")
        with pytest.raises(BannedError):
            await server.login.identify(ANN)
        await server.unban(ANN)

        assert await answer(server, token=ANN) == (None, "")
        assert (await server.login.identify(ANN)).user_id == ANN


async def test_nothing_pushed_leaves_after_the_revocation_and_nothing_sent_is_stored() -> None:
    store = GatedStore()
    async with serving(store) as server:
        conversation = await group(server, "ben", ANN)
        ann, _ = await enter(server)
        await enter(server, "ben")
        store.hold()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.ban, ANN)
            await anyio.sleep(0.01)
            ann.say(text(conversation, "in the next transaction"))
            store.release()
        (head,) = await server.store.heads("ben", "phone")

        assert head.head_seq == 1
        assert [event["event"] for event in ann.read()] == []


async def test_what_was_buffered_for_a_revoked_session_is_not_written() -> None:
    async with serving() as server:
        conversation = await group(server, "ben", ANN)
        ann, _ = await enter(server)
        await server.send(conversation, "ben", "secret", client_msg_id="k")
        await server.revoke(user_id=ANN)

        assert ann.read() == []
        await server.send(conversation, "ben", "later", client_msg_id="k2")
        assert ann.read() == []


async def test_a_login_that_is_revoked_while_the_host_is_asked_does_not_open() -> None:
    asked, go_on = anyio.Event(), anyio.Event()

    async def slow(token: str) -> Identity:
        asked.set()
        await go_on.wait()
        return Identity(token)

    async with serving(authenticate=slow) as server:
        peer = Peer(server)
        peer.say({"event": "HELLO", "token": ANN, "deviceId": "phone"})
        await asked.wait()
        await server.revoke(user_id=ANN)
        go_on.set()

        assert await peer.closed() == 4002, "the host is to be asked again"
        assert await answer(server, token=ANN) == (None, "")


async def test_tokens_issued_up_to_the_revocation_of_their_user_are_refused() -> None:
    issued_ms: list[int] = []

    async def dated(token: str) -> Identity:
        return Identity(ANN, issued_at_ms=issued_ms[0])

    async with serving(authenticate=dated) as server:
        now_ms = server.ports.clock.now_ms()
        issued_ms.append(now_ms)
        await server.revoke(user_id=ANN)
        refused = await answer(server, token="old")
        with pytest.raises(TokenRevokedError):
            await server.login.identify("old")
        issued_ms[0] = now_ms + 1

        assert refused == (4101, "TOKEN_REVOKED")
        assert await answer(server, token="new") == (None, "")


async def test_a_renewal_by_a_revoked_token_does_not_hold() -> None:
    async with serving() as server:
        ann, _ = await enter(server)
        await server.revoke(token="ann/phone")
        ann.say({"event": "AUTH_REFRESH", "token": "ann/phone"})
        (error,) = await ann.hear("ERROR")
        assert error["code"] == "TOKEN_REVOKED"
        ann.say({"event": "AUTH_REFRESH", "token": "ann/"})
        await ann.hear("AUTH_OK")
        await server.revoke(token=ANN)
        assert ann.session.close_code is None, "it has another token by now"
        await server.revoke(token="ann/")

        assert ann.session.close_code == 4101


async def test_revocations_outlive_the_server() -> None:
    store = GatedStore()
    await store.migrate()
    kept = store.aclose

    async def stay_open() -> None:
        """The store goes on."""

    async def migrated() -> bytes:
        return b"s" * 32

    store.aclose, store.migrate = stay_open, migrated  # type: ignore[method-assign]
    async with serving(store) as server:
        await server.revoke(token="t")
        await server.ban(ANN)
    async with serving(store) as server:
        assert await answer(server, token="t") == (4101, "TOKEN_REVOKED")
        assert await answer(server, token=ANN) == (4202, "FORBIDDEN")
        rows = await server.store.login_audit(0, 10)
    await kept()

    assert [(row.action, row.user_id) for row in rows] == [("REVOKED", ""), ("BANNED", ANN)]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"device_id": "phone"},
        {"user_id": ANN, "token": "t"},
        {"token": "t", "device_id": "phone"},
        {"user_id": "no id"},
        {"user_id": ANN, "device_id": "a|b"},
        {"token": ""},
    ],
)
async def test_a_revocation_of_nobody_in_particular_is_refused(arguments: dict[str, Any]) -> None:
    async with serving() as server:
        with pytest.raises(BadRequestError) as caught:
            await server.revoke(**arguments)
        assert await server.store.login_audit(0, 10) == []
    assert "'t'" not in str(caught.value)


async def test_a_token_is_known_as_revoked_until_it_ends_by_itself() -> None:
    fates = {"short": 5_000, "endless": None}

    async def authenticate(token: str) -> Identity:
        if token == "down":
            raise ConnectionError("the directory is down")
        if token not in fates:
            raise UnauthenticatedError("unknown")
        end_ms = fates[token]
        return Identity(ANN, expires_ms=None if end_ms is None else now_ms + end_ms)

    async with serving(authenticate=authenticate, token_leeway_s=1.0, resume_token_s=60.0) as server:
        now_ms = server.ports.clock.now_ms()
        for token in ("short", "endless", "gone", "down"):
            await server.revoke(token=token)
        kept = [it.ends_ms for it in await server.store.revocations(0, 10)]

    assert kept == [now_ms + 6_000, None, now_ms + 60_000, None]


async def test_a_host_that_does_not_answer_holds_no_revocation_up() -> None:
    async def silent(token: str) -> Identity:
        await anyio.sleep_forever()
        raise AssertionError

    async with serving(authenticate=silent) as server:
        began_s = anyio.current_time()
        await server.revoke(token="t")

        assert anyio.current_time() - began_s < 1.5
        assert await answer(server, token="t") == (4101, "TOKEN_REVOKED")


# --- several nodes ---


@pytest.fixture(params=["memory", "sqlite"])
async def two(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    async with cluster(str(request.param)) as made:
        yield made


@pytest.mark.parametrize("fate", [at_once, never])
@pytest.mark.parametrize("name", ENDS)
async def test_the_sockets_of_the_other_node_end_within_a_second(two: Cluster, name: str, fate: Any) -> None:
    end, code = ENDS[name]
    a, b = two.nodes
    two.bus.fate = fate
    ann, _ = await enter(b)
    ben, _ = await enter(b, "ben")
    await end(a)
    began_s = anyio.current_time()
    assert await ann.closed() == code

    assert anyio.current_time() - began_s <= (ENDS_S if fate is never else 0.1)
    assert ben.session.close_code is None


@pytest.mark.parametrize("name", FINAL)
async def test_the_other_node_refuses_what_was_revoked_here(two: Cluster, name: str) -> None:
    a, b = two.nodes
    two.bus.fate = never
    _, resume_token = await enter(b)
    await ENDS[name][0](a)

    assert (await answer(b, resumeToken=resume_token))[0] == 4101
    if name in ("token", "ban"):
        assert (await answer(b, token=ANN))[0] == ENDS[name][1], "the store knows before the node does"
        await anyio.sleep(ENDS_S)
        with pytest.raises((TokenRevokedError, BannedError)):
            await b.login.identify(ANN)


async def test_who_logs_in_elsewhere_after_the_revocation_stays(two: Cluster) -> None:
    a, b = two.nodes
    two.bus.fate = never
    await enter(a)
    await a.revoke(user_id=ANN)
    await anyio.sleep(0.6)
    ann, _ = await enter(b)
    await anyio.sleep(3)

    assert ann.session.close_code is None


async def test_who_comes_back_at_once_to_the_node_that_disconnected_it_stays(two: Cluster) -> None:
    a, _ = two.nodes
    _, resume_token = await enter(a)
    await a.disconnect(ANN)
    back = Peer(a)
    back.say({"event": "HELLO", "deviceId": "phone", "resumeToken": resume_token})
    await back.hear("WELCOME")
    await anyio.sleep(ENDS_S)

    assert back.session.close_code is None


async def test_a_session_that_opens_while_it_is_revoked_elsewhere_ends(two: Cluster) -> None:
    a, b = two.nodes
    two.bus.fate = never
    store = two.store.inner
    commit = store.commit
    held = anyio.Event()

    async def late(commands: Any) -> Any:
        """The answer of the transaction comes after another node has revoked what it opened."""
        outcomes = await commit(commands)
        if any(type(it).__name__ == "OpenSession" for it in commands):
            await held.wait()
        return outcomes

    store.commit = late  # type: ignore[method-assign]
    peer = Peer(b)
    peer.say({"event": "HELLO", "token": ANN, "deviceId": "phone"})
    await anyio.sleep(0.1)
    await a.revoke(user_id=ANN)
    await anyio.sleep(ENDS_S)
    held.set()

    assert await peer.closed() == 4101


async def test_a_lifted_ban_is_lifted_on_every_node(two: Cluster) -> None:
    a, b = two.nodes
    two.bus.fate = never
    await a.ban(ANN)
    await anyio.sleep(ENDS_S)
    assert (await answer(b, token=ANN))[0] == 4202
    await a.unban(ANN)
    await anyio.sleep(ENDS_S)

    assert await answer(b, token=ANN) == (None, "")
    assert await answer(a, device_id="tablet", token=ANN) == (None, "")


async def test_a_read_that_storage_refuses_is_made_up_for(two: Cluster) -> None:
    a, b = two.nodes
    two.bus.fate = never
    read, refused = two.store.inner.revocations, []

    async def faulty(after: int, limit: int) -> Any:
        if len(refused) < 3:
            refused.append(after)
            raise UnavailableError("the disk refuses")
        return await read(after, limit)

    ann, _ = await enter(b)
    two.store.inner.revocations = faulty  # type: ignore[method-assign]
    await a.revoke(user_id=ANN)

    assert await ann.closed() == 4101
    assert len(refused) == 3


# --- the host is asked at resume ---


class Directory:
    """A host's logins, which it may end."""

    def __init__(self) -> None:
        self.answer: Any = None
        self.asked: list[Identity] = []

    async def __call__(self, identity: Identity) -> Identity | None:
        self.asked.append(identity)
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer == "never":
            await anyio.sleep_forever()
        return identity if self.answer is None else self.answer if self.answer != "gone" else None


async def resumed(directory: Directory, answer_now: Any, **config: Any) -> tuple[int | None, str]:
    async with serving(authorize_resume=directory, **config) as server:
        _, resume_token = await enter(server)
        directory.answer = answer_now
        return await answer(server, resumeToken=resume_token)


@pytest.mark.parametrize(
    ("answer_now", "outcome"),
    [
        (None, (None, "")),
        ("gone", (4101, "TOKEN_REVOKED")),
        (UnauthenticatedError("who?"), (4101, "UNAUTHENTICATED")),
        (Identity(ANN, expires_ms=1), (4100, "TOKEN_EXPIRED")),
        (Identity("ben"), (4101, "UNAUTHENTICATED")),
        (Identity(ANN, "tablet"), (4101, "UNAUTHENTICATED")),
        (True, (4101, "UNAUTHENTICATED")),
        (ConnectionError("down"), (4002, "UNAVAILABLE")),
        ("never", (4002, "UNAVAILABLE")),
    ],
)
async def test_the_hosts_answer_decides_a_resume(answer_now: Any, outcome: tuple[int | None, str]) -> None:
    directory = Directory()
    assert await resumed(directory, answer_now, hello_timeout_s=2.0) == outcome
    assert directory.asked == [Identity(ANN, "phone", None, "")]


async def test_an_unknown_resume_token_asks_nobody() -> None:
    directory = Directory()
    async with serving(authorize_resume=directory) as server:
        assert await answer(server, resumeToken="guess") == (4101, "TOKEN_REVOKED")
    assert directory.asked == []


@pytest.mark.parametrize("asking", [False, True])
async def test_a_chain_of_resumes_ends_unless_the_host_is_asked(asking: bool) -> None:
    async with serving(authorize_resume=Directory() if asking else None, login_max_s=20.0) as server:
        peer, resume_token = await enter(server)
        for _ in range(4):
            await anyio.sleep(6)
            peer = Peer(server)
            peer.say({"event": "HELLO", "deviceId": "phone", "resumeToken": resume_token})
            found = [event for event in await until_answered(peer) if event["event"] in ("WELCOME", "ERROR")]
            if found[0]["event"] == "ERROR":
                break
            resume_token = found[0]["resumeToken"]

        assert (found[0]["event"] == "ERROR") is not asking
        assert peer.session.close_code == (None if asking else 4100)


async def until_answered(peer: Peer) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    with anyio.fail_after(5):
        while not events:
            await anyio.sleep(0.01)
            events = peer.read()
    return events


# --- devices ---


async def test_one_device_too_many_drives_out_the_longest_unseen_that_is_not_online() -> None:
    async with serving(limits=limits(3)) as server:
        online, resume_token = await enter(server, device_id="d0")
        away, of_away = await enter(server, device_id="d1")
        away.leave()
        await enter(server, device_id="d2")
        await enter(server, device_id="d3")

        assert await answer(server, "d1", resumeToken=of_away) == (4101, "TOKEN_REVOKED")
        assert online.session.close_code is None
        assert await answer(server, "d4", token=ANN) == (4002, "RATE_LIMITED"), "all are online"
        online.leave()
        assert await answer(server, "d0", resumeToken=resume_token) == (None, "")


async def test_a_confirmation_by_http_drives_no_online_device_out() -> None:
    async with serving(limits=limits(1)) as server:
        conversation = await group(server, "ben", ANN)
        sent = await server.send(conversation, "ben", "hi", client_msg_id="k")
        await enter(server)
        command = server.engine.confirm(sent.message_id, ANN, "web")

        assert command.rule.online == ("phone",)


async def test_an_online_device_of_another_node_is_not_forgotten() -> None:
    async with cluster("sqlite", limits=limits(1), heartbeat_s=10_000.0) as made:
        a, b = made.nodes
        phone, _ = await enter(a)
        await anyio.sleep(3 * SEEN_EVERY_S)
        assert await answer(b, "web", token=ANN) == (4002, "RATE_LIMITED")
        phone.leave()
        await anyio.sleep(3 * SEEN_EVERY_S)

        assert await answer(b, "web", token=ANN) == (None, "")


def limits(devices: int) -> Limits:
    return Limits(devices_per_user=devices)


async def test_nobody_learns_from_a_ban_who_exists() -> None:
    async with serving() as server:
        await server.ban("nobody-ever")
        await server.unban("stranger")
        with pytest.raises(NotFoundError):
            await server.store.conversation("g", "nobody-ever")
