"""Ids of other systems as ours: never two as one, and always the same."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit.errors import ConfigurationError
from chatkit.importing.names import ID_CHARS_MAX, Names, escaped, is_id

ODD = st.text(st.sampled_from("_xhABCDEF0129.:@-aé \ud800\x00"), min_size=1, max_size=40)


def unescaped(text: str) -> str:
    """What `escaped` made this of, where nothing was cut."""
    out = bytearray()
    while text:
        found = re.match(r"_x([0-9A-F]{2})", text)
        out += bytes.fromhex(found[1]) if found else text[0].encode("utf-8", "surrogatepass")
        text = text[4:] if found else text[1:]
    return out.decode("utf-8", "surrogatepass")


@given(ODD | st.text(min_size=1, max_size=10))
def test_an_id_can_be_read_back_so_that_no_two_are_one(raw: str) -> None:
    made = escaped(raw)

    assert is_id(made)
    if len(made) < ID_CHARS_MAX and not re.search(r"_h[0-9A-F]{32}\Z", made):
        assert unescaped(made) == raw


@pytest.mark.parametrize(
    ("raw", "made"),
    [
        ("U024BE7LH", "U024BE7LH"),
        ("user_12", "user_12"),
        ("@ann:example.org", "@ann:example.org"),
        ("über 1", "_xC3_xBCber_x201"),
        ("_xC3", "_x5FxC3"),
        ("a/b", "a_x2Fb"),
        (".", "_x2E"),
        ("..", "_x2E_x2E"),
    ],
)
def test_ids_are_readable_where_they_can_be(raw: str, made: str) -> None:
    assert escaped(raw) == made


def test_a_long_id_is_cut_and_ends_in_a_digest_that_nobody_else_can_have() -> None:
    first, second = "é" * 100 + "a", "é" * 100 + "b"
    made = escaped(first)

    assert len(made) == ID_CHARS_MAX
    assert made != escaped(second)
    assert escaped(made) != made  # somebody who is called so there is somebody else


def test_a_prefix_keeps_sources_apart_and_a_mapping_names_who_is_somebody_here() -> None:
    names = Names("slack:", {"U1": "ann"})

    assert (names.user("U1"), names.user("U2"), names.conversation("U1")) == ("ann", "slack:U2", "slack:U1")
    assert len(names.user("ü" * 200)) == ID_CHARS_MAX


@pytest.mark.parametrize(
    ("prefix", "users"), [("a b", {}), ("x" * 33, {}), ("", {"U1": "a b"}), ("", {"U1": ".."})]
)
def test_what_is_no_id_is_refused_before_anything_is_done(prefix: str, users: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        Names(prefix, users)
