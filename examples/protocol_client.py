"""A whole client, made of docs/protocol.md and of nothing else of chatkit: a template for other languages.

It keeps what the page's table "What a client keeps and does" names: it comes back by itself, sends again under the same
keys, fills gaps, and shows edits, reactions and recalls. It has no disk, so what it sends must be sent while it runs.

Run: `pip install websockets`, then `python examples/protocol_client.py ws://127.0.0.1:8080 TOKEN c-1`. What is typed is
sent to the conversation c-1; each line of it is printed, again when it changes.
"""

import asyncio
import json
import random
import sys
import uuid
from contextlib import suppress
from dataclasses import dataclass, field

import websockets

WAIT_MAX_S = 30.0
HOLE_S = 0.2
"""So long a gap may be a push that is late."""
WINDOW_MAX = 256
"""Most messages of a conversation that have no answer yet."""


@dataclass
class Conversation:
    """What is held of one log."""

    epoch: str
    prefix: int = 0  # everything visible up to here is held
    head: int = 0
    entries: dict = field(default_factory=dict)
    recalled: set = field(default_factory=set)
    asked: bool = False

    def add(self, entry, as_of=0):
        """Keep an entry; what its page says of it (`edit`, `reactions`) holds up to the seq `as_of`."""
        seq, payload = entry["seq"], entry["payload"]
        if payload["type"] == "RECALL":
            self.recalled |= {payload["seq"], *payload.get("edits", ())}
        self.entries[seq] = {**entry, "asOf": as_of}
        self.head = max(self.head, seq)
        while self.prefix + 1 in self.entries:
            self.prefix += 1

    def shown(self):
        """What a screen shows: seq -> (sender, text, how many react with what)."""
        lines, users = {}, {}
        for seq, entry in sorted(self.entries.items()):
            payload, target = entry["payload"], self.entries.get(entry["payload"].get("seq"))
            if seq in self.recalled or payload["type"] == "RECALLED":
                if payload["type"] not in ("EDIT", "REACTION"):
                    lines[seq] = (entry["senderId"], None, {})
            elif payload["type"] == "TEXT":
                text = entry.get("edit", {}).get("payload", payload).get("text")
                found = entry.get("reactions", ())
                lines[seq] = (entry["senderId"], text, {it["reaction"]: it["count"] for it in found})
                users[seq] = {(it["reaction"], user) for it in found for user in it["userIds"]}
            elif (
                target is not None
                and seq > target["asOf"]
                and lines.get(target["seq"], (0, None))[1] is not None
            ):
                sender, text, counts = lines[target["seq"]]
                if payload["type"] == "EDIT":
                    lines[target["seq"]] = (sender, payload["payload"].get("text"), counts)
                elif payload["type"] == "REACTION":
                    who, on = (payload["reaction"], entry["senderId"]), not payload.get("removed")
                    if (who in users[target["seq"]]) != on:
                        users[target["seq"]] ^= {who}
                        counts[who[0]] = counts.get(who[0], 0) + (1 if on else -1)
        return lines


class Client:
    """One device of a user."""

    def __init__(self, url, token, device_id):
        self.url, self.token, self.device_id = url.rstrip("/") + "/v1/ws", token, device_id
        self.user_id, self.resume_token, self.heartbeat_s = "", None, 25.0
        self.conversations: dict[str, Conversation] = {}
        self.receipts: dict = {}
        self.pending: dict = {}  # (conversation, key) -> (SEND_MSG, future), in order
        self.recalls: dict = {}  # ref -> (conversation, message)
        self.refused: set = set()  # conversations whose sends wait for their next try
        self.under_way: dict = {}  # conversation -> keys that this connection owes an answer
        self.windows: dict = {}  # conversation -> how many of them there may be, after a refusal
        self.line, self.live, self.asked_wait_s = None, False, 0.0
        self.changed, self.tasks = asyncio.Condition(), set()

    # --- what an app calls ---

    async def run(self):
        """Stay connected; return the close code once there is no point in going on."""
        failures = 0
        while True:
            by_resume, (code, was_live) = self.resume_token is not None, await self._connect()
            await self._tell()
            failures = 0 if was_live else failures + 1
            if 4200 <= code <= 4299:
                return code
            if 4100 <= code <= 4199:
                self.resume_token = None
                if not by_resume:
                    return code  # it is the only token that we have
            await asyncio.sleep(self.asked_wait_s + random.uniform(0, min(WAIT_MAX_S, 2**failures)))
            self.asked_wait_s = 0.0

    async def send(self, conversation_id, payload, key=None):
        """Send a payload; return the MSG_ACK. The key is fixed before the first try and kept for all of them."""
        key = key or uuid.uuid4().hex
        names = {"conversationId": conversation_id, "clientMsgId": key}
        future = asyncio.get_running_loop().create_future()
        self.pending[conversation_id, key] = ({"event": "SEND_MSG", **names, "payload": payload}, future)
        await self._send_on(conversation_id)
        return await future

    async def recall(self, conversation_id, seq):
        """Ask to withdraw a message; it reads None once that is done."""
        message, ref = self.conversations[conversation_id].entries[seq], f"recall-{uuid.uuid4().hex[:8]}"
        self.recalls[ref] = (conversation_id, message)
        await self._out({"event": "RECALL", "messageId": message["messageId"], "ref": ref})

    async def read(self, conversation_id, seq):
        """Everything up to here was read."""
        await self._out({"event": "READ", "conversationId": conversation_id, "upToSeq": seq})

    # --- one connection ---

    async def _connect(self):
        """Returns its close code, and whether it came to WELCOME."""
        was_live = False
        try:
            async with websockets.connect(
                self.url, subprotocols=["chatkit.v1.json"], max_size=1_000_000
            ) as self.line:
                proof = {"resumeToken": self.resume_token} if self.resume_token else {"token": self.token}
                await self._out({"event": "HELLO", "deviceId": self.device_id, **proof})
                ping = self._start(self._ping())
                try:
                    async for frame in self.line:
                        for event in _events(frame):
                            handler = getattr(self, "_on_" + event["event"].lower(), None)
                            if handler is not None:  # events that we do not know are passed over
                                await handler(event)
                        was_live = was_live or self.live
                        await self._tell()
                finally:
                    ping.cancel()
                return self.line.close_code or 1006, was_live
        except (OSError, websockets.WebSocketException) as error:
            return getattr(getattr(error, "rcvd", None), "code", 1006), was_live
        finally:
            self.live, self.line = False, None
            for conversation in self.conversations.values():
                conversation.asked = False

    async def _ping(self):
        while True:
            await asyncio.sleep(self.heartbeat_s / 3)
            await self._out({"event": "PING"})

    async def _out(self, event):
        if self.line is not None:
            with suppress(websockets.ConnectionClosed):  # whoever reads the line sees it, too
                await self.line.send(json.dumps(event))

    async def _tell(self):
        """Have whoever waits for `changed` look again."""
        async with self.changed:
            self.changed.notify_all()

    def _start(self, work):
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    # --- what comes ---

    async def _on_welcome(self, event):
        self.user_id, self.resume_token = event["userId"], event["resumeToken"]
        self.heartbeat_s, self.live = event["heartbeatMs"] / 1000, True
        self.refused.clear()
        self.under_way.clear()
        for conversation_id in dict.fromkeys(where for where, _ in self.pending):
            await self._send_on(conversation_id)

    async def _on_heads(self, event):
        for row in event["conversations"]:
            held = self._held(row["conversationId"], row["epoch"], row["deliveredSeq"])
            held.head = max(held.head, row["headSeq"])
            await self._pull(row["conversationId"])

    async def _on_new_msg(self, event):
        held = self._held(event["conversationId"], event["epoch"])
        held.add(event)
        await self._confirm(event["conversationId"])
        if held.prefix < held.head:
            self._start(self._pull(event["conversationId"], HOLE_S))

    async def _on_behind(self, event):
        held = self._held(event["conversationId"], event["epoch"])
        held.head = max(held.head, event["headSeq"])
        await self._pull(event["conversationId"])

    async def _on_sync_page(self, event):
        held = self._held(event["conversationId"], event["epoch"])
        held.asked = False
        for entry in event["messages"]:
            held.add(entry, event["headSeq"])
        held.prefix, held.head = max(held.prefix, event["upToSeq"]), max(held.head, event["headSeq"])
        await self._confirm(event["conversationId"])
        await self._pull(event["conversationId"])

    async def _on_msg_ack(self, event):
        conversation_id = event["conversationId"]
        if event.get("ref") in self.recalls:
            _, message = self.recalls.pop(event["ref"])
            payload = {"type": "RECALL", "messageId": message["messageId"], "seq": message["seq"]}
        elif (conversation_id, event.get("clientMsgId")) in self.pending:
            sent, future = self.pending.pop((conversation_id, event["clientMsgId"]))
            payload = event.get("payload", sent["payload"])
            if not future.done():
                future.set_result(event)
            await self._answered(conversation_id, event["clientMsgId"])
        else:
            return
        held = self._held(conversation_id, event["epoch"])
        if event["seq"] not in held.entries:
            held.add({**event, "senderId": self.user_id, "payload": payload})
        await self._confirm(conversation_id)
        await self._pull(conversation_id)

    async def _on_error(self, event):
        conversation_id, wait_s = event.get("conversationId"), event.get("retryAfterMs", 1000) / 1000
        if not self.live:
            self.asked_wait_s = wait_s if "retryAfterMs" in event else 0.0
        elif (conversation_id, event.get("clientMsgId")) in self.pending:
            if not event["retryable"]:
                _, future = self.pending.pop((conversation_id, event["clientMsgId"]))
                if not future.done():
                    future.set_exception(RuntimeError(f"{event['code']}: {event['message']}"))
                await self._answered(conversation_id, event["clientMsgId"])
            else:  # the later ones are refused as well, until it comes again
                self.under_way[conversation_id].discard(event["clientMsgId"])
                if conversation_id not in self.refused:
                    self.refused.add(conversation_id)
                    self._start(self._again(conversation_id, wait_s))
        elif event.get("ref") in self.recalls:
            self.recalls.pop(event["ref"])
        elif conversation_id in self.conversations and event.get("ref") == "sync":
            self.conversations[conversation_id].asked = False
            if event["retryable"]:
                self._start(self._pull(conversation_id, wait_s))

    async def _on_conversation(self, event):
        if event["change"] == "LEFT":
            self.conversations.pop(event["conversationId"], None)

    async def _on_receipt(self, event):
        self.receipts[event["conversationId"], event.get("userId", "")] = event

    async def _on_goaway(self, event):
        self.asked_wait_s = event["reconnectAfterMs"] / 1000

    # --- what follows ---

    def _held(self, conversation_id, epoch, prefix=0):
        """What is held of a conversation; another epoch is another log, of which nothing is."""
        held = self.conversations.get(conversation_id)
        if held is None:
            held = self.conversations[conversation_id] = Conversation(epoch, prefix)
        elif held.epoch != epoch:
            held = self.conversations[conversation_id] = Conversation(epoch)
        return held

    async def _confirm(self, conversation_id):
        prefix = self.conversations[conversation_id].prefix
        await self._out({"event": "DELIVERED_ACK", "conversationId": conversation_id, "upToSeq": prefix})

    async def _pull(self, conversation_id, wait_s=0.0):
        await asyncio.sleep(wait_s)
        held = self.conversations.get(conversation_id)
        if held is not None and self.live and held.prefix < held.head and not held.asked:
            held.asked = True
            names = {"conversationId": conversation_id, "lastSeq": held.prefix, "ref": "sync"}
            await self._out({"event": "SYNC", **names})

    async def _send_on(self, conversation_id):
        """Send what waits, in order, as far as the window allows."""
        window = self.windows.get(conversation_id, WINDOW_MAX)
        under_way = self.under_way.setdefault(conversation_id, set())
        for (where, key), (sent, _) in list(self.pending.items()):
            if not self.live or conversation_id in self.refused or len(under_way) >= window:
                return
            if where == conversation_id and key not in under_way:
                under_way.add(key)
                await self._out(sent)

    async def _answered(self, conversation_id, key):
        """A message has its place, or never gets one; a round without a refusal makes the next one larger."""
        under_way = self.under_way.setdefault(conversation_id, set())
        under_way.discard(key)
        if not under_way:
            self.windows[conversation_id] = min(WINDOW_MAX, 2 * self.windows.get(conversation_id, WINDOW_MAX))
            await self._send_on(conversation_id)

    async def _again(self, conversation_id, wait_s):
        """After a refusal: the first alone, once all that was under way is answered."""
        line = self.line
        await asyncio.sleep(wait_s)
        async with self.changed:
            await self.changed.wait_for(
                lambda: self.line is not line or not self.under_way.get(conversation_id)
            )
        if self.line is line:
            self.windows[conversation_id] = 1
            self.refused.discard(conversation_id)
            await self._send_on(conversation_id)


def _events(frame):
    """A frame is an event, or an array of them."""
    found = json.loads(frame)
    return found if isinstance(found, list) else [found]


async def main(url, token, conversation_id):
    """Talk in one conversation from a terminal."""
    client, printed = Client(url, token, "protocol-client"), {}

    async def show():
        while True:
            async with client.changed:
                await client.changed.wait()
            held = client.conversations.get(conversation_id)
            for seq, line in (held.shown() if held else {}).items():
                if printed.get(seq) != line:
                    printed[seq] = line
                    print(seq, *line)

    async def talk():
        while text := await asyncio.to_thread(sys.stdin.readline):
            await client.send(conversation_id, {"type": "TEXT", "text": text.rstrip("\n")})

    background = [asyncio.create_task(show()), asyncio.create_task(talk())]
    code = await client.run()
    print("closed for good:", code)
    for task in background:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
