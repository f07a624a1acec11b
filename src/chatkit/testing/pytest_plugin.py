"""Fixtures for tests of whatever is built on chatkit: a server, clients, a bad network, virtual time, one seed.

pytest finds this module by itself once chatkit is installed. It adds two options and fixtures whose names begin with
`chat_`; a project that uses none of them pays for this module alone, for the rest is imported inside the fixtures.

It judges nothing: a test that passes stays passed, a test that fails also says what happened.

Async tests and fixtures are run by anyio's plugin. Virtual time is chosen where that plugin looks for it::

    @pytest.fixture
    def anyio_backend(chat_virtual):
        return chat_virtual
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from functools import wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..server.config import ServerConfig
    from ..server.server import ChatServer
    from ..storage.base import Store
    from .bot_chat import BotChats
    from .devices import Devices
    from .history import History
    from .network import Network
    from .rng import Rng
    from .virtual_time import VirtualClock

NODE = "node"
"""What the fixture's network calls its only server."""

_ASYNCIO_MODE = (
    "pytest-asyncio in its auto mode takes chatkit's fixtures, which anyio's plugin must run: set asyncio_mode to "
    "strict in pytest's settings, and mark the tests that are for pytest-asyncio with @pytest.mark.asyncio"
)
_ASYNCIO_MARK = (
    "pytest-asyncio runs a test that is marked asyncio, and anyio's plugin runs chatkit's fixtures: mark the test with "
    "@pytest.mark.anyio instead"
)

_seed = pytest.StashKey[int]()
"""What a fixture of this module works with; a project may have a fixture `chat_seed` for something else."""
_timeout_s = pytest.StashKey[float]()
"""The bound of a test in virtual time."""
_devices: pytest.StashKey[Devices] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--chat-seed` and `--chat-seeds`."""
    group = parser.getgroup("chatkit")
    group.addoption("--chat-seed", type=int, metavar="N", help="what the fixture chat_seed gives (default 0)")
    group.addoption(
        "--chat-seeds",
        type=int,
        metavar="COUNT",
        help="run each test that uses chat_seed with so many seeds, from --chat-seed on (default 1)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a number of seeds with which no test would run."""
    count = config.getoption("--chat-seeds")
    if count is not None and count < 1:
        raise pytest.UsageError(f"--chat-seeds must be at least 1, not {count}: with none, no test would run")


def _seeds(config: pytest.Config) -> range | None:
    """The seeds that were asked for on the command line; None if none were."""
    first, count = config.getoption("--chat-seed"), config.getoption("--chat-seeds")
    if first is None and count is None:
        return None
    return range(first or 0, (first or 0) + (1 if count is None else count))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each seed that was asked for, unless it names its seeds itself."""
    seeds = _seeds(metafunc.config)
    if seeds is None or "chat_seed" not in metafunc.fixturenames or _names_its_seeds(metafunc.definition):
        return
    ids = [f"seed{seed}" for seed in seeds]
    metafunc.parametrize(
        "chat_seed", seeds, indirect=True, ids=ids
    )  # handed to the fixture, whoever defined it


def _names_its_seeds(item: pytest.Item) -> bool:
    return any("chat_seed" in _names(mark) for mark in item.iter_markers("parametrize"))


def _names(mark: pytest.Mark) -> list[str]:
    """What a `parametrize` mark gives values to."""
    names = mark.args[0] if mark.args else mark.kwargs["argnames"]
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Tell what happened in a failed test, and how it is run again in the same way."""
    made = yield
    report: pytest.TestReport = made.get_result()
    seed = item.stash.get(_seed, None)
    if report.failed and seed is not None:
        option = "" if _seeds(item.config) is None else f" --chat-seed {seed}"
        again = f"pytest '{item.nodeid}'{option}"
        report.sections.append(("chatkit", f"chat_seed was {seed}; the same once more: {again}"))
    history = getattr(item, "funcargs", {}).get("chat_history")
    if report.failed and history is not None:
        _tell(report, history)


def _tell(report: pytest.TestReport, history: object) -> None:
    from .history import History
    from .transcripts import transcript

    if isinstance(history, History) and history.steps:
        report.sections.append(("chatkit: what happened", transcript(history)))


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, None]:
    """Bound a test in virtual time: a running server has timers, so waiting for ever would be no standstill there.

    And have it leave every client that it entered, before the fixtures that it used end.
    """
    timeout_s = pyfuncitem.stash.get(_timeout_s, None)
    devices = pyfuncitem.stash.get(_devices, None)
    test = pyfuncitem.obj
    if iscoroutinefunction(test):
        if devices is not None:
            pyfuncitem.obj = _leaving(pyfuncitem.obj, devices)
        if timeout_s is not None:
            pyfuncitem.obj = _bounded(pyfuncitem.obj, timeout_s)
    yield
    pyfuncitem.obj = test


def _leaving(test: Callable[..., Awaitable[None]], devices: Devices) -> Callable[..., Awaitable[None]]:
    @wraps(test)
    async def leaving(**arguments: Any) -> None:
        async with devices.all_left():
            await test(**arguments)

    return leaving


def _bounded(test: Callable[..., Awaitable[None]], timeout_s: float) -> Callable[..., Awaitable[None]]:
    import anyio

    @wraps(test)
    async def bounded(**arguments: Any) -> None:
        where: BaseException | None = None
        with anyio.move_on_after(timeout_s) as scope:
            try:
                await test(**arguments)
            except anyio.get_cancelled_exc_class() as cancelled:
                where = cancelled
                raise
        if scope.cancelled_caught:
            raise TimeoutError(f"still waiting after {timeout_s:g} s of virtual time") from where

    return bounded


@pytest.fixture
def _run_by_anyio(request: pytest.FixtureRequest) -> None:
    """Refuse a test that pytest-asyncio runs: it would wait in one loop for what goes on in another."""
    _refuse_asyncio_mode(request.config)
    if _has_asyncio(request.config) and request.node.get_closest_marker("asyncio") is not None:
        pytest.fail(_ASYNCIO_MARK, pytrace=False)


def _refuse_asyncio_mode(config: pytest.Config) -> None:
    if _has_asyncio(config) and _asyncio_mode(config) == "auto":
        pytest.fail(_ASYNCIO_MODE, pytrace=False)


def _has_asyncio(config: pytest.Config) -> bool:
    return config.pluginmanager.has_plugin("asyncio")


def _asyncio_mode(config: pytest.Config) -> Any:
    return config.getoption("asyncio_mode", None) or config.getini("asyncio_mode")


@pytest.fixture
def chat_seed(request: pytest.FixtureRequest) -> int:
    """The number that decides all in the test: order of tasks, random numbers, ids, faults. 0 unless asked otherwise.

    `pytest --chat-seed 7` gives 7; `--chat-seeds 200` runs the test with 200 of them; and so does, in the test itself,
    `@pytest.mark.parametrize("chat_seed", range(200))`.
    """
    seed: int = getattr(request, "param", 0)
    request.node.stash[_seed] = seed
    return seed


@pytest.fixture
def chat_timeout_s() -> float:
    """Seconds of virtual time that a test may take before it fails, nearly three hours. Override it to have others."""
    return 10_000.0


@pytest.fixture
def chat_virtual(
    request: pytest.FixtureRequest, chat_seed: int, chat_timeout_s: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What `anyio_backend` returns for virtual time: waits cost nothing, `chat_seed` draws the order of tasks.

    Garbage is collected after the test only: finalizers that run in the midst of it would make no two runs alike.
    """
    from .backends import virtual_backend
    from .virtual_time import garbage_waits

    _refuse_asyncio_mode(request.config)
    request.node.stash[_seed] = chat_seed
    request.node.stash[_timeout_s] = chat_timeout_s
    with garbage_waits():
        yield virtual_backend(chat_seed)


@pytest.fixture
def chat_rng(request: pytest.FixtureRequest, chat_seed: int) -> Rng:
    """Named random streams from `chat_seed`, for what a test itself draws: `chat_rng.stream("orders")`."""
    from .rng import Rng

    request.node.stash[_seed] = chat_seed
    return Rng(chat_seed)


@pytest.fixture
def chat_clock() -> VirtualClock:
    """The clock of the server and the clients; set its `ahead_ms` to make the machine's clock jump."""
    from .virtual_time import VirtualClock

    return VirtualClock()


@pytest.fixture
def chat_config() -> ServerConfig:
    """Settings of `chat_server`: the defaults, without limits of one peer; override it to have others."""
    from ..server.config import ServerConfig
    from ..server.limits import Limits

    return ServerConfig(limits=Limits.unlimited())


@pytest.fixture
def chat_store(chat_rng: Rng) -> Store:
    """The store of `chat_server`, in memory; override it with one of your own. The server opens and closes it."""
    from ..storage.memory import MemoryStore

    return MemoryStore(ids=chat_rng.ports("store").ids)


@pytest.fixture
def chat_history() -> History:
    """All that happens in the test. A test that fails ends with its last lines."""
    import anyio

    from .history import History

    return History(anyio.current_time)


@pytest.fixture
async def chat_server(
    _run_by_anyio: None,
    anyio_backend: Any,
    chat_store: Store,
    chat_config: ServerConfig,
    chat_rng: Rng,
    chat_clock: VirtualClock,
    chat_history: History,
) -> AsyncIterator[ChatServer]:
    """A running server, without sockets. Every token is good, and names its user: `token="ann"` is ann."""
    from .recording import RecordingServer, by_name

    async with RecordingServer(
        chat_history,
        store=chat_store,
        authenticate=by_name,
        config=chat_config,
        ports=chat_rng.ports(NODE, chat_clock),
    ) as server:
        yield server


@pytest.fixture
async def chat_network(
    _run_by_anyio: None,
    anyio_backend: Any,
    chat_server: ChatServer,
    chat_rng: Rng,
    chat_history: History,
) -> AsyncIterator[Network]:
    """The network between `chat_client` and `chat_server`: good, until a test sets `conditions` or cuts a line."""
    from .network import Network
    from .recording import frames_into, lines_into

    async with Network(
        chat_rng.stream("network"),
        observe=frames_into(chat_history),
        observe_line=lines_into(chat_history),
    ) as network:
        network.attach(NODE, chat_server)
        yield network


@pytest.fixture
async def chat_client(
    request: pytest.FixtureRequest,
    _run_by_anyio: None,
    anyio_backend: Any,
    chat_server: ChatServer,
    chat_network: Network,
    chat_rng: Rng,
    chat_clock: VirtualClock,
    chat_history: History,
) -> AsyncIterator[Devices]:
    """Makes clients: `async with chat_client("ann") as ann`. See `chatkit.testing.devices.Devices`."""
    from .devices import Devices

    devices = Devices(chat_network, NODE, chat_rng, chat_clock, chat_history)
    request.node.stash[_devices] = devices
    async with devices.all_left():
        yield devices


@pytest.fixture
async def chat_bot(chat_server: ChatServer, chat_client: Devices) -> BotChats:
    """Runs a bot and a user who talks to it: `async with chat_bot(bot) as ann`, then `await ann.ask("/help")`.

    See `chatkit.testing.bot_chat.BotChat`.
    """
    from .bot_chat import BotChats

    return BotChats(chat_server, chat_client)
