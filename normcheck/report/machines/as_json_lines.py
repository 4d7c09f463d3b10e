"""The report as JSON lines: an object for each file as soon as it is done, a summary at the end.

The entries are those of ``as_json``; a reader needs memory for one file only.
"""

from collections.abc import Iterator
from pathlib import Path

from normcheck.findings import Severity
from normcheck.report.form import ReportForm, Wish
from normcheck.report.machines.as_json import SCHEMA_VERSION, entries
from normcheck.report.machines.json_text import json_line
from normcheck.report.part import Part
from normcheck.report.report import Report
from normcheck.report.tally import Tally

SCHEMA_FILE = Path(__file__).with_name(f"normcheck-lines-v{SCHEMA_VERSION}.schema.json")
"""The JSON Schema of a line; it ships with the package."""


class JsonLines:
    """Lines that grow with the parts of a report."""

    def __init__(self) -> None:
        """Start with nothing counted."""
        self._files = 0
        self._version = ""

    def part(self, part: Part) -> str:
        """The line of one file, or nothing for a part that is about none."""
        self._version = part.rest.version
        if not part.heads and next(_beside_models(part.rest), None) is None:
            return ""
        self._files += 1
        return part.line or file_line(part.report)

    def end(self, tally: Tally) -> Iterator[str]:
        """The last line: counts, and what only the whole run can tell.

        Args:
            tally: Of all parts.
        """
        counts = {
            "files": self._files,
            "models": tally.models,
            **{f"{severity.value}s": tally.severities[severity] for severity in Severity},
            "suppressed": tally.suppressed,
            "skipped": tally.skipped,
            "unread": len(tally.errors),
            "unused": len(tally.unused),
        }
        rules = [
            {
                "rule": rule.code,
                "name": rule.name,
                "worst": rule.worst.value,
                "models": rule.models,
                "findings": rule.findings,
            }
            for rule in tally.commonest_first()
        ]
        unused = [
            {"by": entry.by.value, "source": entry.source, "message": entry.message}
            for entry in tally.unused
        ]
        tool = {"name": "normcheck", "version": self._version}
        yield json_line(
            {
                "version": SCHEMA_VERSION,
                "kind": "summary",
                "tool": tool,
                "rules": rules,
                "unused": unused,
                "summary": counts,
            }
        )


def file_line(report: Report) -> str:
    """The line of the file that a report is about."""
    lists = entries(report)
    lists.pop("unused")
    target = _target(report)
    return json_line({"version": SCHEMA_VERSION, "kind": "file", "target": target, **lists})


def _target(report: Report) -> str:
    for model in report.models:
        return model.target
    return next(_beside_models(report), "")


def _beside_models(report: Report) -> Iterator[str]:
    """Targets of what is neither a model nor a finding."""
    yield from (entry.model for entry in report.errors)
    yield from (entry.model for entry in report.skipped)


FORM = ReportForm(
    "json-lines",
    ".jsonl",
    scan=lambda _view: JsonLines(),
    needs=frozenset({Wish.LINES}),
    shows_models=False,
)
