"""Tensors with which nothing can be computed: a forward fails, or reads foreign memory."""

from typing import Any

from torch import nn

from normcheck.errors import NoValuesError
from normcheck.live.watching.own_values import is_distributed, without_values
from normcheck.wording import plural


def why_absent(tensor: Any) -> str:
    """Why nothing can be computed with a tensor; ``""`` where something can."""
    try:
        reason, absent = without_values(tensor)
        if not absent and is_distributed(tensor):
            reason, absent = without_values(tensor.to_local())
    except Exception:  # code of the class: whether it computes, a forward will show
        return ""
    return reason if absent else ""


def check_values(model: nn.Module) -> None:
    """Refuse what no forward can compute with: some would read memory that is not theirs.

    Raises:
        NoValuesError: A parameter or buffer has no values.
    """
    named = (*model.named_parameters(), *model.named_buffers())
    absent = [(name, why) for name, tensor in named if (why := why_absent(tensor))]
    if absent:
        name, why = absent[0]
        have = "has" if len(absent) == 1 else "have"
        raise NoValuesError(
            f"{len(absent)} of its {plural(len(named), 'tensor')} {have} no values ({name}: {why})",
            "load its weights first (model.to_empty(device=...), then load_state_dict)",
        )
