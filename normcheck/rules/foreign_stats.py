"""Running statistics that do not belong to the weights.

## What it does
Behind a norm with scale γ and shift β every channel is close to N(β, γ²), whatever the data is.
Through the activation and the weights that follow, this predicts the mean of the next norm's
input: no data, no code of the model, only numbers of the file. Where the next norm's stored
statistics have nothing to do with that prediction, they were not collected with these weights.

The fraction of the stored means that the weights explain is 0.9 to 1 in healthy models (1 is
perfect, 0 as good as predicting nothing, below 0 worse). Reported are
- models in which hardly any layer's statistics fit: those of another model or of another
  point of training, permuted channels, mean and variance swapped;
- models whose statistics follow the weights by a wrong common factor: other units;
- models whose variances all stand on one floor: part of the initial value is left;
- single layers that do not fit, where layers at the same place of other blocks do.

## Why is this bad?
Eval mode normalises with the wrong numbers, and predictions are wrong. Nothing else in the file
shows it: every single value looks plausible.

## How severe
An error where links inside blocks are certain and unrelated to the statistics, a warning
otherwise.

## Stays silent
- where fewer than three links are known, or their connection is a guess (across residual adds,
  between parallel branches, in files that keep no order): a false link accuses nobody;
- where predicted and stored variances still go together: then the link is false, not the
  statistics;
- for small differences: averaged weights (SWA, EMA) a little ahead of their buffers fit almost
  as well as healthy ones. Only data can tell there.

## What to do
Find the checkpoint from which weights and buffers come together, or re-estimate the statistics
with these weights on training data (`torch.optim.swa_utils.update_bn`).

## Example
    state = new.state_dict()
    state |= {k: v for k, v in old.state_dict().items() if "running" in k}
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.norms.agreement import Agreement, Fit, agreement_of
from normcheck.norms.layer import Floats, NormLayer, Values
from normcheck.norms.links import Link
from normcheck.rules.rule import CannotTell, Need, Rule, Subject
from normcheck.wording import percent, plural

FEWEST_LINKS = 3
FEWEST_CHANNELS = 64
"""Below these, an accident of a few channels could look like a fault."""
UNEXPLAINED = 0.5
"""Explained fraction below which a layer does not fit. Healthy probable links were measured
from 0.41 (one in 60, all others above 0.7); unrelated statistics reach 0.35."""
UNCORRELATED = 0.5
"""Correlation of predicted and stored means below which they are unrelated."""
ALIVE = 0.3
"""Correlation of predicted and stored log variances above which the statistics do belong to
the weights and only the assumed link is wrong. Unrelated ones stay within ±0.2."""
SMALLEST_LOG_SCALE, LARGEST_LOG_SCALE = -0.9, 2.0
"""log(stored variance / predicted): healthy models have medians from -0.2 to 1.7, since inputs
are correlated and not independent as assumed. A common factor of 3 adds 2.2."""
LARGEST_INSIDE = 1.6
"""The same for links inside blocks, whose medians reach 1.0 in healthy models."""
USUAL_LOG_SCALE = 0.4
FLOOR = 0.2
"""Share of the initial value from which a floor under all variances is looked for."""
FLAT = 1.3
"""Ratio of the median to the smallest of the layers' least variances, when all stand on one
floor. In healthy models these lie decades apart."""
IMPROVED = 0.03
"""Gain in the explained fraction that shows by itself that a floor was in the statistics."""
PEERS_FIT = 0.9
FEWEST_PEERS = 2
LAYER_UNEXPLAINED = 0.3
"""A single layer is accused only when it is clearly off and two peers are clearly right."""


@dataclass(frozen=True, slots=True)
class _Cause:
    """What a pattern suggests."""

    key: str
    title: str
    detail: str
    consequence: str
    severity: Severity


def check(subject: Subject) -> Iterator[Finding]:
    """The model as a whole, or the single layers that stand out."""
    agreement = subject.anatomy.agreement
    if agreement is None or not subject.with_statistics():
        return
    likely = agreement.likely
    channels = sum(fit.stored_mean.size for fit in likely)
    if len(likely) < FEWEST_LINKS or channels < FEWEST_CHANNELS:
        raise CannotTell(
            f"only {plural(len(likely), 'norm')} of {len(subject.with_statistics())} "
            "can be predicted from the norm before"
        )
    cause = _swapped(likely) or _unrelated(likely) or _floor(likely) or _factor(likely)
    if cause is not None:
        certain = sum(f.link.recognition.confidence is Confidence.HIGH for f in likely)
        yield _finding(
            likely, cause, Confidence.HIGH if certain >= FEWEST_LINKS else Confidence.MEDIUM
        )
    else:
        yield from _single_layers(agreement)


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))


def _unrelated(fits: Sequence[Fit]) -> _Cause | None:
    best = float(np.quantile([f.explained for f in fits], 0.75))
    correlation = _median([f.correlation for f in fits])
    alive = _median([f.scale_correlation for f in fits])
    if best >= UNEXPLAINED or correlation >= UNCORRELATED or alive >= ALIVE:
        return None
    return _Cause(
        "unrelated",
        "the running statistics do not belong to the weights",
        f"Predicted from the weights, the means of {plural(len(fits), 'layer')} correlate with the "
        f"stored ones by {correlation:.2f}; in healthy models it is 0.9 or more. Statistics of "
        "another model or of another time of training look like this, and so do mixed-up channels.",
        "Eval mode normalises with the wrong means and variances: predictions are wrong.",
        Severity.ERROR,
    )


def _swapped(fits: Sequence[Fit]) -> _Cause | None:
    if not any((f.stored_variance < 0).any() for f in fits):
        return None
    exchanged = agreement_of(tuple(_with(f, f.stored_variance, f.stored_mean) for f in fits), ())
    now = _median([f.correlation for f in fits])
    if not exchanged.fits:
        return None
    then = _median([f.correlation for f in exchanged.fits])
    if then < max(PEERS_FIT, now):
        return None
    return _Cause(
        "swapped",
        "running_mean and running_var are swapped",
        f"The weights predict what is stored as running_var (correlation {then:.2f}), and not what "
        f"is stored as running_mean ({now:.2f}).",
        "Eval mode subtracts variances and divides by means: predictions are wrong or NaN.",
        Severity.ERROR,
    )


def _floor(fits: Sequence[Fit]) -> _Cause | None:
    least = [float(f.stored_variance.min()) for f in fits]
    floor = min(least)
    if not FLOOR <= floor < 1 or _median(least) > FLAT * floor:
        return None
    # Layers of unit variance have a floor too; taking it out must make the rest fit.
    cleaned = agreement_of(
        tuple(
            _with(f, f.stored_mean / (1 - floor), (f.stored_variance - floor) / (1 - floor))
            for f in fits
        ),
        (),
    ).fits
    before = _median([f.explained for f in fits])
    after = _median([f.explained for f in cleaned]) if cleaned else 0.0
    if after < max(before - 0.01, PEERS_FIT):
        return None
    off = abs(_median([f.log_scale for f in fits]) - USUAL_LOG_SCALE)
    still = abs(_median([f.log_scale for f in cleaned]) - USUAL_LOG_SCALE)
    if after < before + IMPROVED and still > off:
        return None
    return _Cause(
        "initial value",
        f"about {percent(floor)} of the running statistics is still the initial 0 and 1",
        f"The smallest variance is close to {floor:.2f} in each of {plural(len(fits), 'layer')}. "
        "With that much of the initial value taken out, means and variances fit the weights.",
        "Eval mode uses means that are too small and variances pulled towards 1.",
        Severity.WARNING,
    )


def _factor(fits: Sequence[Fit]) -> _Cause | None:
    # Behind a residual add variances are larger than predicted: links inside blocks first.
    inside = [f for f in fits if f.link.recognition.confidence is Confidence.HIGH]
    certain = len(inside) >= FEWEST_LINKS
    fits, largest = (inside, LARGEST_INSIDE) if certain else (fits, LARGEST_LOG_SCALE)
    scales = [f.log_scale for f in fits]
    middle = _median(scales)
    low, high = float(np.quantile(scales, 0.25)), float(np.quantile(scales, 0.75))
    too_small = middle < SMALLEST_LOG_SCALE and high < SMALLEST_LOG_SCALE / 2
    too_large = middle > largest and low > largest / 2
    if not (too_small or too_large) or _median([f.correlation for f in fits]) < UNCORRELATED:
        return None
    factor = float(np.exp((middle - USUAL_LOG_SCALE) / 2))
    times = f"{factor:.1f} times too large" if factor > 1 else f"{1 / factor:.1f} times too small"
    return _Cause(
        "factor",
        "the running statistics are in other units than the weights",
        f"Means follow the weights, but the standard deviations are about {times}, in all of "
        f"{plural(len(fits), 'layer')}. One common factor is a scaling that only one of the two "
        "went through, or decay that was applied to buffers.",
        "Eval mode scales every layer's output wrongly, and the factors multiply with depth.",
        Severity.WARNING,
    )


def _single_layers(agreement: Agreement) -> Iterator[Finding]:
    """Layers that do not fit although those at the same place of other blocks do."""
    roles: dict[str, list[Fit]] = defaultdict(list)
    for fit in agreement.likely:
        roles[fit.link.role].append(fit)
    odd, fitting = [], []
    for fits in roles.values():
        right = [f for f in fits if f.explained >= PEERS_FIT]
        wrong = [f for f in fits if _does_not_fit(f)]
        if wrong and len(right) >= max(FEWEST_PEERS, len(wrong)):
            odd += wrong
            fitting += right
    if not odd:
        return
    worst = _median([f.explained for f in odd])
    healthy = _median([f.explained for f in fitting])
    cause = _Cause(
        "layers",
        f"the running statistics of {plural(len(odd), 'layer')} do not belong to the weights",
        f"The weights predict {percent(healthy)} of the running means of the "
        f"{plural(len(fitting), 'layer')} at the same place of other blocks; in "
        f"{'this one' if len(odd) == 1 else 'these'} {percent(worst)}.",
        "In eval mode these layers normalise with wrong numbers.",
        Severity.WARNING,
    )
    yield _finding(odd, cause, Confidence.MEDIUM)


def _does_not_fit(fit: Fit) -> bool:
    return (
        fit.explained < LAYER_UNEXPLAINED
        and fit.correlation < UNCORRELATED
        and fit.scale_correlation < ALIVE
    )


def _with(fit: Fit, mean: Floats, variance: Floats) -> Link:
    """The link of a fit with other statistics at its target."""
    stored = fit.link.target.running_mean
    assert stored is not None  # noqa: S101  (fits have statistics)
    target: NormLayer = replace(
        fit.link.target,
        running_mean=Values(mean, stored.dtype),
        running_var=Values(variance, stored.dtype),
    )
    return replace(fit.link, target=target)


def _finding(fits: Sequence[Fit], cause: _Cause, confidence: Confidence) -> Finding:
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
        fix=(
            "find the checkpoint where weights and buffers come together, or re-estimate with "
            "these weights on training data (torch.optim.swa_utils.update_bn)"
        ),
        evidence=(
            Evidence(
                "explained fraction of the running means",
                _median([f.explained for f in fits]),
                UNEXPLAINED,
                channels,
            ),
            Evidence(
                "correlation of predicted and stored means",
                _median([f.correlation for f in fits]),
                UNCORRELATED,
                channels,
            ),
            Evidence(
                "log of stored over predicted variance",
                _median([f.log_scale for f in fits]),
                f"{SMALLEST_LOG_SCALE} to {LARGEST_LOG_SCALE}",
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
