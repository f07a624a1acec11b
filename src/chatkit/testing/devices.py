"""Devices of a test: each is an installation of an app, whose local store stays from one start to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..client.base import LocalStore
from ..client.memory import MemoryStore
from ..client.sqlite import SqliteStore
from .chance import Chance
from .faulty_local_store import FaultyLocalStore
from .history import DeviceDump, History, dump_device
from .network import Network
from .recording import Recorder, RecordingClient
from .virtual_time import VirtualClock

_MESSAGES_MAX = 100_000


class Devices:
    """Makes the clients of one test: `async with devices("ann") as ann`.

    A device is an installation: started again, it finds its local store as it left it.

    Args:
        network: Leads to the server.
        node: What the network calls the server.
        chance: Every start of a device draws from streams of its own.
        clock: Of all devices.
        history: Where everything is noted.
    """

    def __init__(
        self, network: Network, node: str, chance: Chance, clock: VirtualClock, history: History
    ) -> None:
        self._network = network
        self._node = node
        self._chance = chance
        self._clock = clock
        self._history = history
        self._devices: dict[tuple[str, str], _Device] = {}

    def __call__(
        self,
        user_id: str,
        device_id: str = "phone",
        *,
        store: LocalStore | str | None = None,
        sliced: bool = False,
        **options: Any,
    ) -> RecordingClient:
        """A client of a user, who logs in with his id for a token.

        Args:
            user_id: Who.
            device_id: On which device.
            store: As for `ChatClient`; None is a store in memory, which stays with the device.
            sliced: Carry its connections as the bytes of a real WebSocket, in small slices.
            options: Others of `ChatClient`: `codec`, `config`, `token`.
        """
        device = self._devices.setdefault((user_id, device_id), _Device(user_id, device_id))
        device.life += 1
        options.setdefault("token", user_id)
        return RecordingClient(
            Recorder(self._history, user_id, device_id),
            device.life,
            device_id=device_id,
            store=device.opened(store),
            connector=self._network.connector(user_id, device_id, lambda: self._node, sliced=sliced),
            ports=self._chance.ports(f"{user_id}/{device_id} {device.life}", self._clock),
            **options,
        )

    def dumps(self) -> list[DeviceDump]:
        """What each device held when its app last ended."""
        return [device.dump for device in self._devices.values() if device.dump is not None]

    def conversation_ids(self) -> list[str]:
        """Every conversation that a device or a call has named."""
        named = {record.conversation_id for dump in self.dumps() for record in dump.records}
        for call in self._history.calls:
            named |= {values.get("conversation_id") or "" for values in (call.args, call.answer)}
        return sorted(named - {""})


class _Device:
    """One installation. `dump` is what its store held when its app last ended."""

    def __init__(self, user_id: str, device_id: str) -> None:
        self.life = 0
        self.dump: DeviceDump | None = None
        self._user_id = user_id
        self._device_id = device_id
        self._memory = MemoryStore(_MESSAGES_MAX)

    def opened(self, store: LocalStore | str | None) -> LocalStore:
        """The store for its next life."""
        if store is None:
            return _Closing(self._memory, self._close)
        return _Closing(SqliteStore(store) if isinstance(store, str) else store, self._close)

    def _close(self, store: LocalStore) -> None:
        self.dump = dump_device(self._user_id, self._device_id, store, crashed=True, online=False)
        if store is not self._memory:
            store.close()


class _Closing(FaultyLocalStore):
    """A local store that somebody else closes."""

    def __init__(self, store: LocalStore, close: Callable[[LocalStore], None]) -> None:
        super().__init__(store)
        self._close = close

    def close(self) -> None:
        """Hand it over to be closed."""
        self._close(self._store)
