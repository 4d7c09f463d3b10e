"""A summary over many models: what is wrong, where to begin, which rules fire how often."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from normcheck.findings import Severity
from normcheck.report.people.console import hanging
from normcheck.report.people.layer_table import VERDICTS
from normcheck.report.tally import ModelCount, RuleCount, Tally
from normcheck.wording import in_box, plural, printable

_GAP = "  "
_SHORTEST_NAME = 16


def print_summary(console: Console, tally: Tally, unlisted: int) -> None:
    """What many models come to: first in words, then the worst of them, then the rules.

    Args:
        console: Where it goes.
        tally: Of all models.
        unlisted: Models without an error or warning that were not shown.
    """
    for line in _verdict(tally):
        hanging(console, line, indent=2)
    sick = sum(tally.sick.values())
    if tally.worst:
        console.print()
        _table(
            console,
            ("worst models", "errors", "warnings", "rules"),
            [_model_row(count) for count in tally.worst_first()],
        )
        if sick > len(tally.worst):
            console.print(Text(f"  … {sick - len(tally.worst):,} more", style="dim"))
    if tally.rules:
        console.print()
        rows = [_rule_row(count) for count in tally.commonest_first()]
        _table(console, ("rules", "models", "findings"), rows)
    if unlisted:
        console.print()
        counted = f"{plural(unlisted, 'model')} without an error or warning not listed (-v does)"
        hanging(console, Text(counted), indent=2)
    console.print()


def _verdict(tally: Tally) -> list[Text]:
    """What is wrong, most often with which rule, and what to do: a line each."""
    errors, warnings = tally.sick[Severity.ERROR], tally.sick[Severity.WARNING]
    if not errors and not warnings:
        if tally.vouched == tally.models:
            mark, color = VERDICTS[None]
            title = f"Nothing wrong in {plural(tally.models, 'model')}"
            return [Text(f"{mark} ", style=color).append(title, style="bold default")]
        title = f"Nothing found in {plural(tally.models, 'model')}"
        rest = tally.models - tally.vouched
        told = f"  {tally.vouched:,} vouched for, {rest:,} of which too little can be told (-v)"
        return [Text("? ").append(title, style="bold default"), Text(told)]
    mark, color = VERDICTS[Severity.ERROR if errors else Severity.WARNING]
    share = f"{errors + warnings:,} of {plural(tally.models, 'model')}"
    title = f"{share} with findings: {errors:,} with errors, {warnings:,} with warnings only"
    loud = [rule for rule in tally.commonest_first() if rule.worst is not Severity.INFO]
    often = max(loud, key=lambda rule: rule.models)
    worst = tally.worst_first()[0].target
    import shlex  # for findings only

    fix = Text("  fix  ", style="bold green")
    fix.append(
        printable(f"begin with the worst: normcheck scan {shlex.quote(worst)}"),
        style="not bold default",
    )
    return [
        Text(f"{mark} ", style=color).append(title, style="bold default"),
        Text(f"  most often {often.code} {often.name}, in {plural(often.models, 'model')}"),
        fix,
    ]


def _model_row(count: ModelCount) -> tuple[Severity, tuple[str, ...]]:
    name, where = in_box(count.target, count.where)
    under = f" under '{where}'" if where else ""
    severity = Severity.ERROR if count.errors else Severity.WARNING
    name = printable(f"{name}{under}")
    return severity, (name, str(count.errors), str(count.warnings), ", ".join(count.rules))


def _rule_row(count: RuleCount) -> tuple[Severity, tuple[str, ...]]:
    return count.worst, (f"{count.code} {count.name}", f"{count.models:,}", f"{count.findings:,}")


def _table(
    console: Console, headers: Sequence[str], rows: list[tuple[Severity, tuple[str, ...]]]
) -> None:
    """Rows with a sign in front; numbers to the right, the last column as far as it fits."""
    widths = [
        max(len(header), *(len(cells[i]) for _, cells in rows)) for i, header in enumerate(headers)
    ]
    if len(headers) > 3:
        widths[-1] = min(widths[-1], max(len("NC101, …"), console.width // 3))
    over = 2 + sum(widths) + len(_GAP) * (len(widths) - 1) - console.width
    widths[0] = max(_SHORTEST_NAME, widths[0] - max(0, over))
    console.print(Text(f"  {_line(headers, widths)}", style="dim"))
    for severity, cells in rows:
        mark, color = VERDICTS[severity]
        line = Text(f"{mark} ", style=color)
        console.print(line.append(_line(cells, widths), style="default"))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    parts = []
    for place, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        if place == 0:
            # The end of a path tells files apart, its beginning is the same for many.
            parts.append(cell if len(cell) <= width else "…" + cell[-(width - 1) :])
            parts[-1] = parts[-1].ljust(width)
        elif place == 3:
            parts.append(_codes(cell, width))
        else:
            parts.append(cell.rjust(width))
    return _GAP.join(parts).rstrip()


def _codes(text: str, width: int) -> str:
    """As many codes as fit, and a sign for those that do not."""
    if len(text) <= width:
        return text
    codes = text.split(", ")
    while codes and len(", ".join([*codes, "…"])) > width:
        codes.pop()
    return ", ".join([*codes, "…"])
