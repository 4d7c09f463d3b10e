"""Finding the models in whatever a file holds.

A checkpoint is a tree of containers that somebody put together by hand. A model in it is
a module tree, or a dictionary from names to tensors; an optimizer's state is neither,
although it is full of tensors of the same shapes.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, replace

from normcheck.errors import RefusedError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.lazy_pattern import lazy_pattern
from normcheck.pickles.inert import (
    Inert,
    children_of,
    entries_of,
    pickle_within,
)
from normcheck.pickles.joined_models import joined, members
from normcheck.pickles.module_records import is_module, saved_module
from normcheck.pickles.observation_states import observation_state
from normcheck.pickles.optimizer_state import optimizer_state
from normcheck.pickles.state_dicts import named_tensors, only_tensors, state_dict
from normcheck.pickles.torch_objects import as_tensor
from normcheck.pickles.training_clocks import training_clocks
from normcheck.saved.averages_apart import averages_apart
from normcheck.saved.checkpoint import Form, SavedModel
from normcheck.saved.clocks import Clock
from normcheck.saved.optimizer import OptimizerState
from normcheck.saved.prefetch import fetch_ahead
from normcheck.saved.tensors import TensorRef
from normcheck.sources.limits import ENTRY_BYTES, Budget

_OPTIMIZER_NAMES = frozenset(
    {
        "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg",
        "grad_avg", "acc_delta", "exp_inf", "rms_avg", "row_var", "col_var",
        "exp_avg_sq_row", "exp_avg_sq_col",
    }
)  # fmt: skip
"""What optimizers call their tensors for one parameter."""
_NORMS_OWN = lazy_pattern(
    r"(^|\.)(weight|bias|gamma|beta)$|norm|bn|var|std|running|count", re.IGNORECASE
)
"""Names of tensors that a norm may have."""
_FEW = 8
_COMPILED = "torch._dynamo.eval_frame.OptimizedModule"
"""What ``torch.compile`` makes of a module; its pickle calls it with the module."""
_LOOKED_AT = 64
"""Parameters of an optimizer that are asked for their number of steps."""


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

    def add(self, other: "Found", where: str) -> None:
        """Take in what was found in a part of the file that is at ``where``."""
        self.models += [
            replace(model, where=f"{where}.{model.where}".strip(".")) for model in other.models
        ]
        self.optimizer_steps = max(self.optimizer_steps or 0, other.optimizer_steps or 0) or None
        self.optimizers += other.optimizers
        self.optimizer_states += other.optimizer_states
        self.tensors_without_names += other.tensors_without_names


def locate_models(
    root: object, budget: Budget, unpickled: Callable[[bytes], object] | None = None
) -> Found:
    """Every model below ``root``, each with the place where it sits.

    Args:
        root: What was read, inert.
        budget: Of the file.
        unpickled: Reads a pickle that lies in this one as bytes.

    Raises:
        RefusedError: Nested too deep, or too large to search.
    """
    found = _located(root, budget, unpickled)
    if any(model.tensors for model in found.models):
        # A loss function, an activation or a metric, saved as a module beside the model.
        found.models = [model for model in found.models if not _is_bare(model)]
        if any(_is_matrix(tensor) for model in found.models for tensor in model.tensors.values()):
            found.models = [model for model in found.models if not _is_setting(model)]
    whole = joined(found.models, budget)
    each = [member for model in whole for member in members(model, budget)]
    found.models = [copy for model in each for copy in averages_apart(model, budget)]
    if len(found.models) > budget.limits.models:
        raise _too_many(budget)
    return found


def _is_bare(model: SavedModel) -> bool:
    """Whether it is one module, or some in each other, without a tensor and without a norm."""
    return not model.tensors and not any(
        "norm" in record.class_name.lower() for record in model.modules or ()
    )


def _is_setting(model: SavedModel) -> bool:
    """Whether it is a handful of numbers and vectors, none of them a norm's.

    What a loss, a metric or a scaling of the targets holds, or a configuration.
    """
    return len(model.tensors) <= _FEW and not any(
        _is_matrix(tensor) or _NORMS_OWN.search(name) for name, tensor in model.tensors.items()
    )


def _is_matrix(tensor: TensorRef) -> bool:
    """Whether it extends in two directions or more."""
    return tensor.numel > max(tensor.shape, default=1)


def _too_many(budget: Budget) -> RefusedError:
    return RefusedError(f"more than {budget.limits.models:,} models in one file", limit="models")


def _located(root: object, budget: Budget, unpickled: Callable[[bytes], object] | None) -> Found:
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
        own = _as_it_stands(where.lstrip("."), value, budget)
        if own is not None:
            found.models.append(own)
            continue
        within = pickle_within(value)
        if within and unpickled is not None:
            # One level: no library puts a third pickle into the second.
            found.add(_located(unpickled(within), budget, None), where.lstrip("."))
            continue
        entries = entries_of(value)
        if not where:
            found.clocks = training_clocks(entries, budget)
        if _is_optimizer(entries):
            _count_optimizer(found, entries, seen, budget)
            continue
        model = state_dict(where.lstrip("."), value, entries, budget)
        if model is not None:
            found.models.append(model)
            if not any(named_tensors(entries)):
                continue  # nested dictionaries, all taken
            if isinstance(value, dict) and only_tensors(entries):
                gone_through.add(id(value))
                continue  # nothing else lies in it
        stack.append(_children(where, value, gone_through, tensors=model is None))
    return found


def _as_it_stands(where: str, value: object, budget: Budget) -> SavedModel | None:
    """A module, or the statistics of observations: nothing else is searched for in these."""
    if is_module(value):
        return saved_module(where, value, budget)
    state = observation_state(value)
    return SavedModel(where, Form.STATE_DICT, state) if state is not None else None


def _count_optimizer(
    found: Found, entries: Mapping[object, object], seen: set[int], budget: Budget
) -> None:
    """Add an optimizer's state, and the steps that it has counted."""
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
