"""A batch count that is no count.

## What it does
Looks at `num_batches_tracked`, an integer that goes up by one per batch, for values that
counting cannot give: negative, absurdly large, fractional, or stored as a float.

## Why does it matter?
Arithmetic on whole state dicts treats buffers as weights. A fraction is the fingerprint of
averaging, a negative number that of a difference. The running statistics beside the count
went through the same: differences are no statistics; averages are usable where all models saw
data alike, as checkpoints of one training did. Of clients of a federated training they are not:
a mean of variances lacks what lies between the clients' means.
A half-precision count stops at 2,048, where adding one changes nothing.

## How severe
Warning for negative and absurd counts. Info for floats and fractions, which occur in healthy
converted and averaged models. The count itself is used by torch only with `momentum=None`.

## Stays silent
- for whole numbers of an integer type up to a trillion, whatever the other layers counted;
- as a warning, for floats and fractions: averages of whole state dicts and conversions leave them,
  and the statistics beside them are usable.

## What to do
Leave integer buffers out of weight arithmetic, and re-estimate the statistics of a model
that was put together from others.
"""

from collections.abc import Iterator

import numpy as np

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.norms.kinds import Family
from normcheck.norms.layer import NormLayer
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import number, plural

ABSURD = 1e12
"""Batches that nobody has run: a thousand a second for 30 years."""


def check(subject: Subject) -> Iterator[Finding]:
    """Impossible counts, and apart from them counts that only averaging explains."""
    counted = [n for n in subject.layers if n.batches is not None]
    impossible = [n for n in counted if not 0 <= _value(n) <= ABSURD]
    if impossible:
        worst = min(impossible, key=_value)
        float_bits = _bits_of_a_float(_value(worst))
        read_as = f" These are the bits of the float {float_bits:g}." if float_bits else ""
        yield RULE.finding(
            layers=impossible,
            title=(f"impossible num_batches_tracked in {plural(len(impossible), 'layer')}"),
            detail=f"For example {number(_value(worst))} in {worst.path or 'the model'}.{read_as}",
            consequence=(
                "The count was read from memory that held something else, and the running "
                "statistics beside it may be no statistics either."
                if float_bits
                else "Something calculated with the buffers as if they were weights; the running "
                "statistics went through the same and may be wrong in eval mode."
            ),
            fix=(
                "take the buffers from the checkpoint that they came from, or re-estimate the "
                "statistics on training data (normcheck fix)"
                if float_bits
                else "leave buffers out of weight arithmetic and re-estimate the statistics"
            ),
            evidence=(Evidence("num_batches_tracked", _value(worst), 0.0, len(impossible)),),
            discriminator="impossible",
        )
    floating = [
        n
        for n in counted
        if n.batches
        and n.batches.dtype.floating
        and n not in impossible
        and n.kind.family is not Family.OBSERVATION  # a count of samples, a float by design
    ]
    if floating:
        yield _floating(floating)


def _value(layer: NormLayer) -> float:
    return layer.batches.value if layer.batches is not None else 0.0


def _bits_of_a_float(count: float) -> float | None:
    """The number of everyday size whose 64 bits a count is; None where they are those of none."""
    if not 0 < count < 2**63:
        return None
    value = float(np.int64(int(count)).view(np.float64))
    return value if 1e-6 <= abs(value) <= 1e6 else None


def _floating(layers: list[NormLayer]) -> Finding:
    fractions = [n for n in layers if not _value(n).is_integer()]
    example = (fractions or layers)[0]
    types = sorted({n.batches.dtype.name for n in layers if n.batches is not None})
    return RULE.finding(
        severity=Severity.INFO,
        confidence=Confidence.HIGH,
        layers=layers,
        title=(f"num_batches_tracked is stored as a float in {plural(len(layers), 'layer')}"),
        detail=(
            f"Type {', '.join(types)}, for example {_value(example):g} in "
            f"{example.path or 'the model'}. "
            + (
                "A fraction comes from averaging several models, buffers included: checkpoints "
                "of one training, or the clients of a federated one."
                if fractions
                else "It comes from a conversion of all tensors, or from averaging."
            )
        ),
        consequence="None by itself; the count says nothing about how warm the statistics are."
        + (
            " Averaged variances lack what lies between the means of the models, which is much "
            "where each saw data of its own."
            if fractions
            else ""
        ),
        fix="nothing, if the model predicts well"
        + ("; else re-estimate on the data of all of them (normcheck fix)" if fractions else ""),
        discriminator="float",
    )


RULE = Rule(
    code="NC111",
    name="damaged-batch-count",
    summary="a batch count that counting cannot give",
    severity=Severity.WARNING,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
