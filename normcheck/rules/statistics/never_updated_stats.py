"""Running statistics that still have their initial values.

## What it does
Looks for batch norms whose `running_mean` is exactly 0 and `running_var` exactly 1 in every
channel, with no batch counted. An update with any real data moves every channel, so these
statistics were never updated, or were lost.

## Why is this bad?
In eval mode BatchNorm normalises with the running statistics. At 0 and 1 it only scales and
shifts: activations keep whatever mean and variance they have. If the weights were trained
in train mode, on normalised activations, predictions in eval mode are wrong, and nothing
says so: training looked fine.

## Two histories that one file cannot tell apart
- **Lost or never collected**: the weights were trained in train mode; the statistics were
  lost on the way (only parameters were copied, buffers were reset). Eval mode is ruined and
  re-estimating the statistics from training data heals it.
- **Trained in eval mode throughout**: `model.eval()` was called and `model.train()` never
  again, a well-known bug. The layers did not normalise while training: shallow models learn
  all the same, deep ones stay at chance. No statistics are better for these weights than 0
  and 1, so no repair of the file can help, and `normcheck fix` refuses.

Norms that were frozen from the first step on purpose read as the second, and so do statistics
that were folded into weight and bias (most often without a count): ignore the finding for these
layers, with that reason.

## What tells them apart
- **The optimizer in a training checkpoint.** A norm that normalises by the batch takes the mean
  of each channel away, so the gradient of a bias right before it is zero but for rounding. The
  averaged gradient (Adam's `exp_avg`, SGD's `momentum_buffer`; coupled weight decay taken out) of
  that bias is below 0.01 of its weight's where the statistics were lost, and above 0.1 in every
  such layer where the stored ones were used. Without biases, a gradient that is orthogonal to
  every filter shows the first.
- **Biases right before the norms**, in an `nn.Sequential`, in the weights alone. With batch
  statistics nothing but rounding and weight decay moves them; with stored ones they move as β
  does, and rank the channels alike. Where they do so beyond four standard errors, the model was
  trained with 0 and 1; where they have shrunk to a hundredth of β, the statistics were lost.
- **Labelled data.** Statistics re-estimated on one half of them predict the other half better
  (lost), or worse (trained with 0 and 1). Where both are as wrong as guessing, the weights do not
  know batch statistics either: trained in eval mode, without success.
- **The rest of the file.** A copy of the model that has real statistics, or other layers that
  counted batches while these trained layers counted none, shows the loss.

## How severe
A warning; an error where the statistics were lost for certain, or where the model is as wrong as
guessing. Info where γ and β are untouched too: a model, or a layer, that was never trained. β
is the witness there, as some initialisations draw γ at random.

## Stays silent
- for FrozenBatchNorm and other classes that never update, and for layers of which any channel has
  moved, however little (equality, no tolerance);
- where batches were counted (`reset-stats`);
- as a warning, where γ and β are untouched too, and in files without any trace of training.

## What to do
Lost: re-estimate on training data with `normcheck fix`, which writes a repaired copy only where
that helps. Trained in eval mode: train again, with `model.train()` at the start of each epoch and
`model.eval()` only around validation. Where the file cannot tell, scan it with `--model` and
labelled `--data`.

## Example
    for epoch in range(epochs):
        model.eval()  # left over from validation: should be model.train()
        for images, labels in loader: ...

    model = Net()  # or: statistics that are lost
    model.load_state_dict(dict(trained.named_parameters()), strict=False)  # no buffers!
    torch.save(model.state_dict(), "model.pt")  # running statistics are still 0 and 1
"""

from collections.abc import Iterator, Sequence

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.norms.kinds import Family
from normcheck.norms.layer import NormLayer
from normcheck.rules.evidence.count_and_clock import who_counted
from normcheck.rules.evidence.initial_stats import (
    FIX_UNTOLD,
    UNTOLD,
    told_by_biases,
    told_by_optimizer,
)
from normcheck.rules.evidence.signs_of_training import affine_untouched, never_trained
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.saved.clocks import telling
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """Layers at 0/1 without a count, apart by whether they were ever trained."""
    norms = [n for n in subject.batch_norms() if n.kind.family is not Family.FROZEN_BATCH]
    stale = [n for n in norms if n.at_initial_values and not (n.batches and n.batches.value > 0)]
    trained: list[NormLayer] = []
    if not never_trained(subject):
        trained = [n for n in stale if (n.weight or n.bias) and not affine_untouched(n)]
    if subject.optimizer_steps or subject.clocks or trained:
        # Without affine parameters a layer shows no training of its own; with trained
        # layers or an optimizer beside it, it took part.
        trained = [n for n in stale if not affine_untouched(n)]
    fresh = [n for n in stale if n not in trained]
    if trained:
        yield _never_updated(subject, trained, [n for n in norms if n not in stale])
    if fresh:
        yield _fresh(fresh, everything=len(fresh) == len(norms))
    unseen = [
        n for n in subject.layers if n.kind.family is Family.OBSERVATION and n.at_initial_values
    ]
    if unseen:
        yield _unseen(unseen, took_part=bool(subject.optimizer_steps or subject.clocks))


def _never_updated(subject: Subject, stale: list[NormLayer], others: list[NormLayer]) -> Finding:
    channels = sum(n.features or 0 for n in stale)
    counted = [n for n in others if n.batches and n.batches.value > 0]
    copy = _copy_with_statistics(subject, stale)
    count_known = all(n.batches is not None for n in stale)
    counts = "after 0 batches" if count_known else "with no batch count stored"
    detail = (
        f"running_mean is 0 and running_var 1 in all {plural(channels, 'channel')} {counts}, "
        f"while {_what_trained(stale)} trained."
    )
    severity, confidence = Severity.WARNING, Confidence.HIGH
    consequence, fix = UNTOLD, FIX_UNTOLD
    clock = telling(subject.clocks)
    if subject.optimizer_steps:
        detail += f" The optimizer saved with it counted {subject.optimizer_steps:,} steps."
    elif clock is not None:
        detail += f" {who_counted(clock)}."
    if copy is not None:
        severity = Severity.ERROR
        fix = (
            f"use '{copy}', or re-estimate the statistics of this copy on training data "
            "(normcheck fix, with --model and --data); copy buffers along with weights when saving"
        )
        detail += f" The copy under '{copy}' has real statistics for the same layers."
        consequence = (
            "The statistics of this copy were lost: in eval mode its predictions are wrong."
        )
    elif counted and count_known:
        severity = Severity.ERROR
        detail += (
            f" The other {plural(len(counted), 'layer')} counted up to "
            f"{max(n.batches.value for n in counted if n.batches):,.0f} batches."
        )
        consequence = (
            "The rest of the model ran in train mode, these layers did not: their statistics "
            "were lost (a key prefix, strict=False) or they were frozen from the first step. "
            "If lost, predictions in eval mode are wrong."
        )
    elif counted:
        confidence = Confidence.MEDIUM
    finding = RULE.finding(
        severity=severity,
        confidence=confidence,
        layers=stale,
        title=f"{plural(len(stale), 'batch norm layer')} {_were(stale)} never updated",
        detail=detail,
        consequence=consequence,
        fix=fix,
        evidence=(
            Evidence("running_mean in every channel", 0.0, 0.0, channels),
            Evidence("running_var in every channel", 1.0, 1.0, channels),
            Evidence("num_batches_tracked", 0.0 if count_known else "absent", 0.0, len(stale)),
        ),
        discriminator="trained",
    )
    if copy is not None:
        return finding
    paths = [n.path for n in stale]
    if (trace := subject.gradients(paths)) is not None:
        return told_by_optimizer(finding, trace)
    biases = subject.biases(paths)
    return finding if biases is None else told_by_biases(finding, biases)


def _unseen(layers: list[NormLayer], *, took_part: bool) -> Finding:
    """Observation normalizers have no γ and β that could show more.

    Args:
        layers: At 0 and 1.
        took_part: Whether the file shows that the model was trained. A new one reads the same.
    """
    return RULE.finding(
        severity=Severity.WARNING if took_part else Severity.INFO,
        confidence=Confidence.MEDIUM,
        layers=layers,
        title=f"{plural(len(layers), 'observation norm')} {_were(layers)} never updated",
        detail="The mean is 0 and the spread 1 in all channels: no observation was counted.",
        consequence=(
            "The policy is given raw observations. If it was trained with a normalizer, its "
            "statistics were lost, and it acts otherwise than it learned to."
        ),
        fix="load the normalizer's state with the policy's; save both",
        discriminator="observations",
    )


def _what_trained(stale: Sequence[NormLayer]) -> str:
    affine = any(n.weight is not None for n in stale)
    return "γ and β were" if affine else "the model around them was"


def _fresh(fresh: list[NormLayer], *, everything: bool) -> Finding:
    affine = any(n.weight is not None for n in fresh)
    untouched = "they have no γ and β that could show more"
    if affine:
        ones = all(n.weight is None or n.affine_at_initial_values for n in fresh)
        untouched = "γ is 1 and β 0 as well" if ones else "γ and β show no training either"
    return RULE.finding(
        severity=Severity.INFO,
        confidence=Confidence.MEDIUM,
        layers=fresh,
        title=f"{plural(len(fresh), 'batch norm layer')} {_were(fresh)} never trained or run",
        detail=f"running_mean is 0, running_var 1, no batch counted, and {untouched}.",
        consequence=(
            "A freshly initialised model: it has nothing to predict with yet."
            if everything
            else "Harmless where these layers are new or unused; if the model runs them, their "
            "output is not normalised in eval mode."
        ),
        fix="train the model, or load its trained weights before saving",
        discriminator="fresh",
    )


def _were(layers: Sequence[NormLayer]) -> str:
    return "was" if len(layers) == 1 else "were"


def _copy_with_statistics(subject: Subject, stale: Sequence[NormLayer]) -> str | None:
    """Where the file has a second copy whose layers of the same names have statistics."""
    wanted = {(n.path.removeprefix("module."), n.features) for n in stale}
    for sibling in subject.siblings:
        there = {
            (n.path.removeprefix("module."), n.features)
            for n in sibling.layers
            if n.has_statistics and not n.at_initial_values
        }
        if wanted <= there:
            return sibling.where or "the other model"
    return None


RULE = Rule(
    code="NC101",
    name="never-updated-stats",
    summary="running statistics still at 0 and 1, no batch counted",
    severity=Severity.ERROR,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
