"""Counts instead of findings: which rules fire how often."""

from collections.abc import Iterator

from normcheck.report.part import Part
from normcheck.report.tally import Tally
from normcheck.wording import plural


class StatisticsText:
    """Nothing but the end of a report: a line a rule, the most frequent first, and totals."""

    def part(self, _part: Part) -> str:
        """Nothing is said yet."""
        return ""

    def end(self, tally: Tally) -> Iterator[str]:
        """The counts."""
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
        yield "\n".join([*lines, total]) + "\n"
