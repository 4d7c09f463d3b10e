"""The one place where what rules say of running statistics is weighed against each other.

Each rule on stored statistics states a history: never updated, reset, partly initial, exchanged, of
other weights. One layer has one. Where several are stated, the stronger evidence keeps the layer:

1. a slip after which everything fits, of which an impossible value is a consequence: mean and
   variance in each other's place leave negative variances; an average of initial values, which
   every weight of the copy shows;
2. what equality or the values alone prove: exactly 0 and 1, zeros, negative or no numbers; and
   what the optimizer's state proves: weights that were trained with the statistics stored;
3. other slips that fit once they are put back;
4. what the batch count and the momentum say;
5. that something does not fit.

The weaker statement is not lost: it stands with the stronger one, as what speaks for it.
"""

from collections.abc import Sequence
from dataclasses import replace
from enum import IntEnum

from normcheck.findings import Finding, Severity

FOLDED = 0.5
"""Share of a statement's layers that stronger ones must hold for it to be the same cause: the
layers of a file share its history."""


class Strength(IntEnum):
    """How strong the evidence of a statement is, the strongest first."""

    EXPLAINS = 1
    EXACT = 2
    PUT_BACK = 3
    COUNTED = 4
    MISFIT = 5


_EXACT = frozenset({"NC101", "NC102", "NC104", "NC105", "NC109", "NC113"})
_PUT_BACK = frozenset({"mean and bias", "sign", "inverse"})
_OF_THE_REST = frozenset({"factor", "one factor", "initial value", "variances too large"})
"""Misfits that a rest of the initial value alone makes, however small it is."""


def strength(finding: Finding) -> Strength | None:
    """How strong a statement on the history of statistics is; None for other findings."""
    if finding.rule in _EXACT:
        return Strength.EXACT
    if finding.rule == "NC115":
        return Strength.EXPLAINS
    if finding.rule == "NC114":
        return Strength.EXACT if finding.discriminator == "stored" else None
    if finding.rule == "NC103" and finding.discriminator == "trained in eval mode":
        return Strength.EXACT
    if finding.rule == "NC103":
        return Strength.COUNTED
    if finding.rule != "NC108":
        return None
    if finding.discriminator == "swapped":
        return Strength.EXPLAINS
    return Strength.PUT_BACK if finding.discriminator in _PUT_BACK else Strength.MISFIT


def weighed(findings: Sequence[Finding]) -> list[Finding]:
    """The findings of one model, with one history for each layer.

    Args:
        findings: As the rules made them.

    Returns:
        In the same order. A finding whose layers mostly belong to a stronger one stands there as
        a sentence; one that keeps most of its layers loses the others.
    """
    said: dict[int, list[str]] = {}
    kept: dict[int, Finding] = {}
    stated = [(level, i) for i, f in enumerate(findings) if (level := strength(f)) is not None]
    for level, place in sorted(stated):
        finding = findings[place]
        owners = {
            path: other
            for other_level, other in sorted(stated, reverse=True)
            if other in kept and _outweighs(kept[other], other_level, finding, level)
            for path in kept[other].layers
        }
        rest = tuple(path for path in finding.layers if path not in owners)
        if len(rest) > FOLDED * len(finding.layers) or not finding.layers:
            kept[place] = finding if len(rest) == len(finding.layers) else replace(
                finding, layers=rest
            )  # fmt: skip
        else:
            owner = min(owners[path] for path in finding.layers if path in owners)
            said.setdefault(owner, []).append(finding.title)
    return [
        _with(kept[place], said.get(place, ())) if place in kept else finding
        for place, finding in enumerate(findings)
        if place in kept or strength(finding) is None
    ]


def _outweighs(stronger: Finding, high: Strength, weaker: Finding, low: Strength) -> bool:
    """Whether what one finding states is the cause of what another sees."""
    if high >= low or stronger.severity is Severity.INFO:
        return False
    if high is Strength.COUNTED and low is Strength.MISFIT:
        # Hundredths of an initial value explain a factor, but not statistics of other weights.
        return stronger.severity is Severity.ERROR or weaker.discriminator in _OF_THE_REST
    return not (high is Strength.EXPLAINS and weaker.rule not in ("NC105", "NC103", "NC108"))


def _with(finding: Finding, said: Sequence[str]) -> Finding:
    """A finding with what weaker statements say of the same layers."""
    if not said:
        return finding
    also = "; ".join(dict.fromkeys(said))
    return replace(finding, detail=f"{finding.detail} From the same cause: {also}.")
