"""Running statistics under the names that libraries give them: one table of knowledge.

What torch calls ``running_mean``, ``running_var`` and ``num_batches_tracked`` has other names
elsewhere. A name that no library here has is told by its siblings: a mean-like and a variance-like
tensor of one shape, beside a count or beside γ and β.
"""

import re
from collections.abc import Mapping

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.lazy_pattern import lazy_pattern
from normcheck.norms.layer import Confidence, Values
from normcheck.saved.tensors import TensorRef


@lazy_dataclass()
class Convention:
    """How one library stores a norm with running statistics."""

    library: str
    """Whose it is, with the class or file that shows it."""
    mean: str
    variance: str
    count: str = ""
    """Of batches, empty where it keeps none."""
    momentum: float | None = None
    """The default, as torch counts: the share of the new value."""
    eps: float | None = None
    kind: str = ""
    """Of the table of kinds, where it is none of torch's."""
    sure: Confidence = Confidence.HIGH
    """Whether its names are nobody else's."""


CONVENTIONS = (
    Convention("Keras (BatchNormalization)", "moving_mean", "moving_variance", "", 0.01, 1e-3),
    Convention(
        "sb3-contrib (BatchRenorm)", "ra_mean", "ra_var", "steps", 0.01, 1e-3, "BatchRenorm"
    ),
    Convention("Paddle (BatchNorm)", "_mean", "_variance", "", 0.1, 1e-5),
    Convention("MXNet Gluon (BatchNorm)", "moving_mean", "moving_var", "", 0.1, 1e-5),
    Convention("Chainer (BatchNormalization)", "avg_mean", "avg_var", "N", 0.1, 2e-5),
    Convention("Flax (BatchNorm)", "mean", "var", "", 0.01, 1e-5, "", Confidence.MEDIUM),
)
"""Norms beside γ and β. Momentum and eps are the defaults of each library's own constructor."""
WEIGHTS = ("weight", "gamma", "scale")
BIASES = ("bias", "beta", "offset")
COUNTS = (
    "num_batches_tracked", "steps", "count", "_count", "current_count", "n", "N", "num_samples",
    "n_samples", "num_batches", "num_updates", "n_updates", "step",
)  # fmt: skip
"""Names of a number of batches, updates or samples."""
_MEAN = lazy_pattern(r"(?:^|_)(?:mean|mu|avg|means)(?=_|$)")
_VARIANCE = lazy_pattern(r"(?:^|_)(?:var|variance|sigma2|vars)(?=_|$)")
_DEVIATION = lazy_pattern(r"(?:^|_)(?:std|stddev|sigma|stdev)(?=_|$)")
_OF_PARAMETERS = lazy_pattern(r"weight|bias|prior|posterior")
TORCH = ("running_mean", "running_var")


@lazy_dataclass()
class StatisticsNames:
    """Which of a module's tensors are its running statistics."""

    mean: str
    spread: str
    deviation: bool
    """Whether the spread is a standard deviation, to be squared."""
    count: str | None
    convention: Convention | None
    """None for names of no library that is known here: they look like statistics."""

    @property
    def reason(self) -> str:
        """Why they are taken for statistics."""
        pair = f"{self.mean} and {self.spread}"
        if self.convention is not None:
            return f"has {pair}, as {self.convention.library} has it"
        return f"{pair} look like running statistics"

    def of_a_norm(self, leaves: Mapping[str, TensorRef]) -> bool:
        """Whether the tensors, under torch's names, are not the constants of a preprocessing.

        Those have neither γ nor a count. Names that are one library's alone need neither: its norm
        may be built without affine.
        """
        sure = self.convention is not None and self.confidence is Confidence.HIGH
        return sure or "weight" in leaves or "num_batches_tracked" in leaves

    @property
    def confidence(self) -> Confidence:
        """How sure that is."""
        return self.convention.sure if self.convention is not None else Confidence.LOW

    @property
    def kind(self) -> str:
        """Of the table of kinds, where the library's norm is none of torch's."""
        return self.convention.kind if self.convention is not None else ""


def named_statistics(leaves: Mapping[str, TensorRef]) -> StatisticsNames | None:
    """The running statistics among a module's own tensors, under names that are not torch's.

    Args:
        leaves: The module's tensors by their last names.

    Returns:
        None where there are none, or torch's own names are among them.
    """
    if len(leaves) < 2 or TORCH[1] in leaves:
        return None
    for known in CONVENTIONS:
        pair = leaves.get(known.mean), leaves.get(known.variance)
        if _is_pair(*pair):
            count = known.count if known.count in leaves else _count(leaves)
            return StatisticsNames(known.mean, known.variance, False, count, known)
    for name, mean in leaves.items():
        told = _MEAN.search(name)
        if told is None:
            continue
        for other, spread in leaves.items():
            is_variance, is_deviation = _VARIANCE.search(other), _DEVIATION.search(other)
            like = is_variance or is_deviation
            if like is None or _rest(name, told) != _rest(other, like):
                continue
            if _OF_PARAMETERS.search(name):
                continue  # the distribution of a Bayesian or noisy layer's weights
            if _is_pair(mean, spread):
                # A deviation beside the variance that it is the root of.
                better = _variance_beside(leaves, name, told) if not is_variance else None
                chosen = better or other
                return StatisticsNames(
                    name, chosen, chosen == other and not is_variance, _count(leaves), None
                )
    return None


def _rest(name: str, found: "re.Match[str]") -> str:
    """A name without what says which statistic it is."""
    return (name[: found.start()] + name[found.end() :]).strip("_")


def _variance_beside(
    leaves: Mapping[str, TensorRef], mean: str, told: "re.Match[str]"
) -> str | None:
    for name, tensor in leaves.items():
        found = _VARIANCE.search(name)
        if found and _rest(name, found) == _rest(mean, told) and _is_pair(leaves[mean], tensor):
            return name
    return None


def _is_pair(mean: TensorRef | None, spread: TensorRef | None) -> bool:
    return (
        mean is not None
        and spread is not None
        and mean.shape == spread.shape
        and mean.numel > 1
        and sum(length > 1 for length in mean.shape) == 1
        and mean.dtype.floating
        and spread.dtype.floating
    )


def _count(leaves: Mapping[str, TensorRef]) -> str | None:
    return next((name for name in COUNTS if name in leaves and leaves[name].numel == 1), None)


def as_in_torch(leaves: Mapping[str, TensorRef], named: StatisticsNames) -> dict[str, TensorRef]:
    """A module's tensors under the names that torch has for them."""
    size = leaves[named.mean].numel
    weight, bias = affine_of(leaves, size)
    own = (
        ("weight", weight),
        ("bias", bias),
        ("running_mean", named.mean),
        ("running_var", named.spread),
        ("num_batches_tracked", named.count),
    )
    return {torch: leaves[name] for torch, name in own if name is not None}


def squared(spread: Values | None) -> Values | None:
    """The variance that a standard deviation is the root of."""
    if spread is None:
        return None
    return Values(np.square(spread.numbers), spread.dtype, spread.requires_grad)


def shaped_otherwise(
    leaves: Mapping[str, TensorRef], *, norm_base: bool | None = None
) -> str | None:
    """The kind of a norm with torch's names for its statistics, but shapes of its own.

    Args:
        leaves: A module's tensors by their last names, a running statistic among them.
        norm_base: Whether metadata has the version of torch's own BatchNorm; None without any.
    """
    mean, variance = leaves.get("running_mean"), leaves.get("running_var")
    weight, bias = leaves.get("weight"), leaves.get("bias")
    if mean is None and variance is not None and ("v" in leaves or norm_base is False):
        return "EvoNorm-B"  # B1 and B2 have no v
    if mean is None or variance is None or mean.ndim == 0:
        return None
    steps = leaves.get("scale")
    if steps is not None and (weight is not None or steps.numel != mean.numel):
        # One number a time step. Without γ and β, as many as features are γ.
        return "temporal-effective BatchNorm" if steps.ndim == 1 else None
    if mean.ndim == 2 and variance.shape == mean.shape and min(mean.shape) > 1:
        return "BatchNorm by type"
    # Means of scalars alone, variances of scalars, vectors and tensors: γ and β likewise.
    shorter = mean.ndim == variance.ndim == 1 and mean.numel < variance.numel
    if (
        shorter
        and (weight is None or (weight.shape == variance.shape))
        and (bias is None or bias.shape == mean.shape)
    ):
        return "equivariant BatchNorm"
    return None


_OWN_LEAVES = (
    ({"weight", "bias", "v"}, "EvoNorm-S"),
    ({"weight", "bias", "tau"}, "FilterResponseNorm"),
    ({"weight", "bias", "mean_scale"}, "GraphNorm"),
    ({"gamma", "beta", "tau"}, "FilterResponseNorm"),
    # taming-transformers, nflows and normflows, each beside a flag that says whether it was set.
    ({"loc", "scale"}, "ActNorm"),
    ({"log_scale", "shift"}, "ActNorm"),
    ({"s", "t"}, "ActNorm"),
)
FLAGS = ("initialized", "data_dep_init_done")
"""Of ActNorm: whether scale and shift were set from a first batch."""


def told_by_leaves(leaves: Mapping[str, TensorRef]) -> str | None:
    """The kind of a norm without statistics whose parameters have names of its own.

    Args:
        leaves: A module's tensors by their last names: all of one size, whatever their shapes.
    """
    names = leaves.keys() - {"eps", *FLAGS}
    kind = next((kind for own, kind in _OWN_LEAVES if names == own), None)
    if kind == "ActNorm" and not any(flag in leaves for flag in FLAGS):
        return None  # two tensors of any layer
    if kind is None:
        return None
    sizes = {leaves[name].numel for name in names}
    return kind if len(sizes) == 1 and sizes.pop() > 1 else None


def is_scaled_by_time(leaves: Mapping[str, TensorRef]) -> bool:
    """Whether γ, β and a scale for each time step are what is left of a temporal-effective norm."""
    if leaves.keys() != {"weight", "bias", "scale"}:
        return False
    weight, bias, scale = (leaves[name] for name in ("weight", "bias", "scale"))
    same = weight.shape == bias.shape and weight.ndim == scale.ndim == 1
    return same and scale.numel != weight.numel > 1


def was_never_set(leaves: Mapping[str, TensorRef | None]) -> bool:
    """Whether a flag beside a learned scale says that no batch has set it yet."""
    flag = next((leaves[name] for name in FLAGS if leaves.get(name) is not None), None)
    if flag is None or not flag.readable or flag.numel != 1:
        return False
    return not flag.values().reshape(-1)[0]


def affine_of(leaves: Mapping[str, TensorRef], size: int) -> tuple[str | None, str | None]:
    """The names of γ and β among a module's tensors, for so many features."""

    def first(names: tuple[str, ...]) -> str | None:
        return next((n for n in names if n in leaves and leaves[n].numel == size), None)

    return first(WEIGHTS), first(BIASES)
