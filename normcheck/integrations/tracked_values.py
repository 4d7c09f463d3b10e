"""What of a report is logged: numbers to plot, and the report itself as files."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from normcheck.findings import Severity

if TYPE_CHECKING:
    from normcheck.report.report import Report


def metrics_of(report: Report) -> dict[str, float]:
    """Counts by severity, layers by what is thought of them, and whether all is well (1 or 0)."""
    standings = [layer.standing.value for layer in report.layers]
    return {
        "normcheck/ok": float(report.ok),
        **{f"normcheck/{s.value}": float(report.count(s)) for s in Severity},
        "normcheck/errors_of_the_scan": float(len(report.errors)),
        "normcheck/layers": float(len(standings)),
        "normcheck/layers_accused": float(standings.count("accused")),
        "normcheck/layers_vouched_for": float(standings.count("vouched for")),
    }


def files_of(report: Report) -> dict[str, str]:
    """The report as text and JSON, and as a page where jinja2 is installed."""
    files = {"normcheck.txt": f"{report}\n", "normcheck.json": report.to_json()}
    if find_spec("jinja2") is not None:
        files["normcheck.html"] = report.to_html()
    return files
