"""The finished report: plain values, from which every output is a pure function."""

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from importlib import import_module
from math import isfinite
from typing import Any

import numpy as np

from normcheck.findings import Failure, Finding, Severity, Skipped, Suppressed, Unused
from normcheck.lazy_dataclass import lazy_dataclass, replace
from normcheck.norms.layer import Floats, NormLayer, Values
from normcheck.norms.layer_numbers import middle_of
from normcheck.often_made import often_made
from normcheck.report.data_frame import frame_of
from normcheck.report.fit_summary import AgreementSummary
from normcheck.report.run_summary import RunSummary
from normcheck.rules.rule import Rule
from normcheck.shown import Shown

OWN_INPUT = "its own input"
"""What eval mode of norms that store nothing uses, as the table of kinds says it."""
NOT_KNOWN = "not known"
"""What a norm normalises over, and uses in eval mode, that may be of two kinds."""
AS_CREATED = "γ, β and statistics are as created"
"""Why nothing can be told of a norm that was never trained or run."""
BINS = 6
"""Bars in a glance at the values of a layer; six are read at once."""


class Standing(StrEnum):
    """What is to be thought of a layer."""

    VOUCHED = "vouched for"
    """Something was held against it, and it held."""
    ACCUSED = "accused"
    """A finding above info names it, suppressed or not."""
    UNTOLD = "cannot tell"
    """Neither."""


@often_made()
class Spread:
    """How the values of one statistic are spread over the channels of a layer."""

    smallest: float
    median: float
    largest: float
    channels: int
    not_finite: int = 0
    bins: tuple[int, ...] = ()
    """Channels per bin between smallest and largest; logarithmic for variances."""

    @property
    def constant(self) -> float | None:
        """The common value where all channels have the same; None otherwise."""
        same = self.smallest == self.largest and not self.not_finite
        return self.smallest if same else None


@often_made()
class LayerSummary:
    """One normalization layer in the report."""

    path: str
    kind: str
    over: str
    eval_uses: str
    confidence: str
    """How sure the recognition is."""
    reason: str
    class_path: str | None
    features: int | None
    training: bool | None
    eps: float | None
    momentum: float | str | None
    batches: float | None
    mean: Spread | None
    variance: Spread | None
    weight: Spread | None
    bias: Spread | None
    aliases: tuple[str, ...]
    rules: tuple[str, ...] = ()
    """Codes of the findings that name this layer."""
    worst: Severity | None = None
    suppressed: tuple[str, ...] = ()
    """Codes of the suppressed findings that name it."""
    standing: Standing = Standing.UNTOLD
    why: str = ""
    """What vouches for it, which rules accuse it, or why it cannot be told."""

    @property
    def unread(self) -> bool:
        """Whether eval mode uses statistics that could not be read: nothing is said of them."""
        return self.eval_uses == "running stats" and (self.mean is None or self.variance is None)


@lazy_dataclass()
class ModelReport:
    """One model of one file."""

    target: str
    where: str
    format: str
    form: str
    size: int
    class_path: str | None
    tensors: int
    layers: tuple[LayerSummary, ...]
    rules: tuple[str, ...] = ()
    """Codes of the rules that were to judge it; none where there is nothing to judge."""
    ran: int = 0
    """How many of them came to a verdict."""
    agreement: AgreementSummary | None = None
    """How statistics and weights fit; None where nothing could be predicted."""
    notes: tuple[str, ...] = ()
    run: RunSummary | None = None
    """What running it showed; None where it was only read."""
    run_failed: bool = False
    """Whether a run was asked for and failed: an error of the report says how."""


_FRAME = ("model", "where", "rule", "name", "severity", "confidence", "title", "layers", "detail",
          "consequence", "fix")  # fmt: skip
"""Columns of the table of findings."""


@lazy_dataclass(repr=False)
class Report(Shown):
    """Everything that a run has to say. ``print(report)`` is what the command prints."""

    version: str
    """Of normcheck."""
    models: tuple[ModelReport, ...]
    findings: tuple[Finding, ...]
    suppressed: tuple[Suppressed, ...]
    skipped: Sequence[Skipped]
    errors: tuple[Failure, ...]
    unused: tuple[Unused, ...] = ()
    """Ignores and baseline entries that suppressed nothing."""
    rules: tuple[Rule, ...] = ()
    """The rules of the run, also those that no model let run."""
    fail_on: Severity = Severity.WARNING
    """Findings from this severity on fail the run."""

    def count(self, severity: Severity) -> int:
        """Number of findings of one severity."""
        return sum(finding.severity is severity for finding in self.findings)

    @property
    def ok(self) -> bool:
        """Whether everything was read, and no finding is at or above ``fail_on``."""
        return not self.errors and not self.fails()

    def fails(self) -> tuple[Finding, ...]:
        """The findings that make the run fail: at or above ``fail_on``, the worst first."""
        found = [finding for finding in self.findings if self.is_failing(finding)]
        return tuple(sorted(found, key=lambda finding: -finding.severity.rank))

    def is_failing(self, finding: Finding) -> bool:
        """Whether a finding makes the run fail; info never does."""
        return finding.severity.rank >= max(self.fail_on.rank, Severity.WARNING.rank)

    @property
    def layers(self) -> Any:
        """The normalization layers of all models: a :class:`normcheck.LayerList`."""
        # A door: the table is made of reports.
        return import_module("normcheck.report.layer_list").layers_of(self)

    def to_dataframe(self) -> Any:
        """A ``pandas.DataFrame`` with a row for each finding; ``report.layers`` has its own.

        Raises:
            NormcheckError: pandas is not installed.
        """
        rows = [
            {name: getattr(f, name) for name in _FRAME}
            | {
                "where": f.where,
                "severity": f.severity.value,
                "confidence": f.confidence.value,
                "layers": ", ".join(f.layers),
            }
            for f in self.findings
        ]
        return frame_of(rows, _FRAME)

    def worst(self) -> Severity | None:
        """The highest severity among the findings."""
        return max((f.severity for f in self.findings), key=lambda s: s.rank, default=None)


def joined(empty: Report, parts: Iterable[Report]) -> Report:
    """One report of several, in their order.

    Args:
        empty: What does not depend on any file: version, rules, what fails.
        parts: Of one file each.
    """
    models: list[ModelReport] = []
    findings: list[Finding] = []
    suppressed: list[Suppressed] = []
    skipped: list[Skipped] = []
    errors: list[Failure] = []
    unused: list[Unused] = []
    for part in parts:
        models += part.models
        findings += part.findings
        suppressed += part.suppressed
        skipped += part.skipped
        errors += part.errors
        unused += part.unused
    return replace(
        empty,
        models=tuple(models),
        findings=tuple(findings),
        suppressed=tuple(suppressed),
        skipped=tuple(skipped),
        errors=tuple(errors),
        unused=tuple(unused),
    )


def summarise(
    layer: NormLayer,
    findings: Sequence[Finding] = (),
    suppressed: Sequence[Suppressed] = (),
    *,
    exported: bool = False,
    standing: tuple[Standing, str] = (Standing.UNTOLD, ""),
    bins: bool = True,
) -> LayerSummary:
    """A layer's line of the report, its arrays reduced to what is shown.

    Args:
        layer: Of the model.
        findings: On the model.
        suppressed: On the model.
        exported: Whether the layer's mode is part of an export and has no other.
        standing: What speaks for it, and why, as long as no finding accuses it.
        bins: Whether somebody looks at how the statistics are spread over their range.
    """
    uses = "batch stats" if exported and layer.training else _eval_uses(layer)
    # What may be a batch norm without its statistics is not called one of another kind.
    open_kind = uses == OWN_INPUT and standing[0] is Standing.UNTOLD and bool(standing[1])
    summary = LayerSummary(
        path=layer.path,
        kind=f"{layer.kind.name} or BatchNorm" if open_kind else layer.kind.name,
        over=NOT_KNOWN if open_kind else layer.kind.over,
        eval_uses=NOT_KNOWN if open_kind else uses,
        confidence=layer.recognition.confidence.value,
        reason=layer.recognition.reason,
        class_path=layer.class_path,
        features=layer.features,
        training=layer.training,
        eps=layer.eps,
        momentum=layer.momentum,
        batches=layer.batches.value if layer.batches else None,
        mean=_spread(layer.running_mean, _bins if bins else None),
        variance=_spread(layer.running_var, _logarithmic_bins if bins else None),
        weight=_spread(layer.weight),
        bias=_spread(layer.bias),
        aliases=layer.aliases,
        standing=standing[0],
        why=standing[1],
    )
    return with_verdict(summary, findings, suppressed)


def with_verdict(
    layer: LayerSummary, findings: Sequence[Finding], suppressed: Sequence[Suppressed] = ()
) -> LayerSummary:
    """The line of a layer with the findings of its model that name it."""
    own = [finding for finding in findings if layer.path in finding.layers]
    hidden = [entry.finding for entry in suppressed if layer.path in entry.finding.layers]
    if not own and not hidden:
        return layer
    loud = {finding.rule for finding in (*own, *hidden) if finding.severity is not Severity.INFO}
    return replace(
        layer,
        standing=Standing.ACCUSED if loud else layer.standing,
        why=", ".join(sorted(loud)) if loud else layer.why,
        rules=tuple(sorted({finding.rule for finding in own})),
        worst=max((finding.severity for finding in own), key=lambda one: one.rank, default=None),
        suppressed=tuple(sorted({finding.rule for finding in hidden})),
    )


def _eval_uses(layer: NormLayer) -> str:
    """What eval mode uses in this very layer, where that differs from its kind's."""
    if layer.uninitialised:
        return "nothing yet"
    if layer.kind.eval_uses == "running stats" and not layer.has_statistics and not layer.unread:
        return "batch stats" if layer.track_running_stats is False else "no stats here"
    return layer.kind.eval_uses


def _spread(
    values: Values | None, count: Callable[[Floats], tuple[int, ...]] | None = None
) -> Spread | None:
    if values is None or (size := values.size) == 0:
        return None
    numbers = values.ordered
    if not values.finite:
        numbers = numbers[np.isfinite(numbers)]
    lost = size - numbers.size
    if lost == size:
        return Spread(float("nan"), float("nan"), float("nan"), size, lost)
    smallest, largest = float(numbers[0]), float(numbers[-1])
    bins = count(numbers) if count and largest > smallest else ()
    return Spread(smallest, middle_of(numbers), largest, size, lost, bins)


def _bins(numbers: Floats) -> tuple[int, ...]:
    """How many of the values, which are in order, lie in each of ``BINS`` equal parts."""
    low = float(numbers[0])
    width = float(numbers[-1]) - low
    if not isfinite(width) or width == 0:
        return ()
    places = ((numbers - low) / width * BINS).astype(np.intp)
    *counts, last = np.bincount(places, minlength=BINS + 1).tolist()
    counts[-1] += last  # the largest, which lies on the end
    return tuple(counts)


def _logarithmic_bins(numbers: Floats) -> tuple[int, ...]:
    largest = float(numbers[-1])
    if largest <= 0:
        return _bins(numbers)
    # Below a millionth of the largest everything is one bin: dead channels would
    # otherwise squeeze the living ones into a single bar.
    return _bins(np.log10(np.maximum(numbers, max(largest * 1e-6, 5e-324))))
