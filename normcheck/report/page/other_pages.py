"""The pages of a comparison and of a repair."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from normcheck.compare.movement_story import story
from normcheck.findings import Severity
from normcheck.report.decision_rows import decision_rows
from normcheck.report.page import template
from normcheck.report.page.contents import (
    Section,
    Table,
    command,
    lists_of,
    page_again,
    regime_table,
    sha256_of,
)
from normcheck.report.page.figures import figures_of_comparison, figures_of_repair
from normcheck.report.people.fix_text import rests_on
from normcheck.wording import number, percent, plural

if TYPE_CHECKING:
    from normcheck.compare.movement import Comparison, Movement
    from normcheck.findings import Finding
    from normcheck.repair.repair_result import ModelRepair, Repair
    from normcheck.report.diff_report import Diff
    from normcheck.report.form import View

_MARKS = {"error": "✖", "warning": "▲", "good": "✓", "open": "·"}
_NOTHING: dict[str, list[object]] = {"errors": [], "suppressed": [], "skipped": [], "unused": []}


def diff_page(diff: Diff, view: View) -> str:
    """The page of a comparison: what moved, findings, trends, every layer."""
    report = diff.report
    sections = []
    for place, comparison in enumerate(diff.comparisons, 1):
        last = comparison.sides[-1]
        found = [f for f in report.findings if (f.model, f.where) == (last.target, last.where)]
        sections.append(_compared(comparison, found, f"comparison-{place}"))
    worst = report.worst()
    kind = worst.value if worst in (Severity.ERROR, Severity.WARNING) else "open"
    if report.errors and kind == "open":
        kind = "error"
    first = diff.comparisons[0] if diff.comparisons else None
    names = [side.target for side in first.sides] if first else []
    return template.page(
        title=" → ".join([names[0], *(["…"] if len(names) > 2 else []), names[-1]])
        if names
        else "comparison",
        kind=kind,
        mark=_MARKS[kind],
        verdict=story(first) if first else "Nothing could be compared",
        lead=[f"{plural(len(report.findings), 'finding')} in {plural(len(names), 'checkpoint')}"],
        overview=[],
        sections=sections,
        lists=lists_of(report),
        repeat=page_again(view, "diff", names),
    )


def _compared(comparison: Comparison, found: list[Finding], anchor: str) -> Section:
    loud = tuple(f for f in found if f.severity is not Severity.INFO)
    kind = max(loud, key=lambda f: f.severity.rank).severity.value if loud else "open"
    facts = []
    for side in (comparison.sides[0], comparison.sides[-1]):
        digest = sha256_of(side.target)
        hashed = f", SHA-256 {digest}" if digest else ""
        facts.append((side.target, f"{side.form}, {side.format}, {side.size:,} bytes{hashed}"))
    rows = tuple(
        (
            layer.path or "the model itself",
            layer.kind,
            _share(layer.weights),
            _share(layer.affine),
            _sd(layer.mean),
            "–" if layer.variance is None else number(layer.variance.distance),
            "–" if layer.counted is None else number(layer.counted),
            ", ".join(dict.fromkeys(f.rule for f in found if layer.path in f.layers)) or "–",
        )
        for layer in comparison.total.layers
    )
    heads = ("layer", "kind", "weights", "γ, β", "mean", "log variance", "batches", "rules")
    tables = [("Layers, first against last", Table(heads, rows))] if rows else []
    decided = decision_rows(comparison)
    if decided is not None:
        title = f"{decided.title[:1].upper()}{decided.title[1:]}"
        tables.insert(0, (title, Table(("models", "differ"), decided.rows)))
    told = (decided.note,) if decided is not None and decided.note else ()
    return Section(
        anchor=anchor,
        title=comparison.sides[-1].where or "What moved",
        mark=_MARKS[kind],
        kind=kind,
        verdict=story(comparison),
        text="",
        facts=tuple(facts),
        findings=loud,
        infos=tuple(f for f in found if f.severity is Severity.INFO),
        figures=tuple(figures_of_comparison(comparison)),
        tables=tuple(tables),
        notes=(*comparison.notes, *told),
    )


def _share(change: Movement | None) -> str:
    return "–" if change is None else percent(change.distance)


def _sd(change: Movement | None) -> str:
    return "–" if change is None else f"{number(change.distance)} sd"


def fix_page(repair: Repair, _view: View) -> str:
    """The page of a repair: done or refused, before and after, every layer."""
    written = repair.written
    refused = [reason for model in repair.models for reason in model.objections]
    lead = []
    if written is not None:
        lead.append(
            f"A new file of {written.size:,} bytes: {written.anew}."
            if written.anew
            else f"{plural(written.changed, 'byte')} of {written.size:,} changed."
        )
        if written.backup:
            lead.append(f"The file as it was is {written.backup}.")
    lead += [f"{'Forced, although' if written else 'Because'} {reason}." for reason in refused]
    if written is None:
        lead.append("--force writes it all the same.")
    estimates = [model.estimated for model in repair.models if model.estimated is not None]
    emergencies = [rests_on(found, found.emergency) for found in estimates if found.emergency]
    lead += dict.fromkeys(emergencies)
    kind = "error" if written is None else "warning" if refused or emergencies else "good"
    return template.page(
        title=repair.target,
        kind=kind,
        mark=_MARKS[kind],
        verdict=f"Repaired: {written.path}" if written else "Refused: nothing was written",
        lead=lead,
        overview=[],
        sections=[
            _repaired(model, repair, f"model-{place}")
            for place, model in enumerate(repair.models, 1)
        ],
        lists=_NOTHING,
        repeat=command("fix", [repair.target], *repair.asked),
    )


def _hashes(repair: Repair) -> Iterator[tuple[str, str]]:
    """Of the file as it was, and of the repaired one where it is a file."""
    written = repair.written
    before = sha256_of(written.backup if written and written.backup else repair.target)
    if before:
        yield "SHA-256", before
    if written is not None and (after := sha256_of(written.path)):
        yield "SHA-256 repaired", after


def _repaired(model: ModelRepair, repair: Repair, anchor: str) -> Section:
    found = model.estimated
    tables = []
    facts = [("form", repair.format), *_hashes(repair)]
    if found is not None:
        fed = f"{plural(found.samples, 'sample')} of {found.source} ({found.shapes})"
        facts.append(("data", f"{fed}, {found.device}"))
        facts.append(("passes", f"{found.passes}, residual {number(found.residual)} deviations"))
        facts.append(("judged by", found.proof.judged_by))
        tables.append(("Outputs", regime_table((found.proof.before, found.proof.after))))
        rows = tuple((n.path, f"{number(n.shift)} sd", number(n.factor)) for n in found.layers)
        tables.append(("Layers", Table(("layer", "mean moved by", "variance times"), rows)))
    good = not model.objections
    return Section(
        anchor=anchor,
        title=model.where or "What was done",
        mark="✓" if good else "✖",
        kind="good" if good else "error",
        verdict="done" if good else "refused",
        text=" ".join(
            [
                *([found.proof.text] if found else []),
                *(f"{t[:1].upper()}{t[1:]}." for t in model.done),
            ]
        ),
        facts=tuple(facts),
        findings=(),
        infos=(),
        figures=tuple(figures_of_repair(found)) if found else (),
        tables=tuple(tables),
        notes=model.notes,
        heading="What was done" if good else "What was tried",
    )
