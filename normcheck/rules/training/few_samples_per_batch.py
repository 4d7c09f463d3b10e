"""Batches too small for batch norms.

## What it does
While `normcheck.guard` watches a training loop, looks at the inputs of batch norms in a few
forwards: at the first steps, then ever more rarely. Where each of three or more had fewer than four
samples, the norms are named. For `SyncBatchNorm` the samples of all processes count.

## Why is this bad?
Mean and variance of a batch of two are noise: the network learns to live with that noise, and in
eval mode it is gone. On ImageNet a ResNet-50 with batch norm errs in 23.6 % of the images when
trained with 32 samples a batch, in 27.3 % with 4 and in 34.7 % with 2 (Wu and He, *Group
Normalization*, ECCV 2018, table 2). Gradient accumulation does not help: each forward is
normalised by itself.

## How severe
A warning. A single small batch at the end of an epoch is none.

## What to do
Larger batches; `SyncBatchNorm` over several GPUs; `GroupNorm`, or pretrained statistics that stay
frozen, where memory allows no more.

## Example
    DataLoader(data, batch_size=2)      # and accumulation over 16 batches
"""

from collections.abc import Iterator

from normcheck.findings import Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject, training_of
from normcheck.wording import plural

FEW = 4
"""Samples a batch from which on nothing is said; see the page for the evidence."""


def check(subject: Subject) -> Iterator[Finding]:
    """One finding for all that were seen together."""
    from normcheck.live.training_record import SmallBatches  # no scan has any

    for seen in training_of(subject).of(SmallBatches):
        yield RULE.finding(
            title=(
                f"{plural(len(seen.layers), 'batch norm')} "
                f"{'is' if len(seen.layers) == 1 else 'are'} trained with "
                f"{plural(seen.samples, 'sample')} a batch"
            ),
            detail=(
                f"In {plural(seen.forwards, 'forward')} that were looked at, up to step "
                f"{seen.step:,}, each batch had {plural(seen.samples, 'sample')} at the most"
                f"{f' ({seen.line})' if seen.line else ''}."
            ),
            consequence=(
                "Their mean and variance are noisy, which eval mode is not: accuracy in eval mode "
                "suffers. Accumulating gradients does not change that."
            ),
            fix=(
                "use larger batches, SyncBatchNorm over several GPUs, or GroupNorm; or freeze "
                "pretrained norms in eval mode"
            ),
            layers=seen.layers,
            evidence=(Evidence("samples a batch", float(seen.samples), float(FEW)),),
        )


RULE = Rule(
    code="NC704",
    name="few-samples-per-batch",
    summary="batch norms trained with fewer than four samples a batch",
    severity=Severity.WARNING,
    need=Need.TRAINING,
    page=__doc__ or "",
    check=check,
)
