"""Whoever begins at the first page or at the README finds every page."""

from __future__ import annotations

import re

import pytest

from .snippets import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(it.name for it in DOCS.glob("*.md") if it.name != "index.md")
LINK = re.compile(r"\]\((?:docs/)?([\w-]+\.md)(?:#[\w-]+)?\)")


def test_the_first_page_leads_to_every_page() -> None:
    table = (DOCS / "index.md").read_text("utf-8").partition("## Where to go")[2].partition("## Install")[0]
    assert {*LINK.findall(table)} == {*PAGES}


@pytest.mark.parametrize(
    "page", ["streams.md", "messages.md", "features.md", "conversations.md", "javascript.md"]
)
def test_the_readme_leads_to_what_a_product_needs(page: str) -> None:
    assert page in LINK.findall((ROOT / "README.md").read_text("utf-8"))


@pytest.mark.parametrize("page", ["bots.md", "bot-tutorial.md"])
def test_pages_of_bots_lead_to_streams(page: str) -> None:
    assert "streams.md" in LINK.findall((DOCS / page).read_text("utf-8"))
