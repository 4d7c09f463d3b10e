"""A command's declarations in Typer's terms."""

import inspect
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from normcheck.cli.flags.completion import complete_rule
from normcheck.config.flags.flag import Argument, Declared, Flag, Group, declared, filled


def typer_command(kind: type[Group], perform: Callable[[Group], int]) -> Callable[..., int]:
    """A function whose parameters are the flags of a command.

    Args:
        kind: The command, as ``command_flags`` declares it.
        perform: Is handed the command, filled with what was given.
    """
    entries = {entry.field: entry for entry in declared(kind)}

    def command(**given: Any) -> int:
        values = {name: _plain(entries[name], value) for name, value in given.items()}
        return perform(filled(kind, values))

    parameters = [_parameter(entry) for entry in entries.values()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = kind.__doc__
    return command


def _parameter(entry: Declared) -> inspect.Parameter:
    says = entry.says
    required = isinstance(says, Argument) and not isinstance(entry.default, tuple)
    variant: Any = entry.type
    if isinstance(says, Flag) and says.choices:
        variant = _choices(entry.field.title(), says.choices)
    if entry.repeats:
        variant = list[variant]
    optional = not required and (entry.optional or entry.repeats or entry.default == "")
    annotation = variant | None if optional else variant
    return inspect.Parameter(
        entry.field,
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[annotation, _option(entry, says)],
        default=inspect.Parameter.empty if required else None if optional else entry.default,
    )


def _choices(name: str, words: tuple[str, ...]) -> Any:
    return StrEnum(name, [(word, word) for word in words])


def _option(entry: Declared, says: Flag | Argument) -> Any:
    if isinstance(says, Argument):
        return typer.Argument(metavar=says.metavar, help=says.help, show_default=False)
    words = list(entry.words)
    if says.off:
        words[0] = f"{words[0]}/{says.off}"
    return typer.Option(
        *words,
        metavar=says.metavar or None,
        help=says.help,
        # Of the rest the help says it, where there is something to say.
        show_default=bool(entry.default) and entry.type is not bool,
        min=says.minimum,
        count=says.counts,
        autocompletion=complete_rule if says.completes_rules else None,
    )


def _plain(entry: Declared, value: Any) -> Any:
    """A value of Typer's as the command has it."""
    if value is None:
        return None if entry.default is None else entry.default
    if entry.repeats:
        return tuple(str(word) for word in value) or entry.default
    return str(value) if entry.type is str else value
