"""A script over HTTP alone: a note into a conversation, and what stands there so far.

For cron jobs, hosts and shells, where a connection that stays open is of no use. The key is the day's, so a job that
runs twice leaves one note.

Run: `CHAT_TOKEN=$(chatkit token --user reporter) python examples/rest_script.py http://127.0.0.1:8080 lina 2030-01-31`.
"""

from __future__ import annotations

import os
import sys

import anyio

from chatkit import ChatApi


async def main(url: str, reader: str, day: str, *, token: str | None = None) -> list[str]:
    """Leave the note for `reader`. Returns the texts of the conversation."""
    async with ChatApi(url, token=token or os.environ["CHAT_TOKEN"]) as api:
        conversation = await api.create_conversation("SINGLE", [reader])  # the pair's own, if there is one
        sent = await api.send(
            conversation.conversation_id, f"Backup of {day} is done.", client_msg_id=f"backup-{day}"
        )
        status = await api.status(sent.message_id)
        print(
            f"number {sent.seq}: {status.status}, on {status.delivered_count} of {status.member_count} sides"
        )
        messages = [message async for message in api.messages(conversation.conversation_id)]
        return [message.text for message in messages if message.type == "TEXT"]


if __name__ == "__main__":
    address, name, today = sys.argv[1:]
    for text in anyio.run(main, address, name, today):
        print(text)
