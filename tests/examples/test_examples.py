"""Every example does what its first lines say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from chatkit import (
    ChatApi,
    ChatClient,
    Disconnected,
    MessageEdited,
    MessageReceived,
    StreamGrew,
    UnauthenticatedError,
    open_store,
    sign_token,
)
from chatkit.bots import Bot
from chatkit.storage.base import Store
from chatkit.testing.contracts.storage import VolatileStoreContract
from tests.servers import postgres

from .example import FOLDER, SECRET, load, serving


def token(user: str) -> str:
    return sign_token(SECRET, user_id=user)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A server for the examples that are clients."""
    with serving("reference_server", "chat.db", folder=tmp_path) as url:
        yield url


async def texts(chat: ChatClient, count: int) -> list[str]:
    """The next texts of others."""
    found: list[str] = []
    async for event in chat.events():
        match event:
            case MessageReceived(message=message) if message.type == "TEXT":
                found.append(message.text)
        if len(found) == count:
            return found
    raise AssertionError("the client stopped")


def test_every_example_is_run_here_and_says_how_to_run_it() -> None:
    source = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    for path in FOLDER.glob("*.py"):
        assert f'"{path.stem}"' in source
        docstring = load(path.stem).__doc__ or ""
        assert "Run: " in docstring
        assert f"python examples/{path.name}" in docstring


async def test_quickstart(capsys: pytest.CaptureFixture[str]) -> None:
    received = await load("quickstart").main()

    assert received == "Hello Omar!"
    assert capsys.readouterr().out == "sent as number 2\nlina: Hello Omar!\n"


async def test_embed_fastapi(tmp_path: Path) -> None:
    with serving("embed_fastapi", folder=tmp_path, prefix="/chat") as url:
        async with httpx.AsyncClient(trust_env=False) as web:
            assert (await web.get(f"{url}/hello")).json() == {"chat_is_ready": True}
        async with ChatApi(f"{url}/chat", token=token("lina")) as api:
            created = await api.create_conversation("GROUP", ["omar"])
        async with ChatClient(f"{url}/chat", token=token("omar"), device_id="phone") as chat:
            assert (await chat.send(created.conversation_id, "Hello")).seq == 2


async def test_fastapi_sqlalchemy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with postgres.serving() as database:
        monkeypatch.setenv("DATABASE_URL", database.new_database())
        with serving("fastapi_sqlalchemy", folder=tmp_path, prefix="/chat") as url:
            async with (
                httpx.AsyncClient(base_url=url, trust_env=False) as web,
                ChatClient(f"{url}/chat", token=token("lina"), device_id="phone") as lina,
            ):
                await lina.wait_connected()
                answers = [await web.post(f"/orders/{number}") for number in (7, 7, 8)]
                assert [it.status_code for it in answers] == [200, 409, 200]
                assert await texts(lina, 2) == ["Order 7", "Order 8"]


async def test_echo_bot(server: str, tmp_path: Path) -> None:
    bot = load("echo_bot").bot
    async with ChatApi(server, token=token("lina")) as api, ChatApi(server, token=token("echo")) as own:
        await api.create_conversation("SINGLE", ["echo"], conversation_id="c-1")
        await own.send("c-1", "written by the same user elsewhere")
        for texts in (["one"], ["two", "/count"]):  # started twice, on one file
            async with echoing(bot, server, tmp_path / "echo.db"), lina_at(server) as lina:
                for text in texts:
                    await lina.send("c-1", text)
                    await answered(lina)
        written = [message.text async for message in api.messages("c-1") if message.sender_id == "echo"]
        read = {row.user_id: row.read_seq for row in (await api.receipts("c-1")).receipts}

    assert written == [
        "written by the same user elsewhere",
        "You said: one",
        "You said: two",
        "2 answers so far",
    ]
    assert read["echo"] == 5


async def test_echo_bot_that_lost_its_store_answers_nothing_twice(server: str, tmp_path: Path) -> None:
    bot = load("echo_bot").bot
    async with ChatApi(server, token=token("lina")) as api:
        await api.create_conversation("SINGLE", ["echo"], conversation_id="c-1")
        async with lina_at(server) as lina:
            async with echoing(bot, server, tmp_path / "first.db"):
                await lina.send("c-1", "one")
                await answered(lina)
            async with echoing(bot, server, tmp_path / "second.db"):
                await lina.send("c-1", "two")
                await answered(lina)
        written = [message.text async for message in api.messages("c-1") if message.type == "TEXT"]

    assert written == ["one", "You said: one", "two", "You said: two"]


async def test_echo_bot_says_that_it_cannot_answer(
    server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bot = load("echo_bot").bot
    async with ChatApi(server, token=token("lina")) as api:
        await api.create_conversation("SINGLE", ["echo"], conversation_id="c-1")
        async with echoing(bot, server, tmp_path / "echo.db"), lina_at(server) as lina:
            await lina.send("c-1", "x" * 65_511)
            assert await answered(lina) == "Sorry, I have no answer to that."
    assert "it is given up" in caplog.text
    assert "TooLargeError" in caplog.text


async def test_streaming_bot(server: str, tmp_path: Path) -> None:
    example = load("streaming_bot")
    example.PAUSE_S = 0.01
    client = ChatClient(server, token=token("oracle"), device_id="bot", store=tmp_path / "oracle.db")
    async with ChatApi(server, token=token("lina")) as api:
        await api.create_conversation("SINGLE", ["oracle"], conversation_id="c-1")
        async with example.bot.serving(client), lina_at(server) as lina:
            await lina.wait_connected()
            await lina.send("c-1", "/ask why is the sky blue")
            grown: list[str] = []
            with anyio.fail_after(30):
                async for event in lina.events():
                    if isinstance(event, StreamGrew):
                        grown.append(event.text)
                    if isinstance(event, MessageEdited):
                        break
        (answer,) = [message async for message in api.messages("c-1") if message.sender_id == "oracle"][:1]
    assert len(grown) > 1
    assert all(answer.text.startswith(it) for it in grown)
    assert answer.text.startswith("About the sky blue: ")
    assert answer.text.endswith("worth it.")
    assert not answer.is_open


def echoing(bot: Bot, server: str, store: Path) -> AbstractAsyncContextManager[ChatClient]:
    return bot.serving(ChatClient(server, token=token("echo"), device_id="bot", store=store))


def lina_at(server: str) -> ChatClient:
    return ChatClient(server, token=token("lina"), device_id="phone")


async def answered(lina: ChatClient) -> str:
    """The next text of the bot's."""
    with anyio.fail_after(30):
        async for event in lina.events():
            match event:
                case MessageReceived(message=m) if m.sender_id == "echo" and "elsewhere" not in m.text:
                    return m.text
    raise AssertionError("the events ended")


async def test_own_login(tmp_path: Path) -> None:
    with serving("own_login", folder=tmp_path) as url:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as web:
            right, wrong = {"user": "lina", "password": "lighthouse"}, {"user": "lina", "password": "ü"}
            session = (await web.post("/login", json=right)).json()["token"]
            refused = [(await web.post("/login", json=body)).status_code for body in (wrong, {"user": 1})]
            assert refused == [401, 400]
            async with ChatClient(url, token=session, device_id="phone") as chat:
                await chat.wait_connected()
                assert chat.user_id == "lina"
                bearer = {"authorization": f"Bearer {session}"}
                assert (await web.post("/logout", headers=bearer)).status_code == 204
                ended = [event async for event in chat.events() if isinstance(event, Disconnected)]
                assert [event.code for event in ended] == [4101, 4101], (
                    "neither the token nor a resume token holds"
                )
                await chat.aclose()
        async with ChatApi(url, token=session) as api:
            with pytest.raises(UnauthenticatedError):
                await api.conversations()


async def test_own_storage(tmp_path: Path) -> None:
    with serving("own_storage", "archive.jsonl", folder=tmp_path) as url:
        async with ChatApi(url, token=token("lina")) as api:
            await api.create_conversation("SINGLE", ["omar"], conversation_id="c-1")
            await api.send("c-1", "到了吗?", client_msg_id="k")
            await api.send("c-1", "到了吗?", client_msg_id="k")
            await api.send("c-1", {"type": "CUSTOM", "schema": "s", "data": [1], "fallbackText": ""})

    lines = (tmp_path / "archive.jsonl").read_text().splitlines()
    copied = [json.loads(line) for line in lines]
    assert [
        (line["conversation"], line["seq"], line["sender"], line["payload"]["type"]) for line in copied
    ] == [("c-1", 2, "lina", "TEXT"), ("c-1", 3, "lina", "CUSTOM")]


class TestArchivingStore(VolatileStoreContract):
    """The example's store keeps the contract of the one that it stands around, which is in memory."""

    @pytest.fixture
    async def store(self, tmp_path: Path) -> Store:
        made: Store = load("own_storage").ArchivingStore(open_store("memory://"), tmp_path / "archive.jsonl")
        await made.migrate()
        return made


async def test_reference_server(server: str) -> None:
    async with httpx.AsyncClient(base_url=server, trust_env=False) as web:
        assert "text/html" in (await web.get("/")).headers["content-type"]
        assert (await web.get("/login/mallory")).status_code == 404
        logged_in = await web.get("/login/lina")
        assert logged_in.status_code == 303
        fragment = logged_in.headers["location"].removeprefix("/#token=")
    async with ChatApi(server, token=fragment) as api:
        await api.create_conversation("SINGLE", ["omar"], conversation_id="c-1")
    with anyio.fail_after(30):
        async with (
            ChatClient(server, token=fragment, device_id="phone") as lina,
            ChatClient(server, token=token("omar"), device_id="phone") as omar,
        ):
            await lina.send("c-1", "Hello")
            assert await texts(omar, 1) == ["Hello"]


async def test_rest_script(server: str) -> None:
    script = load("rest_script")

    first = await script.main(server, "lina", "2030-01-31", token=token("reporter"))
    again = await script.main(server, "lina", "2030-01-31", token=token("reporter"))
    next_day = await script.main(server, "lina", "2030-02-01", token=token("reporter"))

    assert ["Backup of 2030-01-31 is done."] == first == again
    assert next_day == ["Backup of 2030-01-31 is done.", "Backup of 2030-02-01 is done."]


async def test_protocol_client(server: str) -> None:
    """What it shows is what the SDK shows, though its line is cut, and though others talk while it is away."""
    example = load("protocol_client")
    async with ChatApi(server, token=token("ann")) as api:
        await api.create_conversation("SINGLE", ["ben"], conversation_id="c-1")
    url, ann_token = server.replace("http", "ws"), token("ann")
    ann, other = (example.Client(url, ann_token, name) for name in ("a1", "a2"))

    async def until(client: Any, holds: Callable[[], object]) -> None:
        async with client.changed:
            await client.changed.wait_for(holds)

    with anyio.fail_after(60):
        async with (
            ChatClient(server, token=token("ben"), device_id="b1") as ben,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(ann.run)
            first = await ann.send("c-1", {"type": "TEXT", "text": "helo"}, "k-1")
            assert await texts(ben, 1) == ["helo"]
            again = await ann.send("c-1", {"type": "TEXT", "text": "helo"}, "k-1")
            assert (again["seq"], again["messageId"]) == (first["seq"], first["messageId"])

            ann.line.transport.abort()
            await until(ann, lambda: not ann.live)
            missed = [await ben.send("c-1", f"missed {number}") for number in range(3)]
            sent = await ann.send("c-1", {"type": "TEXT", "text": "after the cut"})
            await until(ann, lambda: ann.conversations["c-1"].prefix >= max(missed[-1].seq, sent["seq"]))
            await ann.read("c-1", sent["seq"])

            message = next(it for it in await ben.history("c-1") if it.seq == first["seq"])
            await ben.react(message, "👍")
            target = {"messageId": first["messageId"], "seq": first["seq"]}
            payload = {"type": "TEXT", "text": "hello"}
            await ann.send("c-1", {"type": "EDIT", **target, "payload": payload})
            await ann.recall("c-1", sent["seq"])
            await until(ann, lambda: ann.conversations["c-1"].shown()[sent["seq"]][1] is None)
            named = {"messageId": missed[0].message_id, "seq": missed[0].seq}
            with pytest.raises(RuntimeError, match="FORBIDDEN"):
                await ann.send("c-1", {"type": "EDIT", **named, "payload": payload})

            tasks.start_soon(other.run)
            await until(other, lambda: "c-1" in other.conversations)
            other.conversations["c-1"].prefix = 0  # as one does who scrolls to the beginning
            await other._pull("c-1")
            head = ann.conversations["c-1"].head
            await until(other, lambda: other.conversations["c-1"].prefix >= head)
            last = await ben.send("c-1", "bye")
            for client in (ann, other):
                await until(client, lambda held=client.conversations["c-1"]: held.prefix >= last.seq)
            shown = {
                it.seq: (
                    it.sender_id,
                    it.text if it.type == "TEXT" else None,
                    {that.reaction: that.count for that in it.reactions},
                )
                for it in await ben.history("c-1")
                if it.type == "TEXT" or it.seq == sent["seq"]
            }
            assert ann.conversations["c-1"].shown() == other.conversations["c-1"].shown() == shown
            assert shown[first["seq"]] == ("ann", "hello", {"👍": 1})
            tasks.cancel_scope.cancel()


async def test_protocol_client_sends_more_than_the_rate_in_order_and_without_a_flood(server: str) -> None:
    """More than are taken at once: each is refused a few times at most, and none overtakes another."""
    refused = []

    class Counting(load("protocol_client").Client):  # type: ignore[misc]  # an example has no types
        async def _on_error(self, event: dict[str, Any]) -> None:
            refused.append(event["code"])
            await super()._on_error(event)

    async with ChatApi(server, token=token("ann")) as api:
        await api.create_conversation("SINGLE", ["ben"], conversation_id="c-1")
    client, seqs = Counting(server.replace("http", "ws"), token("ann"), "a1"), dict[int, int]()

    async def send(number: int) -> None:
        seqs[number] = (await client.send("c-1", {"type": "TEXT", "text": str(number)}))["seq"]

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.run)
            async with anyio.create_task_group() as sends:
                for number in range(60):
                    sends.start_soon(send, number)
                    await anyio.lowlevel.checkpoint()
            client.line.transport.abort()  # else the end would wait for the server's
            async with client.changed:
                await client.changed.wait_for(lambda: not client.live)
            tasks.cancel_scope.cancel()
    assert [seqs[number] for number in range(60)] == sorted(seqs.values())
    assert refused.count("RATE_LIMITED") > 0
    assert len(refused) < 150


async def test_protocol_client_stops_for_good_where_the_contract_says_so(server: str) -> None:
    client = load("protocol_client").Client(server.replace("http", "ws"), "nonsense", "a1")
    with anyio.fail_after(30):
        assert await client.run() == 4101
