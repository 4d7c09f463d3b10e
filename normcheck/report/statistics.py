"""Counts instead of findings: which rules fire how often."""

from normcheck.report.part import Part
from normcheck.report.tally import Tally
from normcheck.wording import plural


class StatisticsText:
    """Nothing but the end of a report: a line a rule, the most frequent first, and totals."""

    def __init__(self) -> None:
        """Start with nothing counted."""
        self._tally = Tally()

    def part(self, part: Part) -> str:
        """Count; nothing is said yet."""
        self._tally.add(part)
        return ""

    def end(self) -> str:
        """The counts."""
        tally = self._tally
        rules = sorted(tally.rules.values(), key=lambda rule: (-rule.findings, rule.code))
        width = max((len(f"{rule.findings:,}") for rule in rules), default=1)
        names = max((len(rule.name) for rule in rules), default=1)
        lines = [
            f"{rule.findings:>{width},}  {rule.code}  {rule.name:<{names}}  "
            f"in {plural(rule.models, 'model')}"
            for rule in rules
        ]
        total = (
            f"{plural(sum(rule.findings for rule in rules), 'finding')} in "
            f"{plural(tally.models, 'model')}, {tally.suppressed} suppressed, "
            f"{tally.skipped} skipped, {len(tally.errors)} failed"
        )
        return "\n".join([*lines, total]) + "\n"
