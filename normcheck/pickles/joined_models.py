"""State dicts that belong together, and state dicts of several models in one.

``torch.func.stack_module_state`` gives parameters and buffers apart, as ``functional_call`` takes
them, each tensor with the models of an ensemble along a first dimension. ``joined`` puts the two
halves together, ``members`` takes the ensemble apart.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from normcheck.saved.checkpoint import Form, SavedModel
from normcheck.saved.tensors import TensorRef
from normcheck.sources.limits import Budget

_BUFFERS = frozenset({"running_mean", "running_var", "num_batches_tracked"})
_MOST_HALVES = 16
"""Of a file that are looked at; each is held against all models of the file."""
_COUNT = "num_batches_tracked"


def joined(models: Sequence[SavedModel], budget: Budget) -> list[SavedModel]:
    """The models, buffers put beside the parameters of the same modules.

    Two state dicts of one place in the file count as halves where one of them has nothing but
    statistics, of modules of which the other has parameters and no statistics.
    """
    kept = list(models)
    halves = [model for model in models if _only_buffers(model)]
    if len(halves) > _MOST_HALVES:
        return kept
    for buffers in halves:
        own = {_module(name) for name in buffers.tensors}
        fitting = [
            model
            for model in kept
            if model is not buffers
            and model.form is Form.STATE_DICT
            and _beside(model.where, buffers.where)
            and not any(_leaf(name) in _BUFFERS for name in model.tensors)
            and own <= {_module(name) for name in model.tensors}
        ]
        if len(fitting) != 1:
            continue
        (parameters,) = fitting
        budget.copy(len(parameters.tensors) + len(buffers.tensors))
        whole = replace(parameters, tensors=dict(_together(parameters.tensors, buffers.tensors)))
        kept[kept.index(parameters)] = whole
        kept.remove(buffers)
    return kept


def _only_buffers(model: SavedModel) -> bool:
    return (
        model.form is Form.STATE_DICT
        and bool(model.tensors)
        and all(_leaf(name) in _BUFFERS for name in model.tensors)
        and any(_leaf(name) == "running_var" for name in model.tensors)
    )


def _beside(one: str, other: str) -> bool:
    """Whether two places differ in their last step alone: ``[0]`` and ``[1]``, or two keys."""
    return _above(one) == _above(other)


def _above(where: str) -> str:
    return where[: max(where.rfind("."), where.rfind("["), 0)]


def _together(
    parameters: Mapping[str, TensorRef], buffers: Mapping[str, TensorRef]
) -> Iterator[tuple[str, TensorRef]]:
    """Each module's buffers behind its parameters, as ``state_dict()`` has them."""
    by_module: dict[str, list[str]] = {}
    for name in buffers:
        by_module.setdefault(_module(name), []).append(name)
    for module, names in groupby(parameters, _module):
        yield from ((name, parameters[name]) for name in names)
        yield from ((name, buffers[name]) for name in by_module.pop(module, ()))


def members(model: SavedModel, budget: Budget) -> list[SavedModel]:
    """The models of a stacked ensemble; the model itself where it is none.

    It is one where every norm counts batches once for each member, and all tensors have as many
    along their first dimension.
    """
    named = [name for name in model.tensors if name.endswith(_COUNT)]
    counts = [model.tensors[name] for name in named if _leaf(name) == _COUNT]
    if model.form is not Form.STATE_DICT or not counts or counts[0].ndim != 1:
        return [model]
    size = counts[0].shape[0]
    if size < 1 or any(t.ndim < 1 or t.shape[0] != size for t in model.tensors.values()):
        return [model]
    if any(count.ndim != 1 for count in counts):
        return [model]
    budget.copy(size * len(model.tensors), size * (len(model.where) + 8))
    return [
        replace(
            model,
            where=f"{model.where}[{number}]",
            tensors={name: _member(t, number) for name, t in model.tensors.items()},
        )
        for number in range(size)
    ]


def _member(tensor: TensorRef, number: int) -> TensorRef:
    return replace(
        tensor,
        shape=tensor.shape[1:],
        strides=tensor.strides[1:],
        offset=tensor.offset + number * tensor.strides[0],
    )


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]
