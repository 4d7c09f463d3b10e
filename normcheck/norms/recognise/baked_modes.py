"""What an export does in training mode: operators whose mode is part of the graph."""

from collections.abc import Iterator
from dataclasses import dataclass

from normcheck.norms.recognise.from_graph import GraphNorms
from normcheck.saved.graph import Graph, Node, Op

_COUNT = "num_batches_tracked"


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


def baked_modes(norms: GraphNorms) -> tuple[BakedMode, ...]:
    """The operators of a graph that are in training mode, in their order.

    A batch norm without running statistics has no other mode than this one, and is left out;
    so is dropout that drops nothing.
    """
    graph = norms.graph
    batch_norms = {id(entry.node) for entry in norms.placed if entry.op is Op.BATCH_NORM}
    modes = tuple(_modes(graph, batch_norms))
    return (*modes, *_counting(graph, {mode.module for mode in modes}))


def _counting(graph: Graph, named: set[str]) -> Iterator[BakedMode]:
    """Batch norms that a decomposition took apart: each call still counts a batch for them."""
    for tensor in sorted(graph.updated):
        path, _, leaf = tensor.rpartition(".")
        if leaf == _COUNT and path not in named:
            yield BakedMode(
                Op.BATCH_NORM, f"{_COUNT} + 1", "add", path, None, path in graph.switchable
            )


def _modes(graph: Graph, batch_norms: set[int]) -> Iterator[BakedMode]:
    for node in graph.nodes:
        is_norm = node.op is Op.BATCH_NORM
        if not node.as_in_training or (is_norm and not (id(node) in batch_norms and _tracks(node))):
            continue
        yield BakedMode(
            node.op,
            node.name,
            node.target,
            node.module,
            None if is_norm else node.dropped,
            node.module in graph.switchable,
        )


def _tracks(node: Node) -> bool:
    return "running_mean" in node.operands and "running_var" in node.operands
