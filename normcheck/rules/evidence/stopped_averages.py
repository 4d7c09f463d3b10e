"""Means by one factor too small, in statistics of bfloat16: where such averages stop."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from normcheck.norms.number_grids import all_of_bfloat16
from normcheck.rules.rule import DEFAULT_MOMENTUM
from normcheck.rules.statistics.saturated_stats import (
    LIBRARIES_MOMENTUM,
    SLOW,
    stop_in_bfloat16,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normcheck.findings import Finding
    from normcheck.norms.layer import NormLayer

FACTORS = frozenset({"factor", "one factor"})
"""Statements that means follow the weights up to one factor."""


def named_as_stopped(
    finding: Finding, layers: Sequence[NormLayer], factor: float | None
) -> Finding:
    """A common factor below 1 with its cause, where averages of bfloat16 stop before they arrive.

    Args:
        finding: That says that means follow the weights by a factor.
        layers: With the statistics.
        factor: Of the means, by the median; None where it is not known.
    """
    named = set(finding.discriminator.split(", "))
    if not named & FACTORS or factor is None or factor >= 1 or not all_of_bfloat16(layers):
        return finding
    rates = [n.momentum for n in layers if isinstance(n.momentum, float) and 0 < n.momentum < 1]
    slowest = min(rates, default=None)
    if slowest is not None and slowest > SLOW:
        return finding
    asked = [slowest] if slowest is not None else [DEFAULT_MOMENTUM, LIBRARIES_MOMENTUM]
    return replace(
        finding,
        title="the running statistics stopped short, as averages in bfloat16 do",
        detail=(
            f"Means follow the weights, but are {factor:.2f} of what these predict, and every "
            "value is one of bfloat16. Accumulated with its 8 bits, averages lose updates below "
            "1/256 of a value and stop before they arrive, "
            f"{'; '.join(map(stop_in_bfloat16, asked))}."
        ),
        consequence=(
            "Eval mode subtracts means that are too small, and divides by variances between their "
            "first value and the truth."
        ),
        fix=(
            "keep batch norms in float32 (bn.float() behind model.bfloat16(), or autocast), and "
            "re-estimate the statistics in it: normcheck fix --model … --data …"
        ),
    )
