"""One comparison: read each checkpoint once, measure, judge. The whole flow on one page."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from normcheck.compare.exports.export_pair import exported_pair, fused_pair, may_be_export
from normcheck.compare.model_track import Track
from normcheck.compare.movement import Comparison
from normcheck.compare.pair_outputs import pair_outputs, track_of_any
from normcheck.compare.series import Series
from normcheck.config.examination import Examination
from normcheck.config.policy import Policy
from normcheck.errors import UnreadableError, UsageError
from normcheck.findings import Failure
from normcheck.formats.targets import expand
from normcheck.live.run_request import ALL, Running, at_places
from normcheck.pipeline.configured_run import indispensable_run
from normcheck.pipeline.given import check_kinds, paths_in
from normcheck.pipeline.judge import Asides, concerned, judge
from normcheck.pipeline.report_parts import empty_report, part_of
from normcheck.pipeline.results import FileResult
from normcheck.pipeline.suppress import Sieve
from normcheck.report.diff_report import Diff
from normcheck.report.report import ModelReport, Report, joined, summarise
from normcheck.rules.rule import Rule, Subject
from normcheck.saved.key_order import natural_order
from normcheck.sources.place import Place, shown


def diff(
    targets: Iterable[str | Path],
    examination: Examination | None = None,
    policy: Policy | None = None,
    *,
    ranks: bool = False,
    where: Sequence[str] = (),
) -> Diff:
    """Compare two checkpoints of a model, or a series of them, layer by layer.

    Nothing of the files' own code runs, and torch is not imported. Files are read one after
    another; memory does not grow with their number.

    Args:
        targets: Files in the order in which they came about; a folder or pattern stands for
            its files, ordered by the numbers in their names.
        examination: Which rules judge; by default every one that compares. Where it says how to
            run, two files are run, so that their outputs on the same data are compared; torch is
            imported then.
        policy: What of the findings counts, and which of them fail the run.
        ranks: Take the files as ranks of one step: each is held against the first.
        where: Which model to compare where a file holds several: one place for all files, or
            one for each.

    Returns:
        The comparisons and the report. A file that could not be read is one of the report's
        ``errors``; the others are compared all the same where two are left.

    Raises:
        UsageError: Fewer than two files, or no model in common; or what is no path.
    """
    check_kinds(examination, policy)
    examination, policy = examination or Examination(), policy or Policy()
    words = paths_in(targets, "diff compares")
    places = () if tuple(where) == (ALL,) else at_places(where)
    series = Series(examination.limits, places, ranks=ranks)
    files = list(_files(words, examination.redirects, series.errors))
    _check_numbers(files, places, series.errors)
    running = _as_configured(files, examination)
    _measure(series, files, examination, places, running, ranks=ranks)
    if running is not None and running.feeding.data is not None:
        series.errors += _not_fed(series)
    compared = series.compared()
    results = [FileResult("", errors=tuple(series.errors))]
    results += [_judged(*both, examination.rules) for both in compared]
    report = _reported(results, examination, policy)
    return Diff(tuple(comparison for _, comparison in compared), report, tuple(series.files))


def _as_configured(files: Sequence[Place], examination: Examination) -> Running | None:
    """How two models are run, if they are: as the entry says that the first of them has."""
    running = examination.running
    for file in files if running is not None else ():
        if isinstance(file, Path) and examination.of_model(file) is not None:
            return indispensable_run(file, examination)
    return running


def _files(words: list[str], redirects: tuple[str, ...], errors: list[Failure]) -> Iterator[Place]:
    for word in words:
        try:
            found = [target.path for target in expand([word], redirects)]
        except UnreadableError as error:
            errors.append(Failure(shown(word), error.message, error.hint))
            continue
        # epoch-2 comes before epoch-10.
        yield from sorted(found, key=lambda path: natural_order(str(path)))


def _check_numbers(files: list[Place], where: Sequence[str], errors: list[Failure]) -> None:
    if len(files) < 2 and not errors:
        raise UsageError(
            f"diff compares two checkpoints or more, {len(files)} given",
            "name them in the order in which they came about: normcheck diff OLD NEW",
        )
    if len(where) > 1 and len(where) != len(files):
        raise UsageError(
            f"--where is given {len(where)} times for {len(files)} files",
            "name one place for all files, or one for each in their order",
        )


def _measure(
    series: Series,
    files: list[Place],
    examination: Examination,
    where: Sequence[str],
    running: Running | None,
    *,
    ranks: bool,
) -> None:
    """Two files as a model and its export where they are that; else one file after another."""
    two = [file for file in files if isinstance(file, Path)]
    may_pair = len(files) == len(two) == 2 and not ranks
    if may_pair and any(map(may_be_export, two)):
        pair = exported_pair(two, examination.limits, where, running)
        if pair is not None:
            series.take(pair)
            series.files += pair.files
            return
    if running is not None and not may_pair:
        raise UsageError(
            "outputs are compared of two files on this machine",
            "name two, without --ranks; normcheck scan runs one on data",
        )
    for number, file in enumerate(files):
        series.read(file, number)
    if may_pair and (series.lost_norms or series.unlike or series.renamed_weights):
        pair = fused_pair(two, examination.limits, where)
        if pair is not None:
            series.take(pair)
            series.errors.clear()
    if running is not None and series.unlike:
        series.tracks = [track_of_any(two, examination.limits, where)]
        series.errors.clear()
    if running is not None and not series.errors:
        series.ran = pair_outputs(two, examination.limits, where, running)


def _not_fed(series: Series) -> Iterator[Failure]:
    """What was asked for, outputs on the user's data, and could not be had."""
    for ran in (series.ran, series.exported):
        if ran.why_not:
            yield Failure(series.files[0], f"outputs not compared: {ran.why_not}", ran.hint)


def _judged(track: Track, comparison: Comparison, rules: Sequence[Rule]) -> FileResult:
    """The last checkpoint's model, as a scan would list it, and what rules say of its way there."""
    side, anatomy = track.sides[-1], track.last.anatomy
    subject = Subject(anatomy, alone=not side.where, pair=comparison)
    asides = Asides()
    verdicts = judge(side.target, subject, rules, asides)
    model = ModelReport(
        target=side.target,
        where=side.where,
        format=side.format,
        form=side.form,
        size=side.size,
        class_path=anatomy.class_path,
        tensors=anatomy.tensor_count,
        layers=tuple(summarise(layer) for layer in anatomy.layers),
        rules=tuple(rule.code for rule in concerned(rules, subject)),
        ran=len(verdicts.ran),
        notes=tuple(track.notes),
    )
    skipped, errors = asides.skipped.groups(), tuple(asides.errors)
    return FileResult(side.target, (verdicts,), skipped, errors, models=(model,))


def _reported(results: list[FileResult], examination: Examination, policy: Policy) -> Report:
    """What counts of the results, in one report."""
    sieve = Sieve(policy, examination.rules)
    empty = empty_report(examination, policy)
    parts = [part_of(result, sieve, empty).report for result in results]
    return joined(empty, [*parts, replace(empty, unused=sieve.unused())])
