"""The blocking classes on a real server, as a script and as several threads use them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from chatkit import ClosedError, ConfigurationError, Delivery, MessageReceived, NotFoundError, Taken
from chatkit.sync import ChatApi, ChatClient
from chatkit.sync._blocking import in_thread

from ..blackbox.server_process import ServerProcess
from ..blackbox.tokens import token

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path)
    process.start()
    yield process
    process.stop()


def client(server: ServerProcess, user: str, path: Path | None = None) -> ChatClient:
    return ChatClient(server.http_url, token=token(user), device_id="d", store=path)


def test_a_script_sends_and_reads(server: ServerProcess) -> None:
    with ChatApi(server.http_url, token=token("ann")) as api:
        made = api.create_conversation("SINGLE", ["ben"], conversation_id="c")
        sent = [api.send("c", str(number)) for number in range(250)]
        texts = [message.text for message in api.messages("c") if message.type == "TEXT"]
        assert made.conversation_id == "c"
        assert texts == [str(number) for number in range(250)]
        assert [it.user_id for it in api.all_members("c")] == ["ann", "ben"]
        assert api.status(sent[0].message_id).status == "SENT"
        with pytest.raises(NotFoundError):
            api.history("c-other")
    with pytest.raises(ClosedError, match="inside `with`"):
        api.ready()


def test_an_iteration_that_is_left_early_ends(server: ServerProcess) -> None:
    with ChatApi(server.http_url, token=token("ann")) as api:
        api.create_conversation("SINGLE", ["ben"], conversation_id="c")
        for message in api.messages("c"):
            assert message.seq == 1
            break
        assert api.ready()


def test_a_client_receives_and_its_properties_answer(server: ServerProcess, tmp_path: Path) -> None:
    with ChatApi(server.http_url, token=token("ann")) as api:
        api.create_conversation("SINGLE", ["ben"], conversation_id="c")
    with client(server, "ann") as ann, client(server, "ben", tmp_path / "ben.db") as ben:
        ben.wait_connected()
        sent = ann.send("c", "hello")
        for event in ben.events():
            if isinstance(event, MessageReceived) and event.message.seq == sent.seq:
                break
        assert (ben.user_id, ben.device_id, ben.pending_count, ben.stopped) == ("ben", "d", 0, None)
        assert ben.history("c")[-1].text == "hello"
        ben.mark_read("c", sent.seq)
        assert ben.pending() == []


def test_consume_runs_plain_handlers_that_may_use_the_client(server: ServerProcess, tmp_path: Path) -> None:
    with ChatApi(server.http_url, token=token("ann")) as api:
        api.create_conversation("SINGLE", ["ben"], conversation_id="c")
        for text in ("one", "bad", "two"):
            api.send("c", text)
        tries: list[tuple[str, int]] = []

        def handle(delivery: Delivery) -> Taken | None:
            if not isinstance(delivery.event, MessageReceived) or delivery.event.message.type != "TEXT":
                return None
            text = delivery.event.message.text
            tries.append((text, delivery.attempt))
            if text == "bad" and delivery.attempt == 1:
                raise LookupError
            ben.send("c", f"{text}!", client_msg_id=f"k-{text}")
            if text == "two":
                ben.stop_consuming()
            return Taken(text.encode())

        def again(delivery: Delivery, error: Exception) -> float | None:
            assert isinstance(error, LookupError)
            return 0.0

        with client(server, "ben", tmp_path / "ben.db") as ben:
            ben.consume(handle, concurrency=2, on_error=again)
            assert ben.app_state("c") == b"two"
        assert tries == [("one", 1), ("bad", 1), ("bad", 2), ("two", 1)]
        assert [it.text for it in api.messages("c") if it.sender_id == "ben"] == ["one!", "bad!", "two!"]


def test_an_async_handler_is_refused(server: ServerProcess) -> None:
    async def handle(delivery: Delivery) -> None: ...

    with client(server, "ben") as ben, pytest.raises(ConfigurationError, match="plain function"):
        ben.consume(handle)


def test_what_turns_out_to_be_async_takes_nothing(server: ServerProcess, tmp_path: Path) -> None:
    class Handler:
        async def __call__(self, delivery: Delivery) -> None: ...

    async def handle(delivery: Delivery) -> None: ...

    def again(delivery: Delivery, error: Exception) -> None:
        raise AssertionError(error)

    seen: list[str] = []

    def read(delivery: Delivery) -> None:
        if isinstance(delivery.event, MessageReceived) and delivery.event.message.type == "TEXT":
            seen.append(delivery.event.message.text)
            ben.stop_consuming()

    with ChatApi(server.http_url, token=token("ann")) as api:
        api.create_conversation("SINGLE", ["ben"], conversation_id="c")
        api.send("c", "hello")
    with client(server, "ben", tmp_path / "ben.db") as ben:
        with pytest.raises(ConfigurationError, match="plain function"):
            ben.consume(Handler())
        for _ in range(6):  # more often than there are events
            with pytest.raises(ConfigurationError, match="coroutine that nobody awaits"):
                ben.consume(lambda it: handle(it) if it.repeats else None, on_error=again)
        ben.consume(read)
    assert seen == ["hello"]


async def test_callbacks_may_wait_for_work_that_needs_threads_too() -> None:
    together = threading.Barrier(45)

    def handle() -> None:
        together.wait(10)
        done.append(anyio.from_thread.run(anyio.to_thread.run_sync, int))

    done: list[int] = []
    async with anyio.create_task_group() as tasks:
        for _ in range(45):
            tasks.start_soon(in_thread(handle))
    assert done == [0] * 45


def test_several_threads_use_one(server: ServerProcess) -> None:
    with ChatApi(server.http_url, token=token("ann")) as api, ThreadPoolExecutor(8) as threads:
        api.create_conversation("SINGLE", ["ben"], conversation_id="c")
        sent = list(threads.map(lambda number: api.send("c", str(number)).seq, range(80)))
    assert sorted(sent) == list(range(2, 82))


async def test_in_an_event_loop_it_is_refused_with_advice() -> None:
    with pytest.raises(ConfigurationError, match="stand still"), ChatApi("http://127.0.0.1:1", token="t"):
        pass


def test_it_is_entered_once(server: ServerProcess) -> None:
    with ChatApi(server.http_url, token=token("ann")) as api, pytest.raises(ClosedError), api:
        pass


def test_a_client_that_cannot_start_leaves_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    (tmp_path / "no.db").write_bytes(b"not a database, and long enough to be seen as none" * 100)
    with (
        pytest.raises(Exception, match=r"no\.db|SQLite"),
        ChatClient("http://127.0.0.1:1", token="t", device_id="d", store=tmp_path / "no.db"),
    ):
        pass
    assert threading.active_count() == before


@contextmanager
def script(program: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A script of its own, for Ctrl-C is for the main thread of a process."""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        yield child


def interrupt_when_ready(child: subprocess.Popen[str]) -> None:
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.5)  # so that it waits again
    child.send_signal(signal.SIGINT)


def test_ctrl_c_ends_a_script_that_waits(server: ServerProcess) -> None:
    program = (
        "from chatkit.sync import ChatClient\n"
        "with ChatClient.from_env(device_id='d') as chat:\n"
        "    chat.wait_connected(); print('ready', flush=True)\n"
        "    for event in chat.events(): pass\n"
    )
    with script(program, CHATKIT_URL=server.http_url, CHATKIT_TOKEN=token("ann")) as child:
        interrupt_when_ready(child)
        _, errors = child.communicate(timeout=20)
    assert "KeyboardInterrupt" in errors
    assert child.returncode != 0


def test_ctrl_c_in_a_page_is_what_the_script_sees_and_ends_the_request() -> None:
    program = (
        "import asyncio, httpx\n"
        "from chatkit.sync import ChatApi\n"
        "async def hang(request):\n"
        "    print('ready', flush=True)\n"
        "    try: await asyncio.sleep(60)\n"
        "    finally: print('request ended', flush=True)\n"
        "client = httpx.AsyncClient(transport=httpx.MockTransport(hang))\n"
        "with ChatApi('http://x', token='t', client=client) as api:\n"
        "    try: list(api.messages('c'))\n"
        "    except KeyboardInterrupt: print('interrupted')\n"
    )
    with script(program) as child:
        interrupt_when_ready(child)
        output, errors = child.communicate(timeout=20)
    assert (output, errors, child.returncode) == ("request ended\ninterrupted\n", "", 0)


def test_events_go_on_after_ctrl_c_and_none_is_lost(server: ServerProcess) -> None:
    program = (
        "from chatkit import MessageReceived\n"
        "from chatkit.sync import ChatClient\n"
        "with ChatClient.from_env(device_id='d') as chat:\n"
        "    chat.wait_connected()\n"
        "    try:\n"
        "        for event in chat.events():\n"
        "            if isinstance(event, MessageReceived) and event.message.type == 'TEXT':\n"
        "                print(event.message.text, flush=True)\n"
        "    except KeyboardInterrupt: print('interrupted', flush=True)\n"
        "    for event in chat.events():\n"
        "        if isinstance(event, MessageReceived): print(event.message.text); break\n"
    )
    with (
        ChatApi(server.http_url, token=token("ann")) as api,
        script(program, CHATKIT_URL=server.http_url, CHATKIT_TOKEN=token("ben")) as child,
    ):
        api.create_conversation("SINGLE", ["ben"], conversation_id="c")
        api.send("c", "ready")
        interrupt_when_ready(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "interrupted\n"
        api.send("c", "next")
        output, errors = child.communicate(timeout=20)
    assert (output, errors, child.returncode) == ("next\n", "", 0)
