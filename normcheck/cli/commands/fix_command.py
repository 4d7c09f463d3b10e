"""``normcheck fix``: estimate, prove, write. The flags themselves are in ``app.py``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from normcheck.cli.flags.run_words import RunWords, progress, requested
from normcheck.cli.screen.error_messages import report_note
from normcheck.cli.screen.output_places import Look, Output, view, write
from normcheck.errors import UsageError
from normcheck.repair.repair_request import Fixing
from normcheck.repair.repair_result import Repair
from normcheck.runs.fix import fix
from normcheck.sources.place import local
from normcheck.writing.destination import STDOUT, Kind, destination_of

REFUSED = 1
"""Exit code: something spoke against the repair, and nothing was written."""


@dataclass(frozen=True, slots=True)
class FixWords:
    """The words of one ``normcheck fix``, as the flags give them."""

    target: str
    output: str = ""
    in_place: bool = False
    force: bool = False
    at: Sequence[str] = ()
    holdout: str = ""
    modes: str = ""
    counts: bool = False
    unwarm: bool = False
    momentum: float | None = None
    color: str = "auto"
    quiet: bool = False
    verbose: int = 0
    run: RunWords = field(default_factory=RunWords)


def run_fix(words: FixWords) -> int:
    """Repair, say what was done, and return the exit code."""
    how = replace(_wanted(words), announce=report_note)
    if words.output:
        local(words.output, "-o")  # an address is no path
    to_stdout = bool(words.output) and destination_of(words.output).kind is Kind.STDOUT
    if to_stdout and sys.stdout is not None and sys.stdout.isatty():
        raise UsageError(
            "a model is nothing to look at on a terminal", "name a file, or the program it goes to"
        )
    if how.running is not None:
        with progress(words.quiet) as (tick, announce):
            running = replace(how.running, progress=tick, announce=announce)
            result = fix(words.target, replace(how, running=running))
    else:
        result = fix(words.target, how)
    if not words.quiet or result.refused:
        # The copy may be what stdout carries; what is said of it goes beside it then.
        if to_stdout:
            sys.stderr.write(_rendered(result, words, "stderr"))
        else:
            write(_rendered(result, words, STDOUT), STDOUT)
    return REFUSED if result.refused else 0


def _wanted(words: FixWords) -> Fixing:
    """The repairs that the flags ask for.

    Raises:
        UsageError: They ask for none, or for what does not go together.
    """
    running = requested(words.run)
    if running is not None and running.feeding.data is None:
        raise UsageError(
            "statistics are estimated from data only, never from made-up input",
            "give --data, best of the training set, with labels",
        )
    if words.holdout and running is None:
        raise UsageError("--holdout judges what --data estimates", "give --data as well")
    if words.momentum is not None and not 0 < words.momentum < 1:
        raise UsageError(f"--momentum {words.momentum:g}: not between 0 and 1")
    if words.unwarm and running is not None:
        raise UsageError(
            "--unwarm and --data both replace the statistics", "with data, --data alone is better"
        )
    if words.momentum is not None and not words.unwarm:
        raise UsageError("--momentum belongs to --unwarm", "add --unwarm, or leave it out")
    how = Fixing(
        output=words.output,
        in_place=words.in_place,
        places=tuple(words.at),
        running=running,
        holdout=words.holdout or None,
        force=words.force,
        modes=words.modes,
        counts=words.counts,
        unwarm=words.unwarm,
        momentum=words.momentum,
    )
    if not how.asks_for:
        raise UsageError(
            "no repair is asked for",
            "--model and --data re-estimate statistics; --modes eval, --counts and --unwarm need "
            "no data",
        )
    return how


def _rendered(result: Repair, words: FixWords, file: str) -> str:
    from normcheck.report.people.text_form import FORM

    assert FORM.fix is not None  # noqa: S101  (text tells of everything)
    look = Look(words.color, words.quiet, words.verbose > 0)
    return FORM.fix(result, view(Output("text", file), look))
