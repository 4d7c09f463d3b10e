"""Which model of one file is which model of another, where a file holds several."""

import re
from collections.abc import Sequence

from normcheck.compare.tensor_names import aligned
from normcheck.errors import UsageError
from normcheck.live.run_request import named
from normcheck.saved.checkpoint import SavedModel

_AVERAGED = re.compile(r"ema|swa|averaged?|shadow|teacher|polyak", re.IGNORECASE)
"""Places of copies whose weights follow those of another model of the file."""


def chosen(target: str, models: Sequence[SavedModel], where: str) -> SavedModel:
    """The model at a place that the user named.

    Raises:
        UsageError: There is none.
    """
    for model in models:
        if model.where == where:
            return model
    places = named(model.where for model in models)
    nested = len(models) > 1 or any(model.where for model in models)
    raise UsageError(
        f"{target}: there is no model under {where!r:.80}",
        f"it has models under {places:.300}" if nested else "its one model needs no --where",
    )


def partners(
    first: Sequence[SavedModel], second: Sequence[SavedModel]
) -> tuple[SavedModel | None, ...]:
    """For each model of the first file its counterpart in the second, None where it has none.

    Equal places go together. What is left goes by names and shapes of tensors, an averaged
    copy with an averaged copy; a single model with a single model wherever both lie.
    """
    if len(first) == len(second) == 1:
        return (second[0],)
    found: list[SavedModel | None] = [
        next((model for model in second if model.where == wanted.where), None) for wanted in first
    ]
    free = [model for model in second if model not in found]
    for index, wanted in enumerate(first):
        if found[index] is None:
            partner = _most_alike(wanted, free, alone=len(first) == 1 or len(second) == 1)
            if partner is not None:
                free.remove(partner)
            found[index] = partner
    return tuple(found)


def _most_alike(
    wanted: SavedModel, free: Sequence[SavedModel], *, alone: bool
) -> SavedModel | None:
    """The model with the most tensors in common; the kind of place decides among equals."""
    ranked = sorted(
        ((_common(wanted, model), _averaged(wanted) == _averaged(model), model) for model in free),
        key=lambda entry: (-entry[0], not entry[1]),
    )
    for common, same_sort, model in ranked:
        if common and (same_sort or alone):
            return model
    return None


def _averaged(model: SavedModel) -> bool:
    return _AVERAGED.search(model.where) is not None


def _common(a: SavedModel, b: SavedModel) -> int:
    shapes = {name: tensor.shape for name, tensor in a.tensors.items()}
    names = aligned({name: tensor.shape for name, tensor in b.tensors.items()}, shapes)
    return sum(
        bool(shape := b.tensors[old].shape) and shapes.get(new) == shape
        for old, new in names.items()
    )
