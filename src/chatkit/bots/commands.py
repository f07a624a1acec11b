"""Commands: texts such as `/order 3 coffee`, each with its handler, and the help that is made of them.

Called by `bot`. What a word is as a value is in `arguments`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection
from difflib import get_close_matches

import msgspec

from ..errors import ConfigurationError
from .arguments import ArgumentsError, Parameter, doc_of, parameters_of, parsed
from .contexts import MessageContext

NAME_MAX = 32
"""Characters of a command's name."""

_NAME = re.compile(rf"[\w-]{{1,{NAME_MAX}}}")

CommandHandler = Callable[..., Awaitable[object]]


class Command(msgspec.Struct, frozen=True):
    """One command.

    Attributes:
        name: Without the prefix.
        handler: Called with the message and the arguments.
        parameters: What it takes.
        help: What it does, for people; the first line stands in the list.
    """

    name: str
    handler: CommandHandler
    parameters: list[Parameter]
    help: str

    def usage(self, prefix: str) -> str:
        """How it is written: `/order <count> [note...]`."""
        return " ".join([f"{prefix}{self.name}", *(each.usage for each in self.parameters)])

    async def call(self, message: MessageContext, text: str, prefix: str) -> None:
        """Handle a message whose text after the command's name is `text`; wrong arguments are answered."""
        try:
            values, rest = parsed(text, self.parameters)
        except ArgumentsError as error:
            await message.reply(f"{error}.\nUsage: {self.usage(prefix)}")
        else:
            await self.handler(message, *values, **rest)


class Call(msgspec.Struct, frozen=True):
    """What a text says that looks like a command.

    Attributes:
        name: Which one, in lower case.
        addressee: Whose, in `/help@echo-bot`; "" for anybody's.
        text: What follows.
    """

    name: str
    addressee: str
    text: str


class Commands:
    """All commands of one bot, by name.

    Args:
        prefix: What a command begins with.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._by_name: dict[str, Command] = {}

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def add(self, name: str | None, help: str | None, handler: CommandHandler) -> None:
        """Take a command. Raises ConfigurationError if it can never work, or the name is taken."""
        if name is None:
            name = getattr(handler, "__name__", "")
        name = name.casefold() if isinstance(name, str) else ""
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"a command's name is 1 to {NAME_MAX} letters, digits, _ and -, not {name!r:.80}"
            )
        if name in self._by_name:
            raise ConfigurationError(f"there is a command {name!r} already")
        text = help if help is not None else doc_of(handler)
        self._by_name[name] = Command(name, handler, parameters_of(handler), text)

    def get(self, name: str) -> Command | None:
        """The command of this name."""
        return self._by_name.get(name)

    def call_in(self, text: str) -> Call | None:
        """The command that a text is, or would be; None if it is none."""
        text = text.lstrip()
        if not text.startswith(self.prefix):
            return None
        head, *rest = text[len(self.prefix) :].split(maxsplit=1) or [""]
        name, _, addressee = head.partition("@")
        if not _NAME.fullmatch(name) or not text[len(self.prefix) :].startswith(name):
            return None
        return Call(name.casefold(), addressee, rest[0] if rest else "")

    def help(self, name: str = "") -> str:
        """All commands, a line each; of one, all that is known of it."""
        if not name:
            return "\n".join(self._line(each) for each in self._sorted())
        command = self._by_name.get(name.removeprefix(self.prefix).casefold())
        if command is None:
            return self.unknown(name.removeprefix(self.prefix))
        shown = [f"{each.name}: {each.shown}" for each in command.parameters if each.shown]
        return "\n".join(filter(None, [command.usage(self.prefix), command.help, *shown]))

    def unknown(self, name: str) -> str:
        """What is said of a command that there is not."""
        known: Collection[str] = self._by_name
        name = "".join(filter(str.isprintable, name))
        near = get_close_matches(name[:NAME_MAX].casefold(), known, n=1)
        hint = f"Did you mean {self.prefix}{near[0]}? " if near else ""
        return f"There is no {self.prefix}{name[:NAME_MAX]}. {hint}{self.prefix}help lists what there is."

    def _sorted(self) -> list[Command]:
        return [self._by_name[name] for name in sorted(self._by_name)]

    def _line(self, command: Command) -> str:
        first = command.help.partition("\n")[0]
        return command.usage(self.prefix) + (f" - {first}" if first else "")


async def answer_help(commands: Commands, message: MessageContext, command: str = "") -> None:
    """List the commands, or explain one."""
    await message.reply(commands.help(command))
