"""Findings that are left out on purpose: ignored for a layer, too mild, or known already."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from normcheck.findings import Confidence, Finding, Suppressed, SuppressedBy, Unused
from normcheck.rules.catalogue import matches
from normcheck.wording import fold, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from normcheck.config.baseline import Baseline, Matcher
    from normcheck.config.policy import LayerIgnore, Policy
    from normcheck.rules.rule import Rule

_CONFIDENCES = (Confidence.LOW, Confidence.MEDIUM, Confidence.HIGH)


def _matcher(baseline: Baseline) -> Matcher:
    from normcheck.config.baseline import Matcher  # most runs have no baseline

    return Matcher(baseline)


class Sieve:
    """Sorts findings into those that count and those that are suppressed."""

    def __init__(self, policy: Policy, rules: Sequence[Rule]) -> None:
        """Start with nothing suppressed and nothing used.

        Args:
            policy: What counts.
            rules: Those of the run, to which the selectors of ignores are held.
        """
        self.suppressed: list[Suppressed] = []
        self._policy = policy
        self._rules = {rule.code: rule for rule in rules}
        self._used: set[LayerIgnore] = set()
        self._matcher = _matcher(policy.baseline) if policy.baseline else None
        self._ran: set[str] = set()
        self._judged: set[tuple[str, str]] = set()

    def ran(self, target: str, rules: tuple[str, ...]) -> None:
        """Note that rules judged a model of ``target``: what they no longer find is gone."""
        self._ran.update(rules)
        # Targets only where entries are about them: memory must not grow with the files.
        if self._matcher is not None:
            self._judged.update(
                (target, rule) for rule in rules if self._matcher.mentions(target, rule)
            )

    def taken(self) -> tuple[Suppressed, ...]:
        """What was suppressed since the last time, which is then forgotten here."""
        gone = tuple(self.suppressed)
        self.suppressed.clear()
        return gone

    def kept(self, findings: Iterable[Finding]) -> list[Finding]:
        """The findings that count; of one that is suppressed for some layers, the rest."""
        left: list[Finding] = []
        for finding in findings:
            rest: Finding | None = finding
            for ignore in self._policy.layer_ignores:
                if rest and self._about(ignore, rest.rule):
                    rest = self._ignored(ignore, rest, len(finding.layers))
            if rest and (too_mild := self._too_mild(rest)):
                self.suppressed.append(too_mild)
                rest = None
            if rest and self._matcher:
                rest = self._new(rest, self._matcher, len(finding.layers))
            if rest:
                left.append(rest)
        return left

    def _about(self, ignore: LayerIgnore, code: str) -> bool:
        """Whether an ignore names a rule of this run."""
        rule = self._rules.get(code)
        return rule is not None and any(matches(word, rule) for word in ignore.rules)

    def _ignored(self, ignore: LayerIgnore, finding: Finding, total: int) -> Finding | None:
        # A finding that names no layer is about the model, which no pattern of layers means.
        if not any(ignore.means(path) for path in finding.layers):
            return finding
        self._used.add(ignore)

        def entry(part: Finding) -> Suppressed:
            return Suppressed(part, SuppressedBy.LAYER_IGNORE, ignore.pattern, ignore.reason)

        return self._split(finding, ignore.means, entry, f"of {total} ignored")

    def _new(self, finding: Finding, matcher: Matcher, total: int) -> Finding | None:
        baseline = self._policy.baseline
        name = baseline.path.name if baseline else ""

        def entry(part: Finding) -> Suppressed:
            return Suppressed(part, SuppressedBy.BASELINE, name)

        if not finding.layers:
            if not matcher.knows(finding, None):
                return finding
            self.suppressed.append(entry(finding))
            return None
        known = {path for path in finding.layers if matcher.knows(finding, path)}
        return self._split(finding, known.__contains__, entry, f"of {total} in the baseline")

    def _split(
        self,
        finding: Finding,
        out: Callable[[str], bool],
        entry: Callable[[Finding], Suppressed],
        note: str,
    ) -> Finding | None:
        """The part of a finding that stays; the other is suppressed.

        The title speaks of all layers, as the rule judged them together, so it says how many
        of them are named no more.
        """
        gone = tuple(path for path in finding.layers if out(path))
        stay = tuple(path for path in finding.layers if not out(path))
        if not gone:
            return finding
        self.suppressed.append(entry(replace(finding, layers=gone)))
        if not stay:
            return None
        return replace(finding, layers=stay, title=f"{finding.title} ({len(gone)} {note})")

    def _too_mild(self, finding: Finding) -> Suppressed | None:
        wanted = self._policy
        if finding.severity.rank < wanted.min_severity.rank:
            return Suppressed(finding, SuppressedBy.MIN_SEVERITY, wanted.min_severity.value)
        if _CONFIDENCES.index(finding.confidence) < _CONFIDENCES.index(wanted.min_confidence):
            return Suppressed(finding, SuppressedBy.MIN_CONFIDENCE, wanted.min_confidence.value)
        return None

    def unused(self) -> tuple[Unused, ...]:
        """Ignores and baseline entries that suppressed nothing in this run."""
        if not self._ran:
            return ()
        idle = [
            Unused(
                SuppressedBy.LAYER_IGNORE,
                ignore.pattern,
                f"the per-layer ignore '{ignore.pattern}' of {', '.join(ignore.rules)} matched "
                "no finding",
            )
            for ignore in self._policy.layer_ignores
            if ignore not in self._used and any(self._about(ignore, code) for code in self._ran)
        ]
        return (*idle, *self._gone())

    def _gone(self) -> list[Unused]:
        """Baseline entries whose finding is gone, those of one rule and model together."""
        if self._matcher is None or self._policy.baseline is None:
            return []
        layers: dict[tuple[str, str], list[str]] = {}
        for entry in self._matcher.unseen(self._judged):
            layers.setdefault((entry.rule, entry.model), []).append(entry.layer or "")
        name = self._policy.baseline.path.name
        return [
            Unused(
                SuppressedBy.BASELINE,
                name,
                f"{plural(len(paths), 'baseline entry')} of {rule} on {model} matched no "
                f"finding: {fold(paths)}",
            )
            for (rule, model), paths in layers.items()
        ]
