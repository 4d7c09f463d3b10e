"""Which statistics a norm used while it was trained, as an optimizer's averages tell.

A BatchNorm that normalises by the batch takes the mean of each channel away: the gradient of a
bias right before it is zero, but for rounding. One that applies stored statistics does not, and
the bias has a gradient like any other. The optimizer's average of gradients (Adam's ``exp_avg``,
SGD's ``momentum_buffer``), saved beside the weights, keeps the trace.

Measured: with batch statistics the bias's average is at most 3e-4 of its weight's (SGD at a
learning rate of 0.2; 1e-5 with Adam; 1.3e-3 under autocast to bfloat16; 4e-3 after thirty steps
with coupled decay); with stored ones, in eval mode or frozen, 0.4 to 8. Where an activation or a
dropout stands between them, 0.4 to 2 in either mode: then nothing can be told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.layer import Floats
from normcheck.norms.layer_numbers import median
from normcheck.norms.recognise.neighbours import biases_before_norms
from normcheck.saved.optimizer_order import order_of_parameters

if TYPE_CHECKING:
    from normcheck.norms.layer import NormLayer
    from normcheck.saved.checkpoint import SavedModel
    from normcheck.saved.optimizer import OptimizerState, ParameterGroup
    from normcheck.saved.tensors import TensorRef

VANISHED = 1e-2
"""Ratio of the bias's average to its weight's below which something took the mean away."""
ALIVE = 0.1
"""Ratio above which nothing did."""
ORTHOGONAL = 0.05
"""|cos(average, filter)| times the root of the filter's length, below which the loss did not
depend on the filter's length: batch statistics. A larger one says nothing."""
_MOST_BYTES = 64 << 20
"""Bytes of weights and averages that are read of one model for this."""
_DECAY_MARGIN = 1.05
"""Part of the weight decay's multiple by which a fitted one may exceed it: parameters shrink
while they are averaged."""
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Used(StrEnum):
    """What the norms normalised by in the last steps of training."""

    BATCH = "batch statistics"
    STORED = "stored statistics"


@lazy_dataclass()
class GradientTrace:
    """What an optimizer's averages say of the layers before some norms."""

    used: Used
    ratios: tuple[float, ...] = ()
    """The bias's average over its weight's, rms, one for each layer with a bias."""
    cosines: tuple[float, ...] = ()
    """|cos|·√n between average and filter, the median over filters; without biases."""
    adjacent: bool = True
    """Whether nothing can stand between these layers and their norms."""


def gradient_trace(
    model: SavedModel,
    layers: Sequence[NormLayer],
    wanted: Sequence[str],
    optimizers: Sequence[OptimizerState],
) -> GradientTrace | None:
    """What the optimizers of a file say about some of a model's norms.

    Args:
        model: Of the same file, which is open.
        layers: Its norms.
        wanted: Paths of those that are asked for.
        optimizers: Of the file.

    Returns:
        None where nothing can be told: no optimizer whose parameters are those of the model for
        certain, no average, or layers that contradict each other.
    """
    named = _by_name if model.ordered else _by_shapes
    known = [m for state in optimizers if (m := named(model, state))]
    if len(known) != 1:
        return None  # none fits, or two do
    moments = known[0]
    # What was put in order by the optimizer's shapes comes in that order.
    inside = model.tensors if model.ordered else {name: model.tensors[name] for name in moments}
    pairs = list(_before(inside, layers, wanted))
    if not pairs:
        return None
    sure = {norm for _, norm in biases_before_norms(model, tuple(layers))}
    budget = _MOST_BYTES
    ratios, cosines, adjacent = [], [], True
    for weight, bias, norm in pairs:
        if weight not in moments:
            continue
        budget -= 2 * model.tensors[weight].numel * model.tensors[weight].dtype.itemsize
        if budget < 0:
            break
        if bias is not None and bias in moments:
            ratio = _ratio(model.tensors, moments, weight, bias)
            if ratio is not None:
                ratios.append(ratio)
                adjacent = adjacent and norm in sure
        else:
            cosine = _cosine(model.tensors[weight], *moments[weight])
            if cosine is not None:
                cosines.append(cosine)
    if ratios:
        if max(ratios) < VANISHED:
            return GradientTrace(Used.BATCH, tuple(ratios), (), adjacent)
        if min(ratios) > ALIVE:
            return GradientTrace(Used.STORED, tuple(ratios), (), adjacent)
        return None
    if cosines and max(cosines) < ORTHOGONAL:
        return GradientTrace(Used.BATCH, (), tuple(cosines))
    return None


Moment = tuple["TensorRef", "ParameterGroup"]


def _by_name(model: SavedModel, state: OptimizerState) -> dict[str, Moment] | None:
    """Each parameter's average by its name; None unless one way of naming alone fits all shapes.

    An optimizer numbers its parameters in the order in which it got them: that of
    ``model.parameters()``, or of several groups which each keep that order.
    """
    if all(len(g.names) == len(g.parameters) for g in state.groups):
        named = _assigned(model, state, [g.names for g in state.groups])
        if named is not None:
            return named
    parameters = _parameters(model)
    count = sum(len(g.parameters) for g in state.groups)
    found: list[dict[str, Moment]] = []
    for lists in _partitions(model, parameters, [len(g.parameters) for g in state.groups], count):
        named = _assigned(model, state, lists)
        if named is not None and all(_differs(named, other) for other in found):
            found.append(named)
    return found[0] if len(found) == 1 else None


def _by_shapes(model: SavedModel, state: OptimizerState) -> dict[str, Moment] | None:
    """The same of a model whose file keeps no order, in the order that the shapes tell."""
    order = order_of_parameters(model.tensors, state)
    if order is None:
        return None
    named = _assigned(model, state, order.groups)
    if named is None or len(named) < len(order.names):
        return None  # parameters without an average leave gaps between neighbours
    return {name: named[name] for name in order.names}


def _differs(one: Mapping[str, Moment], other: Mapping[str, Moment]) -> bool:
    return any(name not in other or other[name][0] is not m[0] for name, m in one.items())


def _parameters(model: SavedModel) -> list[str]:
    """Names of the parameters in the model's order, tied ones once."""
    if model.modules is not None:
        names: list[str] = []
        for module in model.modules:
            prefix = f"{module.path}." if module.path else ""
            names += [prefix + n for n, t in module.parameters.items() if t is not None]
        known = [name for name in names if name in model.tensors]
    else:
        known = [
            name
            for name, tensor in model.tensors.items()
            if tensor.dtype.floating and name.rpartition(".")[2] not in _STATISTICS
        ]
    seen: set[tuple[int, int, tuple[int, ...]]] = set()
    once = []
    for name in known:
        tensor = model.tensors[name]
        place = (id(tensor.storage), tensor.offset, tensor.shape)
        if tensor.storage is None or place not in seen:
            once.append(name)
            seen.add(place)
    return once


def _partitions(
    model: SavedModel, names: list[str], sizes: list[int], count: int
) -> Iterator[Sequence[Sequence[str]]]:
    """Ways in which training scripts hand parameters over, that have groups of these sizes."""
    if count > len(names):
        return
    # As a whole, or a part that is trained while the rest is frozen: in the model's order.
    for start in range(len(names) - count + 1):
        lists: list[Sequence[str]] = []
        at = start
        for size in sizes:
            lists.append(names[at : at + size])
            at += size
        yield lists
    if count < len(names) or len(sizes) < 2:
        return
    norms = {n.rpartition(".")[0] for n in model.tensors if n.endswith("running_mean")}

    def kind(name: str) -> str:
        if name.endswith("bias"):
            return "bias"
        return "norm" if name.rpartition(".")[0] in norms else "weight"

    by_rank = [[n for n in names if model.tensors[n].ndim > 1]]
    by_rank.append([n for n in names if model.tensors[n].ndim <= 1])
    biases = [n for n in names if kind(n) == "bias"]
    rest = [n for n in names if kind(n) != "bias"]
    in_norms = [n for n in names if n.rpartition(".")[0] in norms]
    outside = [n for n in names if n.rpartition(".")[0] not in norms]
    three = [[n for n in names if kind(n) == k] for k in ("weight", "norm", "bias")]
    for parts in (by_rank, [biases, rest], [in_norms, outside], three):
        for ordered in _orders(parts):
            if [len(part) for part in ordered] == sizes:
                yield ordered


def _orders(parts: Sequence[Sequence[str]]) -> Iterator[Sequence[Sequence[str]]]:
    if not parts:
        yield []
    for index, first in enumerate(parts):
        for rest in _orders([*parts[:index], *parts[index + 1 :]]):
            yield [first, *rest]


def _assigned(
    model: SavedModel, state: OptimizerState, lists: Sequence[Sequence[str]]
) -> dict[str, Moment] | None:
    """The averages under these names; None where one shape does not fit."""
    found: dict[str, Moment] = {}
    for group, names in zip(state.groups, lists, strict=True):
        if len(names) != len(group.parameters):
            return None
        for key, name in zip(group.parameters, names, strict=True):
            moment, tensor = state.moments.get(key), model.tensors.get(name)
            if moment is None:
                continue
            if tensor is None or tensor.shape != moment.shape:
                return None
            found[name] = (moment, group)
    return found or None


def _before(
    tensors: Mapping[str, TensorRef], layers: Sequence[NormLayer], wanted: Sequence[str]
) -> Iterator[tuple[str, str | None, str]]:
    """The weight and the bias whose place is right before each norm's, and the norm."""
    chosen = {layer.path: layer.features for layer in layers if layer.path in set(wanted)}
    last: str | None = None
    done: set[str] = set()
    for name, tensor in tensors.items():
        parent, _, own = name.rpartition(".")
        if parent in chosen:
            if parent not in done and last is not None:
                done.add(parent)
                weight = tensors[last]
                if weight.shape[0] == chosen[parent]:
                    bias = last.rpartition(".")[0] + ".bias" if "." in last else "bias"
                    with_bias = bias in tensors and tensors[bias].shape == weight.shape[:1]
                    yield last, bias if with_bias else None, parent
            last = None
        elif own == "weight" and tensor.ndim >= 2:
            last = name
        elif own not in ("bias", "weight"):
            last = None  # something else lies between them


def _read(tensor: TensorRef) -> Floats | None:
    if not tensor.readable:
        return None
    values = tensor.values()
    if values.dtype.kind == "c":
        return None
    return np.asarray(values, dtype=np.float64).reshape(tensor.shape)


def _gradient(tensor: TensorRef, moment: TensorRef, group: ParameterGroup) -> Floats | None:
    """The averaged gradient, with coupled weight decay taken out.

    Decay adds a multiple of the parameter to each gradient: to Adam's average as it is, to SGD's
    sum with the weight 1/(1 - momentum), less after few steps, and none at all where decay is
    decoupled, which older files do not say. So the multiple is fitted, between nothing and all.
    """
    held = _read(moment)
    if held is None or not np.all(np.isfinite(held)):
        return None
    if group.weight_decay == 0 or group.decoupled is True:
        return held
    values = _read(tensor)
    if values is None or not np.all(np.isfinite(values)):
        return None
    size = float(np.sum(np.square(values)))
    if size == 0:
        return held
    scale = 1 / (1 - group.momentum) if 0 < group.momentum < 1 else 1.0
    most = _DECAY_MARGIN * group.weight_decay * scale
    multiple = min(max(float(np.sum(held * values)) / size, 0.0), most)
    return np.asarray(held - multiple * values, dtype=np.float64)


def _ratio(
    tensors: Mapping[str, TensorRef], moments: Mapping[str, Moment], weight: str, bias: str
) -> float | None:
    """Rms of the bias's average over that of the weight's."""
    above = _gradient(tensors[bias], *moments[bias])
    below = _gradient(tensors[weight], *moments[weight])
    if above is None or below is None:
        return None
    size = float(np.sqrt(np.mean(np.square(below))))
    return float(np.sqrt(np.mean(np.square(above)))) / size if size > 0 else None


def _cosine(tensor: TensorRef, moment: TensorRef, group: ParameterGroup) -> float | None:
    """|cos|·√n between average and filter, the median over filters."""
    gradient, values = _gradient(tensor, moment, group), _read(tensor)
    if gradient is None or values is None or not values.size:
        return None
    filters = values.reshape(values.shape[0], -1)
    flat = gradient.reshape(filters.shape)
    lengths = np.linalg.norm(flat, axis=1) * np.linalg.norm(filters, axis=1)
    alive = lengths > 0
    if not np.any(alive):
        return None
    cosines = np.abs(np.sum(flat * filters, axis=1)[alive]) / lengths[alive]
    return float(median(cosines) * filters.shape[1] ** 0.5)
