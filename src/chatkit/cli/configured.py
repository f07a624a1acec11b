"""The settings of a command, from its options, the environment and a file, by one precedence.

An option wins over a variable, that over a `..._FILE` variable, that over the file, that over the default. An option
gets all of this by being an option of `serve` or `worker`: `--log-level`, `CHATKIT_LOG_LEVEL` and `log_level` in the
file are one setting, and of a text `CHATKIT_..._FILE` and `..._file` name a file that holds it. An option that is no
setting, such as `--json`, says so by `allow_from_autoenv=False`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path as File
from typing import Any

import click
from click.core import ParameterSource

from ..client.environment import VARIABLES
from ..errors import ConfigurationError
from .common import exit_codes
from .config_file import ConfigFile, find, read_secret
from .settings import DEFAULT, OPTION, PREFIX, Settings, misspelt, read_settings, variable_of

_META = __name__
_NODES = ("serve", "worker")
_WORDS = {bool: "true or false", float: "a number", int: "a whole number", str: "a text in quotes"}

logger = logging.getLogger(__name__)


class Configuration:
    """What was chosen for one run of a command, and where.

    Attributes:
        file: The file with settings; None: there is none.
        defaults: What the file, and files that variables name, say of the command's options.
        settings: Those of `ServerConfig`, `DeliveryConfig` and `ArchiveConfig`.
    """

    def __init__(self, file: ConfigFile | None, defaults: Mapping[str, tuple[Any, str]]) -> None:
        self.file = file
        self.defaults = defaults
        self.settings = Settings({})

    def source_of(self, context: click.Context, name: str) -> str:
        """Where the value of an option comes from."""
        source = context.get_parameter_source(name)
        if source is ParameterSource.COMMANDLINE:
            return OPTION
        if source is ParameterSource.ENVIRONMENT:
            return variable_of((name,))
        return self.defaults[name][1] if source is ParameterSource.DEFAULT_MAP else DEFAULT

    def warnings(self, context: click.Context) -> Iterator[str]:
        """What is odd, and no error: misspelt variables, a file that everybody may read."""
        others = [*(variable_of((name,)) for name in all_names()), PREFIX + "CONFIG", *VARIABLES]
        others += [str(context.params.get("jwt_secret_env"))]
        for name, likely in misspelt(os.environ, others).items():
            yield f"{name} is set, and there is no such setting; is {likely} meant?"
        if self.file is not None:
            yield from self.file.warnings()


def configured(*names: str) -> Callable[[click.Command], click.Command]:
    """Give a command `--config` and `--set`, and its options their values from the environment and the file.

    Args:
        names: The options that are settings, if not all of them are.
    """

    def add(command: click.Command) -> click.Command:
        command.context_settings = {"auto_envvar_prefix": PREFIX.rstrip("_"), **command.context_settings}
        for parameter in command.params:
            if names and parameter.name not in names and isinstance(parameter, click.Option):
                parameter.allow_from_autoenv = False
        command.params += [_config_option(), _set_option()]
        return command

    return add


def configuration(context: click.Context | None = None) -> Configuration:
    """What was chosen for the command that runs."""
    found: Configuration = (context or click.get_current_context()).meta[_META]
    return found


def warn(context: click.Context | None = None) -> None:
    """Log what is odd about the settings of the command that runs."""
    context = context or click.get_current_context()
    for words in configuration(context).warnings(context):
        logger.warning("%s", words)


def is_setting(parameter: click.Parameter) -> bool:
    """Whether an option may come from the environment and the file, as all do that do not say otherwise."""
    return isinstance(parameter, click.Option) and parameter.allow_from_autoenv and not parameter.is_eager


def node_options() -> dict[str, click.Option]:
    """The settings that are options of a node or a worker, in their order; where both have one, the node's."""
    from .commands import chatkit  # which imports this

    options: dict[str, click.Option] = {}
    for command in _NODES:
        for parameter in filter(is_setting, chatkit.commands[command].params):
            assert isinstance(parameter, click.Option)
            options.setdefault(str(parameter.name), parameter)
    return options


def by_file(option: click.Option) -> str:
    """The name of the setting that names a file which holds an option's value; "" where there is none."""
    is_text = isinstance(option.type, click.types.StringParamType) and not option.multiple
    return f"{option.name}_file" if is_text else ""


def all_names() -> set[str]:
    """What a file may hold, beside the fields of the structs."""
    options = node_options()
    return {*options, *filter(None, map(by_file, options.values()))}


def _config_option() -> click.Option:
    return click.Option(
        ["--config"],
        type=click.Path(dir_okay=False),
        envvar=PREFIX + "CONFIG",
        is_eager=True,
        expose_value=False,
        callback=_read,
        metavar="FILE",
        help="The file with settings (CHATKIT_CONFIG); without it ./chatkit.toml, if there is one.",
    )


def _set_option() -> click.Option:
    return click.Option(
        ["--set", "assignments"],
        multiple=True,
        metavar="NAME=VALUE",
        allow_from_autoenv=False,
        expose_value=False,
        callback=_read_settings,
        help="Any other setting: heartbeat_s=10, limits.sends_per_user=10/30, delivery.batch=10.",
    )


def _read(context: click.Context, _: click.Parameter, named: str | None) -> None:
    with exit_codes():
        file = find(named)
        if file is not None:
            file.check_names(all_names())
        options = [it for it in context.command.params if isinstance(it, click.Option) and is_setting(it)]
        defaults = {str(it.name): found for it in options if (found := _default(context, it, file))}
    context.default_map = {name: value for name, (value, _) in defaults.items()}
    context.meta[_META] = Configuration(file, defaults)


def _read_settings(context: click.Context, _: click.Parameter, assignments: tuple[str, ...]) -> None:
    found = configuration(context)
    with exit_codes():
        from_file = {} if found.file is None else found.file.settings()
        found.settings = read_settings(assignments, os.environ, from_file)


def _default(context: click.Context, option: click.Option, file: ConfigFile | None) -> tuple[Any, str] | None:
    """What a variable that names a file, or the file with settings, says of an option; and which of them."""
    own = {str(it.name) for it in context.command.params}
    indirect = by_file(option) if by_file(option) not in own else ""
    variable = variable_of((indirect,))
    if indirect and (path := os.environ.get(variable)):
        _check_once(os.environ.get(variable_of((str(option.name),))), option, variable)
        return _converted(context, option, read_secret(File(path)), variable), variable
    if file is None:
        return None
    value, path_in_file = file.values.get((str(option.name),)), file.values.get((indirect,))
    if path_in_file is not None:
        where = f"{file.path}: {indirect}"
        _check_once(value, option, where)
        if not isinstance(path_in_file, str):
            raise ConfigurationError(f"{where} must be the path of a file")
        return _converted(context, option, read_secret(file.path.parent / path_in_file), where), str(
            file.path
        )
    if value is None or (option.name == "push" and isinstance(value, dict)):
        return None
    where = f"{file.path}: {option.name}"
    _check_type(option, value, where)
    return _converted(context, option, _beside(file, option, value), where), str(file.path)


def _check_once(other: object, option: click.Option, where: str) -> None:
    if other:
        raise ConfigurationError(f"{where}: {option.name} is given beside it; give one of them")


def _check_type(option: click.Option, value: Any, where: str) -> None:
    """A file has types: a port is no text there."""
    values = value if option.multiple and isinstance(value, list) else [value]
    kinds = _kinds(option)
    for each in values:
        if not isinstance(each, kinds) or (isinstance(each, bool) and bool not in kinds):
            raise ConfigurationError(f"{where}: it must be {_WORDS[kinds[0]]}")


def _kinds(option: click.Option) -> tuple[type, ...]:
    if option.is_bool_flag:
        return (bool,)
    if isinstance(option.type, click.types.FloatParamType):
        return (float, int)
    return (int,) if isinstance(option.type, click.types.IntParamType) else (str,)


def _beside(file: ConfigFile, option: click.Option, value: Any) -> Any:
    """Paths in a file are those beside it."""
    if not isinstance(option.type, click.Path):
        return value
    if isinstance(value, list):
        return [str(file.path.parent / each) for each in value]
    return str(file.path.parent / value)


def _converted(context: click.Context, option: click.Option, value: Any, where: str) -> Any:
    """The value as the option takes it. Raises ConfigurationError, which begins with the place of it."""
    if option.multiple and not isinstance(value, list):
        value = [value]
    try:
        return option.type_cast_value(context, value)
    except click.BadParameter as error:
        raise ConfigurationError(f"{where}: {error.message}") from None
