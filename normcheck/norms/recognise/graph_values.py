"""The values of a graph, by what they are made of: past casts and views, to what is stored."""

from collections.abc import Iterator

from normcheck.saved.graph import Flow, Graph, Node, Op

_STEPS = 8
"""Copies and views in a row that are followed."""
_ELEMENTWISE = frozenset({Op.SAME, Op.POWER, Op.MULTIPLY, Op.SUBTRACT, Op.ADD, Op.DIVIDE})
"""Operators whose result has the shape of their first operand, as norms write them."""
_MOST_TAKERS = 64
"""Operators that are looked at behind one root; a norm has one or two."""


class GraphValues:
    """A graph, asked for what its values are."""

    def __init__(self, graph: Graph) -> None:
        """Follow which node makes and which nodes take each value."""
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
