"""Entering, leaving, failing and draining: nobody is left waiting and the store is always closed."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest

from chatkit.bus.local import LocalBus
from chatkit.errors import BadRequestError, ConfigurationError, UnavailableError
from chatkit.storage.base import Created
from chatkit.wire.codec import Codec, CodecName

from .harness import GatedStore, HarnessServer, by_name, group, login, serving, text


class ClosingStore(GatedStore):
    """Remembers that it was closed."""

    closed = False

    async def aclose(self) -> None:
        self.closed = True
        await super().aclose()


class UnreadableStore(ClosingStore):
    """Opens, and then refuses the first read."""

    def __init__(self, fault: Exception) -> None:
        super().__init__()
        self._fault = fault

    async def membership_changes(self, after: int | None, limit: int) -> Any:
        raise self._fault


class UnmigratedStore(ClosingStore):
    """Cannot be opened, or not before the end of time."""

    def __init__(self, fault: Exception | None) -> None:
        super().__init__()
        self._fault = fault

    async def migrate(self) -> bytes:
        if self._fault is None:
            await anyio.sleep_forever()
        raise self._fault or AssertionError


class BrokenCodec(Codec):
    """Fails on every answer to a send."""

    def __init__(self, name: CodecName) -> None:
        super().__init__(name)
        self.encode = self._fail

    def _fail(self, event: object) -> bytes:
        raise LookupError("this codec is broken")


async def test_a_server_that_is_not_running_refuses_at_once() -> None:
    server = HarnessServer(store=GatedStore(), authenticate=by_name)
    create = server.engine.create("GROUP", "ann", ("ben",))
    with pytest.raises(UnavailableError, match="async with server"):
        await server.engine.execute(create, Created)
    async with server:
        await server.engine.execute(create, Created)
    with pytest.raises(UnavailableError):
        await server.engine.execute(create, Created)


async def test_leaving_by_cancellation_drains_and_closes_the_store() -> None:
    store = ClosingStore()
    with anyio.move_on_after(1):
        async with serving(store):
            await anyio.sleep_forever()

    assert store.closed


async def test_leaving_by_an_error_closes_the_store_and_lets_the_error_out() -> None:
    store = ClosingStore()
    with pytest.raises(LookupError):
        async with serving(store):
            raise LookupError("the host failed")

    assert store.closed


async def test_a_start_that_fails_closes_store_and_bus() -> None:
    store, bus = UnreadableStore(LookupError("no such table")), LocalBus().join()
    bus.subscribe("a")
    server = HarnessServer(store=store, authenticate=by_name, bus=bus)
    with pytest.raises(LookupError, match="no such table"):
        await server.__aenter__()

    assert store.closed
    assert not bus.listens("a"), "it has left"
    assert not server.running


async def test_a_start_that_is_cancelled_closes_store_and_bus() -> None:
    store, bus = UnreadableStore(UnavailableError("the disk refuses", retry_after_s=0.5)), LocalBus().join()
    bus.subscribe("a")
    with anyio.move_on_after(5) as waiting:
        async with HarnessServer(store=store, authenticate=by_name, bus=bus):
            raise AssertionError("storage never answers")

    assert waiting.cancelled_caught
    assert store.closed
    assert not bus.listens("a")


async def test_a_store_that_cannot_be_opened_is_closed_and_the_bus_left() -> None:
    store, bus = UnmigratedStore(ConfigurationError("a newer version")), LocalBus().join()
    bus.subscribe("a")
    with pytest.raises(ConfigurationError, match="a newer version"):
        await HarnessServer(store=store, authenticate=by_name, bus=bus).__aenter__()

    assert store.closed
    assert not bus.listens("a")


async def test_opening_the_store_may_be_cancelled() -> None:
    store, bus = UnmigratedStore(None), LocalBus().join()
    bus.subscribe("a")
    with anyio.move_on_after(5) as waiting:
        await HarnessServer(store=store, authenticate=by_name, bus=bus).__aenter__()

    assert waiting.cancelled_caught
    assert store.closed
    assert not bus.listens("a")


async def test_a_fault_after_a_commit_costs_one_session_only(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as server:
        conversation = await group(server, "ann", "ben", "cat")
        ann, ben, cat = [await login(server, name) for name in ("ann", "ben", "cat")]

        ann.session.codec = BrokenCodec("json")
        ann.say(text(conversation, "k1"))
        cat.say(text(conversation, "k2"))
        await cat.hear("MSG_ACK")

        assert ann.session.close_code == 4002
        assert ben.session.close_code is None
        assert "this codec is broken" in caplog.text


async def test_two_drains_at_once_both_end() -> None:
    store = GatedStore()
    async with serving(store) as server:
        conversation = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        store.hold()
        ann.say(text(conversation, "k1"))
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.drain)
            tasks.start_soon(server.drain)
            await anyio.wait_all_tasks_blocked()
            ann.say(text(conversation, "k2"))
            (refused,) = await ann.hear("ERROR")
            store.release()
            await ann.hear("MSG_ACK")
            await ann.closed()
            ann.leave()
            began_s = anyio.current_time()
        took_s = anyio.current_time() - began_s

    assert (refused["code"], refused["retryable"]) == ("UNAVAILABLE", True)
    assert took_s < 1


async def test_readiness_comes_back_by_itself_once_storage_does() -> None:
    store = GatedStore()
    async with serving(store) as server:
        conversation = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        store.break_for(2)
        ann.say(text(conversation, "k1"))
        await ann.hear("ERROR")
        before = server.ready
        await anyio.sleep(5)

        assert (before, server.ready) == (False, True)


async def test_what_a_host_gives_is_held_to_the_contract() -> None:
    async with serving() as server:
        with pytest.raises(BadRequestError):
            await server.create_conversation("SINGLE", "ann lee", ["ben"])
        with pytest.raises(BadRequestError):
            await server.send("a/b", "ann", "hello", client_msg_id="k")
        with pytest.raises(BadRequestError):
            await server.send("c-1", "ann", "hello", client_msg_id="")


@pytest.mark.parametrize("bad", ["a/b", "", "\ud800", "x" * 129])
async def test_every_id_a_host_gives_is_held_to_the_contract(bad: str) -> None:
    store = GatedStore()
    async with serving(store) as server:
        await group(server, "ann", "ben")
        committed = len(store.batches)
        for call in (
            partial(server.create_conversation, "GROUP", bad, ["ben"]),
            partial(server.create_conversation, "GROUP", "ann", ["ben", bad]),
            partial(server.create_conversation, "GROUP", "ann", ["ben"], conversation_id=bad),
            partial(server.send, bad, "ann", "hello", client_msg_id="k"),
            partial(server.send, "g-1", bad, "hello", client_msg_id="k"),
            partial(server.add_members, bad, "ann", ["cat"]),
            partial(server.add_members, "g-1", bad, ["cat"]),
            partial(server.add_members, "g-1", "ann", ["cat", bad]),
            partial(server.remove_member, bad, "ann", "ben"),
            partial(server.remove_member, "g-1", bad, "ben"),
            partial(server.remove_member, "g-1", "ann", bad),
            partial(server.renew_epoch, bad),
        ):
            with pytest.raises(BadRequestError):
                await call()

        assert len(store.batches) == committed
