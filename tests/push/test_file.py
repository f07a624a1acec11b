"""The push file: what it may hold, and what is said about one that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatkit.assemble import open_push
from chatkit.errors import ConfigurationError
from chatkit.push.apns import ApnsPushProvider
from chatkit.push.log import LogPushProvider
from chatkit.push.webhook import WebhookPushProvider
from chatkit.push.webpush import WebPushProvider
from chatkit.server.delivery.config import DeliveryConfig

from .stages import PEM, SECRET

FILE = """
[apns]
key_file = "keys/apns.p8"
key_id = "ABCDEFGHIJ"
team_id = "KLMNOPQRST"
topic = "com.example.chat"

[apns-sandbox]
kind = "apns"
key_file = "keys/apns.p8"
key_id = "ABCDEFGHIJ"
team_id = "KLMNOPQRST"
topic = "com.example.chat"
url = "https://api.sandbox.push.apple.com"

[webpush]
key_file = "keys/apns.p8"
contact = "mailto:ops@example.com"

[pager]
kind = "webhook"
url = "http://127.0.0.1:1/hook"
secret_file = "keys/secret"

[log]

[delivery]
push_after_s = 3
hide_body = true
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/apns.p8").write_text(PEM)
    (tmp_path / "keys/secret").write_text(SECRET + "\n")
    (tmp_path / "push.toml").write_text(FILE)
    return tmp_path


async def test_it_names_providers_and_the_settings_of_the_worker(folder: Path) -> None:
    providers, config = open_push(folder / "push.toml")

    assert {name: type(it) for name, it in providers.items()} == {
        "apns": ApnsPushProvider,
        "apns-sandbox": ApnsPushProvider,
        "webpush": WebPushProvider,
        "pager": WebhookPushProvider,
        "log": LogPushProvider,
    }
    assert config == DeliveryConfig(push_after_s=3, hide_body=True)
    assert providers["pager"]._secret == SECRET.encode()  # type: ignore[attr-defined]
    for provider in providers.values():
        await provider.aclose()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[log", "cannot read"),
        ("log = 1", "log must be a table, such as \\[log\\]"),
        ("[other]", "\\[other\\]: unknown kind 'other'; use apns, fcm, webpush, webhook, log"),
        ("[other]\nkind = 7", "unknown kind 7"),
        ("[log]\ncolour = 1", "\\[log\\]: .*colour"),
        ("[webhook]\nurl = 'http://h/'", "\\[webhook\\]: .*secret"),
        ("[webhook]\nurl = 'http://h/'\nsecret_file = 'none'", "cannot read .*none"),
        ("[webhook]\nurl = 'http://h/'\nsecret = 'short'", "\\[webhook\\]: secret must have"),
        ("[delivery]\npush_after_s = 'soon'", "\\[delivery\\]: push_after_s must be seconds"),
        ("[delivery]\npush_before_s = 1", "\\[delivery\\]: .*push_before_s"),
        ("[delivery]\nbatch = 0", "\\[delivery\\]: batch must be above 0"),
    ],
)
async def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "push.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        open_push(tmp_path / "push.toml")


async def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read .*none\.toml"):
        open_push(tmp_path / "none.toml")
