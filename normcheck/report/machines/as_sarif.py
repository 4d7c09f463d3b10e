"""The report as SARIF 2.1.0, for code scanning and whatever else collects findings."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from normcheck.findings import Failure, Finding, Skipped, Suppressed, Unused
from normcheck.report.certificate import certificate_for
from normcheck.report.form import of_findings
from normcheck.report.machines.file_location import relative, uri
from normcheck.report.machines.json_text import json_text
from normcheck.report.machines.severity_levels import LEVELS, PRECISION
from normcheck.report.report import Report
from normcheck.rules.page import first_paragraph, markdown_page
from normcheck.rules.rule import Rule
from normcheck.version import REPOSITORY, address_of
from normcheck.wording import printable

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_LONGEST = 1024
"""Characters of a description that GitHub shows."""


def render_sarif(report: Report, root: Path) -> str:
    """The whole report; suppressed findings are results with a suppression.

    Args:
        report: The finished report.
        root: The folder to which file URIs are relative.
    """
    rules = sorted(report.rules, key=lambda rule: rule.code)
    places = {rule.code: index for index, rule in enumerate(rules)}
    pairs: list[tuple[Finding, Suppressed | None]] = [(f, None) for f in report.findings]
    pairs += [(entry.finding, entry) for entry in report.suppressed]
    hashes = _fingerprints([finding for finding, _ in pairs], root)
    results = [
        _result(finding, suppressed, places, digest, root)
        for (finding, suppressed), digest in zip(pairs, hashes, strict=True)
    ]
    run = {
        "tool": {
            "driver": {
                "name": "normcheck",
                "version": report.version,
                "semanticVersion": report.version,
                "informationUri": REPOSITORY,
                "rules": [_rule(rule) for rule in rules],
            }
        },
        "columnKind": "unicodeCodePoints",
        "invocations": [_invocation(report, root)],
        "results": results,
        "properties": {
            "certificates": [
                {
                    "model": uri(model.target, root),
                    "where": printable(model.where),
                    "earned": certificate_for(model).earned,
                    "layers": certificate_for(model).in_brief,
                }
                for model in report.models
            ]
        },
    }
    return json_text({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})


def _rule(rule: Rule) -> dict[str, Any]:
    page = markdown_page(rule)
    return {
        "id": rule.code,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": {"text": _text(f"{rule.name}: {rule.summary}")[:_LONGEST]},
        "fullDescription": {"text": _text(first_paragraph(rule) or rule.summary)[:_LONGEST]},
        "helpUri": address_of(f"docs/rules/{rule.code}.md"),
        "help": {"text": _text(page), "markdown": page},
        "defaultConfiguration": {"level": LEVELS[rule.level].sarif},
        "properties": {
            # A rule's findings differ in confidence; each result has its own.
            "precision": "high",
            "problem.severity": LEVELS[rule.level].problem,
            "tags": ["normalization", "pytorch"],
        },
    }


def _result(
    finding: Finding,
    suppressed: Suppressed | None,
    places: dict[str, int],
    digest: str,
    root: Path,
) -> dict[str, Any]:
    sentences = [finding.message, finding.detail, finding.consequence, f"Fix: {finding.fix}"]
    entry: dict[str, Any] = {
        "ruleId": finding.rule,
        "level": LEVELS[finding.severity].sarif,
        "message": {"text": " ".join(_sentence(text) for text in sentences if text)},
        "locations": [_location(finding, root)],
        "partialFingerprints": {"primaryLocationLineHash": digest},
        # One result with a suppression makes the property mean something in all of them.
        "suppressions": _suppressions(suppressed),
        "properties": {
            "confidence": finding.confidence.value,
            "precision": PRECISION[finding.confidence],
        },
    }
    if finding.rule in places:
        entry["ruleIndex"] = places[finding.rule]
    return entry


def _location(finding: Finding, root: Path) -> dict[str, Any]:
    place = f"{finding.where}/" if finding.where else ""
    names = [f"{place}{path}" or "the model itself" for path in finding.layers]
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": uri(finding.model, root)},
            # Code scanning shows no result without a region; a model has no lines.
            "region": {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1},
        }
    }
    if names or finding.where:
        location["logicalLocations"] = [
            {"fullyQualifiedName": name, "kind": "module"} for name in names or [finding.where]
        ]
    return location


def _suppressions(suppressed: Suppressed | None) -> list[dict[str, Any]]:
    if suppressed is None:
        return []
    return [{"kind": "external", "status": "accepted", "justification": suppressed.why}]


def _invocation(report: Report, root: Path) -> dict[str, Any]:
    # A rule that broke may be missing where the report was made by hand.
    known = {rule.code for rule in report.rules}
    entry: dict[str, Any] = {
        "executionSuccessful": not report.errors,
        "toolExecutionNotifications": [
            *(_failure(failure, known, root) for failure in report.errors),
            *(_skipped(skipped, known, root) for skipped in report.skipped),
        ],
    }
    if report.unused:
        entry["toolConfigurationNotifications"] = [_unused(unused) for unused in report.unused]
    return entry


def _failure(failure: Failure, known: set[str], root: Path) -> dict[str, Any]:
    text = " ".join(_sentence(part) for part in (failure.message, failure.hint) if part)
    return _notification("error", text, failure.rule, failure.model, known, root)


def _skipped(skipped: Skipped, known: set[str], root: Path) -> dict[str, Any]:
    what = f"{skipped.rule} was skipped" if skipped.rule else "the file was passed over"
    under = f" under {printable(skipped.where)}" if skipped.where else ""
    text = _sentence(f"{what}{under}: {skipped.reason}")
    return _notification("note", text, skipped.rule, skipped.model, known, root)


def _notification(
    level: str, text: str, rule: str, model: str, known: set[str], root: Path
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "level": level,
        "message": {"text": text},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri(model, root)}}}],
    }
    if rule in known:
        entry["associatedRule"] = {"id": rule}
    return entry


def _unused(unused: Unused) -> dict[str, Any]:
    return {"level": "note", "message": {"text": _sentence(unused.message)}}


def _sentence(text: str) -> str:
    end = "" if text.endswith((".", "!", "?")) else "."
    return _text(printable(text)) + end


def _text(text: str) -> str:
    """Plain text in which SARIF finds neither a placeholder nor a link."""
    return text.replace("{", "{{").replace("}", "}}").replace("](", "] (")


def _fingerprints(findings: Iterable[Finding], root: Path) -> list[str]:
    """A hash for each finding, no two alike, that retraining does not change.

    Without one of its own every result on a file would share the hash of the file's first
    line, and code scanning would take them for one. The layers enter only where rule,
    model and discriminator do not tell two findings apart: a finding that gains a layer
    stays the same alert.
    """
    seen: set[str] = set()
    hashes = []
    for finding in findings:
        parts: list[Any] = [
            finding.rule,
            relative(finding.model, root),
            finding.where,
            finding.discriminator,
        ]
        digest = _hash(parts)
        if digest in seen:
            parts.append(sorted(finding.layers))
            digest = _hash(parts)
        while digest in seen:  # the same finding twice; only a broken rule makes that
            parts.append(0)
            digest = _hash(parts)
        seen.add(digest)
        hashes.append(f"{digest}:1")
    return hashes


def _hash(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


FORM = of_findings("sarif", ".sarif", render_sarif)
