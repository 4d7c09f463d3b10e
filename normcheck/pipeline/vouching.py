"""What speaks for each layer before any rule accuses it: vouched for, or cannot tell, and why.

A layer is not well because no rule spoke. Its statistics are vouched for where something was held
against them and they held: the weights before them, or the user's data. A kind that stores none
has nothing that could be wrong in a file. Everything else cannot be told, with its reason.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import TYPE_CHECKING

from normcheck.lazy_pattern import lazy_pattern
from normcheck.norms.belonging.agreement import ROUGHLY
from normcheck.norms.belonging.fit_links import NOT_FED
from normcheck.norms.belonging.modulation import modulated
from normcheck.norms.kinds import Family
from normcheck.norms.layer import Confidence
from normcheck.norms.layer_numbers import median
from normcheck.pipeline.left_open import left_open as left_open_by
from normcheck.report.report import AS_CREATED, Standing
from normcheck.rules.evidence.guessed_links import doubted_guesses
from normcheck.rules.harm import Harm
from normcheck.wording import number, percent, plural

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from normcheck.norms.anatomy import Anatomy
    from normcheck.norms.belonging.agreement import Agreement
    from normcheck.norms.belonging.first_norm import FirstNorm
    from normcheck.norms.layer import NormLayer
    from normcheck.report.run_summary import RunSummary

ON_STATISTICS = (
    "NC101", "NC102", "NC103", "NC104", "NC105", "NC107", "NC108", "NC109", "NC113",
)  # fmt: skip
"""Rules that hold statistics in a file against something. Where one of them did not run, nobody
can vouch for statistics."""
BY_DATA = "no channel lies off your data"
HARMLESS = "they differ from your data, without harm that could be seen"
DIFFERS = "they differ from your data"
OPEN = "other layers differ from your data, and nothing tells what that does"
FOLLOWS = 0.1
"""Root mean square of what no input explains of the first norm's means, in deviations, up to which
they tell the input; 0.06 at most in the healthy networks of ``benchmarks/file_verdicts.py``."""
MIXED = "it stands behind several weights: its statistics are a mixture that none of them predicts"
BEHIND = (
    "it stands behind its activation, where weights tell means only if a norm feeds them and a "
    "ReLU alone follows"
)
BY_KIND = "nothing stored that could go stale"
_SURE_NAME = lazy_pattern(
    r"layer_?norm|group_?norm|(?:^|[._])rms|rms_?norm|(?:^|[._])ln(?:$|_|\d)|ln$", re.IGNORECASE
)
_INSTANCE_NAME = lazy_pattern(r"inst(?:ance)?_?norm|(?:^|[._])in\d*$", re.IGNORECASE)
_BATCH_NAME = lazy_pattern(r"batch_?norm|(?:^|[._])bn\d*(?:$|[._])", re.IGNORECASE)


def standings(
    anatomy: Anatomy,
    run: RunSummary | None,
    ran: Collection[str],
    skipped: Collection[str],
    siblings: Sequence[Anatomy] = (),
) -> Mapping[str, tuple[Standing, str]]:
    """What speaks for each layer of a model, by path.

    Args:
        anatomy: Of the model.
        run: What running it showed; None where it was only read.
        ran: Codes of the rules that came to a verdict.
        skipped: Codes of those that were to, and could not tell.
        siblings: The other models of the file.
    """
    looked = {*ran, *skipped}
    missing = [code for code in ON_STATISTICS if code not in looked]
    agreement = anatomy.agreement
    guessed = doubted_guesses(agreement)
    agreeing = {fit.link.target.path for fit in agreement.agreeing} if agreement else set()
    agreeing -= guessed.keys()
    unjudged = dict(agreement.unjudged) if agreement else {}
    doubted = agreement.doubted if agreement else {}
    doubted |= modulated(agreement) if agreement else {}
    roughly = {fit.link.target.path: ROUGHLY for fit in agreement.rectified} if agreement else {}
    by_weights = _by_weights(agreement) if agreement else ""
    hidden = left_open_by(anatomy, siblings) if agreeing else ""
    # Data that hold NaN tell nothing of a layer, and vouch for none.
    drifts = {
        drift.path: drift.off
        for drift in (run.drifts if run else ())
        if drift.off or (isfinite(drift.shift) and isfinite(drift.factor))
    }
    harmless = run is not None and run.verdict == Harm.NONE.value
    untold = run is not None and run.verdict in ("", Harm.OPEN.value, Harm.UNKNOWN.value)
    left_open = untold and any(drifts.values())
    found: dict[str, tuple[Standing, str]] = {}
    for layer in anatomy.layers:
        reason = _without_numbers(layer, anatomy) or _initial_or_impossible(layer)
        if not layer.has_statistics and not reason:
            found[layer.path] = (Standing.VOUCHED, BY_KIND)
        elif reason:
            found[layer.path] = (Standing.UNTOLD, reason)
        elif missing:
            found[layer.path] = (Standing.UNTOLD, _left_out(len(missing)))
        elif layer.path in drifts:
            found[layer.path] = _by_data(drifts[layer.path], harmless=harmless, left_open=left_open)
        elif layer.path in agreeing:
            found[layer.path] = (
                (Standing.UNTOLD, hidden) if hidden else (Standing.VOUCHED, by_weights)
            )
        else:
            fallback = "the weights do not explain them, by a link that is a guess"
            if agreement is None:
                fallback = NOT_FED
            why = {**roughly, **unjudged, **doubted, **guessed, **_input_told(anatomy.first)}.get(
                layer.path, fallback
            )
            if why == NOT_FED and layer.path in anatomy.behind_activations:
                why = BEHIND
            if layer.path in anatomy.places_served:
                why = MIXED
            found[layer.path] = (Standing.UNTOLD, why)
    return found


def _by_data(off: float, *, harmless: bool, left_open: bool) -> tuple[Standing, str]:
    """What the user's data say of one layer.

    Args:
        off: The share of its channels that lie provably outside the data.
        harmless: Whether outputs showed that what is off does no harm.
        left_open: Whether some layer is off and nothing tells what that does: all layers of a
            file share its history.
    """
    if left_open:
        return Standing.UNTOLD, OPEN if off == 0 else DIFFERS
    if off == 0:
        return Standing.VOUCHED, BY_DATA
    return (Standing.VOUCHED, HARMLESS) if harmless else (Standing.UNTOLD, DIFFERS)


def _by_weights(agreement: Agreement) -> str:
    explained = [fit.explained for fit in agreement.agreeing]
    share = percent(median(explained)) if explained else "0 %"
    return f"the weights explain {share} of their means, assuming {agreement.activation}"


def _input_told(first: FirstNorm | None) -> dict[str, str]:
    """What the first norm tells of the training input, by its path.

    Its statistics follow its weights for that input. Nothing in the file says that this was the
    input, so it vouches for nothing; who knows the preprocessing sees whether it is right.
    """
    if first is None or first.leftover > FOLLOWS:
        return {}
    low, high = min(first.means), max(first.means)
    span = _rounded(low) if low == high else f"{_rounded(low)} to {_rounded(high)}"
    deviation = f" and deviation {_rounded(first.deviation)}" if first.deviation else ""
    return {first.path: f"first norm: it fits inputs of mean {span}{deviation}, for you to check"}


def _rounded(value: float) -> str:
    """Two digits: the fit is good to a few per cent."""
    return number(float(f"{value:.2g}"))


def _left_out(missing: int) -> str:
    return f"{plural(missing, 'rule')} on statistics left out"


def _without_numbers(layer: NormLayer, anatomy: Anatomy) -> str:
    """Why there are no statistics to look at, where there should or might be; else empty."""
    if layer.uninitialised:
        return "never saw an input"
    if layer.unread:
        return f"values not read: {next(iter(layer.unread.values()))}"
    if layer.has_statistics:
        return ""
    if layer.running_var is not None and layer.kind.eval_uses == "running var":
        return "nothing in the file predicts a variance alone"
    if layer.running_mean is not None or layer.running_var is not None:
        return "half of the running statistics is missing"
    if layer.kind.family is Family.BATCH or layer.kind.eval_uses == "running stats":
        if layer.track_running_stats is False or layer.absent_buffers:
            return "no running statistics are kept: predictions depend on the batch"
        return "running statistics not in the file"
    if layer.unknown_buffers and layer.kind.family is Family.CUSTOM:
        return f"it keeps buffers of its own ({', '.join(layer.unknown_buffers[:3])})"
    if not anatomy.has_modules and _may_be_batch_norm(layer):
        return (
            "a batch norm without its statistics, or a norm that has none: names do not tell, a "
            "run would (--model)"
        )
    return ""


def _may_be_batch_norm(layer: NormLayer) -> bool:
    """Whether a layer without statistics in a state dict might be a batch norm that lost them."""
    if layer.norm_base is not None:
        # An InstanceNorm, or a BatchNorm that keeps no statistics or whose file lost them: both
        # classes leave the same metadata.
        return layer.norm_base and not _INSTANCE_NAME.search(layer.path)
    if layer.weight is None or layer.kind.family is Family.RMS:
        return False
    if layer.kind.name == "EvoNorm-S":
        return True  # EvoNorm-B has the same parameters
    if _BATCH_NAME.search(layer.path):
        return True  # whatever the last part of its name says
    if _SURE_NAME.search(layer.path) or layer.kind.family is Family.GROUP:
        return False
    return layer.recognition.confidence is Confidence.LOW or layer.kind.family is Family.PER_SAMPLE


def _initial_or_impossible(layer: NormLayer) -> str:
    """Why the values themselves cannot be believed, whichever rules are on; else empty."""
    mean, variance = layer.running_mean, layer.running_var
    if mean is None or variance is None:
        return ""
    if not (mean.finite and variance.finite):
        return "statistics not finite"
    if layer.any_negative_variance:
        return "a negative variance"
    if layer.at_initial_values:
        return AS_CREATED if layer.affine_at_initial_values else "statistics at 0 and 1"
    if mean.all_are(0.0) and variance.all_are(0.0):
        return "statistics all 0"
    return ""
