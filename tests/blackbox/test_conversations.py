"""Creating, members, MEMBER entries, CONVERSATION events and who sees which entries."""

from __future__ import annotations

from operator import itemgetter

import pytest

from .peer import send_msg
from .tokens import token
from .world import World, fresh, ok, refused


def test_create_group_answers_everything(world: World) -> None:
    alice, bob, carol = world.users(3)
    wanted = fresh("g")
    made = ok(world.api(alice).create("GROUP", [alice, bob, carol], wanted, title="今晚"), 201)
    assert made["conversationId"] == wanted
    assert (made["type"], made["title"], made["headSeq"]) == ("GROUP", "今晚", 1)
    assert sorted(made["memberIds"]) == sorted([alice, bob, carol])
    assert isinstance(made["epoch"], str)
    (entry,) = world.api(bob).log(wanted)
    assert (entry["seq"], entry["senderId"]) == (1, alice)
    assert entry["payload"]["type"] == "MEMBER"
    assert entry["payload"]["op"] == "CREATED"
    assert sorted(entry["payload"]["userIds"]) == sorted([alice, bob, carol])
    assert "clientMsgId" not in entry


def test_caller_is_a_member_even_if_he_does_not_say_so(world: World) -> None:
    alice, bob = world.users(2)
    made = ok(world.api(alice).create("GROUP", [bob]), 201)
    assert sorted(made["memberIds"]) == sorted([alice, bob])
    assert made["conversationId"], "the server makes an id where none is given"
    pair = ok(world.api(alice).create("SINGLE", [bob]), 201)
    assert sorted(pair["memberIds"]) == sorted([alice, bob])


def test_create_the_same_again_answers_200_with_the_existing_one(world: World) -> None:
    alice, bob = world.users(2)
    wanted = fresh("g")
    first = ok(world.api(alice).create("GROUP", [alice, bob], wanted, title="t"), 201)
    again = ok(world.api(alice).create("GROUP", [bob, alice], wanted, title="t"), 200)
    assert again == first
    assert len(world.api(alice).log(wanted)) == 1


def test_create_with_anothers_id_is_a_conflict(world: World) -> None:
    alice, bob, carol = world.users(3)
    taken = world.group(alice, bob)
    refused(world.api(carol).create("GROUP", [carol, bob], taken), "CONFLICT")
    refused(world.api(alice).create("GROUP", [alice, bob, carol], taken), "CONFLICT")
    refused(world.api(alice).create("SINGLE", [alice, bob], taken), "CONFLICT")
    assert sorted(ok(world.api(alice).get(f"/v1/conversations/{taken}"))["memberIds"]) == sorted([alice, bob])


def test_one_single_per_pair_whatever_id_is_asked_for(world: World) -> None:
    alice, bob = world.users(2)
    first = ok(world.api(alice).create("SINGLE", [alice, bob], fresh("c")), 201)
    from_other_side = ok(world.api(bob).create("SINGLE", [alice, bob], fresh("c")), 200)
    without_id = ok(world.api(bob).create("SINGLE", [alice]), 200)
    assert from_other_side == without_id == first


def test_single_has_exactly_two_members(world: World) -> None:
    alice, bob, carol = world.users(3)
    for members in ([alice], [], [alice, alice], [bob, carol], [alice, bob, carol]):
        refused(world.api(alice).create("SINGLE", members), "BAD_REQUEST")


def test_single_membership_never_changes(world: World) -> None:
    alice, bob, carol = world.users(3)
    pair = world.single(alice, bob)
    refused(world.add(alice, pair, carol), "FORBIDDEN")
    refused(world.remove(alice, pair, bob), "FORBIDDEN")
    refused(world.remove(alice, pair, alice), "FORBIDDEN")
    refused(world.remove(bob, pair, bob), "FORBIDDEN")
    assert len(world.api(alice).log(pair)) == 1


def test_created_conversation_reaches_the_members_sockets(world: World) -> None:
    alice, bob = world.users(2)
    phone = world.peer(bob)
    made = world.group(alice, bob)
    event = phone.expect("CONVERSATION", conversationId=made)
    assert (event["type"], event["change"]) == ("GROUP", "CREATED")
    world.peer(alice).say(made, "hi")
    phone.expect("NEW_MSG", conversationId=made, seq=2)


def test_adding_members_is_one_entry_and_reaches_them(world: World) -> None:
    alice, bob, carol, dave = world.users(4)
    made = world.group(alice, bob)
    bobs, carols = world.peer(bob), world.peer(carol)
    assert world.add(alice, made, carol, dave).status_code == 200
    pushed = bobs.expect("NEW_MSG", conversationId=made, seq=2)
    assert pushed["senderId"] == alice
    assert pushed["payload"]["op"] == "ADDED"
    assert sorted(pushed["payload"]["userIds"]) == sorted([carol, dave])
    event = carols.expect("CONVERSATION", conversationId=made)
    assert (event["type"], event["change"]) == ("GROUP", "JOINED")
    members = world.api(carol).pages(f"/v1/conversations/{made}/members", "members")
    joined = {member["userId"]: member["joinedSeq"] for member in members}
    assert joined == {alice: 1, bob: 1, carol: 2, dave: 2}


def test_adding_a_member_again_adds_no_entry(world: World) -> None:
    alice, bob, carol = world.users(3)
    made = world.group(alice, bob)
    assert world.add(alice, made, bob).status_code == 200
    assert len(world.api(alice).log(made)) == 1
    assert world.add(alice, made, bob, carol).status_code == 200
    assert world.api(alice).log(made)[-1]["payload"] == {"type": "MEMBER", "op": "ADDED", "userIds": [carol]}


def test_only_the_creator_adds_and_removes_others(world: World) -> None:
    alice, bob, carol = world.users(3)
    made = world.group(alice, bob, carol)
    refused(world.add(bob, made, world.user()), "FORBIDDEN")
    refused(world.remove(bob, made, carol), "FORBIDDEN")
    refused(world.remove(bob, made, alice), "FORBIDDEN")
    assert len(world.api(alice).log(made)) == 1


def test_removed_member_hears_that_he_left_and_then_nothing(world: World) -> None:
    alice, bob, carol = world.users(3)
    made = world.group(alice, bob, carol)
    bobs, carols, alices = world.peer(bob), world.peer(carol), world.peer(alice)
    assert world.remove(alice, made, bob).status_code == 200
    assert bobs.expect("CONVERSATION", conversationId=made)["change"] == "LEFT"
    gone = carols.expect("NEW_MSG", conversationId=made, seq=2)
    assert gone["payload"] == {"type": "MEMBER", "op": "REMOVED", "userIds": [bob]}
    mark = len(bobs.frames)
    alices.say(made, "canary-after-removal")
    carols.expect("NEW_MSG", seq=3)
    bobs.ping()
    assert b"canary-after-removal" not in bobs.bytes_since(mark)
    assert not bobs.seen("NEW_MSG", seq=3)
    refused(world.api(bob).get("/v1/sync", params={"conversationId": made, "lastSeq": 0}), "NOT_FOUND")
    assert bobs.ask("SYNC", conversationId=made, lastSeq=0)["code"] == "NOT_FOUND"
    assert made not in [
        row["conversationId"] for row in world.api(bob).pages("/v1/conversations", "conversations")
    ]
    late = world.raw_peer()
    late.hello(token(bob, "pad"), "pad")
    assert made not in [row["conversationId"] for row in late.heads()]


def test_leaving_by_oneself(world: World) -> None:
    alice, bob = world.users(2)
    made = world.group(alice, bob)
    bobs, alices = world.peer(bob), world.peer(alice)
    assert world.remove(bob, made, bob).status_code == 200
    assert bobs.expect("CONVERSATION", conversationId=made)["change"] == "LEFT"
    left = alices.expect("NEW_MSG", conversationId=made, seq=2)
    assert left["payload"] == {"type": "MEMBER", "op": "LEFT", "userIds": [bob]}
    assert left["senderId"] == bob


def test_removing_a_non_member_is_not_found_and_adds_no_entry(world: World) -> None:
    alice, bob = world.users(2)
    made = world.group(alice, bob)
    answer = world.remove(alice, made, world.user())
    assert answer.status_code in (200, 404), answer.text
    assert len(world.api(alice).log(made)) == 1


def test_late_joiner_sees_from_his_own_member_entry_on_without_gaps(world: World) -> None:
    alice, bob = world.users(2)
    made = world.group(alice)
    alices = world.peer(alice)
    for number in range(3):
        alices.say(made, f"early-canary-{number}")
    world.add(alice, made, bob)
    alices.say(made, "visible")
    bobs = world.peer(bob)
    page = bobs.sync(made, 0)
    assert [entry["seq"] for entry in page["messages"]] == [5, 6]
    assert page["messages"][0]["payload"]["op"] == "ADDED"
    assert (page["upToSeq"], page["headSeq"], page["more"]) == (6, 6, False)
    history = world.api(bob).history(made, fromSeq=1)
    assert [entry["seq"] for entry in history["messages"]] == [5, 6]
    assert history["upToSeq"] == 6
    assert b"early-canary" not in bobs.bytes_since(0)
    row = world.api(bob).row(made)
    assert row["firstSeq"] == 5


def test_late_joiner_can_do_nothing_with_an_older_message(world: World) -> None:
    alice, bob = world.users(2)
    made = world.group(alice)
    alices = world.peer(alice)
    message_id = alices.say(made, "before bob")["messageId"]
    world.add(alice, made, bob)
    bobs = world.peer(bob)
    api = world.api(bob)
    for event in ("RECALL", "DELIVERED_ACK"):
        fields = {} if event == "RECALL" else {"conversationId": made}
        assert bobs.ask(event, messageId=message_id, **fields)["code"] == "NOT_FOUND"
    refused(api.post(f"/v1/messages/{message_id}/delivered"), "NOT_FOUND")
    refused(api.post(f"/v1/messages/{message_id}/recall"), "NOT_FOUND")
    refused(api.get(f"/v1/messages/{message_id}/status"), "NOT_FOUND")
    assert world.api(alice).status(message_id)["memberCount"] == 0


def test_rejoiner_sees_his_two_intervals_and_no_gap(world: World) -> None:
    alice, bob = world.users(2)
    made = world.group(alice, bob)
    alices = world.peer(alice)
    alices.say(made, "two")
    world.remove(alice, made, bob)  # 3
    alices.say(made, "absent-canary")  # 4
    world.add(alice, made, bob)  # 5
    alices.say(made, "six")
    bobs = world.peer(bob)
    page = bobs.sync(made, 0)
    assert [entry["seq"] for entry in page["messages"]] == [1, 2, 5, 6]
    assert (page["upToSeq"], page["more"]) == (6, False)
    middle = bobs.sync(made, 2)
    assert [entry["seq"] for entry in middle["messages"]] == [5, 6]
    assert [entry["seq"] for entry in world.api(bob).history(made, fromSeq=3, limit=1)["messages"]] == [5]
    assert b"absent-canary" not in bobs.bytes_since(0)
    for absent in (3, 4):
        assert absent not in [entry["seq"] for entry in world.api(bob).log(made)]


def test_all_members_see_one_and_the_same_log(world: World) -> None:
    alice, bob, carol = world.users(3)
    made = world.group(alice, bob, carol)
    peers = [world.peer(user) for user in (alice, bob, carol)]
    for turn in range(4):
        for peer in peers:
            peer.say(made, f"{turn} by {peer.user}")
    logs = [world.api(user).log(made) for user in (alice, bob, carol)]
    stripped = [[{k: v for k, v in e.items() if k != "clientMsgId"} for e in log] for log in logs]
    assert stripped[0] == stripped[1] == stripped[2]
    assert [entry["seq"] for entry in stripped[0]] == list(range(1, 14))


def test_conversation_by_id_counts_members(world: World) -> None:
    alice = world.user()
    others = world.users(249)
    made = world.group(alice, *others)
    shown = ok(world.api(others[0]).get(f"/v1/conversations/{made}"))
    assert shown["memberCount"] == 250
    assert len(shown["memberIds"]) == 200
    assert set(shown["memberIds"]) <= {alice, *others}
    assert {"conversationId", "type", "title", "epoch", "headSeq"} <= set(shown)
    rows = world.api(alice).pages(f"/v1/conversations/{made}/members", "members", limit=100)
    assert sorted(row["userId"] for row in rows) == sorted([alice, *others])
    roles = {row["userId"]: row["role"] for row in rows}
    assert len({role for user, role in roles.items() if user != alice}) == 1
    assert roles[alice] != roles[others[0]]


def test_conversation_list_rows_and_unread(world: World) -> None:
    alice, bob = world.users(2)
    made = world.group(alice, bob, title="rows")
    alices, bobs = world.peer(alice), world.peer(bob)
    acks = [alices.say(made, f"m{number}") for number in range(3)]
    bobs.say(made, "own messages do not count")
    row = world.api(bob).row(made)
    assert row["title"] == "rows"
    assert row["unread"] == 3
    assert row["headSeq"] == 5
    assert row["lastActivityTs"] >= acks[-1]["serverTs"]
    assert {
        "type",
        "epoch",
        "firstSeq",
        "deliveredSeq",
        "readSeq",
        "othersDeliveredSeq",
        "othersReadSeq",
    } <= set(row)
    ok(world.api(bob).post(f"/v1/conversations/{made}/read", params={"upToSeq": acks[0]["seq"]}))
    assert world.api(bob).row(made)["unread"] == 2
    ok(world.api(alice).post(f"/v1/messages/{acks[2]['messageId']}/recall"))
    assert world.api(bob).row(made)["unread"] == 1
    world.add(alice, made, world.user())
    assert world.api(bob).row(made)["unread"] == 1, "entries made by the server do not count"


def test_unread_is_at_most_999(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    alices = world.peer(alice)
    for block in range(5):
        frame = [send_msg(made, "x", f"{block}-{number}") for number in range(250)]
        alices.send(*frame)
        for number in range(250):
            alices.expect("MSG_ACK", clientMsgId=f"{block}-{number}")
    assert world.api(bob).row(made)["unread"] == 999
    assert world.api(bob).row(made)["headSeq"] == 1251


def test_conversation_list_goes_on_by_cursor(world: World) -> None:
    alice = world.user()
    made = {world.group(alice) for _ in range(7)}
    rows = world.api(alice).pages("/v1/conversations", "conversations", limit=3)
    assert len(rows) == 7
    assert {row["conversationId"] for row in rows} == made


def test_conversations_by_activity_come_with_their_last_message(world: World) -> None:
    alice, bob = world.users(2)
    old, new, quiet = world.group(alice, bob), world.group(alice, bob), world.group(alice, bob)
    alices = world.peer(alice)
    alices.say(old, "first")
    last = alices.say(new, "second")
    third = alices.say(old, "third")
    ok(world.api(alice).post(f"/v1/messages/{last['messageId']}/recall"))

    listed = ok(world.api(bob).get("/v1/conversations", params={"order": "activity"}))
    rows = {row["conversationId"]: row for row in listed["conversations"]}
    assert set(rows) == {old, new, quiet}
    times = [row["lastActivityTs"] for row in rows.values()]  # two messages may have one millisecond
    assert times == sorted(times, reverse=True)
    assert rows[old]["lastActivityTs"] == third["serverTs"]
    assert rows[new]["lastActivityTs"] == last["serverTs"], "a recall is no activity"
    assert listed["nextCursor"] is None
    assert rows[old]["lastMessage"]["payload"] == {"type": "TEXT", "text": "third"}
    assert rows[old]["lastMessage"]["senderId"] == alice
    assert "clientMsgId" not in rows[old]["lastMessage"]
    assert rows[new]["lastMessage"]["payload"] == {"type": "RECALLED"}
    assert "lastMessage" not in rows[quiet]
    assert [rows[name]["unread"] for name in (old, new, quiet)] == [2, 0, 0]
    by_id = ok(world.api(bob).get("/v1/conversations"))["conversations"]
    assert [
        {k: v for k, v in row.items() if k != "lastMessage"}
        for row in sorted(rows.values(), key=itemgetter("conversationId"))
    ] == by_id


def test_conversations_by_activity_go_on_by_cursor(world: World) -> None:
    alice = world.user()
    made = [world.group(alice) for _ in range(7)]
    rows = world.api(alice).pages("/v1/conversations", "conversations", limit=3, order="activity")
    assert sorted(row["conversationId"] for row in rows) == sorted(made)
    assert [row["lastActivityTs"] for row in rows] == sorted(
        (row["lastActivityTs"] for row in rows), reverse=True
    )


@pytest.mark.parametrize(
    "params",
    [
        {"order": "ACTIVITY"},
        {"order": ""},
        {"order": "activity", "cursor": "c-1"},
        {"order": "activity", "cursor": "1" * 30 + "/c"},
        {"order": "activity", "cursor": "-1/c"},
        {"order": "activity", "cursor": "12/"},
        {"order": "activity", "cursor": "12/a b\x00"},
        {"order": "activity", "limit": "0"},
    ],
)
def test_a_list_that_nobody_offers_is_refused(world: World, params: dict[str, str]) -> None:
    answer = world.api(world.user()).get("/v1/conversations", params=params)
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
