"""Reports to render: one with entries of every kind, one in which nothing is wrong."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from normcheck.config.baseline import Baseline, KnownFinding
from normcheck.config.examination import Examination
from normcheck.config.policy import LayerIgnore, Policy
from normcheck.findings import Confidence, Evidence, Finding, Severity, Skipped
from normcheck.live.measurement import Regime
from normcheck.repair.repair_result import (
    Estimated,
    LayerRepair,
    ModelRepair,
    Proof,
    Repair,
    Written,
)
from normcheck.report.form import View
from normcheck.report.forms import form_of
from normcheck.report.in_one_piece import in_one_piece
from normcheck.report.machines.as_json_lines import JsonLines
from normcheck.report.part import Part
from normcheck.report.people.text_style import TextStyle
from normcheck.report.report import Report
from normcheck.report.tally import Tally
from normcheck.rules.catalogue import find, select
from normcheck.runs.scan import scan

MACHINE_FORMS = ("json", "json-lines", "sarif", "junit", "github", "markdown")
RULES = ["NC101", "NC104", "NC202", "NC504"]

HOSTILE = (
    "bn\n::error title=x,file=y::pwned",
    "##[error]pwned ##[add-mask]x",
    "::stop-commands::token",
    "[red]markup[/red] [link](https://evil.example)",
    "<script>alert(1)</script>&lt;]]><!--",
    "| pipe | `tick` ``ticks`` \\| **bold** _it_ ~~no~~",
    "@everyone #1 GH-1 www.evil.example https://evil.example $x$",
    "100%0A%25{0}{{1}}",
    "##vso[task.setvariable variable=x]pwned ##teamcity[buildStop comment='x']",
    "section_start:1:x\r\x1b[0Kpwned travis_fold:start:x\r\x1b[0K",
    "--- pwned",
    "+++ ~~~",
    "a\u202e\u2066\u200f\u061c\u200b\u3164\u2800\x85\x7fz",
    "\x1b[2J\x07\x00\x08\u202e\u2028\ufffe\ud800",
    "- item\r\n# head\r> quote",
)
"""Names that a file may hold, each an attack on another reader of reports."""


def render(report: Report, form: str, root: Path) -> str:
    """A whole report in a form for machines, with file names relative to a folder."""
    if form == "json-lines":  # a part for each file, as a run gives them
        stream = JsonLines()
        files = [stream.part(Part.of(part)) for part in _by_file(report)]
        return "".join([*files, *stream.end(Tally.of(report))])
    return in_one_piece(report, form_of(form).scan(View(root=root)))


def text_of(report: Report, style: TextStyle) -> str:
    """A whole report as text."""
    return in_one_piece(report, form_of("text").scan(View(style)))


def _by_file(report: Report) -> Iterator[Report]:
    targets = [entry.target for entry in report.models]
    targets += [entry.model for entry in (*report.errors, *report.skipped)]
    for target in dict.fromkeys(targets):
        yield replace(
            report,
            models=tuple(m for m in report.models if m.target == target),
            findings=tuple(f for f in report.findings if f.model == target),
            suppressed=tuple(s for s in report.suppressed if s.finding.model == target),
            skipped=tuple(s for s in report.skipped if s.model == target),
            errors=tuple(e for e in report.errors if e.model == target),
            unused=(),
        )
    yield replace(report, models=(), findings=(), suppressed=(), skipped=(), errors=())


def everything() -> Report:
    """A scan in the folder of the samples with all that a report can hold."""
    known = KnownFinding("mixed-modes-module.pt", "", "NC202", "block.first.norm", "left in train")
    gone = KnownFinding("nan-statistics.pt", "", "NC101", "stem.norm", "trained")
    policy = Policy(
        min_confidence=Confidence.HIGH,
        layer_ignores=(
            LayerIgnore("block.second.*", ("NC101",), "re-estimated on load"),
            LayerIgnore("neck.*", ("never-updated-stats",), "frozen neck"),
        ),
        baseline=Baseline(Path("normcheck-baseline.json"), (known, gone)),
    )
    report = scan(
        [
            "nan-statistics.pt",
            "statistics-lost.pt",
            "mlp-batchnorm-module.pt",
            "mlp-never-updated.pt",
            "mlp-batchnorm.pt",
            "mixed-modes-module.pt",
            "there-is-no-such-file.pt",
        ],
        Examination(rules=select(RULES, [])),
        policy,
    )
    passed_over = Skipped("runs/tokenizer.model", "", "", "not a checkpoint format", "")
    return _settled(replace(report, skipped=(*report.skipped, passed_over)))


def clean() -> Report:
    """A scan of one healthy model by the same rules."""
    return _settled(scan(["digits-healthy-module.pt"], Examination(rules=select(RULES, []))))


def _settled(report: Report) -> Report:
    """Without figures that come from matrix products, whose last digit a CPU may choose."""
    return replace(report, models=tuple(replace(m, agreement=None) for m in report.models))


def hostile() -> Report:
    """One finding for each name in every place that a file can fill, ignored ones too."""
    healthy = clean()
    model = healthy.models[0]
    models, findings = [], []
    for name in HOSTILE:
        layer = replace(model.layers[0], path=name, class_path=name)
        models.append(
            replace(model, target=name, where=name, class_path=name, layers=(layer,), notes=(name,))
        )
        findings.append(finding_on(name, model=name, where=name, text=name))
    report = everything()
    suppressed = tuple(
        replace(report.suppressed[0], finding=finding, source=name, reason=name)
        for name, finding in zip(HOSTILE, findings, strict=True)
    )
    return replace(
        healthy,
        models=tuple(models),
        findings=tuple(findings),
        suppressed=suppressed,
        skipped=tuple(Skipped(name, name, "NC202", name, name) for name in HOSTILE),
        errors=tuple(replace(report.errors[0], model=n, message=n, hint=n) for n in HOSTILE),
        unused=tuple(replace(report.unused[0], source=n, message=n) for n in HOSTILE),
    )


def hostile_repair() -> Repair:
    """A forced repair with every name in every place that a file or a user can fill."""
    models = []
    for name in HOSTILE:
        regime = Regime(name, 0.5, 0.1, 0.9, 0.3, 64)
        estimated = Estimated(
            name, name, 64, 3, 1e-4, name,
            layers=(LayerRepair(name, 0.5, 2.0),),
            proof=Proof(regime, regime, name, name),
            objections=(name,),
        )  # fmt: skip
        models.append(ModelRepair(name, (), done=(name,), estimated=estimated, notes=(name,)))
    every = " ".join(HOSTILE)
    written = Written(every, 100, 7, anew=every, backup=every)
    return Repair(every, every, tuple(models), written, forced=True, notes=HOSTILE, asked=HOSTILE)


def finding_on(
    *layers: str, model: str = "model.pt", where: str = "", text: str = "", key: str = "trained"
) -> Finding:
    """A finding of NC101 on some layers."""
    return replace(
        find("NC101").finding(
            title=text or "2 layers were never updated",
            detail=text or "mean 0",
            consequence=text or "wrong",
            fix=text or "re-estimate",
            layers=layers,
            severity=Severity.WARNING,
            evidence=(Evidence("batches", 0.0),),
            discriminator=key,
        ),
        model=model,
        where=where,
    )
