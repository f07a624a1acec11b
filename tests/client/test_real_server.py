"""The SDK against the real server, over real sockets: away, back, killed, on two devices, and far behind."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from chatkit import ChatApi, ChatClient, ClientConfig
from chatkit.client.events import (
    CaughtUp,
    ChatEvent,
    Connected,
    ConversationChanged,
    ConversationListChanged,
    MessageEdited,
    MessageRecalled,
    MessageReceived,
    ReactionChanged,
    ReceiptChanged,
    Reconnecting,
    Typing,
)
from chatkit.client.store.sqlite import SqliteStore
from chatkit.errors import BadRequestError, ConflictError, ForbiddenError, NotFoundError, UnauthenticatedError
from chatkit.types import Message, MessageRef, Reaction

from ..blackbox.server_process import ServerProcess
from ..blackbox.tokens import token

SOON_S = 20.0
QUICK = ClientConfig(backoff_base_s=0.05, backoff_max_s=0.2)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def alice(server: ServerProcess) -> AsyncIterator[ChatApi]:
    async with ChatApi(server.http_url, token=token("alice")) as api:
        yield api


def device(server: ServerProcess, user: str, name: str, **options: object) -> ChatClient:
    options.setdefault("config", QUICK)
    return ChatClient(server.http_url, token=token(user, name), device_id=name, **options)  # type: ignore[arg-type]


async def until(chat: ChatClient, kind: type[ChatEvent]) -> ChatEvent:
    with anyio.fail_after(SOON_S):
        async for event in chat.events():
            if isinstance(event, kind):
                return event
    raise AssertionError(f"the events ended without {kind}")


async def texts(chat: ChatClient, count: int) -> list[str]:
    found: list[str] = []
    with anyio.fail_after(SOON_S):
        async for event in chat.events():
            if isinstance(event, MessageReceived) and event.message.type == "TEXT":
                found.append(event.message.text)
                if len(found) == count:
                    break
    return found


async def whole_log(api: ChatApi, conversation_id: str) -> list[Message]:
    return [message async for message in api.messages(conversation_id)]


def without_keys(messages: list[Message]) -> list[tuple[int, str, str]]:
    return [(message.seq, message.message_id, message.text) for message in messages]


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_the_whole_story_between_two_users(server: ServerProcess, alice: ChatApi, codec: str) -> None:
    made = await alice.create_conversation("SINGLE", ["alice", "bob"])
    id_ = made.conversation_id
    async with (
        device(server, "alice", "phone", codec=codec) as a,
        device(server, "bob", "pc", codec=codec) as b,
    ):
        await until(b, CaughtUp)
        sent = await a.send(id_, "到了吗？")
        assert await texts(b, 1) == ["到了吗？"]
        await b.mark_read(id_, sent.seq)
        with anyio.fail_after(SOON_S):
            while a.message_state(id_, sent.seq) != "READ":
                await until(a, ReceiptChanged)
        status = await a.status(sent.message_id)
        assert (status.status, status.read_count) == ("READ", 1)

        await b.typing(id_)
        assert await until(a, Typing) == Typing(id_, "bob")
        await a.recall(sent.message_id)
        recalled = await until(b, MessageRecalled)
        assert isinstance(recalled, MessageRecalled) and recalled.seq == sent.seq
        assert [message.type for message in await b.history(id_)] == ["MEMBER", "RECALLED", "RECALL"]
        with pytest.raises(NotFoundError):
            await b.recall("1-nothing-1")


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_edits_reactions_and_replies_reach_who_is_here_and_who_was_away(
    server: ServerProcess, alice: ChatApi, codec: str
) -> None:
    id_ = (await alice.create_conversation("SINGLE", ["alice", "bob"])).conversation_id
    async with (
        device(server, "alice", "phone", codec=codec) as a,
        device(server, "bob", "pc", codec=codec) as b,
    ):
        await until(b, CaughtUp)
        sent = await a.send(id_, "helo")
        made = await a.edit(sent, "hello")
        edited = await until(b, MessageEdited)
        assert isinstance(edited, MessageEdited)
        assert (edited.message_id, edited.seq, edited.by) == (sent.message_id, sent.seq, "alice")
        assert (edited.edit.seq, edited.edit.payload) == (made.seq, {"type": "TEXT", "text": "hello"})

        (message,) = [it for it in await b.history(id_) if it.seq == sent.seq]
        assert (message.text, message.payload["text"]) == ("hello", "helo")
        await b.react(message, "👍")
        await b.react(message, "🎉")
        await b.react(message, "🎉", removed=True)
        reply = await b.send(id_, "hello you", reply_to=message)
        changes = [await until(a, ReactionChanged) for _ in range(3)]
        assert [
            (it.reaction, it.removed, it.user_id) for it in changes if isinstance(it, ReactionChanged)
        ] == [
            ("👍", False, "bob"),
            ("🎉", False, "bob"),
            ("🎉", True, "bob"),
        ]
        with pytest.raises(ForbiddenError):
            await b.edit(message, "mine")
        with pytest.raises(BadRequestError):
            await b.react(message, "")
        with pytest.raises(BadRequestError):
            await b.edit("2a-9f2c4e61a0-2f0d", "no message")  # type: ignore[arg-type]
        with pytest.raises(BadRequestError):
            await b.edit(made, "an edit is no message")

    async with device(server, "bob", "tablet", codec=codec) as late:
        await until(late, CaughtUp)
        shown = {it.seq: it for it in await late.history(id_)}
    assert (shown[sent.seq].text, shown[sent.seq].reactions) == ("hello", (Reaction("👍", 1, ("bob",)),))
    assert shown[reply.seq].reply_to == MessageRef(sent.message_id, sent.seq)
    (fetched,) = [it for it in await whole_log(alice, id_) if it.seq == sent.seq]
    assert (fetched.content, fetched.reactions) == (shown[sent.seq].content, shown[sent.seq].reactions)


async def test_mentions_pins_and_titles_reach_every_device(server: ServerProcess, alice: ChatApi) -> None:
    id_ = (await alice.create_conversation("GROUP", ["alice", "bob"], title="Old")).conversation_id
    async with device(server, "alice", "phone") as a, device(server, "bob", "pc") as b:
        await until(b, CaughtUp)
        sent = await a.send(id_, "@bob, are you there?", mentions=["bob", "nobody"])
        other = await a.send(id_, "anybody?", reply_to=sent, mentions=["*"])
        await a.edit(await a.send(id_, "and"), {"type": "TEXT", "text": "and @bob", "mentions": ["bob"]})
        with pytest.raises(ForbiddenError):
            await b.send(id_, "all of you", mentions=["*"])
        with pytest.raises(BadRequestError):
            await a.send(id_, "x", mentions="bob")
        pinned = await a.pin(sent)
        await a.pin(other)
        await a.pin(other, pinned=False)
        with pytest.raises(ForbiddenError):
            await b.pin(sent)
        await alice.set_description(id_, "for two")
        await alice.set_title(id_, "New")
        (shown,) = await b.pins(id_)
        assert (shown.seq, shown.by, shown.message and shown.message.mentions) == (
            sent.seq,
            "alice",
            ("bob", "nobody"),
        )
        while (await b.conversations())[0].unread_mentions < 3:
            await until(b, ConversationListChanged)
        (row,) = await b.conversations()
        assert (row.unread, row.unread_mentions, row.title) == (3, 3, "New")
        await b.mark_read(id_, other.seq)
        assert (await b.conversations())[0].unread_mentions == 1
        await b.mute(id_, level="MENTIONS")

    async with ChatApi(server.http_url, token=token("bob")) as bob:
        (listed,) = (await bob.conversations()).conversations
        assert (listed.unread_mentions, listed.description, listed.notify) == (1, "for two", "MENTIONS")
        (recent,) = (await bob.recent_conversations()).conversations
        assert recent.unread_mentions == 1
        assert [it.seq for it in await bob.pins(id_)] == [sent.seq]
        said = await bob.send(id_, {"type": "TEXT", "text": "here", "mentions": ["alice"]})
    titles = [it.payload for it in await whole_log(alice, id_) if it.type == "TITLE"]
    assert titles == [{"type": "TITLE", "description": "for two"}, {"type": "TITLE", "title": "New"}]
    assert said.seq > pinned.seq


async def test_a_recall_takes_edits_along_on_every_device(
    server: ServerProcess, alice: ChatApi, tmp_path: Path
) -> None:
    id_ = (await alice.create_conversation("SINGLE", ["alice", "bob"])).conversation_id
    path = tmp_path / "bob.db"
    async with device(server, "alice", "phone") as a, device(server, "bob", "pc", store=path) as b:
        await until(b, CaughtUp)
        sent = await a.send(id_, "CANARY-1")
        made = await a.edit(sent, "CANARY-2")
        await until(b, MessageEdited)
        await a.recall(sent.message_id)
        await until(b, MessageRecalled)
        shown = {it.seq: it for it in await b.history(id_)}
        assert [shown[seq].payload for seq in (sent.seq, made.seq)] == [{"type": "RECALLED"}] * 2
        assert shown[sent.seq].text == ""
    assert b"CANARY" not in b"".join(it.read_bytes() for it in tmp_path.glob("bob.db*"))


async def test_who_was_away_gets_everything_on_every_device(server: ServerProcess, alice: ChatApi) -> None:
    id_ = (await alice.create_conversation("SINGLE", ["alice", "bob"])).conversation_id
    async with device(server, "alice", "phone") as a:
        for number in range(30):
            await a.send(id_, f"m{number}")
    wanted = [f"m{number}" for number in range(30)]

    async with device(server, "bob", "phone") as phone:
        assert await texts(phone, 30) == wanted
        await until(phone, CaughtUp)
    async with device(server, "bob", "tablet") as tablet:
        await until(tablet, CaughtUp)
        history = await tablet.history(id_, limit=100)
        assert [message.text for message in history if message.type == "TEXT"] == wanted


async def test_a_restarted_server_is_found_again_and_nothing_is_doubled(
    server: ServerProcess, alice: ChatApi, tmp_path: Path
) -> None:
    id_ = (await alice.create_conversation("SINGLE", ["alice", "bob"])).conversation_id
    async with device(server, "alice", "phone") as a, device(server, "bob", "phone") as b:
        await a.send(id_, "before")
        server.kill()
        await until(a, Reconnecting)
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(a.send, id_, f"away{number}")
            await anyio.sleep(0.05)
            await anyio.to_thread.run_sync(server.start)
        await a.send(id_, "after")

        seen = await texts(b, 22)
        assert (seen[0], seen[-1]) == ("before", "after")
        assert sorted(seen[1:-1]) == sorted(f"away{number}" for number in range(20))
    log = await whole_log(alice, id_)
    assert [message.text for message in log if message.type == "TEXT"] == seen


async def test_a_draining_server_is_left_and_found_again(server: ServerProcess, alice: ChatApi) -> None:
    id_ = (await alice.create_conversation("SINGLE", ["alice", "bob"])).conversation_id
    async with device(server, "alice", "phone") as a:
        await until(a, Connected)
        server.terminate()
        assert await anyio.to_thread.run_sync(server.exit_code) == 0
        await anyio.to_thread.run_sync(server.start)
        again = await until(a, Connected)
        assert isinstance(again, Connected) and again.resumed
        assert (await a.send(id_, "hi")).seq == 2


async def test_a_killed_app_leaves_each_message_stored_exactly_once(
    server: ServerProcess, alice: ChatApi, tmp_path: Path
) -> None:
    id_ = (await alice.create_conversation("SINGLE", ["alice", "bob"])).conversation_id
    store, queued, acked = str(tmp_path / "phone.db"), list[str](), dict[str, int]()
    for round_ in range(3):
        command = [sys.executable, "-m", "tests.client.crashing_sender", server.http_url, token("alice")]
        arguments = [*command, store, id_, str(round_ * 10_000), "10000"]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as child:
            await anyio.to_thread.run_sync(_read_until, child, queued, acked, 150 * (round_ + 1))
            child.kill()
            await anyio.to_thread.run_sync(_read_until, child, queued, acked, 10**9)

    left = SqliteStore(store)
    pending = [send.client_msg_id for send in left.pending()]
    left.close()
    async with device(server, "alice", "phone", store=store) as a:
        assert await a.aclose(SOON_S) == 0
    rows = [message for message in await whole_log(alice, id_) if message.type == "TEXT"]

    assert pending, "the kill came too late to test anything"
    stored = [message.text for message in rows]
    assert len(stored) == len(set(stored))
    assert set(queued) <= set(stored)
    assert stored == sorted(stored, key=lambda key: int(key[1:]))
    assert all(rows[stored.index(key)].seq == seq for key, seq in acked.items())


async def test_two_devices_far_behind_catch_up_while_new_messages_arrive(
    server: ServerProcess, alice: ChatApi, tmp_path: Path
) -> None:
    ids = [f"g-{number}" for number in range(50)]
    paths = {name: str(tmp_path / f"{name}.db") for name in ("phone", "tablet")}
    for name, path in paths.items():  # both devices are known to the server before anything happens
        async with device(server, "bob", name, store=path) as chat:
            await until(chat, CaughtUp)
    for id_ in ids:
        await alice.create_conversation("GROUP", ["alice", "bob"], conversation_id=id_)
    async with device(server, "alice", "pc", config=ClientConfig(window=1000)) as a:
        for start in range(0, 200, 16):
            async with anyio.create_task_group() as group:
                for number in range(start, min(start + 16, 200)):
                    for id_ in ids:
                        group.start_soon(a.send, id_, f"m{number}")

        async with (
            device(server, "bob", "phone", store=paths["phone"]) as phone,
            device(server, "bob", "tablet", store=paths["tablet"]) as tablet,
            anyio.create_task_group() as group,
        ):
            group.start_soon(_send_live, a, ids)
            group.start_soon(texts_of_all, phone, 50 * 210)
            group.start_soon(texts_of_all, tablet, 50 * 210)
    logs = {id_: await whole_log(alice, id_) for id_ in ids}
    for path in paths.values():
        store = SqliteStore(path)
        for id_, log in logs.items():
            assert len(log) == 211
            assert without_keys(store.messages(id_, 10**6, 1000)) == without_keys(log)
        store.close()


async def texts_of_all(chat: ChatClient, count: int) -> None:
    """Consume until so many texts came, each conversation strictly in order."""
    last: dict[str, int] = {}
    with anyio.fail_after(60):
        async for event in chat.events():
            if isinstance(event, MessageReceived) and event.message.type == "TEXT":
                message = event.message
                assert message.seq > last.get(message.conversation_id, 0)
                last[message.conversation_id] = message.seq
                count -= 1
                if count == 0:
                    return


async def _send_live(chat: ChatClient, ids: list[str]) -> None:
    for number in range(10):
        async with anyio.create_task_group() as group:
            for id_ in ids:
                group.start_soon(chat.send, id_, f"live{number}")


async def test_a_client_registers_its_device_and_mutes(server: ServerProcess, alice: ChatApi) -> None:
    await alice.create_conversation("GROUP", ["bob"], conversation_id="g-push")
    async with device(server, "bob", "phone") as bob:
        await bob.register_push("apns", "740f", hide_body=True)
        await bob.unregister_push()
        await bob.mute("g-push", datetime(2100, 1, 1, tzinfo=UTC))
        async with ChatApi(server.http_url, token=token("bob")) as api:
            muted = {row.conversation_id: row.muted_until async for row in api.all_conversations()}
            assert muted["g-push"] == 4_102_444_800_000
            await bob.unmute("g-push")
            muted = {row.conversation_id: row.muted_until async for row in api.all_conversations()}
            assert muted["g-push"] == 0
        with pytest.raises(NotFoundError):
            await bob.mute("c-unknown")
        with pytest.raises(BadRequestError):
            await bob.register_push("APNS", "740f")
    async with ChatApi(server.http_url, token=token("bob", "phone"), device_id="tablet") as other:
        with pytest.raises(ForbiddenError):
            await other.register_push("apns", "740f")


async def test_every_http_request(server: ServerProcess, alice: ChatApi) -> None:
    assert await alice.health()
    assert await alice.ready()
    group = await alice.create_conversation("GROUP", ["bob"], conversation_id="g-1", title="trip")
    assert (group.member_ids, group.title, group.member_count) == (["alice", "bob"], "trip", 2)
    assert await alice.conversation("g-1") == group
    sent = await alice.send("g-1", "hi", client_msg_id="k")
    assert await alice.send("g-1", "hi", client_msg_id="k") == sent
    with pytest.raises(ConflictError):
        await alice.send("g-1", "other", client_msg_id="k")
    media = {"type": "IMAGE", "url": "https://x.test/a.png", "mime": "image/png", "bytes": 3}
    image = await alice.send("g-1", media)

    page = await alice.history("g-1", from_seq=2, limit=1)
    assert ([message.text for message in page.messages], page.up_to_seq, page.more) == (["hi"], 2, True)
    assert [message.payload for message in (await alice.sync("g-1", 2)).messages] == [media]
    assert [message.seq for message in await whole_log(alice, "g-1")] == [1, 2, 3]

    async with ChatApi(server.http_url, token=token("bob"), device_id="pc") as bob:
        await bob.mark_delivered(sent.message_id)
        assert await bob.mark_read("g-1", 2) == 2
        rows = [row async for row in bob.all_conversations()]
        assert [(row.conversation_id, row.unread, row.title) for row in rows] == [("g-1", 1, "trip")]
        with pytest.raises(NotFoundError):
            await bob.status(sent.message_id)
    status = await alice.status(sent.message_id)
    assert (status.status, [row.device_id for row in status.deliveries]) == ("READ", ["pc"])
    receipts = {row.user_id: row.read_seq for row in (await alice.receipts("g-1")).receipts}
    assert receipts["bob"] == 2

    assert (await alice.recall(image.message_id)).seq == 4
    assert (await alice.add_members("g-1", ["carol"])).added == ["carol"]
    assert [member.user_id async for member in alice.all_members("g-1")] == ["alice", "bob", "carol"]
    assert (await alice.remove_member("g-1", "carol")).removed == ["carol"]
    assert (await alice.set_title("g-1", "voyage")).title == "voyage"
    await alice.block("carol")
    assert [row.user_id for row in (await alice.blocks()).blocks] == ["carol"]
    await alice.unblock("carol")
    await alice.mute("g-1")
    assert [row.muted_until async for row in alice.all_conversations()] == [2**53 - 1]
    await alice.unmute("g-1")
    assert [row.muted_until async for row in alice.all_conversations()] == [0]
    assert (await alice.push_providers()).providers == []
    with pytest.raises(BadRequestError, match="device"):
        await alice.register_push("apns", "740f")
    await alice.transfer_ownership("g-1", "bob")
    with pytest.raises(ForbiddenError):
        await alice.set_title("g-1", "again")
    with pytest.raises(NotFoundError):
        await alice.conversation("c-unknown")
    async with ChatApi(server.http_url, token="nonsense") as nobody:
        with pytest.raises(UnauthenticatedError):
            await nobody.conversations()


async def test_roles_silence_bans_and_histories(server: ServerProcess, alice: ChatApi) -> None:
    made = await alice.create_conversation("GROUP", ["bob"], conversation_id="g-1", history="FROM_START")
    assert made.history == "FROM_START"
    first = await alice.send("g-1", "from before")
    async with (
        device(server, "carol", "pc") as carol,
        ChatApi(server.http_url, token=token("carol")) as carols,
        ChatApi(server.http_url, token=token("bob")) as bob,
    ):
        await until(carol, CaughtUp)
        await alice.add_members("g-1", ["carol"], role="GUEST")
        joined = await until(carol, MessageReceived)
        assert isinstance(joined, MessageReceived)
        assert (joined.message.type, joined.message.seq) == ("MEMBER", 3)  # nothing of before is told as new
        assert [it.seq for it in await carol.history("g-1")] == [1, 2, 3]
        assert [it.seq for it in (await carols.history("g-1")).messages] == [1, 2, 3]
        assert [it.seq for it in (await carols.sync("g-1", 0)).messages] == [3]

        await alice.set_role("g-1", "bob", "ADMIN")
        roles = {it.user_id: it.role async for it in carols.all_members("g-1")}
        assert roles == {"alice": "OWNER", "bob": "ADMIN", "carol": "GUEST"}
        await bob.silence_member("g-1", "carol", datetime.now(UTC) + timedelta(hours=1))
        with pytest.raises(ForbiddenError) as refused:
            await carol.send("g-1", "but")
        assert refused.value.reason == "SILENCED"
        with pytest.raises(ForbiddenError) as refused:
            await carols.send("g-1", "but")
        assert refused.value.reason == "SILENCED"
        (row,) = [row async for row in carols.all_conversations()]
        assert (row.member_role, row.silenced_until > 0, row.history) == ("GUEST", True, "FROM_START")
        await bob.unsilence_member("g-1", "carol")
        sent = await carol.send("g-1", "at last")
        assert (await bob.recall(sent.message_id)).seq == sent.seq + 1
        with pytest.raises(ForbiddenError) as refused:
            await bob.recall(first.message_id)
        assert refused.value.reason == "ROLE"

        await bob.ban_member("g-1", "carol")
        bans = await alice.bans("g-1")
        assert [(it.user_id, it.by_id) for it in bans.bans] == [("carol", "bob")]
        with pytest.raises(ForbiddenError):
            await alice.add_members("g-1", ["carol"])
        away = await alice.send("g-1", "while you are away")
        await bob.unban_member("g-1", "carol")
        await alice.set_history("g-1", "FROM_JOIN")
        await alice.set_history("g-1", "FROM_START")
        back = await alice.add_members("g-1", ["carol"])
        assert back.added == ["carol"]
        assert [it.seq for it in (await carols.history("g-1")).messages] == list(range(1, away.seq + 2))
        with anyio.fail_after(5):  # a new device starts where the one before has said that it is
            while (await carols.receipts("g-1")).receipts[-1].delivered_seq <= away.seq:
                await anyio.sleep(0.02)
        async with device(server, "carol", "new") as fresh:
            await until(fresh, CaughtUp)
            assert [it.seq for it in await fresh.history("g-1")] == list(range(1, away.seq + 2))
        with pytest.raises(ForbiddenError):
            await carols.set_history("g-1", "FROM_JOIN")


def _read_until(
    child: subprocess.Popen[str], queued: list[str], acked: dict[str, int], acked_count: int
) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        word, *rest = line.split()
        if word == "queued":
            queued.append(rest[0])
        elif len(rest) == 2:
            acked[rest[0]] = int(rest[1])
        if len(acked) >= acked_count:
            return


async def test_a_bot_that_is_killed_again_and_again_handles_everything(
    server: ServerProcess, alice: ChatApi, tmp_path: Path
) -> None:
    """At least once, in order; again only what it was busy with when it was killed."""
    id_ = (await alice.create_conversation("SINGLE", ["alice", "bot"])).conversation_id
    command = [sys.executable, "-m", "tests.client.dying_bot", server.http_url, token("bot", "bot")]
    with subprocess.Popen(
        [*command, str(tmp_path / "bot.db")], stdout=subprocess.PIPE, text=True
    ) as first:  # makes its cursors
        async with device(server, "alice", "phone") as a:
            for number in range(120):
                await a.send(id_, f"{number}")
        said = [await anyio.to_thread.run_sync(_killed_after, first, 20)]
    for count in (15, 1, 30, 1000):
        with subprocess.Popen(
            [*command, str(tmp_path / "bot.db")], stdout=subprocess.PIPE, text=True
        ) as child:
            said.append(await anyio.to_thread.run_sync(_killed_after, child, count))

    handled = [int(words[1]) for lines in said for words in lines if words[0] == "handled"]
    assert sorted(set(handled)) == list(range(120))
    assert handled == sorted(handled)
    for before, after in itertools.pairwise(said):
        begun = int(after[0][1])
        last = before[-1]
        assert begun in (int(last[1]), int(last[1]) + 1)  # the one it was busy with, or the next
        if begun == int(last[1]) and last[0] == "begun":
            assert int(after[0][2]) > 1
    assert len(handled) - 120 <= len(said) - 1


def _killed_after(child: subprocess.Popen[str], count: int) -> list[list[str]]:
    """What the bot says up to its `count`th handled message, or the last of all; then it is killed."""
    assert child.stdout is not None
    lines: list[list[str]] = []
    for line in child.stdout:
        lines.append(line.split())
        if lines[-1] == ["handled", "119"] or sum(words[0] == "handled" for words in lines) == count:
            child.kill()
    return lines


async def test_the_ticks_of_a_group_rise_while_everybody_is_online(
    server: ServerProcess, alice: ChatApi
) -> None:
    id_ = (await alice.create_conversation("GROUP", ["alice", "bob", "cat"])).conversation_id
    async with (
        device(server, "alice", "phone") as a,
        device(server, "bob", "pc") as b,
        device(server, "cat", "pc") as c,
    ):
        for chat in (a, b, c):
            await until(chat, CaughtUp)
        sent = await a.send(id_, "who is here?")
        with anyio.fail_after(SOON_S):
            while a.message_state(id_, sent.seq) != "DELIVERED":
                await until(a, ReceiptChanged)
        await b.mark_read(id_, sent.seq)
        await c.mark_read(id_, sent.seq)
        with anyio.fail_after(SOON_S):
            while a.message_state(id_, sent.seq) != "READ":
                await until(a, ReceiptChanged)


async def test_a_second_device_has_the_list_in_one_request_and_live(
    server: ServerProcess, alice: ChatApi
) -> None:
    async with ChatApi(server.http_url, token=token("bob")) as api:
        for name, title in (("tea", "Tea"), ("plans", "Plans")):
            await alice.create_conversation("GROUP", ["bob"], conversation_id=name, title=title)
            for number in range(3):
                await alice.send(name, f"{name} {number}")
        async with device(server, "bob", "phone") as phone:
            await until(phone, CaughtUp)
            await phone.mark_read("tea", 2)
            on_phone = await phone.conversations()
        async with device(server, "bob", "tablet") as tablet:
            await until(tablet, CaughtUp)
            found = await tablet.conversations()
            assert found == on_phone == (await api.recent_conversations()).conversations
            assert [(it.title, it.unread, it.last_message and it.last_message.text) for it in found] == [
                ("Plans", 3, "plans 2"),
                ("Tea", 2, "tea 2"),
            ]
            await alice.send("tea", "more")
            await until(tablet, MessageReceived)
            await alice.set_title("tea", "Green tea")
            await until(tablet, ConversationChanged)
            now = await tablet.conversations(fetch=False)
            assert [(it.title, it.unread) for it in now] == [("Green tea", 3), ("Plans", 3)]
            await tablet.mute("plans")
            await tablet.mark_read("tea", now[0].head_seq)
            shown = await tablet.conversations(fetch=False)
            assert [(it.unread, it.muted_until) for it in shown] == [(0, 0), (3, 2**53 - 1)]
            assert [it.user_id for it in (await tablet.members("tea")).members] == ["alice", "bob"]
