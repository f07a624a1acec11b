"""The JavaScript client in Node.js: its unit tests and vectors, its types, and the package that npm makes of it."""

from __future__ import annotations

import json
import re
import subprocess
from importlib import metadata
from pathlib import Path

from chatkit.web import client_files

HERE = Path(__file__).parent
CLIENT = HERE.parents[1] / "src/chatkit/web/client"


def run(*command: str, cwd: Path = HERE) -> str:
    """What it prints. Fails with all of that if the command does."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_units_and_vectors(node: str) -> None:
    said = run(node, "--test", "--test-reporter=tap", "node.test.js")

    counts = dict(re.findall(r"^# (tests|pass) (\d+)$", said, re.MULTILINE))
    assert int(counts["pass"]) == int(counts["tests"]) > 100


def test_types_are_whole(tsc: str) -> None:
    assert run(tsc, "--project", str(HERE)) == ""


def test_a_wrong_call_is_found_by_the_types(tsc: str, tmp_path: Path) -> None:
    source = f'import {{ ChatClient }} from "{CLIENT}/chatkit.js";\nnew ChatClient({{ token: 5 }});\n'
    (tmp_path / "wrong.js").write_text(source)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    settings = {"extends": str(HERE / "tsconfig.json"), "include": ["wrong.js"]}
    (tmp_path / "tsconfig.json").write_text(json.dumps(settings))

    done = subprocess.run(
        [tsc, "-p", str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode != 0
    assert "wrong.js(2,18)" in done.stdout


def test_versions_are_one() -> None:
    version = metadata.version("chatkit-engine")
    assert json.loads((CLIENT / "package.json").read_text())["version"] == version
    assert f'name: "chatkit-js", version: "{version}"' in (CLIENT / "connection.js").read_text()


def test_the_package_of_npm_installs_and_imports(node: str, npm: str, tmp_path: Path) -> None:
    run(npm, "pack", "--silent", "--pack-destination", str(tmp_path), cwd=CLIENT)
    (archive,) = tmp_path.glob("*.tgz")
    (tmp_path / "package.json").write_text('{"type": "module", "private": true}')
    run(npm, "install", "--silent", "--offline", "--no-audit", "--no-fund", str(archive), cwd=tmp_path)

    installed = {path.name for path in (tmp_path / "node_modules/chatkit-client").iterdir()}
    names = run(
        node,
        "--eval",
        'import("chatkit-client").then((it) => console.log(Object.keys(it).join(" ")))',
        cwd=tmp_path,
    )

    assert installed == {*client_files(), "package.json"}
    assert names.split() == sorted(names.split())
    assert "ChatClient" in names.split()
