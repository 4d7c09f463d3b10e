"""The report for people: the answer first, then where, the numbers, and what to do.

Rich measures, wraps and colours; it never sees a name from a file as markup.
"""

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from normcheck.findings import Finding, Severity, Skipped
from normcheck.report.console import PROSE, console_for, finished
from normcheck.report.layer_table import layer_table
from normcheck.report.report import ModelReport, Report
from normcheck.wording import fold, percent, plural

MARKS = {Severity.ERROR: ("✖", "bold red"), Severity.WARNING: ("▲", "bold yellow")}
"""One sign and one colour a severity; both are readable on dark and light terminals."""
_INFO_MARK = ("•", "cyan")
_GOOD_MARK = ("✓", "bold green")
_WHERE_NAMES = 8


@dataclass(frozen=True, slots=True)
class TextStyle:
    """How the text is to look; nothing of it changes what is said."""

    width: int = 80
    color: bool = False
    verbose: bool = False
    quiet: bool = False
    """Only findings that are no info, and nothing where there are none."""


def render_text(report: Report, style: TextStyle) -> str:
    """The report as text, ending in a line of counts."""
    out = io.StringIO()
    console = console_for(out, style.width, color=style.color)
    single = len(report.models) == 1
    for model in report.models:
        findings = [
            f for f in report.findings if f.model == model.target and f.where == model.where
        ]
        if style.quiet:
            findings = [f for f in findings if f.severity is not Severity.INFO]
            if not findings:
                continue
        _model(console, model, findings, style, table=single or style.verbose)
    print_end(console, report, style)
    return finished(out)


def print_findings(console: Console, findings: Iterable[Finding], style: TextStyle) -> None:
    """Findings in the order given, infos in a line unless the style is verbose."""
    for number, finding in enumerate(findings):
        if number:
            console.print()
        if finding.severity is Severity.INFO and not style.verbose:
            _remark(console, finding)
        else:
            _finding(console, finding)


def print_end(console: Console, report: Report, style: TextStyle) -> None:
    """What was skipped, and the line of counts."""
    if not style.quiet:
        if style.verbose:
            _skipped(console, report.skipped)
        _last_line(console, report)


def printable(text: str) -> str:
    """``text`` from a file without what could move the cursor or hide other text."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _model(
    console: Console, model: ModelReport, findings: list[Finding], style: TextStyle, *, table: bool
) -> None:
    loud = [f for f in findings if f.severity is not Severity.INFO]
    quiet = [f for f in findings if f.severity is Severity.INFO]
    if not loud and not table:
        _in_a_line(console, model)
        for finding in quiet:
            _remark(console, finding, indent=2)
        return
    _header(console, model)
    # No blank line yet: the verdict belongs to the first screenful of three lines.
    for number, finding in enumerate(loud):
        if number:
            console.print()
        _finding(console, finding)
    if not loud:
        _verdict(console, model)
    if quiet:
        console.print()
    for finding in quiet:
        if style.verbose:
            _finding(console, finding)
        else:
            _remark(console, finding)
    if table and model.layers and not style.quiet:
        console.print()
        console.print(layer_table(model.layers, console.width, whole=style.verbose))
    console.print()


def _header(console: Console, model: ModelReport) -> None:
    under = f" under '{printable(model.where)}'" if model.where else ""
    first = Text(printable(model.target), style="bold")
    read = f"{model.form}{under}, {model.format}, {_size(model.size)}"
    first.append(f" · {read}, not executed", style="not bold")
    console.print(first, soft_wrap=False)
    name = f"{printable(model.class_path)} · " if model.class_path else ""
    console.print(Text(name + _inventory(model)))
    for note in model.notes:
        console.print(Text(f"note: {printable(note)}"))


def _inventory(model: ModelReport) -> str:
    """How many norms of which kinds."""
    if not model.layers:
        return f"no norm layers in {plural(model.tensors, 'tensor')}"
    kinds = Counter(layer.kind for layer in model.layers)
    if len(kinds) == 1:
        every = "all " if len(model.layers) > 1 else ""
        return f"{plural(len(model.layers), 'norm layer')}, {every}{model.layers[0].kind}"
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return f"{plural(len(model.layers), 'norm layer')}: {listed}"


def _in_a_line(console: Console, model: ModelReport) -> None:
    """A model among many in which nothing is wrong."""
    line = Text(f"{_GOOD_MARK[0]} ", style=_GOOD_MARK[1])
    under = f" under '{printable(model.where)}'" if model.where else ""
    line.append(f"{printable(model.target)}{under} · {_inventory(model)}", style="not bold default")
    _hanging(console, line, indent=2)


def _size(size: int) -> str:
    value = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return (
                f"{value:.0f} {unit}" if unit == "bytes" or value >= 10 else f"{value:.1f} {unit}"
            )
        value /= 1000
    raise AssertionError("unreachable")


def _verdict(console: Console, model: ModelReport) -> None:
    """What to think of a model in which nothing is wrong."""
    line = Text()
    line.append(_GOOD_MARK[0] + " ", style=_GOOD_MARK[1])
    stored = [
        layer for layer in model.layers if layer.mean is not None and layer.variance is not None
    ]
    if not model.layers:
        line.append("Nothing to judge: this model has no normalization layers", style="bold")
        console.print(line)
        return
    if stored:
        line.append("Nothing wrong in what the file can tell", style="bold")
        text = _reading(model, len(stored))
    elif all(layer.eval_uses == "its own input" for layer in model.layers):
        line.append("Nothing here can go stale", style="bold")
        text = (
            "These norms compute from their current input and store no statistics: the same "
            "input gives the same output in train and eval mode."
        )
    else:
        line.append("Nothing wrong in what the file can tell", style="bold")
        text = "The file holds no running statistics that could be judged."
    console.print(line)
    _paragraph(console, text)


def _reading(model: ModelReport, stored: int) -> str:
    """What can be said for the statistics, and what nobody looked at."""
    agreement = model.agreement
    last = "Whether they fit your data, only a run on that data can tell."
    if agreement is None or not agreement.agreeing:
        has = "has" if stored == 1 else "have"
        return (
            f"{plural(stored, 'layer')} {has} running statistics that were collected. Whether "
            f"they belong to the weights could not be judged. {last}"
        )
    count = len(agreement.agreeing)
    rest = stored - count
    others = f" ({plural(rest, 'layer')} could not be judged this way)" if rest else ""
    return (
        f"The running statistics agree with the weights in {plural(count, 'layer')}: the weights "
        f"explain {percent(agreement.explained)} of the stored means, assuming "
        f"{agreement.activation}{others}. {last}"
    )


def _finding(console: Console, finding: Finding) -> None:
    mark, style = MARKS.get(finding.severity, _INFO_MARK)
    label = f"{finding.rule} {finding.severity.value}"
    # Only the sign is coloured: yellow text cannot be read on a light terminal.
    title = Text().append(f"{mark} ", style=style)
    title.append(printable(finding.title), style="bold")
    width = min(console.width, PROSE)
    gap = width - title.cell_len - len(label)
    if gap >= 2:
        title.append(" " * gap + label)
        console.print(title)
    else:
        _hanging(console, title, indent=2)
        _paragraph(console, label)
    if finding.layers:
        _paragraph(console, printable(fold(finding.layers, _WHERE_NAMES)), style="bold")
    _paragraph(console, printable(finding.detail))
    _paragraph(console, printable(finding.consequence))
    fix = Text("fix  ", style="bold green")
    fix.append(printable(finding.fix), style="not bold default")
    _hanging(console, fix, indent=7, first=2)


def _remark(console: Console, finding: Finding, indent: int = 0) -> None:
    """An info in one line, or two."""
    line = Text(f"{_INFO_MARK[0]} ", style=_INFO_MARK[1])
    line.append(printable(finding.message), style="default")
    line.append(f"  {finding.rule} info", style="cyan")
    _hanging(console, line, indent=indent + 2, first=indent)


def _paragraph(console: Console, text: str, style: str = "") -> None:
    width = min(console.width, PROSE)
    console.print(Padding(Text(text, style=style), (0, 0, 0, 2)), width=width)


def _hanging(console: Console, text: Text, indent: int, first: int = 0) -> None:
    """A paragraph whose lines after the first begin ``indent`` columns in."""
    width = min(console.width, PROSE)
    lines = text.wrap(console, width - indent)
    for number, line in enumerate(lines):
        line.rstrip()
        pad = first if number == 0 else indent
        console.print(Padding(line, (0, 0, 0, pad)), width=width + indent)


def _skipped(console: Console, skipped: Iterable[Skipped]) -> None:
    """What was not judged and why, rules of one reason together."""
    rules: dict[tuple[str, str, str], list[str]] = {}
    for entry in skipped:
        rules.setdefault((entry.model, entry.where, entry.reason), []).append(entry.rule)
    for (model, where, reason), codes in rules.items():
        place = f" ({printable(where)})" if where else ""
        about = f"{', '.join(codes)} on {printable(model)}{place}: " if codes[0] else ""
        _hanging(console, Text(f"skipped {about}{printable(reason)}"), indent=2)


def _last_line(console: Console, report: Report) -> None:
    counts = [
        plural(report.count(severity), severity.value)
        if severity is not Severity.INFO
        else f"{report.count(severity)} info"
        for severity in (Severity.ERROR, Severity.WARNING, Severity.INFO)
    ]
    parts = [", ".join(counts), f"{len(report.suppressed)} suppressed", *_not_run(report.skipped)]
    unread = plural(len(report.errors), "target") + " failed" if report.errors else "0 failed"
    models = [f"{plural(len(report.models), 'model')}"] if len(report.models) != 1 else []
    line = Text(" · ".join([*models, *parts, unread]))
    console.print(line)


def _not_run(skipped: tuple[Skipped, ...]) -> Iterator[str]:
    rules = {entry.rule for entry in skipped if entry.rule}
    files = sum(not entry.rule for entry in skipped)
    if rules:
        remedies = sorted({entry.remedy for entry in skipped if entry.rule and entry.remedy})
        how = f": {'; '.join(remedies)}" if remedies else ""
        yield f"{plural(len(rules), 'rule')} skipped{how}"
    else:
        yield "0 skipped"
    if files:
        yield f"{plural(files, 'file')} without a model passed over"
