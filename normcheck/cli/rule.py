"""``normcheck rule``: the pages of the rules."""

from typing import Annotated

import typer


def rule(
    word: Annotated[
        str | None,
        typer.Argument(metavar="RULE", help="Code or name: NC101 or never-updated-stats."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="List all rules, a line each.")
    ] = False,
) -> None:
    """Print the page of a rule, or list them all."""
    from normcheck.rules.catalogue import FAMILIES, RULES, find

    if word is not None and not everything:
        found = find(word)
        typer.echo(f"# {found.code} {found.name}\n")
        typer.echo(found.page.strip())
        return
    family = ""
    for entry in RULES:
        if entry.code[:3] != family:
            family = entry.code[:3]
            typer.echo(f"{FAMILIES[family]} ({family})")
        typer.echo(f"  {entry.code}  {entry.severity.value:<8} {entry.name:<27} {entry.summary}")
