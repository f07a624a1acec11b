"""Several nodes on one log: what crosses by the bus, what is found without them, and what never happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from chatkit.bus.base import BusEvent
from chatkit.bus.local import LocalMember
from chatkit.errors import UnavailableError
from chatkit.server.cluster.messages import topic_of
from chatkit.storage.base import Advanced, Appended, Done, MembersChanged
from chatkit.wire.codec import MSGPACK

from .harness import HarnessServer, Peer, group, login, text
from .nodes import Cluster, after, at_once, cluster, never, node, seqs, wild

SOON_S = 0.2
POLL_S = 5.0


@pytest.fixture(params=["memory", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def two(kind: str) -> AsyncIterator[Cluster]:
    async with cluster(kind) as made:
        yield made


async def sent(server: HarnessServer, conversation_id: str, sender: str, key: str) -> int:
    """Send by HTTP, as it were; returns the seq."""
    return (await server.send(conversation_id, sender, key, client_msg_id=key)).seq


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in events]


# --- by the bus ---


async def test_a_new_title_reaches_who_is_online_elsewhere(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben")
    ben = await login(b, "ben")
    await a.set_title(conversation, "new", by="ann")
    heard = await after(POLL_S, ben)

    assert kinds(heard) == ["NEW_MSG", "CONVERSATION"]
    assert heard[0]["payload"] == {"type": "TITLE", "title": "new"}
    assert heard[1]["change"] == "UPDATED"


async def test_a_mute_reaches_the_users_devices_on_all_nodes_and_nobody_else(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben")
    phone, laptop, ben = await login(a, "ann"), await login(b, "ann", "laptop"), await login(b, "ben")
    await a.engine.execute(a.engine.mute(conversation, "ann", 5_000), Done)
    heard = await after(POLL_S, laptop)

    assert [(it["event"], it["change"], "title" in it) for it in heard] == [
        ("CONVERSATION", "UPDATED", False)
    ]
    assert kinds(phone.read()) == ["CONVERSATION"]
    assert await after(POLL_S, ben) == []


async def test_a_message_reaches_the_other_node_once(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben")
    ann, ben = await login(a, "ann"), await login(b, "ben", codec=MSGPACK)
    ann.say(text(conversation, "k1"))
    (pushed,) = await ben.hear("NEW_MSG")
    heard = await after(POLL_S, ann)

    assert (pushed["seq"], pushed["senderId"], pushed["payload"]["text"]) == (2, "ann", "hello")
    assert "clientMsgId" not in pushed
    assert kinds(heard) == ["MSG_ACK"], "who sent it gets no push"
    assert await after(POLL_S, ben) == []


async def test_the_senders_other_device_on_the_other_node_learns_the_key(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben")
    phone, laptop = await login(a, "ann"), await login(b, "ann", "laptop")
    phone.say(text(conversation, "k1"))
    (pushed,) = await laptop.hear("NEW_MSG")

    assert (pushed["seq"], pushed["clientMsgId"]) == (2, "k1")


async def test_many_messages_from_both_nodes_reach_everybody_in_order(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben")
    ann, ben = await login(a, "ann"), await login(b, "ben")
    watch_a, watch_b = await login(a, "ann", "tablet"), await login(b, "ben", "tablet")
    for number in range(50):
        ann.say(text(conversation, f"a{number}"))
        ben.say(text(conversation, f"b{number}"))
        await anyio.sleep(0.001 * (number % 3))
    await anyio.sleep(SOON_S)

    whole = list(range(2, 102))
    assert seqs(watch_a.read(), conversation) == seqs(watch_b.read(), conversation) == whole
    for peer in (ann, ben):
        events = peer.read()
        acked = [event["seq"] for event in events if event["event"] == "MSG_ACK"]
        pushed = seqs(events, conversation)
        assert pushed == sorted(pushed)
        assert sorted(acked + pushed) == whole, "each seq by its ack or by a push, never by both"


async def test_a_large_message_crosses_too(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben")
    ann, ben = await login(a, "ann"), await login(b, "ben")
    ann.say(text(conversation, "k1", "x" * 50_000))

    assert [len(it["payload"]["text"]) for it in await after(SOON_S, ben)] == [50_000]


async def test_who_reads_gets_many_large_messages_from_elsewhere_and_is_not_told_to_pull(
    two: Cluster,
) -> None:
    """They are read from the log, a page at a time, which is more than a session's send buffer holds."""
    a, b = two.nodes
    conversation = await group(a, "ann", "ben")
    ben = await login(b, "ben")
    for number in range(60):
        await a.send(conversation, "ann", "x" * 50_000, client_msg_id=f"k{number}")
    heard = [(await ben.hear("NEW_MSG"))[0]["seq"] for _ in range(60)]

    assert heard == list(range(2, 62))
    assert "BEHIND" not in kinds(await after(POLL_S, ben))


async def test_receipts_and_typing_cross(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben")
    ann, ben, tablet = await login(a, "ann"), await login(b, "ben"), await login(a, "ben", "tablet")
    ann.say(text(conversation, "k1"))
    await ben.hear("NEW_MSG")
    ben.say({"event": "DELIVERED_ACK", "conversationId": conversation, "upToSeq": 2})
    (delivered,) = await ann.hear("RECEIPT")
    ben.say({"event": "READ", "conversationId": conversation, "upToSeq": 2})
    (read,) = await ann.hear("RECEIPT")
    await tablet.hear("RECEIPT", "RECEIPT")
    ben.say({"event": "TYPING", "conversationId": conversation})
    (typing,) = await ann.hear("TYPING")

    assert (delivered["userId"], delivered["deliveredSeq"], delivered["readSeq"]) == ("ben", 2, 0)
    assert (read["deliveredSeq"], read["readSeq"]) == (2, 2)
    assert typing["userId"] == "ben"
    assert "TYPING" not in kinds(await after(SOON_S, tablet)), "one's own devices are not told"
    assert kinds(ben.read()) == []


@pytest.mark.parametrize(("delays_s", "told"), [((1.0, 0.5), [3, 3]), ((0.5, 1.0), [2, 3])])
async def test_a_receipt_that_comes_late_never_says_less_than_what_was_told(
    two: Cluster, delays_s: tuple[float, float], told: list[int]
) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben")
    ann, ben = await login(a, "ann"), await login(b, "ben")
    ann.say(text(conversation, "k1"), text(conversation, "k2"))
    await ben.hear("NEW_MSG", "NEW_MSG")
    for up_to_seq, delay_s in zip((2, 3), delays_s, strict=True):
        two.bus.fate = lambda member, message, delay_s=delay_s: (delay_s,)  # type: ignore[misc]
        ben.say({"event": "READ", "conversationId": conversation, "upToSeq": up_to_seq})
        await anyio.sleep(0.1)
    anns = await after(2.0, ann)

    assert [it["readSeq"] for it in anns if it["event"] == "RECEIPT"] == told


async def test_a_receipt_that_comes_late_never_says_less_than_the_listing(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben")
    ann, ben = await login(a, "ann"), await login(b, "ben")
    ann.say(text(conversation, "k1"), text(conversation, "k2"))
    await ben.hear("NEW_MSG", "NEW_MSG")
    two.bus.fate = lambda member, message: (1.0,)
    for up_to_seq in (2, 3):
        ben.say({"event": "READ", "conversationId": conversation, "upToSeq": up_to_seq})
        await anyio.sleep(0.1)
    tablet = Peer(a)
    tablet.say({"event": "HELLO", "token": "ben", "deviceId": "tablet"})
    (heads,) = await tablet.hear("HEADS")
    heard = await after(2.0, tablet)

    assert heads["conversations"][0]["readSeq"] == 3
    assert [it["readSeq"] for it in heard if it["event"] == "RECEIPT"] == [3, 3]


async def test_in_a_large_group_the_counts_reach_an_author_on_another_node(two: Cluster) -> None:
    a, b = two.nodes
    users = [f"u{number:03}" for number in range(120)]
    conversation = await group(a, "ann", *users)
    ann, reader = await login(a, "ann"), await login(b, users[0])
    ann.say(text(conversation, "k1"))
    await reader.hear("NEW_MSG")
    reader.say({"event": "READ", "conversationId": conversation, "upToSeq": 2})
    (counts,) = await ann.hear("RECEIPT")

    assert "userId" not in counts
    assert (counts["seq"], counts["deliveredCount"], counts["readCount"], counts["memberCount"]) == (
        2,
        1,
        1,
        120,
    )


async def test_a_recall_crosses_and_a_page_has_the_tombstone(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben")
    ann, ben = await login(a, "ann"), await login(b, "ben")
    ann.say(text(conversation, "k1", "secret"))
    (ack,) = await ann.hear("MSG_ACK")
    await ben.hear("NEW_MSG")
    ann.say({"event": "RECALL", "messageId": ack["messageId"]})
    (recall,) = await ben.hear("NEW_MSG")
    ben.say({"event": "SYNC", "conversationId": conversation, "lastSeq": 1})
    (page,) = await ben.hear("SYNC_PAGE")

    assert recall["payload"] == {"type": "RECALL", "messageId": ack["messageId"], "seq": 2, "by": "ann"}
    assert [it["payload"]["type"] for it in page["messages"]] == ["RECALLED", "RECALL"]


async def test_a_recalled_body_is_not_pushed_by_a_node_that_missed_it(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben")
    ann, ben = await login(a, "ann"), await login(b, "ben")
    two.bus.fate = never
    ann.say(text(conversation, "k1", "secret"))
    (ack,) = await ann.hear("MSG_ACK")
    ann.say({"event": "RECALL", "messageId": ack["messageId"]})
    heard = await after(POLL_S, ben)

    assert seqs(heard, conversation) == [2, 3]
    assert "secret" not in str(heard)


# --- memberships ---


async def test_a_single_made_on_one_node_is_known_on_the_other(two: Cluster) -> None:
    a, b = two.nodes
    ann, ben = await login(a, "ann"), await login(b, "ben")
    made = await a.create_conversation("SINGLE", "ann", ["ben"])
    told, behind = await ben.hear("CONVERSATION", "BEHIND")
    ann.say(text(made.conversation_id, "k1"))
    (pushed,) = await ben.hear("NEW_MSG")

    assert (told["conversationId"], told["type"], told["change"]) == (
        made.conversation_id,
        "SINGLE",
        "CREATED",
    )
    assert (behind["headSeq"], pushed["seq"]) == (1, 2)


async def test_who_is_added_on_one_node_is_let_in_on_the_other(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben")
    ben, cat, dan = await login(b, "ben"), await login(b, "cat"), await login(b, "dan")
    await sent(a, conversation, "ann", "before")
    await a.add_members(conversation, "ann", ["cat", "dan"])
    await sent(a, conversation, "ann", "after")
    heard = await after(SOON_S, cat)

    assert seqs(await after(0, ben), conversation) == [2, 3, 4]
    assert [it["change"] for it in heard if it["event"] == "CONVERSATION"] == ["JOINED"]
    assert seqs(heard, conversation) == [3, 4]
    assert seqs(dan.read(), conversation) == [3, 4]


async def test_who_is_removed_on_one_node_hears_nothing_more_on_the_other(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben", "cat")
    ben, cat = await login(b, "ben"), await login(b, "cat")
    await sent(a, conversation, "ann", "k1")
    await a.remove_member(conversation, "ann", "ben")
    await sent(a, conversation, "ann", "k2")
    heard = await after(SOON_S, ben)

    assert seqs(heard, conversation) == [2]
    assert heard[-1]["event"] == "CONVERSATION" and heard[-1]["change"] == "LEFT"
    assert seqs(cat.read(), conversation) == [2, 3, 4]
    ben.say(text(conversation, "k3"))
    (refused,) = await ben.hear("ERROR")
    assert refused["code"] == "NOT_FOUND"


async def test_a_removal_is_applied_before_a_later_entry_though_its_bus_message_was_lost(
    two: Cluster,
) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben", "cat")
    ben, cat = await login(b, "ben"), await login(b, "cat")
    two.bus.fate = never
    await sent(a, conversation, "ann", "k1")
    await a.remove_member(conversation, "ann", "ben")
    await sent(a, conversation, "ann", "k2")
    two.bus.fate = at_once
    await sent(a, conversation, "ann", "k3")  # the only one that is heard of
    heard = await after(SOON_S, ben)

    assert seqs(heard, conversation) == [2]
    assert heard[-1]["event"] == "CONVERSATION" and heard[-1]["change"] == "LEFT"
    assert seqs(cat.read(), conversation) == [2, 3, 4, 5]


async def test_one_who_was_removed_gets_no_receipt_about_what_came_after(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben", "cat")
    ben, cat = await login(b, "ben"), await login(b, "cat")
    for author in (ben, cat):
        author.say(text(conversation, "k1"))
        await author.hear("MSG_ACK")
    two.bus.fate = never
    await a.remove_member(conversation, "ann", "ben")
    last = await sent(a, conversation, "ann", "k2")
    two.bus.fate = at_once
    await a.engine.execute(a.engine.advance_read(conversation, "ann", last), Advanced)
    heard, cats = await after(SOON_S, ben), cat.read()

    assert "RECEIPT" not in kinds(heard)
    assert [it["readSeq"] for it in cats if it["event"] == "RECEIPT"] == [last], "it waited for the entries"


async def test_leaving_and_coming_back_between_two_looks(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben")
    ben = await login(b, "ben")
    two.bus.fate = never
    await a.remove_member(conversation, "ann", "ben")
    await sent(a, conversation, "ann", "unseen")
    await a.add_members(conversation, "ann", ["ben"])
    await sent(a, conversation, "ann", "seen")
    heard = await after(POLL_S, ben)
    two.bus.fate = at_once
    await sent(a, conversation, "ann", "later")

    assert 3 not in seqs(heard, conversation)
    assert [it["change"] for it in heard if it["event"] == "CONVERSATION"] == ["LEFT", "JOINED"]
    assert seqs(await after(SOON_S, ben), conversation) == [6]


# --- without the bus ---


@pytest.mark.parametrize("gone", ["ben", "cat", "dan"])
async def test_of_several_who_joined_elsewhere_one_who_left_costs_the_others_nothing(
    two: Cluster, gone: str
) -> None:
    """The word that they joined comes late, and the word that one left not at all."""
    a, b = two.nodes
    conversation = await group(a, "ann")
    joined = {name: await login(b, name) for name in ("ben", "cat", "dan")}
    two.bus.fate = lambda member, message: [0.2]
    await a.add_members(conversation, "ann", list(joined))
    two.bus.fate = never
    await a.remove_member(conversation, "ann", gone)
    await sent(a, conversation, "ann", "k1")
    await anyio.sleep(0.2 + SOON_S)

    heard = {name: peer.read() for name, peer in joined.items()}
    assert [it for it in heard.pop(gone) if it["event"] == "CONVERSATION"] == []
    for events in heard.values():
        assert [it["change"] for it in events if it["event"] == "CONVERSATION"] == ["JOINED"]
        assert "BEHIND" in kinds(events) or seqs(events, conversation)


async def test_what_was_written_while_one_was_let_in_is_not_missed(kind: str) -> None:
    async with cluster(kind, heads_check_s=1000.0) as two:
        a, b = two.nodes
        ben = await login(b, "ben")
        read = two.store.inner.conversation

        async def then_write(conversation_id: str, user_id: str) -> Any:
            found = await read(conversation_id, user_id)
            await sent(a, conversation_id, "ann", "k1")
            return found

        two.store.conversation = then_write  # type: ignore[attr-defined]
        await a.create_conversation("SINGLE", "ann", ["ben"])

        assert [it["headSeq"] for it in await after(SOON_S, ben) if it["event"] == "BEHIND"] == [2]


async def test_with_all_bus_messages_lost_everything_comes_by_looking(two: Cluster) -> None:
    a, b = two.nodes
    two.bus.fate = never
    conversation = await group(a, "ann", "ben")
    ben, cat = await login(b, "ben"), await login(b, "cat")
    await sent(a, conversation, "ann", "k1")
    assert seqs(await after(POLL_S, ben), conversation) == [2]

    await a.add_members(conversation, "ann", ["cat"])
    heard = await after(POLL_S, cat)
    assert [it["change"] for it in heard if it["event"] == "CONVERSATION"] == ["JOINED"]
    assert seqs(await after(0, ben), conversation) == [3]

    await a.remove_member(conversation, "ann", "ben")
    await sent(a, conversation, "ann", "k2")
    assert kinds(await after(POLL_S, ben)) == ["CONVERSATION"]
    assert seqs(await after(0, cat), conversation)[-1] == 5

    made = await a.create_conversation("SINGLE", "ann", ["cat"])
    heard = await after(POLL_S, cat)
    assert [it["change"] for it in heard if it["event"] == "CONVERSATION"] == ["CREATED"]
    assert [it["conversationId"] for it in heard if it["event"] == "BEHIND"] == [made.conversation_id]


async def test_when_the_bus_may_have_lost_something_the_log_is_asked_at_once(two: Cluster) -> None:
    a, b = two.nodes
    two.bus.fate = never
    conversation = await group(a, "ann", "ben")
    ben = await login(b, "ben")
    await anyio.sleep(3.1)  # just after a look
    await sent(a, conversation, "ann", "k1")
    await a.create_conversation("SINGLE", "ann", ["ben"])
    assert seqs(await after(0.1, ben), conversation) == []
    two.bus.members[1].lose()
    heard = await after(0.1, ben)

    assert seqs(heard, conversation) == [2]
    assert [it["change"] for it in heard if it["event"] == "CONVERSATION"] == ["CREATED"]


async def test_a_reader_too_slow_for_the_bus_looks_at_the_log(kind: str) -> None:
    async with cluster(kind, queue_max=3) as two:
        a, b = two.nodes
        names = [await group(a, "ann", "ben", conversation_id=f"g-{number}") for number in range(20)]
        ben = await login(b, "ben")
        ann = await login(a, "ann")
        ann.say(*(text(name, "k") for name in names))
        heard = await after(SOON_S, ben)

        assert [seqs(heard, name) for name in names] == [[2]] * 20


async def test_a_conversation_joined_elsewhere_can_be_pulled_before_this_node_knows(two: Cluster) -> None:
    a, b = two.nodes
    two.bus.fate = never
    ben = await login(b, "ben")
    made = await a.create_conversation("SINGLE", "ben", ["ann"])
    ben.say({"event": "SYNC", "conversationId": made.conversation_id, "lastSeq": 0})
    heard = await after(SOON_S, ben)
    (page,) = [it for it in heard if it["event"] == "SYNC_PAGE"]

    assert [it["seq"] for it in page["messages"]] == [1]
    assert kinds(heard)[0] == "CONVERSATION", "who pulls it hears first that they joined"
    assert sorted(kinds(heard)) == ["BEHIND", "CONVERSATION", "SYNC_PAGE"], "and now this node knows"


async def test_who_came_back_before_this_node_knows_hears_that_before_the_page(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben", "cat")
    ben, _ = await login(b, "ben"), await login(b, "cat")
    held = HeldAnswers(two, b)
    async with anyio.create_task_group() as tasks:
        await a.remove_member(conversation, "ann", "ben")
        await ben.hear("CONVERSATION")
        tasks.start_soon(b.add_members, conversation, "ann", ["ben"])
        await held.stored.wait()
        ben.say({"event": "SYNC", "conversationId": conversation, "lastSeq": 1})
        heard = await after(SOON_S, ben)
        held.release.set()
    (page,) = [it for it in heard if it["event"] == "SYNC_PAGE"]

    assert (heard[0]["event"], heard[0]["change"]) == ("CONVERSATION", "JOINED")
    assert [it["seq"] for it in page["messages"]] == [3]
    assert sorted(kinds(heard)) == ["BEHIND", "CONVERSATION", "SYNC_PAGE"]
    assert await after(SOON_S, ben) == [], "and hears it once"


async def test_one_can_write_to_it_and_then_hears_the_answers(two: Cluster) -> None:
    a, b = two.nodes
    two.bus.fate = never
    ben = await login(b, "ben")
    made = await a.create_conversation("SINGLE", "ben", ["ann"])
    two.bus.fate = at_once
    ben.say(text(made.conversation_id, "k1"))
    await ben.hear("MSG_ACK")
    await after(SOON_S, ben)
    await sent(a, made.conversation_id, "ann", "k2")

    assert seqs(await after(SOON_S, ben), made.conversation_id) == [3]


# --- order ---


async def test_bus_messages_doubled_and_shuffled_come_in_order_and_once(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben")
    ann, ben = await login(a, "ann"), await login(b, "ben")
    two.bus.fate = wild(7, lost=0.0, doubled=0.7)
    for number in range(60):
        ann.say(text(conversation, f"k{number}"))
        await anyio.sleep(0.01)

    assert seqs(await after(1.0, ben), conversation) == list(range(2, 62))


async def test_an_own_commit_waits_for_the_others_entry_that_is_not_known_yet(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben")
    ann, tablet, ben = await login(a, "ann"), await login(a, "ann", "tablet"), await login(b, "ben")
    two.bus.fate = never
    ben.say(text(conversation, "b1"))
    await ben.hear("MSG_ACK")
    ann.say(text(conversation, "a1"))
    await ann.hear("MSG_ACK")
    ann.say(text(conversation, "a2"))
    heard, others = await after(SOON_S, ann), tablet.read()

    assert seqs(heard, conversation) == [2], "not the own ones, though they waited"
    assert seqs(others, conversation) == [2, 3, 4]
    assert [it.get("clientMsgId") for it in others if it["event"] == "NEW_MSG"] == [None, "a1", "a2"]


async def test_an_own_entry_read_from_the_log_before_its_answer_is_no_push(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben")
    ann, ben = await login(a, "ann"), await login(b, "ben")
    held = HeldAnswers(two, a)
    ann.say(text(conversation, "a1"))
    await held.stored.wait()
    ben.say(text(conversation, "b1"))  # its bus message shows the other node that something is missing
    first = await after(SOON_S, ann)
    held.release.set()
    then = await after(SOON_S, ann)

    assert seqs(first, conversation) == [3]
    assert [(it["event"], it["seq"]) for it in then] == [("MSG_ACK", 2)]


class HeldAnswers:
    """The next commit of a node is stored, and its outcome comes later."""

    def __init__(self, made: Cluster, node: HarnessServer) -> None:
        self.stored = anyio.Event()
        self.release = anyio.Event()
        self._store = made.store
        node._committer._store = self  # type: ignore[assignment]

    async def commit(self, commands: Any) -> Any:
        outcomes = await self._store.commit(commands)
        self.stored.set()
        await self.release.wait()
        return outcomes


async def test_a_login_that_was_overtaken_misses_nothing_and_nothing_twice(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben", "cat")
    other = await login(b, "cat")
    held = HeldAnswers(two, b)
    late = Peer(b)
    late.say({"event": "HELLO", "token": "ben", "deviceId": "phone"})
    await held.stored.wait()  # ben is a member up to here
    await sent(a, conversation, "ann", "k1")
    assert seqs(await after(SOON_S, other), conversation) == [2]
    held.release.set()
    heard = await after(SOON_S, late)
    await sent(a, conversation, "ann", "k2")

    told = [head["headSeq"] for it in heard if it["event"] == "HEADS" for head in it["conversations"]]
    assert (told, seqs(heard, conversation)) in (([2], []), ([2], [2]))
    assert seqs(await after(SOON_S, late), conversation) == [3]
    assert seqs(other.read(), conversation) == [3]


async def test_a_login_that_was_overtaken_by_its_removal_gets_nothing_after_it(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben", "cat")
    other = await login(b, "cat")
    held = HeldAnswers(two, b)
    late = Peer(b)
    late.say({"event": "HELLO", "token": "ben", "deviceId": "phone"})
    await held.stored.wait()
    await a.remove_member(conversation, "ann", "ben")
    await sent(a, conversation, "ann", "k1")
    assert seqs(await after(SOON_S, other), conversation) == [2, 3]
    held.release.set()
    await sent(a, conversation, "ann", "k2")
    heard = await after(POLL_S, late)

    assert seqs(heard, conversation) == []
    assert [it["change"] for it in heard if it["event"] == "CONVERSATION"] == ["LEFT"]
    assert seqs(other.read(), conversation) == [4]


async def test_a_login_that_was_overtaken_by_its_joining_gets_in(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "cat")
    await login(b, "cat")
    held = HeldAnswers(two, b)
    late = Peer(b)
    late.say({"event": "HELLO", "token": "ben", "deviceId": "phone"})
    await held.stored.wait()
    await a.add_members(conversation, "ann", ["ben"])
    await anyio.sleep(POLL_S)  # the change was looked at, and nobody of ben's was here
    held.release.set()
    heard = await after(SOON_S, late)
    await sent(a, conversation, "ann", "k1")

    assert [it["change"] for it in heard if it["event"] == "CONVERSATION"] == ["JOINED"]
    assert seqs(await after(SOON_S, late), conversation) == [3]


async def test_a_read_that_storage_refuses_is_repeated_until_it_answers(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben")
    ben = await login(b, "ben")
    two.bus.fate = never
    await sent(a, conversation, "ann", "k1")
    two.bus.fate = at_once
    two.store.refused_reads = 3
    await sent(a, conversation, "ann", "k2")

    assert seqs(await after(1.0, ben), conversation) == []
    assert seqs(await after(6.0, ben), conversation) == [2, 3]


async def test_a_node_waits_with_its_start_until_storage_answers(two: Cluster) -> None:
    a, _ = two.nodes
    read, refusals = two.store.inner.membership_changes, [True, True]

    async def refusing(after_id: int | None, limit: int) -> Any:
        if refusals and refusals.pop():
            raise UnavailableError("the disk refuses", retry_after_s=0.5)
        return await read(after_id, limit)

    two.store.membership_changes = refusing  # type: ignore[attr-defined]
    two.bus.fate = never
    async with node(two.store, two.bus.join()) as c:
        ben = await login(c, "ben")
        refusals.append(True)  # the first look, too
        await a.create_conversation("SINGLE", "ann", ["ben"])
        heard = await after(POLL_S, ben)

    assert refusals == []
    assert kinds(heard) == ["CONVERSATION", "BEHIND"]


async def test_a_log_that_cannot_be_read_holds_no_other_up(two: Cluster) -> None:
    a, b = two.nodes
    damaged, sound = [await group(a, "ann", "ben", conversation_id=name) for name in ("g-1", "g-2")]
    ben = await login(b, "ben")
    read = two.store.inner.entries

    async def refusing(conversation_id: str, after_seq: int, limit: int) -> Any:
        if conversation_id == damaged:
            raise UnavailableError("a body is not JSON", retry_after_s=1.0)
        return await read(conversation_id, after_seq, limit)

    two.store.entries = refusing  # type: ignore[method-assign]
    for turn in range(10):
        two.bus.fate = never
        for name in (damaged, sound):
            await sent(a, name, "ann", f"lost {turn}")
        two.bus.fate = at_once
        for name in (damaged, sound):
            await sent(a, name, "ann", f"heard {turn}")
        assert seqs(await after(0.1, ben), sound) == [2 * turn + 2, 2 * turn + 3]
    two.store.entries = read  # type: ignore[method-assign]
    assert seqs(await after(2.0, ben), damaged) == list(range(2, 22))


async def test_a_commit_whose_answer_was_lost_is_found_by_the_next_one(kind: str) -> None:
    async with cluster(kind, 1) as made:
        (node,) = made.nodes
        conversation = await group(node, "ann", "ben")
        ben = await login(node, "ben")
        command = node.engine.append(conversation, "ann", "k1", {"type": "TEXT", "text": "one"})
        await made.store.commit([command])
        await sent(node, conversation, "ann", "k2")
        assert seqs(await after(SOON_S, ben), conversation) == [2, 3]

        again = (await node.engine.execute(command, Appended)).entry
        assert again.seq == 2
        assert seqs(await after(SOON_S, ben), conversation) == []


# --- devices, epochs, the bus itself ---


async def test_a_newer_session_of_the_device_on_another_node_closes_the_older(two: Cluster) -> None:
    a, b = two.nodes
    old, tablet = await login(b, "ann"), await login(b, "ann", "tablet")
    new = await login(a, "ann")

    assert await old.closed() == 4201
    await anyio.sleep(SOON_S)
    assert new.session.close_code is tablet.session.close_code is None


async def test_it_is_closed_though_the_bus_message_was_lost(kind: str) -> None:
    async with cluster(kind, heartbeat_s=10.0) as two:
        a, b = two.nodes
        two.bus.fate = never
        old = await login(b, "ann")
        new = await login(a, "ann")
        await anyio.sleep(11)

        assert await old.closed() == 4201
        assert new.session.close_code is None


async def test_late_and_repeated_bus_messages_of_a_device_close_nothing_newer(two: Cluster) -> None:
    a, b = two.nodes
    two.bus.fate = lambda member, message: (1.0, 2.0, 3.0)
    first = await login(a, "ann")
    second = await login(b, "ann")
    third = await login(a, "ann")
    await anyio.sleep(4.0)

    assert (await first.closed(), await second.closed()) == (4201, 4201)
    assert third.session.close_code is None


async def test_a_session_that_opens_while_the_store_is_asked_is_not_closed(two: Cluster) -> None:
    _, b = two.nodes
    old = await login(b, "ann")
    reads: list[Peer] = []

    async def then_open(devices: Any) -> Any:
        found = await two.store.inner.resume_hashes(devices)
        if not reads:
            reads.append(await login(b, "ann"))
        return found

    two.store.resume_hashes = then_open  # type: ignore[attr-defined]
    two.bus.members[1].lose()
    await anyio.sleep(SOON_S)

    assert await old.closed() == 4201
    assert reads[0].session.close_code is None


async def test_a_new_epoch_is_told_on_every_node(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben")
    ann, ben = await login(a, "ann"), await login(b, "ben")
    epoch = await a.renew_epoch(conversation)
    (told,), (told_too,) = await ben.hear("BEHIND"), await ann.hear("BEHIND")
    assert told["epoch"] == told_too["epoch"] == epoch

    two.bus.fate = never
    epoch = await b.renew_epoch(conversation)
    await sent(a, conversation, "ann", "k1")  # an entry with an epoch that this node does not know
    heard = await after(SOON_S, ann)
    assert [it["epoch"] for it in heard if it["event"] == "BEHIND"] == [epoch]
    assert max([it["headSeq"] for it in heard if it["event"] == "BEHIND"] + seqs(heard, conversation)) == 2


class BreakingBus:
    """A place on a bus whose stream of events breaks when told to."""

    def __init__(self, member: LocalMember) -> None:
        self._member = member
        self.broken = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._member, name)

    async def events(self) -> AsyncIterator[BusEvent]:
        async for event in self._member.events():
            if self.broken:
                self.broken = False
                raise OSError("the bus is gone")
            yield event


async def test_a_bus_that_breaks_is_taken_up_again_and_the_log_asked(two: Cluster) -> None:
    a, _ = two.nodes
    bus = BreakingBus(two.bus.join())
    async with node(two.store, bus, heads_check_s=1000.0) as c:  # type: ignore[arg-type]
        conversation = await group(a, "ann", "ben")
        ben = await login(c, "ben")
        bus.broken = True
        await sent(a, conversation, "ann", "k1")
        assert seqs(await after(SOON_S, ben), conversation) == [2], "at once, as it failed"
        await anyio.sleep(1.0)
        await sent(a, conversation, "ann", "k2")
        assert seqs(await after(SOON_S, ben), conversation) == [3]


async def test_only_conversations_with_somebody_online_are_listened_to(two: Cluster) -> None:
    a, b = two.nodes
    conversation = await group(a, "ann", "ben")
    await sent(a, conversation, "ann", "k1")
    assert not two.bus.members[1].listens(topic_of(conversation))
    ben = await login(b, "ben")
    assert two.bus.members[1].listens(topic_of(conversation))
    ben.leave()
    assert not two.bus.members[1].listens(topic_of(conversation))


async def test_adding_to_a_large_group_reads_little(two: Cluster) -> None:
    a, b = two.nodes
    users = [f"u{number:03}" for number in range(300)]
    peers = [await login(b, user) for user in users]
    await group(a, "ann", *users)
    await anyio.sleep(1.0)

    assert all(kinds(peer.read())[:2] == ["CONVERSATION", "BEHIND"] for peer in peers)
    audience = b._hub.audience("g-1")
    assert audience is not None and (len(audience.sessions), audience.member_count) == (300, 301)
    removed = await a.engine.execute(a.engine.remove("g-1", "ann", "u000"), MembersChanged)
    await anyio.sleep(SOON_S)
    assert (audience.member_count, audience.position) == (300, removed.conversation.head_seq)
