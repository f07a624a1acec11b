"""A bot that answers with a message that grows while it is made, as a language model makes one.

The words come from a generator here, a few each second; put the stream of your model's client in its place. Members
watch the answer grow, who opens the conversation later gets all of it, a cut loses nothing, and where the model fails
the message is cut off and asked for once more.

Run: `CHATKIT_URL=http://127.0.0.1:8080 CHATKIT_TOKEN=$(chatkit token --user oracle) python examples/streaming_bot.py`,
and write `/ask why is the sky blue` in a conversation with it. It keeps `bot.db` in the folder where it runs.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import anyio

from chatkit.bots import Bot, MessageContext

PAUSE_S = 0.2

bot = Bot()


async def think(question: str) -> AsyncIterator[str]:
    """The answer, word by word, as it comes to mind."""
    topic = " ".join(re.findall(r"\w+", question)[-3:]) or "nothing"
    answer = f"About {topic}: the first thing to know is that it takes time, and the second is that it is worth it."
    for word in re.findall(r"\S+\s*", answer):
        await anyio.sleep(PAUSE_S)
        yield word


@bot.command("ask")
async def ask(message: MessageContext, *, question: str) -> None:
    """Answer a question, word by word."""
    await message.mark_read()
    await message.stream(think(question), fallback_text="An answer is being written.")


if __name__ == "__main__":
    bot.run()
