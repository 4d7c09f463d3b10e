"""The commands and their flags, in Typer's terms."""

from enum import StrEnum
from typing import Annotated

import typer

from normcheck.cli.kinds import print_kinds
from normcheck.cli.rule import print_rule
from normcheck.version import VERSION


class OutputFormat(StrEnum):
    """Forms of the report."""

    TEXT = "text"
    JSON = "json"


class FailOn(StrEnum):
    """Severities that can fail a run."""

    ERROR = "error"
    WARNING = "warning"


class Color(StrEnum):
    """When to colour."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


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
        typer.echo(f"normcheck {VERSION}")
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


@app.command()
def scan(  # noqa: PLR0917  (a flag is a parameter)
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="TARGET",
            help="Checkpoint files, folders (searched for checkpoints) or quoted patterns.",
            show_default=False,
        ),
    ],
    form: Annotated[
        OutputFormat,
        typer.Option("--format", "-f", "--output-format", help="Form of the report."),
    ] = OutputFormat.TEXT,
    output: Annotated[
        str,
        typer.Option(
            "--output-file",
            "-o",
            metavar="FILE",
            help="Write the report there instead of stdout (-), whole or not at all.",
        ),
    ] = "-",
    select: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULES",
            help="Run only these rules: codes, names or prefixes, with commas. Default: ALL.",
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="RULES", help="Leave these rules out; the more specific word wins."),
    ] = None,
    fail_on: Annotated[
        FailOn, typer.Option(help="Exit with 1 for findings of this severity or worse.")
    ] = FailOn.WARNING,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", "-e", help="Exit with 0 even where there are findings.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 2 where a rule or file was skipped.")
    ] = False,
    color: Annotated[
        Color, typer.Option(help="Colour; auto looks at the terminal, NO_COLOR, FORCE_COLOR.")
    ] = Color.AUTO,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only warnings and errors; silent without.")
    ] = False,
    plot: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="Draw predicted against stored means, a panel a layer (png, svg, pdf).",
        ),
    ] = "",
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose", "-v", count=True, help="Every layer and skipped rule; -vv for tracebacks."
        ),
    ] = 0,
) -> int:
    """Scan saved models and say what is wrong with their normalization layers.

    Exit codes: 0 nothing found, 1 findings, 2 something could not be read or done, 3 no
    checkpoint under the targets.
    """
    # Imported here, so that --help and the other commands do not wait for numpy.
    from normcheck.cli.scan import ScanWords, run_scan

    return run_scan(
        ScanWords(
            targets=targets,
            form=form.value,
            output=output,
            select=select or (),
            ignore=ignore or (),
            fail_on=fail_on.value,
            exit_zero=exit_zero,
            strict=strict,
            color=color.value,
            quiet=quiet,
            verbose=verbose,
            plot=plot,
        )
    )


@app.command()
def diff(  # noqa: PLR0917  (a flag is a parameter)
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="OLD NEW",
            help="Checkpoints of one model, in the order in which they came about: two or more.",
            show_default=False,
        ),
    ],
    form: Annotated[
        OutputFormat,
        typer.Option("--format", "-f", "--output-format", help="Form of the report."),
    ] = OutputFormat.TEXT,
    output: Annotated[
        str,
        typer.Option(
            "--output-file",
            "-o",
            metavar="FILE",
            help="Write the report there instead of stdout (-), whole or not at all.",
        ),
    ] = "-",
    select: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULES",
            help="Run only these rules: codes, names or prefixes, with commas. Default: NC6.",
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="RULES", help="Leave these rules out; the more specific word wins."),
    ] = None,
    fail_on: Annotated[
        FailOn, typer.Option(help="Exit with 1 for findings of this severity or worse.")
    ] = FailOn.WARNING,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", "-e", help="Exit with 0 even where there are findings.")
    ] = False,
    ranks: Annotated[
        bool,
        typer.Option(
            "--ranks", help="The files are ranks of one step: hold each against the first."
        ),
    ] = False,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLACE",
            help=(
                "Which model to compare where a file holds several (state_dict, ema): once for "
                "all files, or once for each."
            ),
        ),
    ] = None,
    color: Annotated[
        Color, typer.Option(help="Colour; auto looks at the terminal, NO_COLOR, FORCE_COLOR.")
    ] = Color.AUTO,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only warnings and errors; silent without.")
    ] = False,
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose", "-v", count=True, help="Every layer and skipped rule; -vv for tracebacks."
        ),
    ] = 0,
) -> int:
    """Say what moved between checkpoints of one run, or between ranks, layer by layer.

    Exit codes: 0 nothing found, 1 findings, 2 something could not be read or done.
    """
    from normcheck.cli.diff import DiffWords, run_diff

    return run_diff(
        DiffWords(
            targets=targets,
            form=form.value,
            output=output,
            select=select or (),
            ignore=ignore or (),
            fail_on=fail_on.value,
            exit_zero=exit_zero,
            ranks=ranks,
            where=where or (),
            color=color.value,
            quiet=quiet,
            verbose=verbose,
        )
    )


@app.command()
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
    print_rule(None if everything else word)


@app.command()
def kinds(
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", help="BatchNorm2d, LayerNorm, RMSNorm …")
    ] = None,
) -> None:
    """Show what each normalization does in train and in eval mode, and what it suits."""
    print_kinds(kind)
