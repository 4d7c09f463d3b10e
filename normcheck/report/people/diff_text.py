"""A comparison for people: what moved in one line, findings, the table."""

import io
from collections import Counter

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from normcheck.compare.movement import Comparison
from normcheck.compare.movement_story import story
from normcheck.findings import Finding, Severity
from normcheck.report.decision_rows import DecisionRows, decision_rows
from normcheck.report.diff_report import Diff
from normcheck.report.people.console import PROSE, console_for, finished
from normcheck.report.people.movement_table import movement_table
from normcheck.report.people.text_end import print_end
from normcheck.report.people.text_model import print_findings
from normcheck.report.people.text_style import TextStyle
from normcheck.report.tally import Tally
from normcheck.wording import fold, plural, printable

_NAMES = 8
"""Layers of one file only that are named."""
_SHARE = 10
"""Columns that a share and the gaps about it take."""


def render_diff_text(diff: Diff, style: TextStyle) -> str:
    """The comparison as text, ending in a line of counts."""
    out = io.StringIO()
    console = console_for(out, style.width, color=style.color)
    for comparison in diff.comparisons:
        last = comparison.sides[-1]
        findings = [
            f
            for f in diff.report.findings
            if (f.model, f.where) == (last.target, last.where)
            and not (style.quiet and f.severity is Severity.INFO)
        ]
        if style.quiet and not findings:
            continue
        judged = not any(
            (entry.model, entry.where) == (last.target, last.where) for entry in diff.report.skipped
        )
        _comparison(console, comparison, findings, style, judged=judged)
    print_end(console, Tally.of(diff.report), style, diff.report)
    return finished(out)


def _comparison(
    console: Console,
    comparison: Comparison,
    findings: list[Finding],
    style: TextStyle,
    *,
    judged: bool,
) -> None:
    _header(console, comparison)
    width = min(console.width, PROSE)
    loud = any(f.severity is not Severity.INFO for f in findings)
    # What could not be judged, or is in one file only, is not called good.
    good = judged and not loud and not comparison.apart
    line = Text("✓ ", style="bold green") if good else Text()
    console.print(line.append(printable(story(comparison)), style="bold"), width=width)
    for note in comparison.notes:
        console.print(Text(f"note: {printable(note)}"), width=width)
    if findings:
        console.print()
        print_findings(console, findings, style)
    if not style.quiet and (decided := decision_rows(comparison)) is not None:
        console.print()
        _decided(console, decided, width)
    if comparison.total.layers and not style.quiet:
        console.print()
        table = movement_table(comparison, findings, console.width, whole=style.verbose)
        console.print(table)
    console.print()


def _decided(console: Console, found: DecisionRows, width: int) -> None:
    """Decisions that differ, a line each; shares stand in one column where they fit."""
    console.print(Text(f"  {printable(found.title)}", style="dim"), width=width)
    longest = min(max(len(printable(name)) for name, _ in found.rows), width - _SHARE)
    for name, share in found.rows:
        console.print(Text(f"  {printable(name):<{longest}} {share:>6}"), width=width)
    if found.note:
        note = Text(printable(found.note), style="dim")
        console.print(Padding(note, (0, 0, 0, 2)), width=width)


def _header(console: Console, comparison: Comparison) -> None:
    sides = comparison.sides
    arrow = " | " if comparison.ranks else " → "
    ends = [sides[0], sides[-1]]
    names = [
        printable(side.target) + (f" ({printable(side.where)})" if side.where else "")
        for side in ends
    ]
    if len(sides) > 2:
        names.insert(1, "…")
    first = Text(arrow.join(names), style="bold")
    forms = Counter(f"{side.form}, {side.format}" for side in sides)
    count = f"{len(sides)} checkpoints, " if len(sides) > 2 else ""
    match = comparison.match
    ran = (comparison if match is None else match).outputs is not None
    executed = "" if ran else ", not executed"
    first.append(f" · {count}{'; '.join(forms)}{executed}", style="not bold")
    console.print(first)
    console.print(Text(_compared(comparison)))
    if comparison.match is not None:
        return  # what became of each norm is the comparison's subject
    for paths, side in ((comparison.only_old, sides[0]), (comparison.only_new, sides[-1])):
        if paths:
            only = f"only in {printable(side.target)}: {printable(fold(paths, _NAMES))}"
            console.print(Text(only))


def _compared(comparison: Comparison) -> str:
    """How many norms and other weights were held side by side, and how much was read."""
    total = comparison.total
    kinds = Counter(layer.kind for layer in total.layers)
    if not total.layers:
        unpaired = comparison.only_old or comparison.only_new
        norms = "no norm layer in common" if unpaired else "no norm layers"
    elif len(kinds) == 1:
        every = "all " if len(total.layers) > 1 else ""
        norms = f"{plural(len(total.layers), 'norm layer')}, {every}{total.layers[0].kind}"
    else:
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        norms = f"{plural(len(total.layers), 'norm layer')}: {listed}"
    read = "read whole"
    if comparison.sampled:
        read = f"{comparison.values_read:,} of {comparison.values:,} values read"
    return f"{norms}; {plural(total.tensors, 'other weight tensor')}, {read}"
