"""The run in the text report: what was fed, the outputs side by side, the noise by batch size."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from rich.text import Text

from normcheck.wording import number, percent, plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normcheck.live.measurement import Regime
    from normcheck.report.run_summary import RunSummary

_NAMES = {
    "eval": "eval mode",
    "re-estimated": "re-estimated statistics",
    "batch": "statistics of each batch",
    "train": "train mode",
}
_REFERENCES = ("eval", "before")
"""Regimes that the others are compared with."""
_COLUMN = 10
_GAP = 2


def fed_line(run: RunSummary) -> str:
    """What was fed, and on made-up input that statistics were not judged by it."""
    fed = run.fed
    where = fed.device if fed.dtype == "float32" else f"{fed.device} in {fed.dtype}"
    if fed.real:
        labels = "with labels" if fed.labelled else "without labels"
        return (
            f"ran on {plural(fed.samples, 'sample')} of {fed.source} ({fed.shapes}, {labels}), "
            f"{where}"
        )
    by = f"guessed from {fed.guessed_from}" if fed.guessed_from else "found by trial"
    found = f", a shape {by}" if fed.guessed else ""
    return f"ran on {fed.source}{found}, {where}: statistics are not judged by made-up input"


def run_section(run: RunSummary) -> Iterator[Text]:
    """Lines below the findings: regimes, modes, noise, cost."""
    if run.fed.real:
        yield Text(f"  {printable(fed_line(run))}")
    if run.regimes:
        yield from outputs_table(run.regimes)
    if run.noise:
        yield from _noise(run)
    modes = _modes(run)
    if modes:
        yield Text(f"  {modes}")
    for note in run.notes:
        yield Text(f"  note: {printable(note)}", style="dim")
    yield Text(f"  {plural(run.forwards, 'forward')}; the model is as it was", style="dim")


def outputs_table(regimes: tuple[Regime, ...]) -> Iterator[Text]:
    """Outputs under several regimes, a line each."""
    labelled = any(r.accuracy is not None for r in regimes)
    with_loss = any(r.loss is not None for r in regimes)
    decides = any(r.flips is not None for r in regimes)
    heads = ["difference"]
    if decides:
        heads.append("changed")
    if labelled:
        heads.append("accuracy")
    if with_loss:
        heads.append("loss")
    width = max(len(_NAMES.get(r.name, r.name)) for r in regimes)
    samples = max(r.samples for r in regimes)
    title = f"outputs ({plural(samples, 'sample')})"
    width = max(width, len(title))
    yield Text(f"  {title:<{width}}" + "".join(_cell(head) for head in heads), style="dim")
    for regime in regimes:
        own = regime.name in _REFERENCES
        cells = ["–" if own else _difference(regime.difference)]
        if decides:
            cells.append("–" if own or regime.flips is None else percent(regime.flips))
        if labelled:
            cells.append("–" if regime.accuracy is None else f"{100 * regime.accuracy:.1f} %")
        if with_loss:
            cells.append("–" if regime.loss is None else number(regime.loss))
        name = _NAMES.get(regime.name, regime.name)
        yield Text(f"  {name:<{width}}" + "".join(_cell(cell) for cell in cells))


def _cell(text: str) -> str:
    return " " * _GAP + text.rjust(_COLUMN)


def _difference(value: float) -> str:
    return percent(value) if isfinite(value) else "NaN/inf"


def _noise(run: RunSummary) -> Iterator[Text]:
    if all(entry.difference is not None and not isfinite(entry.difference) for entry in run.noise):
        return  # samples without a number leave none
    sizes = "".join(f"{entry.batch_size:>7}" for entry in run.noise)
    scatter = "".join(f"{_scatter(entry.difference):>7}" for entry in run.noise)
    yield Text(f"  batch statistics of{sizes} samples", style="dim")
    yield Text(f"  scatter outputs by {scatter}")


def _scatter(value: float | None) -> str:
    if value is None:
        return "fails"
    return percent(value) if isfinite(value) else "–"


def _modes(run: RunSummary) -> str:
    """What was measured of the two modes, where no norm separates them."""
    if run.allclose is None or run.largest_difference is None or run.mode_dependent:
        return ""
    if run.allclose:
        return (
            "train and eval mode give equal outputs with dropout off: torch.allclose is True, "
            f"largest difference {number(run.largest_difference)}"
        )
    return f"train and eval mode differ with dropout off, by up to {number(run.largest_difference)}"
