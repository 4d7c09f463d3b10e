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
_ELEMENTWISE = frozenset({Op.SAME, Op.POWER, Op.MULTIPLY, Op.SUBTRACT, Op.ADD, Op.DIVIDE})
"""Operators whose result has the shape of their first operand, as norms write them."""
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
    mean_of_input: Node | None = None
    """Of a variance that is written as the mean of squares without the square of the mean."""


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

    def shape(self, value: str) -> tuple[int | None, ...]:
        """The shape of a value; that of what it is made from element by element."""
        for _ in range(_STEPS):
            known = self.graph.shapes.get(value)
            if known:
                return known
            node = self._flow.made_by.get(value)
            if node is None or node.op not in _ELEMENTWISE:
                return ()
            value = node.operands.get("input", "")
        return ()

    def grouped(self, value: str) -> int | None:
        """The number of groups into which a value is laid side by side before it is normalised."""
        for _ in range(_STEPS):
            view = self.maker(value, Op.VIEW)
            if view is None or len(view.inputs) < 2:
                return None
            shape = self._flow.made_by.get(view.inputs[1])
            if shape is not None and shape.op is Op.CONCATENATE and len(shape.inputs) > 2:
                groups = self.graph.scalars.get(shape.inputs[1])
                if groups is not None and groups >= 1:
                    return int(groups)
            value = view.operands.get("input", "")
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
        centred = (
            _without_mean(spread.squared, writing)
            if spread.mean_of_input is None
            else (writing.plain(spread.squared), spread.mean_of_input)
        )
        over = _dimensions(spread.mean, writing)
        if over is None:
            return
        if centred is None:
            space = _over_space(over, quotient, spread.mean, writing)
            if space or _over_batch(over, spread.mean, writing):
                return
            if writing.plain(value) == writing.plain(spread.squared):
                yield _node(Op.RMS_NORM, spread.squared, eps, quotient, spread.mean, writing)
                return
            continue
        source, mean = centred
        also = _without_mean(value, writing)
        if also is not None and also[0] == source and _dimensions(mean, writing) == over:
            if _over_space(over, quotient, spread.mean, writing):
                return
            op = _kind_of(source, over, spread.mean, writing)
            yield _node(op, source, eps, quotient, spread.mean, writing)
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
    difference = writing.maker(value, Op.SUBTRACT)
    if difference is not None:
        return _of_difference(difference, eps, writing)
    mean = writing.maker(value, Op.MEAN)
    squared = writing.maker(mean.operands.get("input", ""), Op.POWER, Op.MULTIPLY) if mean else None
    taken = _squared(squared, writing) if squared is not None else None
    return _Spread(mean, taken, eps) if mean is not None and taken is not None else None


def _squared(node: Node, writing: _Writing) -> str | None:
    """The value that an operator squares; None where it does something else."""
    if node.op is Op.POWER:
        return node.operands.get("input", "") if node.settings.get("exponent") == 2 else None
    factors = {writing.plain(v) for v in node.inputs}
    return node.inputs[0] if len(factors) == 1 and len(node.inputs) == 2 else None


def _of_difference(difference: Node, eps: float | None, writing: _Writing) -> _Spread | None:
    """``mean(x²) - mean(x)²``."""
    mean = writing.maker(difference.operands.get("input", ""), Op.MEAN)
    square = writing.maker(difference.operands.get("other", ""), Op.POWER, Op.MULTIPLY)
    inner = writing.maker(mean.operands.get("input", ""), Op.POWER, Op.MULTIPLY) if mean else None
    if mean is None or square is None or inner is None:
        return None
    value, centre = _squared(inner, writing), _squared(square, writing)
    first = writing.maker(centre, Op.MEAN) if centre is not None else None
    if value is None or first is None:
        return None
    if writing.plain(first.operands.get("input", "")) != writing.plain(value):
        return None
    return _Spread(mean, value, eps, first)


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


def _kind_of(source: str, over: tuple[int, ...], mean: Node, writing: _Writing) -> Op:
    """Layer norm, or what its means are taken over makes of it."""
    if _over_batch(over, mean, writing):
        return Op.BATCH_NORM
    if over == (2,) and writing.grouped(source) is not None:
        return Op.GROUP_NORM
    return Op.LAYER_NORM


def _over_batch(over: tuple[int, ...], mean: Node, writing: _Writing) -> bool:
    """Whether samples are normalised together, channels apart."""
    rank = len(writing.shape(mean.operands.get("input", "")))
    return bool(rank) and len(over) < rank and any(d % rank == 0 for d in over)


def _over_space(over: tuple[int, ...], quotient: Node, mean: Node, writing: _Writing) -> bool:
    """Whether this is of an image's positions, and no γ of their shape follows: no layer norm."""
    shape = writing.shape(mean.operands.get("input", ""))
    rank = len(shape)
    if rank < 4 or sorted(d % rank for d in over) != list(range(2, rank)):
        return False
    following = writing.only_taker(quotient.outputs[0])
    others = following.inputs if following is not None else ()
    return not any(writing.graph.shapes.get(value) == shape[2:] for value in others)


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


def _dimensions(mean: Node, writing: _Writing) -> tuple[int, ...] | None:
    """What a mean is taken over, where that is what a layer norm takes: features.

    The last dimensions, or the channels of an image. Over the batch it is a batch norm without
    statistics of its own.
    """
    over = mean.settings.get("dim")
    if isinstance(over, int):
        over = (over,)
    if not isinstance(over, tuple) or not over:
        return None
    dims = tuple(d for d in over if isinstance(d, int))
    shape = writing.shape(mean.operands.get("input", "")) or writing.graph.shapes.get(
        mean.outputs[0] if mean.settings.get("keepdim") else "", ()
    )
    if len(dims) != len(over):
        return None
    if not shape:
        return dims if dims in ((-1,), (1,)) or (len(dims) == 1 and dims[0] > 1) else None
    rank = len(shape)
    whole = sorted(d % rank for d in dims)
    if whole == [1] or whole == list(range(whole[0], rank)):
        return tuple(d - rank for d in whole)
    if whole == [0, *range(2, rank)] and rank > 2:
        return tuple(d - rank for d in whole)  # channels apart, over the batch
    return None


def _node(op: Op, source: str, eps: float, quotient: Node, mean: Node, writing: _Writing) -> Node:
    """The norm, with γ and β where they follow."""
    operands = {"input": writing.plain(source)}
    over = _dimensions(mean, writing) or ()
    settings: dict[str, Setting] = {"eps": float(f"{eps:.7g}"), "dim": over}
    groups = writing.grouped(source) if op is Op.GROUP_NORM else None
    if groups is not None:
        settings["num_groups"] = groups
    if op is Op.BATCH_NORM:
        settings["training"] = True
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
