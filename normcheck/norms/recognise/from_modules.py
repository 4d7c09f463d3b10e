"""Recognising norms in a module tree, by class and by what a module carries.

A pickle names a module's class but not its base classes, so a user's ``MyBN`` has to be
told by its attributes: what ``BatchNorm.__init__`` sets stays in the instance dictionary.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from math import prod

import numpy as np

from normcheck.norms.kinds import BY_NAME, Family, NormKind, batch_norm, of_class
from normcheck.norms.layer import Confidence, Momentum, NormLayer, Recognition, Values
from normcheck.norms.layer_count import LayerCount
from normcheck.norms.layer_numbers import is_norm_sized, read_count, read_values
from normcheck.norms.recognise.observation import is_observation_norm, observation_norm
from normcheck.norms.recognise.statistics_names import (
    StatisticsNames,
    as_in_torch,
    named_statistics,
    squared,
    was_never_set,
)
from normcheck.saved.checkpoint import ModuleRecord
from normcheck.saved.prefetch import fetch_ahead
from normcheck.saved.tensors import TensorRef

_WEIGHT_NAMES = ("weight", "gamma", "scale", "g")
_BIAS_NAMES = ("bias", "beta", "offset", "b")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_UNIT_OFFSET = BY_NAME["RMSNorm (1 + weight)"]

_EPS_NAMES = frozenset({"eps", "epsilon", "variance_epsilon"})
_KNOWN_PARTS = {
    "rmsnorm": "RMSNorm",
    "layernorm": "LayerNorm",
    "groupnorm": "GroupNorm",
    "pixelnorm": "custom norm",
}
"""Parts of class names that say which norm it is, whatever the module carries."""

_NOT_A_NORM = re.compile(
    r"^NoNorm|[Nn]ormaliz|([Ww]eight|[Ss]pectral|[Gg]rad\w*)_?[Nn]orm|Normal(_|$|[A-Z])"
)
"""Input scaling (``Normalize``), reparametrisations, normal distributions, and no norm at all."""


@np.errstate(invalid="ignore")  # signalling NaNs warn when they are widened
def norm_layers(records: Iterable[ModuleRecord]) -> tuple[NormLayer, ...]:
    """The normalization layers among the modules, in their order."""
    recognised = [
        (record, known, named)
        for record, named in map(_with_names_of_torch, records)
        if (known := recognise(record, named)) is not None or _observes(record, named)
    ]
    fetch_ahead(tensor for record, *_ in recognised for tensor in _own(record))
    found: list[NormLayer] = []
    count = LayerCount()
    for record, known, named in recognised:
        if known is None or _observes(record, named):
            layer = observation_norm(record.path, record.buffers, named)
            found.append(
                replace(
                    layer,
                    class_path=record.class_path,
                    training=record.training,
                    reached=record.registered,
                    aliases=record.aliases,
                )
            )
        else:
            found.append(_layer(record, *known, named))
        count.add(found[-1])
    return tuple(found)


def _with_names_of_torch(record: ModuleRecord) -> tuple[ModuleRecord, StatisticsNames | None]:
    """A module whose statistics have other names, with those of torch."""
    own = {**record.parameters, **record.buffers}
    leaves = {name: tensor for name, tensor in own.items() if tensor is not None}
    named = named_statistics(leaves)
    if named is None:
        return record, None
    torch = as_in_torch(leaves, named)
    if not named.of_a_norm(torch):
        return record, None
    parameters: dict[str, TensorRef | None] = {
        name: torch.pop(name) for name in ("weight", "bias") if name in torch
    }
    buffers = {"weight": parameters["weight"]} if "weight" in record.buffers else {}
    return replace(record, parameters=parameters, buffers={**torch, **buffers}), named


def _observes(record: ModuleRecord, named: StatisticsNames | None) -> bool:
    own = record.buffers if named is None else {**record.parameters, **record.buffers}
    return is_observation_norm(own, named)


def _own(record: ModuleRecord) -> Iterator[TensorRef | None]:
    for tensors in (record.plain_tensors, record.parameters, record.buffers):
        yield from (tensor for tensor in tensors.values() if is_norm_sized(tensor))


def recognise(
    record: ModuleRecord, renamed: StatisticsNames | None = None
) -> tuple[NormKind, Recognition] | None:
    """What kind of norm a module, perhaps with statistics ``renamed`` to torch's names, is."""
    named = of_class(record.class_path)
    attributes = record.attributes
    statistics = {
        name for name in _STATISTICS[:2] if name in record.buffers or name in record.plain_tensors
    }
    norm_base = {"num_features", "eps", "momentum", "track_running_stats"} <= attributes.keys()
    if named is not None and named.family is Family.INSTANCE and _stored(record):
        named = BY_NAME["tracking InstanceNorm"]
    if named is not None:
        return named, Recognition(Confidence.HIGH, f"class {record.class_path}")
    if norm_base or (statistics and (renamed is not None or _applies_statistics(record))):
        return _with_statistics(record, statistics, norm_base)
    if "normalized_shape" in attributes and (
        "eps" in attributes or "variance_epsilon" in attributes
    ):
        name = _layer_norm_name(record)
        return BY_NAME[name], Recognition(Confidence.HIGH, "carries normalized_shape and eps")
    if {"num_groups", "num_channels", "eps"} <= attributes.keys():
        return BY_NAME["GroupNorm"], Recognition(
            Confidence.HIGH, "carries num_groups, num_channels and eps"
        )
    return _by_name(record)


def _applies_statistics(record: ModuleRecord) -> bool:
    """Whether a module with running statistics looks like a layer.

    A mere record of what passed by (an observation normaliser, a metric) has them too.
    """
    return (
        "num_batches_tracked" in record.buffers
        or "momentum" in record.attributes
        or any(name in record.parameters or name in record.buffers for name in _WEIGHT_NAMES)
        or re.search(r"norm|bn", record.class_name, re.IGNORECASE) is not None
    )


def _stored(record: ModuleRecord) -> bool:
    return any(
        record.buffers.get(name) is not None or name in record.plain_tensors
        for name in _STATISTICS[:2]
    )


def _with_statistics(
    record: ModuleRecord, statistics: set[str], norm_base: bool
) -> tuple[NormKind, Recognition]:
    """Of a module that carries running statistics, or the attributes that go with them."""
    carried = sorted(statistics) or ["num_features, momentum and track_running_stats"]
    reason = f"{record.class_name} carries {' and '.join(carried)}"
    sure = Confidence.HIGH if norm_base or len(statistics) == 2 else Confidence.MEDIUM
    name = record.class_name.lower()
    weight = record.parameters.get("weight")
    if "instance" in name:
        if _stored(record):
            return BY_NAME["tracking InstanceNorm"], Recognition(sure, reason)
        dimensions = _dimensions(name) or 2
        return BY_NAME[f"InstanceNorm{dimensions}d"], Recognition(sure, reason)
    if weight is not None and weight.ndim > 1:
        return BY_NAME["fused conv-BatchNorm"], Recognition(sure, f"{reason} beside a weight")
    if "weight" in record.buffers and "momentum" not in record.attributes:
        return BY_NAME["FrozenBatchNorm2d"], Recognition(
            sure, f"{reason}, with weight and bias as buffers"
        )
    return batch_norm(_dimensions(name)), Recognition(sure, reason)


def _dimensions(name: str) -> int | None:
    found = re.search(r"([123])d", name)
    return int(found.group(1)) if found else None


def _layer_norm_name(record: ModuleRecord) -> str:
    name = record.class_name.lower()
    if "layernorm" not in name and ("rms" in name or "bias" not in record.parameters):
        return "RMSNorm"
    first = record.attributes.get("data_format") == "channels_first"
    return "LayerNorm2d" if first or "2d" in name or "channel" in name else "LayerNorm"


def _by_name(record: ModuleRecord) -> tuple[NormKind, Recognition] | None:
    """Of a module whose class is called a norm and which holds nothing but its own numbers."""
    name = record.class_name
    lower = name.lower()
    own = [t for t in (*record.parameters.values(), *record.buffers.values()) if t is not None]
    known = next((part for part in _KNOWN_PARTS if part in lower), None)
    if record.has_children or _NOT_A_NORM.search(name):
        return None
    if known is None and "norm" not in lower and not lower.endswith("grn"):
        return None
    if known is None and not own and not _EPS_NAMES & record.attributes.keys():
        return None
    if known is None and any(sum(n > 1 for n in t.shape) > 1 for t in own):
        return None  # a matrix of its own: a layer that also normalises
    reason = f"the class is called {name} and has no layers of its own"
    if known is None:
        return BY_NAME["custom norm"], Recognition(Confidence.LOW, reason)
    kind = _KNOWN_PARTS[known]
    if kind == "LayerNorm":
        kind = _layer_norm_name(record)
    return BY_NAME[kind], Recognition(Confidence.MEDIUM, reason)


def _first(
    tensors: Mapping[str, TensorRef | None], names: tuple[str, ...]
) -> tuple[str, TensorRef] | None:
    for name in names:
        tensor = tensors.get(name)
        if tensor is not None:
            return name, tensor
    return None


def _layer(
    record: ModuleRecord, kind: NormKind, recognition: Recognition, named: StatisticsNames | None
) -> NormLayer:
    tensors = {**record.plain_tensors, **record.parameters, **record.buffers}
    unread: dict[str, str] = {}

    def values(name: str) -> Values | None:
        return read_values(tensors.get(name), name, unread)

    fused = kind.name == "fused conv-BatchNorm"
    by_time = kind.name == "temporal-effective BatchNorm"
    names = _WEIGHT_NAMES[:1] if by_time else _WEIGHT_NAMES[1:] if fused else _WEIGHT_NAMES
    weight = _first(tensors, names)
    bias = _first(tensors, _BIAS_NAMES[1:] if fused else _BIAS_NAMES)
    attributes = record.attributes
    mean, variance = values("running_mean"), values("running_var")
    gamma = values(weight[0]) if weight else None
    momentum = attributes.get("momentum")
    eps = next(
        (attributes[name] for name in ("eps", "variance_epsilon", "epsilon") if name in attributes),
        None,
    )
    affine = attributes.get("affine", attributes.get("elementwise_affine"))
    track = attributes.get("track_running_stats")
    return NormLayer(
        path=record.path,
        kind=kind,
        recognition=recognition,
        features=_features(record, mean, gamma),
        running_mean=mean,
        running_var=squared(variance) if named is not None and named.deviation else variance,
        batches=read_count(tensors.get("num_batches_tracked")),
        weight=gamma,
        bias=values(bias[0]) if bias else None,
        class_path=record.class_path,
        training=record.training,
        eps=float(eps) if isinstance(eps, int | float) else None,
        momentum=_momentum(momentum, "momentum" in attributes),
        affine=bool(affine) if isinstance(affine, bool | int) else None,
        track_running_stats=track if isinstance(track, bool) else None,
        absent_buffers=frozenset(
            name for name in _STATISTICS if name in record.buffers and record.buffers[name] is None
        ),
        unregistered=tuple(name for name in _STATISTICS if name in record.plain_tensors),
        uninitialised=any(
            tensor is not None and tensor.note.startswith("a lazy layer")
            for tensor in tensors.values()
        )
        or (kind.name == "ActNorm" and was_never_set(record.buffers)),
        unread=unread,
        reached=record.registered,
        aliases=record.aliases,
        unit_offset=kind is _UNIT_OFFSET,
        unknown_buffers=_unknown(record),
    )


def _unknown(record: ModuleRecord) -> tuple[str, ...]:
    """Buffers of numbers that no norm known here has: what they are for, only its code says."""
    known = {*_STATISTICS, *_WEIGHT_NAMES, *_BIAS_NAMES}
    return tuple(
        name
        for name, tensor in record.buffers.items()
        if tensor is not None and name not in known and tensor.dtype.floating and tensor.numel > 1
    )


def _momentum(value: object, present: bool) -> float | Momentum | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return Momentum.CUMULATIVE if present and value is None else None


def _features(record: ModuleRecord, mean: Values | None, weight: Values | None) -> int | None:
    for name in ("num_features", "num_channels"):
        value = record.attributes.get(name)
        if isinstance(value, int) and value > 0:
            return value
    shape = record.attributes.get("normalized_shape")
    if isinstance(shape, int):
        return shape
    if isinstance(shape, tuple) and all(isinstance(n, int) for n in shape):
        return prod(n for n in shape if isinstance(n, int))
    known = mean or weight
    return known.size if known else None
