"""Links between norms that a graph shows, where a state dict's order only suggests them."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod

from normcheck.norms.belonging.structure.inflow import (
    Averaged,
    Inflow,
    Normed,
    Pooled,
    Summed,
    channels_of,
    contains,
    norms_of,
    steps_of,
)
from normcheck.norms.belonging.structure.link import Link, WeightStructure, role_of, usable
from normcheck.norms.belonging.structure.tracer import Tracer, activation
from normcheck.norms.layer import Confidence, NormLayer, Recognition
from normcheck.norms.recognise.from_graph import GraphNorms
from normcheck.norms.weight_layout import of_node, stored_weights, weights_value
from normcheck.saved.graph import Flow, Node, Op
from normcheck.saved.tensors import TensorRef

_MOST_MOMENTS = 1 << 22
"""Channels times steps whose moments are taken for one model; some seconds. Links beyond are not
judged."""


def graph_links(
    norms: GraphNorms, layers: tuple[NormLayer, ...], tensors: Mapping[str, TensorRef]
) -> tuple[Link, ...]:
    """The links of an exported model, in the order in which it runs.

    Args:
        norms: Of its graph.
        layers: What they are layers of.
        tensors: Its stored tensors.
    """
    by_path = {layer.path: layer for layer in layers}
    placed = [
        (entry.node, by_path[entry.path])
        for entry in norms.placed
        if entry.op is Op.BATCH_NORM and entry.path in by_path and entry.node.outputs
    ]
    made = {
        node.outputs[0]: layer
        for node, layer in placed
        if layer.weight is None or layer.weight.size == layer.features
    }
    tracer = Tracer(norms.graph, norms.flow, made, tensors)
    return tuple(_links(placed, tracer))


def behind_activations(norms: GraphNorms) -> frozenset[str]:
    """Paths of batch norms whose input is what an activation makes, perhaps pooled."""
    return frozenset(
        entry.path
        for entry in norms.placed
        if entry.op is Op.BATCH_NORM
        and _is_activated(entry.node.operands.get("input", ""), norms.flow)
    )


def _is_activated(value: str, flow: Flow) -> bool:
    for _ in range(_STEPS_BACK):
        node = flow.made_by.get(value)
        if node is None:
            return False
        if node.op in (Op.ACTIVATION, Op.PRELU):
            return True
        if node.op not in _KEEPING:
            return False
        value = node.operands.get("input", "")
    return False


def before_norms(
    norms: GraphNorms, tensors: Mapping[str, TensorRef]
) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, float, str], ...]]:
    """What stands right before the norms of an export.

    Returns:
        Names of biases with the path of the norm that subtracts them again; and of each dropout
        that a batch norm follows, perhaps behind weights and an activation, its path, its
        probability and the path of that norm.
    """
    graph, flow = norms.graph, norms.flow
    tracer = Tracer(graph, flow, {}, tensors)
    biases: list[tuple[str, str]] = []
    dropouts: list[tuple[str, float, str]] = []
    for entry in norms.placed:
        node, op, path = entry.node, entry.op, entry.path
        if op not in (Op.BATCH_NORM, Op.INSTANCE_NORM):
            continue
        value = node.operands.get("input", "")
        found = weights_before(value, tracer)
        bias = graph.stored.get(found[0].operands.get("bias", "")) if found is not None else None
        if bias is not None:
            biases.append((bias, path))
        if op is Op.BATCH_NORM and (dropout := _dropout_before(value, flow)) is not None:
            place = dropout.module or dropout.name
            dropouts.append((place, dropout.dropped or 0.0, path))
    return tuple(dict.fromkeys(biases)), tuple(dict.fromkeys(dropouts))


def _dropout_before(value: str, flow: Flow) -> Node | None:
    """The dropout that a value comes from through weights and activations alone."""
    for _ in range(_STEPS_BACK):
        node = flow.made_by.get(value)
        if node is None:
            return None
        if node.op is Op.DROPOUT:
            return node if node.dropped else None
        if node.op not in (Op.SAME, Op.LINEAR, Op.CONVOLUTION, Op.ACTIVATION):
            return None
        value = node.operands.get("input", "")
    return None


_STEPS_BACK = 6
_KEEPING = (Op.SAME, Op.VIEW, Op.DROPOUT, Op.MAX_POOL, Op.AVERAGE_POOL)
"""Operators that leave it to the one before them whether values are those of an activation."""


def _links(placed: list[tuple[Node, NormLayer]], tracer: Tracer) -> Iterator[Link]:
    judged: set[str] = set()
    taken = 0
    for node, target in placed:
        value = node.operands.get("input", "")
        before = _before_relu(value, target, tracer.flow)
        found = weights_before(value if before is None else before, tracer)
        # A norm that runs twice keeps one set of statistics for two inputs: no link predicts it.
        if found is None or target.path in judged:
            continue
        judged.add(target.path)
        made, weights, bias = found
        inflow = tracer.inflow(made.operands.get("input", ""))
        kind = _kind(made, weights, target)
        if inflow is None or kind is None or not _fits(inflow, made, kind, weights, bias, target):
            continue
        source = norms_of(inflow)[0]
        taken += (channels_of(inflow) or 0) * steps_of(inflow)
        if taken > _MOST_MOMENTS or not usable(source, target):
            continue
        certain = tracer.graph.exact and not any(
            contains(inflow, step) for step in (Summed, Averaged, Pooled)
        )
        path = tracer.graph.stored.get(weights_value(made), made.module).rpartition(".")[0]
        yield Link(
            source=source,
            weights_path=path,
            weights=weights,
            bias=bias,
            target=target,
            kind=kind,
            role=role_of(source.path, path, target.path)
            + ("" if isinstance(inflow, Normed) else " >"),
            recognition=Recognition(
                Confidence.HIGH if certain else Confidence.MEDIUM,
                "connected in the graph" + ("" if certain else ", through a sum or pooling"),
            ),
            inflow=inflow,
            groups=_groups(made) if kind is WeightStructure.TRANSPOSED else 1,
            seen=_seen(made),
            rectified=before is not None,
        )


def _before_relu(value: str, target: NormLayer, flow: Flow) -> str | None:
    """What a ReLU right before a norm takes, where the norm stores means of rectified values."""
    mean = target.running_mean
    if mean is None or not mean.size or not mean.lowest >= 0:
        return None
    for _ in range(_STEPS_BACK):
        node = flow.made_by.get(value)
        if node is None:
            return None
        value = node.operands.get("input", "")
        if node.op is Op.ACTIVATION:
            known = activation(node)
            return value if known is not None and known[0] == "ReLU" else None
        if node.op not in (Op.SAME, Op.DROPOUT):
            return None
    return None


def _groups(node: Node) -> int:
    layout = of_node(node)
    return layout.groups if layout is not None else 1


def _seen(node: Node) -> float | None:
    """Share of its taps that an output position of a transposed convolution sees."""
    stride = node.settings.get("stride", 1)
    if isinstance(stride, int):
        stride = (stride,)
    if not isinstance(stride, tuple):
        return None
    steps = [step for step in stride if isinstance(step, int) and step > 0]
    return 1 / prod(steps) if len(steps) == len(stride) else None


def _fits(
    inflow: Inflow,
    node: Node,
    kind: WeightStructure,
    weights: TensorRef,
    bias: TensorRef | None,
    target: NormLayer,
) -> bool:
    """Whether channels, weights and target are as many as they have to be to be multiplied."""
    channels = channels_of(inflow)
    if not channels or not weights.numel or weights.dtype.name.startswith("complex"):
        return False
    makes, takes = weights.shape[:2]
    if kind is WeightStructure.TRANSPOSED:
        makes, takes = takes * _groups(node), makes
    if bias is not None and bias.numel != makes:
        return False
    if makes != target.features:
        return False
    match kind:
        case WeightStructure.LINEAR:
            return takes % channels == 0
        case WeightStructure.DEPTHWISE | WeightStructure.GROUPED:
            return channels % takes == 0 and makes % (channels // takes) == 0
        case _:
            return takes == channels


def weights_before(value: str, tracer: Tracer) -> tuple[Node, TensorRef, TensorRef | None] | None:
    """The operator with weights that makes a value, its weights (out first) and its bias."""
    node = tracer.flow.made_by.get(value)
    extra: TensorRef | None = None
    for _ in range(4):
        if node is None:
            return None
        if node.op is Op.SAME or (node.op is Op.VIEW and "squeeze" in node.target):
            node = tracer.flow.made_by.get(node.operands.get("input", ""))
        elif node.op is Op.ADD and extra is None:
            # A bias that is added by an operator of its own, behind a matrix product.
            stored = [v for v in node.inputs if v in tracer.graph.stored]
            others = [v for v in node.inputs if v not in tracer.graph.stored]
            if len(stored) != 1 or len(others) != 1:
                return None
            extra = tracer.tensors.get(tracer.graph.stored[stored[0]])
            node = tracer.flow.made_by.get(others[0])
        else:
            break
    if node is None or node.op not in (Op.CONVOLUTION, Op.LINEAR, Op.MATRIX_PRODUCT):
        return None
    weights = _stored_weights(node, tracer)
    if weights is None or not weights.readable:
        return None
    bias_name = tracer.graph.stored.get(node.operands.get("bias", ""))
    bias = tracer.tensors.get(bias_name) if bias_name is not None else extra
    if "bias" in node.operands and bias_name is None:
        return None
    return node, weights, bias


def _stored_weights(node: Node, tracer: Tracer) -> TensorRef | None:
    """Weights as they are stored; a transposed matrix is turned by its strides."""
    found = stored_weights(node, tracer.flow)
    if found is None:
        return None
    name, layout = found
    weights = tracer.tensors.get(name)
    if weights is None or not layout.fits(weights.shape):
        return None
    if layout.inputs_first and weights.ndim == 2:
        return replace(weights, shape=weights.shape[::-1], strides=weights.strides[::-1])
    return weights


def _kind(node: Node, weights: TensorRef, target: NormLayer) -> WeightStructure | None:
    if node.op is not Op.CONVOLUTION:
        return WeightStructure.LINEAR if weights.shape[0] == target.features else None
    groups = node.settings.get("groups")
    if node.settings.get("transposed") is True:
        layout = of_node(node)
        makes = layout.outputs(weights.shape) if layout is not None else None
        known = makes == target.features and _seen(node) is not None
        return WeightStructure.TRANSPOSED if known else None
    if weights.shape[0] != target.features or not isinstance(groups, int):
        return None
    if groups == 1:
        return WeightStructure.CONVOLUTION
    return WeightStructure.DEPTHWISE if weights.shape[1] == 1 else WeightStructure.GROUPED
