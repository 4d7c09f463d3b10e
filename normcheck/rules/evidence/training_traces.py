"""What a file tells of how its norms were trained; what reads it is imported when it is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normcheck.norms.anatomy import Anatomy
    from normcheck.norms.traces.bias_trace import BiasTrace
    from normcheck.norms.traces.gradient_trace import GradientTrace
    from normcheck.saved.checkpoint import SavedModel
    from normcheck.saved.optimizer import OptimizerState


def gradients_before(
    model: SavedModel,
    anatomy: Anatomy,
    optimizers: Sequence[OptimizerState],
    paths: Sequence[str],
) -> GradientTrace | None:
    """What the file's optimizers tell of the layers before the norms of these paths."""
    if not optimizers:
        return None
    from normcheck.norms.traces.gradient_trace import (
        gradient_trace,  # for training checkpoints only
    )

    return gradient_trace(model, anatomy.layers, paths, optimizers)


def biases_before(model: SavedModel, anatomy: Anatomy, paths: Sequence[str]) -> BiasTrace | None:
    """What the biases right before the norms of these paths tell."""
    pairs = anatomy.biases_before_norms
    if not pairs:
        return None
    from normcheck.norms.traces.bias_trace import bias_trace  # where there are such biases only

    return bias_trace(model.tensors, pairs, anatomy.layers, paths)
