"""Whether names still lead to the files that were opened by them."""

from __future__ import annotations

from pathlib import Path

from chatkit.drivers.file_identity import FileIdentity, file_bytes


def test_an_identity_says_which_file_is_lost(tmp_path: Path) -> None:
    here, there, missing = (tmp_path / name for name in ("here", "there", "missing"))
    for path in (here, there):
        path.touch()
    identity = FileIdentity(map(str, (here, there, missing)))
    before = identity.first_lost()
    there.unlink()

    assert (before, identity.first_lost()) == (None, str(there))


def test_a_missing_file_has_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"abc")

    assert (file_bytes(str(tmp_path / "here")), file_bytes(str(tmp_path / "missing"))) == (3, 0)
