"""A bias that the norm behind it takes away again.

## What it does
Finds linear and convolution layers with a bias right before a BatchNorm or InstanceNorm,
where the order is certain: neighbours in an `nn.Sequential`.

## Why does it matter?
The norm subtracts each channel's mean, and the bias with it. The bias costs memory and does
nothing in train mode; β is the bias that counts. In eval mode it is part of what the stored
mean was measured with: changing it afterwards shifts the output.

## How severe
Info: it is wasteful, not wrong.

## Stays silent
- where anything may stand between the two, or the order is a guess;
- where the biases moved as the β behind them did, which only training with stored statistics does:
  there they had an effect;
- before norms whose statistics are 0 and 1: trained in eval mode throughout they subtract nothing,
  and the biases were learned;
- before norms that subtract no mean of each channel: LayerNorm, RMSNorm, most GroupNorms.

## What to do
Build the layer with `bias=False` next time.

## Example
    nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16))  # bias=True is the default
"""

from collections.abc import Iterator

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.norms.traces.gradient_trace import Used
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import fold, plural


def check(subject: Subject) -> Iterator[Finding]:
    """All pairs in one finding."""
    unused = {layer.path for layer in subject.layers if layer.at_initial_values}
    pairs = [(b, norm) for b, norm in subject.anatomy.biases_before_norms if norm not in unused]
    if not pairs:
        return
    trace = subject.biases([norm for _, norm in pairs])
    if trace is not None and trace.used is Used.STORED:
        return
    sure = subject.anatomy.has_modules
    yield RULE.finding(
        confidence=Confidence.HIGH if sure else Confidence.MEDIUM,
        layers=[norm for _, norm in pairs],
        title=(f"the bias before {plural(len(pairs), 'norm layer')} has no effect"),
        detail=(
            f"{fold([bias for bias, _ in pairs])}: the norm behind it subtracts the mean of each "
            "channel, and the bias with it."
        ),
        consequence="None on predictions; the parameters are wasted.",
        fix="build these layers with bias=False next time",
        evidence=(Evidence("biases before norms", float(len(pairs)), 0.0, len(subject.layers)),),
    )


RULE = Rule(
    code="NC504",
    name="bias-before-norm",
    summary="a bias that the norm behind it subtracts",
    severity=Severity.INFO,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
