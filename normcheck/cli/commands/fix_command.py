"""``normcheck fix``: estimate, prove, write. The flags are in ``fix_flags.py``."""

import os
import sys
from dataclasses import replace
from pathlib import Path

from normcheck.cli.flags.fix_flags import Fix
from normcheck.cli.flags.limit_words import read_limits
from normcheck.cli.flags.run_words import progress, requested
from normcheck.cli.screen.error_messages import report_note
from normcheck.cli.screen.output_places import Look, Output, view, write
from normcheck.config.flags.settings_flags import Flags
from normcheck.config.merge import resolve
from normcheck.errors import UsageError
from normcheck.live.run_request import Running
from normcheck.pipeline.configured_run import indispensable_run
from normcheck.repair.repair_request import SAMPLES, Fixing
from normcheck.repair.repair_result import Repair
from normcheck.runs.fix import fix
from normcheck.sources.place import local, place_of
from normcheck.writing.destination import STDOUT, Kind, destination_of

REFUSED = 1
"""Exit code: something spoke against the repair, and nothing was written."""


def run_fix(words: Fix) -> int:
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
        with progress(words.screen.quiet) as (tick, announce):
            running = replace(how.running, progress=tick, announce=announce)
            result = fix(words.target, replace(how, running=running))
    else:
        result = fix(words.target, how)
    if not words.screen.quiet or result.refused:
        # The copy may be what stdout carries; what is said of it goes beside it then.
        if to_stdout:
            sys.stderr.write(_rendered(result, words, "stderr"))
        else:
            write(_rendered(result, words, STDOUT), STDOUT)
    return REFUSED if result.refused else 0


def _wanted(words: Fix) -> Fixing:
    """The repairs that the flags ask for.

    Raises:
        UsageError: They ask for none, or for what does not go together.
    """
    running = _running(words)
    if words.without_data:
        _check_without_data(words, running)
    elif words.run.input_shape:
        raise UsageError(
            "--input-shape is of made-up input, and data have shapes of their own",
            "it belongs to --without-data",
        )
    elif running is not None and running.feeding.data is None:
        raise UsageError(
            "statistics are estimated from data only, never from made-up input",
            "give --data, best of the training set, with labels; --without-data is an emergency "
            "repair of statistics that are lost",
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
        places=tuple(words.run.where),
        running=running,
        holdout=words.holdout or None,
        without_data=words.without_data,
        force=words.force,
        modes=words.modes,
        counts=words.counts,
        unwarm=words.unwarm,
        momentum=words.momentum,
        limits=read_limits(words.reading.limit),
        seconds=words.run.time_limit or 0.0,
    )
    if not how.asks_for:
        raise UsageError(
            "no repair is asked for",
            "--model and --data re-estimate statistics; --modes eval, --counts, --unwarm and "
            "--without-data need no data",
        )
    return how


def _check_without_data(words: Fix, running: Running | None) -> None:
    """See that nothing speaks for a better repair.

    Raises:
        UsageError: Something does.
    """
    if words.holdout:
        raise UsageError("--holdout judges what --data estimates", "leave out --without-data")
    if words.unwarm:
        raise UsageError(
            "--unwarm and --without-data both replace the statistics",
            "where the batch count is right, --unwarm alone is exact",
        )
    if running is not None and running.feeding.data is not None:
        raise UsageError(
            "--without-data, and data are given", "leave it out: an estimate from data is exact"
        )


def _running(words: Fix) -> Running | None:
    """How the model is run: as the flags say, and where they say nothing as the configuration.

    Raises:
        UsageError: The configuration names code that nobody allowed to be imported.
    """
    known = resolve(Flags(configuration=words.configuration), os.environ, Path.cwd()).examination
    if words.without_data:
        asked = requested(replace(words.run, run=True), samples=0)
    else:
        asked = requested(words.run, samples=SAMPLES)
    if asked is None:
        return None
    known = replace(known, running=replace(asked, announce=report_note))
    return indispensable_run(place_of(words.target), known)


def _rendered(result: Repair, words: Fix, file: str) -> str:
    from normcheck.report.people.text_form import FORM

    assert FORM.fix is not None  # noqa: S101  (text tells of everything)
    look = Look(words.screen.color, words.screen.quiet, words.screen.verbose > 0)
    return FORM.fix(result, view(Output("text", file), look))
