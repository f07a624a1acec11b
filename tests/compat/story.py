"""What two apps do with whatever chatkit is on the path: `python story.py URL SECRET CODEC FOLDER`.

The first part sends, reads, recalls and hears of it; `first part` is printed, and a line waited for, in which time the
server may be replaced by another one. The second part goes on with the same clients, comes back after a while away,
and prints a report as JSON. It imports nothing but chatkit's public names, so that it runs with every version.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

import chatkit
from chatkit import (
    ChatApi,
    ChatClient,
    Connected,
    MessageRecalled,
    MessageReceived,
    ReceiptChanged,
    Typing,
    sign_token,
)

SOON_S = 30.0
GROUP = "g-1"


class App:
    """One app: a client, and all that it was told."""

    def __init__(self, url: str, secret: str, codec: str, user: str, folder: Path) -> None:
        token = sign_token(secret, user_id=user)
        self.client = ChatClient(
            url, token=token, device_id="phone", codec=codec, store=str(folder / f"{user}.db")
        )
        self.told: list[Any] = []
        self._changed = anyio.Event()

    async def listen(self) -> None:
        """Take events until the client is left."""
        async for event in self.client.events():
            self.told.append(event)
            self._changed.set()
            self._changed = anyio.Event()

    async def hears(self, is_it: Callable[[Any], bool]) -> Any:
        """The first event like that, of all that were told."""
        with anyio.fail_after(SOON_S):
            while True:
                found = next((event for event in self.told if is_it(event)), None)
                if found is not None:
                    return found
                await self._changed.wait()

    async def hears_text(self, text: str) -> Any:
        return await self.hears(lambda it: isinstance(it, MessageReceived) and it.message.text == text)


async def first_part(ann: App, ben: App) -> int:
    """Returns the seq of the message that was recalled."""
    one = await ann.client.send(GROUP, "one")
    await ben.hears_text("one")
    await ben.client.mark_read(GROUP, one.seq)
    await ann.hears(lambda it: isinstance(it, ReceiptChanged) and it.receipt.read_seq >= one.seq)
    await ben.client.typing(GROUP)
    await ann.hears(lambda it: isinstance(it, Typing))
    two = await ben.client.send(GROUP, "two")
    await ann.hears_text("two")
    await ben.client.recall(two.message_id)
    await ann.hears(lambda it: isinstance(it, MessageRecalled))
    return two.seq


async def second_part(
    ann: App, ben: App, leave: Callable[[], Awaitable[None]], again: App, api: ChatApi
) -> dict[str, Any]:
    """After the server was replaced: both resume, then ben leaves and is away for a while."""
    three = await ann.client.send(GROUP, "three")
    await ben.hears_text("three")
    resumed = [[it.resumed for it in app.told if isinstance(it, Connected)] for app in (ann, ben)]
    await leave()
    sent = [await api.send(GROUP, f"away {number}") for number in range(30)]
    async with anyio.create_task_group() as tasks, again.client:
        tasks.start_soon(again.listen)
        await again.hears_text("away 29")
        await again.client.mark_read(GROUP, sent[-1].seq)
        await ann.hears(lambda it: isinstance(it, ReceiptChanged) and it.receipt.read_seq >= sent[-1].seq)
        status = await ann.client.status(three.message_id)
        tasks.cancel_scope.cancel()
    caught_up = [it.message.text for it in again.told if isinstance(it, MessageReceived)]
    log = [[it.seq, it.type, it.text] async for it in api.messages(GROUP)]
    return {"resumed": resumed, "caught_up": caught_up, "status": status.status, "log": log}


async def main(url: str, secret: str, codec: str, folder: str) -> None:
    """Tell the story; see above."""
    ann, ben, again = (App(url, secret, codec, user, Path(folder)) for user in ("ann", "ben", "ben"))
    async with ChatApi(url, token=sign_token(secret, user_id="ann")) as api:
        await api.create_conversation("GROUP", ["ben"], conversation_id=GROUP)
        async with anyio.create_task_group() as tasks, ann.client, AsyncExitStack() as bens:
            await bens.enter_async_context(ben.client)
            tasks.start_soon(ann.listen)
            tasks.start_soon(ben.listen)
            recalled = await first_part(ann, ben)
            print("first part", flush=True)
            await anyio.to_thread.run_sync(sys.stdin.readline)
            report = await second_part(ann, ben, bens.aclose, again, api)
            tasks.cancel_scope.cancel()
    print(json.dumps({**report, "recalled": recalled, "chatkit": chatkit.__file__}), flush=True)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
