"""Chains norm → activation → weights → norm: where one norm predicts the input of another.

In a state dict the order of the keys is the order in which modules were registered, which is
the order in which most of them run. What stands next to each other is therefore probably
connected; inside one block it is nearly sure. A link that does not exist (across a residual
add, between parallel branches) predicts nonsense, so each link says how sure it is.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from math import prod
from typing import TYPE_CHECKING

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.belonging.grown import Grown, growths
from normcheck.norms.belonging.module_tree import Between
from normcheck.norms.belonging.steps import (
    NUMBER,
    ModuleStep,
    places_served,
    steps_of,
    usual_order,
)
from normcheck.norms.kinds import Family
from normcheck.norms.layer import (
    Confidence,
    NormLayer,
    Recognition,
    untouched_beside_others,
)
from normcheck.norms.weight_layout import Layout, layouts_of, strides_of
from normcheck.saved.checkpoint import SavedModel
from normcheck.saved.tensors import TensorRef

if TYPE_CHECKING:
    from normcheck.norms.belonging.inflow import Inflow

_SIDE_BRANCH = re.compile(
    r"downsample|shortcut|(^|[._])skip|identity|residual|branch|rbr|aux|proj_?match|"
    r"conv_(?:kxk|1x1|scale)(?:$|\.)",
    re.IGNORECASE,
)
"""Parts of names of layers that stand beside the main path, not behind what precedes them."""


class WeightStructure(StrEnum):
    """How the weights between two norms combine their inputs."""

    LINEAR = "linear"
    CONVOLUTION = "convolution"
    DEPTHWISE = "depthwise convolution"
    GROUPED = "grouped convolution"
    TRANSPOSED = "transposed convolution"


@lazy_dataclass(eq=False)
class Link:
    """Norm ``source`` → activation → ``weights`` → norm ``target``."""

    source: NormLayer
    weights_path: str
    weights: TensorRef
    bias: TensorRef | None
    target: NormLayer
    kind: WeightStructure
    role: str
    """What links at the same place of other blocks share: their names without numbers."""
    recognition: Recognition
    """How sure it is that the two norms are connected in this way, and why."""
    slopes: TensorRef | None = None
    """Of a PReLU that stands between source and weights."""
    inflow: "Inflow | None" = None
    """What reaches the weights, where a graph shows it."""
    either_way: bool = False
    """Whether the weights are square and nothing tells a convolution from a transposed one."""
    groups: int = 1
    """Of a transposed convolution; of the others the shape tells."""
    seen: float | None = None
    """Share of a transposed convolution's taps that an output position sees, 1 over the product
    of its strides; None where a file does not tell."""
    among: tuple[str, ...] = ()
    """Activations of which one stands between, by names of ``ACTIVATIONS``, where a module tree
    tells; empty where any may."""
    rectified: bool = False
    """Whether the target stands behind a ReLU; its statistics are then those before it."""
    grown: Grown | None = None
    """Where the target's channels grew by concatenation: what the others of them show. The target
    is then a norm over the new ones alone."""


def find_links(
    model: SavedModel, layers: tuple[NormLayer, ...], steps: list[ModuleStep] | None = None
) -> tuple[Link, ...]:
    """The links of a model, in its order.

    Safetensors keep no order; their modules are put into the usual one, and no link is then
    more than probable.

    Args:
        model: Of a file that is open.
        layers: Its norms.
        steps: What ``steps_of`` makes of both, where it is there already.
    """
    steps = steps_of(model, layers) if steps is None else steps
    told = _Told.by(model, layers)
    if model.ordered:
        return tuple(_links(steps, told, ordered=True))
    after, before = (tuple(_links(order, told, ordered=False)) for order in usual_order(steps))
    # Post- and pre-activation blocks differ in which of conv1 and bn1 comes first; the
    # right one of the two orders lets more layers fit together.
    return after if len(after) >= len(before) else before


def links_if_registered_otherwise(
    model: SavedModel, layers: tuple[NormLayer, ...]
) -> tuple[Link, ...]:
    """The links of a model whose norms were registered before the weights that they follow.

    Modules usually run in the order of their registration. Where statistics do not fit that order
    at all, a block that names ``bn1`` first and runs ``conv1`` first may be the reason.
    """
    steps = steps_of(model, layers)
    for index in range(len(steps) - 1):
        here, behind = steps[index], steps[index + 1]
        beside = here.path.rpartition(".")[0] == behind.path.rpartition(".")[0]
        makes = behind.shape[0] if behind.shape and behind.is_weights else None
        if here.norm is not None and beside and makes == here.norm.features:
            steps[index], steps[index + 1] = behind, here
    return tuple(_links(steps, _Told.by(model, layers), ordered=model.ordered))


def first_norm(
    model: SavedModel, layers: tuple[NormLayer, ...], steps: list[ModuleStep] | None = None
) -> tuple[NormLayer, str, TensorRef, TensorRef | None] | None:
    """The first norm of a model right behind its first weights, which the input reaches.

    Args:
        model: Of a file that is open.
        layers: Its norms.
        steps: What ``steps_of`` makes of both, where it is there already.

    Returns:
        The norm, the path of the weights, the weights and their bias; None where the model begins
        otherwise, or the file keeps no order.
    """
    if not model.ordered or not any(layer.has_statistics for layer in layers):
        return None
    layouts = layouts_of(model)
    steps = steps_of(model, layers) if steps is None else steps
    for index, step in enumerate(steps[:-1]):
        if step.norm is not None:
            return None
        if not step.is_weights:
            continue
        target, weights = steps[index + 1].norm, step.weight
        if target is None or not target.has_statistics or target.at_initial_values:
            return None
        if steps[index + 1].brought or modules_between(step.path, target.path):
            return None  # nothing but numbers in names puts it there, or something may be between
        if target.path in places_served(model, layers) or _is_part(step, target, steps[:index]):
            return None
        layout = layouts.get(step.weight_name)
        if not weights.readable or (layout is not None and layout.inputs_first):
            return None
        bias = step.leaf("bias")
        if bias is not None and bias.numel != target.features:
            return None
        return target, step.path, weights, bias
    return None


def modules_between(weights: str, target: str) -> int | None:
    """How many modules stand between two of one Sequential: without tensors, as activations are.

    Args:
        weights: Path of the weights.
        target: Of the norm behind them.

    Returns:
        None where they are not in one: names do not tell it there.
    """
    block, _, number = weights.rpartition(".")
    of_target, _, next_number = target.rpartition(".")
    numbered = number.isdecimal() and next_number.isdecimal() and block == of_target
    return int(next_number) - int(number) - 1 if numbered else None


def _is_part(step: ModuleStep, target: NormLayer, before: list[ModuleStep]) -> bool:
    """Whether weights are part of a module that has tensors of its own, and ends before the norm.

    The projection of a graph attention stands before its norm in a file, and what the module does
    with the projected, weighing neighbours and adding a bias, stands between them in a run.
    """
    whole, _, _ = step.path.rpartition(".")
    inside = target.path.startswith(f"{whole}.")
    return bool(whole) and not inside and any(other.path == whole for other in before)


@lazy_dataclass()
class _Told:
    """What a model tells of its weights besides their shapes; nothing for a state dict."""

    tree: Between | None
    layouts: Mapping[str, Layout]
    """By the name of the weights."""
    strides: Mapping[str, tuple[int, ...]]
    """Of transposed convolutions, likewise."""
    mixed: Collection[str]
    """Norms whose statistics are a mixture of several places: no one place predicts them."""
    idle: Collection[str]
    """Norms that run to no effect: they predict nothing of what stands behind them in the file."""

    @classmethod
    def by(cls, model: SavedModel, layers: tuple[NormLayer, ...]) -> "_Told":
        tree = Between(model.modules) if model.modules is not None else None
        mixed = places_served(model, layers)
        return cls(tree, layouts_of(model), strides_of(model), mixed, _idle(layers))


def _idle(layers: tuple[NormLayer, ...]) -> Collection[str]:
    """Batch norms that collected statistics, and whose γ and β alone nothing ever trained.

    Training reaches what an output depends on. A block that computes ``bn1(x)`` and goes on with
    ``x``, as published ones do, leaves γ at 1 and β at 0 for ever.
    """
    return {n.path for n in untouched_beside_others(layers) if n.kind.family is Family.BATCH}


def _links(steps: list[ModuleStep], told: _Told, *, ordered: bool) -> Iterator[Link]:
    grown = {growth.place: growth for growth in growths(steps)}
    for index, step in enumerate(steps):
        if not step.is_weights or index + 1 >= len(steps):
            continue
        growth = grown.get(index)
        target = steps[index + 1].norm if growth is None else growth.new
        if target is None or target.path in told.mixed:
            continue
        before = index - 1
        slopes = None
        if before >= 0 and steps[before].is_prelu:
            slopes = steps[before].weight
            before -= 1
        source = steps[before].norm if before >= 0 else None
        if source is None or source.path in told.idle or not usable(source, target):
            continue
        weights = step.weight
        made_of, makes = source.features or 0, target.features or 0
        layout = told.layouts.get(step.weight_name)
        strides = told.strides.get(step.weight_name)
        kind = weights_kind(weights, made_of, makes, layout)
        if kind is None or (slopes is not None and slopes.numel not in (1, source.features)):
            continue
        bias = step.leaf("bias")
        if bias is not None and bias.numel != makes:
            continue  # the weights make another number of channels than this reading of them
        yield Link(
            source,
            step.path,
            weights,
            bias,
            target,
            kind,
            role_of(source.path, step.path, target.path) + (" PReLU" if slopes is not None else ""),
            _certainty(
                source.path,
                step.path,
                target.path,
                ordered=ordered,
                brought=steps[index + 1].brought or steps[before].brought,
            )
            if growth is None
            else Recognition(
                Confidence.HIGH if growth.proven else Confidence.MEDIUM,
                "channels grow by what the weights make",
            ),
            slopes,
            grown=growth.grown if growth is not None and growth.proven else None,
            either_way=kind is WeightStructure.CONVOLUTION
            and layout is None
            and weights.shape[0] == weights.shape[1],
            groups=makes // weights.shape[1] if kind is WeightStructure.TRANSPOSED else 1,
            seen=1 / prod(strides) if strides else None,
            among=told.tree.activations(source.path, step.path) if told.tree is not None else (),
        )


def usable(source: NormLayer, target: NormLayer) -> bool:
    """Whether the source fixes each channel's distribution, and the target stores one."""
    return (
        source.kind.family in (Family.BATCH, Family.FROZEN_BATCH)
        and source.kind.name != "fused conv-BatchNorm"
        and target.kind.family in (Family.BATCH, Family.FROZEN_BATCH)
        and target.has_statistics
        and not target.at_initial_values
        and (source.weight is None or source.weight.size == source.features)
    )


def weights_kind(
    weights: TensorRef, made_of: int, makes: int, layout: Layout | None
) -> WeightStructure | None:
    """How ``weights`` leads from so many channels to so many; None where it cannot.

    Args:
        weights: As stored.
        made_of: Channels before.
        makes: Channels behind.
        layout: Where a file tells it; a shape alone shows an ungrouped transposed convolution
            only where it makes another number of channels than it takes.
    """
    if not weights.readable or not made_of or not makes or not all(weights.shape):
        return None
    out, inner = weights.shape[:2]
    if weights.ndim == 2:
        usual = layout is None or not layout.inputs_first
        return WeightStructure.LINEAR if (out, inner) == (makes, made_of) and usual else None
    if layout is not None and layout.inputs_first:
        fits = out == made_of and layout.outputs(weights.shape) == makes
        return WeightStructure.TRANSPOSED if fits and layout.fits(weights.shape) else None
    if out == makes:
        if inner == made_of:
            return WeightStructure.CONVOLUTION
        if inner == 1 and out == made_of:
            return WeightStructure.DEPTHWISE
        if made_of % inner == 0 and out % (made_of // inner) == 0:
            return WeightStructure.GROUPED
    if (out, inner) == (made_of, makes) and layout is None:
        return WeightStructure.TRANSPOSED
    return None


def role_of(source: str, weights: str, target: str) -> str:
    """The names without block numbers; within a Sequential the distance stays in it."""
    gap = ""
    first, last = source.rpartition("."), weights.rpartition(".")
    if first[0] == last[0] and first[2].isdecimal() and last[2].isdecimal():
        gap = f" +{int(last[2]) - int(first[2])}"
    return " > ".join(NUMBER.sub("#", path) for path in (source, weights, target)) + gap


def place_in_block(weights: str) -> str:
    """The last word of a name that has a number, as ``ghost2``: what a block numbers within it.

    Links of one role differ in it where a block holds alike parts of which one has an activation
    and the other has none.
    """
    words = reversed(weights.split("."))
    return next((word for word in words if word[-1:].isdecimal() and not word.isdecimal()), "")


def _certainty(
    source: str, weights: str, target: str, *, ordered: bool, brought: bool
) -> Recognition:
    parents = [path.rpartition(".")[0] for path in (source, weights, target)]
    lasts = [path.rpartition(".")[2] for path in (source, weights, target)]
    if not ordered:
        return Recognition(Confidence.LOW, "the file keeps no order; by names and shapes")
    if any(_SIDE_BRANCH.search(part) for part in (weights, target)):
        return Recognition(Confidence.LOW, "the name is that of a side branch")
    if brought:
        return Recognition(Confidence.MEDIUM, "weights and norms of one block, by their numbers")
    if parents[0] == parents[1] == parents[2]:
        if all(last.isdecimal() for last in lasts):
            first, middle, end = (int(last) for last in lasts)
            # An activation takes one place; a pooling or dropout would take another.
            if middle - first <= 2 and end - middle == 1:
                return Recognition(Confidence.HIGH, "neighbours in one Sequential")
            return Recognition(Confidence.MEDIUM, "one Sequential, with something between")
        return Recognition(Confidence.HIGH, "neighbours in one block")
    if parents[1] == parents[2]:
        return Recognition(Confidence.MEDIUM, "neighbouring units")
    return Recognition(Confidence.LOW, "neighbours in the file")
