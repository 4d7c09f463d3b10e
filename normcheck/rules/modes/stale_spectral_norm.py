"""Power-iteration vectors of spectral normalization that are no unit vectors.

## What it does
Spectral normalization divides a weight by its largest singular value, estimated with two
vectors u and v that are kept as buffers and have length 1. Vectors of another length are
reported.

## Why is this bad?
In eval mode the vectors are used as they are. If they were averaged, zeroed or never set, the
estimate is wrong, and with it the scale of the whole layer. Train mode repairs them at its
first step, which hides it.

## How severe
A warning: the weights themselves are intact, and train mode repairs the vectors.

## What to do
Run a few forward passes in train mode, which repeats the power iteration, and save again.
Leave these buffers out of weight averaging.

## Example
    ema[k] = 0.999 * ema[k] + 0.001 * state[k]  # for every k, weight_u included
"""

from collections.abc import Iterator

import numpy as np

from normcheck.findings import Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import number, plural

TOLERANCE = 0.01
"""Distance of a length from 1 in float32; normalising leaves rounding errors of 1e-6."""
HALF_TOLERANCE = 0.05
"""The same in 16 or fewer bits, where a long vector's rounding errors add up."""


def check(subject: Subject) -> Iterator[Finding]:
    """Vectors whose length is not 1."""
    hit: list[tuple[str, float]] = []
    for iteration in subject.anatomy.power_iterations:
        for leaf, vector in iteration.vectors.items():
            length = float(np.linalg.norm(vector.numbers))
            tolerance = HALF_TOLERANCE if vector.dtype.itemsize <= 2 else TOLERANCE
            # Not "> tolerance": a NaN is to be found as well.
            if vector.size and not abs(length - 1) <= tolerance:
                hit.append((f"{iteration.path}.{leaf}".lstrip("."), length))
    if not hit:
        return
    worst = max((length for _, length in hit), key=lambda value: abs(value - 1))
    yield RULE.finding(
        layers=[path for path, _ in hit],
        title=(
            f"{plural(len(hit), 'spectral norm vector')} {'is' if len(hit) == 1 else 'are'} not of "
            f"length 1"
        ),
        detail=f"The length farthest off is {number(worst) if np.isfinite(worst) else worst}.",
        consequence="In eval mode the weights are divided by a wrong singular value.",
        fix="run a few forward passes in train mode and save again",
        evidence=(Evidence("length of the vector", worst, TOLERANCE, len(hit)),),
    )


RULE = Rule(
    code="NC212",
    name="stale-spectral-norm",
    summary="power-iteration vectors that are no unit vectors",
    severity=Severity.WARNING,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
