"""Finding the models in whatever a file holds.

A checkpoint is a tree of containers that somebody put together by hand. A model in it is
a module tree, or a dictionary from names to tensors; an optimizer's state is neither,
although it is full of tensors of the same shapes.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import field

from normcheck.errors import RefusedError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.pickles.inert import (
    Inert,
    OrderedRecord,
    attributes_of,
    brief,
    children_of,
    entries_of,
)
from normcheck.pickles.joined_models import joined, members
from normcheck.pickles.module_records import is_module, saved_module
from normcheck.pickles.optimizer_state import optimizer_state
from normcheck.pickles.torch_objects import as_tensor
from normcheck.pickles.training_clocks import training_clocks
from normcheck.saved.checkpoint import Form, SavedModel
from normcheck.saved.clocks import Clock
from normcheck.saved.key_order import is_torn, letters, mended
from normcheck.saved.optimizer import OptimizerState
from normcheck.saved.prefetch import fetch_ahead
from normcheck.saved.tensors import TensorRef
from normcheck.sources.limits import ENTRY_BYTES, Budget

_PARAMETER_NAMES = frozenset(
    {
        "weight", "bias", "running_mean", "running_var", "num_batches_tracked",
        "gamma", "beta", "scale", "kernel", "weight_g", "weight_v", "in_proj_weight",
    }
)  # fmt: skip
"""What the tensors of a module are called, where a name has no dot to show its path."""
_PARAMETER_LIKE = re.compile(r"(^|_)(weight|bias)(_|$)")
"""Names of parameters that carry more than that: ``weight_ih_l0``, ``in_proj_bias``."""
_OPTIMIZER_NAMES = frozenset(
    {
        "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg",
        "grad_avg", "acc_delta", "exp_inf", "rms_avg", "row_var", "col_var",
        "exp_avg_sq_row", "exp_avg_sq_col",
    }
)  # fmt: skip
"""What optimizers call their tensors for one parameter."""
_COMPILED = "torch._dynamo.eval_frame.OptimizedModule"
"""What ``torch.compile`` makes of a module; its pickle calls it with the module."""
_LOOKED_AT = 64
"""Parameters of an optimizer that are asked for their number of steps."""
_NESTED_LEAVES = 2
"""Module-like dictionaries side by side that make their parent a nested state dict; one
alone is the state dict of a single layer."""
_NESTED_DEPTH = 64
"""Levels of dictionaries in a nested state dict."""


@lazy_dataclass(frozen=False)
class Found:
    """The models of a file and what else bears on judging them."""

    models: list[SavedModel] = field(default_factory=list)
    optimizer_steps: int | None = None
    clocks: tuple[Clock, ...] = ()
    """What the training loop itself counted, beside its models."""
    optimizers: int = 0
    """Optimizer states."""
    optimizer_states: list[OptimizerState] = field(default_factory=list)
    """Those of them that keep averages of gradients."""
    tensors_without_names: int = 0
    """Tensors outside any model, for the message where no model is found."""


def locate_models(root: object, budget: Budget) -> Found:
    """Every model below ``root``, each with the place where it sits.

    Raises:
        RefusedError: Nested too deep, or too large to search.
    """
    found = _located(root, budget)
    whole = joined(found.models, budget)
    found.models = [member for model in whole for member in members(model, budget)]
    if len(found.models) > budget.limits.models:
        raise _too_many(budget)
    return found


def _too_many(budget: Budget) -> RefusedError:
    return RefusedError(f"more than {budget.limits.models:,} models in one file", limit="models")


def _located(root: object, budget: Budget) -> Found:
    """The same, each state dict by itself."""
    found = Found()
    limits = budget.limits
    seen: set[int] = set()
    gone_through: set[int] = set()
    # Iterators, not a list of everything still to come: only the one path that is being
    # followed takes memory.
    stack: list[Iterator[tuple[str, object]]] = [iter([("", root)])]
    while stack:
        following = next(stack[-1], None)
        if following is None:
            stack.pop()
            continue
        where, value = following
        if as_tensor(value) is not None:
            found.tensors_without_names += 1
            continue
        if id(value) in seen:
            continue
        seen.add(id(value))
        budget.spend(2 * ENTRY_BYTES)
        if len(stack) > limits.nesting or len(where) > limits.name_bytes:
            raise RefusedError(
                "the file's containers are nested too deep to search for a model", limit="nesting"
            )
        if len(found.models) >= limits.models:
            raise _too_many(budget)
        if is_module(value):
            found.models.append(saved_module(where.lstrip("."), value, budget))
            continue
        entries = entries_of(value)
        if not where:
            found.clocks = training_clocks(entries, budget)
        if _is_optimizer(entries):
            found.optimizers += 1
            counted = [_step(entries), found.optimizer_steps or 0]
            state = entries_of(entries.get("state"))
            if id(state) not in seen:
                seen.add(id(state))
                described = [entries_of(value) for value in _some(list(state.values()))]
                fetch_ahead(as_tensor(held.get("step")) for held in described)
                counted.extend(map(_step, described))
            found.optimizer_steps = max(counted) or None
            kept = optimizer_state(entries, budget)
            if kept is not None:
                found.optimizer_states.append(kept)
            continue
        model = _state_dict(where.lstrip("."), value, entries, budget)
        if model is not None:
            found.models.append(model)
            if not any(_named_tensors(entries)):
                continue  # nested dictionaries, all taken
        stack.append(_children(where, value, gone_through, tensors=model is None))
    return found


def _children(
    where: str, value: object, gone_through: set[int], *, tensors: bool
) -> Iterator[tuple[str, object]]:
    if isinstance(value, Inert) and value.class_path == _COMPILED and value.args:
        # What was compiled is the model itself, not something beside it.
        yield where, value.args[0]
        return
    for name, child in children_of(value, gone_through):
        if tensors or as_tensor(child) is None:
            yield where + name, child


def _is_optimizer(entries: Mapping[object, object]) -> bool:
    grouped = "param_groups" in entries and "state" in entries
    return grouped or bool(_OPTIMIZER_NAMES & entries.keys())


def _some(states: list[object]) -> list[object]:
    """A few of the states of parameters, evenly spread: each may be a read, and they agree."""
    count = min(len(states), _LOOKED_AT)
    return [states[index * (len(states) - 1) // max(1, count - 1)] for index in range(count)]


def _step(state: Mapping[object, object]) -> int:
    """The steps that an optimizer has counted for one parameter; 0 where it says nothing."""
    step = state.get("step")
    tensor = as_tensor(step)
    if tensor is not None and tensor.numel == 1 and tensor.readable:
        step = float(tensor.values().reshape(-1)[0].real)
    return int(step) if isinstance(step, int | float) and 0 <= step < 1e12 else 0


def _state_dict(
    where: str, value: object, entries: Mapping[object, object], budget: Budget
) -> SavedModel | None:
    """``entries`` as a state dict, where they are one."""
    tensors = dict(_named_tensors(entries))
    if any(
        "." in name or name in _PARAMETER_NAMES or _PARAMETER_LIKE.search(name) for name in tensors
    ):
        budget.copy(len(tensors), len(where))
        left_out = dict(_left_out(entries))
        budget.copy(len(left_out))
        torn = _is_torn(tensors, budget)
        return SavedModel(
            where,
            Form.STATE_DICT,
            mended(tensors) if torn else tensors,
            ordered=not torn,
            versions=_versions(value, budget),
            left_out=left_out,
        )
    # Some save dictionaries within dictionaries, one for each module.
    leaves = sum(_is_leaf(child) for child in entries.values())
    if leaves >= _NESTED_LEAVES:
        return SavedModel(where, Form.STATE_DICT, dict(_flattened(entries, budget)))
    return None


def _is_torn(tensors: Mapping[str, TensorRef], budget: Budget) -> bool:
    """Whether names are in no order that a model gives them: merged from ranks, or sorted."""
    budget.copy(0, letters(tensors))
    return is_torn(tensors)


def _is_leaf(value: object) -> bool:
    """Whether ``value`` holds the tensors of one module and nothing else."""
    entries = entries_of(value)
    return bool(entries) and all(
        name in _PARAMETER_NAMES and as_tensor(tensor) is not None
        for name, tensor in entries.items()
    )


def _flattened(entries: Mapping[object, object], budget: Budget) -> Iterator[tuple[str, TensorRef]]:
    """The tensors of nested dictionaries, by dotted names."""
    stack = [("", entries)]
    while stack:
        prefix, level = stack.pop()
        budget.copy(len(level), (1 + len(level)) * len(prefix))
        yield from ((prefix + name, tensor) for name, tensor in _named_tensors(level))
        stack.extend(
            (f"{prefix}{name}.", entries_of(child))
            for name, child in reversed(list(level.items()))
            if isinstance(name, str | int)
            and entries_of(child)
            and prefix.count(".") < _NESTED_DEPTH
        )


def _named_tensors(entries: Mapping[object, object]) -> Iterator[tuple[str, TensorRef]]:
    for name, value in entries.items():
        tensor = as_tensor(value)
        if isinstance(name, str) and tensor is not None:
            yield name, tensor


def _left_out(entries: Mapping[object, object]) -> Iterator[tuple[str, str]]:
    """Tensors under keys that are no text, or in lists, which no model's state dict has."""
    for name, value in entries.items():
        if not isinstance(name, str):
            if as_tensor(value) is not None:
                yield brief(name), f"its key is of type {type(name).__name__}, not text"
        elif isinstance(value, list | tuple) and any(isinstance(v, TensorRef) for v in value):
            yield name, "it lies in a list"


def _versions(value: object, budget: Budget) -> dict[str, int]:
    """Module versions from the ``_metadata`` that ``state_dict()`` attaches."""
    attributes: Mapping[object, object] = {}
    if isinstance(value, OrderedRecord):
        attributes = entries_of(value.attributes)
    elif isinstance(value, Inert):
        attributes = attributes_of(value)
    metadata = entries_of(attributes.get("_metadata"))
    budget.copy(len(metadata))
    return {
        path: version
        for path, described in metadata.items()
        if isinstance(path, str)
        and isinstance(version := entries_of(described).get("version"), int)
    }
