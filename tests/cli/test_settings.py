"""Every field of the server's settings can be set from outside; none can be forgotten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chatkit.cli.config_file import read
from chatkit.cli.settings import Settings, default_of, fields, misspelt, option_of, read_settings, variable_of
from chatkit.core.rate_limit import Rate
from chatkit.errors import ConfigurationError

from .command import chatkit, next_line, started


def found(settings: Settings, path: tuple[str, ...]) -> Any:
    value: Any = settings.part(path[0])
    for name in path[1:] if path[0] in ("delivery", "archiving", "blob") else path:
        value = getattr(value, name)
    return value


def in_file(path: tuple[str, ...], value: Any, folder: Path) -> Settings:
    """The setting in a file, written with the type that a person would write."""
    text = f'"{value.per_s:g}/{value.burst}"' if isinstance(value, Rate) else json.dumps(value)
    table = f"[{'.'.join(path[:-1])}]\n" if path[:-1] else ""
    file = folder / "chatkit.toml"
    file.write_text(f"{table}{path[-1]} = {text}\n")
    return read_settings([], {}, read(file).settings())


def another(path: tuple[str, ...]) -> tuple[str, Any]:
    """A text for a setting, and the value that it means; never the default."""
    default = default_of(path)
    if path[-1] == "link_key":
        return "k" * 16, "k" * 16
    if default is None or isinstance(default, Rate):
        return ("7/77", Rate(7, 77)) if isinstance(default, Rate) else ("7.5", 7.5)
    if isinstance(default, bool):
        return str(not default).lower(), not default
    if isinstance(default, str):
        return default + "-other", default + "-other"
    other = default / 2 if isinstance(default, float) else default + 1
    return str(other), other


def test_an_empty_variable_is_not_set_as_for_options() -> None:
    empty = {variable_of(path): "" for path, _ in fields()}
    assert read_settings([], empty).given == {}


@pytest.mark.parametrize("path", [path for path, _ in fields()], ids=option_of)
def test_every_field_by_option_by_variable_and_by_file(path: tuple[str, ...], tmp_path: Path) -> None:
    text, value = another(path)
    by_option = read_settings([f"{option_of(path)}={text}"], {})
    by_variable = read_settings([], {variable_of(path): text})
    by_file = in_file(path, value, tmp_path)

    assert found(by_option, path) == value != default_of(path)
    assert found(by_variable, path) == found(by_file, path) == value


def test_an_option_wins_over_a_variable_and_that_over_a_file(tmp_path: Path) -> None:
    name, variable = "heartbeat_s", "CHATKIT_HEARTBEAT_S"
    from_file = in_file((name,), 7.0, tmp_path).given
    chosen = [
        read_settings([f"{name}=9"], {variable: "8"}, from_file),
        read_settings([], {variable: "8"}, from_file),
        read_settings([], {}, from_file),
        read_settings([], {}),
    ]

    assert [it.server().heartbeat_s for it in chosen] == [9, 8, 7, default_of((name,))]
    sources = [it.given[(name,)].source for it in chosen[:3]]
    assert sources == ["option", variable, str(tmp_path / "chatkit.toml")]


def test_what_is_not_given_keeps_its_default() -> None:
    config = read_settings([], {"CHATKIT_LIMITS__SENDS_PER_USER": "none"}).server()

    assert config.limits.sends_per_user is None
    assert config.limits.sends_per_conversation == default_of(("limits", "sends_per_conversation"))
    assert config.sessions_max == default_of(("sessions_max",))


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("heartbeat=10", "heartbeat_s"),
        ("heartbeat_s", "NAME=VALUE"),
        ("heartbeat_s=soon", "--set heartbeat_s=soon"),
        ("sessions_max=1.5", "--set sessions_max=1.5"),
        ("sessions_max=none", "--set sessions_max=none"),
        ("limits.sends_per_user=10", "10/30"),
        ("limits.sends_per_user=0/1", "10/30"),
        ("limits.send_per_user=1/1", "limits.sends_per_user"),
        ("heartbeat_s=-1", "--set heartbeat_s=-1: heartbeat_s must be above 0"),
        ("delivery.batch=0", "--set delivery.batch=0: batch must be"),
    ],
)
def test_what_is_wrong_is_named(assignment: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says.replace(".", r"\.")):
        read_settings([assignment], {})


def test_a_server_takes_options_and_settings_from_its_environment(tmp_path: Path) -> None:
    env = {
        "CHATKIT_STORAGE": "memory://",
        "CHATKIT_PORT": "0",
        "CHATKIT_HEARTBEAT_S": "7",
        "CHATKIT_LOG_LEVEL": "info",
    }
    with started("serve", "--json", cwd=tmp_path, env=env) as process:
        assert json.loads(next_line(process))["port"] > 0
        process.terminate()
        _, log = process.communicate(timeout=20)

    assert "the server takes sessions and requests" in log
    assert "the server was left" in log
    assert not list(tmp_path.iterdir())


def test_a_misspelt_variable_is_named_and_those_of_other_programs_are_left_alone() -> None:
    environ = ["CHATKIT_HARTBEAT_S", "CHATKIT_STORAG", "CHATKIT_HEARTBEAT_S", "CHATKIT_SERVICE_HOST", "PATH"]

    assert misspelt(environ, ["CHATKIT_STORAGE"]) == {
        "CHATKIT_HARTBEAT_S": "CHATKIT_HEARTBEAT_S",
        "CHATKIT_STORAG": "CHATKIT_STORAGE",
    }


def test_a_server_says_which_variable_it_does_not_know(tmp_path: Path) -> None:
    env = {"CHATKIT_STORAGE": "memory://", "CHATKIT_PORT": "0", "CHATKIT_HARTBEAT_S": "7"}
    with started("serve", "--json", cwd=tmp_path, env=env) as process:
        assert json.loads(next_line(process))["port"] > 0
        process.terminate()
        _, log = process.communicate(timeout=20)

    assert "CHATKIT_HARTBEAT_S is set, and there is no such setting; is CHATKIT_HEARTBEAT_S meant?" in log


def test_a_wrong_variable_is_misuse(tmp_path: Path) -> None:
    done = chatkit("serve", "--storage", "memory://", cwd=tmp_path, env={"CHATKIT_HEARTBEAT_S": "soon"})

    assert done.returncode == 2
    assert "CHATKIT_HEARTBEAT_S=soon" in done.stderr.splitlines()[-1]
