"""Dictionaries that are state dicts: flat, or nested by module."""

import re
from collections.abc import Iterator, Mapping
from typing import TypeGuard

from normcheck.pickles.inert import Inert, OrderedRecord, attributes_of, brief, entries_of
from normcheck.pickles.observation_states import named_by_observation
from normcheck.pickles.torch_objects import as_tensor
from normcheck.saved.checkpoint import Form, SavedModel
from normcheck.saved.key_order import is_torn, letters, mended
from normcheck.saved.tensors import TensorRef
from normcheck.sources.limits import Budget

_PARAMETER_NAMES = frozenset(
    {
        "weight", "bias", "running_mean", "running_var", "num_batches_tracked",
        "gamma", "beta", "scale", "kernel", "weight_g", "weight_v", "in_proj_weight",
    }
)  # fmt: skip
"""What the tensors of a module are called, where a name has no dot to show its path."""
_PARAMETER_LIKE = re.compile(r"(^|_)(weight|bias)(_|$)")
"""Names of parameters that carry more than that: ``weight_ih_l0``, ``in_proj_bias``."""
_NESTED_LEAVES = 2
"""Module-like dictionaries side by side that make their parent a nested state dict; one
alone is the state dict of a single layer."""
_NESTED_DEPTH = 64
"""Levels of dictionaries in a nested state dict."""


def state_dict(
    where: str, value: object, entries: Mapping[object, object], budget: Budget
) -> SavedModel | None:
    """``entries`` as a state dict, where they are one."""
    named = entries if only_tensors(entries) else None
    tensors = dict(named_tensors(entries) if named is None else named)
    observed = named_by_observation(tensors)
    if observed is not None:
        budget.copy(len(tensors))
        return SavedModel(where, Form.STATE_DICT, observed)
    if any(
        "." in name or name in _PARAMETER_NAMES or _PARAMETER_LIKE.search(name) for name in tensors
    ):
        budget.copy(len(tensors), len(where))
        left_out = {} if named is not None else dict(_left_out(entries))
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
        yield from ((prefix + name, tensor) for name, tensor in named_tensors(level))
        stack.extend(
            (f"{prefix}{name}.", entries_of(child))
            for name, child in reversed(list(level.items()))
            if isinstance(name, str | int)
            and entries_of(child)
            and prefix.count(".") < _NESTED_DEPTH
        )


def only_tensors(entries: Mapping[object, object]) -> TypeGuard[Mapping[str, TensorRef]]:
    """Whether a dictionary has tensors by name and nothing else, as those of large models do."""
    return set(map(type, entries.values())) == {TensorRef} and set(map(type, entries)) == {str}


def named_tensors(entries: Mapping[object, object]) -> Iterator[tuple[str, TensorRef]]:
    """The tensors among the values whose keys are text."""
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
