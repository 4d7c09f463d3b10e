"""Running statistics that do not belong to the weights.

## What it does
Behind a norm with scale γ and shift β every channel is close to N(β, γ²), whatever the data is.
Through the activation and the weights that follow, this predicts the mean of the next norm's
input: no data, no code of the model, only numbers of the file. Where the next norm's stored
statistics have nothing to do with that prediction, they were not collected with these weights.

The fraction of the stored means that the weights explain is 0.9 to 1 in healthy models (1 is
perfect, 0 as good as predicting nothing, below 0 worse). Reported are
- models in which hardly any layer's statistics fit: those of another model or of a far-off
  point of training, permuted channels;
- slips that fit once they are put back: mean and variance swapped, mean and β swapped, means of
  the wrong sign, inverses in the place of variances;
- models in which weights explain but the level that all channels of a layer share, and in three
  layers or more not which channel has which mean: channels in another order;
- models whose means follow the weights by a wrong common factor: other units. The ratio of
  variances says nothing of the kind, as it depends on how inputs correlate;
- models whose variances all stand on one floor: part of the initial value is left;
- single layers that do not fit, where layers at the same place of other blocks do;
- single readings that no healthy model reaches: means off by the median more than a quarter of a
  deviation, variances too small or unlike the weights, one certain link that does not fit, and a
  first norm whose means or variances no input explains (it has one unknown for each input
  channel, and an equation for each output channel; its variances must follow its kernels).
  Two that agree raise the confidence;
- variances that do not spread as the weights of two layers make them: deviations in their place
  have half the spread of logarithms, inverses fall where they should rise;
- variances of another size than the weights of two layers make under any input that suits their
  shape: other units, also where another activation would explain the size of the means;
- norms behind a ReLU whose mean and variance together are none that a ReLU leaves: either alone
  in other units, part of the initial value, deviations or inverses; both, where they follow the
  weights closely by one factor;
- an averaged copy with the statistics of the raw one in the same file, bit for bit, whose weights
  explain them clearly worse than the raw ones do;
- means that are too small since averages in bfloat16 stop before they arrive, named as that;
- norms over channels that grow by concatenation, as in dense networks: two of them store the
  statistics of the same values, and must agree.

## Why is this bad?
Eval mode normalises with the wrong numbers, and predictions are wrong. Nothing else in the file
shows it: every single value looks plausible.

## How severe
An error where links inside blocks are certain and unrelated to the statistics, or where values
fit once they are put back; a warning otherwise.

## Stays silent
- where a stronger statement explains the mismatch: values that are exactly 0, 1 or negative, or a
  batch count that leaves more than a tenth of the initial value. One layer has one history, and
  what the weights say then stands with that finding;
- where the weights acquit: means that follow them with a factor of 1 vouch for a layer, whatever
  its variances are, and a batch count that speaks against them is not believed
  (`under-warmed-stats`);
- where fewer than three links are known, unless two stand in an `nn.Sequential`, one is certain and
  clear, or a slip fits beyond chance once it is put back; where their connection is a guess (across
  residual adds, between parallel branches, by names alone in files that keep no order): a false
  link accuses nobody. A model whose norms were registered before their convolutions is read in the
  order that the numbers of channels prove;
- behind scales and shifts that come from outside, as conditioned networks have (FiLM, labels,
  times, learned scales): where tensors of the file make as many values as a norm has channels, from
  what is no activation, and nothing takes them, the links that they may reach accuse nobody.
  Outside an `nn.Sequential` they may stand between any two norms of their module;
- where any likely activation has a factor near 1: thirteen are tried, and the factor accuses
  only if none of those that fit about as well explains it;
- for taps that see no image: on maps of 1 to 8 pixels, as networks for large images have at the end
  on small ones, means and variances are predicted from the taps that meet the map; what cannot be
  known there, as the factor behind a depthwise convolution, accuses nobody;
- where a pooling may stand between weights and norm, and explains the means: a max pooling raises
  all of a layer by about the same share of their deviations, an average pooling behind a ReLU
  leaves means and divides variances. In an `nn.Sequential` numbers tell whether there is room;
- where predicted and stored variances still go together: then the link is false, not the
  statistics;
- as a warning, where the biases right before norms have moved as β did, by more than four standard
  errors: they do so only in training with stored statistics. Norms were frozen, or in eval mode,
  for a part of it, and the weights were trained for statistics that no longer fit them. It is a
  note then, but where the batches before that are so few that nobody freezes norms after them:
  that is `model.eval()` for the first validation, and no `model.train()` after it;
- where square weights fit as those of a transposed convolution; the module tree decides where
  there is one, as it does for the activation;
- where the batch count says already that part of the initial value is left
  (`under-warmed-stats`);
- for large variances beside means that are far smaller than a ReLU leaves in some layer: inputs
  with heavy tails make both, and so does a SiLU;
- for small differences: averaged weights (SWA, EMA) a little ahead of their buffers fit almost
  as well as healthy ones, and near-initial γ and β leave open whether a factor or another
  activation stands behind means that are a quarter too small. Only data can tell there.

## What to do
Find the checkpoint from which weights and buffers come together, or re-estimate the statistics
with these weights on training data (`torch.optim.swa_utils.update_bn`).

## Example
    state = new.state_dict()
    state |= {k: v for k, v in old.state_dict().items() if "running" in k}
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.norms.belonging.fit import Fit
from normcheck.norms.layer_numbers import median
from normcheck.norms.traces.gradient_trace import Used
from normcheck.norms.weights_budget import BEYOND
from normcheck.rules.evidence.belonging_evidence import readings
from normcheck.rules.evidence.cause import Cause
from normcheck.rules.evidence.copied_statistics import APART, TIMES, Copied, copied_statistics
from normcheck.rules.evidence.evidence_apart import Indication
from normcheck.rules.evidence.exchanged_values import exchanged
from normcheck.rules.evidence.initial_stats import (
    TRAIN_MODE,
    bias_evidence,
    bias_sentence,
    went_on_in_eval_mode,
)
from normcheck.rules.evidence.mismatch_causes import (
    FOLLOWS,
    LEFT_OPEN,
    TOO_LARGE,
    TOO_SMALL,
    UNCORRELATED,
    UNEXPLAINED,
    drifted,
    odd_layers,
    whole_model,
)
from normcheck.rules.evidence.residue import WARNING_RESIDUE, residue
from normcheck.rules.evidence.stopped_averages import FACTORS, named_as_stopped
from normcheck.rules.rule import CannotTell, Need, Rule, Subject, count_is_trusted
from normcheck.wording import number, percent, plural

if TYPE_CHECKING:
    from normcheck.norms.traces.bias_trace import BiasTrace

FEWEST_LINKS = 3
FEWEST_CHANNELS = 64
"""Below these, an accident of a few channels could look like a fault."""


def check(subject: Subject) -> Iterator[Finding]:
    """What does not fit, and whether the weights were trained on with these very statistics."""
    for finding in _stated(subject):
        if FACTORS & set(finding.discriminator.split(", ")):
            layers, factor = subject.with_statistics(), _middle_factor(subject)
            finding = named_as_stopped(finding, layers, factor)  # noqa: PLW2901  (one statement)
        if finding.discriminator in _SLIPS:
            yield finding
            continue
        trace = subject.biases([n.path for n in subject.layers])
        if trace is None or trace.used is not Used.STORED:
            yield finding
        else:
            yield _trained_with(finding, trace, _most_batches(subject))


def _most_batches(subject: Subject) -> float | None:
    """The largest count of batches; None where one is missing or not to be believed."""
    counts = [layer.batches for layer in subject.with_statistics()]
    if not counts or any(count is None or not count.whole for count in counts):
        return None
    return max(count.value for count in counts if count is not None)


_SLIPS = frozenset({"swapped", "mean and bias", "sign", "inverse", "copied", "layers"})
"""Mismatches that no way of training leaves."""


FEW_BATCHES = 1_000
"""Batches before norms are frozen on purpose: whoever does that has trained them, for epochs."""


def _trained_with(finding: Finding, trace: BiasTrace, batches: float | None) -> Finding:
    """A mismatch that training with frozen statistics leaves: the weights moved, they did not."""
    told = replace(
        finding,
        detail=f"{bias_sentence(trace)} The weights have left the statistics behind: "
        f"{finding.detail.removesuffix(LEFT_OPEN).rstrip()}",
        evidence=(*finding.evidence, *bias_evidence(trace)),
        discriminator="trained with",
    )
    if batches is not None and 0 < batches < FEW_BATCHES:
        return replace(
            told,
            severity=Severity.WARNING,
            title=went_on_in_eval_mode(batches),
            consequence=(
                "Since then these layers have not normalised while training. The weights were "
                "trained for these statistics, and predict in eval mode as they were trained: "
                "re-estimating would ruin it."
            ),
            fix=(
                "call model.train() at the start of each epoch, since model.eval() for a "
                "validation stays until then, and train again; ignore this where norms were "
                "frozen so early on purpose (per-layer-ignores)"
            ),
        )
    return replace(
        told,
        severity=Severity.INFO,
        title="the weights were trained on with these running statistics standing still",
        consequence=(
            "None by itself: weights that were trained for these statistics predict in eval mode "
            "as they were trained, and re-estimating would ruin it. Statistics that were exchanged "
            "since read the same."
        ),
        fix=(
            "nothing, if the norms were frozen, or in eval mode, for a part of training on "
            "purpose; a scan with --model and labelled --data decides"
        ),
    )


def _stated(subject: Subject) -> Iterator[Finding]:
    """The model as a whole, the single layers that stand out, or what single readings show."""
    agreement = subject.anatomy.agreement
    if not subject.with_statistics():
        return
    against = [r for r in readings(agreement, subject.anatomy.first) if r.speaks]
    likely = agreement.likely if agreement is not None else ()
    channels = sum(fit.stored_mean.size for fit in likely)
    if agreement is None or len(likely) < FEWEST_LINKS or channels < FEWEST_CHANNELS:
        copied = copied_statistics(subject.anatomy, subject.siblings)
        if copied is not None:
            yield _of_another_copy(copied)
            return
        if against:
            yield _of_readings(subject, against)
            return
        if agreement is None:
            return
        sure = tuple(f for f in likely if f.link.recognition.confidence is Confidence.HIGH)
        # What fits once it is put back proves the links as well.
        if (slip := exchanged(sure)) is not None:
            yield _finding(sure, slip, Confidence.MEDIUM)
            return
        beyond = sum(reason == BEYOND for _, reason in agreement.unjudged)
        unread = f"; the weights of {beyond} are beyond --weights-budget" if beyond else ""
        raise CannotTell(
            f"the weights predict too little: {plural(len(likely), 'norm')} of "
            f"{len(subject.with_statistics())}, {plural(channels, 'channel')}{unread}"
        )
    # Links inside blocks are as good as certain: where there are enough, only they count.
    inside = tuple(f for f in likely if f.link.recognition.confidence is Confidence.HIGH)
    certain = len(inside) >= FEWEST_LINKS
    fits = inside if certain else likely
    cause = whole_model(fits)
    if cause is not None and cause.key == "initial value" and _counted_too_few(subject, fits):
        return
    odd, fitting = odd_layers(likely) if cause is None else ([], [])
    if odd:
        yield _finding(odd, _of_layers(odd, fitting), Confidence.MEDIUM)
        return
    cause = cause or drifted(fits)
    if cause is not None:
        yield _finding(likely, cause, Confidence.HIGH if certain else Confidence.MEDIUM)
    elif (copied := copied_statistics(subject.anatomy, subject.siblings)) is not None:
        yield _of_another_copy(copied)
    elif against and not _counted_too_few(subject, fits):
        yield _of_readings(subject, against)


def _middle_factor(subject: Subject) -> float | None:
    """Stored over predicted means, by the median over the links that follow their weights."""
    agreement = subject.anatomy.agreement
    told = [f.slope for f in agreement.likely if f.alignment > FOLLOWS] if agreement else []
    return median(told) if told else None


def _of_another_copy(copied: Copied) -> Finding:
    """An average with the statistics of the raw model beside it."""
    there = f"'{copied.source}'" if copied.source else "the other copy"
    return RULE.finding(
        severity=Severity.WARNING,
        confidence=Confidence.HIGH,
        layers=copied.layers,
        title=f"the running statistics are those of {there}, not of these weights",
        detail=(
            f"running_mean and running_var are {there}'s bit for bit, under other weights. Those "
            f"predict the means to {number(copied.there)} standard deviations by the median, the "
            f"weights of this copy to {number(copied.shift)} only."
        ),
        consequence=(
            "Weights were averaged and the buffers copied from the raw model: in eval mode this "
            "copy normalises with what other weights collected."
        ),
        fix=(
            "average the buffers along with the weights (use_buffers=True), or re-estimate them "
            "for this copy (torch.optim.swa_utils.update_bn, normcheck fix)"
        ),
        evidence=(
            Evidence(
                "distance of means from what the weights predict, in deviations",
                copied.shift,
                max(APART, TIMES * copied.there),
                len(copied.layers),
            ),
        ),
        discriminator="copied",
    )


def _of_readings(subject: Subject, against: Sequence[Indication]) -> Finding:
    """One or more readings that speak against statistics: what each shows, and how sure."""
    paths = {path for reading in against for path in reading.layers}
    several = len({r.key for r in against}) > 1
    return RULE.finding(
        severity=Severity.WARNING,
        confidence=Confidence.HIGH if several else Confidence.MEDIUM,
        layers=[n for n in subject.layers if n.path in paths],
        title="the running statistics and the weights do not go together",
        detail=" ".join(reading.sentence for reading in against),
        consequence="Eval mode normalises with other means or variances than the layers have.",
        fix=_FIX,
        evidence=[
            Evidence(reading.key, reading.value, reading.threshold, len(reading.layers))
            for reading in against
        ],
        discriminator=", ".join(sorted(reading.key for reading in against)),
    )


_FIX = (
    "find the checkpoint where weights and buffers come together, or re-estimate with these "
    "weights on training data (normcheck fix --model … --data …)"
)
_FIX_DRIFTED = (
    f"if training went on in eval mode, {TRAIN_MODE} and train again; if weights moved, {_FIX}; "
    "scan with --model and --data to tell the two apart"
)


def _counted_too_few(subject: Subject, fits: Sequence[Fit]) -> bool:
    """Whether the batch counts tell of the initial value already: one cause, one finding."""
    left = [residue(fit.link.target) or 0.0 for fit in fits] or [0.0]
    return max(left) > WARNING_RESIDUE and count_is_trusted(subject.batch_norms())


def _of_layers(odd: Sequence[Fit], fitting: Sequence[Fit]) -> Cause:
    here, there = (median([f.explained for f in fits]) for fits in (odd, fitting))
    return Cause(
        "layers",
        f"the running statistics of {plural(len(odd), 'layer')} do not belong to the weights",
        f"The weights predict {percent(there)} of the running means of the "
        f"{plural(len(fitting), 'layer')} at the same place of other blocks; in "
        f"{'this one' if len(odd) == 1 else 'these'} {percent(here)}.",
        "In eval mode these layers normalise with wrong numbers.",
        Severity.WARNING,
    )


def _finding(fits: Sequence[Fit], cause: Cause, confidence: Confidence) -> Finding:
    channels = sum(f.stored_mean.size for f in fits)
    severity = cause.severity
    if confidence is not Confidence.HIGH:
        severity = min(severity, Severity.WARNING, key=lambda s: s.rank)
    return RULE.finding(
        severity=severity,
        confidence=confidence,
        layers=[f.link.target for f in fits],
        title=cause.title,
        detail=cause.detail,
        consequence=cause.consequence,
        fix=_FIX_DRIFTED if cause.key == "drifted" else _FIX,
        evidence=(
            Evidence(
                "explained fraction of the running means",
                median([f.explained for f in fits]),
                UNEXPLAINED,
                channels,
            ),
            Evidence(
                "correlation of predicted and stored means",
                median([f.correlation for f in fits]),
                UNCORRELATED,
                channels,
            ),
            Evidence(
                "stored over predicted means",
                median([f.slope for f in fits]),
                f"{TOO_SMALL} to {TOO_LARGE}",
                channels,
            ),
        ),
        discriminator=cause.key,
    )


RULE = Rule(
    code="NC108",
    name="foreign-stats",
    summary="running statistics that do not belong to the weights",
    severity=Severity.ERROR,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
