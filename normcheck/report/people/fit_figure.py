"""The figure of a model: predicted against stored means, one small panel a layer.

A healthy model shows diagonals, statistics of another model clouds. Drawn with matplotlib,
an optional extra.
"""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from normcheck.errors import UsageError
from normcheck.findings import Finding
from normcheck.norms.belonging.fit_places import AGREES
from normcheck.report.fit_summary import LinkSummary
from normcheck.report.form import Wish
from normcheck.report.report import ModelReport
from normcheck.rules.statistics.foreign_stats import RULE
from normcheck.sources import place
from normcheck.writing.destination import destination_of
from normcheck.writing.special_files import Announce, to_nobody
from normcheck.writing.writer import written

NEEDS = frozenset({Wish.PREDICTIONS})
"""What the scan has to keep for the figure."""
_COLUMNS = 6
_MOST_PANELS = 60
"""More are too small to see; the file of a figure stays below a megabyte."""
_PANEL_INCHES = 1.9
_NAME = 24
"""Characters of a layer's name above its panel."""


def draw(
    model: ModelReport,
    findings: Iterable[Finding],
    file: Path | str,
    announce: Announce = to_nobody,
) -> None:
    """Write the figure; the ending of ``file`` says in which format (png, svg, pdf; else png).

    Args:
        model: With predictions kept (``Wish.PREDICTIONS``).
        findings: Of the model; layers accused by foreign-stats are drawn in red.
        file: Where to write; ``-`` is stdout.
        announce: Told where a FIFO waits for its reader.

    Raises:
        UsageError: matplotlib is missing, the format is unknown, no layer was judged, or it
            cannot be written there.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            "--plot needs matplotlib, which is not installed",
            "install it with: pip install 'normcheck[plot]'",
        ) from error
    links = model.agreement.links[:_MOST_PANELS] if model.agreement else ()
    if not links:
        raise UsageError(
            f"{model.target}: no layer of it can be predicted from its weights, nothing to draw",
            "a figure needs batch norms that follow one another through weights",
        )
    accused = {path for f in findings if f.rule == RULE.code for path in f.layers}
    columns = min(_COLUMNS, len(links))
    rows = -(-len(links) // columns)
    figure = Figure(figsize=(_PANEL_INCHES * columns + 0.6, _PANEL_INCHES * rows + 1.1))
    axes = figure.subplots(rows, columns, squeeze=False)
    for index, panel in enumerate(axes.flat):
        if index < len(links):
            _panel(panel, links[index], accused=links[index].target in accused)
        else:
            panel.axis("off")
    figure.suptitle(f"{place.place_of(model.target).name}: stored against predicted running means")
    figure.supxlabel("predicted from the weights (stored standard deviations)")
    figure.supylabel("stored in the file")
    figure.tight_layout()
    # What cannot be drawn leaves nothing behind: it is drawn first and written then.
    drawn = io.BytesIO()
    try:
        figure.savefig(drawn, format=Path(file).suffix[1:] or "png", dpi=110)
    except ValueError as error:
        raise UsageError(
            f"{file}: the figure cannot be drawn ({error})", "name a .png, .svg or .pdf file"
        ) from error
    with written(destination_of(file), announce=announce) as out:
        out.write(drawn.getbuffer())


def _panel(axes: Any, link: LinkSummary, *, accused: bool) -> None:
    values = (*link.predicted, *link.stored)
    low, high = min(values), max(values)
    # A layer that does not fit and is not accused stands behind something that the file does
    # not show (an addition, a branch): no sign of a fault.
    fits = link.explained >= AGREES
    color = "tab:red" if accused else "tab:green" if fits else "0.5"
    axes.plot([low, high], [low, high], color="0.7", linewidth=0.8, zorder=1)
    axes.scatter(link.predicted, link.stored, s=5, color=color, alpha=0.6, linewidths=0, zorder=2)
    name = link.target if len(link.target) <= _NAME else f"…{link.target[1 - _NAME :]}"
    note = "" if accused or fits else ", link unsure"
    axes.set_title(f"{name}\n{link.explained:.0%} explained{note}", fontsize=6)
    axes.tick_params(labelsize=5)
