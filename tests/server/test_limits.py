"""The limits of one peer, as a session meets them: what is refused, in which order it comes again, who is closed."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from chatkit.core.rate_limit import Rate
from chatkit.errors import ForbiddenError, NotFoundError, RateLimitedError
from chatkit.server.limits import Limits
from chatkit.storage.base import Append, Created, Done

from .harness import GatedStore, HarnessServer, Peer, group, keys, login, serving, text


def only(**limits: Any) -> Limits:
    """These limits and no other."""
    return Limits(
        **{**{name: getattr(Limits.unlimited(), name) for name in Limits.__struct_fields__}, **limits}
    )


def confirmation(conversation_id: str) -> dict[str, Any]:
    return {"event": "DELIVERED_ACK", "conversationId": conversation_id, "upToSeq": 1}


async def answers(peer: Peer, count: int) -> list[dict[str, Any]]:
    """The next answers, MSG_ACK and ERROR, in the order they come."""
    heard: list[dict[str, Any]] = []
    with anyio.fail_after(5):
        while len(heard) < count:
            heard += [event for event in peer.read() if event["event"] in ("MSG_ACK", "ERROR")]
            await anyio.sleep(0.01)
    return heard


async def test_a_message_too_many_is_refused_with_a_wait_and_holds_back_the_later_ones() -> None:
    async with serving(limits=only(sends_per_user=Rate(10, 2))) as server:
        conversation = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        ann.say(*(text(conversation, f"k{number}") for number in range(4)))
        refused = [it for it in await answers(ann, 4) if it["event"] == "ERROR"]
        await anyio.sleep(refused[0]["retryAfterMs"] / 1000)
        ann.say(text(conversation, "k3"))
        (early,) = await ann.hear("ERROR")
        ann.say(text(conversation, "k2"))
        (ack,) = await ann.hear("MSG_ACK")

    assert [(it["clientMsgId"], it["code"]) for it in refused] == [
        ("k2", "RATE_LIMITED"),
        ("k3", "OVERLOADED"),
    ]
    assert refused[0]["retryable"]
    assert 0 < refused[0]["retryAfterMs"] <= 100
    assert early["code"] == "OVERLOADED"
    assert (ack["clientMsgId"], ack["seq"]) == ("k2", 4)


async def test_the_rate_of_a_user_counts_all_devices_and_the_host_has_none() -> None:
    async with serving(limits=only(sends_per_user=Rate(1, 2))) as server:
        conversation = await group(server, "ann", "ben")
        phone, tablet = await login(server, "ann"), await login(server, "ann", "tablet")
        phone.say(text(conversation, "k0"), text(conversation, "k1"))
        await phone.hear("MSG_ACK", "MSG_ACK")
        tablet.say(text(conversation, "k2"))
        (refused,) = await tablet.hear("ERROR")
        ben = await login(server, "ben")
        ben.say(text(conversation, "k3"))
        await ben.hear("MSG_ACK")
        for number in range(10):
            await server.send(conversation, "ann", "as the host says", client_msg_id=f"h{number}")

    assert refused["code"] == "RATE_LIMITED"


async def test_a_repeat_counts_too_and_gets_its_answer_after_the_wait() -> None:
    async with serving(limits=only(sends_per_user=Rate(10, 1))) as server:
        conversation = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        ann.say(text(conversation, "k0"))
        (first,) = await ann.hear("MSG_ACK")
        ann.say(text(conversation, "k0"))
        (refused,) = await ann.hear("ERROR")
        await anyio.sleep(refused["retryAfterMs"] / 1000)
        ann.say(text(conversation, "k0"))
        (second,) = await ann.hear("MSG_ACK")

    assert refused["code"] == "RATE_LIMITED"
    assert second["seq"] == first["seq"]


async def test_the_limit_of_a_conversation_leaves_others_alone() -> None:
    async with serving(limits=only(sends_per_conversation=Rate(1, 1))) as server:
        busy = await group(server, "ann", "ben")
        other = await group(server, "ann", "ben", conversation_id="g-2")
        ann, ben = await login(server, "ann"), await login(server, "ben")
        ann.say(text(busy, "a"))
        await ann.hear("MSG_ACK")
        ben.say(text(busy, "b"), text(other, "c"))
        heard = await answers(ben, 2)

    assert {it["clientMsgId"]: it["event"] for it in heard} == {"b": "ERROR", "c": "MSG_ACK"}


async def test_events_too_many_are_refused_and_who_goes_on_is_closed_and_finds_no_fresh_budget() -> None:
    async with serving(limits=only(events_per_user=Rate(1, 5))) as server:
        conversation = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        for _ in range(10):
            ann.say({"event": "PING"})
        still_open = ann.session.close_code is None
        codes = [it.get("code") for it in ann.read()]
        ann.say(confirmation(conversation))
        closed_with = await ann.closed()
        ann.leave()
        again = await login(server, "ann")
        again.say({"event": "PING"})
        closed_again_with = await again.closed()

    assert codes == [None] * 5 + ["RATE_LIMITED"] * 5
    assert still_open
    assert (closed_with, closed_again_with) == (4002, 4002)


async def test_what_cannot_be_read_counts_as_an_event() -> None:
    async with serving(limits=only(events_per_user=Rate(1, 3))) as server:
        ann = await login(server, "ann")
        for _ in range(7):
            ann.say({"event": "NO_SUCH_THING"})

        assert await ann.closed() == 4002


@pytest.mark.parametrize("blocked", [False, True])
async def test_who_may_not_write_takes_nothing_from_the_rate_of_a_conversation_over_http(
    blocked: bool,
) -> None:
    async with serving(limits=only(sends_per_conversation=Rate(1, 1))) as server:
        single = server.engine.create("SINGLE", "ann", ("ben",), "c-1")
        conversation = (await server.engine.execute(single, Created)).conversation.conversation_id
        if blocked:
            await server.engine.execute(server.engine.block("ann", "ben"), Done)
        stranger = await server.login.prove("ben" if blocked else "mallory")
        for number in range(3):
            with pytest.raises(ForbiddenError if blocked else NotFoundError):
                await server.engine.send_and_wait(
                    stranger, conversation, f"m{number}", {"type": "TEXT", "text": "x"}
                )
        ann = await server.login.prove("ann")
        await server.engine.send_and_wait(ann, conversation, "k0", {"type": "TEXT", "text": "x"})
        with pytest.raises(RateLimitedError):
            await server.engine.send_and_wait(ann, conversation, "k1", {"type": "TEXT", "text": "x"})


async def test_who_may_not_write_takes_nothing_from_the_rate_of_a_conversation() -> None:
    async with serving(limits=only(sends_per_conversation=Rate(1, 1))) as server:
        conversation = await group(server, "ann", "ben")
        ann, mallory = await login(server, "ann"), await login(server, "mallory")
        codes = []
        for number in range(5):
            mallory.say(text(conversation, f"m{number}"))
            codes += [it["code"] for it in await mallory.hear("ERROR")]
        ann.say(text(conversation, "k0"), text(conversation, "k1"))
        refused, ack = await ann.hear("ERROR", "MSG_ACK")

    assert codes == ["NOT_FOUND"] * 5
    assert (ack["clientMsgId"], refused["clientMsgId"]) == ("k0", "k1")
    assert refused["code"] == "RATE_LIMITED"


async def test_a_send_refused_by_the_budget_of_events_must_come_again_first() -> None:
    async with serving(limits=only(events_per_user=Rate(10, 1))) as server:
        conversation = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        ann.say({"event": "PING"})
        ann.say(text(conversation, "k0"))
        (refused,) = await ann.hear("ERROR")
        await anyio.sleep(0.1)
        ann.say(text(conversation, "k1"))
        (held_back,) = await ann.hear("ERROR")
        await anyio.sleep(0.1)
        ann.say(text(conversation, "k0"))
        (ack,) = await ann.hear("MSG_ACK")

    assert (refused["code"], held_back["code"]) == ("RATE_LIMITED", "OVERLOADED")
    assert ack["clientMsgId"] == "k0"


async def test_one_user_fills_a_share_of_the_queue_and_the_others_have_the_rest() -> None:
    store = GatedStore()
    limits = only(commit_share_per_user=0.25)
    async with serving(store, commit_queue_max=16, commit_batch_max=8, limits=limits) as server:
        conversation = await group(server, "ann", "mallory")
        ann, mallory = await login(server, "ann"), await login(server, "mallory")
        store.batches.clear()
        store.hold()
        mallory.say(text(conversation, "m"))
        await anyio.wait_all_tasks_blocked()
        mallory.say(*(text(conversation, f"m{number}") for number in range(6)))
        ann.say(text(conversation, "a"))
        store.release()
        refused = [it for it in await answers(mallory, 7) if it["event"] == "ERROR"]
        await ann.hear("MSG_ACK")

    assert [it["clientMsgId"] for it in refused] == ["m4", "m5"]
    assert all(it["retryAfterMs"] > 0 for it in refused)
    assert [keys(batch) for batch in store.batches[:3]] == [["m"], ["m0", "m1", "a"], ["m2", "m3"]]


async def test_too_many_pulls_are_refused() -> None:
    async with serving(limits=only(requests_per_user=Rate(1, 2))) as server:
        conversation = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        for _ in range(3):
            ann.say({"event": "SYNC", "conversationId": conversation, "lastSeq": 0})
        (refused,) = await ann.hear("ERROR")

    assert refused["code"] == "RATE_LIMITED"
    assert refused["retryAfterMs"] > 0


async def test_typing_is_limited_for_a_user_over_all_connections() -> None:
    async with serving(limits=only(typing_per_user=Rate(1, 2))) as server:
        conversations = [
            await group(server, "ann", "ben", conversation_id=f"g-{number}") for number in range(3)
        ]
        devices = [await login(server, "ann", f"d-{number}") for number in range(3)]
        codes = []
        for device, conversation in zip(devices, conversations, strict=True):
            device.read()
            device.say({"event": "TYPING", "conversationId": conversation})
            codes.append([it["code"] for it in device.read() if it["event"] == "ERROR"])
        devices[0].say({"event": "TYPING", "conversationId": conversations[1]})
        codes.append([it["code"] for it in devices[0].read() if it["event"] == "ERROR"])

    assert codes == [[], [], ["RATE_LIMITED"], ["RATE_LIMITED"]]


async def test_new_devices_are_limited_and_known_ones_are_not() -> None:
    async with serving(limits=only(new_devices_per_user=Rate(1 / 3600, 2))) as server:
        for device_id in ("phone", "tablet"):
            (await login(server, "ann", device_id)).leave()
        third = Peer(server)
        third.say({"event": "HELLO", "token": "ann", "deviceId": "third"})
        (refused,) = await third.hear("ERROR")
        code = await third.closed()
        (await login(server, "ann", "phone")).leave()
        (await login(server, "ben", "third")).leave()

    assert refused["code"] == "RATE_LIMITED"
    assert refused["retryAfterMs"] > 0
    assert code == 4002


async def test_logins_are_limited_by_token_and_by_resume_token() -> None:
    async with serving(limits=only(logins_per_user=Rate(1, 2))) as server:
        first = Peer(server)
        first.say({"event": "HELLO", "token": "ann", "deviceId": "phone"})
        (welcome,) = await first.hear("WELCOME")
        await login(server, "ann", "tablet")
        by_token = Peer(server)
        by_token.say({"event": "HELLO", "token": "ann", "deviceId": "tablet"})
        (refused,) = await by_token.hear("ERROR")
        resumed = Peer(server)
        resumed.say({"event": "HELLO", "resumeToken": welcome["resumeToken"], "deviceId": "phone"})
        again, sent_away = await resumed.hear("WELCOME", "ERROR")
        codes = [await by_token.closed(), await resumed.closed()]
        resumed.leave()
        await anyio.sleep(1)
        last = Peer(server)
        last.say({"event": "HELLO", "resumeToken": again["resumeToken"], "deviceId": "phone"})
        await last.hear("WELCOME", "HEADS")

    assert [it["code"] for it in (refused, sent_away)] == ["RATE_LIMITED", "RATE_LIMITED"]
    assert codes == [4002, 4002]


async def test_a_slow_reader_holds_two_pages_however_many_it_asks_for() -> None:
    async with serving(page_bytes_max=20_000) as server:
        conversation = await group(server, "ann", "ben")
        await _fill(server, conversation, 40, 1_000)
        ann = await login(server, "ann")
        for _ in range(100):
            ann.say({"event": "SYNC", "conversationId": conversation, "lastSeq": 0})
        await anyio.wait_all_tasks_blocked()
        held = ann.session.buffered_bytes
        pages = await ann.hear(*["SYNC_PAGE"] * 100)

    assert 20_000 < held < 60_000
    assert len(pages) == 100


async def _fill(server: HarnessServer, conversation_id: str, count: int, size: int) -> None:
    for number in range(count):
        payload = b'{"text":"%s","type":"TEXT"}' % (b"x" * size)
        await server.store.commit([Append(conversation_id, "ben", f"f{number}", payload, b"", 1)])


@pytest.mark.parametrize("field", list(Limits.__struct_fields__))
def test_unlimited_has_no_limit_in_any_field(field: str) -> None:
    value, default = getattr(Limits.unlimited(), field), getattr(Limits(), field)

    assert value is None or value == 1.0 or value > 1_000_000
    assert value != default
