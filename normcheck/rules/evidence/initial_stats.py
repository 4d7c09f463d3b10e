"""The two histories of statistics at 0 and 1, their words and their fixes.

Lost: the weights were trained on normalised activations, re-estimating heals eval mode. Trained
with them: ``model.eval()`` before every epoch, the layers never normalised, and no statistics
can be better for these weights than 0 and 1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.norms.traces.bias_trace import TOGETHER
from normcheck.norms.traces.bias_trace import VANISHED as BIASES_VANISHED
from normcheck.norms.traces.gradient_trace import (
    ALIVE,
    ORTHOGONAL,
    VANISHED,
    GradientTrace,
    Used,
)
from normcheck.wording import number, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normcheck.norms.traces.bias_trace import BiasTrace

TRAIN_MODE = "put model.train() at the start of each epoch"
FROZEN = (
    "Norms frozen from scratch on purpose read the same: ignore this finding for them, with that "
    "reason (per-layer-ignores)."
)
FIX_TRAINED = (
    f"{TRAIN_MODE} (model.eval() belongs around validation only) and train again; no repair of "
    "this file can help"
)
FIX_LOST = (
    "re-estimate the statistics on training data: normcheck fix, with --model and --data, writes "
    "a repaired copy"
)
FIX_UNTOLD = (
    "scan with --model and labelled --data, which tells the two apart; if the statistics were "
    f"lost, normcheck fix re-estimates them on training data; if not, {TRAIN_MODE} and train again"
)
UNTOLD = (
    "In eval mode these layers do not normalise. Either the statistics were lost on the way: then "
    "predictions are wrong, and re-estimating heals them. Or the model was trained in eval mode "
    f"throughout, without model.train(): then no repair of the file helps. {FROZEN} "
    "The file alone cannot tell."
)
_BATCH = (
    "The optimizer in this file shows that these layers normalised by the batch while training: "
)
_STORED = (
    "The optimizer in this file shows that these layers used the stored 0 and 1 while training: "
)


def trained_in_eval(finding: Finding, evidence: str, effect: str, severity: Severity) -> Finding:
    """The finding, where it is known that the weights were trained with 0 and 1.

    Args:
        finding: On layers at 0 and 1.
        evidence: By what that is known, one sentence or more.
        effect: What it does to predictions, one sentence or more.
        severity: By the harm.
    """
    count = len(finding.layers)
    were = "was" if count == 1 else "were"
    return replace(
        finding,
        severity=severity,
        confidence=Confidence.HIGH,
        title=f"{plural(count, 'batch norm layer')} {were} trained in eval mode throughout",
        detail=f"{finding.detail} {evidence}",
        consequence=f"These layers never normalised while training. {effect} {FROZEN}",
        fix=FIX_TRAINED,
    )


def trained_on_in_eval(finding: Finding) -> Finding:
    """A finding on few batches, where labels show that the weights were trained for what they left.

    Nobody freezes norms after so few: that is ``model.eval()`` for the first validation, and no
    ``model.train()`` after it.
    """
    counts = (e.value for e in finding.evidence if e.name == "num_batches_tracked")
    batches = [count for count in counts if isinstance(count, int | float)]
    return replace(
        finding,
        severity=Severity.WARNING,
        confidence=Confidence.HIGH,
        title=went_on_in_eval_mode(batches[0]) if batches else "training went on in eval mode",
        consequence=(
            "Your labels speak for the stored statistics, so the weights were trained for them: "
            "re-estimating would make predictions worse, and no layer normalised by its batch in "
            "that time. "
            f"(One-sided data would look the same.) {FROZEN}"
        ),
        fix=FIX_TRAINED,
        discriminator="trained in eval mode",
    )


def lost(finding: Finding, evidence: str, consequence: str) -> Finding:
    """The finding, where it is known that the statistics were lost."""
    return replace(
        finding,
        severity=Severity.ERROR,
        confidence=Confidence.HIGH,
        detail=f"{finding.detail} {evidence}",
        consequence=consequence,
        fix=FIX_LOST,
    )


def told_by_optimizer(finding: Finding, trace: GradientTrace) -> Finding:
    """The finding in the light of an optimizer's averages of gradients."""
    finding = replace(finding, evidence=(*finding.evidence, *_evidence(trace)))
    if trace.used is Used.BATCH:
        return lost(
            finding,
            _BATCH + _numbers(trace),
            "The statistics were lost after training: in eval mode these layers do not normalise, "
            "and predictions are wrong.",
        )
    told = trained_in_eval(
        finding,
        _STORED + _numbers(trace),
        "What the model learned, it learned without them; deep models learn nothing.",
        Severity.WARNING,
    )
    if trace.adjacent:
        return told
    unless = (
        " That holds unless an activation or a dropout stands between each of these layers and "
        "its norm, which the names do not tell."
    )
    return replace(told, confidence=Confidence.MEDIUM, detail=told.detail + unless)


def told_by_biases(finding: Finding, trace: BiasTrace) -> Finding:
    """The finding in the light of the biases before its norms."""
    finding = replace(finding, evidence=(*finding.evidence, *bias_evidence(trace)))
    if trace.used is Used.BATCH:
        return lost(
            finding,
            bias_sentence(trace),
            "The statistics were lost after training: in eval mode these layers do not normalise, "
            "and predictions are wrong.",
        )
    told = trained_in_eval(
        finding,
        f"{bias_sentence(trace)} That holds unless only the end of training was in eval mode, and "
        "the statistics that it used were lost later.",
        "What the model learned, it learned without them; deep models learn nothing.",
        Severity.WARNING,
    )
    return replace(told, confidence=Confidence.MEDIUM)


def went_on_in_eval_mode(batches: float) -> str:
    """The title of a finding, where biases show it: ``batches`` were counted until then."""
    return f"training went on in eval mode after {plural(int(batches), 'batch')}"


def bias_sentence(trace: BiasTrace) -> str:
    """What the biases before some norms show of their training."""
    norms = plural(len(trace.layers), "norm")
    if trace.used is Used.BATCH:
        return (
            f"The biases right before {norms} have shrunk to {number(trace.spread)} of β or less: "
            "weight decay alone acted on them, as in training the mean of the batch was taken "
            "away, and they with it."
        )
    return (
        f"The biases right before {norms} moved as β did (rank correlation "
        f"{trace.correlation:.2f}, in {trace.channels} channels {trace.errors:.1f} standard errors "
        "from 0): they do so only in training with the stored statistics, in eval mode or frozen."
    )


def bias_evidence(trace: BiasTrace) -> Sequence[Evidence]:
    """The number that it rests on."""
    if trace.used is Used.BATCH:
        name, value, most = "spread of biases over that of β", trace.spread, BIASES_VANISHED
    else:
        name, value, most = (
            "biases rank channels as β, standard errors",
            trace.errors,
            TOGETHER,
        )
    return (Evidence(name, value, most, trace.channels),)


def told_of(trace: GradientTrace) -> str:
    """What an optimizer's averages of gradients show of the last steps, a sentence."""
    used = "batch" if trace.used is Used.BATCH else "stored"
    shows = f"The optimizer shows that these layers used {used} statistics in the last steps: "
    return shows + _numbers(trace)


def _numbers(trace: GradientTrace) -> str:
    if trace.ratios:
        low, high = min(trace.ratios), max(trace.ratios)
        span = number(low) if low == high else f"{number(low)} to {number(high)}"
        means = (
            "the batch's mean was taken away, and the bias with it"
            if trace.used is Used.BATCH
            else "nothing took the mean of the batch away"
        )
        return (
            f"the averaged gradient of the bias before each of {plural(len(trace.ratios), 'norm')} "
            f"is {span} of its weight's, and {means}."
        )
    return (
        "the averaged gradient is orthogonal to the filters before "
        f"{plural(len(trace.cosines), 'norm')} (|cos|·√n up to {number(max(trace.cosines))}), as "
        "it is only where their length does not matter."
    )


def _evidence(trace: GradientTrace) -> Sequence[Evidence]:
    if trace.ratios:
        batch = trace.used is Used.BATCH
        value = max(trace.ratios) if batch else min(trace.ratios)
        name = "averaged gradient of the bias over its weight's"
        return (Evidence(name, value, VANISHED if batch else ALIVE, len(trace.ratios)),)
    name = "|cos|·√n of averaged gradient and filter"
    return (Evidence(name, max(trace.cosines), ORTHOGONAL, len(trace.cosines)),)
