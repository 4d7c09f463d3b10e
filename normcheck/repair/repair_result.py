"""What a repair did, or why it was refused: plain values for reports. No torch."""

from dataclasses import field

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.measurement import Regime
from normcheck.saved.dtypes import Array
from normcheck.saved.tensors import TensorRef
from normcheck.shown import Shown


@lazy_dataclass(eq=False)
class TensorEdit:
    """New values for one tensor of a file."""

    name: str
    """In the model, with the prefix that the file has."""
    ref: TensorRef | None
    """Where it lies; None where the file lacks it."""
    values: Array
    whole_numbers: bool = False
    """Whether it has to become an integer, whatever it is now."""


@lazy_dataclass()
class LayerRepair:
    """What became of one layer's statistics."""

    path: str
    shift: float
    """Median over channels of |new mean - old mean|, in new standard deviations."""
    factor: float
    """Median over channels of new variance over old."""


@lazy_dataclass()
class Proof:
    """The model before and after, on samples that the estimate did not see."""

    before: Regime
    after: Regime
    text: str
    """The verdict, in a sentence or two."""
    judged_by: str
    """What the statistics that judged are of, or the holdout."""


@lazy_dataclass()
class Emergency:
    """What an estimate without data rests on."""

    reasons: str
    """By what it is known that the statistics are lost or of other weights."""
    correlation: float
    """Of neighbouring values in the random fields that stood in for data."""
    fitted_to: str
    """Path of the first norm, where the fields are fitted to its statistics; empty otherwise."""
    kept: tuple[str, ...]
    """Norms whose statistics stay as they are."""
    guessed_from: str | None = None
    """What the size of the images was guessed from, empty where it was found by trial; None where
    it was given."""
    in_part: tuple[str, ...] = ()
    """Norms of which only the channels change whose statistics cannot be."""
    vouched: tuple[str, ...] = ()
    """Norms that the findings name, which stay: the fields give them the means that they store."""


@lazy_dataclass()
class Estimated:
    """How statistics were estimated."""

    source: str
    shapes: str
    samples: int
    passes: int
    residual: float
    device: str
    layers: tuple[LayerRepair, ...]
    proof: Proof
    objections: tuple[str, ...] = ()
    """Reasons not to write them."""
    emergency: Emergency | None = None
    """What the estimate rests on, where no data were given."""


@lazy_dataclass(eq=False)
class ModelRepair:
    """The repairs of one model of a file."""

    where: str
    changes: tuple[TensorEdit, ...]
    flags: tuple[int, ...] = ()
    """Places in the file of training flags to be set to False."""
    done: tuple[str, ...] = ()
    """Each repair in words, but for the re-estimation."""
    estimated: Estimated | None = None
    notes: tuple[str, ...] = ()

    @property
    def objections(self) -> tuple[str, ...]:
        """Reasons not to write."""
        return self.estimated.objections if self.estimated else ()


@lazy_dataclass()
class Written:
    """The file that was written."""

    path: str
    size: int
    changed: int
    """Bytes of tensors and flags that differ from the input; 0 where the file is a new one."""
    anew: str = ""
    """Why it had to be a new file instead of a patched copy; empty for a copy."""
    backup: str = ""


@lazy_dataclass(eq=False, repr=False)
class Repair(Shown):
    """All that a call of ``fix`` did."""

    target: str
    format: str
    models: tuple[ModelRepair, ...]
    written: Written | None
    """None where it was refused."""
    forced: bool = False
    notes: tuple[str, ...] = field(default=())
    asked: tuple[str, ...] = field(default=())
    """Words of the command that ask for it, but for the file."""

    @property
    def refused(self) -> bool:
        """Whether there were reasons not to write, and nothing was written."""
        return self.written is None

    @property
    def ok(self) -> bool:
        """Whether the repaired copy was written, with nothing against it."""
        return not self.refused and not any(model.objections for model in self.models)
