"""``normcheck diff``: read, compare, report. The flags are in ``diff_flags.py``."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from normcheck.cli.commands.scan_command import exit_code, limited, tell_errors
from normcheck.cli.flags.diff_flags import Diff
from normcheck.cli.flags.repeated import repeated
from normcheck.cli.flags.run_words import progress, requested
from normcheck.cli.screen.destinations import Destinations
from normcheck.cli.screen.output_places import Look, pair, utf8_for_programs, view, write
from normcheck.config.merge import resolve, with_baseline
from normcheck.errors import UsageError
from normcheck.report.diff_report import Diff as Compared
from normcheck.report.form import View
from normcheck.report.forms import form_of
from normcheck.report.tally import Tally
from normcheck.rules.rule import Rule
from normcheck.runs.diff import diff


def run_diff(words: Diff) -> int:
    """Compare, write the report, and return the exit code."""
    resolved = resolve(words.flags, os.environ, Path.cwd())
    outputs = pair(resolved.formats, resolved.outputs)
    renderers = [(_renderer(output.form), output) for output in outputs]
    policy = with_baseline(resolved)
    asked = limited(resolved.examination, words.reading, words.remote)
    chosen = words.flags.judging.select or ()
    examination = replace(asked, rules=_comparing(asked.rules, chosen))
    destinations = Destinations(resolved.outputs)
    destinations.spare([*words.targets, words.run.data])
    for name, what in ((resolved.file.path, "configuration"), (resolved.baseline, "baseline")):
        destinations.spare([str(name)] if name else (), f"the {what} of this run")
    # --where names the models that are compared, by a run or without one.
    running = requested(replace(words.run, where=()), words.probing)
    with progress(words.screen.quiet) as (tick, announce):
        if running is not None:
            running = replace(running, progress=tick, announce=announce)
            examination = replace(examination, running=running)
        result = diff(
            words.targets,
            examination,
            policy,
            ranks=words.ranks,
            where=words.run.where,
        )
    destinations.spare(result.files)
    look = Look(
        words.screen.color,
        words.screen.quiet,
        words.screen.verbose > 0,
        repeated=repeated("diff", words, words.targets),
    )
    utf8_for_programs(outputs)
    for render, output in renderers:
        if result.comparisons or output.form != "text" or output.file != "-":
            write(render(result, view(output, look)), output.file)
    tell_errors(result.report.errors, words.screen.verbose)
    return exit_code(Tally.of(result.report), policy, exit_zero=words.exit.exit_zero)


def _renderer(form: str) -> Callable[[Compared, View], str]:
    """What writes a comparison in a form of the report.

    Raises:
        UsageError: Nothing does.
    """
    found = form_of(form)
    render = found.diff
    if found.check is not None:
        found.check()
    if render is None:
        raise UsageError(
            f"{form} has a line for each file, a comparison is about several", "use --format json"
        )
    return render


def _comparing(rules: tuple[Rule, ...], selected: Sequence[str]) -> tuple[Rule, ...]:
    """The rules that compare, as far as they are selected.

    Raises:
        UsageError: The selection has rules, and none of them compares.
    """
    comparing = tuple(rule for rule in rules if rule.need.compares)
    if selected and rules and not comparing:
        raise UsageError(
            f"{', '.join(selected):.60}: no rule that compares checkpoints",
            "diff has the rules of NC6; the others are for normcheck scan",
        )
    return comparing
