"""Chains norm → activation → weights → norm: where one norm predicts the input of another.

In a state dict the order of the keys is the order in which modules were registered, which is
the order in which most of them run. What stands next to each other is therefore probably
connected; inside one block it is nearly sure. A link that does not exist (across a residual
add, between parallel branches) predicts nonsense, so each link says how sure it is.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from math import prod

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.belonging.structure.grown import growths
from normcheck.norms.belonging.structure.link import (
    Link,
    WeightStructure,
    role_of,
    usable,
    weights_kind,
)
from normcheck.norms.belonging.structure.module_step import ModuleStep
from normcheck.norms.belonging.structure.module_tree import Between
from normcheck.norms.belonging.structure.run_order import proven_blocks, usual_order
from normcheck.norms.belonging.structure.separable import Separable, separable
from normcheck.norms.belonging.structure.steps import places_served, steps_of
from normcheck.norms.belonging.structure.weights_before import weights_before
from normcheck.norms.kinds import Family
from normcheck.norms.layer import (
    Confidence,
    NormLayer,
    Recognition,
    untouched_beside_others,
)
from normcheck.norms.weight_layout import Layout, layouts_of, strides_of
from normcheck.saved.checkpoint import SavedModel

_SIDE_BRANCH = re.compile(
    r"downsample|shortcut|(^|[._])skip|identity|residual|branch|rbr|aux|proj_?match|"
    r"conv_(?:kxk|1x1|scale)(?:$|\.)",
    re.IGNORECASE,
)
"""Parts of names of layers that stand beside the main path, not behind what precedes them."""

SEQUENTIAL = "neighbours in one Sequential"


def find_links(
    model: SavedModel, layers: tuple[NormLayer, ...], steps: list[ModuleStep] | None = None
) -> tuple[Link, ...]:
    """The links of a model, in its order.

    Safetensors keep no order; their modules are put into the usual one, and a link is then a guess
    unless the numbers of one Sequential prove it.

    Args:
        model: Of a file that is open.
        layers: Its norms.
        steps: What ``steps_of`` makes of both, where it is there already.
    """
    steps = steps_of(model, layers) if steps is None else steps
    told = _Told.by(model, layers)
    if model.ordered:
        return tuple(_links(steps, told, ordered=True))
    orders = usual_order(steps)
    behind, ahead = proven_blocks(orders[1])
    after, before = (
        tuple(_links(order, told, ordered=False, proven=proven))
        for order, proven in zip(orders, (behind, ahead), strict=True)
    )
    # Post- and pre-activation blocks differ in which of conv1 and bn1 comes first. Where channels
    # do not prove it, the right one of the two orders lets more layers fit together.
    if bool(behind) != bool(ahead):
        return after if behind else before
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

    def among(self, source: str, weights: str) -> tuple[str, ...]:
        """Activations of which one stands between a norm and weights; empty where any may."""
        return self.tree.activations(source, weights) if self.tree is not None else ()

    def max_pooled(self, source: str, weights: str) -> int:
        """Values that a max pooling between a norm and weights chooses from; 1 is none."""
        return self.tree.max_pooled(source, weights) if self.tree is not None else 1

    def turned(self, weights: str) -> bool:
        """Whether weights store their inputs first."""
        layout = self.layouts.get(weights)
        return layout is not None and layout.inputs_first

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


def _links(
    steps: list[ModuleStep], told: _Told, *, ordered: bool, proven: Collection[str] = ()
) -> Iterator[Link]:
    """Links between neighbours.

    Args:
        steps: Modules in order.
        told: What the model tells besides.
        ordered: Whether the file keeps this order.
        proven: Blocks inside which it is the right one all the same.
    """
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
        if source is None and growth is None:
            yield from _through_both(steps, before, target, told, ordered=ordered)
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
                ordered=ordered or _all_within(proven, source.path, step.path, target.path),
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
            among=told.among(source.path, step.path),
            max_pooled=told.max_pooled(source.path, step.path),
            before=weights_before(steps, before, told.layouts),
        )


def _all_within(blocks: Collection[str], *paths: str) -> bool:
    """Whether modules are in the same one of some blocks."""
    (first, *others) = {path.rpartition(".")[0] for path in paths}
    return not others and first in blocks


def _through_both(
    steps: list[ModuleStep], first: int, target: NormLayer, told: _Told, *, ordered: bool
) -> Iterator[Link]:
    """The link through a convolution in two parts, depthwise and pointwise, if there is one.

    Args:
        steps: Modules in order.
        first: The place of the first part; the norm before it is looked for.
        target: The norm behind the second.
        told: What the model tells besides.
        ordered: Whether the file keeps the order of its modules.
    """
    if first < 1 or not steps[first].is_weights:
        return
    source, second = steps[first - 1].norm, steps[first + 1]
    if source is None or source.path in told.idle or not usable(source, target):
        return
    both = separable(steps[first], second, source.features or 0)
    if both is None or (both.bias is not None and both.bias.numel != target.features):
        return
    if both.pointwise.weight.shape[0] != target.features:
        return
    if any(told.turned(step.weight_name) for step in (steps[first], second)):
        return
    yield Link(
        source,
        second.path,
        both.pointwise.weight,
        both.bias,
        target,
        WeightStructure.SEPARABLE,
        role_of(source.path, second.path, target.path),
        _certainty_through(source.path, both, target.path, ordered=ordered),
        depthwise=both.depthwise,
        before=weights_before(steps, first - 1, told.layouts),
        among=told.tree.activations(source.path, steps[first].path)
        if told.tree is not None
        else (),
    )


def _certainty_through(source: str, both: Separable, target: str, *, ordered: bool) -> Recognition:
    """How sure a link through two parts is: in a Sequential numbers leave room for nothing else.

    A sum over inputs comes last there: it evens out which taps a small image meets.
    """
    first, second = both.depthwise.path, both.pointwise.path
    ahead = _certainty(source, first, second, ordered=ordered, brought=False)
    behind = _certainty(first, second, target, ordered=ordered, brought=False)
    if both.depthwise.ahead and ahead == behind and ahead.reason == SEQUENTIAL:
        return ahead
    return Recognition(Confidence.LOW, "through a depthwise and a pointwise convolution")


def _certainty(
    source: str, weights: str, target: str, *, ordered: bool, brought: bool
) -> Recognition:
    around_source, _, first = source.rpartition(".")
    around_weights, _, middle = weights.rpartition(".")
    around_target, _, end = target.rpartition(".")
    one_block = around_source == around_weights == around_target
    numbered = one_block and first.isdecimal() and middle.isdecimal() and end.isdecimal()
    # An activation takes one place; a pooling or dropout would take another.
    adjacent = numbered and int(middle) - int(first) <= 2 and int(end) - int(middle) == 1
    if adjacent and not brought:
        return Recognition(Confidence.HIGH, SEQUENTIAL)  # a side branch, perhaps, but within it
    if not ordered:
        return Recognition(Confidence.LOW, "the file keeps no order; by names and shapes")
    if _SIDE_BRANCH.search(weights) or _SIDE_BRANCH.search(target):
        return Recognition(Confidence.LOW, "the name is that of a side branch")
    if brought:
        return Recognition(Confidence.MEDIUM, "weights and norms of one block, by their numbers")
    if numbered:
        return Recognition(Confidence.MEDIUM, "one Sequential, with something between")
    if one_block:
        return Recognition(Confidence.HIGH, "neighbours in one block")
    if around_weights == around_target:
        return Recognition(Confidence.MEDIUM, "neighbouring units")
    return Recognition(Confidence.LOW, "neighbours in the file")
