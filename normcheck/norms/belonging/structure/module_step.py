"""One module of a model that has tensors."""

import re
from collections.abc import Mapping

from normcheck.norms.layer import NormLayer
from normcheck.often_made import often_made
from normcheck.saved.tensors import TensorRef

NUMBER = re.compile(r"\d+")
"""What names of blocks and modules count by."""


@often_made()
class ModuleStep:
    """One module that has tensors, in the order of the model.

    Its tensors are made when they are asked for: of a hundred thousand modules, links need those
    of a few.
    """

    path: str
    names: tuple[str, ...]
    """Of its tensors, in the model's order."""
    shape: tuple[int, ...] | None
    """Of its weight; None where it has none."""
    norm: NormLayer | None
    tensors: Mapping[str, TensorRef]
    """Of the whole model."""
    brought: bool = False
    """Whether it stands elsewhere in the file, and was put behind the weights of its number."""

    def leaf(self, name: str) -> TensorRef | None:
        """The tensor of that last name; None where it has none."""
        for full in reversed(self.names):
            if full.rpartition(".")[2] == name:
                return self.tensors[full]
        return None

    @property
    def weight(self) -> TensorRef:
        """Its weight, which is there."""
        weight = self.leaf("weight")
        if weight is None:
            raise KeyError(f"{self.path} has no weight")
        return weight

    @property
    def weight_name(self) -> str:
        """What its weights are called in the model."""
        return f"{self.path}.weight" if self.path else "weight"

    @property
    def is_weights(self) -> bool:
        """Whether it multiplies: a matrix or a kernel, and no norm."""
        return self.norm is None and self.shape is not None and len(self.shape) >= 2

    @property
    def is_prelu(self) -> bool:
        """Whether it is an activation with a slope of its own."""
        alone = self.norm is None and self.shape is not None and not self.is_weights
        return alone and all(name.rpartition(".")[2] == "weight" for name in self.names)
