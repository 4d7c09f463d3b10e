"""What moved between checkpoints: plain values, from which rules and outputs are made."""

from collections.abc import Iterator
from itertools import pairwise

from normcheck.compare.exports.export_match import ExportMatch
from normcheck.compare.hyperparameters import HyperparameterChange
from normcheck.compare.transform import Transformation
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.output_match import OutputMatch
from normcheck.norms.kinds import Family
from normcheck.saved.clocks import Clock


@lazy_dataclass()
class Movement:
    """How far numbers moved from one checkpoint to another."""

    distance: float
    """0 where nothing moved; what it counts in stands where a Change is used."""
    moved: bool
    """Whether any number differs by more than the rounding of the types it is stored in."""


@lazy_dataclass()
class LayerChange:
    """One normalization layer in two checkpoints. What either file lacks is None."""

    path: str
    """As the first file of the comparison calls it."""
    kind: str
    family: Family
    features: int | None
    weights_path: str = ""
    """The layer whose output is most probably normalised here; empty where none is known."""
    weights: Movement | None = None
    """Of that layer's weight and bias: length of the difference over their length."""
    affine: Movement | None = None
    """Of γ and β together, likewise."""
    mean: Movement | None = None
    """Of running_mean: root mean square over channels, in standard deviations."""
    variance: Movement | None = None
    """Of running_var: median over channels of the absolute logarithm of the ratio."""
    batches: tuple[float | None, float | None] = (None, None)
    """Whole ``num_batches_tracked`` before and after; None where absent or no count."""
    at_initial_values: tuple[bool, bool] = (False, False)
    """Whether the statistics are exactly 0 and 1, before and after."""
    has_statistics: tuple[bool, bool] = (False, False)
    """Whether there are running statistics, before and after."""
    parts: tuple[str, ...] = ()
    """Which of weight, bias, running_mean and running_var both files have."""
    moved_parts: tuple[str, ...] = ()
    """Those that differ by more than rounding."""
    transformed: tuple[tuple[str, Transformation], ...] = ()
    """Those that one exact operation turned into what they are now."""
    replaced: bool = False
    """Whether the second file says that the layer is of another kind."""

    @property
    def tracked(self) -> bool:
        """Whether both files have running statistics of this layer."""
        return self.mean is not None and self.variance is not None

    @property
    def stats_moved(self) -> bool:
        """Whether running_mean or running_var moved."""
        return any(change is not None and change.moved for change in (self.mean, self.variance))

    @property
    def learned(self) -> bool | None:
        """Whether the weights before the layer, γ or β moved; None where nothing is known."""
        known = [c.moved for c in (self.weights, self.affine) if c is not None]
        return any(known) if known else None

    @property
    def counted(self) -> float | None:
        """Batches counted in between; None where a count is missing."""
        before, after = self.batches
        return None if before is None or after is None else after - before


@lazy_dataclass()
class Side:
    """One of the compared checkpoints."""

    target: str
    """As the user wrote it."""
    where: str
    format: str
    form: str
    size: int
    optimizer_steps: int | None
    """Of the one optimizer in the file; None where there is none, or several."""
    floating: str
    """The element type of most of its weights."""
    clocks: tuple[Clock, ...] = ()
    """All that tell how far it was trained; empty where the file has several optimizers."""
    exported: bool = False
    """Whether it is an export, in which an exporter may have changed weights."""


@lazy_dataclass()
class Step:
    """From one checkpoint to another."""

    old: int
    """Number of the side, from 0."""
    new: int
    weights: Movement | None
    """All weights outside norms, taken together; None where no tensor could be compared."""
    tensors_moved: int
    tensors: int
    """Tensors behind ``weights``."""
    layers: tuple[LayerChange, ...]
    optimizer_steps: tuple[int | None, int | None] = (None, None)
    """What the clock of both files that tells most has counted; None where there is none."""
    clock: Clock | None = None
    """That clock, in the later file."""
    transformed: tuple[tuple[str, Transformation], ...] = ()
    """Weights outside norms that one exact operation turned into what they are now, by name."""

    @property
    def learned(self) -> bool:
        """Whether any weight, γ or β moved."""
        outside = self.weights is not None and self.weights.moved
        return outside or any(c.affine is not None and c.affine.moved for c in self.layers)

    @property
    def converted(self) -> bool:
        """Whether something moved, and each tensor that did went through one exact operation."""
        moved = self.tensors_moved + sum(len(layer.moved_parts) for layer in self.layers)
        told = len(self.transformed) == self.tensors_moved and all(
            set(layer.moved_parts) <= {part for part, _ in layer.transformed}
            for layer in self.layers
        )
        return moved > 0 and told

    @property
    def tracked(self) -> tuple[LayerChange, ...]:
        """Layers with running statistics on both sides."""
        return tuple(layer for layer in self.layers if layer.tracked)

    @property
    def stats_moved(self) -> bool:
        """Whether any running statistic moved."""
        return any(layer.stats_moved for layer in self.tracked)

    @property
    def steps_made(self) -> int | None:
        """Steps or batches of training in between, by the clock; None where a file has none."""
        before, after = self.optimizer_steps
        return None if before is None or after is None else after - before

    @property
    def one_sided(self) -> tuple[LayerChange, ...]:
        """Layers whose running statistics are in one of the two files only."""
        return tuple(layer for layer in self.layers if len(set(layer.has_statistics)) == 2)

    @property
    def batches(self) -> float | None:
        """The commonest number of batches that layers counted in between."""
        counted = [layer.counted for layer in self.tracked if layer.counted is not None]
        return max(counted, key=lambda n: (counted.count(n), -n), default=None)

    @property
    def same_moment(self) -> bool:
        """Whether these look like two ranks of one step.

        Weights and counts are equal and statistics are not, none of them initial.
        """
        tracked = self.tracked
        return (
            self.weights is not None
            and not self.learned
            and self.stats_moved
            and not any(any(layer.at_initial_values) for layer in tracked)
            and all(layer.counted == 0 and layer.batches[0] for layer in tracked)
            and not self.steps_made
        )


@lazy_dataclass()
class Comparison:
    """One model in all the compared checkpoints, in the order given."""

    sides: tuple[Side, ...]
    steps: tuple[Step, ...]
    """From each checkpoint to the next; of ranks, from the first to each of the others."""
    total: Step
    """From the first to the last; for two checkpoints the only step."""
    ranks: bool = False
    """Whether the checkpoints are ranks of one step rather than moments of one run."""
    only_old: tuple[str, ...] = ()
    """Norm layers that the first checkpoint has and the last has not."""
    only_new: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    """Those of ``only_old`` that have running statistics."""
    unmatched: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    """Weights outside norms of the first and of the last checkpoint that have no counterpart of as
    many values in the other, by name."""
    values_read: int = 0
    """Weights looked at in the first checkpoint; fewer than ``values`` where it is large."""
    values: int = 0
    match: ExportMatch | None = None
    """Where one side is an export of the other: how they hold against each other."""
    outputs: OutputMatch | None = None
    """Of two checkpoints: their outputs on the same data, where both were run."""
    not_run: str = ""
    """Why outputs were not compared though data were given."""
    hyperparameters: tuple[HyperparameterChange, ...] = ()
    """What both ends hold besides tensors, and do not hold alike."""
    sibling_moved: str = ""
    """Another model in the same files whose statistics did move, where there is one."""
    notes: tuple[str, ...] = ()

    @property
    def converted(self) -> bool:
        """Whether exact operations lie between two checkpoints, and nothing else: a conversion."""
        return not self.ranks and len(self.steps) == 1 and self.total.converted

    @property
    def compared(self) -> bool:
        """Whether anything was; two models may be run that have no tensor in common."""
        return bool(self.total.tensors or self.total.layers)

    @property
    def apart(self) -> bool:
        """Whether one end holds what nothing of the other was held against."""
        if self.match is not None:
            match = self.match
            return bool(match.not_compared or match.lost_weights or match.scaled_weights)
        norms = self.only_old or self.only_new or self.total.one_sided
        return bool(norms) or any(self.unmatched)

    @property
    def sampled(self) -> bool:
        """Whether large tensors were read in part only."""
        return self.values_read < self.values

    def name(self, side: int) -> str:
        """A side's file, as short as it stays unique among the sides."""
        return short_names(self.sides)[side]

    def between(self, step: Step) -> str:
        """``a.pt → b.pt``."""
        names = short_names(self.sides)
        return f"{names[step.old]} → {names[step.new]}"


def short_names(sides: tuple[Side, ...]) -> tuple[str, ...]:
    """The last parts of the targets, as many as it takes to tell them apart.

    >>> at = lambda target: Side(target, "", "", "", 0, None, "")
    >>> short_names((at("run/1/model.pt"), at("run/2/model.pt")))
    ('1/model.pt', '2/model.pt')
    """
    parts = [side.target.rstrip("/").split("/") for side in sides]
    places = [side.where for side in sides]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-length:]) for p in parts]
        if len(set(names)) == len(set(map(tuple, parts))):
            break
    several = len(set(places)) > 1 and len(set(map(tuple, parts))) < len(parts)
    if several:
        names = [f"{n} ({w})" if w else n for n, w in zip(names, places, strict=True)]
    return tuple(names)


def runs_of(comparison: Comparison, steps: tuple[Step, ...]) -> str:
    """Steps in words, neighbours together: ``a.pt → c.pt and e.pt → f.pt``."""
    names = short_names(comparison.sides)
    return " and ".join(f"{names[first.old]} → {names[last.new]}" for first, last in _runs(steps))


def _runs(steps: tuple[Step, ...]) -> Iterator[tuple[Step, Step]]:
    if not steps:
        return
    first = steps[0]
    for before, after in pairwise(steps):
        if after.old != before.new:
            yield first, before
            first = after
    yield first, steps[-1]
