"""The commands, and the one place where errors become exit codes."""

import os
import sys
import traceback
from typing import Annotated

import typer

from normcheck.cli.kinds import kinds
from normcheck.cli.rule import rule
from normcheck.cli.scan import scan
from normcheck.errors import NormcheckError
from normcheck.version import VERSION

EXIT_NOT_DONE = 2
"""The job could not be done."""

app = typer.Typer(
    name="normcheck",
    help=(
        "Says why a trained model predicts badly: checks the normalization layers of saved "
        "models for stale running statistics and train/eval mode bugs. Reading a file never "
        "runs its code."
    ),
    no_args_is_help=True,
    # Plain help: it needs no import of rich, and reads the same in a log.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command()(scan)
app.command()(rule)
app.command()(kinds)


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


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: Words after the program's name; ``sys.argv`` where None.
    """
    words = sys.argv[1:] if arguments is None else arguments
    try:
        result = app(args=words, prog_name="normcheck", standalone_mode=False)
    except NormcheckError as error:
        report_error(error.message, error.hint)
        return EXIT_NOT_DONE
    except BrokenPipeError:
        # Whoever read the output has enough of it (normcheck scan … | head).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_NOT_DONE
    except KeyboardInterrupt:
        report_error("interrupted", "")
        return 130
    except typer.Exit as stop:
        return stop.exit_code
    except Exception as error:  # the last net: no path by which a crash looks like 0 or 1
        return _crashed(error, words)
    return result if isinstance(result, int) else 0


def report_error(message: str, hint: str) -> None:
    """An error and what to do about it, on stderr."""
    print(f"error: {message}", file=sys.stderr)  # noqa: T201  (the command line's own voice)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)  # noqa: T201  (the same)


def _crashed(error: Exception, words: list[str]) -> int:
    # Usage errors are the parser's own and know how to show themselves.
    show = getattr(error, "show", None)
    if callable(show) and hasattr(error, "exit_code"):
        show()
        return EXIT_NOT_DONE
    report_error(
        f"normcheck itself failed: {type(error).__name__}: {error}",
        "this is a bug in normcheck; run again with -vv for the details and report it",
    )
    if "-vv" in words:
        traceback.print_exception(error)
    return EXIT_NOT_DONE
