"""Tensors of a model whose values are not read, in words for the report."""

from collections.abc import Iterator

from normcheck.saved.checkpoint import SavedModel
from normcheck.saved.tensor_columns import unreadable
from normcheck.wording import plural

_REASONS = 5
"""Reasons that are told apart; files with more are odd in a way that a sixth does not explain."""
_NAMES = 4


def unread_tensors(model: SavedModel) -> dict[str, str]:
    """Tensors of a model without values to be read, by name, each with the reason."""
    found = {
        name: ref.note or f"element type {ref.dtype.name}"
        for name, ref in unreadable(model.tensors)
        if ref.numel or ref.note  # of none, none is missing
    }
    return {**found, **model.left_out}


def unread_notes(model: SavedModel) -> Iterator[str]:
    """A sentence for each reason, the commonest first: nothing is left out in silence."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in unread_tensors(model).items():
        by_reason.setdefault(reason, []).append(name)
    ordered = sorted(by_reason.items(), key=lambda entry: -len(entry[1]))
    for reason, names in ordered[:_REASONS]:
        more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
        listed = ", ".join(name[:80] for name in names[:_NAMES]) + more
        every = "all " if len(names) == len(model.tensors) > 1 else ""
        yield f"not readable, {every}{plural(len(names), 'tensor')} ({listed}): {reason}"
    rest = ordered[_REASONS:]
    if rest:
        count = sum(len(names) for _, names in rest)
        yield f"not readable for other reasons: {plural(count, 'tensor')}"
