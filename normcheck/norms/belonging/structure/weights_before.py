"""The weights whose output a norm at the beginning of a link normalises.

Only where the names leave no room for anything between them: what is predicted through two layers
is worth nothing where the norm recorded something else.
"""

from collections.abc import Mapping, Sequence

from normcheck.norms.belonging.structure.first_weights import modules_between
from normcheck.norms.belonging.structure.link import Before
from normcheck.norms.belonging.structure.module_step import ModuleStep
from normcheck.norms.weight_layout import Layout


def weights_before(
    steps: Sequence[ModuleStep], place: int, layouts: Mapping[str, Layout]
) -> Before | None:
    """The weights right before a norm, in the block or Sequential that holds both.

    Args:
        steps: Modules in order.
        place: Of the norm.
        layouts: That the model tells, by the name of the weights.

    Returns:
        None where none are certain, or where they store their inputs first.
    """
    norm, step = steps[place], steps[place - 1] if place else None
    if step is None or norm.norm is None or norm.brought:
        return None
    # By names first: of tensors elsewhere not even the shape is looked at.
    if step.path.rpartition(".")[0] != norm.path.rpartition(".")[0]:
        return None
    layout = layouts.get(step.weight_name)
    if not step.is_weights or (layout is not None and layout.inputs_first):
        return None
    makes, inner = step.weight.shape[:2]
    if makes != norm.norm.features:
        return None
    if modules_between(step.path, norm.path):
        return None
    ahead = steps[place - 2] if place > 1 else None
    taken = inner
    if ahead is not None and ahead.norm is not None:
        taken = ahead.norm.features or inner
    elif ahead is not None and _of_one_part(ahead.path, step.path) and ahead.is_weights:
        taken = ahead.weight.shape[0]
    groups = taken // inner if taken % inner == 0 and makes % (taken // inner) == 0 else 1
    return Before(step.weight, groups)


def _of_one_part(one: str, other: str) -> bool:
    """Whether two modules are in one of the parts that a model has first of all."""
    return one.partition(".")[0] == other.partition(".")[0] or "." not in one + other
