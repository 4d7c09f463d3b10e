"""The end of a report for people: what was left out, and the line of counts."""

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from normcheck.findings import Severity
from normcheck.report.asides import asides, failed, idle, reasons, skipped
from normcheck.report.people.console import hanging
from normcheck.report.people.text_style import TextStyle
from normcheck.report.report import Report
from normcheck.report.tally import Tally
from normcheck.wording import plural, printable


def print_end(console: Console, tally: Tally, style: TextStyle, details: Report | None) -> None:
    """What was skipped, suppressed and failed, and the line of counts.

    Args:
        console: Where it goes.
        tally: Of the whole report.
        style: How it is to look.
        details: Every skipped and suppressed entry, which a verbose style lists.
    """
    if not style.quiet:
        for line in _lines(tally, details if style.verbose else None):
            hanging(console, Text(line), indent=2)
        _last_line(console, tally)
    for line in failed(tally.errors) if style.errors else ():
        hanging(console, Text(line), indent=2)


def _lines(tally: Tally, details: Report | None) -> Iterator[str]:
    if details is None:
        yield from reasons(tally.reasons)
        yield from idle(tally.unused)
    else:
        yield from skipped(details)
        yield from asides(details, verbose=True)


def _last_line(console: Console, tally: Tally) -> None:
    counts = [
        plural(tally.severities[severity], severity.value)
        if severity is not Severity.INFO
        else f"{tally.severities[severity]} info"
        for severity in (Severity.ERROR, Severity.WARNING, Severity.INFO)
    ]
    parts = [", ".join(counts), f"{tally.suppressed} suppressed", *_not_run(tally)]
    unread = plural(len(tally.errors), "target") + " failed" if tally.errors else "0 failed"
    models = [plural(tally.models, "model")] if tally.models != 1 else []
    console.print(Text(printable(" · ".join([*models, *parts, unread]))))


def _not_run(tally: Tally) -> Iterator[str]:
    if tally.needs:
        yield "not checked: " + ", ".join(_needing(tally.needs))
    else:
        yield "0 skipped"
    if tally.passed_over:
        yield f"{plural(tally.passed_over, 'file')} without a model passed over"


def _needing(needs: dict[str, set[str]]) -> Iterator[str]:
    """How many rules need what: ``12 rules need a run (--run), 5 your data (--data)``."""
    verb = " rules need "
    for remedy, rules in sorted(needs.items(), key=lambda entry: (not entry[0], -len(entry[1]))):
        if not remedy:
            yield f"{plural(len(rules), 'rule')} could not tell (-v)"
            continue
        if len(rules) == 1:
            verb = " rule needs " if verb == " rules need " else " "
        yield f"{len(rules)}{verb}{remedy}"
        verb = " "
