"""``normcheck scan --write-baseline``: from now on, only what is new counts."""

from dataclasses import replace
from pathlib import Path

from normcheck.cli.screen.output_places import write
from normcheck.config.baseline import Baseline, read_baseline, render_baseline, renewed
from normcheck.findings import Suppressed, SuppressedBy
from normcheck.report.report import ModelReport, Report
from normcheck.wording import plural


def write_baseline(report: Report, path: Path) -> tuple[Report, str]:
    """Write the findings of a report as known.

    Entries of models and rules that this run did not judge are kept.

    Args:
        report: Of a run without a baseline.
        path: The file to write, whole or not at all.

    Returns:
        The report in which the findings are suppressed, and a line on what was written.

    Raises:
        UsageError: What is there is no baseline, or the file cannot be written.
    """
    # What is no file is written into; there is nothing in it to be kept, nor to be waited for.
    old = read_baseline(path) if path.is_file() else None
    not_run = {(skipped.model, skipped.rule) for skipped in report.skipped}
    not_run |= {(failure.model, failure.rule) for failure in report.errors}
    judged = {(model.target, code) for model in report.models for code in model.rules} - not_run
    new = renewed(old, path, report.findings, judged)
    write(render_baseline(new), str(path))
    known = tuple(
        Suppressed(finding, SuppressedBy.BASELINE, path.name) for finding in report.findings
    )
    quiet = replace(
        report,
        findings=(),
        suppressed=(*report.suppressed, *known),
        models=tuple(_without_findings(model) for model in report.models),
    )
    return quiet, _summary(old, new)


def _without_findings(model: ModelReport) -> ModelReport:
    layers = tuple(
        replace(
            layer,
            rules=(),
            worst=None,
            suppressed=tuple(sorted({*layer.suppressed, *layer.rules})),
        )
        for layer in model.layers
    )
    return replace(model, layers=layers)


def _summary(old: Baseline | None, new: Baseline) -> str:
    before = {entry.key for entry in old.entries} if old else set()
    after = {entry.key for entry in new.entries}
    written = f"wrote {plural(len(after), 'entry')} to {new.path}"
    if old is None:
        return written
    return f"{written}: {len(after - before)} added, {len(before - after)} removed"
