"""``normcheck scan``: read, judge, report. The flags are in ``scan_flags.py``."""

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing, nullcontext, redirect_stdout
from dataclasses import replace
from pathlib import Path

from normcheck.cli.flags.fleet_words import requested_fleet
from normcheck.cli.flags.repeated import repeated
from normcheck.cli.flags.run_words import requested
from normcheck.cli.flags.scan_flags import Scan
from normcheck.cli.screen.destinations import Destinations
from normcheck.cli.screen.error_messages import report_error, report_note
from normcheck.cli.screen.output_places import Look, OutputPlace, pair, write
from normcheck.cli.screen.progress import watched
from normcheck.cli.screen.streamed_outputs import opened
from normcheck.config.examination import Examination
from normcheck.config.flags.reading_flags import ReadingFlags, Remote
from normcheck.config.merge import Resolved, resolve, with_baseline
from normcheck.config.policy import Policy
from normcheck.errors import UsageError
from normcheck.findings import Failure
from normcheck.fleet.fleet_request import Engine
from normcheck.live.run_request import MORE_SAMPLES
from normcheck.report.form import Wish
from normcheck.report.forms import form_of
from normcheck.report.part import Part
from normcheck.report.report import Report, joined
from normcheck.report.tally import Tally
from normcheck.runs.scan import parts
from normcheck.sources.place import local, shown
from normcheck.wording import plural, printable

BASELINE = "normcheck-baseline.json"
"""Where a baseline is written that nobody named."""


def run_scan(words: Scan) -> int:
    """Scan, write the report, and return the exit code."""
    resolved = resolve(words.flags, os.environ, Path.cwd())
    if words.show_settings:
        from normcheck.cli.commands.show_settings import settings_text

        write(settings_text(resolved, words), "-")
        return 0
    if not words.targets:
        raise UsageError("no target is named", "name a file or a folder: normcheck scan model.pt")
    outputs = pair(resolved.formats, resolved.outputs)
    _check_combination(words, resolved)
    selected = words.flags.judging.select
    if selected and not any(rule.need.scanned for rule in resolved.examination.rules):
        chosen = f"{', '.join(selected):.60}"
        if not any(rule.need.compares for rule in resolved.examination.rules):
            raise UsageError(
                f"{chosen}: these rules watch a training loop, a scan has none",
                "run them in the loop: with normcheck.guard(model, optimizer)",
            )
        raise UsageError(
            f"{chosen}: these rules compare checkpoints, a scan has one",
            "run them with: normcheck diff OLD NEW",
        )
    policy = resolved.policy if words.write_baseline else with_baseline(resolved)
    examination = _examination(words, resolved)
    destinations = _destinations(words, resolved)
    tally = _scan(words, examination, policy, resolved, outputs, destinations)
    _tell(tally, words)
    return exit_code(tally, policy, exit_zero=words.exit.exit_zero)


def _examination(words: Scan, resolved: Resolved) -> Examination:
    """How the files are judged; how they are run, and where progress is shown, comes later."""
    examination = limited(resolved.examination, words.reading, words.remote)
    if not words.weights_budget:
        return examination
    from normcheck.cli.flags.limit_words import size_in_bytes

    most = size_in_bytes(words.weights_budget, "--weights-budget")
    return replace(examination, weights_budget=most)


def limited(examination: Examination, reading: ReadingFlags, remote: Remote) -> Examination:
    """The examination with the limits of ``--limit``, and where servers may lead.

    Raises:
        UsageError: One of the words is none.
    """
    if not reading.limit and not remote.allow_redirects_to:
        return examination
    from normcheck.cli.flags.limit_words import hosts, read_limits

    limits = read_limits(reading.limit, examination.limits)
    return replace(examination, limits=limits, redirects=hosts(remote.allow_redirects_to))


def _destinations(words: Scan, resolved: Resolved) -> Destinations:
    """Everything that is written, checked against what is known to be read."""
    baseline = str(resolved.baseline or BASELINE)
    written = [*resolved.outputs, words.plot, words.sharing.cache]
    destinations = Destinations([*written, baseline] if words.write_baseline else written)
    destinations.spare(words.targets)
    data = [words.run.data]
    data += [entry.data for entry in resolved.file.models if entry.data]
    destinations.spare(data)
    if resolved.file.path:
        destinations.spare([str(resolved.file.path)], "the configuration of this run")
    if not words.write_baseline and resolved.baseline:
        destinations.spare([str(resolved.baseline)], "the baseline of this run")
    return destinations


def _scan(
    words: Scan,
    examination: Examination,
    policy: Policy,
    resolved: Resolved,
    outputs: Sequence[OutputPlace],
    destinations: Destinations,
) -> Tally:
    """Scan, write each part of the report as it comes, and return the counts."""
    fleet = requested_fleet(words.sharing)
    running = requested(
        words.run, words.probing, jobs=words.sharing.jobs or 1, more_samples=MORE_SAMPLES
    )
    if words.dry_run:
        if running is None or not words.run.data:
            raise UsageError("--dry-run says what a run on data would cost", "add --data")
        running = replace(running, dry=True)
    screen = words.screen
    page = any(output.form == "html" for output in outputs)
    again = repeated("scan", words, words.targets) if page else ()
    look = Look(screen.color, screen.quiet, screen.verbose > 0, words.statistics, again)
    tally = Tally()
    with (
        watched(words.targets, quiet=screen.quiet) as bar,
        opened(outputs, look, bar.away, bar.announce) as sinks,
        # Libraries that write to stdout, as Ray does when a process of its dies, write beside
        # the report and not into it.
        redirect_stdout(sys.stderr) if fleet.engine is Engine.RAY else nullcontext(),
    ):
        if running is not None:
            running = replace(running, progress=bar.step, announce=bar.announce)
            examination = replace(examination, running=running)
        fleet = replace(fleet, progress=bar.files, announce=bar.announce)
        wishes = _wishes(words, outputs, policy)
        stream = parts(words.targets, examination, policy, fleet=fleet, wishes=wishes)
        with closing(stream):
            for part in _as_wanted(destinations.sparing(stream), words, resolved):
                tally.add(part)
                sinks.part(part)
        bar.close()
        sinks.end(tally)
    return tally


def _wishes(words: Scan, outputs: Sequence[OutputPlace], policy: Policy) -> frozenset[Wish]:
    """What the outputs need of each file while it is read."""
    forms = [form_of(output.form) for output in outputs]
    wishes = frozenset(wish for form in forms for wish in form.needs)
    if words.plot:
        from normcheck.report.people.fit_figure import NEEDS

        wishes |= NEEDS
    whole = words.plot or words.write_baseline or any(form.shows_models for form in forms)
    # Of a file whose findings do not all count another line is made, of its models.
    if not whole and not policy.suppresses:
        wishes |= {Wish.LINES_ALONE}
    return wishes


def _as_wanted(stream: Iterable[Part], words: Scan, resolved: Resolved) -> Iterable[Part]:
    """The parts as they come, or one of all where something needs the whole report."""
    if not words.write_baseline and not words.plot:
        return stream
    kept = [part.report for part in stream]
    report = joined(kept[-1], kept)
    if words.write_baseline:
        report = _write_baseline(report, words, resolved)
    if words.plot:
        _plot(report, words.plot)
    return [Part.of(report)]


def _check_combination(words: Scan, resolved: Resolved) -> None:
    if words.statistics and "text" not in resolved.formats:
        raise UsageError("--statistics is a form of text", "leave it out, or use --format text")


def _write_baseline(report: Report, words: Scan, resolved: Resolved) -> Report:
    """Write what was found as known, and the report as the next run will have it."""
    from normcheck.cli.commands.write_baseline import write_baseline

    report, message = write_baseline(report, resolved.baseline or Path(BASELINE))
    if not words.screen.quiet:
        report_note(message)
        if resolved.baseline is None:
            report_note(
                f'use it with --baseline {BASELINE}, or baseline = "{BASELINE}" in the file'
            )
    return report


_NAMED_AT_ONCE = 3
"""Files without a model that are named where there is nothing else to say."""


def _tell(tally: Tally, words: Scan) -> None:
    """Errors, and what else belongs on stderr."""
    tell_errors(tally.errors, words.screen.verbose)
    if not tally.models and not tally.errors:
        under = ", ".join(map(shown, words.targets))
        hint = "name a file, or a folder with checkpoints"
        passed = ""
        named = tally.first_passed_over if words.screen.verbose else []
        if tally.skipped:
            passed = f" ({plural(tally.skipped, 'file')} without a model)"
            if tally.skipped <= _NAMED_AT_ONCE:
                named = tally.first_passed_over
            elif not words.screen.verbose:
                hint += "; -v says what those are that were passed over"
        for reason in named:
            report_note(reason)
        report_error(f"no checkpoint under {under}{passed}", hint)


def tell_errors(errors: Iterable[Failure], verbose: int) -> None:
    """The errors of a report on stderr, with tracebacks where these are wanted."""
    for failure in errors:
        report_error(failure.message, failure.hint)
        if failure.trace and verbose > 1:
            sys.stderr.writelines(f"{printable(line)}\n" for line in failure.trace.splitlines())


def _plot(report: Report, file: str) -> None:
    from normcheck.report.people.fit_figure import draw

    if len(report.models) != 1:
        raise UsageError(
            f"--plot draws one model, the targets hold {len(report.models)}",
            "name one file with one model",
        )
    local(file, "--plot")
    draw(report.models[0], report.findings, file, report_note)


def exit_code(tally: Tally, policy: Policy, *, exit_zero: bool) -> int:
    """The exit code of a finished run: 2 wins over 1, and 1 over 0."""
    if tally.errors or (policy.strict and tally.missed):
        return 2
    if not tally.models:
        return 3
    return 1 if tally.failing and not exit_zero else 0
