"""Thresholds that a user may set: they are declared, documented, bounded, and have an effect."""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from math import inf, nan

import pytest

from normcheck.findings import Evidence, Finding, Severity
from normcheck.norms.layer import NormLayer
from normcheck.rules.catalogue import RULES, find
from normcheck.rules.option import Option
from normcheck.rules.page import first_paragraph, markdown_page, page_of
from normcheck.rules.rule import Rule, Subject
from tests.rules.layers import batch_norm, constant, count, model, module_norm, values

WITH_OPTIONS = [rule for rule in RULES if rule.options]
every_rule = pytest.mark.parametrize("rule", WITH_OPTIONS, ids=lambda rule: rule.code)


def judged(rule: str, *layers: NormLayer, **chosen: float) -> list[Finding]:
    """What a rule says with options set; names with underscores."""
    options: Mapping[str, float] = {k.replace("_", "-"): v for k, v in chosen.items()}
    return list(replace(find(rule), chosen=options).judge(Subject(model(*layers, modules=True))))


def evidence(found: list[Finding]) -> list[Evidence]:
    return [entry for finding in found for entry in finding.evidence]


@every_rule
def test_options_are_declared_well(rule: Rule) -> None:
    """Kebab case, once, a default within the bounds, a meaning without a full stop."""
    assert len({option.name for option in rule.options}) == len(rule.options)
    for option in rule.options:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", option.name)
        assert option.name != "severity"
        assert option.allows(option.default)
        assert option.unit
        assert not option.meaning.endswith(".")


@every_rule
def test_options_are_on_the_page(rule: Rule) -> None:
    """With default, unit and meaning, and how they are set."""
    page = page_of(rule)
    assert f"[tool.normcheck.rules.{rule.name}]" in page
    for option in rule.options:
        row = f"| `{option.name}` | {option.default:g} | {option.unit} | {option.meaning} |"
        assert row in page


def test_pages_read_well_for_strict_readers() -> None:
    """A blank line before every list and table and after every heading."""
    for rule in RULES:
        lines = markdown_page(rule).splitlines()
        for before, line in pairwise(lines):
            if before.startswith("## "):
                assert line == ""
            if line.startswith("- ") and before:
                assert before.startswith(("- ", "  ")), (rule.code, line)
        assert first_paragraph(rule)
        assert "`" not in first_paragraph(rule)


@pytest.mark.parametrize(
    ("value", "allowed"),
    [(0, True), (0.5, True), (1, True), (-0.1, False), (1.1, False), (nan, False), (inf, False)],
)
def test_bounds(value: float, allowed: bool) -> None:
    """A share lies from 0 to 1, and is a number."""
    assert Option("share", 0.1, "share", "x", most=1.0).allows(value) is allowed
    assert Option("free", 0.1, "x", "x").bounds == "0 or more"
    assert not Option("free", 0.1, "x", "x").allows(inf)


def test_under_warmed_stats() -> None:
    """``max-residue`` decides whether, ``error-residue`` how badly."""
    layer = batch_norm(batches=count(30))  # 4.2 % left
    assert [f.severity for f in judged("NC103", layer)] == [Severity.WARNING]
    assert judged("NC103", layer, max_residue=0.05) == []
    assert [f.severity for f in judged("NC103", layer, error_residue=0.04)] == [Severity.ERROR]
    assert evidence(judged("NC103", layer, max_residue=0.02))[0].threshold == 0.02


def test_suspicious_momentum() -> None:
    """``report-momentum`` and ``warning-momentum`` move apart; zero is never too high."""
    layer = module_norm(momentum=0.6)
    assert [f.severity for f in judged("NC206", layer)] == [Severity.INFO]
    assert judged("NC206", layer, report_momentum=0.7) == []
    warned = judged("NC206", layer, warning_momentum=0.6)
    assert [f.severity for f in warned] == [Severity.WARNING]
    assert evidence(warned)[0].threshold == 0.6
    frozen = module_norm(momentum=0.0, training=False)
    assert judged("NC206", frozen, report_momentum=0.0) == []


def test_dead_scale() -> None:
    """``min-share`` of the channels, and what counts as off."""
    layer = batch_norm(weight=values([0.0, 1.0, 1.0, 1e-4]))
    assert judged("NC502", layer) == []
    assert len(judged("NC502", layer, min_share=0.25)) == 1
    assert len(judged("NC502", layer, dead_scale=1e-3)) == 1
    assert judged("NC502", batch_norm(), min_share=0.0) == []


def test_collapsed_variance() -> None:
    """``max-ratio`` below eps and the median, and how many channels are worth a word."""
    layer = batch_norm(running_var=values([1e-7, 1.0, 1.0, 1.0]))
    assert judged("NC106", layer) == []
    assert len(judged("NC106", layer, max_ratio=0.1)) == 1
    assert judged("NC106", layer, max_ratio=0.1, min_channels=2) == []


def test_eps_too_small() -> None:
    """``min-eps`` asks for more than the type does, and says so."""
    layer = module_norm(eps=1e-7)
    assert judged("NC210", layer) == []
    found = judged("NC210", layer, min_eps=1e-6)
    assert found[0].title == "eps 1e-07 is small in 1 layer"
    assert evidence(found)[0].threshold == 1e-6
    assert "vanishes" in judged("NC210", module_norm(eps=0.0), min_eps=1e-6)[0].title


def test_uneven_batch_counts() -> None:
    """``tolerance`` in shares of the commonest count; what is beyond it is named alone."""
    layers = [batch_norm(name, batches=count(n)) for name, n in (("a", 100), ("b", 100))]
    near, far = batch_norm("near", batches=count(99)), batch_norm("far", batches=count(200))
    assert [f.layers for f in judged("NC110", *layers, near, far)] == [("near", "far")]
    found = judged("NC110", *layers, near, far, tolerance=0.05)
    assert [f.layers for f in found] == [("far",)]
    assert "Exactly 2 times as many" in found[0].detail
    assert judged("NC110", *layers, near, tolerance=0.05) == []


def test_a_forced_severity_holds_for_everything_a_rule_says() -> None:
    """Whatever it thinks itself."""
    rule = replace(find("NC103"), forced_severity=Severity.INFO)
    found = list(rule.judge(Subject(model(batch_norm(batches=count(30))))))
    assert [f.severity for f in found] == [Severity.INFO]
    assert (rule.level, find("NC103").level) == (Severity.INFO, Severity.ERROR)


def test_options_do_not_leak() -> None:
    """A rule that was tuned leaves the catalogue's alone, and each judgement starts afresh."""
    layer = batch_norm(batches=count(30), running_var=constant(1.0))
    subject = Subject(model(layer))
    tuned = replace(find("NC103"), chosen={"max-residue": 0.5})
    assert list(tuned.judge(subject)) == []
    assert len(list(find("NC103").judge(subject))) == 1
