"""`chatkit serve --blobs`: files of users in a folder, across a restart, and what is refused at the start."""

from __future__ import annotations

from pathlib import Path

import anyio

from chatkit import ChatApi
from tests.blackbox.server_process import ServerProcess
from tests.blackbox.tokens import token

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20 * 1024 * 1024)
"""More than the 16 MiB that a body had when each read of its connection counted as a chunk."""


async def send(url: str) -> str:
    async with ChatApi(url, token=token("ann", "phone")) as ann:
        await ann.create_conversation("GROUP", ["ben"], conversation_id="g")
        uploaded = await ann.upload(PNG, name="a.png")
        await ann.send("g", uploaded.payload())
        return uploaded.blob_id


async def get(url: str, blob_id: str) -> bytes | Path:
    async with ChatApi(url, token=token("ben", "phone")) as ben:
        return await ben.download(blob_id)


def test_a_server_keeps_files_in_a_folder(tmp_path: Path) -> None:
    options = ("--blobs", f"dir://{tmp_path}/files", "--set", "blob.link_s=60")
    server = ServerProcess(tmp_path, *options)
    server.start()
    try:
        blob_id = anyio.run(send, server.http_url)
        server.terminate()
        assert server.exit_code() == 0
        server.start()
        assert anyio.run(get, server.http_url, blob_id) == PNG
    finally:
        server.stop()
    parts = [it for it in (tmp_path / "files").rglob("*") if it.is_file()]
    assert len(parts) == 21
    assert {it.stat().st_mode & 0o777 for it in parts} == {0o600}
    assert "signature" not in server.log


def test_a_wrong_address_is_refused_at_the_start(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, "--blobs", "ftp://elsewhere")
    assert server.launch().wait(30) == 2
    assert "file:///FOLDER or dir:///FOLDER" in server.log


def test_a_folder_that_cannot_be_one_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    server = ServerProcess(tmp_path, "--blobs", f"dir://{tmp_path}/file/files")
    assert server.launch().wait(30) == 2
    (line,) = (it for it in server.log.splitlines() if it.startswith("Error"))
    assert line == (
        "Error: files cannot be kept (`blobs=`, --blobs): "
        f"the archive {tmp_path}/file/files cannot be a folder: {tmp_path}/file is none"
    )
