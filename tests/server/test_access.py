"""The end of logins: revoke, disconnect, ban; on one node and on several, with a bus that loses everything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import anyio
import jwt
import msgspec
import pytest

from chatkit import asgi_app
from chatkit.errors import (
    BadRequestError,
    BannedError,
    ForbiddenError,
    NotFoundError,
    RateLimitedError,
    TokenExpiredError,
    TokenRevokedError,
    UnauthenticatedError,
    UnavailableError,
)
from chatkit.ports import Clock, Ports
from chatkit.server.access import Access
from chatkit.server.auth import jwt_authenticator, sign_token
from chatkit.server.cluster.reconcile_queue import ReconcileQueue
from chatkit.server.devices import SEEN_EVERY_S
from chatkit.server.limits import Limits
from chatkit.server.live.hub import Hub
from chatkit.server.login import digest_of_token
from chatkit.server.proof import Proof
from chatkit.server.server import ChatServer
from chatkit.storage.base import Advanced, AuditFilter, Revocation
from chatkit.testing.virtual_time import VirtualClock
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
            await server.login.prove(ANN)
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
            await server.login.prove(ANN)
        await server.unban(ANN)

        assert await answer(server, token=ANN) == (None, "")
        assert (await server.login.prove(ANN)).user_id == ANN


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
            await server.login.prove("old")
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
        rows = await server.store.acts(AuditFilter(), 0, 10)
    await kept()

    assert [(row.action, row.subject) for row in rows] == [("REVOKED", ""), ("BANNED", ANN)]


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
        assert await server.store.audit_end() == 0
    assert "'t'" not in str(caught.value)


async def test_a_token_is_known_as_revoked_until_it_ends_by_itself() -> None:
    fates = {"short": 5_000, "endless": None}

    async def authenticate(token: str) -> Identity:
        if token == "down":
            raise ConnectionError("the directory is down")
        if token == "over":
            raise TokenExpiredError("it has ended")
        if token not in fates:
            raise UnauthenticatedError("unknown")
        end_ms = fates[token]
        return Identity(ANN, expires_ms=None if end_ms is None else now_ms + end_ms)

    async with serving(authenticate=authenticate, token_leeway_s=1.0, resume_token_s=60.0) as server:
        now_ms = server.ports.clock.now_ms()
        for token in ("short", "endless", "over", "unknown", "down"):
            await server.revoke(token=token)
        kept = [it.ends_ms for it in await server.store.revocations(0, 10)]

    assert kept == [now_ms + 6_000, None, now_ms + 60_000, None, None]


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
            await b.login.prove(ANN)


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
        proof = await server.login.prove(ANN)
        with pytest.raises(RateLimitedError):
            await server.engine.execute(server.engine.confirm(sent.message_id, ANN, "web"), Advanced, proof)


async def test_two_new_devices_at_once_do_not_drive_each_other_out() -> None:
    async with serving(limits=limits(1)) as server:
        one, other = Peer(server), Peer(server)
        one.say({"event": "HELLO", "token": ANN, "deviceId": "one"})
        other.say({"event": "HELLO", "token": ANN, "deviceId": "other"})
        (welcome,) = await one.hear("WELCOME")
        (error,) = await other.hear("ERROR")
        one.leave()

        assert error["code"] == "RATE_LIMITED"
        assert await answer(server, "one", resumeToken=welcome["resumeToken"]) == (None, "")


@pytest.mark.parametrize("batch_max", [1_000, 4], ids=["in one transaction", "in the one before"])
async def test_a_new_device_drives_out_none_that_came_back_while_its_login_waited(batch_max: int) -> None:
    store = GatedStore()
    async with serving(store, limits=limits(1), commit_batch_max=batch_max) as server:
        phone, resume_token = await enter(server)
        phone.leave()
        store.hold()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.disconnect, "somebody")  # a transaction that is under way
            await anyio.wait_all_tasks_blocked()
            back, fresh = Peer(server), Peer(server)
            back.say({"event": "HELLO", "resumeToken": resume_token, "deviceId": "phone"})
            await anyio.wait_all_tasks_blocked()
            fresh.say({"event": "HELLO", "token": ANN, "deviceId": "fresh"})
            await anyio.wait_all_tasks_blocked()
            store.release()
        await anyio.wait_all_tasks_blocked()

        online = [name for name, peer in (("phone", back), ("fresh", fresh)) if peer.session.identity]
        assert online == list(server._hub.presence.device_ids(ANN))
        assert set(await server.store.resume_hashes([(ANN, "phone"), (ANN, "fresh")])) == {(ANN, online[0])}
        assert len(online) == 1


# --- requests that are under way ---


class Asked:
    """A request to the app of a server whose body comes when it is told to."""

    def __init__(self, server: ChatServer, method: str, path: str, token: str = ANN) -> None:
        self._app = asgi_app(server)
        self._body = anyio.Event()
        self._sent: list[Any] = []
        headers = [(b"authorization", f"Bearer {token}".encode()), (b"content-type", b"application/json")]
        self._scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "scheme": "http",
            "query_string": b"",
            "headers": headers,
            "client": ("10.0.0.1", 1),
            "server": ("x", 80),
            "state": {},
        }
        self._content = b""

    async def __call__(self) -> None:
        await self._app(self._scope, self._receive, self._send)

    def go_on(self, content: Any = None) -> None:
        """Let the body come."""
        self._content = b"" if content is None else msgspec.json.encode(content)
        self._body.set()

    @property
    def answer(self) -> tuple[int, str]:
        """Status, and code of a problem."""
        return self._sent[0]["status"], msgspec.json.decode(self._sent[1]["body"]).get("code", "")

    async def _receive(self) -> Any:
        await self._body.wait()
        return {"type": "http.request", "body": self._content, "more_body": False}

    async def _send(self, message: Any) -> None:
        self._sent.append(message)


MESSAGE = {"conversationId": "g-1", "clientMsgId": "late", "type": "TEXT", "content": "after the end"}
ENDED_REQUESTS = {
    "user": (503, "UNAVAILABLE"),  # the host is asked again, for the token does not say when it was issued
    "token": (401, "TOKEN_REVOKED"),
    "ban": (403, "FORBIDDEN"),
}


@pytest.mark.parametrize("name", ENDED_REQUESTS)
async def test_a_request_that_waits_for_its_body_does_not_write_after_the_end(name: str) -> None:
    async with serving() as server:
        await group(server, ANN, "ben")
        asked = Asked(server, "POST", "/v1/messages/send")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(asked)
            await anyio.wait_all_tasks_blocked()
            await ENDS[name][0](server)
            asked.go_on(MESSAGE)

        assert asked.answer == ENDED_REQUESTS[name]
        assert len(await server.store.entries("g-1", 0, 9)) == 1, "its creation"


@pytest.mark.parametrize("name", ENDED_REQUESTS)
async def test_what_a_request_has_queued_is_not_stored_after_the_end(name: str) -> None:
    store = GatedStore()
    async with serving(store) as server:
        await group(server, ANN, "ben")
        asked = Asked(server, "POST", "/v1/messages/send")
        asked.go_on(MESSAGE)
        store.hold()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ENDS[name][0], server)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(asked)
            await anyio.wait_all_tasks_blocked()
            store.release()

        assert asked.answer == ENDED_REQUESTS[name]
        assert len(await server.store.entries("g-1", 0, 9)) == 1, "its creation"


@pytest.mark.parametrize("name", ENDED_REQUESTS)
async def test_a_request_that_waits_to_read_is_not_answered_after_the_end(name: str) -> None:
    async with serving(limits=Limits(reads_in_flight_per_user=1)) as server:
        await group(server, ANN, "ben")
        asked = Asked(server, "GET", "/v1/conversations/g-1/messages")
        async with anyio.create_task_group() as tasks, server.reads.turn(ANN):
            tasks.start_soon(asked)
            await anyio.wait_all_tasks_blocked()
            await ENDS[name][0](server)

        assert asked.answer == ENDED_REQUESTS[name]


async def test_a_request_of_somebody_else_is_carried_out() -> None:
    store = GatedStore()
    async with serving(store) as server:
        await group(server, ANN, "ben")
        asked = Asked(server, "POST", "/v1/messages/send", "ben")
        asked.go_on(MESSAGE)
        store.hold()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.ban, ANN)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(asked)
            await anyio.wait_all_tasks_blocked()
            store.release()

        assert asked.answer == (200, "")


# --- how long a revocation of a token lasts ---


SECRET = "a-secret-of-at-least-32-characters"


def jwt_of(clock: Clock, **claims: float) -> str:
    now_s = clock.now_ms() / 1000
    found: str = jwt.encode(
        {"sub": ANN, **{name: now_s + it for name, it in claims.items()}}, SECRET, "HS256"
    )
    return found


async def kept_until_s(server: ChatServer, token: str) -> float | None:
    """Revoke a token. Returns after how many seconds that may be forgotten."""
    await server.revoke(token=token)
    (*_, revocation) = await server.store.revocations(0, 9)
    if revocation.ends_ms is None:
        return None
    return (revocation.ends_ms - server.ports.clock.now_ms()) / 1000


async def test_the_revocation_of_a_token_lasts_for_as_long_as_the_token_may() -> None:
    day, clock = 86_400.0, VirtualClock()
    authenticate = jwt_authenticator(SECRET, clock=clock)
    async with serving(authenticate=authenticate, ports=Ports(clock)) as server:
        not_yet = jwt_of(clock, nbf=3 * day, exp=90 * day)
        assert await kept_until_s(server, not_yet) == pytest.approx(90 * day + 30, abs=1)
        assert await kept_until_s(server, jwt_of(clock, nbf=3 * day)) is None
        assert await kept_until_s(server, jwt_of(clock, exp=day * 2)) == pytest.approx(2 * day + 30, abs=1)
        assert await kept_until_s(server, jwt_of(clock, exp=-day)) == pytest.approx(day, abs=1)
        assert await kept_until_s(server, jwt_of(clock, exp=1e300)) is None
        assert await kept_until_s(server, "opaque") is None


@pytest.mark.parametrize("refusal", [UnauthenticatedError("suspended"), ForbiddenError("suspended")])
async def test_a_token_that_the_host_refuses_for_now_is_refused_when_it_is_taken_again(
    refusal: Exception,
) -> None:
    suspended = True

    async def authenticate(token: str) -> Identity:
        if suspended:
            raise refusal
        return Identity(ANN)

    async with serving(authenticate=authenticate, resume_token_s=5.0) as server:
        await server.revoke(token="t")
        await anyio.sleep(10)
        await server.revoke(user_id="somebody")  # what has ended is forgotten by now
        suspended = False

        assert await answer(server, token="t") == (4101, "TOKEN_REVOKED")


# --- the order of revocations of several nodes ---


class Hand(NamedTuple):
    """Revocations of one user as a node hears of them: (position, whether it holds), made here or read."""

    heard: list[tuple[str, int, bool]]
    banned: bool


@pytest.mark.parametrize(
    "hand",
    [
        Hand([("here", 6, False), ("read", 5, True), ("read", 6, False)], banned=False),
        Hand([("here", 6, True), ("read", 5, False), ("read", 6, True)], banned=True),
        Hand([("read", 5, True), ("read", 6, False), ("here", 5, True)], banned=False),
        Hand([("read", 5, True), ("here", 5, True)], banned=True),
        Hand([("here", 5, True), ("here", 7, True), ("read", 5, True), ("read", 6, False)], banned=True),
        Hand([("here", 5, True), ("read", 5, True), ("read", 6, False)], banned=False),
    ],
)
async def test_the_newest_revocation_holds_in_whatever_order_it_is_heard_of(hand: Hand) -> None:
    refused: list[Any] = []
    rows: list[Revocation] = []

    class Rows:
        async def revocations(self, after: int, limit: int) -> list[Revocation]:
            return [it for it in rows if it.position > after]

    hub = Hub(ReconcileQueue())
    access = Access(Rows(), hub, refused.append, VirtualClock(), clustered=True)  # type: ignore[arg-type]
    for how, position, holds in hand.heard:
        made = Revocation(position, "BANNED", ANN, "", b"", position, None if holds else 0)
        if how == "here":
            access.committed(made)
        else:
            rows[:] = [made]
            await access.begin()

    proof = Proof(Identity(ANN), b"t", 0)
    if hand.banned:
        with pytest.raises(BannedError):
            access.check(proof)
    else:
        access.check(proof)
    made_here = {position for how, position, _ in hand.heard if how == "here"}
    unread = {position for positions in access._unread.values() for position in positions}
    assert unread == {it for it in made_here if it > access._read_to}, "what was read is not kept"


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
