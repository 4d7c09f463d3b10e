"""The first norm of a model, right behind the weights that the input reaches."""

from normcheck.norms.belonging.structure.module_step import ModuleStep
from normcheck.norms.belonging.structure.steps import places_served, steps_of
from normcheck.norms.layer import NormLayer
from normcheck.norms.weight_layout import layouts_of
from normcheck.saved.checkpoint import SavedModel
from normcheck.saved.tensors import TensorRef

Placed = tuple[NormLayer, str, TensorRef, TensorRef | None]
"""A norm, the path of the weights right before it, these weights and their bias."""


def first_norm(
    model: SavedModel, layers: tuple[NormLayer, ...], steps: list[ModuleStep] | None = None
) -> Placed | None:
    """The first norm of a model right behind its first weights, which the input reaches.

    Args:
        model: Of a file that is open.
        layers: Its norms.
        steps: What ``steps_of`` makes of both, where it is there already.

    Returns:
        None where the model begins otherwise, or the file keeps no order.
    """
    if not model.ordered or not any(layer.has_statistics for layer in layers):
        return None
    layouts = layouts_of(model)
    steps = steps_of(model, layers) if steps is None else steps
    for index, step in enumerate(steps[:-1]):
        if step.norm is not None:
            return None
        if not step.is_weights:
            continue
        target, weights = steps[index + 1].norm, step.weight
        if target is None or not target.has_statistics or target.at_initial_values:
            return None
        if steps[index + 1].brought or modules_between(step.path, target.path):
            return None  # nothing but numbers in names puts it there, or something may be between
        if target.path in places_served(model, layers) or _is_part(step, target, steps[:index]):
            return None
        layout = layouts.get(step.weight_name)
        if not weights.readable or (layout is not None and layout.inputs_first):
            return None
        bias = step.leaf("bias")
        if bias is not None and bias.numel != target.features:
            return None
        return target, step.path, weights, bias
    return None


def modules_between(weights: str, target: str) -> int | None:
    """How many modules stand between two of one Sequential: without tensors, as activations are.

    Args:
        weights: Path of the weights.
        target: Of the norm behind them.

    Returns:
        None where they are not in one: names do not tell it there.
    """
    block, _, number = weights.rpartition(".")
    of_target, _, next_number = target.rpartition(".")
    numbered = number.isdecimal() and next_number.isdecimal() and block == of_target
    return int(next_number) - int(number) - 1 if numbered else None


def _is_part(step: ModuleStep, target: NormLayer, before: list[ModuleStep]) -> bool:
    """Whether weights are part of a module that has tensors of its own, and ends before the norm.

    The projection of a graph attention stands before its norm in a file, and what the module does
    with the projected, weighing neighbours and adding a bias, stands between them in a run.
    """
    whole, _, _ = step.path.rpartition(".")
    inside = target.path.startswith(f"{whole}.")
    return bool(whole) and not inside and any(other.path == whole for other in before)
