"""What an export does in training mode: operators whose mode is part of the graph."""

from collections.abc import Iterator
from dataclasses import dataclass

from normcheck.checkpoint.graph import Graph, Node, Op
from normcheck.norms.from_graph import norm_nodes


@dataclass(frozen=True, slots=True)
class BakedMode:
    """One operator that computes as in training."""

    what: Op
    """Batch norm, dropout, a random mask, attention or recurrent layers with dropout."""
    node: str
    """The operator's own name in the file."""
    target: str
    """The operator as the file names it."""
    module: str
    """Path of the module that it was made from; empty where that is unknown."""
    p: float | None = None
    """Share that a dropout drops."""
    switchable: bool = False
    """Whether its mode is a flag that ``eval()`` changes after loading, as in scripted code."""

    @property
    def place(self) -> str:
        """Module and operator, for messages."""
        return f"{self.module} ({self.node})" if self.module else self.node


def baked_modes(graph: Graph) -> tuple[BakedMode, ...]:
    """The operators of a graph that are in training mode, in their order.

    A batch norm without running statistics has no other mode than this one, and is left out;
    so is dropout that drops nothing.
    """
    batch_norms = {id(node) for node, op in norm_nodes(graph) if op is Op.BATCH_NORM}
    return tuple(_modes(graph, batch_norms))


def _modes(graph: Graph, batch_norms: set[int]) -> Iterator[BakedMode]:
    for node in graph.nodes:
        p = node.settings.get("p")
        drops = isinstance(p, int | float) and p > 0
        if node.op is Op.BATCH_NORM:
            hit = id(node) in batch_norms and bool(node.training) and _tracks(node)
            drops = False
        elif node.op in (Op.DROPOUT, Op.RECURRENT):
            hit = bool(node.training) and (drops or "lower" in node.settings)
        elif node.op is Op.ATTENTION:
            hit = drops
        elif node.op is Op.RANDOM_MASK:
            hit = drops and isinstance(p, float) and p < 1
        else:
            hit = False
        if hit:
            yield BakedMode(
                node.op,
                node.name,
                node.target,
                node.module,
                float(p) if drops and isinstance(p, int | float) else None,
                node.module in graph.switchable,
            )


def _tracks(node: Node) -> bool:
    return "running_mean" in node.operands and "running_var" in node.operands
