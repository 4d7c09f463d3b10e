"""Running statistics that are still partly their initial values.

## What it does
After n updates with momentum m, the share `(1 - m)^n` of a running statistic is still the
initial 0 or 1. This follows from the update rule and needs no data: 5 batches at momentum
0.1 leave 59 %, 22 leave 10 %, 44 leave 1 %. Layers with more than 1 % left are reported.

## Why is this bad?
In eval mode the layer normalises with statistics that are pulled towards 0 and 1, so its
outputs are shifted and scaled against what the next layers were trained on.

## How severe
A warning above 1 %, an error above 10 %, and where more than half of the variances is that rest.
Info where no γ or β of the model was ever trained:
a dry run of a new model, which gives lazy layers their size. A state dict does not hold the
momentum: torch's default of 0.1 is assumed then, and the confidence is medium.

## Stays silent
- where any channel's variance lies below the residue: a batch variance is never negative, so
  count and statistics then have different histories (converted weights, PreciseBN, an EMA),
  and no count of the model is believed;
- for `momentum=None`, a plain average that keeps nothing of its initial value;
- for statistics of exactly 0 and 1, which are `never-updated-stats` or `reset-stats`.

A file that does not hold the momentum may show another than 0.1: where the smallest variances of a
quarter of the layers stand just above `(1 - p)^n` for a p that libraries use (0.05 to 0.001), and
their means are `1 - (1 - p)^n` of what the weights predict, these layers are reported with that p.

Info where the weights acquit: they predict the means of the next norm, and with a share r of
the initial value in them the stored means would be (1 - r) times what is predicted. Where they
are not, within the precision of the prediction, the count belongs to another history:
`torch.optim.swa_utils.update_bn` counts one pass and averages without a residue,
`AveragedModel(use_buffers=True)` leaves the count at 1, an EMA leaves it behind. Weights are not
asked where the variances show what the count tells: in most layers the smallest stands just above
r, and half of the median one is r. A wrong activation would make up for the missing means.

Info, too, in averaged weights (`n_averaged` in the file) of which the weights tell neither: their
count is that of one pass of `update_bn`, or none of updates at all.

Where the same file shows a training of more than twice as many steps, they did not update these
layers. The optimizer's averages of gradients then tell which statistics the last steps used. The
stored ones: trained in eval mode, a warning, and no repair helps. Those of the batch: count and
statistics began anew. Without them both readings are said, as a warning. In a file without an
optimizer biases right before norms tell: they move as β does only in training with stored
statistics, as after a validation that calls `model.eval()` and no `model.train()` behind it.

## What to do
Run more batches in train mode: forward passes suffice, the weights need not change. Or let
`normcheck fix` re-estimate from data. Where count and momentum are known, the residue can also
be taken out without any, mean/(1 - r) and (var - r)/(1 - r): `normcheck fix --unwarm`.

## Example
    model = Net()                                  # pretrained weights, new batch norms
    for x, y in first_five_batches: train_step(x, y)
    torch.save(model.state_dict(), "model.pt")     # 59 % of each statistic is still 0 or 1
"""

from collections.abc import Iterator
from dataclasses import replace

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.norms.layer import NormLayer
from normcheck.norms.traces.gradient_trace import Used
from normcheck.rules.evidence.common_factor import Contradiction, residue_contradicted
from normcheck.rules.evidence.count_and_clock import Lag, lag
from normcheck.rules.evidence.floors import Floor, standing_on_a_floor
from normcheck.rules.evidence.initial_stats import (
    FIX_TRAINED,
    FIX_UNTOLD,
    FROZEN,
    bias_evidence,
    bias_sentence,
    told_of,
    went_on_in_eval_mode,
)
from normcheck.rules.evidence.residue import (
    WARNING_RESIDUE,
    carried_by_variances,
    enough,
    of_variances,
    residue,
)
from normcheck.rules.evidence.signs_of_training import never_trained
from normcheck.rules.option import Option
from normcheck.rules.rule import (
    Need,
    Rule,
    Subject,
    assumed_momentum,
    count_is_trusted,
)
from normcheck.wording import number, percent, plural

SLOW = 0.01
"""Momentum of TensorFlow's layers, which ports of their models keep."""
MAX_RESIDUE = Option(
    "max-residue",
    WARNING_RESIDUE,
    "share",
    "share of the initial value above which a layer is reported",
    most=1.0,
)
MUCH, MOST = 0.2, 0.5
"""Shares of a layer's stored variances, by the median channel, that the initial 1 makes up, for a
finding and for an error: outputs are then a tenth, and nearly a third, too small."""
# A tenth shifts a typical channel by a tenth of its own mean.
ERROR_RESIDUE = Option(
    "error-residue", 0.1, "share", "share above which the finding is an error", most=1.0
)


def check(subject: Subject) -> Iterator[Finding]:
    """Layers whose count leaves more than one percent of the initial value."""
    norms = subject.batch_norms()
    most = subject.value(MAX_RESIDUE)
    left = [(n, r, of_variances(n, r)) for n in norms if (r := residue(n)) is not None]
    cold = [(n, r, share) for n, r, share in left if r > most or share > max(MUCH, most)]
    if not cold or not count_is_trusted(norms):
        # Layers apart may be of another momentum, and have another history than the rest.
        floor = standing_on_a_floor(norms, subject.anatomy.agreement)
        if floor is not None:
            yield _slow(floor, most)
        return
    agreement = subject.anatomy.agreement
    asked = None if carried_by_variances(cold) else agreement
    against = residue_contradicted(asked.likely, residue) if asked else None
    if against is not None:
        yield _acquitted(subject, [n for n, _, _ in cold], against)
        return
    layers = [n for n, _, _ in cold]
    worst = max(r for _, r, _ in cold)
    narrow, _, share = max(cold, key=lambda one: one[2])
    fewest = min(n.batches.value for n in layers if n.batches is not None)
    known = all(assumed_momentum(n)[1] for n in layers)
    rates = sorted({m for n in layers if isinstance(m := assumed_momentum(n)[0], float)})
    momentum = f"momentum {', '.join(f'{m:g}' for m in rates)}"
    libraries = sorted({n.momentum_of for n in layers if n.momentum_of})
    if libraries:
        momentum += f" (the default of {', '.join(libraries)}; a state dict does not hold it)"
    elif not known:
        momentum += " (assumed: a state dict does not hold it)"
    error = subject.value(ERROR_RESIDUE)
    wrong = worst > error or share > max(MOST, error)
    severity = Severity.ERROR if wrong else Severity.WARNING
    title = f"{plural(len(layers), 'layer')} saw too few batches: "
    narrow_ones = ""
    if share > max(MUCH, 2 * worst):
        title += f"{percent(share)} of the variances is still the initial value"
        narrow_ones = (
            f" Variances are small here: in {narrow.path} that rest is {percent(share)} of what is "
            f"stored, which is {1 / (1 - min(share, 0.99)):.1f} times what the batches had."
        )
    else:
        title += f"{percent(worst)} is still the initial value"
    consequence = (
        "In eval mode means are too small and variances pulled towards 1, so outputs are "
        "shifted and scaled against what training showed."
    )
    if never_trained(subject):
        severity = Severity.INFO
        consequence = "None yet: γ and β are as initialised, so the model was run but not trained."
    found = RULE.finding(
        severity=severity,
        confidence=Confidence.HIGH if known else Confidence.MEDIUM,
        layers=layers,
        title=title,
        detail=(
            f"After {plural(int(fewest), 'batch')} at {momentum}, "
            f"(1 - m)^n = {percent(worst)} of running_mean is still 0 and of running_var still 1."
            + narrow_ones
            + _at_slow(fewest, told=known or bool(libraries))
        ),
        consequence=consequence,
        fix=(
            "run forward passes over training data in train mode until some "
            f"{max(enough(*one) for one in cold)} batches are counted, or re-estimate with "
            "normcheck fix (--data, or --unwarm without any data)"
        ),
        evidence=(
            Evidence("residue of the initial value", worst, most, len(layers)),
            Evidence("share of the initial value in running_var", share, MUCH, len(layers)),
            Evidence("num_batches_tracked", fewest, None, len(layers)),
        ),
    )
    if severity is Severity.INFO:
        yield found
        return
    if subject.anatomy.averages:
        yield _averaged(found, subject.anatomy.averages)
        return
    behind = lag(subject, layers)
    if behind is None:
        yield _by_biases(subject, found, fewest)
    else:
        yield _in_a_long_training(subject, found, behind)


def _averaged(found: Finding, averages: float) -> Finding:
    """The finding in averaged weights: their count is seldom one of updates at a momentum."""
    return replace(
        found,
        severity=Severity.INFO,
        confidence=Confidence.LOW,
        detail=(
            f"{found.detail} But the file's n_averaged is {averages:,.0f}: of averaged weights "
            "update_bn counts one pass and averages plainly, which leaves nothing of the initial "
            "value, and AveragedModel(use_buffers=True) leaves the count at 1."
        ),
        consequence="None if it was one of these two. The file alone cannot tell.",
        fix="if update_bn was never called, call it on the training data, or use normcheck fix",
        discriminator="averaged",
    )


def _by_biases(subject: Subject, found: Finding, batches: float) -> Finding:
    """The finding, by what biases before norms show of the training that followed.

    Few batches are counted as well where a validation calls ``model.eval()`` and nothing calls
    ``model.train()`` after it. No optimizer in the file tells, but such biases do.
    """
    trace = subject.biases(found.layers)
    if trace is None:
        return replace(found, fix=f"{found.fix}; {_ELSE}")
    said = f"{found.detail} {bias_sentence(trace)}"
    if trace.used is Used.BATCH:
        return replace(found, detail=said)
    return replace(
        found,
        severity=Severity.WARNING,
        title=went_on_in_eval_mode(batches),
        detail=said,
        consequence=_WITH_STORED,
        fix=FIX_TRAINED,
        evidence=(*found.evidence, *bias_evidence(trace)),
        discriminator="trained in eval mode",
    )


_ELSE = (
    "but if training went on after them in eval mode (model.eval() for a validation, and no "
    "model.train() after it), the weights belong to these statistics: train again"
)


def _in_a_long_training(subject: Subject, found: Finding, behind: Lag) -> Finding:
    """The finding, where the file shows that most steps did not update these layers."""
    trace = subject.gradients(found.layers)
    said = " ".join([found.detail, behind.sentence, *([told_of(trace)] if trace else [])])
    if trace is not None and trace.used is Used.BATCH:
        cause = "Their count and statistics began anew near the end, or came from elsewhere."
        return replace(found, detail=f"{said} {cause}")
    if trace is None:
        return replace(
            found, severity=Severity.WARNING, detail=said, consequence=_UNTOLD, fix=FIX_UNTOLD
        )
    count = len(found.layers)
    after = plural(behind.counted, "batch")
    return replace(
        found,
        severity=Severity.WARNING,
        title=f"{plural(count, 'layer')} {'was' if count == 1 else 'were'} trained in eval mode "
        f"after {after}",
        detail=said,
        consequence=_WITH_STORED,
        fix=FIX_TRAINED,
        discriminator="trained in eval mode",
    )


_WITH_STORED = (
    "The weights were trained for these statistics: eval mode predicts as it was trained, and "
    f"re-estimating would ruin it. {FROZEN}"
)
_UNTOLD = (
    "Either the model was trained in eval mode after these batches: then it predicts in eval mode "
    "as it was trained, and re-estimating would ruin it. Or the count and the statistics began "
    f"anew: then means are too small and variances pulled towards 1. {FROZEN} The file alone "
    "cannot tell."
)


def _slow(floor: Floor, most: float) -> Finding:
    """Layers that were built with another momentum than torch's, and warmed up by far less."""
    low, high = floor.smallest
    return RULE.finding(
        confidence=Confidence.MEDIUM,
        layers=floor.layers,
        title=(
            f"{plural(len(floor.layers), 'layer')} saw too few batches for momentum "
            f"{floor.momentum:g}: {percent(floor.share)} is still the initial value"
        ),
        detail=(
            f"After {plural(floor.batches, 'batch')} at that momentum no variance lies below "
            f"{number(floor.share)}, and the smallest of these layers are {number(low)} to "
            f"{number(high)}. Their means are {floor.factor:.2f} of what the weights predict, as "
            f"that share makes them ({1 - floor.share:.2f}). A state dict does not hold the "
            "momentum; at 0.1 nothing would be left."
        ),
        consequence=(
            "In eval mode means are too small and variances pulled towards 1, so outputs are "
            "shifted and scaled against what training showed."
        ),
        fix="train longer, use a larger momentum, or re-estimate on training data (normcheck fix)",
        evidence=(
            Evidence("residue of the initial value", floor.share, most, len(floor.layers)),
            Evidence("stored over predicted means", floor.factor, 1 - floor.share),
        ),
        discriminator="other momentum",
    )


def _at_slow(batches: float, *, told: bool) -> str:
    """What it would be at the other momentum that many libraries build their norms with."""
    if told:
        return ""
    left = percent((1 - SLOW) ** batches)
    return (
        f" At momentum {SLOW:g}, which many libraries have, it would be {left}; a plain average, "
        "as update_bn takes it, would leave nothing."
    )


def _acquitted(subject: Subject, layers: list[NormLayer], against: Contradiction) -> Finding:
    """The count accuses, the weights acquit: statistics that were averaged, not updated."""
    fewest = min(n.batches.value for n in layers if n.batches is not None)
    left = max(r for n in layers if (r := residue(n)) is not None)
    averages = subject.anatomy.averages
    known = f" The file's n_averaged is {averages:,.0f}." if averages else ""
    return RULE.finding(
        severity=Severity.INFO,
        confidence=Confidence.MEDIUM,
        layers=layers,
        title=f"few batches are counted in {plural(len(layers), 'layer')}, and nothing is missing",
        detail=(
            f"{plural(int(fewest), 'batch')} at momentum 0.1 would leave {percent(left)} of the "
            f"initial value, and means that are {against.expected:.2f} of what the weights "
            f"predict. They are {against.factor:.2f} of it in {plural(against.links, 'layer')}: "
            f"the statistics were averaged, or copied with the count of something else.{known}"
        ),
        consequence="None: the weights vouch for the statistics.",
        fix="nothing; averages over buffers and update_bn count like this",
        evidence=(
            Evidence(
                "stored over predicted means", against.factor, against.expected, against.links
            ),
            Evidence("num_batches_tracked", fewest, None, len(layers)),
        ),
        discriminator="acquitted",
    )


RULE = Rule(
    code="NC103",
    name="under-warmed-stats",
    summary="too few batches: part of the initial 0 and 1 is left",
    severity=Severity.ERROR,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
    options=(MAX_RESIDUE, ERROR_RESIDUE),
)
