"""The table of a comparison: how far each norm layer moved, and its trend over a series."""

from collections.abc import Callable, Sequence
from math import exp, isfinite, log

from rich.text import Text

from normcheck.compare.movement import Comparison, LayerChange, Movement
from normcheck.findings import Finding, Severity
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.report.people.console import PROSE
from normcheck.report.people.layer_table import VERDICTS
from normcheck.wording import number, percent, printable

SHOWN_WHOLE = 30
"""Layers up to which a table is shown without folding."""
LIKE_IT = 6
"""Layers of a sort that are shown before the rest is folded."""
LONGEST_TREND = 16
"""Bars of a trend; a longer series is shown by the largest step of each stretch."""
_BARS = "▁▂▃▄▅▆▇█"
_STILL = "·"
_SMALLEST_SHOWN = 1e-5
"""As a share: 0.001 %."""
_SHORTEST_PATH = 12
_GAP = "  "


@lazy_dataclass()
class _Column:
    header: str
    cells: tuple[str, ...]
    priority: int
    """The highest goes first where the terminal is narrow; 0 never."""

    @property
    def width(self) -> int:
        return max(map(len, (self.header, *self.cells)))


def movement_table(
    comparison: Comparison, findings: Sequence[Finding], width: int, *, whole: bool
) -> Text:
    """How far each layer moved from the first checkpoint to the last, as lines of text.

    Args:
        comparison: With at least one layer.
        findings: Of this comparison; the layers that they name are marked.
        width: Columns that may be used.
        whole: Show every layer, also of large models.
    """
    worst = _worst(findings)
    rows, hidden = _folded(comparison, worst, whole=whole)
    columns = _fitting(_columns(comparison, rows), width - 2)
    lines = [Text("  ").append(_line([c.header for c in columns], columns), style="dim")]
    for index, layer in enumerate(rows):
        mark, style = VERDICTS[worst[layer.path]] if layer.path in worst else (" ", "")
        cells = _line([column.cells[index] for column in columns], columns)
        lines.append(Text(f"{mark} ", style=style).append(cells, style="default"))
    if hidden:
        lines.append(Text(f"  … {hidden} more like these (-v shows all)", style="dim"))
    return Text("\n").join([*lines, *_legend(comparison, columns, min(width, PROSE) - 2)])


def _worst(findings: Sequence[Finding]) -> dict[str, Severity]:
    worst: dict[str, Severity] = {}
    for finding in findings:
        for path in finding.layers:
            known = worst.get(path)
            if known is None or finding.severity.rank > known.rank:
                worst[path] = finding.severity
    return worst


def _folded(
    comparison: Comparison, worst: dict[str, Severity], *, whole: bool
) -> tuple[list[LayerChange], int]:
    """The layers to show, and how many are left out; some of each sort stay."""
    layers = list(comparison.total.layers)
    if whole or len(layers) <= SHOWN_WHOLE:
        return layers, 0
    seen: dict[object, int] = {}
    shown = []
    for layer in layers:
        sort = (worst.get(layer.path), layer.kind, layer.learned, layer.stats_moved)
        seen[sort] = seen.get(sort, 0) + 1
        if seen[sort] <= LIKE_IT:
            shown.append(layer)
    return shown, len(layers) - len(shown)


def _columns(comparison: Comparison, rows: list[LayerChange]) -> list[_Column]:
    paths = tuple(printable(layer.path) or "(the model itself)" for layer in rows)
    columns = [_Column("layer", paths, 0)]
    several = len(comparison.steps) > 1
    columns.append(_Column("weights", tuple(_share(n.weights) for n in rows), 0))
    if several:
        columns.append(_trend("trend", comparison, rows, lambda n: n.weights or n.affine, 1))
    columns.append(_Column("γ, β", tuple(_share(n.affine) for n in rows), 3))
    if any(n.tracked for n in rows):
        columns.append(_Column("mean", tuple(_deviations(n.mean) for n in rows), 0))
        columns.append(_Column("var", tuple(_ratio(n.variance) for n in rows), 2))
        if several:
            columns.append(_trend("trend", comparison, rows, lambda n: n.mean, 1))
        columns.append(_Column("batches", tuple(_count(n) for n in rows), 0))
    return columns


def _fitting(columns: list[_Column], width: int) -> list[_Column]:
    """The columns that there is room for, the path cut where it must be."""

    def used() -> int:
        return sum(c.width for c in columns) + len(_GAP) * (len(columns) - 1)

    while used() > width and any(column.priority for column in columns):
        columns.remove(max(columns, key=lambda column: column.priority))
    spare = max(_SHORTEST_PATH, columns[0].width - max(0, used() - width))
    # The end of a path tells layers apart, its beginning is the same for many.
    short = tuple(p if len(p) <= spare else "…" + p[-(spare - 1) :] for p in columns[0].cells)
    return [_Column("layer", short, 0), *columns[1:]]


def _line(cells: Sequence[str], columns: Sequence[_Column]) -> str:
    first, *rest = zip(cells, columns, strict=True)
    parts = [first[0].ljust(first[1].width)]
    for cell, column in rest:
        left = column.header == "trend"
        parts.append(cell.ljust(column.width) if left else cell.rjust(column.width))
    return _GAP.join(parts).rstrip()


def _share(change: Movement | None) -> str:
    if change is None:
        return "–"
    if not change.moved:
        return "="
    return percent(change.distance) if change.distance >= _SMALLEST_SHOWN else "<0.001 %"


def _deviations(change: Movement | None) -> str:
    if change is None:
        return "–"
    if not change.moved:
        return "="
    return f"{number(change.distance)} σ" if change.distance >= _SMALLEST_SHOWN else "<0.001 σ"


def _ratio(change: Movement | None) -> str:
    """The median change as a share, beyond doubling as a factor."""
    if change is None or not change.moved:
        return "–" if change is None else "="
    if change.distance >= log(2):
        return f"×{number(exp(min(change.distance, 700.0)))}"
    return _share(Movement(exp(change.distance) - 1, moved=True))


def _count(layer: LayerChange) -> str:
    if not layer.tracked:
        return "–"
    if layer.counted is None:
        return "?"
    return f"{layer.counted:+,.0f}" if layer.counted else "="


def _trend(
    header: str,
    comparison: Comparison,
    rows: list[LayerChange],
    of: Callable[[LayerChange], Movement | None],
    priority: int,
) -> _Column:
    """One bar a step, each row scaled to its own largest."""
    by_step = [{layer.path: of(layer) for layer in step.layers} for step in comparison.steps]
    cells = tuple(_bars([changes.get(layer.path) for changes in by_step]) for layer in rows)
    return _Column(header, cells, priority)


def _bars(changes: Sequence[Movement | None]) -> str:
    size = -(-len(changes) // LONGEST_TREND)
    stretches = [changes[i : i + size] for i in range(0, len(changes), size)]
    distances = [c.distance for c in changes if c is not None and isfinite(c.distance)]
    largest = max(distances, default=0.0)
    return "".join(_bar(stretch, largest) for stretch in stretches)


def _bar(changes: Sequence[Movement | None], largest: float) -> str:
    known = [c for c in changes if c is not None]
    if not known:
        return " "
    if not any(c.moved for c in known):
        return _STILL
    share = max(c.distance for c in known) / largest if largest > 0 else 1.0
    return _BARS[int(min(share, 1.0) * (len(_BARS) - 1) + 0.5)]


def _legend(comparison: Comparison, columns: Sequence[_Column], width: int) -> list[Text]:
    shown = {column.header for column in columns}
    parts = ["weights: of the layer before the norm"]
    if "mean" in shown:
        parts.append("mean: shift in standard deviations")
    if "var" in shown:
        parts.append("var: median change")
    parts.append("= identical")
    if any("–" in column.cells for column in columns):
        parts.append("– not there")
    if len(comparison.steps) > 1:
        parts.append("numbers: from the first file to the last")
    if "trend" in shown:
        each = "rank" if comparison.ranks else "step"
        parts.append(f"trend: a bar for each {each}, scaled to the row's largest")
        if any(_STILL in cell for c in columns if c.header == "trend" for cell in c.cells):
            parts.append(f"{_STILL} identical")
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(part) + 2 <= width:
            lines[-1] += f"; {part}"
        else:
            lines.append(part)
    return [Text(f"  {line}", style="dim") for line in lines]
