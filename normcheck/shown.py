"""How results of normcheck show themselves in Python: in a prompt, a notebook, a program."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_LONGEST = 1000
"""Characters of a ``repr``; a prompt shows one after every line."""
_LONGEST_VALUE = 80
_MOST_ITEMS = 3


class Brief:
    """A dataclass whose ``repr`` is short: what is not the default, long values by their size."""

    __slots__ = ()

    def __repr__(self) -> str:
        """One line, under a kilobyte."""
        said = []
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # a mixin of dataclasses
            value = getattr(self, field.name)
            if not _is_default(field, value):
                said.append(f"{field.name}={_short(value)}")
        text = f"{type(self).__name__}({', '.join(said)})"
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 2]}…)"


class Shown(Brief):
    """A result that shows itself: as text, as HTML, as data."""

    __slots__ = ()

    def __str__(self) -> str:
        """What the command prints, at 80 columns."""
        return str(_view().text_of(self, 80, color=False))

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return str(_view().html_of(self))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What ``rich.print`` shows, as wide as the console."""
        from rich.text import Text

        color = console.color_system is not None
        yield Text.from_ansi(_view().text_of(self, options.max_width, color=color))

    def to_dict(self) -> dict[str, Any]:
        """The same data as ``--format json``: NaN and infinity are strings."""
        found: dict[str, Any] = _view().dict_of(self)
        return found

    def to_json(self) -> str:
        """The same text as ``--format json``."""
        return str(_view().json_of(self))

    def to_html(self, file: str | Path | None = None) -> str:
        """One self-contained page, as ``--format html`` writes it.

        Args:
            file: Where to write it as well.

        Raises:
            NormcheckError: jinja2 is missing, or the file cannot be written.
        """
        return str(_view().page_of(self, file))


def _view() -> Any:
    # By its name: it imports the results that are shown here, so that this is a circle.
    return import_module("normcheck.report.python_view")


def _is_default(field: dataclasses.Field[Any], value: object) -> bool:
    if field.default is not dataclasses.MISSING:
        return bool(value is field.default or value == field.default)
    if field.default_factory is not dataclasses.MISSING:
        return bool(value == field.default_factory())
    return False


def _short(value: object) -> str:
    if isinstance(value, tuple | list) and len(value) > _MOST_ITEMS:
        kind = type(value[0]).__name__
        return f"<{len(value)} of {kind}>"
    if isinstance(value, tuple | list):
        inner = ", ".join(_short(item) for item in value)
        return f"({inner}{',' if len(value) == 1 else ''})"
    name = getattr(value, "code", None) or getattr(value, "rule", None)
    if dataclasses.is_dataclass(value) and isinstance(name, str):
        return f"<{type(value).__name__} {name}>"
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"<{type(value).__name__}>"
