"""What nodes say to each other: frames of this version are read, whatever is of another one is counted."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from chatkit.server.cluster import messages as cm
from chatkit.storage.base import Advanced, Entry

ENTRY = Entry("c-1", "e1", "1-e1-2", 2, "ann", 7, b'{"type":"TEXT","text":"x"}', "k1")
ADVANCED = Advanced("c-1", "ann", "phone", 2, 1, True, ("ben",), 3)

EACH: list[cm.ClusterMessage] = [
    cm.EntryStored(ENTRY),
    cm.LogChanged("c-1"),
    cm.CursorsMoved(ADVANCED),
    cm.UserTyping("c-1", "ann"),
    cm.StreamPart("c-1", "e1", "1-e1-2", 2, 1, "x", 2),
    cm.MembersJoined("c-1", ("ben", "cat"), "JOINED"),
    cm.ConversationUpdated("c-1"),
    cm.DeviceOpened("ann", "phone"),
    cm.ContentRefused("c-1", "ann", "k-1", "be kind"),
    cm.LoginsRevoked(),
    cm.UsersAvailable("n-1", (("ann", "ONLINE"), ("ben", "")), True),
]


def test_every_kind_comes_out_as_it_went_in() -> None:
    assert {type(it) for it in EACH} == set(get_args(cm.ClusterMessage))
    assert [cm.decode(it) for it in cm.split(cm.encode(EACH))] == EACH


def test_the_version_is_the_first_element_of_the_frame() -> None:
    assert msgspec.msgpack.decode(cm.encode([cm.LogChanged("c-1")])) == [cm.VERSION, ["log", "c-1"]]


@pytest.mark.parametrize("version", [cm.VERSION - 1, cm.VERSION + 1])
def test_a_frame_of_another_version_is_not_read(version: int) -> None:
    with pytest.raises(cm.UnreadableError, match="another version"):
        cm.split(msgspec.msgpack.encode([version, cm.LogChanged("c-1")]))


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1 nonsense",
        msgspec.msgpack.encode([]),
        msgspec.msgpack.encode({"version": cm.VERSION}),
        msgspec.msgpack.encode([cm.LogChanged("c-1")]),
        msgspec.msgpack.encode([str(cm.VERSION), cm.LogChanged("c-1")]),
    ],
    ids=["nothing", "nonsense", "empty", "no array", "no version", "version as text"],
)
def test_what_is_no_frame_is_unreadable(frame: bytes) -> None:
    with pytest.raises(cm.UnreadableError):
        cm.split(frame)


def test_within_a_version_a_newer_node_may_add_a_field_at_the_end() -> None:
    frame = msgspec.msgpack.encode([cm.VERSION, ["log", "c-1", "added later"]])

    assert [cm.decode(it) for it in cm.split(frame)] == [cm.LogChanged("c-1")]


def test_within_a_version_a_newer_node_may_add_a_kind_which_costs_no_other_message() -> None:
    frame = msgspec.msgpack.encode([cm.VERSION, ["added later", 1], cm.LogChanged("c-1")])
    unknown, known = cm.split(frame)

    with pytest.raises(cm.UnreadableError):
        cm.decode(unknown)
    assert cm.decode(known) == cm.LogChanged("c-1")
