"""How many decisions differ between two checkpoints, and how many by the statistics alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.decided_on_fields import HEALTHY_MOST
from normcheck.wording import percent, plural

if TYPE_CHECKING:
    from normcheck.compare.movement import Comparison


@lazy_dataclass()
class DecisionRows:
    """A small table in words."""

    title: str
    rows: tuple[tuple[str, str], ...]
    """What is held against what, and the share of decisions that differ."""
    note: str
    """How to read it; empty where the numbers are of data."""


def decision_rows(comparison: Comparison) -> DecisionRows | None:
    """The decisions of both ends with their own and with each other's statistics.

    Returns:
        None where they were not compared.
    """
    found = None if comparison.outputs is None else comparison.outputs.exchanged
    if found is None:
        return None
    old, new = comparison.name(0), comparison.name(len(comparison.sides) - 1)
    rows = [
        (f"{old} and {new}, as they are", found.differ),
        (f"{old}, with the statistics of {new}", found.old_with_new),
        (f"{new}, with the statistics of {old}", found.new_with_old),
        (f"{old}, with statistics of these images", found.old_re_estimated),
        (f"{new}, with statistics of these images", found.new_re_estimated),
    ]
    note = ""
    if not found.real:
        fitted = (
            f"; they are fitted to what {found.fitted_to} has stored" if found.fitted_to else ""
        )
        note = (
            "random images are near no class, and of healthy networks too up to "
            f"{percent(HEALTHY_MOST)} changes with statistics of theirs: compare the rows{fitted}"
        )
    return DecisionRows(
        f"decisions that differ ({plural(found.samples, 'sample')} of {found.source})",
        tuple((name, percent(share)) for name, share in rows if share is not None),
        note,
    )
