"""What a file is by how it begins, and what may be said of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit.core.media_types import ANY, SHOWN, likely, may_be, types_of

PNG, JPEG, GIF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a"
WEBP, WAV = b"RIFF\x10\0\0\0WEBPVP8 ", b"RIFF\x10\0\0\0WAVEfmt "
MP4, M4A, HEIC, MOV = (b"\0\0\0\x18ftyp" + brand for brand in (b"isom", b"M4A ", b"heic", b"qt  "))
MP3, AAC, OGG, WEBM = b"\xff\xfb\x90\x64", b"\xff\xf1\x50\x80", b"OggS\0", b"\x1a\x45\xdf\xa3"


@pytest.mark.parametrize(
    ("head", "mime"),
    [
        (PNG, "image/png"),
        (JPEG, "image/jpeg"),
        (GIF, "image/gif"),
        (WEBP, "image/webp"),
        (WAV, "audio/wav"),
        (MP4, "video/mp4"),
        (MP4, "audio/mp4"),
        (M4A, "audio/mp4"),
        (HEIC, "image/heic"),
        (MOV, "video/quicktime"),
        (MP3, "audio/mpeg"),
        (b"ID3\x04", "audio/mpeg"),
        (AAC, "audio/aac"),
        (OGG, "audio/ogg"),
        (WEBM, "video/webm"),
        (b"%PDF-1.7", "application/pdf"),
        (b"hello", "text/plain"),
        (b"<svg>", "image/svg+xml"),
        (b"\xff\xfeh\0i\0", "text/plain"),  # UTF-16
        (b"PK\x03\x04", "application/zip"),
    ],
)
def test_what_may_be_said(head: bytes, mime: str) -> None:
    assert may_be(mime, head)
    assert may_be(ANY, head)


@pytest.mark.parametrize(
    ("head", "mime"),
    [
        (GIF, "image/png"),
        (PNG, "text/html"),
        (PNG, "image/svg+xml"),
        (b"<html>", "image/png"),
        (b"<html>", "application/pdf"),
        (b"BM", "image/bmp"),
        (WAV, "image/webp"),
        (HEIC, "video/mp4"),
        (b"", "image/png"),
        (b"RIFF", "audio/wav"),
    ],
)
def test_what_may_not(head: bytes, mime: str) -> None:
    assert not may_be(mime, head)


def test_the_content_wins_over_the_name() -> None:
    assert likely(PNG, "text/plain") == "image/png"
    assert likely(b"hello", "text/plain") == "text/plain"
    assert likely(b"hello", "image/png") == likely(b"hello", None) == ANY


def test_nothing_is_shown_that_runs_scripts() -> None:
    assert not SHOWN & {
        "text/html",
        "image/svg+xml",
        "application/pdf",
        "application/xhtml+xml",
        "text/xml",
        ANY,
    }


@given(st.binary(max_size=16))
def test_any_beginning_has_an_answer(head: bytes) -> None:
    assert all(may_be(it, head) for it in types_of(head))
    assert may_be(likely(head, None), head)
