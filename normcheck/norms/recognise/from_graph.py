"""The norms of an exported model: its operators, joined with what modules and names tell."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.kinds import BY_NAME, Family, NormKind, batch_norm, of_class
from normcheck.norms.layer import Confidence, NormLayer, Recognition, Values
from normcheck.norms.layer_count import LayerCount
from normcheck.norms.layer_numbers import read_count, read_values
from normcheck.norms.recognise import from_modules, from_names
from normcheck.norms.recognise.composed import COMPOSED, composed_norms
from normcheck.saved.checkpoint import Form, SavedModel
from normcheck.saved.graph import NORMS, Flow, Graph, Node, Op
from normcheck.saved.tensors import TensorRef

_KINDS = {
    Op.LAYER_NORM: "LayerNorm",
    Op.GROUP_NORM: "GroupNorm",
    Op.RMS_NORM: "RMSNorm",
    Op.LOCAL_RESPONSE_NORM: "LocalResponseNorm",
    Op.LP_NORM: "custom norm",
}
_FAMILIES = {
    Op.BATCH_NORM: (Family.BATCH,),
    Op.INSTANCE_NORM: (Family.INSTANCE,),
    Op.LAYER_NORM: (Family.LAYER,),
    Op.GROUP_NORM: (Family.GROUP,),
    Op.RMS_NORM: (Family.RMS,),
}
_MOST_DIMENSIONS = 8
_MOST_FEATURES = 1 << 48
_PARTS = ("running_mean", "running_var", "weight", "bias")


@lazy_dataclass(eq=False)
class Placed:
    """An operator that normalises activations."""

    node: Node
    op: Op
    """What it is in truth, which the file may write as something else."""
    path: str
    """Of the layer that it belongs to."""


@lazy_dataclass(eq=False)
class GraphNorms:
    """The norms of a graph, found once for all who ask."""

    flow: Flow
    placed: tuple[Placed, ...]

    @property
    def graph(self) -> Graph:
        """That they are of."""
        return self.flow.graph


def norms_of(graph: Graph) -> GraphNorms:
    """Find the operators of a graph that normalise activations, in the order in which they run."""
    flow = Flow(graph)
    return GraphNorms(flow, tuple(_placed(flow)))


@np.errstate(invalid="ignore")  # signalling NaNs warn when they are widened
def norm_layers(model: SavedModel, norms: GraphNorms) -> tuple[NormLayer, ...]:
    """The normalization layers of an exported model, in the order in which they run.

    Behind them come layers that the graph does not reach: stored with statistics, and applied
    as something else or not at all.
    """
    recorded = {layer.path: layer for layer in from_modules.norm_layers(model.modules or ())}
    found: dict[str, NormLayer] = {}
    count = LayerCount()
    for entry in norms.placed:
        path = entry.path
        layer = recorded.pop(path, None)
        if path in found:
            found[path] = _again(found[path], entry.node)
            continue
        made = _layer(entry.node, entry.op, path, norms.flow, model.tensors)
        found[path] = made if layer is None else _joined(layer, made)
        count.add(found[path])
    unused = set(unused_statistics(model, norms))
    for layer in recorded.values():
        if layer.path not in unused:
            found.setdefault(layer.path, layer)
    if model.modules is None:
        stored, nodes = norms.graph.stored, [entry.node for entry in norms.placed]
        taken = {stored.get(value) for node in nodes for value in node.operands.values()}
        left = {name: tensor for name, tensor in model.tensors.items() if name not in taken}
        for layer in from_names.norm_layers(left, {}):
            if layer.has_statistics and layer.path not in found and layer.path not in unused:
                found[layer.path] = layer
    return tuple(found.values())


def unused_statistics(model: SavedModel, norms: GraphNorms) -> tuple[str, ...]:
    """Modules of a program whose running statistics are stored and taken by no operator.

    ``torch.export`` keeps the buffers of norms that were folded into the weights before them, or
    that no forward reached: inputs of the graph without a user. They are no layers of it.
    """
    if model.form is not Form.EXPORTED:
        return ()
    taken = {name for value, name in norms.graph.stored.items() if norms.flow.taken_by.get(value)}
    paths: dict[str, bool] = {}
    for name in model.tensors:
        path, _, leaf = name.rpartition(".")
        if leaf in _PARTS[:2]:
            paths[path] = paths.get(path, False) or name in taken
    return tuple(path for path, is_taken in paths.items() if not is_taken)


def _placed(flow: Flow) -> Iterator[Placed]:
    taken: set[str] = set()
    leaves = _leaves(flow.graph)
    for node, op in _norm_nodes(flow):
        path = _path(node, flow.graph, taken, leaves)
        taken.add(path)
        yield Placed(node, op, path)


def _norm_nodes(flow: Flow) -> Iterator[tuple[Node, Op]]:
    """The operators that normalise activations, each with what it is in truth.

    Weight standardisation runs a batch norm over the weights, and instance norm is written as
    batch norm over the samples as channels: neither is a batch norm of the model.
    """
    graph = flow.graph
    place = {value: i for i, node in enumerate(graph.nodes) for value in node.outputs}
    written_out = composed_norms(graph)
    nodes = (*graph.nodes, *written_out)
    if written_out:
        nodes = tuple(sorted(nodes, key=lambda n: place.get(n.outputs[0], -1) if n.outputs else -1))
    for node in nodes:
        if node.op not in NORMS:
            continue
        value = node.operands.get("input", "")
        if graph.exact and not flow.depends_on_input(value) and value not in graph.inputs:
            continue
        if node.op is Op.BATCH_NORM and _per_sample(node, flow):
            yield node, Op.INSTANCE_NORM
        else:
            yield node, node.op


def _per_sample(node: Node, flow: Flow) -> bool:
    """Whether a batch norm is an instance norm: each sample's channels as channels of one."""
    if "running_mean" in node.operands or not node.training:
        return False
    if "InstanceNorm" in (node.class_path or ""):
        return True
    value = node.operands.get("input", "")
    view = flow.made_by.get(value)
    after = flow.graph.shapes.get(value, ())
    if view is None or view.op is not Op.VIEW or after[:1] != (1,):
        return False
    before = flow.graph.shapes.get(view.operands.get("input", ""), ())
    return len(before) == len(after) and before[:1] != (1,)


def _leaves(graph: Graph) -> frozenset[str]:
    """Modules that hold one norm and no other module: they are called as it is."""
    counts = Counter(node.module for node in graph.nodes if node.op in NORMS)
    inner = {
        ".".join(parts[:depth])
        for parts in {tuple(node.module.split(".")) for node in graph.nodes}
        for depth in range(1, len(parts))
    }
    return frozenset(module for module, count in counts.items() if module and count == 1) - inner


def _path(node: Node, graph: Graph, taken: set[str], leaves: frozenset[str]) -> str:
    """The module that a norm belongs to: that of its tensors, or of the call."""
    composed = COMPOSED in node.target
    if composed and node.module and node.module not in taken:
        return node.module
    names = [n for p in _PARTS if (n := graph.stored.get(node.operands.get(p, "")))]
    parents = {name.rpartition(".")[0] for name in names if "." in name}
    if len(parents) == 1 and (parent := parents.pop()) != "CONSTANTS":
        return parent
    own = of_class(node.class_path or "") or node.module in leaves
    path = node.module if own else ""
    if path and path not in taken:
        return path
    return f"{node.module}.{node.name}" if node.module else node.name


def _again(layer: NormLayer, node: Node) -> NormLayer:
    """A layer that the graph applies once more."""
    return replace(layer, training=True) if node.training else layer


def _joined(layer: NormLayer, made: NormLayer) -> NormLayer:
    """What the module's record tells, completed by the operator that it became."""
    mode = made.training if made.kind.family is Family.BATCH else layer.training
    return replace(
        layer,
        eps=made.eps if made.eps is not None else layer.eps,
        momentum=made.momentum if made.momentum is not None else layer.momentum,
        training=mode if mode is not None else layer.training,
        features=layer.features or made.features,
    )


def _layer(
    node: Node, op: Op, path: str, flow: Flow, tensors: Mapping[str, TensorRef]
) -> NormLayer:
    graph = flow.graph
    unread: dict[str, str] = {}

    def values(part: str) -> Values | None:
        value = node.operands.get(part, "")
        name = graph.stored.get(value)
        if name is None:
            if value and part in _PARTS[:2]:
                unread[part] = "given from outside" if value in graph.inputs else "computed"
            return None
        return read_values(tensors.get(name), part, unread)

    mean, variance, weight, bias = (values(part) for part in _PARTS)
    eps, momentum = node.settings.get("eps"), node.settings.get("momentum")
    known = mean or weight or bias
    shape = node.settings.get("normalized_shape")
    channels = graph.shapes.get(node.operands.get("input", ""), ())[1:2]
    return NormLayer(
        path=path,
        kind=_kind(node, op, _dimensions(node, flow, tensors), tracked=mean is not None),
        recognition=Recognition(Confidence.HIGH, f"operator {node.target}"),
        features=known.size if known is not None else _size(shape) or next(iter(channels), None),
        running_mean=mean,
        running_var=variance,
        batches=read_count(tensors.get(f"{path}.num_batches_tracked" if path else "")),
        weight=weight,
        bias=bias,
        class_path=node.class_path if path == node.module else None,
        training=node.training if op is Op.BATCH_NORM else None,
        eps=float(eps) if isinstance(eps, int | float) else None,
        momentum=float(momentum) if isinstance(momentum, int | float) else None,
        affine=weight is not None,
        unread=unread,
        unit_offset=node.settings.get("unit_offset") is True,
    )


def _size(shape: object) -> int | None:
    if not isinstance(shape, tuple) or len(shape) > _MOST_DIMENSIONS:
        return None
    sizes = [n for n in shape if isinstance(n, int) and n > 0]
    size = prod(sizes)
    return size if len(sizes) == len(shape) and size < _MOST_FEATURES else None


def _dimensions(node: Node, flow: Flow, tensors: Mapping[str, TensorRef]) -> int | None:
    """Spatial dimensions of what a norm is given; None where nothing tells."""
    value = node.operands.get("input", "")
    shape = flow.graph.shapes.get(value)
    if shape:
        return max(len(shape) - 2, 0)
    made = flow.made_by.get(value)
    if made is None or made.op not in (Op.CONVOLUTION, Op.LINEAR):
        return None
    weights = tensors.get(flow.graph.stored.get(made.operands.get("weight", ""), ""))
    return weights.ndim - 2 if weights is not None else 0 if made.op is Op.LINEAR else None


def _kind(node: Node, op: Op, dimensions: int | None, *, tracked: bool) -> NormKind:
    named = of_class(node.class_path or "")
    if op is Op.INSTANCE_NORM and tracked:
        return BY_NAME["tracking InstanceNorm"]
    if named is not None and named.family in _FAMILIES.get(op, ()):
        return named
    if op is Op.BATCH_NORM:
        return batch_norm(dimensions)
    if op is Op.INSTANCE_NORM:
        return BY_NAME[f"InstanceNorm{min(dimensions or 2, 3)}d"]
    return BY_NAME[_KINDS[op]]
