"""Observation normalizers of reinforcement learning: running statistics of what a policy is given.

``rsl_rl`` stores ``_mean``, ``_var``, ``_std`` and ``count``, others ``running_mean``,
``running_var`` and ``count``, or ``mean``, ``std`` or ``var`` and ``count``; TorchRL stores sums,
or moments that fade. They are no layers of ``torch.nn``, and an exporter that is handed the policy
alone leaves them out.
"""

from collections.abc import Mapping

import numpy as np

from normcheck.norms.kinds import BY_NAME
from normcheck.norms.layer import Confidence, Momentum, NormLayer, Recognition, Values
from normcheck.norms.layer_numbers import read_count, read_values
from normcheck.norms.recognise.statistics_names import StatisticsNames
from normcheck.saved.tensors import TensorRef

_MEANS = ("running_mean", "_mean", "mean", "_running_mean")
_VARIANCES = ("running_var", "_var", "var", "_running_var", "variance", "running_variance")
_DEVIATIONS = ("_std", "std", "running_std")
_COUNTS = ("count", "_count", "current_count", "n", "num_samples", "n_samples")
_SUMS = ("summed_variance",)
_KNOWN = frozenset({*_MEANS, *_VARIANCES, *_DEVIATIONS, *_COUNTS, *_SUMS, "until", "eps"})
_SUMS_OF_TORCHRL = {"sum", "ssq", "count"}
"""TorchRL's VecNorm: sums of values and of their squares, each fading alike."""
_MOMENTS_OF_TORCHRL = {"loc", "var", "count"}
"""VecNormV2: the first and the second moment, both begun at 0."""
_TORCHRL_DECAY = 0.9999
"""Default of both; what VecNormV2 stores falls short by ``decay ** count``."""
_CORRECTED = 0.01
"""Up to that share of what it falls short the stored moments are taken as they are."""
_COUNTED = frozenset(_COUNTS)
KIND = BY_NAME["observation norm"]


def is_observation_norm(
    leaves: Mapping[str, TensorRef | None], named: StatisticsNames | None = None
) -> bool:
    """Whether a module's own tensors are a mean, a spread of the same shape, and a count.

    Without a count they are the constants of a preprocessing.

    Args:
        leaves: The module's tensors.
        named: Where they were given torch's names.
    """
    if named is not None:
        # Names that are one library's alone are a batch norm's, which may be built without γ.
        own = named.convention is not None and named.confidence is Confidence.HIGH
        return "weight" not in leaves and not own
    if len(leaves) < 3 or _COUNTED.isdisjoint(leaves):
        return False  # as nearly all modules are told at once
    there = {name: tensor for name, tensor in leaves.items() if tensor is not None}
    if set(there) in (_SUMS_OF_TORCHRL, _MOMENTS_OF_TORCHRL):
        first, second = (t for name, t in there.items() if name != "count")
        return first.shape == second.shape and there["count"].numel == 1 and first.dtype.floating
    mean = _first(there, _MEANS)
    spread = _first(there, _VARIANCES) or _first(there, _DEVIATIONS)
    count = _first(there, _COUNTS)
    if mean is None or spread is None or count is None or not set(there) <= _KNOWN:
        return False
    shape = there[mean].shape
    lengths = [n for n in shape if n != 1]
    return (
        there[spread].shape == shape
        and there[count].numel == 1
        and len(lengths) <= 1
        and there[mean].numel > 1
        and there[mean].dtype.floating
    )


def observation_norm(
    path: str, leaves: Mapping[str, TensorRef | None], named: StatisticsNames | None = None
) -> NormLayer:
    """The layer that such tensors are.

    Args:
        path: Of the module.
        leaves: Its tensors, of which ``is_observation_norm`` holds.
        named: Where they were given torch's names.
    """
    there = {name: tensor for name, tensor in leaves.items() if tensor is not None}
    if set(there) in (_SUMS_OF_TORCHRL, _MOMENTS_OF_TORCHRL):
        return _of_torchrl(path, there)
    sure, why = Confidence.HIGH, "a mean, a spread and a count of observations"
    if named is not None:
        there["count"] = there.pop("num_batches_tracked")
        if named.deviation:
            there["_std"] = there.pop("running_var")
        if named.mean not in _MEANS:
            sure, why = named.confidence, named.reason
    unread: dict[str, str] = {}
    mean = read_values(there[_first(there, _MEANS) or ""], "running_mean", unread)
    name = _first(there, _VARIANCES)
    deviation = _first(there, _DEVIATIONS)
    if name is not None:
        variance = read_values(there[name], "running_var", unread)
    else:
        spread = read_values(there[deviation or ""], "running_var", unread)
        variance = Values(np.square(spread.numbers), spread.dtype) if spread is not None else None
    count = read_count(there[_first(there, _COUNTS) or ""])
    samples = f", {count.value:,.0f} samples" if count is not None else ""
    return NormLayer(
        path=path,
        kind=KIND,
        recognition=Recognition(sure, f"{why}{samples}"),
        features=mean.size if mean is not None else None,
        running_mean=mean,
        running_var=variance,
        batches=count,
        momentum=Momentum.CUMULATIVE,
        unread=unread,
    )


def _of_torchrl(path: str, leaves: Mapping[str, TensorRef]) -> NormLayer:
    """What TorchRL's normalizers apply, worked out of what they store."""
    sums = "sum" in leaves
    unread: dict[str, str] = {}
    first = read_values(leaves["sum" if sums else "loc"], "running_mean", unread)
    second = read_values(leaves["ssq" if sums else "var"], "running_var", unread)
    count = read_count(leaves["count"])
    total = count.value if count is not None else 0.0
    known = total > 0 if sums else _TORCHRL_DECAY**total < _CORRECTED
    mean = variance = None
    if not known:
        why = (
            "it fades at a rate that the file does not hold" if total > 0 else "nothing was counted"
        )
        unread |= dict.fromkeys(("running_mean", "running_var"), why)
    elif first is not None and second is not None:
        parts = total if sums else 1.0
        mean = Values(first.numbers / parts, first.dtype)
        variance = Values(second.numbers / parts - np.square(mean.numbers), second.dtype)
    why = f"sums of observations, as TorchRL has them, {total:,.0f} samples"
    return NormLayer(
        path=path,
        kind=KIND,
        recognition=Recognition(Confidence.HIGH, why if sums else why.replace("sums", "moments")),
        features=first.size if first is not None else None,
        running_mean=mean,
        running_var=variance,
        batches=count,
        momentum=Momentum.CUMULATIVE,
        unread=unread,
    )


def _first(leaves: Mapping[str, TensorRef], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in leaves), None)
