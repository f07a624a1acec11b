"""The JavaScript client in Node.js: its unit tests and vectors, its types, and the package that npm makes of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from chatkit.web import client_files

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
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


def test_the_declarations_are_made_of_the_modules_as_they_are(tsc: str, tmp_path: Path) -> None:
    made = tmp_path / "types"
    environment = {**os.environ, "VENV": sys.prefix}
    subprocess.run([ROOT / "scripts/types", made], env=environment, timeout=120, check=True)

    told = "run scripts/types"
    kept = {path.name: path.read_text() for path in (CLIENT / "types").iterdir()}
    assert kept == {path.name: path.read_text() for path in made.iterdir()}, told
    assert kept.keys() == {name.replace(".js", ".d.ts") for name in client_files()}, told


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


USE = """import { ChatClient, contentOf, isUserMessage, MemoryStore } from "FROM";
import type { ChatEvent, Message } from "FROM";
const client = new ChatClient({ token: async () => "x", store: new MemoryStore() });
LISTEN
client.addEventListener("renewed", ({ detail }) => console.log(detail.expiresTs?.toFixed()));
client.addEventListener("change", () => {}, { once: true });
client.removeEventListener("change", null);
for (const pending of client.pending("lobby")) console.log(isUserMessage(pending), contentOf(pending).text);
for (const { role, memberIds } of client.conversations()) console.log(role === "MEMBER", memberIds?.length);
for await (const event of client.events()) if (event.type === "streamgrew") console.log(event.text);
export const shown = (event: ChatEvent): Message | null => (event.type === "message" ? event.message : null);
"""
"""What an app in TypeScript does with the client."""


@pytest.mark.parametrize("module", ["chatkit-client", "./node_modules/chatkit-client/chatkit.js"])
def test_typescript_knows_the_package_and_a_copy_of_it(
    npm: str, tsc: str, tmp_path: Path, module: str
) -> None:
    page = (ROOT / "docs/javascript.md").read_text()
    (listen,) = re.findall(r'^client\.addEventListener\("message".*$', page, re.MULTILINE)
    install(npm, tmp_path)
    use = USE.replace("FROM", module)
    (tmp_path / "right.ts").write_text(use.replace("LISTEN", listen))
    (tmp_path / "wrong.ts").write_text(use.replace("LISTEN", listen.replace("senderId", "sender")))
    strict = ["--strict", "--noEmit", "--target", "es2022", "--module", "nodenext"]
    libraries = ["--lib", "es2022,dom"]

    done = subprocess.run(
        [tsc, *strict, *libraries, "right.ts", "wrong.ts"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    (error,) = done.stdout.splitlines()
    assert error.startswith("wrong.ts(4,") and "'sender' does not exist on type 'Message'" in error


def install(npm: str, folder: Path) -> None:
    """What npm makes of the client becomes a dependency of an app in that folder."""
    run(npm, "pack", "--silent", "--pack-destination", str(folder), cwd=CLIENT)
    (archive,) = folder.glob("*.tgz")
    (folder / "package.json").write_text('{"type": "module", "private": true}')
    run(npm, "install", "--silent", "--offline", "--no-audit", "--no-fund", str(archive), cwd=folder)


def test_the_package_of_npm_installs_and_imports(node: str, npm: str, tmp_path: Path) -> None:
    install(npm, tmp_path)

    installed = {path.name for path in (tmp_path / "node_modules/chatkit-client").iterdir()}
    names = run(
        node,
        "--eval",
        'import("chatkit-client").then((it) => console.log(Object.keys(it).join(" ")))',
        cwd=tmp_path,
    )

    assert installed == {*client_files(), "package.json", "chatkit.d.ts", "types"}
    assert names.split() == sorted(names.split())
    assert "ChatClient" in names.split()
