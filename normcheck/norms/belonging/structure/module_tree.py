"""What a module tree tells of the way between two norms: the activations.

A tree holds modules, not the order in which they run. In an ``nn.Sequential`` that is the order
of their numbers; elsewhere the activations that a tree has at all are those that may stand between.
"""

from collections.abc import Mapping
from functools import cached_property

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


class Between:
    """The module tree of one model, asked about its links."""

    def __init__(self, modules: tuple[ModuleRecord, ...]) -> None:
        """Modules with parents before children, as a saved model has them."""
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

    def _in_sequence(self, source: str, weights: str) -> list[ModuleRecord] | None:
        """The modules between two of one ``nn.Sequential``; None where they are not in one."""
        (parent, _, first), (other, _, last) = source.rpartition("."), weights.rpartition(".")
        whole = self._modules.get(parent)
        if (
            parent != other
            or whole is None
            or whole.class_path != _SEQUENTIAL
            or not (first.isdecimal() and last.isdecimal())
            or not 0 < int(last) - int(first) <= _LONGEST
        ):
            return None
        prefix = f"{parent}." if parent else ""
        places = [f"{prefix}{place}" for place in range(int(first) + 1, int(last))]
        found = [self._modules.get(place) for place in places]
        return [module for module in found if module is not None]

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


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _strange(modules: list[ModuleRecord]) -> bool:
    """Whether an activation is among them that no link is predicted under."""
    return any(
        module.class_name in _OTHERS
        or (module.class_name == "LeakyReLU" and not activation(module))
        for module in modules
    )
