"""Where the weights of a layer have their outputs: its operator says so, not the shape.

A convolution stores ``[out, in / groups, *kernel]`` and a transposed one ``[in, out / groups,
*kernel]``; a linear layer ``[out, in]``, and one that is stored transposed (GPT-2's ``Conv1D``,
a matrix product of ONNX) ``[in, out]``. A state dict does not tell these apart.
"""

from collections.abc import Iterator
from math import prod

from normcheck.often_made import often_made
from normcheck.saved.checkpoint import ModuleRecord, SavedModel
from normcheck.saved.dtypes import Array
from normcheck.saved.graph import Flow, Graph, Node, Op

_OF_WEIGHTS = (Op.CONVOLUTION, Op.LINEAR, Op.MATRIX_PRODUCT)


@often_made()
class Layout:
    """Which axis of the weights is which."""

    inputs_first: bool = False
    """Of transposed convolutions, and of matrices that are multiplied from the right."""
    groups: int = 1
    """Matters where the inputs come first: each group then has outputs of its own."""

    def outputs(self, shape: tuple[int, ...]) -> int:
        """How many outputs weights of a shape have."""
        return shape[1] * self.groups if self.inputs_first else shape[0]

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether weights can have a shape."""
        return len(shape) >= 2 and (not self.inputs_first or shape[0] % self.groups == 0)

    def rows(self, values: Array) -> Array:
        """Weights as a matrix of a row for each output.

        Args:
            values: In the shape in which they are stored, which this layout fits.

        Returns:
            Of shape (outputs, inputs per group times taps).
        """
        if not self.inputs_first:
            return values.reshape(values.shape[0], -1)
        made_of, makes = values.shape[0] // self.groups, values.shape[1]
        taps = prod(values.shape[2:])
        apart = values.reshape(self.groups, made_of, makes, taps).swapaxes(1, 2)
        return apart.reshape(self.groups * makes, made_of * taps)


def layouts_of(model: SavedModel) -> dict[str, Layout]:
    """Of each tensor of weights whose layout the model tells, by the tensor's name."""
    found: dict[str, Layout] = {}
    for record in model.modules or ():
        layout = of_module(record)
        if layout is None:
            continue
        for path in (record.path, *record.aliases):
            found[f"{path}.weight" if path else "weight"] = layout
    if model.graph is not None:
        found |= of_graph(model.graph)
    return found


def strides_of(model: SavedModel) -> dict[str, tuple[int, ...]]:
    """Strides of the transposed convolutions of a module tree, by the name of the weights."""
    found: dict[str, tuple[int, ...]] = {}
    for record in model.modules or ():
        layout, stride = of_module(record), record.attributes.get("stride")
        if layout is None or not layout.inputs_first or not isinstance(stride, tuple):
            continue
        steps = tuple(step for step in stride if type(step) is int and step > 0)
        if len(steps) == len(stride):
            found[f"{record.path}.weight" if record.path else "weight"] = steps
    return found


def of_graph(graph: Graph) -> dict[str, Layout]:
    """Of the stored tensors that a graph multiplies with."""
    flow = Flow(graph)
    return dict(filter(None, (stored_weights(node, flow) for node in graph.nodes)))


def of_node(node: Node) -> Layout | None:
    """What an operator takes its weights for; None for one without, or of unknown groups."""
    if node.op not in _OF_WEIGHTS:
        return None
    if node.op is not Op.CONVOLUTION:
        return Layout(inputs_first="transposed_weight" in node.operands)
    groups, transposed = node.settings.get("groups"), node.settings.get("transposed")
    if type(groups) is not int or groups < 1 or transposed not in (None, False, True):
        return None
    return Layout(inputs_first=transposed is True, groups=groups)


def weights_value(node: Node) -> str:
    """The value that an operator multiplies its input with; empty where it has none."""
    return node.operands.get("weight") or node.operands.get("transposed_weight", "")


def stored_weights(node: Node, flow: Flow) -> tuple[str, Layout] | None:
    """The name of the tensor that an operator takes for its weights, and its layout there.

    A matrix that the graph turns before it is multiplied is stored the other way round.
    """
    layout, value = of_node(node), weights_value(node)
    if layout is None:
        return None
    made = flow.made_by.get(value)
    if made is not None and made.op is Op.PERMUTE and node.op is not Op.CONVOLUTION:
        value, layout = made.operands.get("input", ""), Layout(not layout.inputs_first)
    name = flow.graph.stored.get(value)
    return (name, layout) if name is not None else None


def stored_bias(node: Node, flow: Flow) -> str | None:
    """The name of the tensor that is added to what an operator with weights makes.

    Its own bias, or that of an add behind it, as matrix products have it.
    """
    if "bias" in node.operands:
        return flow.graph.stored.get(node.operands["bias"])
    takers = flow.taken_by.get(node.outputs[0], []) if node.outputs else []
    if len(takers) == 1 and takers[0].op is Op.ADD:
        added = [flow.graph.stored[v] for v in takers[0].inputs if v in flow.graph.stored]
        return added[0] if len(added) == 1 else None
    return None


def of_module(record: ModuleRecord) -> Layout | None:
    """Of a module's ``weight``; None where its class and attributes do not say."""
    weight = record.parameters.get("weight")
    if weight is None or weight.ndim < 2:
        return None
    groups, transposed = record.attributes.get("groups"), record.attributes.get("transposed")
    name = record.class_name
    if type(groups) is int and groups > 0 and weight.ndim > 2:
        # ``_ConvNd`` keeps ``transposed``; classes of other libraries only their names.
        turned = transposed if isinstance(transposed, bool) else "Transpose" in name
        return Layout(inputs_first=turned, groups=groups)
    if weight.ndim == 2 and name == "Conv1D":
        return Layout(inputs_first=True)
    if weight.ndim == 2 and "Linear" in name:
        return Layout()
    return None


def possible(shape: tuple[int, ...], outputs: int) -> Iterator[Layout]:
    """The layouts under which weights of unknown layout have so many outputs.

    The usual one first. Of a grouped transposed convolution the groups follow from the number
    of outputs.
    """
    if len(shape) < 2:
        return
    if shape[0] == outputs:
        yield Layout()
    if shape[1] and outputs % shape[1] == 0:
        turned = Layout(inputs_first=True, groups=outputs // shape[1])
        if turned.fits(shape) and (len(shape) > 2 or turned.groups == 1):
            yield turned
