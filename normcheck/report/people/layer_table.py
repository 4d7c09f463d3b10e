"""The table of layers: what each normalizes over, what eval mode uses, and its numbers."""

from collections.abc import Sequence
from itertools import groupby
from math import isfinite

from rich.text import Text

from normcheck.findings import Severity
from normcheck.report.report import NOT_KNOWN, LayerSummary, Spread, Standing
from normcheck.report.run_summary import DriftSummary
from normcheck.wording import printable

SHOWN_WHOLE = 12
"""Layers up to which a table is shown without folding."""
LIKE_IT = 2
"""Layers of a kind and verdict that are shown before the rest is folded."""
_BARS = "▁▂▃▄▅▆▇█"
_GAP = 2
VERDICTS = {
    Severity.ERROR: ("✖", "red"),
    Severity.WARNING: ("▲", "yellow"),
    Severity.INFO: ("•", "cyan"),
    None: ("✓", "green"),
}
_DESIGN = "NC5"
"""What the codes of rules on the design of a model begin with."""
_KNOWN = ("–", "dim")
_OPEN = ("?", "dim")
_HEADERS = ("layer", "kind", "over", "eval uses", "batches", "mean", "var")
_HEADERS_ON_DATA = ("layer", "kind", "over", "shift", "var x", "off", "to blame")
_RIGHT = frozenset({"batches", "shift", "var x", "to blame"})
_BAR = 6
"""Columns of a full bar."""
_SHORTEST_PATH = 12
_SHORTEST_KIND = 11
"""Columns of ``BatchNorm2d``."""
_NOT_IN_NARROW_ONES = ("eval uses", "to blame", "batches", "var x", "var", "mean", "shift")
"""Columns that a narrow terminal goes without, in this order: lines that wrap are no table."""


def layer_table(
    layers: Sequence[LayerSummary],
    width: int,
    drifts: Sequence[DriftSummary] = (),
    *,
    whole: bool,
) -> Text:
    """The layers as lines of text.

    Args:
        layers: In the model's order.
        width: Columns that may be used.
        drifts: How far each lies off the data, where the model was run on data; then this is
            shown instead of the spread of the stored values.
        whole: Show every layer, also in large models.
    """
    rows: list[tuple[LayerSummary | None, tuple[str, ...]]] = []
    by_path = {drift.path: drift for drift in reversed(drifts)}
    headers = _HEADERS_ON_DATA if drifts else _HEADERS
    for shown, hidden in _folded(layers, whole=whole):
        rows += [
            (layer, _cells_on_data(layer, by_path.get(layer.path)) if drifts else _cells(layer))
            for layer in shown
        ]
        if hidden:
            rows.append((None, (f"… {hidden} more like {'it' if len(shown) == 1 else 'these'}",)))
    columns, dropped = _columns(headers, [cells for layer, cells in rows if layer], width)
    lines = [Text("  ").append(_line(headers, headers, columns), style="dim")]
    for layer, cells in rows:
        if layer is None:
            lines.append(Text(f"  {cells[0]} (-v shows all)", style="dim"))
            continue
        mark, style = _mark(layer)
        lines.append(
            Text(f"{mark} ", style=style).append(_line(headers, cells, columns), style="default")
        )
    if "over" in dropped:
        lines += _legend(layers)
    if drifts:
        note = "shift in standard deviations, var x: data over stored (medians); off: channels"
        lines.append(Text(f"  {note}", style="dim"))
    elif any(layer.mean and layer.mean.bins for layer in layers):
        note = "mean, var: channels from the smallest value to the largest (var: log scale)"
        lines.append(Text(f"  {note}", style="dim"))
    return Text("\n").join(lines)


def _mark(layer: LayerSummary) -> tuple[str, str]:
    """The sign of a layer; a tick is for what something vouches for."""
    worst = _shown(layer)
    if worst is None and layer.suppressed:
        return _KNOWN  # its fault is known, not mended
    if worst is None and layer.standing is Standing.UNTOLD:
        return _OPEN
    return VERDICTS[worst]


def _shown(layer: LayerSummary) -> Severity | None:
    """The worst finding that the sign of a layer shows.

    What is remarked on the design around a layer leaves open how its statistics stand, which the
    sign tells where there are any.
    """
    stored = layer.mean is not None or layer.variance is not None
    remark = layer.worst is Severity.INFO and all(r.startswith(_DESIGN) for r in layer.rules)
    return None if remark and stored else layer.worst


def _folded(layers: Sequence[LayerSummary], *, whole: bool) -> list[tuple[list[LayerSummary], int]]:
    """Runs of layers alike, each with how many of it are left out."""
    if whole or len(layers) <= SHOWN_WHOLE:
        return [(list(layers), 0)]
    runs: list[tuple[list[LayerSummary], int]] = []
    groups: dict[tuple[str, str], list[LayerSummary]] = {}
    for layer in layers:
        groups.setdefault((layer.kind, _mark(layer)[0]), []).append(layer)
    for alike in groups.values():
        keep = len(alike) if len(alike) <= LIKE_IT + 1 else LIKE_IT
        runs.append((alike[:keep], len(alike) - keep))
    # The accused first, as in the findings above the table.
    runs.sort(key=lambda run: -(worst.rank + 1) if (worst := _shown(run[0][0])) else 0)
    return runs


def _cells(layer: LayerSummary) -> tuple[str, ...]:
    batches = "–" if layer.mean is None else "?" if layer.batches is None else _count(layer.batches)
    return (
        printable(layer.path) or "(the model itself)",
        layer.kind,
        layer.over,
        layer.eval_uses,
        batches,
        _glance(layer.mean),
        _glance(layer.variance),
    )


def _cells_on_data(layer: LayerSummary, drift: DriftSummary | None) -> tuple[str, ...]:
    known = _cells(layer)[:3]
    if drift is None:
        return (*known, "–", "–", "–", "–")
    full = round(drift.off * _BAR)
    bar = "█" * full if full else "▏" if drift.off > 0 else "·"
    return (
        *known,
        _shift(drift.shift),
        f"{drift.factor:.3g}" if isfinite(drift.factor) else "NaN/inf",
        f"{bar:<{_BAR}} {drift.off:>4.0%}",
        "–" if drift.closes is None else f"{max(drift.closes, 0):.0%}",
    )


def _shift(value: float) -> str:
    if not isfinite(value):
        return "NaN/inf"
    return f"{value:.2f}" if value < 100 else f"{value:.3g}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if isfinite(value) and value == int(value) else f"{value:.3g}"


def _glance(spread: Spread | None) -> str:
    """The channels of a layer as a few bars, or their one common value."""
    if spread is None:
        return "–"
    if spread.not_finite:
        return "NaN/inf"
    if spread.constant is not None:
        return f"{spread.constant:.3g}"
    most = max(spread.bins, default=0) or 1
    # An empty bin is a blank, not a low bar: a single stray channel should show.
    return "".join(
        " " if n == 0 else _BARS[min(len(_BARS) - 1, n * len(_BARS) // (most + 1))]
        for n in spread.bins
    )


def _columns(
    headers: Sequence[str], rows: Sequence[tuple[str, ...]], width: int
) -> tuple[list[int], set[str]]:
    """Width of each column, 0 for one left out, and the names of those left out."""
    columns = [
        max([len(header), *(len(row[i]) for row in rows)]) for i, header in enumerate(headers)
    ]
    longest = columns[0]
    dropped: set[str] = set()
    space = width - 2

    def missing() -> int:
        return sum(columns) + _GAP * (sum(c > 0 for c in columns) - 1) - space

    def drop(header: str) -> None:
        dropped.add(header)
        columns[headers.index(header)] = 0

    if missing() > 0:
        # What a kind normalises over is the same for all layers of the kind: a legend
        # below the table can say it.
        drop("over")
    for column, shortest in ((0, _SHORTEST_PATH), (headers.index("kind"), _SHORTEST_KIND)):
        if missing() > 0:
            columns[column] = max(min(columns[column], shortest), columns[column] - missing())
    for header in _NOT_IN_NARROW_ONES:
        if missing() > 0 and header in headers:
            drop(header)
    columns[0] = min(longest, columns[0] - min(0, missing()))
    return columns, dropped


def _line(headers: Sequence[str], cells: Sequence[str], columns: Sequence[int]) -> str:
    parts = []
    for header, cell, width in zip(headers, cells, columns, strict=True):
        if width:
            short = cell
            if len(cell) > width:
                # The end of a path tells layers apart, its beginning is the same for many.
                short = f"{cell[: width - 1]}…" if header == "kind" else f"…{cell[1 - width :]}"
            parts.append(short.rjust(width) if header in _RIGHT else short.ljust(width))
    return (" " * _GAP).join(parts).rstrip()


def _legend(layers: Sequence[LayerSummary]) -> list[Text]:
    kinds = sorted({(layer.kind, layer.over) for layer in layers if layer.over != NOT_KNOWN})
    return [
        Text(f"  {kind} normalises over: {', '.join(over for _, over in group)}", style="dim")
        for kind, group in groupby(kinds, key=lambda pair: pair[0])
    ]
