"""What an optimizer keeps of each parameter's gradients, as values."""

from __future__ import annotations

from collections.abc import Mapping

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.saved.tensors import TensorRef


@lazy_dataclass()
class ParameterGroup:
    """Parameters that an optimizer steps alike."""

    parameters: tuple[int | str, ...]
    """Their keys in the state, in the order in which they were handed over."""
    names: tuple[str, ...]
    """Their names, where the optimizer was given any; else empty."""
    weight_decay: float
    momentum: float
    """SGD's; 0 for optimizers that have none."""
    decoupled: bool | None
    """Whether decay bypasses the gradient (AdamW); None where the group does not say."""


@lazy_dataclass(eq=False)
class OptimizerState:
    """The first moments of an optimizer, not yet read."""

    groups: tuple[ParameterGroup, ...]
    moments: Mapping[int | str, TensorRef]
    """By the parameter's key."""
