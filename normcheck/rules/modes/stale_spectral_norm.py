"""Power-iteration vectors of spectral normalization that are not those of their weights.

## What it does
Spectral normalization divides a weight by its largest singular value, estimated with two
vectors u and v that are kept as buffers and have length 1. Vectors of another length are
reported, and such that no iteration left: behind one, u points along `W v`. Vectors as they were
drawn, or of other weights, are nearly orthogonal to it.

## Why is this bad?
In eval mode the vectors are used as they are. If they were averaged, zeroed or never set, the
estimate is wrong, and with it the scale of the whole layer. Vectors that were never iterated make
it a small random number, and the layer's output larger by orders of magnitude. Train mode repairs
them at its first steps, which hides it.

## How severe
A warning: the weights themselves are intact, and train mode repairs the vectors. Info for vectors
as they were drawn in a model that was never trained.

## Stays silent
- for weights a step ahead of their vectors, or averaged without them: the cosine stays above 0.9;
- for weights of fewer than eight outputs, where random vectors may point along;
- for vectors of a length of 1 whose weight is not in the file.

## What to do
Run a few forward passes in train mode, which repeats the power iteration, and save again.
Leave these buffers out of weight averaging.

## Example
    ema[k] = 0.999 * ema[k] + 0.001 * state[k]  # for every k, weight_u included
"""

from collections.abc import Iterator

import numpy as np

from normcheck.findings import Evidence, Finding, Severity
from normcheck.norms.layer import PowerIteration
from normcheck.rules.evidence.signs_of_training import never_trained
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import number, plural

TOLERANCE = 0.01
"""Distance of a length from 1 in float32; normalising leaves rounding errors of 1e-6."""
APART = 0.5
"""Cosine of u and W v below which no iteration made u: 64 random values reach it once in 10,000
times, trained weights are at 0.98 and more."""
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
    off = {path.rpartition(".")[0] for path, _ in hit}
    drawn = [
        i for i in subject.anatomy.power_iterations
        if i.follows is not None and abs(i.follows) < APART and i.path not in off
    ]  # fmt: skip
    if drawn:
        yield _drawn(subject, drawn)
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


def _drawn(subject: Subject, drawn: list[PowerIteration]) -> Finding:
    largest = max(abs(i.follows or 0.0) for i in drawn)
    new = never_trained(subject) and not subject.optimizer_steps
    return RULE.finding(
        severity=Severity.INFO if new else Severity.WARNING,
        layers=[i.path for i in drawn],
        title=f"the spectral norm vectors of {plural(len(drawn), 'weight')} are not those of it"
        if len(drawn) == 1
        else f"the spectral norm vectors of {plural(len(drawn), 'weight')} are not theirs",
        detail=(
            f"u and W v have a cosine of {number(largest)} at most; behind an iteration it is 1. "
            "The vectors are as they were drawn, or those of other weights."
        ),
        consequence=(
            "In eval mode the weights are divided by a random number in the place of their largest "
            "singular value."
        ),
        fix="run a few forward passes in train mode and save again",
        evidence=(Evidence("cosine of u and W v", largest, APART, len(drawn)),),
        discriminator="drawn",
    )


RULE = Rule(
    code="NC212",
    name="stale-spectral-norm",
    summary="power-iteration vectors that are not those of their weights",
    severity=Severity.WARNING,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
