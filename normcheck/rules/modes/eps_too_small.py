"""An eps that does not protect.

## What it does
Looks for norms whose eps is zero, negative, or rounds to zero in the type of the layer's
parameters (1e-12 in float16, whose smallest number is 6e-8).

## Why is this bad?
eps keeps the division by the standard deviation finite. Without it, a constant channel or an
all-zero token is NaN or infinite.

## How severe
An error where the file has a variance that eps cannot lift above zero. Info otherwise: torch's
own kernels calculate half-precision norms in float32, hand-written ones often do not.

## Stays silent
- where the file does not hold eps, as no state dict does;
- for any eps that the type of the layer's parameters can hold, however small.

## What to do
Use 1e-5 (1e-6 for RMSNorm), or keep the norm in float32.

## Example
    nn.LayerNorm(768, eps=1e-12).half()
"""

from collections.abc import Iterator

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.norms.layer import NormLayer
from normcheck.rules.option import Option
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import plural

MIN_EPS = Option(
    "min-eps",
    0.0,
    "of eps",
    "eps below which a layer is reported even where it does not vanish in its type",
)


def check(subject: Subject) -> Iterator[Finding]:
    """Layers whose eps vanishes, and apart from them those where it matters already."""
    least = subject.value(MIN_EPS)
    weak = [n for n in subject.layers if n.eps is not None and n.eps < max(least, _smallest(n))]
    fatal = [n for n in weak if _divides_by_zero(n)]
    for layers, severity in (
        (fatal, Severity.ERROR),
        ([n for n in weak if n not in fatal], Severity.INFO),
    ):
        if not layers:
            continue
        lowest = min(n.eps for n in layers if n.eps is not None)
        vanishes = lowest < _smallest(layers[0])
        yield RULE.finding(
            severity=severity,
            confidence=Confidence.HIGH if severity is Severity.ERROR else Confidence.LOW,
            layers=layers,
            title=(
                f"eps {lowest:g} {'vanishes' if vanishes else 'is small'} in "
                f"{plural(len(layers), 'layer')}"
            ),
            detail=(
                "A running variance plus eps is not above zero."
                if severity is Severity.ERROR
                else f"The smallest number of their type is {_smallest(layers[0]):.1g}."
                if vanishes
                else f"At least {least:g} is wanted."
            ),
            consequence=(
                "In eval mode the channel is divided by zero."
                if severity is Severity.ERROR
                else "Harmless in torch's kernels, which use float32 inside; a hand-written norm "
                "gives NaN for constant input."
            ),
            fix="use eps 1e-5 (1e-6 for RMSNorm), or keep the norm in float32",
            evidence=(Evidence("eps", lowest, max(least, _smallest(layers[0])), len(layers)),),
            discriminator=severity.value,
        )


def _smallest(layer: NormLayer) -> float:
    """The smallest positive number of the layer's own type, for what is stored in it."""
    stored = layer.weight or layer.running_var
    smallest = stored.dtype.smallest if stored is not None else None
    return smallest or 5e-324


def _divides_by_zero(layer: NormLayer) -> bool:
    eps = layer.eps or 0.0
    # A negative variance is a finding of its own, whatever eps is.
    return layer.running_var is not None and bool(
        ((layer.running_var.numbers >= 0) & (layer.running_var.numbers + eps <= 0)).any()
    )


RULE = Rule(
    code="NC210",
    name="eps-too-small",
    summary="an eps of zero, or one that vanishes in its type",
    severity=Severity.ERROR,
    need=Need.MODULES,
    page=__doc__ or "",
    check=check,
    options=(MIN_EPS,),
)
