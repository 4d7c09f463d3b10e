"""Which layer with weights a norm belongs to, by the order of the names and the shapes."""

from collections.abc import Mapping

from normcheck.norms.belonging.structure.module_step import NUMBER, ModuleStep
from normcheck.norms.belonging.structure.run_order import usual_order
from normcheck.norms.belonging.structure.steps import steps_of
from normcheck.norms.layer import NormLayer
from normcheck.norms.weight_layout import Layout, layouts_of, possible
from normcheck.saved.checkpoint import SavedModel

_NEIGHBOURS = 12
"""Modules looked at on either side of a norm for the layer that it belongs to."""


def weights_beside(model: SavedModel, layers: tuple[NormLayer, ...]) -> dict[str, str]:
    """For each norm the path of the layer whose output it most probably normalises.

    That is the nearest one before it that makes as many features; where there is none, the
    nearest one after it that takes as many (a norm before the first layer of its block).
    """
    steps = steps_of(model, layers)
    known = layouts_of(model)
    if not model.ordered:
        steps, _ = usual_order(steps)
    found: dict[str, str] = {}
    for index, step in enumerate(steps):
        if step.norm is None:
            continue
        if step.shape is not None and len(step.shape) >= 2 and step.norm.has_statistics:
            found[step.path] = step.path  # a fused convolution
            continue
        before = [s for s in steps[max(0, index - _NEIGHBOURS) : index] if s.is_weights]
        after = [s for s in steps[index + 1 : index + 1 + _NEIGHBOURS] if s.is_weights]
        features = step.norm.features or 0
        takes = [s for s in after if s.shape is not None and s.shape[1] == features]
        nearest = [*_making(step, before[::-1], features, known)[:1], *takes[:1]]
        if nearest:
            found[step.path] = nearest[0].path
    return found


def _making(
    norm: ModuleStep, before: list[ModuleStep], features: int, known: Mapping[str, Layout]
) -> list[ModuleStep]:
    """The layers before a norm that make as many features, the likeliest first.

    Args:
        norm: The norm.
        before: Layers with weights, the nearest first.
        features: Of the norm.
        known: Layouts that the model tells.
    """
    sure: list[ModuleStep] = []
    turned: list[ModuleStep] = []
    for step in before:
        shape = step.shape or ()
        layout = known.get(step.weight_name)
        if layout is not None:
            if layout.outputs(shape) == features:
                sure.append(step)
        elif shape[0] == features:
            sure.append(step)
        else:
            # Of a state dict: a transposed convolution, whose inputs come first.
            groups = next((found.groups for found in possible(shape, features)), 0)
            if groups and step is before[0] and _paired(step.path, norm.path):
                return [step]
            if groups == 1 and len(shape) > 2:
                turned.append(step)
    return [*sure, *turned]


def _paired(weights: str, norm: str) -> bool:
    """Whether two names belong together: ``0`` and ``1`` of a Sequential, ``up1`` and ``bn1``."""
    parents = weights.rpartition("."), norm.rpartition(".")
    numbers = [NUMBER.findall(parts[2]) for parts in parents]
    if parents[0][0] != parents[1][0]:
        return False
    if all(parts[2].isdecimal() for parts in parents):
        return int(parents[1][2]) == int(parents[0][2]) + 1
    return numbers[0][-1:] == numbers[1][-1:]
