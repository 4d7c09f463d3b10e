"""What an exported model computes: operators, and which values go from one to the next.

The readers of TorchScript, ``torch.export`` and ONNX end in these values. Operators are
named by what they do, so that what is known of a normalization does not depend on the format
that it was exported to.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Setting = bool | int | float | str | None | tuple[object, ...]


class Op(StrEnum):
    """What an operator does, as far as normalization is concerned."""

    BATCH_NORM = "batch norm"
    INSTANCE_NORM = "instance norm"
    LAYER_NORM = "layer norm"
    GROUP_NORM = "group norm"
    RMS_NORM = "RMS norm"
    LP_NORM = "Lp norm"
    LOCAL_RESPONSE_NORM = "local response norm"
    DROPOUT = "dropout"
    RANDOM_MASK = "random mask"
    """Draws of a Bernoulli distribution of a fixed probability, as stochastic depth makes."""
    RANDOM = "random numbers"
    ATTENTION = "attention"
    RECURRENT = "recurrent layers"
    CONVOLUTION = "convolution"
    LINEAR = "linear layer"
    MATRIX_PRODUCT = "matrix product"
    ACTIVATION = "activation"
    PRELU = "PReLU"
    ADD = "add"
    SUBTRACT = "subtract"
    MULTIPLY = "multiply"
    DIVIDE = "divide"
    POWER = "power"
    SQUARE_ROOT = "square root"
    INVERSE_SQUARE_ROOT = "inverse square root"
    RECIPROCAL = "reciprocal"
    MEAN = "mean"
    CONCATENATE = "concatenate"
    MAX_POOL = "max pooling"
    AVERAGE_POOL = "average pooling"
    SAME = "same values"
    """A copy, a cast, another memory layout."""
    VIEW = "view"
    """The same values in another shape."""
    PERMUTE = "permute"
    OTHER = "other"


NORMS = frozenset(
    {
        Op.BATCH_NORM, Op.INSTANCE_NORM, Op.LAYER_NORM, Op.GROUP_NORM, Op.RMS_NORM, Op.LP_NORM,
        Op.LOCAL_RESPONSE_NORM,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operator of a graph."""

    op: Op
    target: str
    """The operator as the file names it: ``aten.batch_norm``, ``BatchNormalization``."""
    name: str
    """Its own name in the file."""
    inputs: tuple[str, ...]
    """All values it takes, stored tensors among them, in their order."""
    outputs: tuple[str, ...]
    module: str = ""
    """Dotted path of the module that it was made from; empty for the model, or unknown."""
    class_path: str | None = None
    """Of that module."""
    operands: Mapping[str, str] = field(default_factory=dict)
    """Values by their part: ``input``, ``weight``, ``bias``, ``running_mean``, ``running_var``."""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    """``training``, ``eps``, ``momentum``, ``p``, ``groups`` …; what is not known is absent."""

    @property
    def training(self) -> bool | None:
        """Whether it was exported in training mode; None where that is not known."""
        value = self.settings.get("training")
        return value if isinstance(value, bool) else None

    @property
    def dropped(self) -> float | None:
        """The probability of a dropout or mask; None where it has none, or an unknown one."""
        p = self.settings.get("p")
        return float(p) if isinstance(p, int | float) and not isinstance(p, bool) else None

    @property
    def as_in_training(self) -> bool:
        """Whether it computes as in training, with an effect on its result."""
        p = self.dropped or 0.0
        match self.op:
            case Op.BATCH_NORM:
                return self.training is True
            case Op.DROPOUT:
                return self.training is True and (p > 0 or "lower" in self.settings)
            case Op.RECURRENT:
                return self.training is True and p > 0
            case Op.ATTENTION:
                return p > 0
            case Op.RANDOM_MASK:
                return 0 < p < 1
            case _:
                return False


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """The operators of a model, in an order in which they can run."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    """The values that the user gives."""
    outputs: tuple[str, ...]
    stored: Mapping[str, str]
    """Values that are stored tensors, and the tensors' names in the model."""
    shapes: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    """Of values, where the file tells; None for a length that may vary."""
    scalars: Mapping[str, float] = field(default_factory=dict)
    """Stored tensors of one element that take part as numbers."""
    updated: frozenset[str] = frozenset()
    """Names of stored tensors that running the graph changes."""
    folded: tuple[tuple[str, bool | None], ...] = ()
    """Modules of batch norms that were folded into the weights before them, and whether the
    module was in training mode; what the exporter left word of."""
    switchable: frozenset[str] = frozenset()
    """Modules whose code asks for their ``training`` flag, so that ``eval()`` changes them."""
    exact: bool = True
    """Whether the connections are all known; False where control flow hid some."""


@dataclass(slots=True)
class Flow:
    """A graph by its values: which node makes one, which nodes take it."""

    graph: Graph
    made_by: dict[str, Node] = field(default_factory=dict)
    taken_by: dict[str, list[Node]] = field(default_factory=dict)
    _on_input: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Index the values."""
        for node in self.graph.nodes:
            for value in node.outputs:
                self.made_by.setdefault(value, node)
            for value in node.inputs:
                self.taken_by.setdefault(value, []).append(node)
        on_input = self._on_input
        for value in self.graph.inputs:
            on_input[value] = True
        for node in self.graph.nodes:
            depends = any(on_input.get(value, False) for value in node.inputs)
            for value in node.outputs:
                on_input[value] = on_input.get(value, False) or depends

    def depends_on_input(self, value: str) -> bool:
        """Whether a value changes with what the user gives, as weights do not."""
        return self._on_input.get(value, False)
