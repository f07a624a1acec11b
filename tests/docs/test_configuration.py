"""docs/configuration.md has every setting that there is, as it is."""

from __future__ import annotations

from .settings_table import PAGE, fields_table, options_table, page_with_tables


def test_the_tables_are_those_of_the_code() -> None:
    page = PAGE.read_text("utf-8")
    assert page == page_with_tables(page), "python -m tests.docs.settings_table writes them anew"


def test_every_setting_has_words() -> None:
    rows = [row.split(" | ") for table in (options_table(), fields_table()) for row in table.splitlines()[2:]]
    assert [row[0] for row in rows if len(row[-1].strip(" |")) < 5] == []
