"""Layers that a comparison of checkpoints accuses, with the steps in which it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.findings import Evidence
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.layer_numbers import median
from normcheck.wording import number, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from normcheck.compare.movement import Comparison, LayerChange, Step


@lazy_dataclass()
class Accused:
    """What one finding of a series is about: one cause, in whichever steps it shows."""

    comparison: Comparison
    steps: tuple[Step, ...]
    each: tuple[LayerChange, ...]
    """Of every step the layers that are accused there; one layer can stand here repeatedly."""

    def __bool__(self) -> bool:
        """Whether there is anything to accuse."""
        return bool(self.each)

    @property
    def layers(self) -> tuple[LayerChange, ...]:
        """Each layer once, as its first step shows it."""
        return tuple({n.path: n for n in reversed(self.each)}.values())[::-1]

    @property
    def paths(self) -> tuple[str, ...]:
        """Of the layers, in the order of the model."""
        named = {n.path for n in self.each}
        order = [n.path for n in self.comparison.total.layers if n.path in named]
        return (*order, *(n.path for n in self.layers if n.path not in order))

    @property
    def channels(self) -> int:
        """Of all the layers."""
        return sum(n.features or 0 for n in self.layers)

    @property
    def counted(self) -> tuple[float, ...]:
        """Batches that the layers counted, where that is known."""
        return tuple(n.counted for n in self.each if n.counted is not None)

    @property
    def counted_by_step(self) -> tuple[float, ...]:
        """The commonest count of each step, where that is known."""
        return tuple(n for step in self.steps if (n := step.batches) is not None)

    @property
    def when(self) -> str:
        """`` from a.pt → b.pt``, where there are several steps to choose from."""
        if len(self.comparison.steps) == 1:
            return ""
        from normcheck.compare.movement import runs_of  # a scan never compares

        return f" from {runs_of(self.comparison, self.steps)}"

    @property
    def norms(self) -> str:
        """``6 batch norm layers``."""
        return plural(len(self.layers), "batch norm layer")

    @property
    def shift(self) -> float:
        """How far running_mean moved in the median layer, in standard deviations.

        Of several steps the largest counts.
        """
        shifts: dict[str, float] = {}
        for layer in self.each:
            if layer.mean is not None:
                shifts[layer.path] = max(layer.mean.distance, shifts.get(layer.path, 0.0))
        return median(list(shifts.values())) if shifts else 0.0

    @property
    def shift_evidence(self) -> Evidence:
        """The same as evidence."""
        name = "median shift of running_mean in standard deviations"
        return Evidence(name, self.shift, 0.0, len(self.paths))

    @property
    def shifted(self) -> str:
        """The same in words."""
        by = number(self.shift)
        return f"running_mean moved by {by} standard deviations in the median layer"


def accuse(
    comparison: Comparison,
    steps: Iterable[Step],
    guilty: Callable[[Step], Sequence[LayerChange]],
) -> Accused:
    """Gather the layers that are guilty of one thing over the steps of a comparison."""
    found = [(step, layers) for step in steps if (layers := guilty(step))]
    return Accused(
        comparison,
        tuple(step for step, _ in found),
        tuple(layer for _, layers in found for layer in layers),
    )
