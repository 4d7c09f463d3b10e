"""The report as Markdown, for a comment on a pull request or the summary of a CI job."""

import re
from collections.abc import Iterable

from normcheck.findings import Finding, Severity
from normcheck.report.certificate import certificate_for, count, sentences
from normcheck.report.form import of_findings
from normcheck.report.report import ModelReport, Report
from normcheck.wording import fold, in_box, plural, printable

_SIGNS = {Severity.ERROR: "❌ error", Severity.WARNING: "⚠️ warning", Severity.INFO: "i info"}
_MARKUP = re.compile(r"([\\`*_\[\]<>#|~$&])")
_FIRST = re.compile(r"^(\d*)([-+=.)])")
"""What makes a list or a heading of a line that begins with it."""
_AUTOMATIC = re.compile(r"@|#|://|(?i:www\.)|(?i:gh-)")
_PLAIN = re.compile(r"[^`|\\\s](?:[^`|\\]*[^`|\\\s])?")
"""A name that can stand between backquotes, also in a table."""
_WORD_JOINER = "\u2060"
"""Has no width; stands between the characters that GitHub would make a link or a mention of."""
_MOST_ROWS = 200
"""A comment on GitHub holds 65,536 characters."""
_WHERE_NAMES = 8


def render_markdown(report: Report) -> str:
    """A table of findings, the worst first, and lists of all that was not judged."""
    findings = sorted(report.findings, key=lambda finding: -finding.severity.rank)
    blocks = [f"### normcheck: {_headline(report)}"]
    if findings:
        blocks.append(_table(findings[:_MOST_ROWS]))
    if len(findings) > _MOST_ROWS:
        blocks.append(f"… and {plural(len(findings) - _MOST_ROWS, 'finding')} more.")
    blocks += [
        block
        for block in (
            _list("Failed", (_text(f"{e.message}. {e.hint}") for e in report.errors), open_=True),
            _list("How the layers stand", (_standing(model) for model in report.models)),
            _list("Suppressed", (_suppressed(entry) for entry in _known(report))),
            _list("Suppressions that matched nothing", (_text(u.message) for u in report.unused)),
            _list("Skipped", _skipped(report)),
        )
        if block
    ]
    return "\n\n".join(blocks) + "\n"


def _standing(model: ModelReport) -> str:
    """What is vouched for, accused and cannot be told, of one model."""
    name, place = in_box(model.target, model.where)
    where = f" {_code(place)}" if place else ""
    certificate = certificate_for(model)
    said = " ".join(
        [f"{count(certificate.accused)} accused."] * bool(certificate.accused)
        + sentences(certificate)
    )
    sign = "✅" if certificate.earned else "❔"
    if certificate.accused:
        sign = "❌"
    return f"{sign} {_code(name)}{where}: {_text(said or 'no normalization layers')}"


def _headline(report: Report) -> str:
    if not report.models:
        return "no model was judged"
    counts = [
        plural(report.count(Severity.ERROR), "error"),
        plural(report.count(Severity.WARNING), "warning"),
        f"{report.count(Severity.INFO)} info",
    ]
    return f"{', '.join(counts)} in {plural(len(report.models), 'model')}"


def _table(findings: Iterable[Finding]) -> str:
    rows = ["| | rule | model | layers | what is wrong |", "|---|---|---|---|---|"]
    for finding in findings:
        where = f" {_code(finding.where)}" if finding.where else ""
        layers = _code(fold(finding.layers, _WHERE_NAMES)) if finding.layers else ""
        says = f"**{_text(finding.title)}**<br>{_text(finding.detail)} {_text(finding.consequence)}"
        rows.append(
            f"| {_SIGNS[finding.severity]} | {finding.rule} {_text(finding.name)} "
            f"| {_code(finding.model)}{where} | {layers} | {says}<br>Fix: {_text(finding.fix)} |"
        )
    return "\n".join(rows)


def _known(report: Report) -> Iterable[tuple[Finding, str]]:
    return ((entry.finding, entry.why) for entry in report.suppressed)


def _suppressed(entry: tuple[Finding, str]) -> str:
    finding, why = entry
    layers = f": {_code(fold(finding.layers, _WHERE_NAMES))}" if finding.layers else ""
    return f"{finding.rule} {_text(finding.name)} on {_code(finding.model)}{layers} ({_text(why)})"


def _skipped(report: Report) -> Iterable[str]:
    """Rules of one model and reason together."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for entry in report.skipped:
        groups.setdefault((entry.model, entry.where, entry.reason), []).append(entry.rule)
    for (model, where, reason), rules in groups.items():
        place = f"{_code(model)}{f' {_code(where)}' if where else ''}"
        codes = f"{', '.join(rules)} on " if rules[0] else ""
        yield f"{codes}{place}: {_text(reason)}"


def _list(title: str, lines: Iterable[str], *, open_: bool = False) -> str:
    items = [f"- {line}" for line in lines]
    if not items:
        return ""
    if len(items) > _MOST_ROWS:
        items = [*items[:_MOST_ROWS], f"- … and {len(items) - _MOST_ROWS} more"]
    head = f"<details{' open' if open_ else ''}><summary>{title}: {len(items)}</summary>"
    return "\n".join([head, "", *items, "", "</details>"])


def _text(text: str) -> str:
    """Prose in which nothing is markup, a mention or a link."""
    apart = _AUTOMATIC.sub(
        lambda sign: sign.group()[0] + _WORD_JOINER + sign.group()[1:], printable(text)
    )
    return _FIRST.sub(r"\1\\\2", _MARKUP.sub(r"\\\1", apart))


def _code(text: str) -> str:
    """A name as code: nothing in it is markup, and it reads as what it is."""
    safe = printable(text)
    if _PLAIN.fullmatch(safe):
        return f"`{safe}`"
    # References are never structure: no bar of a table, no fence, no tag.
    characters = (c if c.isalnum() else f"&#{ord(c)};" for c in safe)
    return f"<code>{''.join(characters)}</code>"


FORM = of_findings("markdown", ".md", lambda report, _root: render_markdown(report))
