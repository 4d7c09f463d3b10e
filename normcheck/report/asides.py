"""Lines of the text report on what was left out on purpose, and on what left out nothing."""

from collections import Counter
from collections.abc import Iterator

from normcheck.report.report import Report
from normcheck.wording import fold, plural, printable


def asides(report: Report, *, verbose: bool) -> Iterator[str]:
    """A line for each reason of suppression, or for each suppressed finding; then the idle ones.

    Args:
        report: The finished report.
        verbose: Name every suppressed finding.
    """
    if verbose:
        for entry in report.suppressed:
            finding = entry.finding
            place = f"{finding.model} ({finding.where})" if finding.where else finding.model
            layers = f": {fold(finding.layers)}" if finding.layers else ""
            yield printable(f"suppressed {finding.rule} on {place}{layers} ({entry.why})")
    else:
        for why, count in Counter(entry.why for entry in report.suppressed).items():
            yield printable(f"suppressed {plural(count, 'finding')}, {why}")
    for unused in report.unused:
        yield printable(f"note: {unused.message}")
