"""ChatApi against scripted answers: what is repeated, what is not, and what refusals become."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from chatkit import ChatApi, ConversationSummary, Message
from chatkit.client._http import BODY_BYTES_MAX, CHUNK_BYTES, Http
from chatkit.client.api import PushProviders
from chatkit.errors import (
    BadRequestError,
    ClosedError,
    ConfigurationError,
    ConnectionLostError,
    DeadlineExceededError,
    NotFoundError,
    OverloadedError,
    ProtocolError,
    RateLimitedError,
    RecallWindowPassedError,
    TokenRevokedError,
    TooLargeError,
    UnavailableError,
    UnknownRefusalError,
)

from .foretold import foretold_ports


class Script:
    """Answers in order; the last one stays."""

    def __init__(self, *answers: Any) -> None:
        self.answers = deque(answers)
        self.requests: list[httpx.Request] = []
        self.times_s: list[float] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.times_s.append(anyio.current_time())
        answer = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            await anyio.sleep_forever()
        assert isinstance(answer, httpx.Response)
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def api(script: Script, url: str = "http://chat.test/prefix/", **options: Any) -> ChatApi:
    options.setdefault("token", "secret-token")
    options.setdefault("ports", foretold_ports())
    return ChatApi(url, client=httpx.AsyncClient(transport=httpx.MockTransport(script)), **options)


def problem(status: int, code: str, after_ms: int | None = None, **headers: str) -> httpx.Response:
    body = {"title": code, "status": status, "detail": "no", "code": code, "retryable": status >= 429}
    if after_ms is not None:
        body["retryAfterMs"] = after_ms
    return httpx.Response(status, json=body, headers=headers)


SENT = httpx.Response(200, json={"messageId": "m-2", "seq": 2, "serverTs": 5, "status": "SENT"})


async def test_a_request_carries_the_login_in_its_header_and_nowhere_else() -> None:
    script = Script(SENT)
    await api(script, device_id="pc").send("c-1", "hi", client_msg_id="k")

    (request,) = script.requests
    assert str(request.url) == "http://chat.test/prefix/v1/messages/send"
    assert request.headers["authorization"] == "Bearer secret-token"
    assert request.headers["x-device-id"] == "pc"
    assert msgspec.json.decode(request.content) == {
        "conversationId": "c-1",
        "clientMsgId": "k",
        "type": "TEXT",
        "content": "hi",
    }


async def test_a_repeated_recall_that_is_too_late_says_that_the_outcome_is_unknown() -> None:
    too_late = problem(409, "RECALL_WINDOW_PASSED")
    for lost in (httpx.ReadError("cut"), problem(500, "INTERNAL"), problem(503, "UNAVAILABLE")):
        with pytest.raises(ConnectionLostError) as raised:
            await api(Script(lost, too_late)).recall("m-1")
        assert isinstance(raised.value.__cause__, RecallWindowPassedError)
    for script in (Script(too_late), Script(problem(503, "OVERLOADED", 10), too_late)):
        with pytest.raises(RecallWindowPassedError):
            await api(script).recall("m-1")


async def test_refusals_that_pass_and_lost_connections_are_repeated_with_the_same_key() -> None:
    script = Script(
        problem(503, "OVERLOADED", 4000), httpx.ConnectError("down"), httpx.ReadTimeout("slow"), SENT
    )
    assert (await api(script).send("c-1", "hi")).seq == 2

    keys = {msgspec.json.decode(request.content)["clientMsgId"] for request in script.requests}
    assert len(keys) == 1
    waits = [later - earlier for earlier, later in zip(script.times_s, script.times_s[1:], strict=False)]
    assert waits == pytest.approx([5.0, 0.2, 0.4])


async def test_a_retry_after_header_is_obeyed_where_the_document_has_none() -> None:
    script = Script(problem(429, "RATE_LIMITED", **{"Retry-After": "2"}), SENT)
    await api(script).send("c-1", "hi")

    assert script.times_s[1] - script.times_s[0] == pytest.approx(2.5)


async def test_tries_are_bounded() -> None:
    script = Script(problem(503, "OVERLOADED"))
    with pytest.raises(OverloadedError):
        await api(script, attempts_max=3).conversation("c-1")
    assert len(script.requests) == 3


async def test_a_call_has_one_deadline_for_all_its_tries() -> None:
    with pytest.raises(DeadlineExceededError) as caught:
        await api(Script(problem(503, "UNAVAILABLE", 2000), None), timeout_s=12).conversation("c-1")
    assert anyio.current_time() == 12
    assert isinstance(caught.value.__cause__, UnavailableError), "what the try before was answered"


async def test_a_wait_that_is_longer_than_what_is_left_is_told_at_once() -> None:
    script = Script(problem(429, "RATE_LIMITED", 60_000))
    with pytest.raises(RateLimitedError) as caught:
        await api(script).mark_read("c-1", 1)
    assert (caught.value.retry_after_s, anyio.current_time(), len(script.requests)) == (60, 0, 1)

    script = Script(problem(503, "OVERLOADED", 8000))
    with pytest.raises(OverloadedError):
        await api(script, timeout_s=12).mark_read("c-1", 1)
    assert (len(script.requests), anyio.current_time()) == (2, 10)


async def test_a_refusal_for_good_is_raised_at_once() -> None:
    script = Script(problem(404, "NOT_FOUND"))
    with pytest.raises(NotFoundError):
        await api(script).conversation("c-1")
    assert len(script.requests) == 1


async def test_a_refusal_with_an_unknown_code_is_as_the_server_said_it() -> None:
    body = {"title": "no", "status": 402, "detail": "pay", "code": "QUOTA_EXCEEDED", "retryable": False}
    script = Script(httpx.Response(402, json=body))
    with pytest.raises(UnknownRefusalError) as caught:
        await api(script).conversation("c-1")
    assert (caught.value.code, len(script.requests)) == ("QUOTA_EXCEEDED", 1)

    script = Script(httpx.Response(402, json=body | {"retryable": True}), SENT)
    assert (await api(script).send("c-1", "hi")).seq == 2


REMOVED = httpx.Response(
    200, json={"conversationId": "c-1", "added": [], "removed": ["u-1"], "memberCount": 1}
)


@pytest.mark.parametrize(
    "lost", [httpx.RemoteProtocolError("Server disconnected"), httpx.ConnectError("down")]
)
async def test_removing_a_member_is_repeated_once_if_not_one_byte_of_an_answer_came(lost: Exception) -> None:
    script = Script(lost, REMOVED)
    assert (await api(script).remove_member("c-1", "u-1")).removed == ["u-1"]
    assert len(script.requests) == 2

    script = Script(lost)
    with pytest.raises(ConnectionLostError):
        await api(script).remove_member("c-1", "u-1")
    assert len(script.requests) == 2


async def test_one_try_is_one_try() -> None:
    script = Script(httpx.ConnectError("down"))
    with pytest.raises(ConnectionLostError):
        await api(script, attempts_max=1).remove_member("c-1", "u-1")
    assert len(script.requests) == 1


async def test_what_an_owner_changes_and_who_is_blocked() -> None:
    made = httpx.Response(
        200,
        json={
            "conversationId": "c-1",
            "type": "GROUP",
            "title": "new",
            "epoch": "e",
            "headSeq": 1,
            "memberIds": ["u-1"],
            "memberCount": 1,
        },
    )
    nothing = httpx.Response(204)
    blocked = httpx.Response(200, json={"blocks": [{"userId": "u-9", "sinceTs": 5}], "nextCursor": "u-9"})
    script = Script(made, made, nothing, httpx.ConnectError("down"), nothing, blocked)
    chat = api(script)
    assert (await chat.set_title("c-1", "new")).title == "new"
    await chat.transfer_ownership("c-1", "u-2")
    await chat.block("u-9")
    await chat.unblock("u-9")
    page = await chat.blocks(cursor="u-5", limit=1)

    assert (page.blocks[0].user_id, page.blocks[0].since_ts, page.next_cursor) == ("u-9", 5, "u-9")
    asked = [(it.method, it.url.raw_path.decode().removeprefix("/prefix/v1")) for it in script.requests]
    assert asked == [
        ("PATCH", "/conversations/c-1"),
        ("PATCH", "/conversations/c-1"),
        ("POST", "/blocks/u-9"),
        ("DELETE", "/blocks/u-9"),
        ("DELETE", "/blocks/u-9"),
        ("GET", "/blocks?limit=1&cursor=u-5"),
    ]
    bodies = [msgspec.json.decode(it.content) for it in script.requests[:2]]
    assert bodies == [{"title": "new"}, {"ownerId": "u-2"}]


def asked_of(script: Script) -> list[tuple[str, str, Any]]:
    """Method, path below /v1 and body of each request."""
    return [
        (
            it.method,
            it.url.raw_path.decode().removeprefix("/prefix/v1"),
            msgspec.json.decode(it.content) if it.content else None,
        )
        for it in script.requests
    ]


async def test_a_device_registers_for_push_and_takes_it_back() -> None:
    nothing = httpx.Response(204)
    script = Script(nothing, httpx.ConnectError("down"), nothing, nothing, nothing)
    chat = api(script, device_id="phone")
    await chat.register_push("apns", "740f")
    await chat.register_push("web-push_1", '{"endpoint": "到"}', hide_body=True)
    await chat.unregister_push()
    await chat.unregister_push("tablet")

    once = {"provider": "apns", "token": "740f", "hideBody": False, "deviceId": "phone"}
    twice = {
        "provider": "web-push_1",
        "token": '{"endpoint": "到"}',
        "hideBody": True,
        "deviceId": "phone",
    }
    assert asked_of(script) == [
        ("POST", "/devices", once),
        ("POST", "/devices", twice),
        ("POST", "/devices", twice),
        ("DELETE", "/devices/phone/push", None),
        ("DELETE", "/devices/tablet/push", None),
    ]


async def test_without_a_device_of_its_own_the_tokens_is_meant() -> None:
    script = Script(httpx.Response(204))
    await api(script).register_push("apns", "740f")
    assert asked_of(script) == [
        ("POST", "/devices", {"provider": "apns", "token": "740f", "hideBody": False})
    ]
    with pytest.raises(BadRequestError, match="device_id"):
        await api(script).unregister_push()


async def test_a_conversation_is_muted_for_ever_or_until_a_moment() -> None:
    script = Script(*[httpx.Response(204)] * 4)
    chat = api(script)
    await chat.mute("c-1")
    await chat.mute("c-1", 1_732_000_000_000)
    end = datetime(2024, 11, 19, 8, 6, 40, tzinfo=timezone(timedelta(hours=1)))
    await chat.mute("c-1", end, level="MENTIONS")
    await chat.unmute("c-1")
    assert asked_of(script) == [
        ("PUT", "/conversations/c-1/mute", {"until": None}),
        ("PUT", "/conversations/c-1/mute", {"until": 1_732_000_000_000}),
        ("PUT", "/conversations/c-1/mute", {"until": 1_732_000_000_000, "level": "MENTIONS"}),
        ("DELETE", "/conversations/c-1/mute", None),
    ]


async def test_what_a_server_pushes_with_is_asked_without_a_login() -> None:
    found = {"providers": ["apns"], "webPushProvider": "web", "vapidPublicKey": "BO"}
    script = Script(httpx.Response(200, json=found), httpx.Response(200, json={"providers": []}))
    chat = api(script)
    assert await chat.push_providers() == PushProviders(["apns"], "web", "BO")
    assert await chat.push_providers() == PushProviders([])
    assert ["authorization" in it.headers for it in script.requests] == [False, False]


async def test_removing_a_member_is_not_repeated_once_an_answer_began_or_said_no() -> None:
    class Cut(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b'{"conversationId"'
            raise httpx.ReadError("reset")

    tries: list[httpx.Request] = []

    async def cut(request: httpx.Request) -> httpx.Response:
        tries.append(request)
        return httpx.Response(200, stream=Cut())

    client = httpx.AsyncClient(transport=httpx.MockTransport(cut))
    with pytest.raises(ConnectionLostError, match="reset"):
        await ChatApi("http://chat.test", token="t", client=client).remove_member("c-1", "u-1")
    script = Script(problem(503, "OVERLOADED"))
    with pytest.raises(OverloadedError):
        await api(script).remove_member("c-1", "u-1")
    assert (len(tries), len(script.requests)) == (1, 1)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(200), ["204", "status 200", "no body"]),
        (httpx.Response(200, html="<p>hi</p>"), ["status 200", "text/html", "<p>hi</p>"]),
    ],
)
async def test_what_a_proxy_answers_for_us_is_no_success(answer: httpx.Response, words: list[str]) -> None:
    chat = api(Script(answer))
    with pytest.raises(ProtocolError) as caught:
        await chat.mark_delivered("m-1")
    assert all(word in str(caught.value) for word in words)
    for call in (chat.status("m-1"), chat.health(), chat.mark_read("c-1", 1)):
        with pytest.raises(ProtocolError, match="status 200"):
            await call
    assert await chat.ready() is False


async def test_what_others_say_is_quoted_on_one_line_and_bounded() -> None:
    with pytest.raises(ProtocolError) as caught:
        await api(Script(httpx.Response(403, text="no\r\nway " * 5000))).status("m-1")
    assert "no way no way" in str(caught.value)
    assert len(str(caught.value)) < 500 and str(caught.value).isprintable()


async def test_a_body_where_none_is_due_and_none_where_one_is_due_are_refused() -> None:
    with pytest.raises(ProtocolError, match="204"):
        await api(Script(httpx.Response(204))).status("m-1")
    await api(Script(httpx.Response(204))).mark_delivered("m-1")


async def test_answers_without_a_problem_document_are_told_apart() -> None:
    with pytest.raises(UnavailableError):
        await api(Script(httpx.Response(502, text="<html>")), attempts_max=1).conversation("c-1")
    with pytest.raises(TooLargeError, match=r"status 413, .*nginx"):
        await api(Script(httpx.Response(413, html="<h1>413</h1>nginx"))).conversation("c-1")
    with pytest.raises(ProtocolError):
        await api(Script(httpx.Response(418, text="teapot"))).conversation("c-1")
    with pytest.raises(ProtocolError):
        await api(Script(httpx.Response(200, text="{}"))).conversation("c-1")


async def test_nothing_the_server_must_refuse_is_sent() -> None:
    script = Script(SENT)
    chat = api(script)
    with pytest.raises(TooLargeError):
        await chat.send("c-1", "x" * 70_000)
    reply = {"type": "TEXT", "text": "a", "replyTo": "m-1"}  # the HTTP form has no room for replyTo
    for call in (
        chat.send("../x", "hi"),
        chat.send("c-1", reply),
        chat.set_title("c-1", "x" * 257),
        chat.transfer_ownership("c-1", "a b"),
        chat.block("a/b"),
        chat.unblock(""),
        chat.status("a/b"),
        chat.status("m-1", limit=0),
        chat.recall(""),
        chat.mark_read("c-1", -1),
        chat.history("c-1", from_seq=0),
        chat.history("c-1", limit=0),
        chat.sync("c-1", -1),
        chat.members("c-1", limit=-1),
        chat.conversations(limit=0),
        chat.recent_conversations(limit=0),
        chat.recent_conversations(cursor=7),  # type: ignore[arg-type]
        chat.create_conversation("GROUP", ["no spaces"]),
        chat.create_conversation("CROWD", ["a"]),  # type: ignore[arg-type]
        chat.create_conversation("GROUP", ["a"], title="x" * 257),
        chat.add_members("c-1", [".."]),
        chat.add_members("c-1", []),
        chat.register_push("APNS", "t"),
        chat.register_push("a" * 33, "t"),
        chat.register_push("apns", ""),
        chat.register_push("apns", "a\0b"),
        chat.register_push("apns", "a" * 4097),
        chat.register_push("apns", "\ud800"),
        chat.register_push("apns", "t", hide_body=1),  # type: ignore[arg-type]
        chat.unregister_push("a b"),
        chat.mute("a b"),
        chat.mute("c-1", 0),
        chat.mute("c-1", 2**53),
        chat.mute("c-1", True),
        chat.mute("c-1", datetime(2030, 1, 1)),  # noqa: DTZ001 - that it has no zone is the matter
        chat.mute("c-1", datetime(1960, 1, 1, tzinfo=UTC)),
        chat.unmute("a b"),
    ):
        with pytest.raises(BadRequestError):
            await call
    assert script.requests == []


async def test_a_wrong_user_id_is_named_as_one() -> None:
    chat = api(Script(SENT))
    for call in (
        chat.block("a b"),
        chat.unblock("a b"),
        chat.transfer_ownership("c-1", "a b"),
        chat.remove_member("c-1", "a b"),
    ):
        with pytest.raises(BadRequestError, match="user id"):
            await call


def page_of(*payloads: str, up_to: int, more: bool) -> httpx.Response:
    entry = {
        "conversationId": "c-1",
        "epoch": "e",
        "messageId": "m",
        "seq": 1,
        "senderId": "u",
        "serverTs": 1,
    }
    entries = [entry | {"payload": msgspec.Raw(payload.encode())} for payload in payloads]
    page = {"conversationId": "c-1", "epoch": "e", "headSeq": 9, "messages": entries, "upToSeq": up_to}
    return httpx.Response(200, content=msgspec.json.encode(page | {"more": more}))


async def test_entries_are_followed_to_the_head_and_a_page_that_leads_nowhere_is_no_end() -> None:
    script = Script(page_of('{"type":"TEXT","text":"hi"}', up_to=5, more=True), page_of(up_to=9, more=False))
    assert [it.payload["text"] async for it in api(script).messages("c-1")] == ["hi"]
    assert script.requests[1].url.params["lastSeq"] == "5"

    script = Script(page_of(up_to=5, more=True))
    with pytest.raises(ProtocolError, match="covers nothing"):
        [message async for message in api(script).messages("c-1")]
    assert len(script.requests) == 2


@pytest.mark.parametrize("payload", ["null", "[1]", '"hi"', '{"type":"TEXT","text":"\\ud800"}'])
async def test_a_payload_that_is_none_is_no_message(payload: str) -> None:
    chat = api(Script(page_of(payload, up_to=1, more=False)))
    for call in (chat.sync("c-1", 0), chat.history("c-1")):
        with pytest.raises(ProtocolError, match="payload"):
            await call


async def test_a_create_without_an_id_makes_one_so_that_a_repeat_makes_no_second() -> None:
    made = httpx.Response(
        201,
        json={
            "conversationId": "c-x",
            "type": "GROUP",
            "title": "",
            "epoch": "e",
            "headSeq": 1,
            "memberIds": [],
            "memberCount": 1,
        },
    )
    script = Script(httpx.ReadError("cut"), made)
    await api(script).create_conversation("GROUP", ["a"])

    ids = {msgspec.json.decode(request.content)["conversationId"] for request in script.requests}
    assert len(ids) == 1


async def test_a_callable_is_asked_once_for_many_requests_and_again_after_a_refusal() -> None:
    asked: list[int] = []

    def fresh() -> str:
        asked.append(1)
        return f"t{len(asked)}"

    script = Script(problem(503, "OVERLOADED"), SENT, SENT, problem(401, "TOKEN_EXPIRED"), SENT)
    chat = api(script, token=fresh)
    for key in ("a", "b", "c"):
        await chat.send("c-1", "hi", client_msg_id=key)
    assert [request.headers["authorization"][-2:] for request in script.requests] == [
        "t1",
        "t1",
        "t1",
        "t1",
        "t2",
    ]


async def test_a_callable_that_gives_a_refused_token_again_repeats_nothing() -> None:
    script = Script(problem(401, "TOKEN_REVOKED"))
    with pytest.raises(TokenRevokedError):
        await api(script, token=lambda: "t").status("m-1")
    assert len(script.requests) == 1


async def test_pages_are_followed_to_their_end() -> None:
    def page(cursor: str | None, *users: str) -> httpx.Response:
        members = [{"userId": user, "role": "MEMBER", "joinedSeq": 1} for user in users]
        return httpx.Response(200, json={"members": members, "nextCursor": cursor})

    script = Script(page("b", "a", "b"), page(None, "c"))
    assert [member.user_id async for member in api(script).all_members("c-1")] == ["a", "b", "c"]
    assert script.requests[1].url.params["cursor"] == "b"


@pytest.mark.parametrize("cursors", [["b", "b"], ["b", "c", "b"]])
async def test_pages_that_lead_back_end_with_an_error(cursors: list[str]) -> None:
    pages = [
        httpx.Response(200, json={"conversations": [], "members": [], "nextCursor": cursor})
        for cursor in cursors
    ]
    for script, read in (
        (Script(*pages), lambda chat: chat.all_members("c-1")),
        (Script(*pages), lambda chat: chat.all_conversations()),
    ):
        with pytest.raises(ProtocolError, match="no end"):
            async for _ in read(api(script)):
                pass
        assert len(script.requests) == len(cursors)


async def test_pages_without_an_end_end_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatkit.client.api.LIST_PAGES_MAX", 5)
    pages = [httpx.Response(200, json={"members": [], "nextCursor": str(place)}) for place in range(9)]
    with pytest.raises(ProtocolError, match="no end"):
        [member async for member in api(Script(*pages)).all_members("c-1")]


class Endless(httpx.AsyncByteStream):
    """A body that never ends; counts what was taken of it."""

    def __init__(self) -> None:
        self.taken_bytes = 0

    async def __aiter__(self) -> Any:
        while True:
            self.taken_bytes += 64 * 1024
            yield b" " * 64 * 1024


@pytest.mark.parametrize("status", [200, 400])
async def test_a_body_is_read_up_to_its_bound(status: int) -> None:
    body = Endless()

    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, stream=body)

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    with pytest.raises(ProtocolError, match="larger than"):
        await ChatApi("http://chat.test", token="t", client=client, ports=foretold_ports()).health()
    assert body.taken_bytes <= BODY_BYTES_MAX + 2 * CHUNK_BYTES


async def test_nothing_is_decompressed() -> None:
    script = Script(SENT)
    await api(script).send("c-1", "hi")
    assert script.requests[0].headers["accept-encoding"] == "identity"

    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=Endless())

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    with pytest.raises(ProtocolError, match="compressed"):
        await ChatApi("http://chat.test", token="t", client=client, ports=foretold_ports()).health()


OK = httpx.Response(200, json={"status": "ok"})


async def test_ready_is_false_while_nobody_answers() -> None:
    assert not await api(Script(httpx.ConnectError("down"))).ready()
    assert not await api(Script(httpx.Response(503, json={"status": "unavailable"}))).ready()
    assert await api(Script(OK)).ready()
    assert await api(Script(httpx.ReadError("closed just then"), OK)).ready()


async def test_ready_has_the_deadline_of_every_call() -> None:
    class Trickling(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for _ in range(60):
                await anyio.sleep(20)
                yield b" "

    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Trickling())

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    assert not await ChatApi("http://chat.test", token="t", client=client, ports=foretold_ports()).ready()
    assert anyio.current_time() == 30


async def test_a_closed_api_says_so_and_opens_nothing() -> None:
    chat = ChatApi("http://chat.test", token="t")
    await chat.aclose()
    await chat.aclose()
    for call in (chat.ready, chat.health, chat.blocks):
        with pytest.raises(ClosedError):
            await call()
    assert chat._http._client is None


async def test_closing_while_the_first_client_is_made_leaves_none_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = httpx.AsyncClient(transport=httpx.MockTransport(Script(OK)))

    async def slowly(self: Http) -> httpx.AsyncClient:
        await anyio.sleep(1)
        return made

    monkeypatch.setattr(Http, "_made", slowly)
    chat = ChatApi("http://chat.test", token="t")
    asked: list[object] = []

    async def ask() -> None:
        try:
            asked.append(await chat.ready())
        except ClosedError as error:
            asked.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.sleep(0.5)
        group.start_soon(chat.aclose)
        await anyio.sleep(0.1)
        group.start_soon(ask)
    assert made.is_closed
    assert len(asked) == 2 and isinstance(asked[0], ClosedError)


async def test_the_callers_own_client_stays_open_and_a_closed_api_says_so() -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(Script(SENT))) as own:
        async with ChatApi("http://chat.test", token="t", client=own) as chat:
            await chat.send("c-1", "hi")
        assert not own.is_closed
        with pytest.raises(ClosedError):
            await chat.send("c-1", "hi")


@pytest.mark.parametrize("url", ["chat.test", "http://", "http://u:p@h", "http://h?token=x"])
def test_a_wrong_address_is_told_before_anything_happens(url: str) -> None:
    with pytest.raises(ConfigurationError):
        ChatApi(url, token="t")


def row(name: str, **more: Any) -> dict[str, Any]:
    head = {
        "conversationId": name,
        "type": "GROUP",
        "epoch": "e",
        "headSeq": 7,
        "firstSeq": 1,
        "deliveredSeq": 6,
        "readSeq": 5,
        "othersDeliveredSeq": 0,
        "othersReadSeq": 0,
    }
    return {**head, "title": "Tea", "unread": 2, "lastActivityTs": 99, **more}


def entry(payload: Any) -> dict[str, Any]:
    return {
        "conversationId": "c-1",
        "epoch": "e",
        "messageId": "m-7",
        "seq": 7,
        "senderId": "ann",
        "serverTs": 98,
        "payload": payload,
    }


async def test_recent_conversations_come_with_their_last_message() -> None:
    text = {"type": "TEXT", "text": "hi"}
    rows = [row("c-1", lastMessage=entry(text), mutedUntil=1234), row("c-2", title="")]
    script = Script(httpx.Response(200, json={"conversations": rows, "nextCursor": "99/c-2"}))
    page = await api(script).recent_conversations(cursor="100/c-0", limit=2)

    last = Message("c-1", 7, "m-7", "ann", 98, text)
    assert page.conversations == [
        ConversationSummary("c-1", "GROUP", "Tea", 7, 5, 99, last, 2, 1234, notify="NONE"),
        ConversationSummary("c-2", "GROUP", "", 7, 5, 99, None, 2, 0),
    ]
    assert page.next_cursor == "99/c-2"
    (request,) = script.requests
    assert dict(request.url.params) == {"order": "activity", "limit": "2", "cursor": "100/c-0"}


async def test_a_last_message_that_is_no_object_is_a_fault_of_the_server() -> None:
    answer = {"conversations": [row("c-1", lastMessage=entry(7))], "nextCursor": None}
    with pytest.raises(ProtocolError):
        await api(Script(httpx.Response(200, json=answer))).recent_conversations()
