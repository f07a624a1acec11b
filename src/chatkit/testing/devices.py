"""Devices of a test: each is an installation of an app, whose local store stays from one start to the next."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Self

import msgspec

from ..client.store.base import LocalStore
from ..client.store.memory import MemoryStore
from ..client.store.sqlite import SqliteStore
from ..client.validate import check_device_id
from ..errors import ConfigurationError
from ..wire.events import Id
from .faulty_local_store import FaultyLocalStore
from .history import History
from .network import Network
from .recording import Recorder, RecordingClient
from .rng import Rng
from .virtual_time import VirtualClock

_MESSAGES_MAX = 100_000

AtClose = Callable[[str, str, LocalStore], None]

_STORE_METHODS = [name for name in vars(LocalStore) if not name.startswith("_")]


class Devices:
    """Makes the clients of one test: `async with devices("ann") as ann`.

    A device is an installation: started again, it finds its local store as it left it.

    Args:
        network: Leads to the server.
        node: What the network calls the server.
        rng: Every start of a device draws from streams of its own.
        clock: Of all devices.
        history: Where everything is noted.

    Attributes:
        at_close: Given the ids of user and device and the local store whenever an app ends, before that store closes.
    """

    def __init__(self, network: Network, node: str, rng: Rng, clock: VirtualClock, history: History) -> None:
        self._network = network
        self._node = node
        self._rng = rng
        self._clock = clock
        self._history = history
        self.at_close: AtClose | None = None
        self._devices: dict[tuple[str, str], _Device] = {}
        self._entered: list[_DeviceClient] = []

    def __call__(
        self,
        user_id: str,
        device_id: str = "phone",
        *,
        store: LocalStore | str | None = None,
        sliced: bool = False,
        **options: Any,
    ) -> RecordingClient:
        """A client of a user. Its token is the user's id.

        What it does is noted as this user's. A token that comes from a callable, for a server of one's own, must be
        this user's too: a login as another stops the client with a ConfigurationError.

        Args:
            user_id: Who.
            device_id: On which device.
            store: As for `ChatClient`; None is a store in memory, which stays with the device.
            sliced: Carry its connections as the bytes of a real WebSocket, in small slices.
            options: Others of `ChatClient`: `codec`, `config`, `token`.

        Raises:
            ConfigurationError: An argument can never work.
        """
        _check_user_id(user_id)
        check_device_id(device_id)
        _check_store(store)
        _check_token(user_id, options.setdefault("token", user_id))
        device = self._devices.setdefault((user_id, device_id), _Device(user_id, device_id, self._closing))
        device.incarnation += 1
        return _DeviceClient(
            self._entered,
            Recorder(self._history, user_id, device_id),
            device.incarnation,
            name=f"{user_id}/{device_id}",
            device_id=device_id,
            store=device.opened(store),
            connector=self._network.connector(user_id, device_id, lambda: self._node, sliced=sliced),
            ports=self._rng.ports(f"{user_id}/{device_id} {device.incarnation}", self._clock),
            **options,
        )

    @asynccontextmanager
    async def all_left(self) -> AsyncIterator[None]:
        """What is entered inside must be left inside; what was not is left at the end, the last first.

        Raises:
            ConfigurationError: Some client was not left, and nothing else was raised.
        """
        before = list(self._entered)
        try:
            yield
            if forgotten := [client.name for client in self._entered_since(before)]:
                raise ConfigurationError(
                    f"entered and not left: {', '.join(forgotten)}; use `async with` for every client"
                )
        except BaseException:
            async with AsyncExitStack() as stack:  # each is left, though another's end may raise
                for client in self._entered_since(before):
                    stack.push_async_exit(client)
                raise

    def _entered_since(self, before: Collection[_DeviceClient]) -> list[_DeviceClient]:
        return [client for client in self._entered if client not in before]

    def _closing(self, user_id: str, device_id: str, store: LocalStore) -> None:
        if self.at_close is not None:
            self.at_close(user_id, device_id, store)


class _Device:
    """One installation of an app."""

    def __init__(self, user_id: str, device_id: str, at_close: AtClose) -> None:
        self.incarnation = 0
        self._at_close = at_close
        self._user_id = user_id
        self._device_id = device_id
        self._memory = MemoryStore(_MESSAGES_MAX)

    def opened(self, store: LocalStore | str | None) -> LocalStore:
        """The store for its next start."""
        if store is None:
            return _DeviceStore(self._memory, self._user_id, self._close)
        return _DeviceStore(
            SqliteStore(store) if isinstance(store, str) else store, self._user_id, self._close
        )

    def _close(self, store: LocalStore) -> None:
        self._at_close(self._user_id, self._device_id, store)
        if store is not self._memory:
            store.close()


class _DeviceClient(RecordingClient):
    """A client that is on a list for as long as it is entered."""

    def __init__(
        self, entered: list[_DeviceClient], recorder: Recorder, incarnation: int, *, name: str, **options: Any
    ) -> None:
        super().__init__(recorder, incarnation, **options)
        self.name = name
        self._all_entered = entered

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._all_entered.append(self)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._all_entered.remove(self)
        await super().__aexit__(exc_type, error, traceback)


class _DeviceStore(FaultyLocalStore):
    """The local store of a user's device, which closes it."""

    def __init__(self, store: LocalStore, user_id: str, close: Callable[[LocalStore], None]) -> None:
        super().__init__(store)
        self._user_id = user_id
        self._close = close

    def bind(self, user_id: str, device_id: str) -> None:
        """As the store behind, for this user alone. Raises ConfigurationError for another."""
        if user_id != self._user_id:
            raise ConfigurationError(
                f"{self._user_id}'s client logged in as {user_id}, and all it does would be noted as "
                f"{self._user_id}'s: make it with chat_client({user_id!r})"
            )
        super().bind(user_id, device_id)

    def close(self) -> None:
        """Hand it over to be closed."""
        self._close(self._store)


def _check_user_id(user_id: object) -> None:
    try:
        msgspec.convert(user_id, Id)
    except msgspec.ValidationError:
        raise ConfigurationError(
            f"a user's id is 1 to 128 ASCII letters, digits and . _ : @ - and not {user_id!r}"
        ) from None


def _check_token(user_id: str, token: object) -> None:
    if isinstance(token, str) and token != user_id:
        raise ConfigurationError(
            f"{user_id}'s client cannot log in with another token: with the fixtures a token is its user's id. Leave "
            "it out; or, if a server of your own takes others, give an async function that returns one"
        )


def _check_store(store: object) -> None:
    if store is None or isinstance(store, str):
        return
    missing = [name for name in _STORE_METHODS if not callable(getattr(store, name, None))]
    if missing or isinstance(store, type):
        raise ConfigurationError(f"store must be a path as a string, a LocalStore or None, not {store!r}")
