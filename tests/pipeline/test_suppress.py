"""What keeps a finding out, for which of its layers, and which suppression did nothing."""

from dataclasses import replace
from pathlib import Path

import pytest

from normcheck.config.baseline import Baseline, KnownFinding
from normcheck.config.examination import Examination, ModelSettings
from normcheck.config.policy import LayerIgnore, Policy
from normcheck.findings import Confidence, Finding, Severity, SuppressedBy
from normcheck.pipeline.suppress import Sieve
from normcheck.rules.catalogue import RULES
from normcheck.runs.scan import scan

LAYERS = ("backbone.0.bn", "backbone.1.bn", "head.bn")


def finding(*layers: str, rule: str = "NC101", key: str = "") -> Finding:
    return Finding(
        rule, "name", Severity.WARNING, Confidence.MEDIUM, f"{len(layers)} layers are wrong",
        "d", "c", "f", layers, discriminator=key, model="model.pt",
    )  # fmt: skip


def ignore(pattern: str, *rules: str, reason: str = "") -> LayerIgnore:
    return LayerIgnore(pattern, rules or ("NC101",), reason)


def test_a_finding_is_divided() -> None:
    """Matching layers are suppressed with the reason, the others stay and say so."""
    sieve = Sieve(Policy(layer_ignores=(ignore("backbone.*", reason="frozen"),)), RULES)
    kept = sieve.kept([finding(*LAYERS)])
    assert [f.layers for f in kept] == [("head.bn",)]
    assert kept[0].message == "3 layers are wrong (2 of 3 ignored): head.bn"
    entry = sieve.suppressed[0]
    assert entry.finding.layers == LAYERS[:2]
    assert (entry.by, entry.why) == (
        SuppressedBy.LAYER_IGNORE,
        "ignored by 'backbone.*': frozen",
    )


def test_a_finding_can_vanish_bit_by_bit() -> None:
    """Several ignores, each for its layers, nothing left."""
    ignores = (ignore("backbone.*"), ignore("head.bn"))
    sieve = Sieve(Policy(layer_ignores=ignores), RULES)
    assert sieve.kept([finding(*LAYERS)]) == []
    assert [entry.source for entry in sieve.suppressed] == ["backbone.*", "head.bn"]


@pytest.mark.parametrize(
    ("pattern", "rules", "left"),
    [
        ("*", ("NC101",), 0),
        ("*", ("NC1",), 0),
        ("*", ("ALL",), 0),
        ("*", ("never-updated-stats",), 0),
        ("*", ("NC102", "NC5"), 3),
        ("backbone.?.bn", ("NC101",), 1),
        ("backbone.[01].bn", ("NC101",), 1),
        ("BACKBONE.*", ("NC101",), 3),
        ("backbone", ("NC101",), 3),
        ("bn", ("NC101",), 3),
    ],
)
def test_patterns_and_selectors(pattern: str, rules: tuple[str, ...], left: int) -> None:
    """Patterns are whole paths as a shell has them; rules are selectors."""
    kept = Sieve(Policy(layer_ignores=(ignore(pattern, *rules),)), RULES).kept([finding(*LAYERS)])
    assert sum(len(f.layers) for f in kept) == left


def test_a_finding_on_the_whole_model_is_no_layers() -> None:
    """No pattern of layers means a finding that names none."""
    sieve = Sieve(Policy(layer_ignores=(ignore("*"),)), RULES)
    assert len(sieve.kept([finding()])) == 1


def test_too_mild_and_too_unsure() -> None:
    """They are listed as suppressed, with the bound."""
    sieve = Sieve(Policy(min_severity=Severity.ERROR), RULES)
    assert sieve.kept([finding("a"), replace(finding("b"), severity=Severity.ERROR)])[0].layers == (
        "b",
    )
    assert sieve.suppressed[0].why == "below --min-severity error"
    sieve = Sieve(Policy(min_confidence=Confidence.HIGH), RULES)
    assert sieve.kept([finding("a")]) == []
    assert sieve.suppressed[0].why == "below --min-confidence high"
    assert len(Sieve(Policy(min_confidence=Confidence.MEDIUM), RULES).kept([finding("a")])) == 1


def test_ignores_come_before_the_baseline() -> None:
    """What an ignore took does not make a baseline entry used."""
    entries = tuple(KnownFinding("model.pt", "", "NC101", layer) for layer in LAYERS)
    policy = Policy(
        layer_ignores=(ignore("head.bn"),), baseline=Baseline(Path("known.json"), entries)
    )
    sieve = Sieve(policy, RULES)
    sieve.ran("model.pt", ("NC101",))
    assert sieve.kept([finding(*LAYERS)]) == []
    assert [unused.message for unused in sieve.unused()] == [
        "1 baseline entry of NC101 on model.pt matched no finding: head.bn"
    ]


def test_unused_ignores_are_told() -> None:
    """Only where a rule that they name has judged something."""
    policy = Policy(layer_ignores=(ignore("neck.*"), ignore("head.*", "NC5")))
    sieve = Sieve(policy, RULES)
    assert sieve.unused() == ()
    sieve.kept([finding(*LAYERS)])
    sieve.ran("model.pt", ("NC101",))
    assert [unused.message for unused in sieve.unused()] == [
        "the per-layer ignore 'neck.*' of NC101 matched no finding"
    ]


def test_a_scan_with_ignores(samples: Path) -> None:
    """The table of layers forgets what is ignored, the report does not."""
    policy = Policy(layer_ignores=(ignore("*", "NC1", reason="known"),))
    report = scan([samples / "statistics-lost.pt"], policy=policy)
    assert report.findings == ()
    assert [entry.reason for entry in report.suppressed] == ["known"]
    assert all(layer.rules == () for layer in report.models[0].layers)


def test_a_scan_with_an_entry_for_a_model(samples: Path) -> None:
    """Its selectors hold for its files only."""
    entry = ModelSettings("statistics-lost.pt", samples, ignore=("NC101",))
    report = scan(
        [samples / "statistics-lost.pt", samples / "mlp-never-updated.pt"],
        Examination(models=(entry,)),
    )
    loud = [Path(f.model).name for f in report.findings if f.rule == "NC101"]
    assert loud == ["mlp-never-updated.pt"]
    assert "NC101" not in report.models[0].rules
    assert "NC101" in report.models[1].rules
