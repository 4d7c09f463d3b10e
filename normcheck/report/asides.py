"""Lines on what is no finding: what was suppressed, skipped, or could not be done."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from normcheck.findings import Failure, Unused
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
        yield from reasons(Counter(entry.why for entry in report.suppressed))
    yield from idle(report.unused)


def reasons(counts: Mapping[str, int]) -> Iterator[str]:
    """A line for each reason of suppression, with how many findings it has."""
    for why, count in counts.items():
        yield printable(f"suppressed {plural(count, 'finding')}, {why}")


def idle(entries: Iterable[Unused]) -> Iterator[str]:
    """A line for each suppression that suppressed nothing."""
    for unused in entries:
        yield printable(f"note: {unused.message}")


def skipped(report: Report) -> Iterator[str]:
    """What was not judged and why, rules of one model and reason in one line."""
    rules: dict[tuple[str, str, str], list[str]] = {}
    for entry in report.skipped:
        rules.setdefault((entry.model, entry.where, entry.reason), []).append(entry.rule)
    for (model, where, reason), codes in rules.items():
        place = f" ({where})" if where else ""
        about = f"{', '.join(codes)} on {model}{place}: " if codes[0] else f"{model}: "
        yield printable(f"skipped {about}{reason}")


def failed(errors: Iterable[Failure]) -> Iterator[str]:
    """What could not be done, and what to do about it."""
    for failure in errors:
        yield printable(f"error: {failure.message}")
        if failure.hint:
            yield printable(f"hint: {failure.hint}")
