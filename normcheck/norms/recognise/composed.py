"""Norms that a graph writes out: means, squares and roots instead of one operator.

Layer norm is ``(x - mean(x)) / sqrt(mean((x - mean(x))²) + eps) · γ + β`` and RMS norm
``x / sqrt(mean(x²) + eps) · γ``. Exporters and authors write the root and the quotient in
several ways and put casts between; what is not all of it is not claimed.
"""

from collections.abc import Iterator

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.recognise.graph_values import GraphValues
from normcheck.saved.graph import Graph, Node, Op, Setting

COMPOSED = " … "
"""In ``target``, between the first and the last operator of a norm that is written out."""


def composed_norms(graph: Graph) -> tuple[Node, ...]:
    """The layer and RMS norms that are written out, each as one node, in their order.

    The nodes are not of the graph: their inputs and outputs are values of it, ``target`` names
    the first and the last operator. ``settings`` has ``eps``, ``dim`` and, where 1 is added to
    the stored weight, ``unit_offset``.
    """
    values = GraphValues(graph)
    return tuple(found for root in graph.nodes for found in _norm_around(root, values))


@lazy_dataclass(eq=False)
class _Spread:
    """The mean of squares that a root is taken of."""

    mean: Node
    squared: str
    """What is squared: the input, or what is left of it without its mean."""
    eps: float | None
    """None where it is added behind the root."""
    mean_of_input: Node | None = None
    """Of a variance that is written as the mean of squares without the square of the mean."""


@lazy_dataclass(eq=False)
class _Quotient:
    """A value that is divided by a root."""

    value: str
    eps: float
    last: Node
    """The operator that divides."""
    gain: tuple[str, bool] | None = None
    """γ, where it was multiplied by one of the two before, and whether 1 was added to it."""


def _norm_around(root: Node, values: GraphValues) -> Iterator[Node]:
    """The norm that divides by ``root``, where there is one."""
    exponent = root.settings.get("exponent")
    inverse = root.op is Op.INVERSE_SQUARE_ROOT or (root.op is Op.POWER and exponent == -0.5)
    if not inverse and root.op is not Op.SQUARE_ROOT and not (
        root.op is Op.POWER and exponent == 0.5
    ):  # fmt: skip
        return
    spread = _spread(root.operands.get("input", ""), values)
    if spread is None:
        return
    for found in _quotients(root, spread, values, inverse=inverse):
        value = found.value
        centred = (
            _without_mean(spread.squared, values)
            if spread.mean_of_input is None
            else (values.plain(spread.squared), spread.mean_of_input)
        )
        over = _dimensions(spread.mean, values)
        if over is None:
            return
        if centred is None:
            space = _over_space(over, found.last, spread.mean, values)
            if space or _over_batch(over, spread.mean, values):
                return
            if values.plain(value) == values.plain(spread.squared):
                yield _node(Op.RMS_NORM, spread.squared, found, spread.mean, values)
                return
            continue
        source, mean = centred
        also = _without_mean(value, values)
        if also is not None and also[0] == source and _dimensions(mean, values) == over:
            if _over_space(over, found.last, spread.mean, values):
                return
            op = _kind_of(source, over, spread.mean, values)
            yield _node(op, source, found, spread.mean, values)
            return


def _spread(value: str, values: GraphValues) -> _Spread | None:
    """The mean of squares, and the eps on it, that ``value`` is."""
    eps = None
    added = values.maker(value, Op.ADD)
    if added is not None:
        eps, rest = values.number(added), values.value(added)
        if eps is None or rest is None:
            return None
        value = rest
    for _ in range(2):
        # Corrected for the degree of freedom that the mean took: times n, over n - 1.
        scaled = values.maker(value, Op.MULTIPLY, Op.DIVIDE)
        if scaled is None or values.number(scaled) is None:
            break
        value = values.value(scaled) or ""
    difference = values.maker(value, Op.SUBTRACT)
    if difference is not None:
        return _of_difference(difference, eps, values)
    mean = values.maker(value, Op.MEAN)
    squared = values.maker(mean.operands.get("input", ""), Op.POWER, Op.MULTIPLY) if mean else None
    taken = _squared(squared, values) if squared is not None else None
    return _Spread(mean, taken, eps) if mean is not None and taken is not None else None


def _squared(node: Node, values: GraphValues) -> str | None:
    """The value that an operator squares; None where it does something else."""
    if node.op is Op.POWER:
        return node.operands.get("input", "") if node.settings.get("exponent") == 2 else None
    factors = {values.plain(v) for v in node.inputs}
    return node.inputs[0] if len(factors) == 1 and len(node.inputs) == 2 else None


def _of_difference(difference: Node, eps: float | None, values: GraphValues) -> _Spread | None:
    """``mean(x²) - mean(x)²``."""
    mean = values.maker(difference.operands.get("input", ""), Op.MEAN)
    square = values.maker(difference.operands.get("other", ""), Op.POWER, Op.MULTIPLY)
    inner = values.maker(mean.operands.get("input", ""), Op.POWER, Op.MULTIPLY) if mean else None
    if mean is None or square is None or inner is None:
        return None
    value, centre = _squared(inner, values), _squared(square, values)
    first = values.maker(centre, Op.MEAN) if centre is not None else None
    if value is None or first is None:
        return None
    if values.plain(first.operands.get("input", "")) != values.plain(value):
        return None
    return _Spread(mean, value, eps, first)


def _quotients(
    root: Node, spread: _Spread, values: GraphValues, *, inverse: bool
) -> Iterator[_Quotient]:
    """The operators that divide a value by a root, as it is and without a γ that was put to it."""
    for taker in values.takers(root.outputs[0]):
        node, eps, inverted = taker, spread.eps, inverse
        divisor = root.outputs[0]
        if eps is None and node.op is Op.ADD:
            # Added to the deviation instead of the variance.
            eps, divisor = values.number(node), node.outputs[0]
            node = values.only_taker(divisor) or node
        if not inverted and _is_reciprocal(node, divisor, values):
            inverted, divisor = True, node.outputs[0]
            node = values.only_taker(divisor) or node
        gain = values.joined(node, divisor) if inverted and node.op is Op.MULTIPLY else None
        if gain is not None:  # x · (γ · 1/√…)
            divisor = node.outputs[0]
            node = values.only_taker(divisor) or node
        if eps is None or node.op is not (Op.MULTIPLY if inverted else Op.DIVIDE):
            continue
        others = [v for v in node.inputs if values.plain(v) != values.plain(divisor)]
        first = node.operands.get("input")
        if len(others) == 1 and (inverted or others[0] == first):
            yield _Quotient(others[0], eps, node, gain)
            scaled = values.maker(others[0], Op.MULTIPLY)
            if scaled is None or gain is not None:
                continue
            for value in scaled.inputs:  # (γ · x) · 1/√…
                before = values.joined(scaled, value)
                if before is not None and values.stored(value) is None:
                    yield _Quotient(value, eps, node, before)


def _is_reciprocal(node: Node, value: str, values: GraphValues) -> bool:
    if node.op is Op.RECIPROCAL:
        return True
    if node.op is not Op.DIVIDE or values.plain(node.operands.get("other", "")) != value:
        return False
    return values.graph.scalars.get(node.operands.get("input", "")) == 1


def _kind_of(source: str, over: tuple[int, ...], mean: Node, values: GraphValues) -> Op:
    """Layer norm, or what its means are taken over makes of it."""
    if _over_batch(over, mean, values):
        return Op.BATCH_NORM
    if over == (2,) and values.grouped(source) is not None:
        return Op.GROUP_NORM
    return Op.LAYER_NORM


def _over_batch(over: tuple[int, ...], mean: Node, values: GraphValues) -> bool:
    """Whether samples are normalised together, channels apart."""
    rank = len(values.shape(mean.operands.get("input", "")))
    return bool(rank) and len(over) < rank and any(d % rank == 0 for d in over)


def _over_space(over: tuple[int, ...], quotient: Node, mean: Node, values: GraphValues) -> bool:
    """Whether this is of an image's positions, and no γ of their shape follows: no layer norm."""
    shape = values.shape(mean.operands.get("input", ""))
    rank = len(shape)
    if rank < 4 or sorted(d % rank for d in over) != list(range(2, rank)):
        return False
    following = values.only_taker(quotient.outputs[0])
    others = following.inputs if following is not None else ()
    return not any(values.graph.shapes.get(value) == shape[2:] for value in others)


def _without_mean(value: str, values: GraphValues) -> tuple[str, Node] | None:
    """The value whose mean was taken off to make ``value``, and the mean."""
    difference = values.maker(value, Op.SUBTRACT)
    if difference is None:
        return None
    source = values.plain(difference.operands.get("input", ""))
    mean = values.maker(difference.operands.get("other", ""), Op.MEAN)
    if mean is None or values.plain(mean.operands.get("input", "")) != source:
        return None
    return source, mean


def _dimensions(mean: Node, values: GraphValues) -> tuple[int, ...] | None:
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
    shape = values.shape(mean.operands.get("input", "")) or values.graph.shapes.get(
        mean.outputs[0] if mean.settings.get("keepdim") else "", ()
    )
    if len(dims) != len(over):
        return None
    if not shape:
        if sorted(dims) == list(range(-len(dims), 0)):
            return tuple(sorted(dims))  # the last ones, however many there are
        return dims if dims == (1,) or (len(dims) == 1 and dims[0] > 1) else None
    rank = len(shape)
    whole = sorted(d % rank for d in dims)
    if whole == [1] or whole == list(range(whole[0], rank)):
        return tuple(d - rank for d in whole)
    if whole == [0, *range(2, rank)] and rank > 2:
        return tuple(d - rank for d in whole)  # channels apart, over the batch
    return None


def _node(op: Op, source: str, quotient: _Quotient, mean: Node, values: GraphValues) -> Node:
    """The norm, with γ and β where they follow."""
    operands = {"input": values.plain(source)}
    over = _dimensions(mean, values) or ()
    settings: dict[str, Setting] = {"eps": float(f"{quotient.eps:.7g}"), "dim": over}
    groups = values.grouped(source) if op is Op.GROUP_NORM else None
    if groups is not None:
        settings["num_groups"] = groups
    if op is Op.BATCH_NORM:
        settings["training"] = True
    last = quotient.last
    if quotient.gain is not None:
        operands["weight"] = quotient.gain[0]
        if quotient.gain[1]:
            settings["unit_offset"] = True
    for joining, part in ((Op.MULTIPLY, "weight"), (Op.ADD, "bias")):
        if part in operands:
            continue
        following = values.only_taker(last.outputs[0])
        if following is None or following.op is not joining:
            continue
        joined = values.joined(following, last.outputs[0])
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
