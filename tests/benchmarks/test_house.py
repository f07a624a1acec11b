"""`benchmarks.house` counts what it says, and the same each time."""

from __future__ import annotations

from pathlib import Path

from benchmarks.house import floors, rooms, size, stays
from benchmarks.tree import HERE, Tree

from chatkit import ChatClient


def test_a_message_walks_the_same_way_each_time() -> None:
    first, second = rooms(Tree(HERE)), rooms(Tree(HERE))

    assert first == second
    assert list(first) == ["client, send", "server, SEND_MSG", "client, NEW_MSG", "client, MSG_ACK"]
    for way in first.values():
        assert 0 < way["rooms"] == len(set(way["path"])) <= way["visits"] == len(way["path"])
        assert "wire.codec" in way["beside"]
    assert f"chatkit.client.{first['client, send']['path'][0]}" == ChatClient.__module__
    assert not any(name.startswith("server.") for name in first["client, NEW_MSG"]["beside"])


def test_the_same_room_again_is_a_visit_only_after_another_one_of_that_side() -> None:
    way = stays(
        ["chatkit.client.a", "chatkit.client.b", "chatkit.core.x", "chatkit.client.b", "chatkit.client.a"],
        "client",
    )

    assert way["path"] == ["a", "b", "a"]
    assert (way["rooms"], way["visits"], way["again"]) == (2, 3, ["a"])
    assert way["beside"] == ["core.x"]


def test_floors_follow_imports_at_run_time(tmp_path: Path) -> None:
    package = tmp_path / "chatkit"
    texts = {
        "__init__": '"""Nothing in it."""\n',
        "top": "from . import middle\nfrom .store import base\n",
        "middle": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import top\nfrom .left import L\n",
        "left": "def later():\n    from .right import R\n",
        "right": "import chatkit.client.left\n",
        "store/__init__": "",
        "store/base": "from .. import right\n# the largest\n\n\n",
    }
    for name, text in texts.items():
        path = package / "client" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    client = floors(package, "client")

    assert client["files"] == 5
    assert client["floors"] == 3
    assert client["chain"] == ["top", "middle", "left = right"]
    assert client["cycles"] == [["left", "right"]]
    assert client["largest"] == {"module": "middle", "lines": 4}


def test_lines_by_folder() -> None:
    sizes = size(
        {"chatkit/a.py": "x = 1\n\n# why\n", "chatkit/wire/b.py": '"""Doc."""\n', "chatkit/wire/c.py": ""}
    )

    assert (sizes["files"], sizes["lines"], sizes["code_lines"]) == (3, 4, 2)
    assert sizes["by_folder"] == {".": {"lines": 3, "code_lines": 1}, "wire": {"lines": 1, "code_lines": 1}}
