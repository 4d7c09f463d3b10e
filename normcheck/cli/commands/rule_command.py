"""``normcheck rule``: the pages of the rules."""

import shutil
import textwrap

import typer


def print_rule(word: str | None) -> None:
    """The page of one rule; the list of all where ``word`` is None."""
    from normcheck.rules.catalogue import FAMILIES, RULES, find
    from normcheck.rules.page import page_of

    if word is not None:
        found = find(word)
        typer.echo(f"# {found.code} {found.name}\n")
        typer.echo(page_of(found))
        return
    width = min(120, shutil.get_terminal_size((80, 24)).columns)
    family = ""
    for entry in RULES:
        if entry.code[:3] != family:
            family = entry.code[:3]
            typer.echo(f"{FAMILIES[family]} ({family})")
        head = f"  {entry.code}  {entry.severity.value:<8} {entry.name:<27} "
        typer.echo(textwrap.fill(head + entry.summary, width, subsequent_indent=" " * len(head)))
