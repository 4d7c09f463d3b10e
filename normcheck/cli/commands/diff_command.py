"""``normcheck diff``: read, compare, report. The flags themselves are in ``app.py``."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from normcheck.cli.commands.scan_command import exit_code, limited, tell_errors
from normcheck.cli.flags.run_words import RunWords, progress, requested
from normcheck.cli.screen.destinations import Destinations
from normcheck.cli.screen.output_places import Look, Output, pair, rendered, text_style, write
from normcheck.config.merge import Flags, resolve, with_baseline
from normcheck.errors import UsageError
from normcheck.report.diff_report import Diff
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
    run: RunWords = field(default_factory=RunWords)
    """How a model and its export are run, to compare their outputs."""


def run_diff(words: DiffWords) -> int:
    """Compare, write the report, and return the exit code."""
    resolved = resolve(words.flags, os.environ, Path.cwd())
    outputs = pair(resolved.formats, resolved.outputs)
    if "json-lines" in resolved.formats:
        raise UsageError(
            "json-lines has a line for each file, a comparison is about several",
            "use --format json",
        )
    known = limited(with_baseline(resolved), words.limits)
    settings = replace(known, rules=_comparing(known.rules, words.flags.select))
    destinations = Destinations(resolved.outputs)
    destinations.spare([*words.targets, words.run.data])
    for name, what in ((resolved.file.path, "configuration"), (resolved.baseline, "baseline")):
        destinations.spare([str(name)] if name else (), f"the {what} of this run")
    running = requested(words.run)
    with progress(words.quiet) as (tick, announce):
        if running is not None:
            running = replace(running, progress=tick, announce=announce)
        result = diff(
            words.targets, settings, ranks=words.ranks, where=words.where, running=running
        )
    destinations.spare(result.files)
    look = Look(words.color, words.quiet, words.verbose > 0)
    for output in outputs:
        if result.comparisons or output.form != "text" or output.file != "-":
            write(_rendered(result, output, look), output.file)
    tell_errors(result.report.errors, words.verbose)
    return exit_code(Tally.of(result.report), settings, exit_zero=words.exit_zero)


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


def _rendered(result: Diff, output: Output, look: Look) -> str:
    if output.form.startswith("json"):
        from normcheck.report.machines.diff_json import render_diff_json

        return render_diff_json(result)
    if output.form == "text":
        from normcheck.report.people.diff_text import render_diff_text

        return render_diff_text(result, text_style(output, look))
    # The other forms show findings, skipped rules and errors, which every report has.
    return rendered(result.report, output)
