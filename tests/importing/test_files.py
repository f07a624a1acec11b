"""The files of an export: what is hostile is refused, and nothing outside is read."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from chatkit.errors import ConfigurationError, ImportFileError
from chatkit.importing import files as files_module
from chatkit.importing.files import Files

from .exports import write, zipped


def test_a_folder_a_zip_and_a_file_have_the_same_names(tmp_path: Path) -> None:
    content = {"b/c.json": "[1]", "a.txt": "one\r\ntwo"}
    folder, archive = write(tmp_path / "export", content), zipped(tmp_path / "export.zip", content)

    for path in (folder, archive):
        files = Files(path)
        assert (files.names, files.size("b/c.json"), files.is_single) == (["a.txt", "b/c.json"], 3, False)
        assert list(files.lines("a.txt")) == [(1, "one"), (2, "two")]
        assert files.json("b/c.json").value() == [1]
        assert files.done_bytes == 11
        files.close()
    single = Files(folder / "a.txt")
    assert (single.names, single.is_single) == (["a.txt"], True)


def test_nothing_at_the_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        Files(tmp_path / "nowhere")


def test_links_are_not_followed(tmp_path: Path) -> None:
    folder = write(tmp_path / "export", {"a.txt": "x"})
    os.symlink("/etc/passwd", folder / "b.txt")
    os.symlink("/etc", folder / "c")
    files = Files(folder)

    assert (files.names, sorted(files.links)) == (["a.txt"], ["b.txt", "c"])


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "C:/x", "a\\..\\x", "a\x01b"])
def test_a_name_that_leads_outside(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImportFileError, match=r"e\.zip: .*leads outside"):
        Files(zipped(tmp_path / "e.zip", {name: "x"}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        archive.writestr("a", "1")
        archive.writestr("a", "2")
    with pytest.raises(ImportFileError, match="twice"):
        Files(tmp_path / "e.zip")


def test_a_zip_that_is_made_to_fill_a_disk(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match="less than 1/200"):
        Files(zipped(tmp_path / "e.zip", {"a": bytes(20_000_000)}))


def test_a_zip_whose_parts_overlap(tmp_path: Path) -> None:
    """As the bomb of D. Fifield does it: many entries of the directory name the same data."""
    path = zipped(tmp_path / "e.zip", {f"a{number}": os.urandom(1_000) for number in range(2)})
    with zipfile.ZipFile(path) as archive:
        size = archive.infolist()[0].compress_size
    data = path.read_bytes()
    central = data.index(b"PK\x01\x02")
    forged = bytearray(data)
    forged[central + 20 : central + 24] = (size * 4).to_bytes(4, "little")
    path.write_bytes(forged)
    with pytest.raises(ImportFileError, match=r"overlap|damaged"):
        Files(path)


def test_a_zip_that_is_damaged_or_was_encrypted(tmp_path: Path) -> None:
    path = zipped(tmp_path / "e.zip", {"a.txt": b"0123456789" * 1_000})
    data = bytearray(path.read_bytes())
    data[45:60] = bytes(15)
    path.write_bytes(data)
    with pytest.raises(ImportFileError, match=r"^a\.txt: it cannot be (read|opened)"):
        list(Files(path).lines("a.txt"))
    locked = zipped(tmp_path / "locked.zip", {"a.txt": b"x"})
    data = bytearray(locked.read_bytes())
    for at in (6, data.index(b"PK\x01\x02") + 8):
        data[at] |= 1
    locked.write_bytes(data)
    with pytest.raises(ImportFileError, match=r"^a\.txt: it cannot be opened: .*encrypted"):
        list(Files(locked).lines("a.txt"))
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04" + bytes(20))
    assert Files(tmp_path / "cut.zip").names == ["cut.zip"]  # it is no zip, and so a file


def test_lines_are_bounded_and_name_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "LINE_BYTES_MAX", 10)
    folder = write(
        tmp_path, {"long.txt": b"short\n" + b"x" * 11, "latin.txt": "ok\nna\u00efve".encode("latin-1")}
    )
    files = Files(folder)

    with pytest.raises(ImportFileError, match=r"long\.txt:2: the line has more than 10 bytes"):
        list(files.lines("long.txt"))
    with pytest.raises(ImportFileError, match=r"latin\.txt:2: byte 3 is not utf-8.*--encoding"):
        list(files.lines("latin.txt"))
    assert list(files.lines("latin.txt", "latin-1"))[1] == (2, "na\u00efve")


def test_json_that_is_not_utf_8_names_the_line(tmp_path: Path) -> None:
    files = Files(write(tmp_path, {"a.json": b'["a",\n"b",\n"\xff"]'}))
    with pytest.raises(ImportFileError, match=r"a\.json:3: a byte is not UTF-8"):
        files.json("a.json").value()


def test_more_files_than_anybody_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "FILES_MAX", 2)
    with pytest.raises(ImportFileError, match="more than 2 files"):
        Files(write(tmp_path, {"a": "", "b": "", "c": ""}))


def test_a_folder_that_cannot_be_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "export", {"a/b.txt": "x"})
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("a"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(ImportFileError, match="cannot be read: Permission denied"):
        Files(folder)
