"""What an export does in training mode: operators whose mode is part of the graph."""

from collections import Counter
from collections.abc import Iterator

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.recognise.from_graph import GraphNorms
from normcheck.saved.graph import Graph, Node, Op

_COUNT = "num_batches_tracked"


@lazy_dataclass()
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
    return (*modes, *_taken_apart(norms, {mode.module for mode in modes}))


def still_counting(norms: GraphNorms) -> tuple[str, ...]:
    """Paths of batch norms in eval mode whose graph adds 1 to ``num_batches_tracked`` all the same.

    A program that was exported in train mode and then moved to eval mode, as post-training
    quantization and quantization-aware training do, keeps the counter. It changes no output.
    """
    in_eval = _in_eval(norms)
    return tuple(path for path in _counted(norms.graph) if path in in_eval)


def modes_given(norms: GraphNorms) -> tuple[tuple[str, int], ...]:
    """Inputs of a graph that decide on the mode of operators, and on how many."""
    inputs = (node.settings.get("mode_input") for node in norms.graph.nodes)
    return tuple(Counter(value for value in inputs if isinstance(value, str)).items())


def _counted(graph: Graph) -> list[str]:
    """Paths of the layers whose batches a forward counts."""
    updated = (tensor.rpartition(".") for tensor in sorted(graph.updated))
    return [path for path, _, leaf in updated if leaf == _COUNT]


def _in_eval(norms: GraphNorms) -> set[str]:
    """Paths of batch norms whose every operator applies the running statistics."""
    modes: dict[str, set[bool | None]] = {}
    for entry in norms.placed:
        if entry.op is Op.BATCH_NORM:
            modes.setdefault(entry.path, set()).add(entry.node.training)
    return {path for path, training in modes.items() if training == {False}}


def _taken_apart(norms: GraphNorms, named: set[str]) -> Iterator[BakedMode]:
    """Batch norms of train mode that a decomposition took apart.

    No operator tells their mode. Each call counts a batch for them and writes their statistics.
    """
    graph, in_eval = norms.graph, _in_eval(norms)
    for path in _counted(graph):
        if path not in named and path not in in_eval and _written(path, graph):
            yield BakedMode(
                Op.BATCH_NORM, f"{_COUNT} + 1", "add", path, None, path in graph.switchable
            )


def _written(path: str, graph: Graph) -> bool:
    """Whether a forward writes a layer's running statistics, or does without them.

    A norm of eval mode that a decomposition took apart takes them, and writes nothing.
    """
    name = f"{path}.running_mean".lstrip(".")
    if name in graph.updated:
        return True
    values = {value for value, stored in graph.stored.items() if stored == name}
    return not any(values.intersection(node.inputs) for node in graph.nodes)


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
