"""What a module tree tells of the way between two norms: activations, and a max pooling.

A tree holds modules, not the order in which they run. In an ``nn.Sequential``, and in one of
others, that is the order of their numbers; elsewhere the activations that a tree has at all are
those that may stand between.
"""

from collections.abc import Mapping
from functools import cached_property
from math import prod

from normcheck.saved.checkpoint import ModuleRecord

NAMES: Mapping[str, str] = {
    "ReLU": "ReLU",
    "Identity": "no activation",
    "SiLU": "SiLU",
    "Swish": "SiLU",
    "MemoryEfficientSwish": "SiLU",
    "GELU": "GELU",
    "Hardswish": "hardswish",
    "ReLU6": "ReLU6",
    "ELU": "ELU",
    "Mish": "Mish",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
}
"""Classes of modules by the activation that they apply, as ``ACTIVATIONS`` names it."""
_LEAKY = {0.01: "leaky ReLU 0.01", 0.1: "leaky ReLU 0.1", 0.2: "leaky ReLU 0.2"}
_OTHERS = frozenset(
    ("CELU", "SELU", "Hardtanh", "Hardsigmoid", "Softplus", "RReLU", "LogSigmoid", "Softsign",
     "PReLU", "Threshold", "GLU", "Softmax")
)  # fmt: skip
"""Activations that no link is predicted under: where one stands, any is tried."""
_SEQUENTIAL = "torch.nn.modules.container.Sequential"
_MAX_POOLINGS = {f"MaxPool{dimensions}d": dimensions for dimensions in (1, 2, 3)}


class Between:
    """The module tree of one model, asked about its links."""

    def __init__(self, modules: tuple[ModuleRecord, ...]) -> None:
        """Modules with parents before children, as a saved model has them."""
        self._listed = modules
        self._places = {module.path: place for place, module in enumerate(modules)}
        self._modules = {module.path: module for module in modules}
        for module in modules:
            for alias in module.aliases:
                self._modules.setdefault(alias, module)

    def activations(self, source: str, weights: str) -> tuple[str, ...]:
        """Which activations may stand between a norm and weights; empty where any may."""
        between = self._in_sequence(source, weights)
        if between is None:
            return self._anywhere
        names = [activation(module) for module in between]
        known = tuple(name for name in names if name)
        return known if len(known) == 1 and not _strange(between) else ()

    def max_pooled(self, source: str, weights: str) -> int:
        """How many values a max pooling between a norm and weights chooses from; 1 without one.

        1 as well where nothing makes it certain that it stands there.
        """
        between = self._in_sequence(source, weights) or ()
        return prod(_window(module) for module in between if module.class_name in _MAX_POOLINGS)

    def _in_sequence(self, source: str, weights: str) -> list[ModuleRecord] | None:
        """The modules between two of one ``nn.Sequential``, or of Sequentials in one.

        None where another module holds one of them, whose ``forward`` may do anything.
        """
        first, last = source.split("."), weights.split(".")
        shared = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), -1)
        holders = {
            ".".join(path[:depth]) for path in (first, last) for depth in range(shared, len(path))
        }
        if shared < 0 or not all(self._is_sequential(path) for path in holders):
            return None
        begin, end = self._places.get(source, -1), self._places.get(weights, -1)
        if not 0 <= begin < end <= begin + 1 + _LONGEST:
            return None
        return [m for m in self._listed[begin + 1 : end] if m.class_path != _SEQUENTIAL]

    def _is_sequential(self, path: str) -> bool:
        holder = self._modules.get(path)
        return holder is not None and holder.class_path == _SEQUENTIAL

    @cached_property
    def _anywhere(self) -> tuple[str, ...]:
        """The activations of the whole tree, and none at all."""
        modules = list(self._modules.values())
        if _strange(modules):
            return ()
        names = dict.fromkeys(name for m in modules if (name := activation(m)))
        names.pop("no activation", None)
        # A tree without any calls functions.
        return (*names, "no activation") if names else ()


_LONGEST = 8
"""Modules between a norm and the weights behind it; in real models one to three."""


def activation(module: ModuleRecord) -> str:
    """The activation that a module applies; empty where it is none, or none that is known."""
    if module.class_name == "LeakyReLU":
        return _LEAKY.get(_number(module.attributes.get("negative_slope")), "")
    return NAMES.get(module.class_name, "")


def _window(pooling: ModuleRecord) -> int:
    """Values under the window of a max pooling."""
    return pooled_values(pooling.attributes.get("kernel_size"), _MAX_POOLINGS[pooling.class_name])


def pooled_values(size: object, dimensions: int) -> int:
    """Values under a window of some size, of 2 in each direction where a file tells none.

    Args:
        size: Of one direction or of each, as a file has it.
        dimensions: How many directions there are, where the size is one of all of them.
    """
    each = size if isinstance(size, tuple | list) else (size,)
    sides = [side for side in each if isinstance(side, int) and side > 0]
    if not sides or len(sides) < len(each):
        return int(2**dimensions)
    return prod(sides * dimensions if len(sides) == 1 else sides)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _strange(modules: list[ModuleRecord]) -> bool:
    """Whether an activation is among them that no link is predicted under."""
    return any(
        module.class_name in _OTHERS
        or (module.class_name == "LeakyReLU" and not activation(module))
        for module in modules
    )
