"""What an optimizer keeps of each parameter's gradients, as its state dict lies in a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from normcheck.pickles.inert import entries_of
from normcheck.pickles.torch_objects import as_tensor
from normcheck.saved.optimizer import OptimizerState, ParameterGroup
from normcheck.sources.limits import ENTRY_BYTES

if TYPE_CHECKING:
    from normcheck.saved.tensors import TensorRef
    from normcheck.sources.limits import Budget

_FIRST_MOMENTS = ("exp_avg", "momentum_buffer")
"""Running averages or sums of gradients: Adam's family and Lion, and SGD."""
_SCALED = frozenset({"square_avg", "exp_avg_sq_row", "exp_avg_sq_col", "row_var", "col_var"})
"""Beside these a first moment is one of gradients divided by their size (RMSprop, Adafactor): a
gradient that is nothing but rounding comes out as large as any other."""


def optimizer_state(entries: Mapping[object, object], budget: Budget) -> OptimizerState | None:
    """The state of an optimizer that keeps averages of gradients; None of any other.

    Args:
        entries: The optimizer's state dict.
        budget: What reading the file may still cost.
    """
    groups = tuple(_groups(entries.get("param_groups"), budget))
    moments: dict[int | str, TensorRef] = {}
    for key, value in entries_of(entries.get("state")).items() if groups else ():
        # Many optimizers of a pickle may share one state: each look at it counts.
        budget.spend(ENTRY_BYTES)
        held = entries_of(value)
        if not isinstance(key, int | str) or _SCALED & held.keys():
            continue
        tensor = next(
            (t for n in _FIRST_MOMENTS if (t := as_tensor(held.get(n))) is not None), None
        )
        if tensor is not None:
            moments[key] = tensor
    return OptimizerState(groups, moments) if groups and moments else None


def _groups(value: object, budget: Budget) -> Iterator[ParameterGroup]:
    for group in value if isinstance(value, list | tuple) else ():
        entries = entries_of(group)
        listed = entries.get("params")
        if not isinstance(listed, list | tuple):
            continue
        budget.spend(ENTRY_BYTES * (1 + len(listed)))
        keys = tuple(key for key in listed if isinstance(key, int | str))
        if len(keys) != len(listed):
            continue
        names = entries.get("param_names")
        named = isinstance(names, list | tuple) and len(names) == len(keys)
        decoupled = entries.get("decoupled_weight_decay")
        yield ParameterGroup(
            keys,
            tuple(map(str, names)) if named and isinstance(names, list | tuple) else (),
            _number(entries.get("weight_decay")),
            _number(entries.get("momentum")),
            decoupled if isinstance(decoupled, bool) else None,
        )


def _number(value: object) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6
    return float(value) if known and isinstance(value, int | float) else 0.0
