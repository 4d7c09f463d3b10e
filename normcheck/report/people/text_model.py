"""One model for people: the answer first, then where, the numbers, and what to do.

Rich measures, wraps and colours; it never sees a name from a file as markup.
"""

from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from normcheck.findings import Finding, Severity
from normcheck.report.certificate import certificate_for
from normcheck.report.healthy_reading import reading
from normcheck.report.people.console import PROSE, hanging
from normcheck.report.people.layer_table import layer_table
from normcheck.report.people.text_style import TextStyle
from normcheck.report.report import ModelReport
from normcheck.wording import fold, in_box, plural, printable

MARKS = {Severity.ERROR: ("✖", "bold red"), Severity.WARNING: ("▲", "bold yellow")}
"""One sign and one colour a severity; both are readable on dark and light terminals."""
_INFO_MARK = ("•", "cyan")
_GOOD_MARK = ("✓", "bold green")
_OPEN_MARK = ("?", "bold")
"""Of a model that nothing speaks against, and too little for."""
_KNOWN_MARK = ("–", "bold")
"""Of a model whose faults are known."""
_WHERE_NAMES = 8


def print_findings(console: Console, findings: Iterable[Finding], style: TextStyle) -> None:
    """Findings in the order given, infos in a line unless the style is verbose."""
    for number, finding in enumerate(findings):
        if number:
            console.print()
        if finding.severity is Severity.INFO and not style.verbose:
            _remark(console, finding)
        else:
            _finding(console, finding)


def print_model(
    console: Console,
    model: ModelReport,
    findings: list[Finding],
    style: TextStyle,
    known: int,
    *,
    table: bool,
) -> None:
    """One model: what was read, the verdict, findings, the run, the layers.

    Args:
        console: Where it goes.
        model: With its layers.
        findings: Those of this model that count, the worst first.
        style: How it is to look.
        known: Findings that are no info and were suppressed.
        table: Show the layers even where nothing is wrong.
    """
    loud = [f for f in findings if f.severity is not Severity.INFO]
    quiet = [f for f in findings if f.severity is Severity.INFO]
    if not loud and not table:
        _in_a_line(console, model, known)
        for finding in quiet:
            _remark(console, finding, indent=2)
        return
    _header(console, model)
    # No blank line yet: the verdict belongs to the first screenful of three lines.
    for number, finding in enumerate(loud):
        if number:
            console.print()
        _finding(console, finding)
    if not loud and known:
        # A model whose faults are known is no healthy one.
        line = Text(f"{_KNOWN_MARK[0]} ", style=_KNOWN_MARK[1])
        line.append("Nothing but what is suppressed", style="bold default")
        console.print(line)
        _paragraph(console, f"{plural(known, 'finding')} left out on purpose; -v names the layers.")
    elif not loud:
        _verdict(console, model)
    _notes(console, model)
    if quiet:
        console.print()
    for finding in quiet:
        if style.verbose:
            _finding(console, finding)
        else:
            _remark(console, finding)
    if model.run is not None and not style.quiet:
        from normcheck.report.people.run_text import run_section

        console.print()
        for line in run_section(model.run):
            hanging(console, line, indent=4)
    if table and model.layers and not style.quiet:
        console.print()
        drifts = model.run.drifts if model.run else ()
        console.print(layer_table(model.layers, console.width, drifts, whole=style.verbose))
    console.print()


def _header(console: Console, model: ModelReport) -> None:
    name, where = in_box(model.target, model.where)
    under = f" under '{printable(where)}'" if where else ""
    first = Text(printable(name), style="bold")
    read = f"{model.form}{under}, {model.format}, {_size(model.size)}"
    executed = "" if model.run else ", not executed"
    first.append(f" · {read}{executed}", style="not bold")
    console.print(first, soft_wrap=False)
    name = f"{printable(model.class_path)} · " if model.class_path else ""
    console.print(Text(name + _inventory(model) + _accused(model)))
    if model.run is not None and not model.run.fed.real:
        from normcheck.report.people.run_text import fed_line

        # Said before anything is judged; what real data were fed stands with its outputs.
        console.print(Text(printable(fed_line(model.run))))


def _notes(console: Console, model: ModelReport) -> None:
    """What a reader should know of the file: after what is wrong with it."""
    if model.notes:
        console.print()
    for note in model.notes:
        hanging(console, Text(f"note: {printable(note)}"), indent=6)


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


def _accused(model: ModelReport) -> str:
    """How many layers stand which way, where some are accused: findings stand below."""
    certificate = certificate_for(model)
    return f" · {certificate.in_brief}" if certificate.accused else ""


def _in_a_line(console: Console, model: ModelReport, known: int) -> None:
    """A model among many in which nothing is wrong, or nothing new."""
    mark, color = _KNOWN_MARK if known else _GOOD_MARK if _earned(model) else _OPEN_MARK
    line = Text(f"{mark} ", style=color)
    name, where = in_box(model.target, model.where)
    under = f" under '{printable(where)}'" if where else ""
    but = f", {plural(known, 'finding')} suppressed" if known else ""
    text = f"{printable(name)}{under} · {_inventory(model)}{but}"
    line.append(text, style="not bold default")
    hanging(console, line, indent=2)


def _earned(model: ModelReport) -> bool:
    return certificate_for(model).earned


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
    said = reading(model)
    mark, color = _GOOD_MARK if said.earned else _OPEN_MARK
    line = Text()
    line.append(f"{mark} ", style=color)
    hanging(console, line.append(said.title, style="bold"), indent=2)
    if said.text:
        _paragraph(console, printable(said.text))


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
        hanging(console, title, indent=2)
        _paragraph(console, label)
    if finding.layers:
        _paragraph(console, printable(fold(finding.layers, _WHERE_NAMES)), style="bold")
    _paragraph(console, printable(finding.detail))
    _paragraph(console, printable(finding.consequence))
    fix = Text("fix  ", style="bold green")
    fix.append(printable(finding.fix), style="not bold default")
    hanging(console, fix, indent=7, first=2)


def _remark(console: Console, finding: Finding, indent: int = 0) -> None:
    """An info in one line, or two."""
    line = Text(f"{_INFO_MARK[0]} ", style=_INFO_MARK[1])
    line.append(printable(finding.message), style="default")
    line.append(f"  {finding.rule} info", style="cyan")
    hanging(console, line, indent=indent + 2, first=indent)


def _paragraph(console: Console, text: str, style: str = "") -> None:
    width = min(console.width, PROSE)
    console.print(Padding(Text(text, style=style), (0, 0, 0, 2)), width=width)
