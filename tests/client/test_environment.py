"""`from_env`: what a program finds in its environment, what it gives itself, and what it says of what is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatkit import ChatApi, ChatClient, ConfigurationError
from chatkit.client.environment import VARIABLES, token_in

GOOD = {"URL": "https://chat.test/prefix", "TOKEN": "t", "DEVICE_ID": "server-1"}

SetUp = Callable[..., None]


@pytest.fixture
def set_up(monkeypatch: pytest.MonkeyPatch) -> SetUp:
    def set_up(**values: str) -> None:
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(f"CHATKIT_{name}", value)

    return set_up


async def test_a_client_and_an_api_are_made_of_it(set_up: SetUp, tmp_path: Path) -> None:
    set_up(**GOOD, STORE=str(tmp_path / "client.db"))
    assert repr(ChatClient.from_env()) == "<ChatClient https://chat.test/prefix device server-1>"
    async with ChatClient.from_env():
        assert (tmp_path / "client.db").exists()
    async with ChatApi.from_env(timeout_s=1.0) as api:
        assert isinstance(api, ChatApi)


async def test_what_is_given_goes_before_the_environment(set_up: SetUp, tmp_path: Path) -> None:
    set_up(**GOOD, STORE=str(tmp_path / "env.db"))
    chat = ChatClient.from_env(device_id="laptop", store=tmp_path / "given.db", codec="msgpack")
    assert chat.device_id == "laptop"
    async with chat:
        assert (tmp_path / "given.db").exists()
    assert not (tmp_path / "env.db").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"URL": ""}, "CHATKIT_URL is not set"),
        ({"TOKEN": ""}, "CHATKIT_TOKEN is not set"),
        ({"DEVICE_ID": ""}, "CHATKIT_DEVICE_ID is not set"),
        ({"TOKEN_FILE": "x"}, "both set"),
        ({"URL": "chat.test"}, "address"),
        ({"DEVICE_ID": "a b"}, "device_id"),
        ({"STORE": "sqlite:///x"}, "store"),
    ],
)
async def test_what_is_missing_or_wrong_is_named(set_up: SetUp, changes: dict[str, str], said: str) -> None:
    set_up(**GOOD | changes)
    with pytest.raises(ConfigurationError, match=said):
        ChatClient.from_env()


@pytest.mark.parametrize("content", [None, b"", b"  \n", b"\xff\xfe", b"x" * 65_537])
async def test_a_token_file_that_holds_none_is_refused_at_once(
    set_up: SetUp, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    set_up(URL=GOOD["URL"], TOKEN_FILE=str(tmp_path / "token"))
    for make in (ChatClient.from_env, ChatApi.from_env):
        with pytest.raises(ConfigurationError, match=r"CHATKIT_TOKEN_FILE|CHATKIT_DEVICE_ID"):
            make()
    with pytest.raises(ConfigurationError, match="CHATKIT_TOKEN_FILE"):
        ChatApi.from_env()


async def test_a_token_file_is_read_again_for_each_fresh_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first\n")
    token: Any = token_in({"CHATKIT_TOKEN_FILE": str(path)})
    assert token() == "first"
    path.write_text("second\n")
    assert token() == "second"


async def test_options_that_there_are_not_are_errors_of_python(set_up: SetUp) -> None:
    set_up(**GOOD)
    with pytest.raises(TypeError):
        ChatClient.from_env(colour="blue")
