"""Attacks that no other test holds: what people write stays words, wherever it goes. By the number of the attack."""

from __future__ import annotations

import ast
import logging
import re
import subprocess
import tomllib
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path
from re import _constants as kinds
from re import _parser as parser
from typing import Any

import pytest

import chatkit
from chatkit import open_store
from chatkit.storage.base import Store
from tests.docs.snippets import ROOT
from tests.servers.postgres import PostgresServer, serving

from .scene import CONVERSATION, MEMBER, OWNER, Line, Scene, staged

SOURCE = Path(chatkit.__file__).parent
WORDS = [
    "'; DROP TABLE message; --",
    '" OR ""="',
    "%' OR '1'='1",
    "_%\\%",
    "$1 ?1 :name %s {0}",
    "\\x27; SELECT pg_sleep(9)",
    "$.payload[*]",
    "</script><b>",
    "\r\nX-Header: 1",
]


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with serving() as server:
        yield server


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        return open_store(server.new_database())
    return open_store("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/chat.db")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with staged(open_store("memory://")) as scene:
        yield scene


@cache
def modules() -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_text("utf-8"))) for path in sorted(SOURCE.rglob("*.py"))]


async def test_26_no_time_of_a_client_is_taken(scene: Scene) -> None:
    line = Line(scene.server)
    await line.answer({"event": "HELLO", "token": OWNER, "deviceId": "pad"}, "HEADS")
    for number, at_ms in enumerate((-1, 0, 2**53 - 1)):
        event = {
            "event": "SEND_MSG",
            "conversationId": CONVERSATION,
            "clientMsgId": f"t{number}",
            "payload": {"type": "TEXT", "text": "x", "serverTs": at_ms},
            "serverTs": at_ms,
            "ts": at_ms,
        }
        answer = await line.answer(event, "MSG_ACK")
        assert f'"serverTs":{scene.server.ports.clock.now_ms()}'.encode() in answer
    line.leave()


async def test_27_words_of_sql_are_words(store: Store) -> None:
    async with staged(store) as scene:
        path = f"/v1/conversations/{CONVERSATION}"
        for number, words in enumerate(WORDS):
            body = {
                "conversationId": CONVERSATION,
                "clientMsgId": f"w{number}",
                "type": "TEXT",
                "content": words,
            }
            await scene.done(OWNER, "POST", "/v1/messages/send", body)
            named = {"title": "".join(words.splitlines()), "description": words}
            await scene.done(OWNER, "PATCH", path, named)
            found = await scene.done(OWNER, "GET", path)
            assert (found["title"], found["description"]) == tuple(named.values())
            for query in ({"cursor": words}, {"conversationId": words, "lastSeq": "0"}, {"users": words}):
                for where in (f"{path}/members", "/v1/sync", "/v1/presence", "/v1/blocks"):
                    answer = await scene.http.get(
                        where, params=query, headers={"Authorization": f"Bearer {OWNER}/pad"}
                    )
                    assert answer.status_code < 500, (where, query, answer.text)
            sent = await scene.ask(OWNER, "POST", "/v1/messages/send", {**body, "clientMsgId": words})
            assert sent.status_code in (200, 400)
        page = await scene.done(MEMBER, "GET", f"{path}/messages?limit=200")
        texts = [it["payload"].get("text") for it in page["messages"]]
        assert [it for it in texts if it in WORDS][: len(WORDS)] == WORDS or set(WORDS) <= set(texts)


def test_27_no_sql_is_made_of_what_people_wrote() -> None:
    """The linter refuses statements that are put together (S608), everywhere in what ships."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert not {"S", "S6", "S60", "S608"} & set(lint["ignore"])
    assert [it for it in lint["per-file-ignores"] if it.startswith("src")] == []


OBJECTS: list[Any] = [{"$gt": ""}, {"$ne": None}, {"$where": "1"}, [], [{"$gt": ""}], {}]


@pytest.mark.parametrize("value", OBJECTS, ids=str)
async def test_28_objects_where_a_text_is_due(scene: Scene, value: Any) -> None:
    good = {"conversationId": CONVERSATION, "clientMsgId": "k", "type": "TEXT", "content": "x"}
    for field in good:
        answer = await scene.ask(OWNER, "POST", "/v1/messages/send", {**good, field: value})
        assert answer.status_code == 400, field
    line = Line(scene.server)
    await line.answer({"event": "HELLO", "token": OWNER, "deviceId": "pad"}, "HEADS")
    for event in (
        {"event": "READ", "conversationId": value, "upToSeq": 1},
        {"event": "READ", "conversationId": CONVERSATION, "upToSeq": value},
        {"event": "RECALL", "messageId": value},
        {"event": "STREAM_PART", "conversationId": CONVERSATION, "messageId": value, "part": 1, "text": "x"},
        {"event": "STREAM_PART", "conversationId": CONVERSATION, "messageId": "m", "part": 1, "text": value},
    ):
        assert b"BAD_REQUEST" in await line.answer(event, "RECEIPT", "MSG_ACK", "STREAM_ACK")
    line.leave()


LINE_ENDS = ["a\r\nb", "a\nERROR root forged", "a\x1b[31mred", "a\u2028b", "a\x00b", "a\x85b"]


async def test_30_nothing_of_strangers_ends_a_line_of_the_log(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="chatkit")
    for words in LINE_ENDS:
        await scene.ask(OWNER, "POST", "/v1/messages/send", {"conversationId": words, "type": words})
        await scene.http.get(f"/v1/conversations/{words!r}", headers={"Authorization": f"Bearer {OWNER}/pad"})
        await scene.http.get("/v1/conversations", params={"cursor": words}, headers={"X-Device-Id": "d"})
        await scene.http.get("/v1/conversations", headers={"Authorization": b"Bearer " + words.encode()})
        for event in (
            {"event": "HELLO", "token": words, "deviceId": words},
            {"event": words, "ref": words},
            {"event": "HELLO", "token": "u", "deviceId": "d", "client": {"name": words, "version": words}},
        ):
            line = Line(scene.server)
            await line.answer(event, "HEADS")
            line.leave()
    assert caplog.records, "something is logged"
    broken = [
        it.getMessage() for it in caplog.records if re.search(r"[\x00-\x1f\x7f-\x9f\u2028]", it.getMessage())
    ]
    assert broken == []


async def test_34_no_answer_repeats_the_host(scene: Scene) -> None:
    for path in (
        "/v1/openapi.json",
        "/v1/ws",
        "/v1/conversations",
        "/v1/nothing",
        "//evil.example/",
        "/healthz/",
    ):
        headers = {
            "Host": "evil.example",
            "X-Forwarded-Host": "evil.example",
            "Authorization": f"Bearer {OWNER}/pad",
        }
        answer = await scene.http.get(path, headers=headers)
        assert b"evil.example" not in answer.content.replace(b"//evil.example/", b"")
        assert "evil.example" not in answer.headers.get("location", "")


def test_35_nothing_is_unpickled() -> None:
    forbidden = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "yaml"}
    found = [
        f"{path.relative_to(SOURCE)}: {name}"
        for path, tree in modules()
        for node in ast.walk(tree)
        for name in _imported(node)
        if name.partition(".")[0] in forbidden
    ]
    assert found == []
    assert [*_imported(ast.parse("import pickle").body[0])] == ["pickle"], "the search sees one"


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (it.name for it in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level:
        yield node.module or ""


async def test_47_a_token_of_nobody_is_answered_like_a_bad_one() -> None:
    """Whose token it would be makes no difference, in HTTP and in HELLO."""
    import jwt

    from chatkit import jwt_authenticator
    from chatkit.errors import UnauthenticatedError

    good, other = "s" * 40, "t" * 40
    authenticate = jwt_authenticator(good)
    told = set()
    for claims in ({"sub": OWNER}, {"sub": "nobody-at-all"}, {}):
        with pytest.raises(UnauthenticatedError) as refused:
            await authenticate(jwt.encode(claims, other))  # type: ignore[misc]
        told.add((type(refused.value), str(refused.value)))
    assert len(told) == 1


def test_66_no_pattern_takes_more_than_linear_time() -> None:
    """No repetition without bound holds another one: what backtracks over both takes time that explodes."""
    found = [
        f"{path.relative_to(SOURCE)}: {it}"
        for path, tree in modules()
        for it in _patterns(tree)
        if _nests(it)
    ]
    assert found == []
    assert _nests(r"(a+)+$") and _nests(r"(?:a|b*)*") and _nests(r"(/[a-z/]+)*") and not _nests(r"(/[a-z]+)*")
    assert len([it for _, tree in modules() for it in _patterns(tree)]) > 10, "patterns are seen"


def _patterns(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = [it.value for it in node.keywords if it.arg == "pattern"]
        if name in ("compile", "sub", "match", "fullmatch", "search", "findall"):
            given += node.args[:1]
        for value in given:
            if isinstance(value, ast.Constant) and isinstance(value.value, str | bytes):
                yield value.value if isinstance(value.value, str) else value.value.decode("latin-1")


def _nests(pattern: str) -> bool:
    try:
        return _explodes(parser.parse(pattern), False)
    except re.error:  # no pattern: another function of that name
        return False


def _explodes(parsed: Any, inside: bool) -> bool:
    for kind, value in parsed:
        if kind in (kinds.MAX_REPEAT, kinds.MIN_REPEAT):
            _, most, inner = value
            endless = most == kinds.MAXREPEAT and not _is_separated(inner)
            if (endless and inside) or _explodes(inner, inside or endless):
                return True
        elif kind is kinds.SUBPATTERN:
            if _explodes(value[-1], inside):
                return True
        elif kind is kinds.BRANCH and any(_explodes(branch, inside) for branch in value[1]):
            return True
    return False


def _is_separated(parsed: Any) -> bool:
    """Whether each round begins with a character that no repetition in it takes: then there is one way to read it."""
    first, value = parsed[0]
    while first is kinds.SUBPATTERN:
        parsed = value[-1]
        first, value = parsed[0]
    return (
        first is kinds.LITERAL and len(parsed) > 1 and not re.search(re.escape(chr(value)), _taken_by(parsed))
    )


def _taken_by(parsed: Any) -> str:
    """The ASCII characters that repetitions of a pattern take."""
    sets = [value[2] for kind, value in parsed if kind in (kinds.MAX_REPEAT, kinds.MIN_REPEAT)]
    return "".join(char for it in sets for char in map(chr, range(128)) if _takes(it, char))


def _takes(parsed: Any, char: str) -> bool:
    kind, value = parsed[0]
    if kind is not kinds.IN:
        return kind is not kinds.LITERAL or value == ord(char)
    ranges = [
        it if isinstance(it, tuple) else (it, it)
        for kind, it in value
        if kind in (kinds.LITERAL, kinds.RANGE)
    ]
    if any(kind not in (kinds.LITERAL, kinds.RANGE) for kind, _ in value):
        return True
    return any(low <= ord(char) <= high for low, high in ranges)


def test_70_no_private_key_is_in_the_repository() -> None:
    """Keys of tests are made by the tests, but for those that are marked as theirs."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no checkout here: the files of a sdist are those of one")
    head = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\n[A-Za-z0-9+/]{40}")
    files = [ROOT / name for name in listed.stdout.splitlines()]
    found = [str(it.relative_to(ROOT)) for it in files if it.is_file() and head.search(it.read_bytes())]
    assert [it for it in found if not it.startswith("tests/")] == []
