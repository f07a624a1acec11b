"""Slips in what somebody sets up with: what is natural works, the rest is refused at once by the argument's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from chatkit import (
    ChatApi,
    ChatClient,
    ChatServer,
    ClientConfig,
    Identity,
    Limits,
    ServerConfig,
    asgi_app,
    open_store,
)
from chatkit.client.store.memory import MemoryStore
from chatkit.client.store.sqlite import SqliteStore
from chatkit.errors import ConfigurationError
from chatkit.ports import SystemIds
from chatkit.storage import sqlite as server_sqlite

GOOD: dict[str, Any] = {"token": "t", "device_id": "d"}


async def whoever(token: str) -> Identity:
    return Identity(token)


@pytest.mark.parametrize(
    "url", ["wss://chat.test", "https://chat.test/prefix/", httpx.URL("https://chat.test/")]
)
async def test_natural_addresses_work(url: Any) -> None:
    ChatClient(url, **GOOD)
    ChatApi(url, token="t")


async def test_natural_paths_work(tmp_path: Path) -> None:
    for store in (tmp_path / "a.db", str(tmp_path / "b.db"), SqliteStore(tmp_path / "c.db"), None):
        async with ChatClient("ws://127.0.0.1:1", store=store, **GOOD) as chat:
            assert chat.pending_count == 0
    server_sqlite.SqliteStore(tmp_path / "d.db", ids=SystemIds())


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("url", b"ws://chat.test"),
        ("url", None),
        ("url", Path("chat.test")),
        ("url", 8080),
        ("url", "ws://chat test"),
        ("url", "ws://chat.test\n"),
        ("token", None),
        ("token", b"t"),
        ("device_id", None),
        ("device_id", 7),
        ("device_id", "no spaces"),
        ("store", 7),
        ("store", ""),
        ("store", "sqlite:///chat.db"),
        ("store", b"chat.db"),
        ("store", MemoryStore),
        ("store", open_store("memory://")),
        ("codec", None),
        ("codec", ["json"]),
        ("codec", "JSON"),
        ("connector", "ws://chat.test"),
        ("connector", 7),
        ("config", {"send_timeout_s": 5}),
        ("config", ClientConfig),
        ("config", ServerConfig()),
        ("ports", 7),
    ],
)
def test_a_client_refuses_by_name(argument: str, value: Any) -> None:
    arguments = {"url": "ws://chat.test", **GOOD, argument: value}
    with pytest.raises(ConfigurationError, match=rf"{argument}|address" if argument == "url" else argument):
        ChatClient(**arguments)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("base_url", None),
        ("base_url", b"http://chat.test"),
        ("token", 7),
        ("device_id", 7),
        ("timeout_s", "30"),
        ("timeout_s", 0),
        ("timeout_s", float("nan")),
        ("timeout_s", True),
        ("attempts_max", 1.5),
        ("attempts_max", 0),
        ("client", httpx.Client),
        ("ports", 7),
    ],
)
def test_an_api_refuses_by_name(argument: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=argument):
        ChatApi(**{"base_url": "http://chat.test", "token": "t", argument: value})


def test_an_api_takes_a_client_or_its_own_network() -> None:
    with pytest.raises(ConfigurationError, match="client"):
        ChatApi("https://chat.test", token="t", client=httpx.AsyncClient(), headers={"X-A": "a"})


@pytest.mark.parametrize(
    "url", ["http://chat.test:99999", "http://[::1", "http://u:p@chat.test", "chat.test"]
)
def test_an_api_refuses_addresses_that_lead_nowhere(url: str) -> None:
    with pytest.raises(ConfigurationError, match="address"):
        ChatApi(url, token="t")


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("store", "sqlite:///chat.db"),
        ("store", Path("chat.db")),
        ("store", None),
        ("store", MemoryStore()),
        ("bus", "local://"),
        ("authenticate", "secret"),
        ("authenticate", None),
        ("config", {"heartbeat_s": 5}),
        ("config", ClientConfig()),
        ("ports", 7),
    ],
)
def test_a_server_refuses_by_name(argument: str, value: Any) -> None:
    arguments = {"store": open_store("memory://"), "authenticate": whoever, argument: value}
    with pytest.raises(ConfigurationError, match=argument):
        ChatServer(**arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("heartbeat_s", "25"),
        ("heartbeat_s", -1),
        ("members_max", 1.5),
        ("sessions_max", True),
        ("limits", {}),
        *((name, 0) for name in ServerConfig.__struct_fields__ if name.endswith(("_max", "_bytes"))),
    ],
)
def test_the_settings_of_a_server_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        ServerConfig(**{name: value})


def test_what_may_be_left_out_may_be_none() -> None:
    config = ServerConfig(login_max_s=None, heads_check_s=None)
    assert (config.login_max_s, config.heads_check_s) == (None, None)


@pytest.mark.parametrize("name", Limits.__struct_fields__)
@pytest.mark.parametrize("value", ["x", 0, 2.5, {}])
def test_the_limits_of_one_peer_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Limits(**{name: value})


def test_the_rest_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="server"):
        asgi_app(open_store("memory://"))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="address"):
        open_store(Path("chat.db"))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="path"):
        SqliteStore(7)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="path"):
        server_sqlite.SqliteStore(None, ids=SystemIds())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="sync_window"):
        ClientConfig(sync_window=0)
