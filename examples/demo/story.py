"""The story of the demo: Lina writes to Omar, who is under ground; all of it arrives once, whatever breaks.

Every line it prints follows from an event that was awaited or from something that was read; a claim that fails ends
the demo. Called by `main` with a server process that runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import msgspec

from chatkit.client.api import ChatApi
from chatkit.transport.websocket import WebSocketConnector
from chatkit.types import Message

from .console import Console, eventually, expect, within
from .device import CuttingConnector, DemoDevice
from .node import NodeProcess

LINA, OMAR = "lina", "omar"
CONVERSATION_ID = "lina-and-omar"
_UNDER_GROUND = ("到了吗? I am at the exit of the museum.", "They close at six.", "I wait by the fountain.")


class StoryResult(msgspec.Struct, frozen=True, rename="camel"):
    """What the story ended with: log entries of the conversation, connections cut, servers killed."""

    steps: int
    entries: int
    connections_cut: int
    servers_killed: int
    duration_s: float


async def tell_story(node: NodeProcess, folder: Path, console: Console) -> StoryResult:
    """Tell it from beginning to end, on a server whose log does not know Lina and Omar yet.

    Args:
        folder: Where the devices keep their local stores.

    Raises:
        ExpectationError: Something did not happen as chatkit promises.
    """
    story = _Story(node, folder, console)
    started_s = console.elapsed_s()
    async with ChatApi(node.http_url, token=node.token(LINA)) as story.api, story.lina_online() as lina:
        await story.prologue()
        last_seq = await story.under_ground(lina)
        async with story.omar_online("phone") as phone, story.omar_online("tablet") as tablet:
            await story.coming_up(lina, phone, tablet, last_seq)
            await story.reading(lina, phone, tablet, last_seq)
            await story.cut(lina, phone, tablet)
            entries = await story.killed(lina, phone, tablet)
    return StoryResult(len(console.steps), entries, 1, 1, round(console.elapsed_s() - started_s, 2))


class _Story:
    api: ChatApi

    def __init__(self, node: NodeProcess, folder: Path, console: Console) -> None:
        self._node = node
        self._folder = folder
        self._console = console
        self._network = CuttingConnector(WebSocketConnector(node.ws_url))

    @asynccontextmanager
    async def lina_online(self) -> AsyncIterator[DemoDevice]:
        """Lina's phone, on a network that can be cut."""
        self._console.heading("1. Lina writes while Omar is under ground")
        self._console.saw("server", f"answers on {self._node.http_url}, process {self._node.pid}")
        async with DemoDevice.online(self._node, LINA, "phone", connector=self._network) as lina:
            self._console.saw(lina.name, "is connected")
            yield lina

    @asynccontextmanager
    async def omar_online(self, device_id: str) -> AsyncIterator[DemoDevice]:
        """One of Omar's devices; its local store is a file, so what it knows outlives the connection."""
        async with DemoDevice.online(
            self._node, OMAR, device_id, store=self._folder / f"omar-{device_id}.db"
        ) as device:
            yield device

    async def prologue(self) -> None:
        """The conversation is made, and Omar's devices have both been online once."""
        await self.api.create_conversation("SINGLE", [LINA, OMAR], conversation_id=CONVERSATION_ID)
        for device_id in ("phone", "tablet"):
            async with self.omar_online(device_id) as device:
                known = device.chat.heads
                expect(CONVERSATION_ID in known, f"the conversation on {device.name}", list(known))
                self._console.saw(device.name, "has the new conversation, and goes offline")

    async def under_ground(self, lina: DemoDevice) -> int:
        """Lina sends; the messages wait in the log. Returns the last seq."""
        for text in _UNDER_GROUND:
            sent = await lina.chat.send(CONVERSATION_ID, text)
            self._console.saw(lina.name, f"SENT as seq {sent.seq}: {text}")
        status = await lina.chat.status(sent.message_id)
        states = {delivery.device_id: delivery.state for delivery in status.deliveries}
        expect(
            states == {"phone": "PENDING", "tablet": "PENDING"}, "the message pending on both devices", states
        )
        self._console.saw("server", f"{status.status}; PENDING on Omar's phone and on his tablet")
        return sent.seq

    async def coming_up(self, lina: DemoDevice, phone: DemoDevice, tablet: DemoDevice, last_seq: int) -> None:
        """Both devices of Omar hold everything, in order, and Lina learns it."""
        console = self._console
        console.heading("2. Ten minutes later Omar comes up (ten minutes are shortened to none)")
        for device in (phone, tablet):
            await device.until(f"all messages on {device.name}", lambda device=device: last_seq in device)  # type: ignore[misc]
            got = [message.text for message in device.received]
            expect(got[-len(_UNDER_GROUND) :] == list(_UNDER_GROUND), "Lina's messages in order", got)
            for message in device.received:
                if message.sender_id == LINA and message.type == "TEXT":
                    console.saw(device.name, f"receives seq {message.seq}: {message.text}")
        await lina.until("DELIVERED at Lina", lambda: lina.delivered_to(OMAR) >= last_seq)
        console.saw(lina.name, f"DELIVERED up to seq {last_seq}")

    async def reading(self, lina: DemoDevice, phone: DemoDevice, tablet: DemoDevice, last_seq: int) -> None:
        """Omar reads on one device; the other one and Lina learn it."""
        console = self._console
        console.heading("3. Omar reads on his phone")
        await phone.chat.mark_read(CONVERSATION_ID, last_seq)
        await tablet.until("the reading on the tablet", lambda: tablet.read_by(OMAR) >= last_seq)
        console.saw(tablet.name, f"shows seq {last_seq} as read, without being touched")
        await lina.until("READ at Lina", lambda: lina.read_by(OMAR) >= last_seq)
        console.saw(lina.name, f"READ up to seq {last_seq}")
        message = phone.message(last_seq)
        status = await eventually(
            lambda: lina.chat.status(message.message_id),
            lambda status: {delivery.state for delivery in status.deliveries} == {"READ"},
            "READ on both devices",
        )
        console.saw("server", f"{status.status}; {len(status.deliveries)} of Omar's devices hold it")

    async def cut(self, lina: DemoDevice, phone: DemoDevice, tablet: DemoDevice) -> None:
        """The connection breaks between the commit and the acknowledgement; nothing is doubled."""
        console, network, key, text = (
            self._console,
            self._network,
            "key-of-the-cut",
            "Did this one get through?",
        )
        console.heading("4. The network breaks before Lina's phone hears that a message was stored")
        network.cut_before_ack(key)
        with within("an answer to the message after the cut"):
            sent = await lina.chat.send(CONVERSATION_ID, text, client_msg_id=key)
        lost = network.lost or {}
        expect(lost != {}, "an acknowledgement that was cut off", "none")
        console.saw(
            "network", f"stored as seq {lost['seq']}, but the acknowledgement is lost with the connection"
        )
        await lina.until("Lina to be back", lambda: lina.losses == 1 and lina.caught_up)
        console.saw(lina.name, f"is back; the message left {_times(network.departures[key])} under one key")
        expect(
            (sent.seq, sent.message_id) == (lost["seq"], lost["messageId"]), "the seq that was stored", sent
        )
        console.saw(lina.name, f"SENT as seq {sent.seq}, the same entry")
        again = await self.api.send(CONVERSATION_ID, text, client_msg_id=key)
        expect(
            (again.seq, again.message_id) == (sent.seq, sent.message_id), "the same answer once more", again
        )
        console.saw("server", f"asked once more with the same key, answers seq {again.seq} again")
        copies = [entry.seq for entry in await self.log() if entry.text == text]
        expect(copies == [sent.seq], "one entry in the log", copies)
        console.saw("server", "the log holds it once")
        for device in (phone, tablet):
            await self._arrives(device, sent.seq)

    async def killed(self, lina: DemoDevice, phone: DemoDevice, tablet: DemoDevice) -> int:
        """SIGKILL, and a start on the same file; nothing is missing. Returns the entries of the log."""
        console, text = self._console, "Sent while there was no server."
        console.heading("5. The server is killed (SIGKILL) and started again on the same file")
        before, losses = await self.log(), lina.losses
        status = await self._node.kill()
        console.saw("server", f"is dead: exit status {status}, {len(before)} entries were in the log")
        await lina.until("Lina's phone to notice", lambda: lina.losses > losses)
        console.saw(lina.name, "has lost the connection")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(lina.chat.send, CONVERSATION_ID, text, client_msg_id="key-of-the-kill"))
            await anyio.wait_all_tasks_blocked()
            expect(lina.chat.pending_count == 1, "a message that waits", lina.chat.pending_count)
            console.saw(lina.name, "Lina writes on: one message waits on her phone")
            await self._node.start()
            console.saw("server", f"answers again, process {self._node.pid}")
        await lina.until("SENT after the restart", lambda: "key-of-the-kill" in lina.sent)
        sent = lina.sent["key-of-the-kill"]
        console.saw(lina.name, f"SENT as seq {sent.seq}: {text}")
        for device in (phone, tablet):
            await self._arrives(device, sent.seq)
        after = await self.log()
        expect(after[: len(before)] == before, "every entry from before the kill, unchanged", after)
        expect([entry.seq for entry in after] == list(range(1, sent.seq + 1)), "no hole in the log", after)
        console.saw("server", f"all {len(before)} entries from before are there, and one more")
        return len(after)

    async def log(self) -> list[Message]:
        """The server's log of the conversation."""
        return [message async for message in self.api.messages(CONVERSATION_ID)]

    async def _arrives(self, device: DemoDevice, seq: int) -> None:
        await device.until(f"seq {seq} on {device.name}", lambda: seq in device)
        seqs = [message.seq for message in device.received]
        expect(seqs == sorted(set(seqs)), "each message once and in order", seqs)
        self._console.saw(device.name, f"receives seq {seq}: {device.message(seq).text}")


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
