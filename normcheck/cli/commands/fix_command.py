"""``normcheck fix``: estimate, prove, write. The flags are in ``fix_flags.py``."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from normcheck.cli.flags.fix_flags import Fix
from normcheck.cli.flags.limit_words import read_limits
from normcheck.cli.flags.run_words import progress, requested
from normcheck.cli.screen.destinations import Destinations
from normcheck.cli.screen.error_messages import report_note
from normcheck.cli.screen.output_places import (
    Look,
    OutputPlace,
    pair,
    utf8_for_programs,
    view,
    write,
)
from normcheck.config.flags.settings_flags import Flags
from normcheck.config.merge import resolve
from normcheck.errors import UsageError
from normcheck.live.run_request import Running
from normcheck.pipeline.configured_run import indispensable_run
from normcheck.repair.repair_request import SAMPLES, Fixing
from normcheck.repair.repair_result import Repair
from normcheck.repair.repaired_place import backup_of
from normcheck.report.forms import form_of
from normcheck.runs.fix import fix
from normcheck.sources.place import is_remote, local, place_of
from normcheck.writing.destination import STDOUT, Kind, destination_of

REFUSED = 1
"""Exit code: something spoke against the repair, and nothing was written."""


def run_fix(words: Fix) -> int:
    """Repair, say what was done, and return the exit code."""
    how = replace(_wanted(words), announce=report_note)
    if words.output:
        local(words.output, "-o")  # an address is no path
    to_stdout = bool(words.output) and destination_of(words.output).kind is Kind.STDOUT
    outputs = pair(words.formats or ("text",), words.report, "--report")
    destinations = _destinations(words, outputs, to_stdout=to_stdout)
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
    if result.written is not None:
        destinations.spare([result.written.backup], "the file as it was")
    utf8_for_programs(outputs)
    for output in outputs:
        if output == OutputPlace("text", STDOUT) and words.screen.quiet and not result.refused:
            continue
        # The copy may be what stdout carries; what is said of it goes beside it then.
        if to_stdout and output.file == STDOUT:
            sys.stderr.write(_rendered(result, words, OutputPlace(output.form, "stderr")))
        else:
            write(_rendered(result, words, output), output.file)
    return REFUSED if result.refused else 0


def _destinations(words: Fix, outputs: Sequence[OutputPlace], *, to_stdout: bool) -> Destinations:
    """Where the copy goes and what is said of it: all of them looked at before any work.

    Raises:
        UsageError: Two are one place, one is an input, or a form cannot be made here.
    """
    for output in outputs:
        if to_stdout and output == OutputPlace("html", STDOUT):
            raise UsageError(
                "the repaired copy and the page are two outputs for stdout",
                "give the page a file: --report fix.html",
            )
        if (check := form_of(output.form).check) is not None:
            check()
    if not words.report:
        return Destinations(())  # the copy's own place is looked at where it is written
    destinations = Destinations([words.output, *words.report])
    destinations.spare([words.target, words.run.data, words.holdout])
    if words.in_place and not is_remote(words.target):
        backup = backup_of(Path(os.path.realpath(words.target)))
        for name in words.report:
            if os.path.realpath(name) == str(backup):
                raise UsageError(f"{name} holds the file as it was", "name another with --report")
    return destinations


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
        # --where names the models that are repaired, by a run or without one.
        asked = requested(replace(words.run, where=()), samples=SAMPLES)
        if asked is not None:
            asked = requested(words.run, samples=SAMPLES)
    if asked is None:
        return None
    known = replace(known, running=replace(asked, announce=report_note))
    return indispensable_run(place_of(words.target), known)


def _rendered(result: Repair, words: Fix, output: OutputPlace) -> str:
    render = form_of(output.form).fix
    assert render is not None  # noqa: S101  (the flag takes no other form)
    look = Look(words.screen.color, words.screen.quiet, words.screen.verbose > 0)
    return render(result, view(output, look))
