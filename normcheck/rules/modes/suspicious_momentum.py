"""A momentum that keeps hardly more than the last batch, or nothing new at all.

## What it does
Looks at the momentum of batch norms in a saved module. In PyTorch it is the weight of the
new batch: `running = (1 - momentum) * running + momentum * batch`. Keras and others call the
weight of the old value momentum, so 0.99 there is 0.01 here.

## Why is this bad?
At 0.9 or above the running statistics are those of the last batch: noisy, and different at
every save. At 0 they never move.

## How severe
A warning from 0.9, where the convention was most likely confused. Info from 0.5, where no
batch was counted yet (new models, and weights imported from elsewhere: the momentum has not
done anything), and for 0, which is also how a layer is frozen or imported.

## Stays silent
- for `momentum=None`, a plain average, and for layers that do not track statistics;
- as a warning, where no batch was counted: the momentum has not acted yet;
- where the file does not hold the momentum, as no state dict does.

## What to do
Use 0.1 (torch's default) or below, or `momentum=None` for a plain average, and re-estimate
the statistics.

## Example
    nn.BatchNorm2d(64, momentum=0.99)  # meant as in Keras
"""

from collections.abc import Iterator

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.norms.kinds import Family
from normcheck.norms.layer import NormLayer
from normcheck.rules.option import Option
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import percent, plural

# From 0.9 on nine tenths of the statistics are the last batch's; from 0.5 on the last batch
# outweighs all before it.
CONFUSED = Option(
    "warning-momentum", 0.9, "momentum", "momentum from which the finding is a warning", most=1.0
)
HIGH = Option(
    "report-momentum", 0.5, "momentum", "momentum from which a layer is reported", most=1.0
)


def check(subject: Subject) -> Iterator[Finding]:
    """Layers whose momentum is too large, and layers that can never be updated."""
    norms = [
        (n, n.momentum)
        for n in subject.batch_norms()
        if isinstance(n.momentum, float) and n.track_running_stats is not False
    ]
    least = subject.value(HIGH)
    high = [(n, m) for n, m in norms if m >= least and m > 0]
    if high:
        acted = any(_has_acted(n) for n, _ in high)
        largest = max(m for _, m in high)
        confused = largest >= subject.value(CONFUSED)
        bound = subject.value(CONFUSED) if confused else least
        yield _high([n for n, _ in high], largest, bound, confused=confused, acted=acted)
    # Only where train mode would be expected to update: elsewhere it changes nothing.
    still = [n for n, m in norms if m == 0 and n.training]
    if still:
        yield RULE.finding(
            severity=Severity.INFO,
            confidence=Confidence.MEDIUM,
            layers=still,
            title=(f"momentum is 0 in {plural(len(still), 'layer')}"),
            detail="Their running statistics do not change in train mode.",
            consequence="Training on uses batch statistics, eval mode what was stored before.",
            fix="nothing, if these layers were meant to be frozen; otherwise use 0.1",
            discriminator="zero",
        )


def _has_acted(layer: NormLayer) -> bool:
    """Whether the momentum may have made the statistics that are there."""
    if layer.kind.family is not Family.BATCH:
        return not layer.at_initial_values  # InstanceNorm updates statistics without counting
    return layer.batches is None or layer.batches.value > 0


def _high(
    layers: list[NormLayer], largest: float, bound: float, *, confused: bool, acted: bool
) -> Finding:
    consequence = "Predictions in eval mode depend on which batch happened to come last."
    if not acted:
        consequence = f"None yet: no batch was counted. Once trained on: {consequence.lower()}"
    return RULE.finding(
        severity=Severity.WARNING if confused and acted else Severity.INFO,
        confidence=Confidence.HIGH if confused else Confidence.MEDIUM,
        layers=layers,
        title=(
            f"momentum {largest:g} in {plural(len(layers), 'layer')} makes running statistics of "
            f"the last batch"
        ),
        detail=(
            f"In PyTorch momentum is the weight of the new batch: {percent(min(largest, 1))} of "
            "the statistics is the last batch alone. Keras counts the other way round."
        ),
        consequence=consequence,
        fix=f"use momentum {max(1 - largest, 0.01):.2g} or the default 0.1, and re-estimate",
        evidence=(Evidence("momentum", largest, bound, len(layers)),),
        discriminator="high",
    )


RULE = Rule(
    code="NC206",
    name="suspicious-momentum",
    summary="momentum of another framework's convention, or zero",
    severity=Severity.WARNING,
    need=Need.MODULES,
    page=__doc__ or "",
    check=check,
    options=(HIGH, CONFUSED),
)
