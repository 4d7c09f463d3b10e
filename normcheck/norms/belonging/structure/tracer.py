"""Values of a graph followed back to the norms that they come from."""

from collections.abc import Callable, Mapping
from math import prod

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.belonging.structure.activations import ACTIVATIONS
from normcheck.norms.belonging.structure.inflow import (
    Activated,
    Averaged,
    Inflow,
    Joined,
    Normed,
    Pooled,
    Summed,
    channels_of,
)
from normcheck.norms.belonging.structure.module_tree import pooled_values
from normcheck.norms.layer import Floats, NormLayer
from normcheck.saved.graph import Flow, Graph, Node, Op
from normcheck.saved.tensors import TensorRef

_DEEPEST = 64
"""Steps that are followed back; between two norms there are a few, but DenseNets add up."""
_MOST_PARTS = 512
"""Parts of one inflow; each residual block doubles what is behind it."""
_MOST_STEPS = 1 << 20
"""Steps that are followed for one model, so that its time grows with its length."""


@lazy_dataclass(frozen=False)
class Tracer:
    """Follows values of a graph back to norms."""

    graph: Graph
    flow: Flow
    norms: Mapping[str, NormLayer]
    """Of each value that a usable norm makes."""
    tensors: Mapping[str, TensorRef]
    _left: int = _MOST_PARTS
    _ever: int = _MOST_STEPS

    def inflow(self, value: str) -> Inflow | None:
        """What reaches a value; None where anything else than known steps leads to it."""
        self._left = _MOST_PARTS
        return self._traced(value, 0)

    def _traced(self, value: str, depth: int) -> Inflow | None:
        self._left -= 1
        self._ever -= 1
        if depth > _DEEPEST or self._left < 0 or self._ever < 0:
            return None
        layer = self.norms.get(value)
        if layer is not None:
            return Normed(layer)
        node = self.flow.made_by.get(value)
        if node is None:
            return None
        before = node.operands.get("input", "")
        match node.op:
            case Op.SAME | Op.DROPOUT:
                # Dropout keeps the mean; in eval mode it is the identity.
                return self._traced(before, depth + 1)
            case Op.VIEW:
                return self._traced(before, depth + 1) if self._keeps_channels(node) else None
            case Op.MAX_POOL:
                inner = self._traced(before, depth + 1)
                return Pooled(inner, _window(node)) if inner is not None else None
            case Op.AVERAGE_POOL | Op.MEAN:
                inner = self._traced(before, depth + 1) if self._over_space(node) else None
                return Averaged(inner) if inner is not None else None
            case Op.ACTIVATION:
                known = activation(node)
                inner = self._traced(before, depth + 1) if known is not None else None
                return Activated(inner, *known) if inner is not None and known else None
            case Op.PRELU:
                return self._prelu(node, depth)
            case Op.MULTIPLY:
                return self._gated(node, depth)
            case Op.ADD:
                if len(node.inputs) != 2 or node.settings.get("alpha", 1) != 1:
                    return None
                return self._parts(node.inputs, Summed, depth)
            case Op.CONCATENATE:
                dim = node.settings.get("dim")
                return self._parts(node.inputs, Joined, depth) if dim in (1, -3) else None
            case _:
                return None

    def _parts(
        self, values: tuple[str, ...], kind: type[Summed] | type[Joined], depth: int
    ) -> Inflow | None:
        parts: list[Inflow] = []
        for value in values:
            part = self._traced(value, depth + 1)
            if part is None:
                return None
            parts.append(part)
        return kind(tuple(parts)) if parts else None

    def _prelu(self, node: Node, depth: int) -> Inflow | None:
        slopes = self.tensors.get(self.graph.stored.get(node.operands.get("weight", ""), ""))
        inner = self._traced(node.operands.get("input", ""), depth + 1)
        if slopes is None or inner is None or not slopes.readable:
            return None
        if slopes.numel != 1 and slopes.numel != channels_of(inner):
            return None
        column = np.asarray(slopes.values(), dtype=np.float64).reshape(-1)[:, None]
        return Activated(inner, "PReLU", lambda x: np.where(x > 0, x, column * x))

    def _gated(self, node: Node, depth: int) -> Inflow | None:
        """``x · sigmoid(x)`` and its like: activations that exporters write as two operators."""
        if len(node.inputs) != 2:
            return None
        for value, gate in (node.inputs, node.inputs[::-1]):
            made = self.flow.made_by.get(gate)
            if made is None or made.op is not Op.ACTIVATION or made.operands.get("input") != value:
                continue
            name = GATED.get(str(made.settings.get("activation")))
            inner = self._traced(value, depth + 1) if name else None
            if name and inner is not None:
                return Activated(inner, name, ACTIVATIONS[name])
        return None

    def _keeps_channels(self, node: Node) -> bool:
        """Whether a change of shape only takes away lengths of 1, or flattens them."""
        before = self.graph.shapes.get(node.operands.get("input", ""))
        after = self.graph.shapes.get(node.outputs[0]) if node.outputs else None
        if before is None or after is None:
            return "flatten" in node.target.lower() or "squeeze" in node.target.lower()
        if len(before) < 2 or len(after) < 2:
            return False
        rest = before[1:]
        flattened = len(after) == 2 and None not in rest and after[1] == prod(n or 0 for n in rest)
        return before[1] == after[1] or flattened

    def _over_space(self, node: Node) -> bool:
        """Whether a mean leaves samples and channels apart."""
        if node.op is Op.AVERAGE_POOL or "output_size" in node.settings:
            return True
        dims = node.settings.get("dim")
        if isinstance(dims, int):
            dims = (dims,)
        if not isinstance(dims, tuple):
            return "pool" in node.target.lower()
        shape = self.graph.shapes.get(node.operands.get("input", ""))
        rank = len(shape) if shape else 4
        return all(isinstance(d, int) and d % rank >= 2 for d in dims)


def _window(node: Node) -> int:
    """Values under the window of a max pooling."""
    dimensions = next((int(c) for c in node.target if c in "123"), 2)
    return pooled_values(node.settings.get("kernel_size"), dimensions)


GATED = {"sigmoid": "SiLU", "hardsigmoid": "hardswish"}
"""Activations by the gate that their input is multiplied with."""


def activation(node: Node) -> tuple[str, Callable[[Floats], Floats]] | None:
    """Name and function of an activation; None for one that is not known here."""
    name = str(node.settings.get("activation", ""))
    if name in ACTIVATIONS and name != "ELU":
        return name, ACTIVATIONS[name]
    if name == "leaky ReLU":
        slope = node.settings.get("negative_slope")
        if not isinstance(slope, int | float):
            return None
        factor = float(slope)
        return f"leaky ReLU {factor:g}", lambda x: np.where(x > 0, x, factor * x)
    if name == "ELU":
        alpha = node.settings.get("alpha", 1.0)
        if alpha == 1:
            return name, ACTIVATIONS[name]
        return None
    if name == "hardtanh":
        low, high = node.settings.get("min"), node.settings.get("max")
        least = float(low) if isinstance(low, int | float) else -np.inf
        most = float(high) if isinstance(high, int | float) else np.inf
        known = {(0.0, 6.0): "ReLU6", (0.0, np.inf): "ReLU"}.get((least, most))
        return known or f"clip {least:g} to {most:g}", lambda x: np.clip(x, least, most)
    return None
