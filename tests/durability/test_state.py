"""The look into a file finds what is wrong with it."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from .stage import BOB, GROUP, MESSAGES
from .state import check_whole, read_state
from .syscalls import Files

SPOILT = {
    "S5": "DELETE FROM message WHERE seq = 2",
    "S5: the-group is not 1..5": "UPDATE conversation SET head_seq = head_seq + 1",
    "S13: the-group waits from 4": "UPDATE device_cursor SET delivered_seq = 3",
    "S13: the-group is confirmed": "INSERT INTO outbox SELECT conversation_key, 4, 0, 0, NULL, 0, 0 FROM conversation",
    "S15": "UPDATE device_cursor SET delivered_seq = 9",
    "S20: recalls": "INSERT INTO recall SELECT conversation_key, 2, 4 FROM conversation",
    "S24": "UPDATE message SET kind = 'MEMBER', client_msg_id = NULL WHERE seq = 4",
    "renewed": "INSERT INTO audit SELECT NULL, 0, conversation_key, '', 'EPOCH_RENEWED', 4, '', '{}', 0, x'' "
    "FROM conversation",
    "the file is damaged": "PRAGMA ignore_check_constraints = ON; UPDATE member_cursor SET read_seq = 9",
}


def test_the_prepared_file_is_whole(files: Files) -> None:
    state = read_state(files.prepared())
    check_whole(state)
    assert state.head(GROUP) == MESSAGES + 1 and not state.outbox
    assert (GROUP, BOB, "phone", 1, MESSAGES + 1) in state.device_cursors


def test_less_of_a_log_is_the_state_it_had_before(files: Files) -> None:
    state = read_state(files.prepared())
    shorter = state.up_to(GROUP, MESSAGES)
    assert shorter.head(GROUP) == MESSAGES
    assert shorter.log(GROUP) == state.log(GROUP)[:MESSAGES]
    assert state.up_to(GROUP, MESSAGES + 1) == state


@pytest.mark.parametrize("finding", SPOILT)
def test_what_is_wrong_is_found(finding: str, files: Files, tmp_path: Path) -> None:
    database = shutil.copyfile(files.prepared(), tmp_path / "chat.db")
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(SPOILT[finding])
    with pytest.raises(AssertionError, match=finding):
        check_whole(read_state(database))
