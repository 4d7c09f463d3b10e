"""The modules of a model that have tensors, in the order in which they most probably run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from normcheck.norms.layer import NormLayer
from normcheck.saved.checkpoint import SavedModel
from normcheck.saved.tensors import TensorRef

NUMBER = re.compile(r"\d+")
"""What names of blocks and modules count by."""


@dataclass(frozen=True, slots=True)
class Step:
    """One module that has tensors, in the order of the model."""

    path: str
    leaves: Mapping[str, TensorRef]
    norm: NormLayer | None

    @property
    def weight_name(self) -> str:
        """What its weights are called in the model."""
        return f"{self.path}.weight" if self.path else "weight"

    @property
    def is_weights(self) -> bool:
        """Whether it multiplies: a matrix or a kernel, and no norm."""
        weight = self.leaves.get("weight")
        return self.norm is None and weight is not None and weight.ndim >= 2

    @property
    def is_prelu(self) -> bool:
        """Whether it is an activation with a slope of its own."""
        return self.norm is None and set(self.leaves) == {"weight"} and not self.is_weights


def steps_of(model: SavedModel, layers: tuple[NormLayer, ...]) -> list[Step]:
    """The modules with tensors, in the order of the file."""
    leaves: dict[str, dict[str, TensorRef]] = {}
    for name, tensor in model.tensors.items():
        path, _, leaf = name.rpartition(".")
        leaves.setdefault(path, {})[leaf] = tensor
    norms = {layer.path: layer for layer in layers if layer.reached}
    return [Step(path, named, norms.get(path)) for path, named in leaves.items()]


def usual_order(step: Step) -> tuple[list[tuple[int, int, str]], int, int]:
    """Within a block: by the last number of the name, and weights before their norm."""
    parent, _, last = step.path.rpartition(".")
    numbers = NUMBER.findall(last)
    parts = [
        (0, int(p), "") if p.isdecimal() and len(p) < 20 else (1, 0, p) for p in parent.split(".")
    ]
    return (
        parts,
        int(numbers[-1]) if numbers and len(numbers[-1]) < 10 else 0,
        int(step.norm is not None),
    )


def norm_first(step: Step) -> tuple[list[tuple[int, int, str]], int, int]:
    """Within a block: by the last number of the name, and a norm before its weights."""
    parts, number, kind = usual_order(step)
    return parts, number, -kind
