"""``normcheck diff``: read, compare, report. The flags themselves are in ``app.py``."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from normcheck.cli.commands.scan_command import exit_code, limited, tell_errors
from normcheck.cli.flags.run_words import RunWords, progress, requested
from normcheck.cli.screen.destinations import Destinations
from normcheck.cli.screen.output_places import Look, pair, utf8_for_programs, view, write
from normcheck.config.merge import Flags, resolve, with_baseline
from normcheck.errors import UsageError
from normcheck.report.diff_report import Diff
from normcheck.report.form import View
from normcheck.report.forms import form_of
from normcheck.report.tally import Tally
from normcheck.rules.rule import Rule
from normcheck.runs.diff import diff


@dataclass(frozen=True, slots=True)
class DiffWords:
    """The words of one ``normcheck diff``, as the flags give them."""

    targets: Sequence[str]
    flags: Flags = field(default_factory=Flags)
    exit_zero: bool = False
    ranks: bool = False
    where: Sequence[str] = ()
    color: str = "auto"
    quiet: bool = False
    verbose: int = 0
    limits: Sequence[str] = ()
    """Of reading, as ``--limit`` gives them."""
    redirects: Sequence[str] = ()
    """Hosts that the servers of addresses may redirect to."""
    run: RunWords = field(default_factory=RunWords)
    """How a model and its export are run, to compare their outputs."""


def run_diff(words: DiffWords) -> int:
    """Compare, write the report, and return the exit code."""
    resolved = resolve(words.flags, os.environ, Path.cwd())
    outputs = pair(resolved.formats, resolved.outputs)
    renderers = [(_renderer(output.form), output) for output in outputs]
    policy = with_baseline(resolved)
    asked = limited(resolved.examination, words.limits, words.redirects)
    examination = replace(asked, rules=_comparing(asked.rules, words.flags.select))
    destinations = Destinations(resolved.outputs)
    destinations.spare([*words.targets, words.run.data])
    for name, what in ((resolved.file.path, "configuration"), (resolved.baseline, "baseline")):
        destinations.spare([str(name)] if name else (), f"the {what} of this run")
    running = requested(words.run)
    with progress(words.quiet) as (tick, announce):
        if running is not None:
            running = replace(running, progress=tick, announce=announce)
        result = diff(
            words.targets,
            examination,
            policy,
            ranks=words.ranks,
            where=words.where,
            running=running,
        )
    destinations.spare(result.files)
    look = Look(words.color, words.quiet, words.verbose > 0)
    utf8_for_programs(outputs)
    for render, output in renderers:
        if result.comparisons or output.form != "text" or output.file != "-":
            write(render(result, view(output, look)), output.file)
    tell_errors(result.report.errors, words.verbose)
    return exit_code(Tally.of(result.report), policy, exit_zero=words.exit_zero)


def _renderer(form: str) -> Callable[[Diff, View], str]:
    """What writes a comparison in a form of the report.

    Raises:
        UsageError: Nothing does.
    """
    render = form_of(form).diff
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
