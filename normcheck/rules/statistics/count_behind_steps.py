"""Layers that counted far fewer batches than the training made steps.

## What it does
Compares `num_batches_tracked` with what the same file says of the training: the batches of
Lightning's loop, the optimizer's steps, `global_step` and its like, the steps of a learning rate's
schedule, the epochs. Layers that counted less than half of that are reported, where enough was
counted that nothing is left of the initial values (`under-warmed-stats` names the others).

## Why is this bad?
Every forward pass in train mode counts one batch in each layer that runs. Where most steps did
not, the weights went on and the statistics stayed. Most often `model.eval()` was called for a
validation and `model.train()` not called after it: the count then is that of the first epoch, and
dropout was off as well from then on.

## How severe
Info, for healthy models read the same: norms that were frozen after some epochs on purpose
(quantization-aware training), `torch.optim.swa_utils.update_bn`, which counts one pass, a count
that began anew when training was resumed. A warning where the optimizer's state shows that the
stored statistics were used in the last steps, and as many batches were counted as one epoch has,
or the weights have moved away from the statistics.

## Stays silent
- where the weights vouch for most of the statistics: then the count belongs to another history;
- for averaged models (`n_averaged`), and where a copy in the same file did count;
- for more batches than steps: accumulation, checkpointing, several forward passes a step;
- where a file holds several optimizers: nobody knows which one trains the model;
- for counts of zero, which statistics have that were converted or frozen from the first step.

## What to do
See that `model.train()` follows every `model.eval()` in the training loop. Do not re-estimate the
statistics of a model that was trained with the stored ones: its weights know no others.

## Example
    model.train()
    for epoch in range(epochs):
        for images, labels in loader: train_step(images, labels)
        validate(model)  # calls model.eval(): from the second epoch on, training runs in it
"""

from collections.abc import Iterator

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.norms.traces.gradient_trace import Used
from normcheck.rules.evidence.count_and_clock import BEHIND, lag
from normcheck.rules.evidence.initial_stats import FIX_TRAINED, told_of
from normcheck.rules.evidence.residue import WARNING_RESIDUE, residue
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import plural

MOST_VOUCHED = 0.5
"""Share of the layers for which the weights vouch that clears the whole model."""


def check(subject: Subject) -> Iterator[Finding]:
    """Layers whose count is far behind the training's clock."""
    if subject.anatomy.averages is not None:
        return
    layers = [
        n
        for n in subject.batch_norms()
        if n.has_statistics
        and not n.at_initial_values
        and n.batches is not None
        and n.batches.whole
        and n.batches.value > 0
        and (residue(n) or 0.0) <= WARNING_RESIDUE
    ]
    behind = lag(subject, layers)
    if behind is None:
        return
    agreement = subject.anatomy.agreement
    vouched = {fit.link.target.path for fit in agreement.agreeing} if agreement else set()
    if sum(n.path in vouched for n in layers) > MOST_VOUCHED * len(layers):
        return
    trace = subject.gradients([n.path for n in layers])
    said = [behind.sentence]
    if behind.one_epoch:
        said.append("That is as many batches as one epoch has.")
    if trace is not None:
        said.append(told_of(trace))
    stored = trace is not None and trace.used is Used.STORED
    sure = stored and (behind.one_epoch or (agreement is not None and bool(agreement.misses)))
    yield RULE.finding(
        severity=Severity.WARNING if sure else Severity.INFO,
        confidence=Confidence.MEDIUM,
        layers=layers,
        title=f"{plural(len(layers), 'layer')} counted {behind.counted:,} batches in a training "
        f"of {behind.clock.value:,} {behind.clock.what}",
        detail=" ".join(said),
        consequence=_WITH_STORED if stored else _OPEN,
        fix=FIX_TRAINED if sure else _FIX,
        evidence=(
            Evidence(
                "batches counted for each step",
                behind.counted / behind.clock.value,
                BEHIND,
                len(layers),
            ),
        ),
        discriminator="stored" if stored else "",
    )


_WITH_STORED = (
    "The weights were trained for these very statistics, in eval mode or with norms frozen on "
    "purpose: eval mode predicts as it was trained, and re-estimating would ruin it."
)
_OPEN = (
    "None by itself. Either training went on in eval mode or with frozen norms, or the count is "
    "not that of this training: update_bn counts one pass, a resumed run may count anew."
)
_FIX = "see that model.train() follows every model.eval() in the training loop"

RULE = Rule(
    code="NC114",
    name="count-behind-steps",
    summary="far fewer batches counted than steps made",
    severity=Severity.WARNING,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
