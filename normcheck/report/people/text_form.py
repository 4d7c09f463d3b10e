"""Text as a form of the report."""

from typing import TYPE_CHECKING

from normcheck.report.form import GrowingForm, ReportForm, View

if TYPE_CHECKING:
    from normcheck.repair.repair_result import Repair
    from normcheck.report.diff_report import Diff

# Each renderer is imported where it is wanted: counts need no rich.


def _scan(view: View) -> GrowingForm:
    if view.statistics:
        from normcheck.report.people.rule_counts import StatisticsText

        return StatisticsText()
    from normcheck.report.people.text_stream import TextReport

    return TextReport(view.style)


def _diff(diff: "Diff", view: View) -> str:
    from normcheck.report.people.diff_text import render_diff_text

    return render_diff_text(diff, view.style)


def _fix(repair: "Repair", view: View) -> str:
    from normcheck.report.people.fix_text import render_fix_text

    return render_fix_text(repair, view.style)


FORM = ReportForm("text", ".txt", scan=_scan, diff=_diff, fix=_fix)
