"""What a file is, by how it begins: the types that chat shows, and whether a declared type may be true. Pure.

Only what begins with a mark of its own can be told. A type that has one is held to it; any other may be declared of
whatever is none of those, and is never shown, only downloaded.
"""

from __future__ import annotations

from typing import Final

HEAD_BYTES: Final = 4_096
"""How much of the beginning is looked at."""

ANY: Final = "application/octet-stream"
"""The type of anything at all."""

Types = tuple[str, ...]
"""What has one mark, the usual type first."""

_MPEG: Final = ("audio/mpeg", "audio/mp3")
_AAC: Final = ("audio/aac", "audio/aacp", "audio/x-aac")
_MP4: Final = (
    "video/mp4",
    "audio/mp4",
    "audio/x-m4a",
    "audio/m4a",
    "video/quicktime",
    "video/3gpp",
    "audio/3gpp",
)
_HEIF: Final = ("image/heic", "image/heif", "image/avif")
_STARTS: Final[tuple[tuple[bytes, Types], ...]] = (
    (b"\x89PNG\r\n\x1a\n", ("image/png", "image/apng")),
    (b"\xff\xd8\xff", ("image/jpeg",)),
    (b"GIF87a", ("image/gif",)),
    (b"GIF89a", ("image/gif",)),
    (b"OggS", ("audio/ogg", "audio/opus", "video/ogg", "application/ogg")),
    (b"fLaC", ("audio/flac",)),
    (b"ID3", (*_MPEG, *_AAC)),
    (b"\x1a\x45\xdf\xa3", ("video/webm", "audio/webm", "video/x-matroska", "audio/x-matroska")),
    (b"#!AMR", ("audio/amr",)),
    (b"%PDF-", ("application/pdf",)),
    (b"II*\0", ("image/tiff",)),
    (b"MM\0*", ("image/tiff",)),
)
_RIFF: Final[dict[bytes, Types]] = {
    b"WEBP": ("image/webp",),
    b"WAVE": ("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"),
    b"AVI ": ("video/x-msvideo", "video/avi"),
}
"""By the form, behind the length (Microsoft RIFF)."""

_BRANDS: Final[dict[bytes, Types]] = {
    b"avif": ("image/avif",),
    b"avis": ("image/avif",),
    b"heic": _HEIF[:2],
    b"heix": _HEIF[:2],
    b"mif1": _HEIF,
    b"msf1": _HEIF,
    b"M4A ": ("audio/mp4", "audio/x-m4a", "audio/m4a", "video/mp4"),
    b"qt  ": ("video/quicktime",),
}
"""By the major brand of a file type box (ISO/IEC 14496-12); any other brand is MP4."""

_LAYERS: Final[dict[int, Types]] = {0: _AAC, 1: _MPEG, 2: _MPEG}
"""By the layer of a frame of MPEG audio (ISO/IEC 11172-3, 13818-7). Text in UTF-16 begins like layer I, which is out of
use."""

_ALL: Final = (*(types for _, types in _STARTS), *_RIFF.values(), *_BRANDS.values(), _MP4, *_LAYERS.values())
_MARKED: Final = frozenset(it for types in _ALL for it in types)
_PICTURES: Final = ("image/png", "image/apng", "image/jpeg", "image/gif", "image/webp", "image/avif")

SHOWN: Final = frozenset((*_PICTURES, *(it for it in _MARKED if it.startswith(("audio/", "video/")))))
"""What a browser may show in its place: types whose content was looked at, and that run no scripts."""


def types_of(head: bytes) -> Types:
    """The types that a beginning is the mark of, the usual one first; empty for one that has none.

    Args:
        head: The first `HEAD_BYTES` bytes, or all there are.
    """
    for start, types in _STARTS:
        if head.startswith(start):
            return types
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12], ())
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], _MP4)
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] >> 3 & 3 != 1:
        return _LAYERS.get(head[1] >> 1 & 3, ())
    return ()


def may_be(declared: str, head: bytes) -> bool:
    """Whether a file that begins so may be of the declared type.

    Of pictures, sounds and films only those may be whose mark is known; SVG is text, and is never shown.

    Args:
        declared: In lower case, without parameters.
        head: The first `HEAD_BYTES` bytes, or all there are.
    """
    if declared == ANY:
        return True
    found = types_of(head)
    is_medium = declared.startswith(("image/", "audio/", "video/")) and declared != "image/svg+xml"
    return declared in found if is_medium or declared in _MARKED else not found


def likely(head: bytes, guess: str | None) -> str:
    """The type to declare of a file: the guess if the content agrees, else what the content is, else `ANY`.

    Args:
        head: As of `types_of`.
        guess: What its name says, if it says anything.
    """
    if guess is not None and may_be(guess, head):
        return guess
    return next(iter(types_of(head)), ANY)
