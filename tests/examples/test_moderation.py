"""The two moderators among the examples: what a list of words finds, and what becomes of a service that fails."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from chatkit import (
    Allow,
    ChatApi,
    ContentRefusedError,
    HeldError,
    Hold,
    Refuse,
    Rewrite,
    Submission,
    sign_token,
)

from .example import SECRET, load, serving

LIST = """
mask: darn        # mild
mask: Größe
refuse: buy now
hold: lawyer
refuse: 赌博
"""


def token(user: str) -> str:
    return sign_token(SECRET, user_id=user)


WORDS = [
    ("hello there", Allow()),
    ("DARN it", Rewrite("**** it")),
    ("well, dàrn!", Rewrite("well, ****!")),
    ("\uff24\uff41\uff52\uff4e wide", Rewrite("**** wide")),
    ("da\u200brn \u00adit", Rewrite("***** \u00adit")),
    ("darned undarn darn3", Allow()),
    ("die GRÖSSE und die Große", Rewrite("die ****** und die *****")),
    ("BUY \u00a0 now", Refuse("it holds a word that is not allowed here")),
    ("darn, a Lawyer", Hold("a word on the list")),
    ("我们去赌博吧", Refuse("it holds a word that is not allowed here")),
    ("", Allow()),
]


@pytest.mark.parametrize(("text", "verdict"), WORDS, ids=[repr(text) for text, _ in WORDS])
def test_words_are_found_as_people_see_them(text: str, verdict: Any) -> None:
    example = load("moderation_words")
    found = example.WordList(LIST.splitlines()).judge(text)
    assert found == verdict or (isinstance(found, Refuse) and isinstance(verdict, Refuse))


@pytest.mark.parametrize("line", ["darn", "shout: darn", "mask:", "mask: \u200b"])
def test_a_line_that_is_none_is_refused_with_its_number(line: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        load("moderation_words").WordList(["mask: fine", line])


async def test_a_file_is_not_rewritten() -> None:
    example = load("moderation_words")
    payload = {"type": "FILE", "name": "darn.txt", "mime": "text/plain", "bytes": 1, "url": "x"}
    (verdict,) = await example.moderate(
        example.WordList(LIST.splitlines()), [Submission("c", "ann", "1", payload, 0)]
    )
    assert isinstance(verdict, Refuse)


async def test_moderation_words(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text(LIST, encoding="utf-8")
    with serving("moderation_words", "words.txt", folder=tmp_path) as url:
        async with ChatApi(url, token=token("lina")) as api:
            await api.create_conversation("GROUP", ["omar"], conversation_id="c-1")
            sent = await api.send("c-1", "darn it")
            assert sent.payload == {"type": "TEXT", "text": "**** it"}
            with pytest.raises(ContentRefusedError):
                await api.send("c-1", "buy now")
            with pytest.raises(HeldError):
                await api.send("c-1", "my lawyer says")


class Service:
    """The service that is asked.

    Attributes:
        answers: What it answers next, by status and body; after that, that everything is allowed.
    """

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[list[str]] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        messages = [it["text"] for it in json.loads(request.content)["messages"]]
        self.asked.append(messages)
        if self.answers:
            status, body = self.answers.pop(0)
            if status == 0:
                raise httpx.ConnectError("nobody is there")
            return httpx.Response(status, json=body)
        return httpx.Response(200, json={"verdicts": [{"action": "allow"} for _ in messages]})


@asynccontextmanager
async def asking() -> AsyncIterator[tuple[Service, Any]]:
    service = Service()
    async with httpx.AsyncClient(transport=httpx.MockTransport(service)) as http:
        yield service, load("moderation_http").HttpModerator(http, "http://service.test/moderate")


def batch(*texts: str) -> list[Submission]:
    return [Submission("c", "ann", text, {"type": "TEXT", "text": text}, 0) for text in texts]


async def test_a_batch_is_one_request() -> None:
    async with asking() as (service, moderator):
        verdicts = [
            {"action": "refuse", "reason": "rude"},
            {"action": "rewrite", "text": "kind"},
            {"action": "hold", "reason": "a link"},
            {"action": "allow"},
        ]
        service.answers = [(200, {"verdicts": verdicts})]
        found = await moderator(batch("a", "b", "c", "d"))
        assert found == [Refuse("rude"), Rewrite("kind"), Hold("a link"), Allow()]
        assert service.asked == [["a", "b", "c", "d"]]


async def test_what_passes_is_tried_again_and_what_does_not_is_raised() -> None:
    async with asking() as (service, moderator):
        service.answers = [(0, None), (503, {}), (429, {})]
        assert await moderator(batch("a")) == [Allow()]
        assert len(service.asked) == 4
        service.answers = [(400, {})]
        with pytest.raises(httpx.HTTPStatusError):
            await moderator(batch("a"))
        service.answers = [(200, {"verdicts": [{"action": "shrug"}]})]
        with pytest.raises(ValueError, match="shrug"):
            await moderator(batch("a"))


@pytest.mark.parametrize("when", ["closed", "open"])
async def test_moderation_http(tmp_path: Path, when: str) -> None:
    """The service is not there: closed refuses for now, open stores."""
    nobody, says = "http://127.0.0.1:9/moderate", ("the moderator failed, and messages are ",)
    with serving("moderation_http", nobody, when, folder=tmp_path, says=says) as url:
        async with ChatApi(url, token=token("lina")) as api:
            await api.create_conversation("GROUP", ["omar"], conversation_id="c-1")
        bearer = {"authorization": f"Bearer {token('lina')}"}
        body = {"conversationId": "c-1", "clientMsgId": "1", "type": "TEXT", "content": "hello"}
        async with httpx.AsyncClient(headers=bearer, trust_env=False, timeout=60) as web:
            answer = await web.post(f"{url}/v1/messages/send", json=body)
        assert answer.status_code == (200 if when == "open" else 503)
        assert when == "open" or answer.json()["retryAfterMs"] == 1000
    assert says[0] in (tmp_path / "example.log").read_text()
