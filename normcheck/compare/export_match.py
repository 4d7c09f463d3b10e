"""How an export holds against the model that it was made from: plain values."""

from dataclasses import dataclass
from enum import StrEnum

from normcheck.compare.hyperparameters import HyperparameterChange
from normcheck.live.output_match import OutputMatch


class Fate(StrEnum):
    """What became of a norm layer in an export."""

    KEPT = "kept"
    """It is there, with the same numbers."""
    CHANGED = "changed"
    """It is there, with other numbers."""
    FOLDED = "folded"
    """Its numbers are in the weights before it, as they should be."""
    FOLDED_OTHERWISE = "folded otherwise"
    """The weights before it are neither the source's nor what folding makes of them."""
    DROPPED = "dropped"
    """The weights before it are the source's, and the norm is gone."""
    LEFT_OUT = "left out"
    """Its statistics are nowhere in the export, and no weight of the source was changed for it."""
    NOT_FOUND = "not found"
    """Nothing in the export shows what became of it."""


@dataclass(frozen=True, slots=True)
class NormMatch:
    """One norm layer of the source."""

    path: str
    """In the source."""
    fate: Fate
    differences: tuple[str, ...] = ()
    """What differs, in words: ``running_var: median ratio 1.4``."""
    weights_path: str = ""
    """Of the layer that it was folded into."""
    deviation: float = 0.0
    """Largest difference of folded weights and biases, relative to the largest of them."""


@dataclass(frozen=True, slots=True)
class ExportMatch:
    """A model and its export; the comparison's first side is the source."""

    norms: tuple[NormMatch, ...]
    functions: tuple[HyperparameterChange, ...] = ()
    """Hyperparameters of other layers that both hold, and not alike."""
    in_training: int = 0
    """Operators of the export that compute as in training."""
    outputs: OutputMatch | None = None
    not_run: str = ""
    """Why outputs were not compared though data were given."""

    @property
    def wrong(self) -> tuple[NormMatch, ...]:
        """The norms whose numbers the export does not hold."""
        return self.of(Fate.CHANGED, Fate.FOLDED_OTHERWISE, Fate.DROPPED, Fate.LEFT_OUT)

    def of(self, *fates: Fate) -> tuple[NormMatch, ...]:
        """The norms of these fates."""
        return tuple(norm for norm in self.norms if norm.fate in fates)
