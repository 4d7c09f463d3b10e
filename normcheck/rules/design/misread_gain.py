"""A gain that looks like something else than a gain.

## What it does
Compares norms without statistics (LayerNorm, RMSNorm, GroupNorm) that are called the same in
the numbered blocks of a model. A trained γ starts at 1 and stays mostly positive. Where the
siblings do and one layer's values are spread evenly around zero, that layer holds something
else. Where all LayerNorms of a model have gains of mean 0 that are normal and of one spread, to
within the error of so many draws, they were drawn, not learned.

## Why is this bad?
- A norm that adds 1 to its stored weight (Gemma's convention) got weights of one that does
  not, or the other way round.
- The layer was overwritten by a linear layer's initialisation, or all of them by one that goes
  through every parameter (`nn.init.normal_(p, 0, 0.02)`).
Outputs of that layer have random signs, and nothing fails.

## How severe
A warning: the siblings are strong evidence, but only a comparison with the original decides.

## Stays silent
Where the values on the other side of zero are next to nothing: weight decay does that to gains
that are not needed. Where all siblings are centred on zero, and training has made their spreads
differ: that is the model's own convention. Of RMSNorms, which most often add 1, drawn gains are not
reported either.

## What to do
Compare the layer with the original checkpoint; check the conversion script.
"""

import re
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.norms.kinds import Family
from normcheck.norms.layer import Floats, NormLayer
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import number, percent, plural

FEWEST_VALUES = 16
"""Below this, an even split of signs is no evidence (it happens by chance once in 5)."""
SIBLINGS_POSITIVE = 0.95
"""Share of positive values that siblings must have for "centred on 1"."""
EVEN = 0.2
"""How far the share of positive values may be from one half to be called even."""
FEWEST_SIBLINGS = 2
FEWEST_DRAWN = 3
FEWEST_DRAWS = 192
"""Layers, and values in them, from which draws of one distribution are told."""
NOTHING = 1e-2
"""Share of a layer's rms up to which a value has no sign to speak of: weight decay shrinks gains
that are not needed to nothing, on either side of 0."""
ERRORS = 4.0
"""Standard errors that draws stay within."""
_FAMILIES = (Family.LAYER, Family.RMS, Family.GROUP, Family.PER_SAMPLE)


def check(subject: Subject) -> Iterator[Finding]:
    """Odd ones out among layers that are called the same."""
    groups: dict[str, list[tuple[NormLayer, float]]] = defaultdict(list)
    for layer in subject.layers:
        if layer.kind.family in _FAMILIES and not layer.unit_offset and layer.weight is not None:
            values = layer.weight.numbers
            if values.size < FEWEST_VALUES or not np.isfinite(values).all() or not values.any():
                continue
            if (share := _positive(values)) is not None:
                groups[re.sub(r"\d+", "#", layer.path)].append((layer, share))
    odd: list[NormLayer] = []
    for group in groups.values():
        even = [n for n, positive in group if abs(positive - 0.5) <= EVEN]
        normal = [n for n, positive in group if positive >= SIBLINGS_POSITIVE]
        if even and len(normal) >= max(FEWEST_SIBLINGS, 2 * len(even)):
            odd += even
    drawn = _drawn(subject)
    if drawn:
        yield _of_an_initialisation(drawn)
    if not odd:
        return
    shares = [_positive(n.weight.numbers) for n in odd if n.weight is not None]
    share = float(np.mean([share for share in shares if share is not None]))
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


def _positive(values: Floats) -> float | None:
    """Share of positive ones among values that are more than nothing; None of too few."""
    sizes = np.abs(values)
    telling = values[sizes > NOTHING * float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))]
    return float((telling > 0).mean()) if telling.size >= FEWEST_VALUES else None


def _drawn(subject: Subject) -> list[NormLayer]:
    """All LayerNorms of a model, where their gains are draws of one normal around 0."""
    layers = [
        n
        for n in subject.layers
        if n.kind.family in (Family.LAYER, Family.PER_SAMPLE)
        and n.weight is not None
        and n.bias is not None
        and not n.unit_offset
    ]
    values = [n.weight.numbers for n in layers if n.weight is not None]
    sizes = np.array([v.size for v in values])
    if len(layers) < FEWEST_DRAWN or sizes.min() < FEWEST_VALUES or sizes.sum() < FEWEST_DRAWS:
        return []
    spreads = np.array([float(v.std()) for v in values])
    means = np.array([float(v.mean()) for v in values])
    spread = float(np.sqrt((spreads**2 * sizes).sum() / sizes.sum()))
    if not np.isfinite(spread) or not spread > 0:
        return []
    off = np.abs(means) * np.sqrt(sizes) / spread
    uneven = np.abs(spreads / spread - 1) * np.sqrt(2 * sizes)
    shape = float(np.mean((np.concatenate(values) / spread) ** 4)) - 3  # of a normal: 0
    same = off.max() <= ERRORS and uneven.max() <= ERRORS
    return layers if same and abs(shape) <= ERRORS * (24 / sizes.sum()) ** 0.5 else []


def _of_an_initialisation(layers: list[NormLayer]) -> Finding:
    spread = float(np.mean([n.weight.numbers.std() for n in layers if n.weight is not None]))
    return RULE.finding(
        confidence=Confidence.MEDIUM,
        layers=layers,
        title=f"the gains of all {plural(len(layers), 'norm layer')} were drawn around 0",
        detail=(
            f"They are normal with mean 0 and one deviation, {number(spread)}, in every layer to "
            "within the error of so many draws. A gain starts at 1."
        ),
        consequence=(
            "The outputs of these layers get random signs and hardly any size: an initialisation "
            "of weights went through the norms as well."
        ),
        fix="leave norms out of the initialisation (gain 1, shift 0), and train again",
        evidence=(Evidence("deviation of the gains", spread, None, len(layers)),),
        discriminator="drawn",
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
