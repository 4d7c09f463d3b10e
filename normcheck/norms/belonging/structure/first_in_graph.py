"""The first norm of an exported model: a graph shows which weights the input itself reaches."""

from collections.abc import Mapping

from normcheck.norms.belonging.structure.first_weights import Placed
from normcheck.norms.belonging.structure.graph_links import weights_before
from normcheck.norms.belonging.structure.tracer import Tracer
from normcheck.norms.layer import NormLayer
from normcheck.norms.recognise.from_graph import GraphNorms
from normcheck.norms.weight_layout import of_node
from normcheck.saved.graph import Op
from normcheck.saved.tensors import TensorRef

_STEPS_BACK = 8
"""Between the first weights and the input; there are none, or a cast."""


def first_in_graph(
    norms: GraphNorms, layers: tuple[NormLayer, ...], tensors: Mapping[str, TensorRef]
) -> Placed | None:
    """The first norm of a graph, where it stands right behind weights that the input reaches.

    Args:
        norms: Of the graph, in the order in which it runs.
        layers: What they are layers of.
        tensors: Its stored tensors.

    Returns:
        None where the model begins otherwise, or groups divide the input's channels.
    """
    by_path = {layer.path: layer for layer in layers}
    tracer = Tracer(norms.graph, norms.flow, {}, tensors)
    paths = [entry.path for entry in norms.placed]
    for entry in norms.placed:
        target = by_path.get(entry.path)
        if target is None or not target.has_statistics:
            continue
        # A norm that runs twice keeps one set of statistics for two inputs.
        if entry.op is not Op.BATCH_NORM or target.at_initial_values or paths.count(entry.path) > 1:
            return None
        found = weights_before(entry.node.operands.get("input", ""), tracer)
        if found is None:
            return None
        node, weights, bias = found
        layout = of_node(node)
        divided = node.settings.get("groups", 1) != 1
        if divided or (layout is not None and layout.inputs_first and weights.ndim != 2):
            return None
        if not _is_input(node.operands.get("input", ""), norms):
            return None
        path = norms.graph.stored.get(node.operands.get("weight", ""), node.module)
        return target, path.removesuffix(".weight"), weights, bias
    return None


def _is_input(value: str, norms: GraphNorms) -> bool:
    """Whether a value is what the user gives, perhaps cast on its way."""
    for _ in range(_STEPS_BACK):
        node = norms.flow.made_by.get(value)
        if node is None:
            return value in norms.graph.inputs
        if node.op is not Op.SAME:
            return False
        value = node.operands.get("input", "")
    return False
