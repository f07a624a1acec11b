"""Full-text search of a store. Subclass it beside `StoreContract`."""

from __future__ import annotations

from typing import Any, Protocol

import pytest

from ...core.search import matches, parse_query
from ...errors import BadRequestError, NotFoundError
from ...storage import base
from ...storage.search import PLACE_MAX, Searchable, Wanted, searched_text
from .storage_commands import NOW, add, do, edited, group, one, recall, remove, send, single
from .storage_roles import open_group


class SearchedStore(base.Store, Searchable, Protocol):
    """A store with that ability."""


async def index_all(store: SearchedStore) -> None:
    """Let the index take up all there is, and let go all that has gone."""
    while await store.search.follow():
        pass


async def search_all(store: SearchedStore, user_id: str, query: str, **where: Any) -> list[str]:
    """What is found, the newest first, page by page."""
    wanted, found, before = Wanted(user_id, parse_query(query), **where), [], PLACE_MAX
    while True:
        page = await store.search.candidates(wanted, before, 2)
        for it in page.found:
            said = it.entry.payload if it.entry.edit is None else it.entry.edit.payload
            _, text = searched_text(said)
            if matches(wanted.query, text):
                found.append(text)
        if page.last_place is None:
            return found
        assert page.last_place < before
        before = page.last_place


async def found(store: SearchedStore, user_id: str, query: str, **where: Any) -> list[str]:
    """What is found once all is indexed."""
    await index_all(store)
    assert not await store.search.is_behind(user_id)
    return await search_all(store, user_id, query, **where)


class SearchContract:
    """What is found, and what never is: a fixture `store` gives a fresh one."""

    pytestmark = pytest.mark.anyio

    async def test_words_are_found_the_newest_first(self, store: SearchedStore) -> None:
        await store.search.open()
        await do(store, group("g", "ann", "bob"))
        for n, words in enumerate(("the red fox", "a Red, RED dog", "blue", "fox and dog", "Réd")):
            await do(store, send("g", "ann", f"k{n}", words, NOW + n))

        assert await found(store, "bob", "red") == ["Réd", "a Red, RED dog", "the red fox"]
        assert await found(store, "bob", "dog fox") == ["fox and dog"]
        assert await found(store, "bob", "re*") == ["Réd", "a Red, RED dog", "the red fox"]
        assert await found(store, "bob", "re") == []
        assert await found(store, "bob", '"red fox"') == ["the red fox"]
        assert await found(store, "bob", "-blue") == ["blue"]

    @pytest.mark.parametrize(
        ("query", "words"),
        [
            ("京", "今日は東京へ"),
            ("東京", "今日は東京へ"),
            ("今日は", "今日は東京へ"),
            ("手", "我的手机"),
            ("手机", "我的手机"),
            ("한국", "한국어는"),
            ("กรุง", "ไปกรุงเทพ"),
            ("ｶﾞｽ", "ガスです"),
            ("😀", "ha😀"),
            ("'; DROP", "it's a '; drop"),
            ("AND", "you and me"),
            ('"', None),
        ],
    )
    async def test_any_script_and_any_sign(self, store: SearchedStore, query: str, words: str | None) -> None:
        await store.search.open()
        await do(store, group("g", "ann"), send("g", "ann", "k0", "other words: 東 的 x"))
        if words is None:
            with pytest.raises(BadRequestError):
                parse_query(query)
            return
        await do(store, send("g", "ann", "k", words, NOW + 1))

        assert await found(store, "ann", query) == [words]

    async def test_characters_that_stand_apart_are_no_word(self, store: SearchedStore) -> None:
        await store.search.open()
        await do(store, group("g", "ann"), send("g", "ann", "k", "東 and 京、都"))

        assert await found(store, "ann", "東京") == await found(store, "ann", "京都") == []

    async def test_only_what_a_user_may_read_is_found(self, store: SearchedStore) -> None:
        await store.search.open()
        await do(store, group("g", "ann", "bob"), open_group("o", "ann", "bob"), single("s", "ann", "bob"))
        await do(
            store, send("g", "ann", "1", "early word", NOW + 1), send("o", "ann", "2", "open word", NOW + 2)
        )
        await do(store, send("s", "ann", "3", "secret word", NOW + 3))
        await do(store, add("g", "ann", "cat"), add("o", "ann", "cat"))
        await do(store, send("g", "ann", "4", "late word", NOW + 4), remove("g", "ann", "bob"))
        await do(store, send("g", "ann", "5", "last word", NOW + 5))

        assert await found(store, "cat", "word") == ["last word", "late word", "open word"]
        assert await found(store, "bob", "word") == ["secret word", "open word"]
        assert await found(store, "zoe", "word") == []
        await do(store, add("g", "ann", "bob"))
        assert await found(store, "bob", "word") == ["late word", "secret word", "open word", "early word"]

    async def test_a_conversation_is_searched_by_its_members_only(self, store: SearchedStore) -> None:
        await store.search.open()
        await do(store, group("g", "ann"), group("h", "ann"))
        await do(store, send("g", "ann", "k", "word in g"), send("h", "ann", "k", "word in h"))

        assert await found(store, "ann", "word", conversation_id="h") == ["word in h"]
        for name in ("g", "nowhere"):
            with pytest.raises(NotFoundError):
                await found(store, "bob", "word", conversation_id=name)

    async def test_by_sender_and_by_time(self, store: SearchedStore) -> None:
        await store.search.open()
        await do(store, group("g", "ann", "bob o'ann"))
        for n, sender in enumerate(("ann", "bob o'ann", "ann")):
            await do(store, send("g", sender, f"k{n}", f"word {n}", NOW + n))

        assert await found(store, "ann", "word", sender_id="bob o'ann") == ["word 1"]
        assert await found(store, "ann", "word", after_ms=NOW + 1) == ["word 2", "word 1"]
        assert await found(store, "ann", "word", before_ms=NOW + 1) == ["word 0"]
        assert await found(store, "ann", "word", after_ms=NOW + 1, before_ms=NOW + 1) == []

    async def test_messages_of_one_millisecond_come_by_pages(self, store: SearchedStore) -> None:
        await store.search.open()
        await do(store, group("g", "ann"), group("h", "ann"))
        await do(store, *(send("gh"[n % 2], "ann", f"k{n}", f"word {n}") for n in range(7)))

        assert sorted(await found(store, "ann", "word")) == [f"word {n}" for n in range(7)]
        assert await found(store, "ann", "word", conversation_id="h") == ["word 5", "word 3", "word 1"]

    async def test_what_was_recalled_is_not_found_not_even_before_the_index_knows(
        self, store: SearchedStore
    ) -> None:
        await store.search.open()
        await do(store, group("g", "ann"), send("g", "ann", "k1", "word one"))
        two = await one(store, send("g", "ann", "k2", "word two"), base.Appended)
        assert await found(store, "ann", "word two") == ["word two"]
        await do(store, recall(two.entry.message_id, "ann"))

        assert await search_all(store, "ann", "word") == ["word one"]
        assert await found(store, "ann", "word") == ["word one"]
        await do(store, send("g", "ann", "k3", "word three"))
        assert await found(store, "ann", "two") == []

    async def test_what_has_expired_is_not_found(self, store: SearchedStore) -> None:
        await store.search.open()
        await do(
            store, group("g", "ann"), send("g", "ann", "k1", "word one"), send("g", "ann", "k2", "word two")
        )
        await index_all(store)
        await do(store, base.Expire("g", 2, None, NOW))

        assert await search_all(store, "ann", "word") == await found(store, "ann", "word") == ["word two"]

    async def test_of_a_message_that_was_edited_the_latest_version_is_found(
        self, store: SearchedStore
    ) -> None:
        await store.search.open()
        await do(store, group("g", "ann", "bob"))
        sent = await one(store, send("g", "ann", "k1", "first words", NOW), base.Appended)
        await do(store, send("g", "ann", "k2", "other words", NOW + 1))
        name = sent.entry.message_id
        assert await found(store, "bob", "first") == ["first words"]
        await do(store, edited("g", "ann", name, "second words", NOW + 2))

        assert await found(store, "bob", "first") == []
        assert await found(store, "bob", "words") == ["other words", "second words"]
        await do(store, edited("g", "ann", name, "first again", NOW + 3))
        assert await found(store, "bob", "second") == []
        assert await found(store, "bob", "first") == ["first again"]
        await do(store, recall(name, "ann"))
        assert await search_all(store, "bob", "first") == await found(store, "bob", "first") == []

    async def test_of_several_versions_that_is_found_which_a_user_sees(self, store: SearchedStore) -> None:
        await store.search.open()
        await do(store, group("g", "ann", "bob"))
        sent = await one(store, send("g", "ann", "k1", "first words"), base.Appended)
        await do(store, remove("g", "ann", "bob"), edited("g", "ann", sent.entry.message_id, "second words"))
        await do(store, add("g", "ann", "bob"), send("g", "ann", "k2", "end"))

        assert await found(store, "ann", "words") == ["second words"]
        assert await found(store, "bob", "words") == ["first words"]
        assert await found(store, "bob", "second") == await found(store, "ann", "first") == []

    async def test_names_of_files_and_fallback_texts_are_searched(self, store: SearchedStore) -> None:
        await store.search.open()
        await do(store, group("g", "ann"))
        bodies = (
            b'{"bytes":1,"mime":"a/b","name":"word.pdf","type":"FILE","url":"x"}',
            b'{"data":{"text":"word"},"fallbackText":"a word","schema":"s","type":"CUSTOM"}',
            b'{"bytes":1,"mime":"word/word","type":"IMAGE","url":"word"}',
        )
        for n, body in enumerate(bodies):
            await do(store, base.Append("g", "ann", f"k{n}", body, b"mac", NOW + n))

        assert await found(store, "ann", "word") == ["a word", "word.pdf"]

    async def test_an_index_that_was_thrown_away_is_made_again(self, store: SearchedStore) -> None:
        await store.search.open()
        await do(store, group("g", "ann"), send("g", "ann", "k", "word"))
        await index_all(store)
        await store.search.discard()
        await store.search.open()

        assert await found(store, "ann", "word") == ["word"]

    async def test_the_end_is_said_and_pages_are_bounded(self, store: SearchedStore) -> None:
        await store.search.open()
        await do(store, group("g", "ann"), *(send("g", "ann", f"k{n}", "word", NOW + n) for n in range(5)))
        await index_all(store)
        wanted = Wanted("ann", parse_query("word"))
        page = await store.search.candidates(wanted, PLACE_MAX, 3)

        assert (len(page.found), page.examined) == (3, 3)
        assert page.last_place == page.found[-1].place
        assert [it.entry.seq for it in page.found] == [6, 5, 4]
        rest = await store.search.candidates(wanted, page.found[-1].place, 9)
        assert ([it.entry.seq for it in rest.found], rest.last_place) == ([3, 2], None)
