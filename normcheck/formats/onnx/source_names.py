"""The names that the tensors of an ONNX model had in the source.

Exporters number what they computed, and store tensors that are equal only once, under the name
of one of them: a model that was just made has all its running means in one bias. The module and
the part of a node tell which tensor of the source it means.
"""

import re
from dataclasses import field, replace

from normcheck.formats.onnx.known_values import KnownValues
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.saved.graph import NORMS, Node, Op
from normcheck.saved.tensors import TensorRef, contiguous_strides

_UNNAMED = re.compile(r"(?:onnx::\w+|val_\d+|\d+|/.*_output_\d+)$", re.DOTALL)
"""What exporters call values that have no name in the source."""
_WITH_WEIGHTS = NORMS | {Op.CONVOLUTION, Op.LINEAR, Op.MATRIX_PRODUCT, Op.PRELU}
_PARTS = frozenset({"weight", "bias", "running_mean", "running_var", "transposed_weight"})
_BROADCAST = (Op.GROUP_NORM, Op.PRELU)
"""Whose parameters are shaped to fit an image: (C, 1, 1)."""


@lazy_dataclass(frozen=False, eq=False)
class NamedNodes:
    """The nodes, with their tensors by the names of the source."""

    nodes: tuple[Node, ...] = ()
    replaced: set[str] = field(default_factory=set)
    """Values without a name that have one now."""


def unnamed(value: str) -> bool:
    """Whether a name says nothing of the source."""
    return _UNNAMED.match(value) is not None


def with_names(nodes: list[Node], known: KnownValues) -> tuple[NamedNodes, dict[str, TensorRef]]:
    """The nodes, and the tensors that they take as weights and statistics, by name.

    Args:
        nodes: With the stored values as operands.
        known: Where those are.
    """
    named = NamedNodes()
    tensors: dict[str, TensorRef] = {}
    taken = {v for n in nodes for p, v in n.operands.items() if p in _PARTS and not unnamed(v)}
    named.nodes = tuple(_named(node, known, tensors, taken, named.replaced) for node in nodes)
    return named, tensors


def _named(
    node: Node,
    known: KnownValues,
    tensors: dict[str, TensorRef],
    taken: set[str],
    replaced: set[str],
) -> Node:
    if node.op not in _WITH_WEIGHTS:
        return node
    operands, op = dict(node.operands), node.op
    for part, value in node.operands.items():
        tensor = known.tensors.get(value)
        if part not in _PARTS or tensor is None:
            continue
        name = _name(node, part, value)
        if name == value or (name in taken and not same(tensor, known.tensors.get(name))):
            tensors.setdefault(value, tensor)
            continue
        if unnamed(value):
            replaced.add(value)
        if part == "transposed_weight":
            if tensor.ndim != 2:
                tensors.setdefault(value, tensor)
                continue
            tensor = replace(tensor, shape=tensor.shape[::-1], strides=tensor.strides[::-1])
            del operands[part]
            operands["weight"], op = name, Op.LINEAR
            tensors.setdefault(name, tensor)
            continue
        if op in _BROADCAST and tensor.ndim > 1:
            shape = (tensor.numel,)
            tensor = replace(tensor, shape=shape, strides=contiguous_strides(shape))
        operands[part] = name
        tensors.setdefault(name, tensor)
    return replace(node, op=op, operands=operands)


def same(one: TensorRef, other: TensorRef | None) -> bool:
    """Whether two references are to one tensor of the file."""
    return other is not None and one.storage is other.storage


def _name(node: Node, part: str, value: str) -> str:
    """What the source calls a node's tensor; the value itself where that cannot be told."""
    leaf = "weight" if part == "transposed_weight" else part
    name = f"{node.module}.{leaf}" if node.module else leaf
    if unnamed(value):
        return name if node.module or node.class_path else value
    # Only torch's own modules surely call their tensors so; of others the name in the file is
    # the better one, unless it is that of another module.
    module, _, called = value.rpartition(".")
    own = value.startswith(f"{node.module}.") if node.module else True
    own = own and not (module == node.module and called in _PARTS - {leaf})
    exact = (node.class_path or "").startswith("torch.nn.") and part != "transposed_weight"
    return name if exact and not own else value
