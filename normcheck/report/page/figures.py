"""The figures of a report: what the numbers look like, drawn from the report alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite, log10
from typing import TYPE_CHECKING

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.belonging.fit_places import AGREES
from normcheck.report.page.svg import Axes, bars, clipped, reach
from normcheck.wording import number, percent, plural

if TYPE_CHECKING:
    from normcheck.compare.movement import Comparison
    from normcheck.repair.repair_result import Estimated
    from normcheck.report.report import LayerSummary, ModelReport

_MOST_PANELS = 24
_MOST_BARS = 30
_MOST_POINTS = 400
"""Channels that are drawn of a layer; more are one blot."""


@lazy_dataclass()
class Figure:
    """Figures under one heading."""

    title: str
    caption: str
    drawings: tuple[tuple[str, str], ...]
    """SVG, and what stands above it."""


def figures_of(model: ModelReport, accused: frozenset[str]) -> Iterator[Figure]:
    """All figures that a model's numbers allow.

    Args:
        model: With its layers; predictions where they were kept.
        accused: Paths of layers whose statistics do not belong to the weights.
    """
    yield from _by_depth(model.layers)
    yield from _predicted(model, accused)
    if model.run is not None:
        regimes = [r for r in model.run.regimes if r.name != "eval"]
        if regimes:
            rows = [(r.name, r.difference, _share(r.difference)) for r in regimes]
            yield Figure(
                "Outputs against eval mode",
                "How far the model's output moves when its norms use other statistics, relative "
                "to the output in eval mode.",
                ((bars("Relative difference of outputs to eval mode", rows), ""),),
            )
        if model.run.drifts:
            drifts = sorted(model.run.drifts, key=lambda d: -d.shift)[:_MOST_BARS]
            rows = [(d.path, d.shift, f"{number(d.shift)} sd") for d in drifts]
            yield Figure(
                "Stored statistics against those of the data",
                "Median distance over channels between running_mean and the mean of the data, in "
                "standard deviations; the largest first.",
                ((bars("Distance of running means to the data, in deviations", rows), ""),),
            )


def _by_depth(layers: Sequence[LayerSummary]) -> Iterator[Figure]:
    """Running means and variances over the depth of the model, from smallest to largest."""
    stored = [n for n in layers if n.mean is not None and n.variance is not None]
    if len(stored) < 2:
        return
    means = [(i, n.mean) for i, n in enumerate(stored) if n.mean is not None]
    variances = [
        (i, _log(v.smallest), _log(v.median), _log(v.largest))
        for i, n in enumerate(stored)
        if (v := n.variance) is not None
    ]
    # Half a place more on both sides: bars are within the frame.
    last = float(len(stored) - 1)
    x = (-0.5, last + 0.5)
    ends = ((0.0, clipped(stored[0].path)), (last, clipped(stored[-1].path)))
    mean = Axes(
        f"Running means of {plural(len(stored), 'layer')} by depth", x,
        reach([v for _, s in means for v in (s.smallest, s.largest)]), 330, 180,
        y_label="running_mean", x_ticks=ends,
    )  # fmt: skip
    for place, spread in means:
        mean.span(place, spread.smallest, spread.largest)
    mean.line([(place, spread.median) for place, spread in means])
    low, high = reach([v for _, *values in variances for v in values])
    variance = Axes(
        f"Running variances of {plural(len(stored), 'layer')} by depth", x, (low, high), 330, 180,
        y_label="running_var", x_ticks=ends,
        y_ticks=((low, number(10**low)), (high, number(10**high))),
    )  # fmt: skip
    for place, smallest, _, largest in variances:
        variance.span(place, smallest, largest)
    variance.line([(place, median) for place, _, median, _ in variances])
    yield Figure(
        "Statistics by depth",
        "A bar from the smallest to the largest channel of each layer, the line through the "
        "medians; variances on a logarithmic scale.",
        ((mean.svg(), ""), (variance.svg(), "")),
    )


def _predicted(model: ModelReport, accused: frozenset[str]) -> Iterator[Figure]:
    links = [link for link in (model.agreement.links if model.agreement else ()) if link.predicted]
    if not links:
        return
    drawings = []
    for link in links[:_MOST_PANELS]:
        ends = reach([*link.predicted, *link.stored])
        frame = Axes(
            f"{link.target}: {percent(link.explained)} of the stored means explained", ends, ends,
            170, 150,
        )  # fmt: skip
        frame.line([(ends[0], ends[0]), (ends[1], ends[1])], "guide")
        fits = link.explained >= AGREES
        kind = "bad" if link.target in accused else "good" if fits else "unsure"
        pairs = list(zip(link.predicted, link.stored, strict=True))
        frame.points(pairs[:: -(-len(pairs) // _MOST_POINTS)], kind)
        note = "" if fits or link.target in accused else ", link unsure"
        drawings.append((frame.svg(), f"{clipped(link.target)}: {percent(link.explained)}{note}"))
    more = f" {len(links) - _MOST_PANELS} more are not shown." if len(links) > _MOST_PANELS else ""
    yield Figure(
        "Running means predicted from the weights, against those stored",
        "A point a channel, in standard deviations; on the diagonal statistics and weights belong "
        f"together.{more}",
        tuple(drawings),
    )


def figures_of_comparison(comparison: Comparison) -> Iterator[Figure]:
    """Trends of a series, and how far each layer moved."""
    steps = comparison.steps
    if len(steps) > 1:
        weights = [
            (float(i), s.weights.distance) for i, s in enumerate(steps) if s.weights is not None
        ]
        means = [
            (float(i), _median([n.mean.distance for n in s.layers if n.mean is not None]))
            for i, s in enumerate(steps)
        ]
        names = (
            (0.0, clipped(comparison.name(steps[0].new))),
            (float(len(steps) - 1), clipped(comparison.name(steps[-1].new))),
        )
        drawings = []
        for label, values in (("weights", weights), ("running means", means)):
            if not values:
                continue
            y = reach([v for _, v in values], least=0.0)
            frame = Axes(
                f"{label} by step", (0.0, float(len(steps) - 1)), y, 330, 170, x_ticks=names
            )
            frame.line(values)
            frame.points(values)
            unit = "length of the change over their length"
            if label != "weights":
                unit = "median over layers, in standard deviations"
            drawings.append((frame.svg(), f"{label}: {unit}"))
        yield Figure("Trend", "How far weights and statistics moved in each step.", tuple(drawings))
    moved = [
        (n.path, n.mean.distance, f"{number(n.mean.distance)} sd")
        for n in comparison.total.layers
        if n.mean is not None
    ]
    if moved:
        rows = sorted(moved, key=lambda row: -row[1])[:_MOST_BARS]
        yield Figure(
            "Running means, first against last",
            "Root mean square over channels, in standard deviations; the largest first.",
            ((bars("How far running means moved, in standard deviations", rows), ""),),
        )


def figures_of_repair(estimated: Estimated) -> Iterator[Figure]:
    """How far a re-estimation moves each layer."""
    layers = sorted(estimated.layers, key=lambda layer: -layer.shift)[:_MOST_BARS]
    rows = [(n.path, n.shift, f"{number(n.shift)} sd") for n in layers]
    if rows:
        yield Figure(
            "Re-estimated statistics against those stored",
            "Median distance of running means over channels, in standard deviations.",
            ((bars("Re-estimated against stored means, in standard deviations", rows), ""),),
        )


def _log(value: float) -> float:
    return log10(value) if value > 0 and isfinite(value) else float("nan")


def _median(values: list[float]) -> float:
    ordered = sorted(v for v in values if isfinite(v))
    return ordered[len(ordered) // 2] if ordered else float("nan")


def _share(value: float) -> str:
    return percent(value) if isfinite(value) else "not finite"
