"""A gain that looks like something else than a gain.

## What it does
Compares norms without statistics (LayerNorm, RMSNorm, GroupNorm) that are called the same in
the numbered blocks of a model. A trained γ starts at 1 and stays mostly positive. Where the
siblings do and one layer's values are spread evenly around zero, that layer holds something
else.

## Why is this bad?
- A norm that adds 1 to its stored weight (Gemma's convention) got weights of one that does
  not, or the other way round.
- The layer was overwritten by a linear layer's initialisation.
Outputs of that layer have random signs, and nothing fails.

## How severe
A warning: the siblings are strong evidence, but only a comparison with the original decides.

## Stays silent
Where all siblings are centred on zero: that is the model's own convention.

## What to do
Compare the layer with the original checkpoint; check the conversion script.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.norms.kinds import Family
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import percent, plural

if TYPE_CHECKING:
    from normcheck.norms.layer import NormLayer

FEWEST_VALUES = 16
"""Below this, an even split of signs is no evidence (it happens by chance once in 5)."""
SIBLINGS_POSITIVE = 0.95
"""Share of positive values that siblings must have for "centred on 1"."""
EVEN = 0.2
"""How far the share of positive values may be from one half to be called even."""
FEWEST_SIBLINGS = 2
_FAMILIES = (Family.LAYER, Family.RMS, Family.GROUP, Family.PER_SAMPLE)


def check(subject: Subject) -> Iterator[Finding]:
    """Odd ones out among layers that are called the same."""
    groups: dict[str, list[tuple[NormLayer, float]]] = defaultdict(list)
    for layer in subject.layers:
        if layer.kind.family in _FAMILIES and not layer.unit_offset and layer.weight is not None:
            values = layer.weight.numbers
            if values.size >= FEWEST_VALUES and np.isfinite(values).all() and values.any():
                name = re.sub(r"\d+", "#", layer.path)
                groups[name].append((layer, float((values > 0).mean())))
    odd: list[NormLayer] = []
    for group in groups.values():
        even = [n for n, positive in group if abs(positive - 0.5) <= EVEN]
        normal = [n for n, positive in group if positive >= SIBLINGS_POSITIVE]
        if even and len(normal) >= max(FEWEST_SIBLINGS, 2 * len(even)):
            odd += even
    if not odd:
        return
    share = float(np.mean([float((n.weight.numbers > 0).mean()) for n in odd if n.weight]))
    yield RULE.finding(
        confidence=Confidence.MEDIUM,
        layers=odd,
        title=(f"the weights of {plural(len(odd), 'norm layer')} do not look like gains"),
        detail=(
            f"{percent(share)} of their values are positive; in layers of the same name it is "
            f"{percent(SIBLINGS_POSITIVE)} or more."
        ),
        consequence=(
            "The outputs of these layers get random signs: another convention (1 + weight) or a "
            "linear layer's values ended up here."
        ),
        fix="compare the layers with the original checkpoint, and check the conversion",
        evidence=(Evidence("share of positive values", share, SIBLINGS_POSITIVE, len(odd)),),
    )


RULE = Rule(
    code="NC506",
    name="misread-gain",
    summary="a gain that looks like something else among its siblings",
    severity=Severity.WARNING,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
