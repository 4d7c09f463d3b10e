"""How an export holds against the model that it was made from: plain values."""

from enum import StrEnum

from normcheck.compare.exports.row_order import odd_ones
from normcheck.compare.hyperparameters import HyperparameterChange
from normcheck.lazy_dataclass import lazy_dataclass
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


@lazy_dataclass()
class NormMatch:
    """One norm layer of the source."""

    path: str
    """In the source."""
    fate: Fate
    differences: tuple[str, ...] = ()
    """What differs, in words: ``running_var: median ratio 1.4``."""
    weights_path: str = ""
    """Of the layer that it was folded into."""
    weights_name: str = ""
    """Of the export's tensor that it was folded into."""
    deviation: float = 0.0
    """Largest difference of folded weights and biases, relative to the largest of them."""
    scaled: bool = False
    """Whether the weights are the source's up to a factor for each output, so something was
    folded into them."""


class WeightFate(StrEnum):
    """What became of a tensor of weights in an export."""

    SAME = "same"
    """It is there, as it was or turned, with the same numbers."""
    DIFFERENT = "different"
    """It is there, with other numbers."""
    SCALED = "scaled"
    """It is there with a factor for each output or input: something was folded into it."""
    NOT_FOUND = "not found"
    """Under no name, and its numbers nowhere."""


@lazy_dataclass()
class WeightMatch:
    """A tensor of weights outside norms, into which no norm was folded."""

    name: str
    """In the source."""
    fate: WeightFate
    theirs: str = ""
    """Its name in the export."""
    difference: str = ""
    """In words, where it differs."""
    by_numbers: bool = False
    """Whether it was found under a name that is not its own."""
    order: str = ""
    """How its rows lie in ``theirs`` where they are a part of it, or those of ``theirs`` in it."""


@lazy_dataclass()
class ExportMatch:
    """A model and its export; the comparison's first side is the source."""

    norms: tuple[NormMatch, ...]
    functions: tuple[HyperparameterChange, ...] = ()
    """Hyperparameters of other layers that both hold, and not alike."""
    weights: tuple[WeightMatch, ...] = ()
    """Of everything that is learned outside norms."""
    only_in_export: tuple[str, ...] = ()
    """Norms of the export that are none of the source: a state dict shows nothing of a norm
    without tensors."""
    in_training: tuple[str, ...] = ()
    """Operators of the export that compute as in training, by the path of their module."""
    outputs: OutputMatch | None = None
    not_run: str = ""
    """Why outputs were not compared though data were given."""

    @property
    def wrong(self) -> tuple[NormMatch, ...]:
        """The norms whose numbers the export does not hold."""
        return self.of(Fate.CHANGED, Fate.FOLDED_OTHERWISE, Fate.DROPPED, Fate.LEFT_OUT)

    @property
    def not_compared(self) -> tuple[str, ...]:
        """Norms of either side that nothing of the other was held against, by path."""
        lost = (norm.path for norm in self.of(Fate.NOT_FOUND))
        return tuple(dict.fromkeys((*lost, *self.only_in_export)))

    @property
    def joined(self) -> tuple[WeightMatch, ...]:
        """The weights that one side holds in one tensor and the other in several."""
        return tuple(w for w in self.weights if w.order)

    @property
    def odd_orders(self) -> dict[str, list[str]]:
        """Joined weights that lie in another order than most of their sort: names by the order."""
        whole = [(w.name, w.order) for w in self.joined if w.order != "in part"]
        return odd_ones(whole)

    @property
    def scaled_weights(self) -> tuple[str, ...]:
        """The weights that are there with a factor for each output or input, by name."""
        return tuple(w.name for w in self.weights if w.fate is WeightFate.SCALED)

    @property
    def renamed(self) -> bool:
        """Whether these are the same weights under other names: most are there, some so found."""
        same = [w for w in self.weights if w.fate is WeightFate.SAME]
        return any(w.by_numbers for w in same) and 2 * len(same) >= len(self.weights)

    @property
    def lost_weights(self) -> tuple[str, ...]:
        """The weights that are nowhere in the export: computed into others, or left out."""
        return tuple(w.name for w in self.weights if w.fate is WeightFate.NOT_FOUND)

    @property
    def other_weights(self) -> tuple[WeightMatch, ...]:
        """The weights whose numbers the export has otherwise."""
        return tuple(w for w in self.weights if w.fate is WeightFate.DIFFERENT)

    def of(self, *fates: Fate) -> tuple[NormMatch, ...]:
        """The norms of these fates."""
        return tuple(norm for norm in self.norms if norm.fate in fates)
