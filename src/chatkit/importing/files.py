"""The files of an export: a folder, a zip, or one file. Nothing is unpacked to disk, and nothing outside is read.

What is hostile is refused with an error that names the file: names that lead outside, zips whose parts overlap or are
packed far too well, lines without end, text that is not in its encoding.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from ..errors import ConfigurationError, ImportFileError
from .json_stream import JsonStream

LINE_BYTES_MAX: Final = 4 * 1024 * 1024
FILES_MAX: Final = 500_000
PACKED_RATIO_MAX: Final = 200
"""How many times longer an unpacked file may be: text is packed to a tenth, seldom to a fiftieth."""

_SMALL_BYTES: Final = 16 * 1024 * 1024
"""Below this nobody asks how well it was packed."""

_PIECE_BYTES: Final = 256 * 1024
_UNSAFE: Final = re.compile(r"[\\\x00-\x1f]|^/|^[A-Za-z]:|(?:^|/)\.\.(?:/|\Z)")


class Files:
    """The files of an export, by their names below its root, in the order of these.

    Attributes:
        names: With `/` between folders.
        links: Links in a folder: they are not followed.
        done_bytes: How much was read.

    Raises:
        ConfigurationError: There is nothing at the path.
        ImportFileError: It is a zip that is damaged or hostile, or has too many files.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._zip: zipfile.ZipFile | None = None
        self._sizes: dict[str, int] = {}
        self.links: list[str] = []
        self.done_bytes = 0
        if self._path.is_dir():
            self._root = self._path
            self._walk()
        elif self._path.is_file():
            self._root = self._path.parent
            self._open_file()
        else:
            raise ConfigurationError(f"there is no file and no folder {self._path}")
        self.names = sorted(self._sizes)

    @property
    def is_single(self) -> bool:
        """Whether one file was named, and no folder or zip."""
        return self._zip is None and not self._path.is_dir()

    @property
    def stem(self) -> str:
        """What the export is called, without the ending of its file."""
        path = self._path.resolve()
        return path.name if path.is_dir() else path.stem

    def topmost(self, ending: str) -> list[str]:
        """The files with an ending that lie in no deeper folder than another such file; or the one file, as it is."""
        found = [it for it in self.names if it.endswith(ending) or self.is_single]
        depth = min((it.count("/") for it in found), default=0)
        return [it for it in found if it.count("/") == depth]

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return self._sizes[name]

    def close(self) -> None:
        """Close the zip, if it is one."""
        if self._zip is not None:
            self._zip.close()

    def error(self, name: str, words: str, line: int | None = None) -> ImportFileError:
        """An error about a file."""
        return ImportFileError(f"{name}: {words}" if line is None else f"{name}:{line}: {words}")

    def lines(self, name: str, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
        """(number, text without its end) of each line.

        Raises:
            ImportFileError: A line is too long or not in the encoding; names it.
        """
        with self._open(name) as stream:
            number = 0
            while line := stream.readline(LINE_BYTES_MAX + 1):
                number += 1
                if len(line) > LINE_BYTES_MAX:
                    raise self.error(name, f"the line has more than {LINE_BYTES_MAX} bytes", number)
                try:
                    text = line.decode(encoding)
                except UnicodeDecodeError as error:
                    words = f"byte {error.start + 1} is not {encoding}; if the file is in another one, say --encoding"
                    raise self.error(name, words, number) from None
                if number == 1:
                    text = text.removeprefix("\ufeff")
                yield number, text.rstrip("\r\n")

    def json(self, name: str) -> JsonStream:
        """A file of JSON, from its beginning."""
        return JsonStream(self.pieces(name), name)

    def pieces(self, name: str) -> Iterator[str]:
        """A text in UTF-8, in pieces that are not empty."""
        decoder, lines = codecs.getincrementaldecoder("utf-8-sig")(), 1
        with self._open(name) as stream:
            while True:
                data = stream.read(_PIECE_BYTES)
                try:
                    text = decoder.decode(data, not data)
                except UnicodeDecodeError as error:
                    line = lines + error.object.count(b"\n", 0, error.start)
                    raise self.error(name, "a byte is not UTF-8", line) from None
                if text:
                    lines += text.count("\n")
                    yield text
                if not data:
                    return

    def _open(self, name: str) -> IO[bytes]:
        try:
            if self._zip is None:
                raw: IO[bytes] = open(self._root / name, "rb")  # noqa: SIM115 -- whoever gets it closes it
            else:
                raw = self._zip.open(name)
        except (OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
            raise self.error(name, f"it cannot be opened: {error}") from None
        return io.BufferedReader(_Counted(raw, self, name), _PIECE_BYTES)

    def _walk(self) -> None:
        for folder, folders, names in os.walk(self._root, onerror=self._not_listed):
            folders.sort()
            for name in [*names, *folders]:
                path = Path(folder, name)
                relative = path.relative_to(self._root).as_posix()
                mode = path.lstat()
                if stat.S_ISLNK(mode.st_mode):
                    self.links.append(relative)
                elif stat.S_ISREG(mode.st_mode):
                    self._add(relative, mode.st_size)

    def _not_listed(self, error: OSError) -> None:
        raise self.error(str(error.filename), f"the folder cannot be read: {error.strerror}") from None

    def _open_file(self) -> None:
        if not zipfile.is_zipfile(self._path):
            self._add(self._path.name, self._path.stat().st_size)
            return
        try:
            self._zip = zipfile.ZipFile(self._path)
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise self.error(self._path.name, f"the zip is damaged: {error}") from None
        packed = 0
        for info in self._zip.infolist():
            packed += info.compress_size
            self._check_entry(info)
            if not info.is_dir():
                self._add(info.filename, info.file_size)
        if packed > self._path.stat().st_size:
            raise self.error(self._path.name, "its parts overlap: it is made to fill a disk")

    def _check_entry(self, info: zipfile.ZipInfo) -> None:
        name = info.orig_filename
        if _UNSAFE.search(name):
            raise self.error(self._path.name, f"it holds {name[:80]!r}, a name that leads outside")
        if info.filename in self._sizes:
            raise self.error(self._path.name, f"it holds {name[:80]!r} twice")
        if info.file_size > max(_SMALL_BYTES, PACKED_RATIO_MAX * info.compress_size):
            raise self.error(
                self._path.name,
                f"{name[:80]!r} is packed to less than 1/{PACKED_RATIO_MAX}: it is made to fill a disk",
            )

    def _add(self, name: str, size: int) -> None:
        if len(self._sizes) >= FILES_MAX:
            raise self.error(self._path.name, f"it holds more than {FILES_MAX} files")
        self._sizes[name] = size


class _Counted(io.RawIOBase):
    """A file that counts what is read of it, and whose failures name it."""

    def __init__(self, raw: IO[bytes], files: Files, name: str) -> None:
        self._raw, self._files, self._name = raw, files, name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            data = self._raw.read(len(buffer))
        except (
            OSError,
            EOFError,
            RuntimeError,
            NotImplementedError,
            zlib.error,
            zipfile.BadZipFile,
        ) as error:
            raise self._files.error(self._name, f"it cannot be read: {error}") from None
        buffer[: len(data)] = data
        self._files.done_bytes += len(data)
        return len(data)

    def close(self) -> None:
        self._raw.close()
        super().close()
