"""Every option by itself, a variable and the file; what is said of a file that is wrong; what people are shown."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from chatkit.cli.commands import chatkit
from chatkit.cli.configured import all_names, by_file, is_setting
from chatkit.cli.masking import is_secret, masked, masked_address
from chatkit.cli.settings import fields, variable_of

NODES = ("serve", "worker")
NO_SETTINGS = {
    "as_json": "how the answer of this one call looks",
    "status": "another thing to do, not a way to do it",
    "assignments": "the way to every field of the structs",
    "config": "where the settings are",
}
"""Options of a node that are no settings, with the reason."""

ONLY_HIDDEN = {"jwt_secret": "everybody on the machine reads a command line; --jwt-secret-file names a file"}
"""Settings that no option of the command line gives, with the reason."""

SECRETS = ["hunter2", "TOKEN-OF-NATS", "a-secret-of-the-receiver-with-32-bytes", "T000", "s" * 40]


def options(command: str) -> list[click.Option]:
    return [it for it in chatkit.commands[command].params if isinstance(it, click.Option)]


SETTINGS = [(command, it) for command in NODES for it in options(command) if is_setting(it)]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("CHATKIT_"):
            monkeypatch.delenv(name)


def params(command: str, *arguments: str, env: Mapping[str, str] | None = None, file: str = "") -> Any:
    """What the function of a command would be called with."""
    required = [] if command == "serve" or "--storage" in arguments else ["--storage", "postgresql://db/chat"]
    if "storage" in file or any("STORAGE" in it for it in env or ()):
        required = []
    Path("chatkit.toml").write_text(file)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        return chatkit.commands[command].make_context(command, [*required, *arguments]).params


def sample(option: click.Option) -> tuple[str, Any]:
    """A text for an option that is not its default, and how a file says the same."""
    if option.is_bool_flag:
        return "true", True
    if isinstance(option.type, click.Choice):
        other = next(it for it in option.type.choices if it != option.default)
        return other, other
    if isinstance(option.type, click.types.IntParamType):
        most = getattr(option.type, "max", None)
        return ("4711", 4711) if most is None or most >= 4711 else (str(most), most)
    if isinstance(option.type, click.FloatRange):
        return "0.5", 0.5
    if isinstance(option.type, click.types.FloatParamType):
        return "47.5", 47.5
    return "/some-where", "/some-where"


@pytest.mark.parametrize(("command", "option"), SETTINGS, ids=lambda it: str(getattr(it, "name", it)))
def test_every_option_by_itself_by_variable_and_by_file(command: str, option: click.Option) -> None:
    name = str(option.name)
    text, value = sample(option)
    line = [option.opts[0]] if option.is_bool_flag else [option.opts[0], text]

    by_variable = params(command, env={variable_of((name,)): text})[name]
    from_file = params(command, file=f"{name} = {json.dumps(value)}\n")[name]

    assert by_variable == from_file != params(command)[name]
    if name in ONLY_HIDDEN:
        assert option.hidden
    else:
        assert params(command, *line)[name] == from_file


@pytest.mark.parametrize("command", NODES)
def test_what_is_no_setting_says_why(command: str) -> None:
    others = {str(it.name) for it in options(command) if not is_setting(it)}
    assert others <= set(NO_SETTINGS)


def test_one_name_is_one_setting() -> None:
    """An option of two commands has one type, and none has the name of a field."""
    kinds: dict[str, set[str]] = {}
    for _, option in SETTINGS:
        kinds.setdefault(str(option.name), set()).add(repr(option.type.to_info_dict()))
    assert [name for name, found in kinds.items() if len(found) > 1] == []
    assert all_names() & {path[0] for path, _ in fields()} == set()


@pytest.mark.parametrize(
    ("command", "option"),
    [it for it in SETTINGS if by_file(it[1]) and it[1].name != "jwt_secret"],
    ids=lambda it: str(getattr(it, "name", it)),
)
def test_every_text_from_a_file_of_its_own(command: str, option: click.Option, tmp_path: Path) -> None:
    name = str(option.name)
    (tmp_path / "value").write_text("/from-a-file\n")

    by_variable = params(command, env={f"{variable_of((name,))}_FILE": str(tmp_path / "value")})
    from_file = params(command, file=f'{name}_file = "value"\n')
    both = {f"{variable_of((name,))}_FILE": str(tmp_path / "value"), variable_of((name,)): "other"}

    assert by_variable[name] == from_file[name] == "/from-a-file"
    with pytest.raises(click.UsageError, match="give one of them"):
        params(command, env=both)
    with pytest.raises(click.UsageError, match="give one of them"):
        params(command, file=f'{name}_file = "value"\n{name} = "other"\n')


def test_the_order_of_an_options_sources(tmp_path: Path) -> None:
    (tmp_path / "value").write_text("from-a-files-variable")
    file = 'host = "from-the-file"\n'
    indirect = {"CHATKIT_HOST_FILE": str(tmp_path / "value")}

    assert params("serve", "--host", "by-option", env={"CHATKIT_HOST": "v"}, file=file)["host"] == "by-option"
    assert params("serve", env={"CHATKIT_HOST": "by-variable"}, file=file)["host"] == "by-variable"
    assert params("serve", env=indirect, file=file)["host"] == "from-a-files-variable"
    assert params("serve", file=file)["host"] == "from-the-file"
    assert params("serve")["host"] == "127.0.0.1"


def test_paths_in_a_file_are_beside_it(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/chatkit.toml").write_text('push = "push.toml"\njwt_key = ["a.pem", "/b.pem"]\n')

    found = params("serve", "--config", str(tmp_path / "etc/chatkit.toml"))

    assert found["push"] == str(tmp_path / "etc/push.toml")
    assert found["jwt_key"] == (str(tmp_path / "etc/a.pem"), "/b.pem")


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("hartbeat_s = 10", "chatkit.toml: there is no setting hartbeat_s; is heartbeat_s meant?"),
        (
            "[limits]\nsend_per_user = '1/1'",
            "no setting limits.send_per_user; is limits.sends_per_user meant?",
        ),
        ("[delivry]\nbatch = 1", "no setting delivry.batch; is delivery.batch meant?"),
        ("[limitz]", "no setting limitz; is limits meant?"),
        ("limits = 3", "chatkit.toml: limits is a table: [limits], with settings below it"),
        ("heartbeat_s = inf", "heartbeat_s must be seconds, not inf"),
        ("storag = 'x'", "no setting storag; is storage meant?"),
        ("as_json = true", "no setting as_json"),
        ("port = '80'", "chatkit.toml: port: it must be a whole number"),
        ("port = true", "chatkit.toml: port: it must be a whole number"),
        ("port = 70000", "chatkit.toml: port: 70000 is not in the range"),
        ("host = 5", "chatkit.toml: host: it must be a text in quotes"),
        ("jwt_any_sub = 'yes'", "chatkit.toml: jwt_any_sub: it must be true or false"),
        ("log_level = 'loud'", "chatkit.toml: log_level: 'loud' is not one of"),
        ("heartbeat_s = '10'", "chatkit.toml: heartbeat_s: Expected `float`"),
        ("heartbeat_s = -1", "chatkit.toml: heartbeat_s: heartbeat_s must be above 0"),
        ("sessions_max = 1.5", "chatkit.toml: sessions_max: Expected `int`"),
        ("presence = 1", "chatkit.toml: presence: Expected `bool`"),
        ("[limits]\nsends_per_user = 10", "limits.sends_per_user: RATE/BURST, such as 10/30"),
        ("[delivery]\nbatch = 0", "chatkit.toml: delivery.batch: batch must be above 0"),
        ("storage_file = 'none-there'", "cannot read"),
        ("host = ", "cannot read chatkit.toml: "),
        ("[[host]]", "chatkit.toml: host: it must be a text in quotes"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(file: str, says: str) -> None:
    with pytest.raises(click.UsageError) as told:
        params("serve", file=file)
    assert says in told.value.message


def test_a_byte_order_mark_is_no_part_of_a_file() -> None:
    assert params("serve", file="\ufeffhost = '127.0.0.2'")["host"] == "127.0.0.2"


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="No such file"):
        params("serve", "--config", "none.toml")
    with pytest.raises(click.UsageError, match="No such file"):
        params("serve", env={"CHATKIT_CONFIG": "none.toml"})


def test_a_file_in_the_working_directory_that_others_may_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chatkit.toml").write_text("port = 1\n")
    (tmp_path / "chatkit.toml").chmod(0o666)
    with pytest.raises(click.UsageError, match="name it by --config"):
        chatkit.commands["serve"].make_context("serve", [])
    found = chatkit.commands["serve"].make_context("serve", ["--config", "chatkit.toml"]).params
    assert found["port"] == 1


FULL = """
storage = "postgresql://chat:hunter2@db/chat"
heartbeat_s = 10
[delivery]
batch = 7
[push.pager]
kind = "webhook"
url = "https://hooks.example.org/T000/path"
secret = "a-secret-of-the-receiver-with-32-bytes"
"""


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "chatkit.toml").write_text(FULL)
    monkeypatch.setenv("CHATKIT_BUS", "nats://TOKEN-OF-NATS@bus:4222")
    monkeypatch.setenv("CHATKIT_JWT_SECRET", "s" * 40)
    return tmp_path


@pytest.mark.parametrize("command", NODES)
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["words", "json"])
def test_no_secret_is_shown(shown: Path, command: str, form: list[str]) -> None:
    done = CliRunner().invoke(chatkit, ["config", "show", *form, command])

    assert done.exit_code == 0, done.output
    assert [secret for secret in SECRETS if secret in done.output] == []
    assert "postgresql://chat:***@db/chat" in done.output


def test_each_value_has_its_source(shown: Path) -> None:
    done = CliRunner().invoke(chatkit, ["config", "show", "--json", "serve", "--port", "7"])

    found = {it["name"]: (it["value"], it["source"]) for it in json.loads(done.stdout)}
    assert found["port"] == (7, "option")
    assert found["bus"] == ("nats://***@bus:4222", "CHATKIT_BUS")
    assert found["jwt_secret"] == ("***", "CHATKIT_JWT_SECRET")
    assert found["heartbeat_s"] == ("10", "chatkit.toml")
    assert found["delivery.batch"] == ("7", "chatkit.toml")
    assert found["delivery.poll_s"] == ("1", "default")
    assert found["push"][0]["pager"] == {
        "kind": "webhook",
        "url": "https://hooks.example.org/***",
        "secret": "***",
    }
    assert {path[-1] for path, _ in fields()} <= {name.rpartition(".")[2] for name in found}


def test_check_says_what_does_not_fit_and_connects_to_nothing(shown: Path) -> None:
    (shown / "chatkit.toml").chmod(0o644)
    good = CliRunner().invoke(chatkit, ["config", "check"])
    assert (good.exit_code, good.stdout) == (0, "the settings of chatkit serve fit (chatkit.toml)\n")
    assert good.stderr == "warning: chatkit.toml holds secrets and may be read by everybody: chmod o-r it\n"

    (shown / "chatkit.toml").chmod(0o640)
    assert CliRunner().invoke(chatkit, ["config", "check", "worker"]).stderr == ""

    for arguments, says in [
        (["serve", "--bus", "pigeon://"], "unknown bus address"),
        (["serve", "--queue", "pigeon://"], "unknown queue address"),
        (["serve", "--jwt-key", "none.pem"], "cannot read none.pem"),
        (["serve", "--jwks-url", "http://issuer.example.org/keys"], "must begin with https://"),
        (["worker", "--queue", "pigeon://"], "unknown queue address"),
        (["serve", "--metrics", "no-port"], "--metrics"),
        (["worker", "--metrics", "no-port"], "--metrics"),
    ]:
        bad = CliRunner().invoke(chatkit, ["config", "check", *arguments])
        assert bad.exit_code == 2 and says in bad.stderr


def test_a_misspelt_variable_is_told(shown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATKIT_STORAG_FILE", "x")
    done = CliRunner().invoke(chatkit, ["config", "check"])
    assert (
        "CHATKIT_STORAG_FILE is set, and there is no such setting; is CHATKIT_STORAGE_FILE meant?"
        in done.stderr
    )


def test_a_secret_on_the_command_line_is_refused() -> None:
    done = CliRunner().invoke(chatkit, ["serve", "--jwt-secret", "s" * 40])
    assert done.exit_code == 2 and "read by everybody" in done.stderr and "sss" not in done.stderr


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://ann:pw@db/chat", "postgresql://ann:***@db/chat"),
        ("postgresql://ann@db/chat", "postgresql://ann@db/chat"),
        (
            "postgresql://db/chat?password=pw&sslmode=require",
            "postgresql://db/chat?password=***&sslmode=require",
        ),
        ("postgresql://ann:p@w/x@db1,db2/chat", "postgresql://ann:***@db1,db2/chat"),
        ("nats://token@h:4222", "nats://***@h:4222"),
        ("nats://u:a,b@h1,u:c@h2", "nats://u:***@h2"),
        ("redis://:pw@h", "redis://:***@h"),
        (
            "s3://bucket/path?access_key_id=A&secret_access_key=B",
            "s3://bucket/path?access_key_id=***&secret_access_key=***",
        ),
        ("sqlite:///chat.db", "sqlite:///chat.db"),
        ("memory://", "memory://"),
    ],
)
def test_addresses_without_their_passwords(address: str, shown: str) -> None:
    assert masked_address(address) == shown
    assert masked("storage", [address]) == [shown]


def test_what_counts_as_a_secret() -> None:
    assert all(
        map(is_secret, ("jwt_secret", "password", "api_key", "key", "private_key", "auth_header", "token"))
    )
    assert not any(
        map(
            is_secret,
            ("jwt_secret_file", "jwt_secret_env", "resume_token_s", "token_leeway_s", "key_id", "jwt_key"),
        )
    )
