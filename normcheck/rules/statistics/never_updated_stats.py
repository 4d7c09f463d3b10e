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
- **Trained in eval mode throughout**: `model.eval()` was called before training, or the
  layers were frozen from the first step. Eval mode then predicts as it was trained, and
  re-estimating the statistics would ruin it.

Statistics folded into weight and bias look the same, most often without a count.

## How severe
A warning. An error where the file itself shows the loss: a copy of the model in the same
file has real statistics, or other layers counted batches while these trained layers counted
none. Info where γ and β are untouched too: a model, or a layer, that was never trained. β
is the witness there, as some initialisations draw γ at random.

## What to do
Compare accuracy (or loss) on a few labelled batches in eval mode and with the batch norms in
train mode. Where eval mode is worse, re-estimate the statistics on training data:
`normcheck fix` does both, and writes a repaired copy only where that helps. Where eval mode is
better, keep the file as it is and ignore this finding with that reason.

## Example
    model = Net()
    model.load_state_dict(dict(trained.named_parameters()), strict=False)  # no buffers!
    torch.save(model.state_dict(), "model.pt")  # running statistics are still 0 and 1
"""

from collections.abc import Iterator, Sequence

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.norms.kinds import Family
from normcheck.norms.layer import NormLayer
from normcheck.rules.rule import Need, Rule, Subject, affine_untouched, never_trained
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """Layers at 0/1 without a count, apart by whether they were ever trained."""
    norms = [n for n in subject.batch_norms() if n.kind.family is not Family.FROZEN_BATCH]
    stale = [n for n in norms if n.at_initial_values and not (n.batches and n.batches.value > 0)]
    trained: list[NormLayer] = []
    if not never_trained(subject):
        trained = [n for n in stale if n.weight is not None and not affine_untouched(n)]
    if subject.optimizer_steps or trained:
        # Without affine parameters a layer shows no training of its own; with trained
        # layers or an optimizer beside it, it took part.
        trained = [n for n in stale if not affine_untouched(n)]
    fresh = [n for n in stale if n not in trained]
    if trained:
        yield _never_updated(subject, trained, [n for n in norms if n not in stale])
    if fresh:
        yield _fresh(fresh, everything=len(fresh) == len(norms))


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
    consequence = (
        "In eval mode these layers do not normalise. If the statistics were lost, predictions "
        "are wrong; if the model was trained in eval mode throughout, it predicts as trained "
        "and re-estimating would ruin it. The file alone cannot tell."
    )
    if subject.optimizer_steps:
        detail += f" The optimizer in this file counted {subject.optimizer_steps:,} steps."
    if copy is not None:
        severity = Severity.ERROR
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
    return RULE.finding(
        severity=severity,
        confidence=confidence,
        layers=stale,
        title=f"{plural(len(stale), 'batch norm layer')} {_were(stale)} never updated",
        detail=detail,
        consequence=consequence,
        fix=(
            "compare accuracy in eval mode and with batch statistics on a few labelled batches; "
            "where eval is worse, re-estimate on training data (normcheck fix does both)"
        ),
        evidence=(
            Evidence("running_mean in every channel", 0.0, 0.0, channels),
            Evidence("running_var in every channel", 1.0, 1.0, channels),
            Evidence("num_batches_tracked", 0.0 if count_known else "absent", 0.0, len(stale)),
        ),
        discriminator="trained",
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
