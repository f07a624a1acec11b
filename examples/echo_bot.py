"""A bot that answers every text in its conversations, once, whatever breaks, and counts what it answered.

A message is taken once its answer is stored, so a bot that crashes or is killed is given again what it had not
answered; the key of each answer is made from the message it answers, so the same answer sent twice is stored once. What
it counts is kept with the taking, so it is counted once.

Run: `CHATKIT_URL=http://127.0.0.1:8080 CHATKIT_TOKEN=$(chatkit token --user echo) python examples/echo_bot.py`. It
keeps `bot.db` in the folder where it runs.
"""

from __future__ import annotations

from chatkit import MessageReceived
from chatkit.bots import Bot, Failure, MessageContext, log_failure

bot = Bot()


@bot.on(MessageReceived, types=["TEXT"])
async def echo(message: MessageContext) -> None:
    """Read a text and answer it."""
    await message.mark_read()
    message.state["answers"] = message.state.get("answers", 0) + 1
    await message.reply(f"You said: {message.text}")


@bot.command("count")
async def count(message: MessageContext) -> None:
    """Say how many texts were answered here."""
    await message.reply(f"{message.state.get('answers', 0)} answers so far")


@bot.error
async def failed(failure: Failure) -> None:
    """Say so where somebody waits, and write it down."""
    await log_failure(failure)
    if failure.given_up and isinstance(failure.context, MessageContext):
        await failure.context.reply("Sorry, I have no answer to that.")


if __name__ == "__main__":
    bot.run()
