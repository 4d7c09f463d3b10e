"""What stands on a page: plain values for the template, made of the finished report."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normcheck.findings import Finding, Severity
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.report.certificate import certificate_for
from normcheck.report.healthy_reading import reading
from normcheck.report.page.figures import Figure, figures_of
from normcheck.sources.place import is_remote
from normcheck.wording import fold, number, percent, plural

if TYPE_CHECKING:
    from normcheck.live.measurement import Regime
    from normcheck.report.form import View
    from normcheck.report.report import LayerSummary, ModelReport, Report, Spread

_LARGEST_HASHED = 4 << 30
"""Bytes; hashing more than four gigabytes takes longer than the scan."""
MARKS = {Severity.ERROR: "✖", Severity.WARNING: "▲", Severity.INFO: "•"}
_NOT_BELONGING = "NC108"


@lazy_dataclass()
class Table:
    """Rows under heads, in words."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@lazy_dataclass()
class Section:
    """One model, or one comparison."""

    anchor: str
    title: str
    mark: str
    kind: str
    """``error``, ``warning``, ``good`` or ``open``."""
    verdict: str
    text: str
    facts: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]
    infos: tuple[Finding, ...]
    figures: tuple[Figure, ...] = ()
    tables: tuple[tuple[str, Table], ...] = ()
    notes: tuple[str, ...] = ()
    heading: str = "What was found"
    """In place of the title, where this is the only section."""


def section_of(model: ModelReport, findings: Sequence[Finding], anchor: str) -> Section:
    """A model with what was found."""
    loud = tuple(f for f in findings if f.severity is not Severity.INFO)
    said = reading(model)
    errors = any(f.severity is Severity.ERROR for f in loud)
    kind = "error" if errors else "warning" if loud else "good" if said.earned else "open"
    mark = {"error": "✖", "warning": "▲", "good": "✓", "open": "?"}[kind]
    accused = frozenset(p for f in findings if f.rule == _NOT_BELONGING for p in f.layers)
    tables = [("Layers", layer_table(model.layers))] if model.layers else []
    if model.run is not None and model.run.regimes:
        tables.insert(0, ("Outputs", regime_table(model.run.regimes)))
    return Section(
        anchor=anchor,
        title=model.target + (f" ({model.where})" if model.where else ""),
        mark=mark,
        kind=kind,
        verdict=plural(len(loud), "finding") if loud else said.title,
        text="" if loud else said.text,
        facts=tuple(_facts(model)),
        findings=loud,
        infos=tuple(f for f in findings if f.severity is Severity.INFO),
        figures=tuple(figures_of(model, accused)),
        tables=tuple(tables),
        notes=(*model.notes, *(model.run.notes if model.run else ())),
    )


def _facts(model: ModelReport) -> Iterable[tuple[str, str]]:
    yield "form", f"{model.form}, {model.format}"
    if model.class_path:
        yield "class", model.class_path
    yield "size", plural(model.size, "byte")
    certificate = certificate_for(model)
    brief = f": {certificate.in_brief}" if certificate.in_brief else ""
    yield "norms", f"{plural(len(model.layers), 'layer')}{brief}"
    if model.run is not None:
        fed = model.run.fed
        yield "run", f"{plural(fed.samples, 'sample')} of {fed.source} ({fed.shapes}), {fed.device}"
    else:
        yield "run", "read without running it"
    if digest := sha256_of(model.target):
        yield "SHA-256", digest


def sha256_of(target: str) -> str:
    """The digest of a regular file of this machine that is not too large; empty for all else."""
    if is_remote(target):
        return ""
    try:
        path = Path(target)
        if not path.is_file() or path.stat().st_size > _LARGEST_HASHED:
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return ""


def layer_table(layers: Sequence[LayerSummary]) -> Table:
    """The layers, one a row."""
    heads = ("layer", "kind", "eval uses", "batches", "mean", "var", "stands", "rules")
    return Table(
        heads,
        tuple(
            (
                layer.path or "the model itself",
                layer.kind,
                layer.eval_uses,
                "–" if layer.batches is None else f"{layer.batches:,.0f}",
                _spread(layer.mean),
                _spread(layer.variance),
                layer.standing.value,
                ", ".join((*layer.rules, *(f"({code})" for code in layer.suppressed))) or "–",
            )
            for layer in layers
        ),
    )


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    lost = f", {spread.not_finite} not finite" if spread.not_finite else ""
    if spread.constant is not None:
        return f"{number(spread.constant)}{lost}"
    return f"{number(spread.smallest)} … {number(spread.largest)}{lost}"


def regime_table(regimes: Sequence[Regime]) -> Table:
    """Outputs under each way of normalising."""
    rows = [
        (
            regime.name,
            percent(regime.difference) if regime.difference < float("inf") else "not finite",
            "–" if regime.flips is None else percent(regime.flips),
            "–" if regime.accuracy is None else f"{100 * regime.accuracy:.1f} %",
            "–" if regime.loss is None else number(regime.loss),
            f"{regime.samples:,}",
        )
        for regime in regimes
    ]
    return Table(
        ("statistics", "difference", "changed", "accuracy", "loss", "samples"), tuple(rows)
    )


def lists_of(report: Report) -> dict[str, Any]:
    """What is no finding: failures, what was left out and why, what was not judged and why."""
    reasons: dict[tuple[str, str], dict[str, None]] = {}
    for entry in report.skipped:
        reasons.setdefault((entry.reason, entry.remedy), {})[entry.rule or entry.model] = None
    return {
        "errors": [(failure.message, failure.hint) for failure in report.errors],
        "suppressed": [
            (
                f"{entry.finding.rule} {entry.finding.name} on {entry.finding.model}"
                + (f": {fold(entry.finding.layers)}" if entry.finding.layers else ""),
                entry.why,
            )
            for entry in report.suppressed
        ],
        "skipped": [
            (", ".join(what), reason + (f" (needs {remedy})" if remedy else ""))
            for (reason, remedy), what in reasons.items()
        ],
        "unused": [entry.message for entry in report.unused],
    }


def command(verb: str, targets: Sequence[str], *words: str) -> str:
    """How to do it again."""
    names = list(dict.fromkeys(targets))
    shown = names if len(names) <= 6 else [*names[:6], "…"]
    return command_of((verb, *shown, *words))


def command_of(words: Sequence[str]) -> str:
    """The words of a command as a shell takes them; ``…`` stands for what cannot be written."""
    quoted = [word if word == "…" else shlex.quote(word) for word in words]
    return " ".join(["normcheck", *quoted])


def page_again(view: View, verb: str, targets: Sequence[str]) -> str:
    """The command that makes the same page.

    Args:
        view: With what was asked, where a command asked.
        verb: The command's name, where Python asked.
        targets: What was looked at.
    """
    output = ("-f", "html", "-o", "report.html")
    asked = view.repeated
    return command_of((*asked, *output)) if asked else command(verb, targets, *output)
