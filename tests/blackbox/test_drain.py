"""SIGTERM: GOAWAY, close 1001, a clean end, and everything acknowledged still there."""

from __future__ import annotations

import signal

from websockets.exceptions import ConnectionClosed

from .peer import send_msg
from .server_process import ServerProcess
from .world import World


def test_sigterm_drains(own_server: ServerProcess) -> None:
    world = World(own_server.http_url, own_server.ws_url)
    alice, bob = world.users(2)
    made = world.single(alice, bob)
    alices, bobs = world.peer(alice), world.peer(bob, codec="msgpack")
    acks = {}
    for block in range(4):
        alices.send(*[send_msg(made, f"{block}-{n}", f"{block}-{n}") for n in range(100)])
    own_server.terminate()
    codes = []
    for peer in (alices, bobs):
        codes.append(peer.close_code(20))
        (goaway,) = peer.seen("GOAWAY")
        assert isinstance(goaway["reason"], str)
        assert goaway["reconnectAfterMs"] >= 0
    assert codes == [1001, 1001]
    assert own_server.exit_code() in (0, -signal.SIGTERM)
    assert "Traceback" not in own_server.log
    for ack in alices.seen("MSG_ACK"):
        acks[ack["clientMsgId"]] = ack
    own_server.start()
    after = World(own_server.http_url, own_server.ws_url)
    log = after.api(alice).log(made)
    assert [entry["seq"] for entry in log] == list(range(1, len(log) + 1))
    stored = {entry["clientMsgId"]: entry for entry in log[1:]}
    for key, ack in acks.items():
        assert (stored[key]["seq"], stored[key]["messageId"]) == (ack["seq"], ack["messageId"])
    again = after.peer(alice)
    for key, ack in acks.items():
        assert again.say(made, key, key).raw == ack.raw
    refused_keys = [event["clientMsgId"] for event in alices.seen("ERROR") if "clientMsgId" in event]
    assert not set(refused_keys) & set(stored), "what was refused is not stored"
    after.close()
    world.close()


def test_no_new_connection_while_it_drains_and_none_after(own_server: ServerProcess) -> None:
    world = World(own_server.http_url, own_server.ws_url)
    peer = world.peer(world.user())
    own_server.terminate()
    peer.expect("GOAWAY")
    assert peer.close_code(20) == 1001
    assert own_server.exit_code() in (0, -signal.SIGTERM)
    try:
        world.raw_peer()
    except (OSError, ConnectionClosed):
        refused = True
    else:
        refused = False
    assert refused
    world.close()
