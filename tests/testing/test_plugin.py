"""The pytest plugin, as a project of its own sees it: each test here is a small project that pytest runs."""

from __future__ import annotations

import re
import shlex

import pytest

pytest_plugins = ["pytester"]

VIRTUAL = """
import pytest

@pytest.fixture
def anyio_backend(chat_virtual):
    return chat_virtual
"""

GREETING = """
import anyio
from chatkit import MessageReceived

async def test_a_greeting_arrives(chat_server, chat_client):
    await chat_server.create_conversation("SINGLE", "ann", ["bob"], conversation_id="c-1")
    async with chat_client("ann") as ann, chat_client("bob") as bob:
        await ann.send("c-1", "hello")
        async for event in bob.events():
            if isinstance(event, MessageReceived) and event.message.type == "TEXT":
                assert (event.message.sender_id, event.message.text) == ("ann", "hello")
                break
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project in virtual time, in which warnings are errors and anyio's plugin is in its own mode."""
    pytester.makeini("[pytest]\nfilterwarnings = error\naddopts = -p no:cacheprovider\n")
    pytester.makeconftest(VIRTUAL)
    return pytester


def test_pytest_finds_it_in_an_installed_chatkit(project: pytest.Pytester) -> None:
    project.makepyfile(GREETING)

    result = project.runpytest_subprocess("-v")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*::test_a_greeting_arrives PASSED*"])


def test_it_loads_nothing_before_a_fixture_is_used(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # anyio's own plugin loads anyio
    pytester.makeconftest(
        """
        import sys

        NAMES = {"chatkit", "anyio", "trio", "websockets", "httpx", "msgspec", "tenacity", "asyncio"}

        def pytest_unconfigure():
            print("loaded", *(name for name in sys.modules if name.split(".")[0] in NAMES))
        """
    )

    def loaded(*options: str) -> set[str]:
        result = pytester.runpytest_subprocess("--collect-only", *options)
        assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
        return set(result.outlines[-1].split())

    alone = loaded()  # since Python 3.14 pytest's debugger loads asyncio
    assert "loaded" in alone
    ours = {"chatkit", "chatkit.testing", "chatkit.testing.pytest_plugin"}
    assert loaded("-p", "chatkit.testing.pytest_plugin") == alone | ours


def test_a_project_without_the_extra_is_not_hurt(project: pytest.Pytester) -> None:
    project.makeconftest(VIRTUAL + "import sys\nfor name in ('trio', 'apsw'): sys.modules[name] = None\n")
    project.makepyfile(GREETING + "\ndef test_of_its_own(): pass\n")

    project.runpytest_subprocess("-p", "no:hypothesispytest").assert_outcomes(passed=2)


def test_projects_that_use_none_of_it_have_their_own_backends(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nanyio_mode = auto\nfilterwarnings = error\naddopts = -p no:cacheprovider\n")
    pytester.makepyfile(
        """
        import sniffio

        async def test_of_its_own(anyio_backend_name):
            assert sniffio.current_async_library() == anyio_backend_name
        """
    )

    result = pytester.runpytest_inprocess("-v")

    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*[[]asyncio[]] PASSED*", "*[[]trio[]] PASSED*"])


def test_without_virtual_time_the_fixtures_work_on_every_backend(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nfilterwarnings = error\naddopts = -p no:cacheprovider\n")
    pytester.makepyfile(GREETING)

    pytester.runpytest_inprocess().assert_outcomes(passed=2)


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_either_mode_of_anyios_plugin_will_do(project: pytest.Pytester, mode: str) -> None:
    project.makepyfile(GREETING)

    project.runpytest_inprocess("-o", f"anyio_mode={mode}").assert_outcomes(passed=1)


def test_waiting_costs_nothing(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import anyio, time

        async def test_an_hour(chat_clock):
            started_s, before_ms = time.monotonic(), chat_clock.now_ms()
            await anyio.sleep(3600)
            assert chat_clock.now_s() == 3600
            assert chat_clock.now_ms() == before_ms + 3_600_000
            chat_clock.ahead_ms += 1000
            assert chat_clock.now_ms() == before_ms + 3_601_000
            assert time.monotonic() - started_s < 60

        class TestOfAClass:
            async def test_an_hour_with_a_server(self, chat_client):
                async with chat_client("ann") as ann:
                    await ann.wait_connected()
                    await anyio.sleep(3600)
                    await ann.wait_connected(timeout=0)
        """
    )

    project.runpytest_inprocess("-o", "anyio_mode=auto").assert_outcomes(passed=2)


def test_a_test_that_waits_for_ever_fails_and_shows_where(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        from chatkit import MessageReceived

        @pytest.fixture
        def chat_timeout_s():
            return 3600

        async def test_nobody_writes(chat_client):
            async with chat_client("ann") as ann:
                async for event in ann.events():  # here
                    assert not isinstance(event, MessageReceived)
        """
    )

    result = project.runpytest_inprocess()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">*async for event in ann.events():  # here",
            "E*TimeoutError: still waiting after 3600 s of virtual time",
        ]
    )


SEEDED = """
import anyio

async def test_order(chat_seed, chat_rng, anyio_backend):
    order = []
    async with anyio.create_task_group() as tasks:
        async def note(number):
            order.append(number)
        for number in range(8):
            tasks.start_soon(note, number)
    print("seed", chat_seed, "drew", order, chat_rng.stream("mine").random())
"""


def drawn(result: pytest.RunResult) -> list[str]:
    """What the tests of `SEEDED` drew, by seed."""
    return re.findall(r"seed \d+ drew .*", result.stdout.str())


def test_the_seed_draws_order_and_numbers(project: pytest.Pytester) -> None:
    project.makepyfile(SEEDED)

    first = drawn(project.runpytest_inprocess("-s"))
    again = drawn(project.runpytest_inprocess("-s", "--chat-seed", "0"))
    other = drawn(project.runpytest_inprocess("-s", "--chat-seed", "7"))

    assert len(first) == len(other) == 1
    assert first == again
    assert first[0].startswith("seed 0 drew")
    assert other[0].startswith("seed 7 drew")
    assert first[0].split("drew")[1] != other[0].split("drew")[1]


def test_many_seeds_are_many_tests(project: pytest.Pytester) -> None:
    project.makepyfile(SEEDED)

    result = project.runpytest_inprocess("-sv", "--chat-seed", "5", "--chat-seeds", "3")

    result.assert_outcomes(passed=3)
    assert [line.split()[1] for line in drawn(result)] == ["5", "6", "7"]
    result.stdout.fnmatch_lines(["*::test_order[[]seed5[]]*", "*::test_order[[]seed7[]]*"])


@pytest.mark.parametrize(
    "mark",
    [
        '"chat_seed", range(2)',
        '"chat_seed,extra", [(0, 0), (1, 0)]',
        '("extra", "chat_seed"), [(0, 0), (0, 1)]',
        'argnames="chat_seed", argvalues=range(2)',
    ],
)
def test_a_test_that_names_its_seeds_keeps_them(project: pytest.Pytester, mark: str) -> None:
    parameters = "chat_seed, extra" if "extra" in mark else "chat_seed"
    project.makepyfile(
        f"import pytest\n\n@pytest.mark.parametrize({mark})\ndef test_own({parameters}): assert chat_seed < 2\n"
    )

    project.runpytest_inprocess("--chat-seed", "5", "--chat-seeds", "3").assert_outcomes(passed=2)


BUSY = """
import anyio
from chatkit.testing import Conditions

async def test_busy(chat_server, chat_network, chat_client, chat_history):
    await chat_server.create_conversation("GROUP", "ann", ["bob", "cat"], conversation_id="c-1")
    chat_network.conditions = Conditions(latency_s=(0, 0.5), cut_probability=0.1, refuse_probability=0.2)

    async def talk(user):
        async with chat_client(user) as chat, anyio.create_task_group() as tasks:
            tasks.start_soon(listen, chat)
            for number in range(5):
                await chat.send("c-1", f"{user} {number}", timeout=600)
            await anyio.sleep(60)
            tasks.cancel_scope.cancel()

    async def listen(chat):
        async for event in chat.events():
            pass

    async with anyio.create_task_group() as tasks:
        for user in ("ann", "bob", "cat"):
            tasks.start_soon(talk, user)
    print("history", len(chat_history.frames), chat_history.digest())
"""


def test_the_same_seed_is_the_same_run_in_every_process(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.makepyfile(BUSY)
    project.makeconftest(VIRTUAL + "import gc, os\ngc.set_threshold(int(os.environ['GC_THRESHOLD']))\n")
    histories = []
    for hash_seed, gc_threshold in (("1", "700"), ("2", "5")):
        monkeypatch.setenv("PYTHONHASHSEED", hash_seed)
        monkeypatch.setenv("GC_THRESHOLD", gc_threshold)
        result = project.runpytest_subprocess("-s", "--chat-seed", "3", "--chat-seeds", "4")
        result.assert_outcomes(passed=4)
        histories.append(re.findall(r"history \d+ \w+", result.stdout.str()))

    assert histories[0] == histories[1]
    assert len(set(histories[0])) == 4, "each seed is another run"


FORGETFUL = """
import pytest
from chatkit.storage.memory import MemoryStore

class Forgetful(MemoryStore):
    async def entries(self, conversation_id, after_seq, limit):
        return []

@pytest.fixture
def chat_store(chat_rng):
    return Forgetful(ids=chat_rng.ports("store").ids)

async def test_lost(chat_server, chat_client):
    await chat_server.create_conversation("GROUP", "ann", ["bob"], conversation_id="c-1")
    async with chat_client("ann") as ann:
        await ann.send("c-1", "hello")
"""


def test_a_test_that_passed_is_judged_by_nobody(project: pytest.Pytester) -> None:
    project.makepyfile(FORGETFUL)

    result = project.runpytest_inprocess()

    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*chatkit*what happened*")


UNLUCKY = """
import pytest

@pytest.mark.parametrize("size", [1, 2])
def test_luck(chat_rng, size):
    assert chat_rng.stream("luck").random() < 0.7

@pytest.mark.parametrize("chat_seed", range(10))
def test_own_seeds(chat_seed, chat_rng):
    assert chat_rng.stream("luck").random() < 0.7
"""


def test_a_failure_says_how_to_have_it_again(project: pytest.Pytester) -> None:
    project.makepyfile(UNLUCKY)
    result = project.runpytest_inprocess("--chat-seeds", "10")
    commands = re.findall(r"chat_seed was \d+; the same once more: pytest (.*)", result.stdout.str())

    failed = result.parseoutcomes()["failed"]
    assert len(commands) == failed >= 3
    for command in (commands[0], commands[-1]):
        project.runpytest_inprocess(*shlex.split(command)).assert_outcomes(failed=1)


TOLD = """
async def test_deaf(chat_server, chat_client, chat_network):
    await chat_server.create_conversation("SINGLE", "ann", ["bob"], conversation_id="c-1")
    async with chat_client("ann") as ann:
        await ann.send("c-1", "one", client_msg_id="a-1")
        for line in list(chat_network.lines):
            line.cut()
        await ann.send("c-1", "two", client_msg_id="a-2")
    assert False
"""


def test_a_failure_tells_what_happened_in_its_order(project: pytest.Pytester) -> None:
    project.makepyfile(TOLD)
    result = project.runpytest_inprocess()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*chatkit: what happened*",
            "*ann calls create conversation_id=c-1 *",
            "*ann/phone calls send conversation_id=c-1 client_msg_id=a-1 payload=one*",
            "*connection opened 1, ann/phone and node",
            "*ann/phone -> node SEND_MSG conversationId=c-1 clientMsgId=a-1 payload=one",
            "*ann/phone <- node MSG_ACK conversationId=c-1 *seq=2*",
            "*ann/phone has from send: ok conversation_id=c-1 client_msg_id=a-1 *",
            "*ann/phone calls send conversation_id=c-1 client_msg_id=a-2 payload=two*",
            "*connection client ended 1, ann/phone and node, 1006",
            "*connection opened 2, ann/phone and node",
            "*ann/phone has from send: ok conversation_id=c-1 client_msg_id=a-2 *",
        ]
    )


OF_ITS_OWN = """
import anyio
import pytest

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.fixture
def chat_timeout_s():
    return 0.0

@pytest.fixture
def chat_seed():
    return {"tables": "filled"}

async def test_with_a_bound_of_its_own(chat_timeout_s):
    await anyio.sleep(0.001)

def test_that_fails(chat_seed):
    assert chat_seed is None
"""


def test_fixtures_of_the_project_that_have_the_same_names_are_its_own(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nanyio_mode = auto\naddopts = -p no:cacheprovider\n")
    pytester.makepyfile(OF_ITS_OWN)

    result = pytester.runpytest_inprocess("--chat-seeds", "1")

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("*the same once more*")


THREADED = """
import pytest
from chatkit import open_store

@pytest.fixture
def chat_store(tmp_path):
    return open_store(f"sqlite:///{tmp_path}/chat.db")

async def test_threads(chat_server):
    pass
"""


def test_a_store_with_threads_is_told_how_to_go_without(project: pytest.Pytester) -> None:
    project.makepyfile(THREADED)

    result = project.runpytest_inprocess()

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["E*every task waits*a thread or a socket*SqliteStore(path, ids=..., threads=False)*"]
    )


WITHOUT_THREADS = """
import pytest
from chatkit.storage.sqlite import SqliteStore

@pytest.fixture
def chat_store(tmp_path, chat_rng):
    return SqliteStore(str(tmp_path / "chat.db"), ids=chat_rng.ports("store").ids, threads=False)
"""


def test_a_file_without_threads_may_be_the_store(project: pytest.Pytester) -> None:
    project.makepyfile(WITHOUT_THREADS + GREETING)

    project.runpytest_inprocess().assert_outcomes(passed=1)


# --- what cannot be meant ---


@pytest.mark.parametrize("count", ["0", "-3"])
def test_a_number_of_seeds_that_would_run_nothing_is_refused(project: pytest.Pytester, count: str) -> None:
    project.makepyfile(SEEDED)

    result = project.runpytest_inprocess("--chat-seeds", count)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --chat-seeds must be at least 1, not {count}*"])


@pytest.mark.parametrize("option", ["--chat-seed", "--chat-seeds"])
def test_a_seed_is_a_whole_number(project: pytest.Pytester, option: str) -> None:
    project.makepyfile(SEEDED)

    result = project.runpytest_inprocess(option, "1.5")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{option}: invalid int value: '1.5'"])


LIKE_PYTEST_ASYNCIO = """
import pytest

class Plugin:
    pass

def pytest_addoption(parser):
    parser.addoption("--asyncio-mode", dest="asyncio_mode", default=None)
    parser.addini("asyncio_mode", "mode", default="strict")

def pytest_configure(config):
    config.addinivalue_line("markers", "asyncio: run by pytest-asyncio")
    config.pluginmanager.register(Plugin(), "asyncio")
"""

MARKED = """
import pytest

@pytest.mark.asyncio
async def test_marked(chat_client):
    pass
"""

USES_NONE = """
def test_of_its_own(chat_seed, chat_rng, chat_clock):
    pass
"""

VIRTUAL_ONLY = """
import pytest

@pytest.mark.anyio
async def test_virtual(chat_clock):
    pass
"""


@pytest.mark.parametrize(
    ("program", "options", "told"),
    [
        (GREETING, ("-o", "asyncio_mode=auto"), "*auto mode*set asyncio_mode to strict*"),
        (GREETING, ("--asyncio-mode", "auto"), "*auto mode*set asyncio_mode to strict*"),
        (VIRTUAL_ONLY, ("-o", "asyncio_mode=auto"), "*auto mode*set asyncio_mode to strict*"),
        (MARKED, (), "*marked asyncio*@pytest.mark.anyio instead"),
    ],
)
def test_what_pytest_asyncio_would_run_is_refused(
    project: pytest.Pytester, program: str, options: tuple[str, ...], told: str
) -> None:
    project.makeconftest(LIKE_PYTEST_ASYNCIO + VIRTUAL)
    project.makepyfile(program)

    result = project.runpytest_inprocess(*options)

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([told])


@pytest.mark.parametrize(
    ("program", "options"),
    [
        (GREETING, ()),
        (GREETING, ("-o", "asyncio_mode=auto", "--asyncio-mode", "strict")),
        (USES_NONE, ("-o", "asyncio_mode=auto")),
    ],
)
def test_pytest_asyncio_may_be_there_too(
    project: pytest.Pytester, program: str, options: tuple[str, ...]
) -> None:
    project.makeconftest(LIKE_PYTEST_ASYNCIO + VIRTUAL)
    project.makepyfile(program)

    project.runpytest_inprocess(*options).assert_outcomes(passed=1)


FORGOTTEN = """
import pytest

@pytest.fixture
async def room(chat_server):
    await chat_server.create_conversation("GROUP", "ann", ["bob"], conversation_id="c-1")

@pytest.fixture
async def bob(chat_client):
    async with chat_client("bob") as bob:
        yield bob

@pytest.fixture
async def forgotten(chat_client):
    return await chat_client("cat", "tablet").__aenter__()

async def test_by_the_test(room, bob, chat_client):
    ann = await chat_client("ann").__aenter__()
    await ann.send("c-1", "hello")

async def test_that_fails_itself(room, bob, chat_client):
    ann = await chat_client("ann").__aenter__()
    assert await ann.history("c-1") == []

async def test_by_a_fixture(forgotten):
    await forgotten.wait_connected()

async def test_by_nobody(room, bob, chat_client):
    async with chat_client("ann") as ann:
        await ann.send("c-1", "hello")
"""


def test_a_client_that_was_not_left_is_named(project: pytest.Pytester) -> None:
    project.makepyfile(FORGOTTEN)

    result = project.runpytest_inprocess()

    result.assert_outcomes(passed=2, failed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_by_a_fixture*",
            "E*ConfigurationError: entered and not left: cat/tablet; use `async with` for every client",
            "*_ test_by_the_test _*",
            "E*ConfigurationError: entered and not left: ann/phone; use `async with` for every client",
            "*_ test_that_fails_itself _*",
            "E*assert *Message(*",
        ]
    )
    result.stdout.no_fnmatch_line("*cancel scope*")


def test_a_client_that_was_not_left_is_named_on_every_backend(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nfilterwarnings = error\naddopts = -p no:cacheprovider\n")
    pytester.makepyfile(FORGOTTEN)

    result = pytester.runpytest_inprocess("-k", "test_by_the_test")

    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["E*ConfigurationError: entered and not left: ann/phone; *"] * 2)
