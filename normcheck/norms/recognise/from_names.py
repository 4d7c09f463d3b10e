"""Recognising norms in a bare state dict, by names, shapes and siblings.

Only running statistics are certain. A pair of one-dimensional ``weight`` and ``bias`` is
a norm of some kind; what kind, its name and the state dict's metadata can tell.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from normcheck.norms.kinds import BY_NAME, NormKind, batch_norm
from normcheck.norms.layer import Confidence, NormLayer, Recognition, Values
from normcheck.norms.layer_count import LayerCount
from normcheck.norms.layer_numbers import is_norm_sized, read_count, read_values
from normcheck.norms.recognise.affine_kind import (
    NORM_BASE_VERSION,
    kind_of_affine,
    named_part,
    neighbour_of,
)
from normcheck.norms.recognise.groups import (
    Group,
    Weights,
    is_norm_shaped,
    modules_of,
    without_aliases,
)
from normcheck.norms.recognise.known_momenta import LibraryMomentum, known_library, momentum_at
from normcheck.norms.recognise.observation import is_observation_norm, observation_norm
from normcheck.norms.recognise.statistics_names import (
    is_scaled_by_time,
    shaped_otherwise,
    squared,
    told_by_leaves,
    was_never_set,
)
from normcheck.saved.prefetch import fetch_ahead
from normcheck.saved.tensors import TensorRef


@np.errstate(invalid="ignore")  # signalling NaNs warn when they are widened
def norm_layers(
    tensors: Mapping[str, TensorRef], versions: Mapping[str, int]
) -> tuple[NormLayer, ...]:
    """The normalization layers of a state dict, in its order.

    Args:
        tensors: By full name, in the model's order.
        versions: Module path to version, from ``_metadata`` where there is one.
    """
    found_modules = modules_of(tensors)
    weights = found_modules.weights
    # A model's own parameters, beside its modules, are those of no layer.
    alone = len(found_modules.positions) == 1
    modules = [group for group in found_modules.likely if group.path or alone]
    observed = {group.path for group in modules if is_observation_norm(group.leaves, group.named)}
    recognised = [
        (group, known)
        for group in modules
        if (known := _recognise(group, versions, weights)) is not None or group.path in observed
    ]
    fetch_ahead(t for group, _ in recognised for t in group.leaves.values() if is_norm_sized(t))
    found: list[NormLayer] = []
    count = LayerCount()
    recognised, aliases = without_aliases(recognised)
    for group, known in recognised:
        if known is None or group.path in observed:
            found.append(observation_norm(group.path, group.leaves, group.named))
            count.add(found[-1])
            continue
        version = versions.get(group.path)
        norm_base = None if version is None else version == NORM_BASE_VERSION
        found.append(_layer(group, *known, norm_base))
        count.add(found[-1])
    # What else has no momentum.
    with_statistics = any(layer.has_statistics for layer in found)
    library = known_library(tensors) if with_statistics and any(k for _, k in recognised) else None
    if library is not None:
        found = [_with_momentum_of(library, layer) for layer in found]
    return tuple(
        replace(layer, aliases=tuple(also)) if (also := aliases.get(layer.path)) else layer
        for layer in found
    )


def _with_momentum_of(library: LibraryMomentum, layer: NormLayer) -> NormLayer:
    momentum = momentum_at(library, layer.path) if layer.has_statistics else None
    if momentum is None or layer.momentum is not None:
        return layer
    return replace(layer, momentum=momentum, momentum_of=library.library, eps=library.eps)


class Surroundings:
    """The weights among which the norms of one model stand."""

    def __init__(self, tensors: Mapping[str, TensorRef]) -> None:
        """Group the tensors by the layers that they belong to, once for all norms."""
        modules = modules_of(tensors, torch_names=False)
        self._positions, self._weights = modules.positions, modules.weights

    def batch_norm_at(self, path: str, features: int) -> NormKind:
        """Which BatchNorm the one at ``path`` is, by the weights around it."""
        position = self._positions.get(path)
        if position is None:
            return batch_norm(None)
        neighbour = neighbour_of(position, features, self._weights)
        return batch_norm(len(neighbour) - 2 if neighbour else None)


def _recognise(
    group: Group, versions: Mapping[str, int], weights: Weights
) -> tuple[NormKind, Recognition] | None:
    leaves = group.leaves
    statistics: list[str] = [n for n in ("running_mean", "running_var") if n in leaves]
    if statistics:
        version = versions.get(group.path)
        norm_base = None if version is None else version == NORM_BASE_VERSION
        return _with_statistics(group, statistics, weights, norm_base)
    own = told_by_leaves(leaves)
    if own is not None:
        return BY_NAME[own], Recognition(Confidence.MEDIUM, f"has {', '.join(sorted(leaves))}")
    if is_scaled_by_time(leaves):
        return BY_NAME["temporal-effective BatchNorm"], Recognition(
            Confidence.LOW, "has weight, bias and a scale of other length, but no statistics"
        )
    weight, bias = _affine(leaves)
    if weight is None or not is_norm_shaped(weight.shape, None if bias is None else bias.shape):
        return None
    named = named_part(group.path)
    version = versions.get(group.path)
    kind, why = kind_of_affine(named, version, weight, bias, weights, group.position)
    if named:
        return kind, Recognition(Confidence.MEDIUM, f"called {named}, {why}")
    if version == NORM_BASE_VERSION:
        return kind, Recognition(Confidence.MEDIUM, why)
    if bias is not None and weight.numel > 1 and "scale" not in leaves:
        # No module of torch.nn but a norm has a weight and a bias of one and the same
        # shape (PReLU has no bias; a convolution's and a linear's weight have more
        # dimensions than their bias). A project's own scaling layer has them too.
        return kind, Recognition(Confidence.LOW, f"weight and bias of one shape; {why}")
    return None


def _with_statistics(
    group: Group, statistics: list[str], weights: Weights, norm_base: bool | None
) -> tuple[NormKind, Recognition]:
    leaves = group.leaves
    weight = leaves.get("weight")
    sure = Confidence.HIGH if len(statistics) == 2 else Confidence.MEDIUM
    reason = f"has {' and '.join(statistics)}"
    if group.named is not None:
        sure, reason = group.named.confidence, group.named.reason
        if group.named.kind:
            return BY_NAME[group.named.kind], Recognition(sure, reason)
    special = shaped_otherwise(leaves, norm_base=norm_base)
    if special is not None:
        return BY_NAME[special], Recognition(sure, reason)
    if weight is not None and weight.ndim > 1:
        return BY_NAME["fused conv-BatchNorm"], Recognition(sure, f"{reason} beside a weight")
    neighbour = neighbour_of(group.position, leaves[statistics[0]].numel, weights)
    if neighbour is None:
        return batch_norm(None), Recognition(sure, reason)
    return batch_norm(len(neighbour) - 2), Recognition(
        sure, f"{reason}; beside a weight of {len(neighbour)} dimensions"
    )


def _affine(leaves: Mapping[str, TensorRef]) -> tuple[TensorRef | None, TensorRef | None]:
    if "weight" in leaves:
        return leaves["weight"], leaves.get("bias")
    if "gamma" in leaves and "beta" in leaves:
        return leaves["gamma"], leaves["beta"]
    if "scale" in leaves and set(leaves) <= {"scale", "bias", "offset"}:
        return leaves["scale"], leaves.get("bias", leaves.get("offset"))
    return None, None


def _layer(
    group: Group, kind: NormKind, recognition: Recognition, norm_base: bool | None
) -> NormLayer:
    leaves = group.leaves
    unread: dict[str, str] = {}

    def values(*names: str) -> Values | None:
        for name in names:
            if name in leaves:
                return read_values(leaves[name], name, unread)
        return None

    fused = kind.name == "fused conv-BatchNorm"
    mean = values("running_mean")
    variance = values("running_var")
    known = None
    if group.named is not None:
        known = group.named.convention
        variance = squared(variance) if group.named.deviation else variance
    learned = kind.name == "ActNorm"
    by_time = kind.name == "temporal-effective BatchNorm"
    scales = ("weight", "gamma") if by_time else ("weight", "gamma", "scale")
    weight = values("gamma") if fused else values(*scales)
    bias = values("beta") if fused else values("bias", "beta", "offset")
    if learned:
        weight, bias = values("scale", "log_scale", "s"), values("loc", "shift", "t")
    return NormLayer(
        path=group.path,
        kind=kind,
        recognition=recognition,
        features=mean.size if mean else (weight.size if weight else None),
        running_mean=mean,
        running_var=variance,
        batches=read_count(leaves.get("num_batches_tracked")),
        weight=weight,
        bias=bias,
        uninitialised=any(tensor.note.startswith("a lazy layer") for tensor in leaves.values())
        or (learned and was_never_set(leaves)),
        unread=unread,
        norm_base=norm_base,
        momentum=known.momentum if known else None,
        momentum_of=known.library if known and known.momentum else "",
        eps=known.eps if known else None,
    )
