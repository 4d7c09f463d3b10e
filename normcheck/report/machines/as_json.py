"""The report as JSON, for programs. Fields are promised; see docs/outputs.md."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

from normcheck.findings import Failure, Finding, Severity, Skipped, Suppressed, Unused
from normcheck.report.certificate import Certificate, certificate_for, count
from normcheck.report.fit_summary import AgreementSummary
from normcheck.report.in_one_piece import in_one_piece
from normcheck.report.machines.json_numbers import json_number as _number
from normcheck.report.machines.json_text import json_text
from normcheck.report.machines.run_json import as_values
from normcheck.report.part import Part
from normcheck.report.report import LayerSummary, ModelReport, Report, Spread
from normcheck.report.skipped_rules import in_order, together
from normcheck.report.tally import Tally
from normcheck.writing.write_errors import told

SCHEMA_VERSION = 1


SCHEMA_FILE = Path(__file__).with_name(f"normcheck-v{SCHEMA_VERSION}.schema.json")
"""The JSON Schema of what ``render_json`` writes; it ships with the package."""


def render_json(report: Report, more: Mapping[str, Any] | None = None) -> str:
    """The whole report. NaN and infinity become strings, as JSON has no such numbers.

    Args:
        report: Of a scan, or of a comparison.
        more: Fields of a comparison beside those that every report has.
    """
    return in_one_piece(report, Json(more))


class Json:
    """The same, grown with the parts of a report; memory is needed for one file only.

    Models are written as they come. What stands behind them in the document waits on disk.

    Args:
        more: As for ``render_json``.
    """

    def __init__(self, more: Mapping[str, Any] | None = None) -> None:
        """Start with nothing written."""
        self._more = more or {}
        self._begun = False
        self._models = _Written("models")
        self._lists = {name: _Later(name) for name in _AFTER_MODELS}

    def part(self, part: Part) -> str:
        """The models of one file, at first behind the head of the document."""
        lists = entries(part.report)
        text = "" if self._begun else _head(part.rest.version)
        self._begun = True
        for name, later in self._lists.items():
            later.add(lists[name])
        return text + self._models.grown(lists["models"])

    def end(self, tally: Tally) -> Iterator[str]:
        """The rest.

        Args:
            tally: Of all parts, of which there is one at least.
        """
        yield self._models.closed()
        for later in self._lists.values():
            yield ",\n"
            yield from later.text()
        summary = {
            "models": tally.models,
            **{f"{severity.value}s": tally.severities[severity] for severity in Severity},
            "suppressed": tally.suppressed,
            "skipped": tally.skipped,
            "unread": len(tally.errors),
            "unused": len(tally.unused),
        }
        rest = json_text({"summary": summary, **self._more})
        yield f",{rest.removeprefix('{')}"


def _head(version: str) -> str:
    text = json_text({"version": SCHEMA_VERSION, "tool": {"name": "normcheck", "version": version}})
    return f"{text.removesuffix(_CLOSING)},\n"


_AFTER_MODELS = ("findings", "suppressed", "skipped", "errors", "unused")
_CLOSING = "\n}\n"
_DEEPER = "\n    "
"""Indentation of an entry of a list, in an object."""
_IN_MEMORY = 1 << 18
"""Characters of a list that wait in memory; what is more does so in a file."""


class _Written:
    """A list of a JSON document whose entries are written one after the other."""

    def __init__(self, name: str) -> None:
        self._opening = f'  "{name}": ['
        self._any = False

    def grown(self, values: Iterable[dict[str, Any]]) -> str:
        """More entries, as the document has them."""
        text = ""
        for value in values:
            # A line within a text is spelt out in JSON: what ends a line is between values.
            entry = json_text(value).removesuffix("\n").replace("\n", _DEEPER)
            text += f"{',' if self._any else self._opening}{_DEEPER}{entry}"
            self._any = True
        return text

    def closed(self) -> str:
        """What ends the list."""
        return "\n  ]" if self._any else f"{self._opening}]"


class _Later:
    """The same for a list that is written once those before it are complete."""

    def __init__(self, name: str) -> None:
        self._written = _Written(name)
        self._waiting = SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="utf-8", newline="")  # noqa: SIM115  (closed by text)

    def add(self, values: Iterable[dict[str, Any]]) -> None:
        """Keep more entries."""
        text = self._written.grown(values)
        with told("a temporary file for what the report ends with (TMPDIR names its folder)"):
            self._waiting.write(text)

    def text(self) -> Iterator[str]:
        """All of the list, after which nothing can be added."""
        with self._waiting as waiting:
            waiting.seek(0)
            while piece := waiting.read(_IN_MEMORY):
                yield piece
        yield self._written.closed()


def entries(report: Report) -> dict[str, list[dict[str, Any]]]:
    """The lists of a report, entry by entry."""
    return {
        "models": [_model(model) for model in report.models],
        "findings": [_finding(finding) for finding in report.findings],
        "suppressed": [_suppressed(entry) for entry in report.suppressed],
        "skipped": _skipped(report.skipped),
        "errors": [_error(entry) for entry in report.errors],
        "unused": [_unused(entry) for entry in report.unused],
    }


def _model(model: ModelReport) -> dict[str, Any]:
    return {
        "target": model.target,
        "where": model.where,
        "format": model.format,
        "form": model.form,
        "size": model.size,
        "class": model.class_path,
        "tensors": model.tensors,
        "notes": list(model.notes),
        "certificate": certified(certificate_for(model)),
        "agreement": _agreement(model.agreement),
        "run": as_values(model.run) if model.run else None,
        "layers": [_layer(layer) for layer in model.layers],
    }


def certified(certificate: Certificate) -> dict[str, Any]:
    """A certificate as plain values, the same in every machine form."""
    parts = {
        "vouched_for": certificate.vouched,
        "accused": certificate.accused,
        "cannot_tell": certificate.untold,
    }
    return {
        "earned": certificate.earned,
        **{
            name: {
                "layers": count(groups),
                "share_of_channels": round(certificate.share(groups), 4),
                "reasons": [{"why": g.why, "layers": list(g.layers)} for g in groups],
            }
            for name, groups in parts.items()
        },
    }


def _agreement(agreement: AgreementSummary | None) -> dict[str, Any] | None:
    if agreement is None:
        return None
    return {
        "activation": agreement.activation,
        "explained": _number(agreement.explained),
        "agreeing": list(agreement.agreeing),
        "unjudged": [{"layer": path, "reason": reason} for path, reason in agreement.unjudged],
        "links": [
            {
                "source": link.source,
                "weights": link.weights,
                "target": link.target,
                "kind": link.kind,
                "confidence": link.confidence,
                "reason": link.reason,
                "activation": link.activation,
                "pool": _number(link.pool),
                "explained": _number(link.explained),
                "correlation": _number(link.correlation),
                "slope": _number(link.slope),
                "log_scale": _number(link.log_scale),
            }
            for link in agreement.links
        ],
    }


def _layer(layer: LayerSummary) -> dict[str, Any]:
    return {
        "path": layer.path,
        "kind": layer.kind,
        "normalises_over": layer.over,
        "eval_uses": layer.eval_uses,
        "recognised": {"confidence": layer.confidence, "reason": layer.reason},
        "class": layer.class_path,
        "features": layer.features,
        "training": layer.training,
        "eps": _number(layer.eps),
        "momentum": _number(layer.momentum),
        "num_batches_tracked": _number(layer.batches),
        "running_mean": _spread(layer.mean),
        "running_var": _spread(layer.variance),
        "weight": _spread(layer.weight),
        "bias": _spread(layer.bias),
        "aliases": list(layer.aliases),
        "findings": list(layer.rules),
        "worst": layer.worst.value if layer.worst else None,
        "suppressed": list(layer.suppressed),
        "standing": layer.standing.value,
        "why": layer.why,
    }


def _spread(spread: Spread | None) -> dict[str, Any] | None:
    if spread is None:
        return None
    return {
        "smallest": _number(spread.smallest),
        "median": _number(spread.median),
        "largest": _number(spread.largest),
        "channels": spread.channels,
        "not_finite": spread.not_finite,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "name": finding.name,
        "severity": finding.severity.value,
        "confidence": finding.confidence.value,
        "model": finding.model,
        "where": finding.where,
        "layers": list(finding.layers),
        "message": finding.message,
        "detail": finding.detail,
        "consequence": finding.consequence,
        "fix": finding.fix,
        "evidence": [
            {
                "name": entry.name,
                "value": _number(entry.value),
                "threshold": _number(entry.threshold),
                "sample": entry.sample,
            }
            for entry in finding.evidence
        ],
    }


def _suppressed(entry: Suppressed) -> dict[str, Any]:
    by = {"by": entry.by.value, "source": entry.source, "reason": entry.reason}
    return {**_finding(entry.finding), "suppression": by}


def _unused(entry: Unused) -> dict[str, Any]:
    return {"by": entry.by.value, "source": entry.source, "message": entry.message}


def _skipped(entries: Sequence[Skipped]) -> list[dict[str, Any]]:
    # By their groups: an object for each of thirty rules of every file takes longer than its text.
    return [
        {
            "model": group.model,
            "where": group.where,
            "rule": rule or None,
            "reason": group.reason,
            "remedy": group.remedy,
        }
        for rule, group in in_order(together(entries))
    ]


def _error(entry: Failure) -> dict[str, Any]:
    return {
        "model": entry.model,
        "where": entry.where,
        "rule": entry.rule or None,
        "message": entry.message,
        "hint": entry.hint,
    }
