"""The commands in Typer's terms: those with many flags are made from their declarations."""

from typing import Annotated

import typer

from normcheck.cli.commands.kinds_command import print_kinds
from normcheck.cli.commands.rule_command import print_rule
from normcheck.cli.flags.command_flags import NAMES, command
from normcheck.cli.flags.completion import complete_rule
from normcheck.cli.flags.typer_commands import typer_command
from normcheck.cli.perform import perform
from normcheck.version import LINE

app = typer.Typer(
    name="normcheck",
    help=(
        "Says why a trained model predicts badly: checks the normalization layers of saved "
        "models for stale running statistics and train/eval mode bugs. Reading a file never "
        "runs its code."
    ),
    no_args_is_help=True,
    # Plain help reads the same in a terminal, in a log and at any width.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(LINE)
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", is_eager=True, callback=_show_version, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


for _name in NAMES:
    app.command(_name)(typer_command(command(_name), perform))


@app.command()
def rule(
    word: Annotated[
        str | None,
        typer.Argument(
            metavar="RULE",
            help="Code or name: NC101 or never-updated-stats.",
            autocompletion=complete_rule,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="List all rules, a line each.")
    ] = False,
) -> None:
    """Print the page of a rule, or list them all."""
    print_rule(None if everything else word)


@app.command()
def kinds(
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", help="BatchNorm2d, LayerNorm, RMSNorm …")
    ] = None,
) -> None:
    """Show what each normalization does in train and in eval mode, and what it suits."""
    print_kinds(kind)
