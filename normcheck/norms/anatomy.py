"""The anatomy of a model: its norms, and all else that rules judge it by."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.layer import NormLayer, PowerIteration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from normcheck.norms.belonging.agreement import Agreement
    from normcheck.norms.belonging.first_norm import FirstNorm
    from normcheck.norms.recognise.baked_modes import BakedMode


@lazy_dataclass(eq=False)
class Anatomy:
    """The normalization of one model: what rules judge."""

    where: str
    """Where the model sits in its file."""
    layers: tuple[NormLayer, ...]
    has_modules: bool
    """Whether the file has the module tree, or names and tensors only."""
    class_path: str | None = None
    """The model's own class, where the file has it."""
    training: bool | None = None
    """The mode of the model itself, where the file has it."""
    trainable: bool = False
    """Whether any parameter of a module tree requires gradients."""
    tensor_count: int = 0
    power_iterations: tuple[PowerIteration, ...] = ()
    dropouts_before_norms: tuple[tuple[str, float, str], ...] = ()
    """A dropout's path and probability, and the path of the batch norm that follows it."""
    agreement: Agreement | None = None
    """How the running statistics fit the weights; None where no link is known."""
    biases_before_norms: tuple[tuple[str, str], ...] = ()
    """Pairs of a bias and the path of the batch norm that subtracts it again."""
    places_served: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Weights right before a norm that stands in several places, by its path."""
    first: FirstNorm | None = None
    """The first norm against its own weights; None where it does not tell."""
    uncalled_children: tuple[tuple[str, str, str], ...] = ()
    """Children of norms of torch's own classes, which call none: the norm's path, the child's
    and its class."""
    averages: float | None = None
    """``n_averaged`` of ``torch.optim.swa_utils.AveragedModel``: how many times it took in
    weights; None for a model that is no average, or does not say."""
    exported: bool = False
    """Whether it is an export, whose modes are part of its operators."""
    baked: tuple[BakedMode, ...] = ()
    """Operators of an export that compute as in training."""
    still_counting: tuple[str, ...] = ()
    """Batch norms of an export in eval mode that go on counting batches."""
    modes_given: tuple[tuple[str, int], ...] = ()
    """Inputs of an export that decide on the mode of dropouts, and on how many."""
    folded: tuple[tuple[str, bool | None], ...] = ()
    """Modules of batch norms that an exporter folded into the weights before them, and whether
    they were in training mode."""
    unused_statistics: tuple[str, ...] = ()
    """Modules of an export whose running statistics are stored, and taken by no operator."""
    behind_activations: frozenset[str] = frozenset()
    """Batch norms of an export that normalise what an activation makes."""
