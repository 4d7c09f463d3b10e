"""The average of a model in the same flat state dict as the model itself.

A module that holds both, as ``ema_pytorch.EMA`` and many trainers' own do, names their tensors
``online_model.conv.weight`` and ``ema_model.conv.weight``. They are two models with one history
each: read as one, half of its norms would vouch for the other half.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from normcheck.lazy_pattern import lazy_pattern
from normcheck.saved.checkpoint import Form, SavedModel
from normcheck.saved.tensors import TensorRef
from normcheck.sources.limits import Budget

Value = TypeVar("Value")
_WORDS = ("ema", "swa", "averag", "avg", "shadow", "teacher", "polyak")
_NAMED = lazy_pattern(
    r"(?:^|_)(?:ema|swa|average|averaged|avg|shadow|teacher|polyak)(?:_|$)", re.IGNORECASE
)
"""A module that is called an average; a word within another one, as in ``semantic``, is none."""
_WRAPPED = "module."
_FEWEST = 4
"""Tensors of an average: a layer and its norm. Single ones are a loss's or a codebook's own."""


def averages_apart(model: SavedModel, budget: Budget) -> list[SavedModel]:
    """The model without its average, and the average; the model itself where it holds none.

    An average is what lies under a module that is called one, where another module, or the model
    around it, has tensors of all the same names and shapes. It is at that module's place, its
    names those below it.

    Args:
        model: Any.
        budget: Of its file.
    """
    # Most models are asked this alone.
    if model.form is not Form.STATE_DICT or not _may_hold_one(model.tensors):
        return [model]
    below: dict[str, dict[str, TensorRef]] = {}
    for name, tensor in model.tensors.items():
        if prefix := _average_above(name):
            below.setdefault(prefix, {})[name[len(prefix) :]] = tensor
    budget.copy(sum(map(len, below.values())))
    own = {prefix: held for prefix, held in below.items() if _is_copied(prefix, held, model)}
    if not own:
        return [model]
    rest = {n: t for n, t in model.tensors.items() if _average_above(n) not in own}
    return [
        replace(model, tensors=rest),
        *(
            replace(
                model,
                where=f"{model.where}.{prefix[:-1]}".strip("."),
                tensors=held,
                versions=_below(prefix, model.versions),
                left_out=_below(prefix, model.left_out),
            )
            for prefix, held in own.items()
        ),
    ]


def put_together(models: Sequence[SavedModel]) -> dict[str, TensorRef]:
    """The tensors of one flat state dict again, by the names that they have in the file.

    Args:
        models: All that :func:`averages_apart` gave of it.
    """
    return {
        in_file(model.where, name): tensor
        for model in models
        for name, tensor in model.tensors.items()
    }


def in_file(where: str, name: str) -> str:
    """The name that a flat state dict has for a tensor of a model at a place in it."""
    return f"{where}.{name}" if where else name


def _may_hold_one(names: Mapping[str, object]) -> bool:
    together = "\n".join(names).lower()
    return any(word in together for word in _WORDS)


def _average_above(name: str) -> str:
    """The path, with its dot, of the innermost module above a tensor that is called an average."""
    modules = name.split(".")[:-1]
    for depth in range(len(modules), 0, -1):
        if _NAMED.search(modules[depth - 1]):
            return ".".join(modules[:depth]) + "."
    return ""


def _is_copied(prefix: str, held: Mapping[str, TensorRef], model: SavedModel) -> bool:
    """Whether all that lies below a module lies at another place of the model, too."""
    # AveragedModel counts what it averaged beside the model that it wraps.
    copied = {name: tensor for name, tensor in held.items() if "." in name or tensor.ndim}
    if all(name.startswith(_WRAPPED) for name in copied):
        copied = {name.removeprefix(_WRAPPED): tensor for name, tensor in copied.items()}
    matrices = [name for name, tensor in copied.items() if tensor.ndim >= 2]
    if len(copied) < _FEWEST or not matrices:
        return False
    places = (
        name.removesuffix(matrices[0])
        for name in model.tensors
        if name.endswith(matrices[0]) and not name.startswith(prefix)
    )
    return any(
        (not place or place.endswith("."))
        # Blocks with a part of that name have it alike, and none is an average of another.
        and not _NAMED.search(place.rstrip(".").rpartition(".")[2])
        and all(
            (other := model.tensors.get(place + name)) is not None and other.shape == tensor.shape
            for name, tensor in copied.items()
        )
        for place in places
    )


def _below(prefix: str, named: Mapping[str, Value]) -> dict[str, Value]:
    return {
        name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)
    }
