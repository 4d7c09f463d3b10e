"""How a flag is declared: as a field of a group, ``Annotated[type, Flag(...)]``.

A group is a frozen dataclass; a command is one, too, and its fields are flags of its own or whole
groups. Two commands that hold the same group have the same flags. Typer is not imported here: a
scan does without it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args

from normcheck.lazy_dataclass import lazy_dataclass

Group = TypeVar("Group")


@lazy_dataclass()
class FileKey:
    """What a flag is in a table of a configuration file."""

    form: str
    """What its value looks like, in words."""
    default: str
    """As it would stand in the file."""
    meaning: str
    reads: str
    """How its value is read: ``selectors``, ``one_of``, ``switch``, ``path`` …"""
    adds: bool = False
    """Whether the flag adds to what the file says, instead of taking its place."""


@lazy_dataclass()
class Flag:
    """A flag of the command line; its name is that of its field, unless ``names`` has another."""

    help: str
    names: tuple[str, ...] = ()
    """In place of the field's name, the one that messages use first."""
    short: str = ""
    off: str = ""
    """What takes a switch back: ``--no-strict``."""
    metavar: str = ""
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    counts: bool = False
    """Whether its occurrences are counted: ``-vv``."""
    completes_rules: bool = False
    """Whether a shell offers the codes and names of rules."""
    key: FileKey | None = None
    """What it is at the top of a configuration file."""
    model_key: FileKey | None = None
    """What it is in an entry for some models."""
    unset: str = "none"
    """What holds where nobody says anything, as a file would have it; a key has its default."""
    variable: bool = False
    """Whether ``NORMCHECK_…`` in the environment stands for it."""


@lazy_dataclass()
class Argument:
    """A word of the command line that no flag stands before."""

    metavar: str
    help: str


@lazy_dataclass()
class Declared:
    """One field of a group, with what its type says."""

    field: str
    says: Flag | Argument
    type: type
    """Of one value: text, number or bool."""
    repeats: bool
    """Whether it may be given several times."""
    optional: bool
    """Whether None stands for not given."""
    default: Any

    @property
    def flag(self) -> Flag:
        """What is declared, of a flag."""
        assert isinstance(self.says, Flag)  # noqa: S101  (asked of flags only)
        return self.says

    @property
    def name(self) -> str:
        """The name that messages use: ``--min-severity``."""
        return self.flag.names[0] if self.flag.names else f"--{self.field.replace('_', '-')}"

    @property
    def words(self) -> tuple[str, ...]:
        """All that switch it on, or come before its value."""
        names = self.flag.names or (self.name,)
        return (*names, self.flag.short) if self.flag.short else names

    @property
    def key(self) -> str:
        """Its name in a configuration file: ``min-severity``."""
        return self.name.removeprefix("--")

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value."""
        return self.type is bool or self.flag.counts


def declared(kind: type) -> Iterator[Declared]:
    """All flags and arguments of a command or a group, those of its groups too, in their order."""
    for field in fields(kind):
        if is_dataclass(field.type):
            assert isinstance(field.type, type)  # noqa: S101  (a class, not an object of one)
            yield from declared(field.type)
            continue
        annotation: Any = field.type
        variants = _variants(annotation.__origin__)
        named = next(variant for variant in variants if variant is not NoneType)
        repeats = getattr(named, "__origin__", None) is tuple
        yield Declared(
            field.name,
            annotation.__metadata__[0],
            get_args(named)[0] if repeats else named,
            repeats,
            NoneType in variants,
            field.default,
        )


def _variants(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)


def flags_of(*kinds: type) -> Iterator[Declared]:
    """The flags of commands or groups, without their arguments."""
    for kind in kinds:
        yield from (entry for entry in declared(kind) if isinstance(entry.says, Flag))


def filled(kind: type[Group], values: Mapping[str, Any]) -> Group:
    """A command or group with these values; whatever they leave out has its default.

    Args:
        kind: The dataclass.
        values: By the names of fields, whichever group has them.
    """
    given: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]  # a dataclass, which no type says
        if is_dataclass(field.type):
            given[field.name] = filled(field.type, values)  # type: ignore[arg-type]
        elif field.name in values:
            given[field.name] = values[field.name]
    return kind(**given)


def values_of(group: Any) -> dict[str, Any]:
    """The values of a command or group by the names of fields, those of its groups too."""
    found: dict[str, Any] = {}
    for field in fields(group):
        value = getattr(group, field.name)
        found |= values_of(value) if is_dataclass(field.type) else {field.name: value}
    return found
