"""A norm that never saw an input: a lazy one, or one that its first batch would set.

## What it does
Finds norms whose parameters or buffers are still uninitialised: `LazyBatchNorm2d` and the
like get their size from the first input. Also `ActNorm` whose flag says that no batch has set its
scale and shift.

## Why is this bad?
The layer has no numbers at all. The model was saved before its first forward pass, so it was
not trained either, or this part of it never runs. An ActNorm that is not set takes scale and shift
from whatever batch comes first in train mode, over those that were loaded.

## How severe
A warning: there is nothing to predict with, unless the layer is not used at all.

## Stays silent
- for lazy classes that have run once: torch makes plain norms of them.

## What to do
Run one batch through the model before saving, and load the trained weights after that.

## Example
    model = nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d())
    torch.save(model, "model.pt")
"""

from collections.abc import Iterator

from normcheck.findings import Finding, Severity
from normcheck.norms.layer import NormLayer
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import plural

ACT_NORM = "ActNorm"


def was(layers: list[NormLayer]) -> str:
    """The verb for so many layers."""
    return "was" if len(layers) == 1 else "were"


def check(subject: Subject) -> Iterator[Finding]:
    """Lazy layers without numbers."""
    unset = [n for n in subject.layers if n.uninitialised and n.kind.name == ACT_NORM]
    hit = [n for n in subject.layers if n.uninitialised and n.kind.name != ACT_NORM]
    if unset:
        yield RULE.finding(
            layers=unset,
            title=f"{plural(len(unset), ACT_NORM)} {was(unset)} never set from a batch",
            detail="Their flags say that scale and shift still wait for their first batch.",
            consequence=(
                "In eval mode they pass their input on as it is; the first batch in train mode "
                "sets them, whatever was loaded."
            ),
            fix="run one batch of training data in train mode before training, and save after it",
            discriminator="ActNorm",
        )
    if not hit:
        return
    yield RULE.finding(
        layers=hit,
        title=(f"{plural(len(hit), 'lazy norm layer')} never saw an input"),
        detail="Their parameters and statistics are uninitialised and have no size yet.",
        consequence="The model was saved before its first forward pass: it is not trained.",
        fix="run one batch through the model, load its trained weights, and save again",
    )


RULE = Rule(
    code="NC209",
    name="uninitialised-norm",
    summary="a lazy norm, or an ActNorm, that never saw an input",
    severity=Severity.WARNING,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
