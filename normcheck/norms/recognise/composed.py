"""Norms that a graph writes out: means, squares and roots instead of one operator.

Layer norm is ``(x - mean(x)) / sqrt(mean((x - mean(x))²) + eps) · γ + β`` and RMS norm
``x / sqrt(mean(x²) + eps) · γ``. Exporters and authors write the root and the quotient in
several ways and put casts between; what is not all of it is not claimed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from normcheck.saved.graph import Flow, Graph, Node, Op, Setting

COMPOSED = " … "
"""In ``target``, between the first and the last operator of a norm that is written out."""
_STEPS = 8
"""Copies and views in a row that are followed."""
_MOST_TAKERS = 64
"""Operators that are looked at behind one root; a norm has one or two."""


def composed_norms(graph: Graph) -> tuple[Node, ...]:
    """The layer and RMS norms that are written out, each as one node, in their order.

    The nodes are not of the graph: their inputs and outputs are values of it, ``target`` names
    the first and the last operator. ``settings`` has ``eps``, ``dim`` and, where 1 is added to
    the stored weight, ``unit_offset``.
    """
    writing = _Writing(graph)
    return tuple(found for root in graph.nodes for found in _norm_around(root, writing))


@dataclass(frozen=True, slots=True, eq=False)
class _Spread:
    """The mean of squares that a root is taken of."""

    mean: Node
    squared: str
    """What is squared: the input, or what is left of it without its mean."""
    eps: float | None
    """None where it is added behind the root."""


class _Writing:
    """A graph, and how its values are written."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._flow = Flow(graph)

    def plain(self, value: str) -> str:
        """The value that ``value`` is a copy or cast of."""
        for _ in range(_STEPS):
            node = self._flow.made_by.get(value)
            if node is None or node.op is not Op.SAME or "input" not in node.operands:
                break
            value = node.operands["input"]
        return value

    def maker(self, value: str, *ops: Op) -> Node | None:
        """The node that makes a value, casts left out, if it is one of ``ops``."""
        node = self._flow.made_by.get(self.plain(value))
        return node if node is not None and node.op in ops else None

    def only_taker(self, value: str) -> Node | None:
        """The one node that takes a value, casts left out; None where there are several."""
        for _ in range(_STEPS):
            takers = self._flow.taken_by.get(value, [])
            if len(takers) != 1 or value in self.graph.outputs:
                return None
            if takers[0].op is not Op.SAME or not takers[0].outputs:
                return takers[0]
            value = takers[0].outputs[0]
        return None

    def takers(self, value: str) -> Iterator[Node]:
        """The nodes that take a value, casts left out; of very many the first."""
        waiting = [value]
        for _ in range(_STEPS):
            if not waiting:
                return
            for node in self._flow.taken_by.get(waiting.pop(), [])[:_MOST_TAKERS]:
                if node.op is Op.SAME:
                    waiting.extend(node.outputs)
                else:
                    yield node

    def number(self, node: Node) -> float | None:
        """The number that an operator joins with a value."""
        other = node.settings.get("other")
        if isinstance(other, int | float) and not isinstance(other, bool):
            return float(other)
        found = [self.graph.scalars[v] for v in node.inputs if v in self.graph.scalars]
        return found[0] if len(found) == 1 else None

    def value(self, node: Node) -> str | None:
        """The value that an operator joins with a number."""
        values = [v for v in node.inputs if v not in self.graph.scalars]
        return values[0] if len(values) == 1 else None

    def stored(self, value: str) -> tuple[str, bool] | None:
        """The stored tensor that a value is, and whether 1 was added to it."""
        offset = False
        for _ in range(_STEPS):
            if value in self.graph.stored and value not in self.graph.scalars:
                return value, offset
            node = self._flow.made_by.get(value)
            if node is None:
                return None
            if node.op is Op.ADD and self.number(node) == 1 and not offset:
                offset, following = True, self.value(node)
            elif node.op in (Op.SAME, Op.VIEW):
                following = node.operands.get("input")
            else:
                return None
            if following is None:
                return None
            value = following
        return None

    def joined(self, node: Node, value: str) -> tuple[str, bool] | None:
        """The stored tensor that ``node`` joins with ``value``."""
        others = [v for v in node.inputs if self.plain(v) != self.plain(value)]
        return self.stored(others[0]) if len(others) == 1 else None


def _norm_around(root: Node, writing: _Writing) -> Iterator[Node]:
    """The norm that divides by ``root``, where there is one."""
    exponent = root.settings.get("exponent")
    inverse = root.op is Op.INVERSE_SQUARE_ROOT or (root.op is Op.POWER and exponent == -0.5)
    if not inverse and root.op is not Op.SQUARE_ROOT and not (
        root.op is Op.POWER and exponent == 0.5
    ):  # fmt: skip
        return
    spread = _spread(root.operands.get("input", ""), writing)
    if spread is None:
        return
    for eps, quotient, value in _quotients(root, spread, writing, inverse=inverse):
        centred = _without_mean(spread.squared, writing)
        over = _dimensions(spread.mean, writing.graph)
        if over is None:
            return
        if centred is None:
            if writing.plain(value) == writing.plain(spread.squared):
                yield _node(Op.RMS_NORM, spread.squared, eps, quotient, spread.mean, writing)
                return
            continue
        source, mean = centred
        also = _without_mean(value, writing)
        if also is not None and also[0] == source and _dimensions(mean, writing.graph) == over:
            yield _node(Op.LAYER_NORM, source, eps, quotient, spread.mean, writing)
            return


def _spread(value: str, writing: _Writing) -> _Spread | None:
    """The mean of squares, and the eps on it, that ``value`` is."""
    eps = None
    added = writing.maker(value, Op.ADD)
    if added is not None:
        eps, rest = writing.number(added), writing.value(added)
        if eps is None or rest is None:
            return None
        value = rest
    for _ in range(2):
        # Corrected for the degree of freedom that the mean took: times n, over n - 1.
        scaled = writing.maker(value, Op.MULTIPLY, Op.DIVIDE)
        if scaled is None or writing.number(scaled) is None:
            break
        value = writing.value(scaled) or ""
    mean = writing.maker(value, Op.MEAN)
    squared = writing.maker(mean.operands.get("input", ""), Op.POWER, Op.MULTIPLY) if mean else None
    if mean is None or squared is None:
        return None
    if squared.op is Op.POWER:
        taken = squared.operands.get("input", "")
        return _Spread(mean, taken, eps) if squared.settings.get("exponent") == 2 else None
    factors = {writing.plain(v) for v in squared.inputs}
    if len(factors) != 1 or len(squared.inputs) != 2:
        return None
    return _Spread(mean, squared.inputs[0], eps)


def _quotients(
    root: Node, spread: _Spread, writing: _Writing, *, inverse: bool
) -> Iterator[tuple[float, Node, str]]:
    """The operators that divide a value by a root: eps, the operator and the value."""
    for taker in writing.takers(root.outputs[0]):
        node, eps, inverted = taker, spread.eps, inverse
        divisor = root.outputs[0]
        if eps is None and node.op is Op.ADD:
            # Added to the deviation instead of the variance.
            eps, divisor = writing.number(node), node.outputs[0]
            node = writing.only_taker(divisor) or node
        if not inverted and _is_reciprocal(node, divisor, writing):
            inverted, divisor = True, node.outputs[0]
            node = writing.only_taker(divisor) or node
        if eps is None or node.op is not (Op.MULTIPLY if inverted else Op.DIVIDE):
            continue
        others = [v for v in node.inputs if writing.plain(v) != writing.plain(divisor)]
        first = node.operands.get("input")
        if len(others) == 1 and (inverted or others[0] == first):
            yield eps, node, others[0]


def _is_reciprocal(node: Node, value: str, writing: _Writing) -> bool:
    if node.op is Op.RECIPROCAL:
        return True
    if node.op is not Op.DIVIDE or writing.plain(node.operands.get("other", "")) != value:
        return False
    return writing.graph.scalars.get(node.operands.get("input", "")) == 1


def _without_mean(value: str, writing: _Writing) -> tuple[str, Node] | None:
    """The value whose mean was taken off to make ``value``, and the mean."""
    difference = writing.maker(value, Op.SUBTRACT)
    if difference is None:
        return None
    source = writing.plain(difference.operands.get("input", ""))
    mean = writing.maker(difference.operands.get("other", ""), Op.MEAN)
    if mean is None or writing.plain(mean.operands.get("input", "")) != source:
        return None
    return source, mean


def _dimensions(mean: Node, graph: Graph) -> tuple[int, ...] | None:
    """What a mean is taken over, where that is what a layer norm takes: features.

    All dimensions but the samples', the last one, or the channels of an image; over the batch or
    over space it is another norm.
    """
    over = mean.settings.get("dim")
    if isinstance(over, int):
        over = (over,)
    if not isinstance(over, tuple) or not over:
        return None
    dims = tuple(d for d in over if isinstance(d, int))
    shape = graph.shapes.get(mean.operands.get("input", "")) or graph.shapes.get(
        mean.outputs[0] if mean.settings.get("keepdim") else "", ()
    )
    if len(dims) != len(over):
        return None
    if not shape:
        return dims if dims in ((-1,), (1,)) or (len(dims) == 1 and dims[0] > 1) else None
    rank = len(shape)
    whole = sorted(d % rank for d in dims)
    if whole in ([rank - 1], [1], list(range(1, rank))):
        return tuple(d - rank for d in whole)
    return None


def _node(op: Op, source: str, eps: float, quotient: Node, mean: Node, writing: _Writing) -> Node:
    """The norm, with γ and β where they follow."""
    operands = {"input": writing.plain(source)}
    over = _dimensions(mean, writing.graph) or ()
    settings: dict[str, Setting] = {"eps": float(f"{eps:.7g}"), "dim": over}
    last = quotient
    for joining, part in ((Op.MULTIPLY, "weight"), (Op.ADD, "bias")):
        following = writing.only_taker(last.outputs[0])
        if following is None or following.op is not joining:
            continue
        joined = writing.joined(following, last.outputs[0])
        if joined is None or (joined[1] and part == "bias"):
            break
        operands[part], offset = joined
        if offset:
            settings["unit_offset"] = True
        last = following
    return Node(
        op,
        f"{mean.target}{COMPOSED}{last.target}",
        last.name,
        tuple(operands.values()),
        last.outputs,
        mean.module,
        mean.class_path,
        operands,
        settings,
    )
