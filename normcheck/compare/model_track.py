"""One model through the checkpoints: what is kept of it while file after file is read."""

from collections.abc import Sequence
from dataclasses import field, replace
from math import prod

from normcheck.compare.exports.export_match import ExportMatch
from normcheck.compare.exports.export_story import match_notes
from normcheck.compare.hyperparameters import changes, not_compared
from normcheck.compare.measure_movement import measured
from normcheck.compare.model_config import activation_changes, config_of, with_config
from normcheck.compare.model_snapshot import Snapshot, snapshot
from normcheck.compare.movement import Comparison, Side, Step
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.saved.checkpoint import Checkpoint, SavedModel
from normcheck.saved.clocks import Unit, telling
from normcheck.sources.limits import DEFAULT_LIMITS
from normcheck.wording import fold, plural

_FEW_IN_COMMON = 0.5
"""Share of the smaller model's tensors below which the reader should know."""


@lazy_dataclass(frozen=False, eq=False)
class Track:
    """Two snapshots, the first and the last so far, and the steps that were measured."""

    model: SavedModel
    """Of the first file, for its place and names; its tensors are not read any more."""
    first: Snapshot
    last: Snapshot
    sides: list[Side]
    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of_two(
        cls, files: tuple[Checkpoint, Checkpoint], models: tuple[SavedModel, SavedModel]
    ) -> "Track":
        """Two models whatever they have in common, even if it is nothing."""
        old = configured(snapshot(models[0], None), files[0])
        new = configured(snapshot(models[1], old), files[1])
        sides = [side_of(files[0], models[0], old), side_of(files[1], models[1], new)]
        return cls(models[0], old, new, sides, [measured(old, new, (0, 1), (None, None))])

    @classmethod
    def begin(cls, checkpoint: Checkpoint, model: SavedModel) -> "Track":
        """The track of one model of the first file."""
        now = configured(snapshot(model, None), checkpoint)
        return cls(model, now, now, [side_of(checkpoint, model, now)])

    def follow(self, checkpoint: Checkpoint, model: SavedModel, *, ranks: bool) -> bool:
        """Measure the step to one more checkpoint; False where it holds another model."""
        now = configured(snapshot(model, self.first), checkpoint)
        if not _one_model(self.first, now):
            return False
        old, place = (self.first, 0) if ranks else (self.last, len(self.sides) - 1)
        self.sides.append(side_of(checkpoint, model, now))
        self.steps.append(self._measured(old, now, (place, len(self.sides) - 1)))
        self.last = now
        smaller = min(len(self.first.shapes), len(now.shapes))
        if now.common < _FEW_IN_COMMON * smaller:
            self.notes.append(
                f"only {now.common} of {smaller} tensors have the same name and shape in "
                f"{self.sides[0].target} and {checkpoint.name}"
            )
        return True

    @property
    def unmatched(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Weights of either end that the other does not have, by name."""
        return _unmatched(self.first, self.last), _unmatched(self.last, self.first)

    def comparison(self, *, ranks: bool, match: ExportMatch | None = None) -> Comparison:
        """What was measured, at the end of at least one step.

        Args:
            ranks: Whether the files are ranks of one step.
            match: Of a model and its export, what became of each norm.
        """
        total = self.steps[0]
        if len(self.steps) > 1:
            total = self._measured(self.first, self.last, (0, len(self.sides) - 1))
        notes = list(self.notes)
        exported = any(side.exported for side in self.sides)
        if not ranks and not exported and any(_backwards(step) for step in self.steps):
            notes.append("batch counts go down: are the files in the order they came about?")
        notes += _one_side_only(self.first, self.last, (self.sides[0], self.sides[-1]))
        still = total.layers and not (total.learned or total.stats_moved)
        if still and _in_neither(self.first, self.last):
            # Where all that could be compared is the same, the reader asks what could not.
            forms = " and ".join(dict.fromkeys((self.sides[0].form, self.sides[-1].form)))
            notes.append(f"eps, groups, strides and activations are not in a {forms}: not compared")
        unmatched = self.unmatched
        for names, side in zip(unmatched, (self.sides[0], self.sides[-1]), strict=True):
            if names and match is None:
                have = "has" if len(names) == 1 else "have"
                own = f"{plural(len(names), 'weight tensor')} of {side.target} {have}"
                notes.append(f"{own} no counterpart ({fold(names)}): not compared")
        compared = {layer.path for layer in total.layers}
        apart = {*self.first.layers, *self.last.layers} - compared
        if match is not None:
            notes += match_notes(match)
            apart = set(match.not_compared)  # others were found under another name
        if apart:
            have = "has" if len(apart) == 1 else "have"
            notes.append(f"{plural(len(apart), 'norm')} {have} no counterpart: not compared")
        return Comparison(
            sides=tuple(self.sides),
            steps=tuple(self.steps),
            total=total,
            ranks=ranks,
            only_old=tuple(path for path in self.first.layers if path not in compared),
            lost=tuple(
                path
                for path, layer in self.first.layers.items()
                if path not in compared and layer.has_statistics
            ),
            only_new=tuple(path for path in self.last.layers if path not in compared),
            unmatched=unmatched,
            values_read=self.first.values_read,
            values=self.first.values,
            hyperparameters=(
                *changes(self.first.hyperparameters, self.last.hyperparameters),
                *activation_changes(self.first.hyperparameters, self.last.hyperparameters),
            ),
            notes=tuple(notes),
            match=match,
        )

    def _measured(self, old: Snapshot, new: Snapshot, places: tuple[int, int]) -> Step:
        before, after = (self.sides[place].clocks for place in places)
        known = {clock.name: clock.value for clock in before}
        clock = telling(c for c in after if c.name in known and c.unit is not Unit.EPOCHS)
        steps = (None, None) if clock is None else (known[clock.name], clock.value)
        return replace(measured(old, new, places, steps), clock=clock)


def configured(now: Snapshot, checkpoint: Checkpoint) -> Snapshot:
    """A snapshot with what the configuration beside its file says."""
    config = config_of(checkpoint.name, DEFAULT_LIMITS)
    if not config:
        return now
    completed = with_config(now.hyperparameters, config, now.anatomy)
    return replace(now, hyperparameters=completed)


def side_of(checkpoint: Checkpoint, model: SavedModel, now: Snapshot) -> Side:
    """What is said of one of the compared files."""
    return Side(
        target=checkpoint.name,
        where=model.where,
        format=checkpoint.format,
        form=model.form.value,
        exported=model.form.exported,
        size=checkpoint.size,
        optimizer_steps=_steps(checkpoint),
        clocks=checkpoint.pace,
        floating=now.floating,
    )


def _steps(checkpoint: Checkpoint) -> int | None:
    """Steps of its optimizer, else of its training loop."""
    if checkpoint.optimizers == 1 and checkpoint.optimizer_steps:
        return checkpoint.optimizer_steps
    clock = telling(clock for clock in checkpoint.pace if clock.unit is Unit.STEPS)
    return clock.value if clock is not None else None


def _one_side_only(first: Snapshot, last: Snapshot, sides: tuple[Side, Side]) -> list[str]:
    """What one of the ends does not hold, and what was therefore not compared."""
    notes = []
    both = not_compared(first.hyperparameters, last.hyperparameters)
    for names, lacks in zip(both, sides[::-1], strict=True):
        if names:
            verb = "is" if len(names) == 1 else "are"
            listed = ", ".join(sorted(names))
            notes.append(f"{listed} {verb} not in {lacks.target} ({lacks.form}): not compared")
    return notes


def _unmatched(one: Snapshot, other: Snapshot) -> tuple[str, ...]:
    """Weights that the other end does not have, or with another number of values."""
    return tuple(
        name
        for name in one.weights
        if name not in other.shapes or prod(other.shapes[name]) != prod(one.shapes[name])
    )


def _in_neither(first: Snapshot, last: Snapshot) -> bool:
    """Whether both ends have norms, and neither holds anything of them but tensors."""
    return all(
        any(h.norm for h in end.hyperparameters.values())
        and not any(h.values for h in end.hyperparameters.values())
        for end in (first, last)
    )


def _one_model(first: Snapshot, now: Snapshot) -> bool:
    """Whether enough agrees: a norm layer, or where a file has none, any tensor."""
    if not first.layers or not now.layers:
        return now.common > 0
    return any(path in first.layers for path in now.layers) and now.common > 0


def _backwards(step: Step) -> bool:
    """Whether counts fall though the statistics were not simply lost."""
    lost = any(layer.at_initial_values[1] for layer in step.tracked)
    return (step.batches or 0) < 0 and not lost


def sibling_moved(comparison: Comparison, others: Sequence[Comparison]) -> str:
    """Where another model of the same files lies whose statistics moved where these did not."""
    if comparison.total.stats_moved:
        return ""
    mine = {layer.path for layer in comparison.total.tracked}
    for other in others:
        moved = {layer.path for layer in other.total.tracked if layer.stats_moved}
        if other is not comparison and mine and mine <= moved:
            return other.sides[-1].where or "the other model"
    return ""
