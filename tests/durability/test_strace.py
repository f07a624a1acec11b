"""Reading traces."""

from __future__ import annotations

from .strace import parse

TRACE = r"""
41 read(27<TCP:[127.0.0.1:1->127.0.0.1:2]>, "\201\357", 256000) = 117
43 pwrite64(14</x/chat.db-wal>, "\0\0\0\4"..., 24, 234872) = 24
43 fdatasync(14</x/chat.db-wal> <unfinished ...>
41 write(27<TCP:[127.0.0.1:1->127.0.0.1:2]>, "\201~", 175) = 175
43 <... fdatasync resumed>) = -1 EIO (Input/output error) (INJECTED)
43 unlink("/x/chat.db-shm") = 0
43 fdatasync(14</x/chat.db-wal>) = ?
43 +++ killed by SIGKILL +++
41 write(28<TCP:[127.0.0.1:1->127.0.0.1:3]>, "\201~", 203 <detached ...>
"""


def test_calls_come_in_the_order_in_which_they_began() -> None:
    calls = parse(TRACE)
    assert [call.name for call in calls] == [
        "read",
        "pwrite64",
        "fdatasync",
        "write",
        "unlink",
        "fdatasync",
        "write",
    ]
    assert [call.thread for call in calls] == [41, 43, 43, 41, 43, 43, 41]
    assert [call.path for call in calls[1:3]] == ["/x/chat.db-wal"] * 2
    assert calls[4].path == "/x/chat.db-shm"


def test_a_call_ends_where_it_is_resumed_or_not_at_all() -> None:
    failed, written, killed, left_alone = (parse(TRACE)[place] for place in (2, 3, 5, 6))
    assert failed.returned is not None and failed.entered < written.entered < failed.returned
    assert failed.result.startswith("-1 EIO")
    assert killed.returned is None and left_alone.returned is None
    assert left_alone.path.startswith("TCP")
