"""A whole report in a form that grows with its parts."""

from normcheck.report.form import GrowingForm
from normcheck.report.part import Part
from normcheck.report.report import Report
from normcheck.report.tally import Tally


def in_one_piece(report: Report, stream: GrowingForm) -> str:
    """A report that is there already, as a form writes it.

    Args:
        report: All of it.
        stream: The form, to which nothing was given yet.
    """
    return stream.part(Part.of(report)) + "".join(stream.end(Tally.of(report)))
