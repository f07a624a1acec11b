"""One connection's life: HELLO, subprotocols, resume, renewal, replacement and every close code."""

from __future__ import annotations

import pytest
from websockets.exceptions import ConnectionClosed

from .peer import Peer, open_socket, send_msg
from .server_process import ServerProcess
from .tokens import ABSENT, expires_ms, token
from .world import World


def refused_code(peer: Peer) -> int:
    """The close code of a login that must fail; no WELCOME on the way."""
    code = peer.close_code()
    assert not peer.seen("WELCOME")
    return code


def alive(peer: Peer) -> None:
    """The session still answers."""
    peer.ping()


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_subprotocol_is_confirmed(world: World, codec: str) -> None:
    peer = world.peer(world.user(), codec=codec)
    assert peer.socket.subprotocol == f"chatkit.v1.{codec}"
    alive(peer)


def test_no_subprotocol_means_json(world: World) -> None:
    peer = world.peer(world.user(), subprotocol=False)
    assert peer.socket.subprotocol is None
    alive(peer)


def test_only_unknown_subprotocols_close_4204(world: World) -> None:
    socket = open_socket(world.ws_url, "chatkit.v9.json", "soap")
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=5)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4204


def test_a_known_subprotocol_among_unknown_ones_is_chosen(world: World) -> None:
    socket = open_socket(world.ws_url, "chatkit.v9.json", "chatkit.v1.msgpack")
    assert socket.subprotocol == "chatkit.v1.msgpack"
    socket.close()


@pytest.mark.parametrize(
    "event",
    [
        {"event": "PING"},
        {"event": "SYNC", "conversationId": "c-1", "lastSeq": 0},
        send_msg("c-1", "early", "k"),
        {"event": "AUTH_REFRESH", "token": "x"},
        {"event": "RECALL", "messageId": "m"},
        {"event": "TYPING", "conversationId": "c-1"},
        {"event": "READ", "conversationId": "c-1", "upToSeq": 0},
        {"event": "DELIVERED_ACK", "conversationId": "c-1", "upToSeq": 0},
    ],
    ids=lambda event: event["event"],
)
def test_anything_before_hello_closes_4203(world: World, event: dict[str, object]) -> None:
    peer = world.raw_peer()
    peer.send(event)
    assert refused_code(peer) == 4203


def test_second_hello_closes_4203(world: World) -> None:
    alice = world.user()
    peer = world.peer(alice)
    peer.send({"event": "HELLO", "token": token(alice, "phone"), "deviceId": "phone"})
    assert peer.close_code() == 4203


@pytest.mark.parametrize("codec", ["json", "msgpack"])
@pytest.mark.parametrize("greeted", [False, True], ids=["before HELLO", "after HELLO"])
def test_wrong_kind_of_frame_closes_4203(world: World, codec: str, greeted: bool) -> None:
    peer = world.peer(world.user(), codec=codec) if greeted else world.raw_peer(codec)
    peer.socket.send('{"event":"PING"}' if codec == "msgpack" else peer.encode({"event": "PING"}))
    assert peer.close_code() == 4203


def test_text_that_is_no_utf8_closes_1007(world: World) -> None:
    peer = world.peer(world.user())
    peer.socket.send(b'{"event":"PING","ref":"\xff"}', text=True)
    assert peer.close_code() == 1007


def test_newer_session_of_the_same_device_closes_the_older_4201(world: World) -> None:
    alice = world.user()
    older = world.peer(alice, "phone")
    other_device = world.peer(alice, "pad")
    newer = world.peer(alice, "phone")
    assert older.close_code() == 4201
    alive(newer)
    alive(other_device)


def test_same_device_name_of_another_user_disturbs_nobody(world: World) -> None:
    first, second = world.peer(world.user(), "phone"), world.peer(world.user(), "phone")
    alive(first)
    alive(second)


def test_token_expiring_is_said_and_auth_refresh_heals_it(world: World) -> None:
    alice = world.user()
    peer = world.raw_peer()
    short = token(alice, "phone", ttl_s=20)
    assert peer.hello(short, "phone")["expiresTs"] == expires_ms(short)
    assert peer.expect("TOKEN_EXPIRING")["expiresTs"] == expires_ms(short)
    longer = token(alice, "phone", ttl_s=7200)
    answer = peer.ask("AUTH_REFRESH", token=longer)
    assert (answer.name, answer["expiresTs"]) == ("AUTH_OK", expires_ms(longer))
    again = token(alice, "phone", ttl_s=15)
    assert peer.ask("AUTH_REFRESH", token=again)["expiresTs"] == expires_ms(again)
    assert peer.expect("TOKEN_EXPIRING", expiresTs=expires_ms(again))
    alive(peer)


@pytest.mark.parametrize(
    "bad",
    ["", "x", "a.b.c", 7, None, [], {}, "wrong secret", "expired", "none"],
    ids=str,
)
def test_auth_refresh_with_a_bad_token_is_an_error_and_the_connection_stays(
    world: World, bad: object
) -> None:
    alice = world.user()
    peer = world.peer(alice)
    if bad == "wrong secret":
        bad = token(alice, "phone", secret="another-secret-of-more-than-thirty-two-bytes")
    elif bad == "expired":
        bad = token(alice, "phone", ttl_s=-600)
    error = peer.ask("AUTH_REFRESH", token=bad)
    assert error.name == "ERROR"
    assert error["code"] in ("UNAUTHENTICATED", "TOKEN_EXPIRED", "BAD_REQUEST"), error
    assert error["retryable"] is False
    alive(peer)


def test_auth_refresh_of_another_user_closes_4101(world: World) -> None:
    peer = world.peer(world.user())
    peer.send({"event": "AUTH_REFRESH", "token": token(world.user(), "phone")})
    assert peer.close_code() == 4101
    assert not peer.seen("AUTH_OK")


def test_auth_refresh_of_another_device_closes_4101(world: World) -> None:
    alice = world.user()
    peer = world.peer(alice, "phone")
    peer.send({"event": "AUTH_REFRESH", "token": token(alice, "pad")})
    assert peer.close_code() == 4101


@pytest.mark.parametrize("way", ["garbage", "wrong secret", "other device"])
def test_hello_with_a_bad_token_closes_4101(world: World, way: str) -> None:
    alice = world.user()
    offered = {
        "garbage": "x.y.z",
        "wrong secret": token(alice, "phone", secret="another-secret-of-more-than-thirty-two-bytes"),
        "other device": token(alice, "pad"),
    }[way]
    peer = world.raw_peer()
    peer.send({"event": "HELLO", "token": offered, "deviceId": "phone"})
    assert refused_code(peer) == 4101


def test_hello_with_an_expired_token_closes_4100(world: World) -> None:
    peer = world.raw_peer()
    peer.send({"event": "HELLO", "token": token(world.user(), "phone", ttl_s=-600), "deviceId": "phone"})
    assert refused_code(peer) == 4100


def test_token_without_device_takes_the_device_of_hello(world: World) -> None:
    peer = world.raw_peer()
    welcome = peer.hello(token(world.user(), dev=ABSENT), "watch")
    assert welcome["deviceId"] == "watch"


def test_resume_token_logs_in_once(world: World) -> None:
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    first = world.peer(alice)
    spent = first.welcome["resumeToken"]
    first.close()
    second = world.raw_peer()
    welcome = second.resume(spent, "phone")
    assert welcome["resumed"] is True
    assert (welcome["userId"], welcome["deviceId"]) == (alice, "phone")
    assert welcome["expiresTs"] == first.welcome["expiresTs"], "a resume keeps the login's end"
    assert welcome["resumeToken"] != spent
    assert [row["conversationId"] for row in second.heads()] == [made]
    third = world.raw_peer()
    third.send({"event": "HELLO", "resumeToken": spent, "deviceId": "phone"})
    assert refused_code(third) == 4101
    alive(second)
    second.close()
    fourth = world.raw_peer()
    assert fourth.resume(welcome["resumeToken"], "phone")["resumed"] is True


def test_resume_takes_over_a_session_that_still_hangs(world: World) -> None:
    alice = world.user()
    hanging = world.peer(alice)
    taking_over = world.raw_peer()
    taking_over.resume(hanging.welcome["resumeToken"], "phone")
    assert hanging.close_code() == 4201
    alive(taking_over)


@pytest.mark.parametrize("thief_device", ["pad", "laptop"])
def test_resume_token_on_a_foreign_device_is_refused_and_disturbs_nobody(
    world: World, thief_device: str
) -> None:
    alice = world.user()
    owner = world.peer(alice, "phone")
    pad = world.peer(alice, "pad")
    thief = world.raw_peer()
    thief.send({"event": "HELLO", "resumeToken": owner.welcome["resumeToken"], "deviceId": thief_device})
    assert refused_code(thief) == 4101
    alive(owner)
    alive(pad)


@pytest.mark.parametrize("way", ["garbage", "tampered", "empty", "login token"])
def test_bad_resume_token_is_refused_and_disturbs_nobody(world: World, way: str) -> None:
    alice = world.user()
    owner = world.peer(alice, "phone")
    real: str = owner.welcome["resumeToken"]
    offered = {
        "garbage": "A" * len(real),
        "tampered": ("B" if real[0] != "B" else "C") + real[1:],
        "empty": "",
        "login token": token(alice, "phone"),
    }[way]
    thief = world.raw_peer()
    thief.send({"event": "HELLO", "resumeToken": offered, "deviceId": "phone"})
    if way == "empty":  # not even a token in form: an ERROR is as good as a close
        assert_no_welcome(thief)
    else:
        assert refused_code(thief) == 4101
    alive(owner)


def assert_no_welcome(peer: Peer) -> None:
    """The first answer is an ERROR or one of the closes for a bad login."""
    answer = peer.answer_or_close()
    if isinstance(answer, int):
        assert answer in (4101, 4200, 4203)
    else:
        assert answer.name == "ERROR"
        assert answer["code"] in ("BAD_REQUEST", "UNAUTHENTICATED"), answer


def test_login_token_works_after_a_refused_resume(world: World) -> None:
    alice = world.user()
    thief = world.raw_peer()
    thief.send({"event": "HELLO", "resumeToken": "nope", "deviceId": "phone"})
    assert refused_code(thief) == 4101
    alive(world.peer(alice, "phone"))


@pytest.mark.parametrize(
    "fields",
    [
        {"token": None},
        {"token": 5},
        {"deviceId": None},
        {"deviceId": ""},
        {"deviceId": "a b"},
        {"deviceId": ".."},
        {"deviceId": "x" * 129},
        {"deviceId": 5},
        {"client": "chrome"},
        {"client": {"name": 5}},
        {"resumeToken": 5, "token": ABSENT},
        {"token": ABSENT},
        {"deviceId": ABSENT},
    ],
    ids=str,
)
def test_malformed_hello_is_never_welcomed_and_harms_nobody(world: World, fields: dict[str, object]) -> None:
    alice = world.user()
    event = {"event": "HELLO", "token": token(alice, "phone"), "deviceId": "phone"} | fields
    peer = world.raw_peer()
    peer.send({name: value for name, value in event.items() if value is not ABSENT})
    assert_no_welcome(peer)
    alive(world.peer(alice, "phone"))


def test_ping_echoes_ref_and_tells_the_time(world: World) -> None:
    peer = world.peer(world.user())
    peer.send({"event": "PING", "ref": "r" * 64}, {"event": "PING"})
    first, second = peer.expect("PONG"), peer.expect("PONG")
    assert first["ref"] == "r" * 64
    assert "ref" not in second
    assert isinstance(first["serverTs"], int)


def test_token_in_the_url_logs_nobody_in_and_is_not_logged(world: World, server: ServerProcess) -> None:
    alice = world.user()
    secret = token(alice, "phone", canary="url-canary")
    for name in ("token", "access_token", "authorization"):
        assert world.http.get("/v1/conversations", params={name: secret}).status_code == 401
        socket = open_socket(f"{world.ws_url}?{name}={secret}")
        socket.send('{"event":"PING"}')
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=5)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4203
    assert secret not in server.log, "a token must not end up in a log"
