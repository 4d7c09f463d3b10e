"""JSON as a form of the report."""

from typing import TYPE_CHECKING

from normcheck.report.form import ReportForm, View
from normcheck.report.machines.as_json import Json

if TYPE_CHECKING:
    from normcheck.report.diff_report import Diff


def _diff(diff: "Diff", _view: View) -> str:
    from normcheck.report.machines.diff_json import render_diff_json  # a scan does without

    return render_diff_json(diff)


FORM = ReportForm("json", ".json", scan=lambda _view: Json(), diff=_diff)
