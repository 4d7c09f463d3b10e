"""``normcheck kinds``: the table of knowledge."""

import shutil
import textwrap
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from normcheck.norms.kinds import NormKind

_NAME_COLUMN = 22


def print_kinds(kind: str | None) -> None:
    """The page of the kinds that ``kind`` names; the table of all where it is None."""
    from normcheck.errors import UsageError
    from normcheck.norms.kinds import KINDS
    from normcheck.wording import nearest

    if kind is None:
        typer.echo(_line("kind", "normalises over", "eval mode uses"))
        for entry in KINDS:
            typer.echo(_line(entry.name, entry.over, entry.eval_uses))
        typer.echo("\nMore on one of them: normcheck kinds BatchNorm2d")
        return
    wanted = kind.lower()
    found = [entry for entry in KINDS if entry.name.lower() == wanted] or [
        entry for entry in KINDS if wanted in entry.name.lower()
    ]
    if not found:
        names = [entry.name for entry in KINDS]
        near = nearest(kind, names, alike=0.4)
        raise UsageError(
            f"no kind of normalization is called {kind!r:.60}",
            f"did you mean {near}?" if near else "run 'normcheck kinds' for the list",
        )
    typer.echo("\n\n".join(_page(entry) for entry in found))


def _line(name: str, over: str, eval_uses: str) -> str:
    return f"{name:<24}{over:<28}{eval_uses}".rstrip()


def _page(kind: "NormKind") -> str:
    width = min(100, shutil.get_terminal_size((80, 24)).columns)
    facts = {
        "normalises over": kind.over,
        "statistics in train": kind.train,
        "statistics in eval": kind.eval,
        "outputs of the modes": "equal" if kind.same_in_both_modes else "may differ",
        "batch size": kind.batch_size,
        "parameters": kind.parameters,
        "suits": kind.suits,
        "classes": ", ".join(path.removeprefix("*.") for path in kind.classes),
    }
    lines = [kind.name]
    for name, fact in facts.items():
        if fact:
            lines += textwrap.wrap(
                f"  {name:<{_NAME_COLUMN}}{fact}",
                width,
                subsequent_indent=" " * (_NAME_COLUMN + 2),
                break_on_hyphens=False,
            )
    return "\n".join(lines)
