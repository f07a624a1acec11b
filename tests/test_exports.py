"""The list of public names is true: for programs, for type checkers, and for people who read it."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import chatkit

ROOT = Path(__file__).parent.parent
SOURCE = ast.parse(Path(chatkit.__file__).read_text())

ALIASES = (
    "Authenticator",
    "Moderator",
    "ModeratorVerdict",
    "Payload",
)  # of types: they have no name of their own


@pytest.mark.parametrize("name", chatkit.__all__)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(chatkit, name)

    assert value is getattr(importlib.import_module(f"chatkit.{chatkit._HOMES[name]}"), name)
    assert name in ALIASES or value.__name__ == name


def test_the_reference_lists_the_same_names() -> None:
    page = (ROOT / "docs/reference/index.md").read_text(encoding="utf-8")
    rows = [row for row in page.splitlines() if row.startswith("| `")]

    assert (
        sorted(name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])) == chatkit.__all__
    )


def test_type_checkers_see_the_same_names() -> None:
    (block,) = [node for node in SOURCE.body if isinstance(node, ast.If)]
    imported = {
        node.names[0].asname: f"{node.module}" for node in block.body if isinstance(node, ast.ImportFrom)
    }

    assert imported == chatkit._HOMES
    assert sorted(imported) == sorted(chatkit.__all__)


def test_type_checkers_do_not_see_the_lazy_loading_which_would_take_any_name() -> None:
    assert "__getattr__" not in {node.name for node in SOURCE.body if isinstance(node, ast.FunctionDef)}


def test_values_that_calls_of_the_client_return_are_public() -> None:
    """Those of the HTTP interface are in the reference of `chatkit.wire`; aliases have no name at run time."""
    returned = {
        each
        for kind in (chatkit.ChatApi, chatkit.ChatClient)
        for name, call in vars(kind).items()
        if not name.startswith("_")
        for each in re.findall(r"\w+", str(_returned(call)))
    }
    homes = ("client.api", "client.media", "client.outbox", "client.events", "types")
    values = {
        name
        for home in homes
        for name, value in vars(importlib.import_module(f"chatkit.{home}")).items()
        if isinstance(value, type) and value.__module__ == f"chatkit.{home}"
    }
    assert {"Upload", "PendingMessage"} <= returned & values
    assert returned & values <= {*chatkit.__all__}


def _returned(call: object) -> object:
    function = getattr(call, "fget", None) or getattr(call, "__func__", call)
    return getattr(function, "__annotations__", {}).get("return")


def test_a_star_leaves_out_what_an_extra_that_is_missing_would_bring() -> None:
    program = (
        "import sys\n"
        "sys.modules.update(prometheus_client=None, starlette=None)\n"
        "from chatkit import *\n"
        "import chatkit\n"
        "print(sorted(set(chatkit._HOMES) - set(globals())), ChatClient.__name__)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "['Metrics', 'asgi_app', 'metrics_app'] ChatClient\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        _ = chatkit.Nothing


def test_a_client_needs_none_of_the_servers_dependencies() -> None:
    program = (
        "import sys\n"
        "for name in ('starlette', 'uvicorn', 'jwt', 'click', 'rich', 'uvloop'): sys.modules[name] = None\n"
        "import chatkit\n"
        "chatkit.ChatClient('ws://127.0.0.1:1', token='t', device_id='d')\n"
        "chatkit.ChatApi('http://127.0.0.1:1', token='t')\n"
        "chatkit.ChatServer, chatkit.MemoryConnector, chatkit.open_store('memory://')\n"
        "try: chatkit.sign_token('s' * 32, user_id='u')\n"
        "except chatkit.ConfigurationError as error: print(error)\n"
        "try: chatkit.asgi_app\n"
        "except chatkit.ConfigurationError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.stderr == ""
    assert done.stdout.count("pip install 'chatkit-engine[server]'") == 2


@pytest.mark.parametrize(("scheme", "package"), [("nats", "nats"), ("redis", "redis")])
def test_a_bus_without_its_package_names_the_extra(scheme: str, package: str) -> None:
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "import chatkit\n"
        "chatkit.open_bus('local://')\n"
        f"try: chatkit.open_bus('{scheme}://127.0.0.1')\n"
        "except chatkit.ConfigurationError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.stderr == ""
    assert f'pip install "chatkit-engine[{scheme}]"' in done.stdout


@pytest.mark.parametrize(
    ("scheme", "package", "extra"), [("jetstream", "nats", "nats"), ("kafka", "confluent_kafka", "kafka")]
)
def test_a_queue_without_its_package_names_the_extra(scheme: str, package: str, extra: str) -> None:
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "import chatkit\n"
        "chatkit.open_queue('memory://')\n"
        f"try: chatkit.open_queue('{scheme}://127.0.0.1')\n"
        "except chatkit.ConfigurationError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.stderr == ""
    assert f'pip install "chatkit-engine[{extra}]"' in done.stdout


def test_no_advice_installs_the_package_of_somebody_else() -> None:
    """`chatkit` on the package index is not ours."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.py")]
    for file in [*pages, *ROOT.glob("src/chatkit/**/*.py"), ROOT / "pyproject.toml"]:
        wrong = re.findall(
            r"(?:pip install|uv add|uvx|pipx run)[^\n`]*?[ '\"]chatkit(?=[\[' \"=<>]|$)", file.read_text()
        )
        assert not wrong, f"{file}: {wrong}"


@pytest.mark.parametrize("package", ["chatkit", "chatkit.bots", "chatkit.sync", "chatkit.testing"])
def test_the_reference_describes_every_public_name(package: str) -> None:
    """A directive of mkdocstrings names it, or the module that it is in."""
    pages = [page.read_text("utf-8") for page in (ROOT / "docs/reference").glob("*.md")]
    described = [
        _at(path) for page in pages for path in re.findall(r"^::: (?!chatkit$)(\S+)$", page, flags=re.M)
    ]
    module = importlib.import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        assert any(it is value or getattr(it, name, None) is value for it in described), name


def _at(path: str) -> object:
    """What has this dotted path: a module, or something in one."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        home, _, name = path.rpartition(".")
        return getattr(importlib.import_module(home), name)
