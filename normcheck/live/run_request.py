"""What a user asks of a run: which model, which input, where. Plain values, without torch."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any, Protocol

from normcheck.lazy_dataclass import lazy_dataclass


class Progress(Protocol):
    """Told how far a run is."""

    def __call__(self, what: str, samples: int, coming: int = 0) -> None:
        """A step.

        Args:
            what: Is being done.
            samples: That were run since.
            coming: Samples that are to come, beyond those of which it was told; fewer than none
                where some of these are not needed.
        """


ALL = "all"
"""What stands for every model of a file."""
TOP = "."
"""What stands for a model at the top of its file, as for the current folder."""


SAMPLES = 256
"""Of the user's data that a scan takes, where nobody says how many ..."""
MORE_SAMPLES = 4 * SAMPLES
"""... and where these leave open what statistics do: four times as many halve every interval."""


def at_places(words: Iterable[str]) -> tuple[str, ...]:
    """Places of models as a file has them, of the words that name them."""
    return tuple("" if word == TOP else word for word in words)


def named(places: Iterable[str]) -> str:
    """Places in the words that name them, for a message."""
    return ", ".join(repr(place or TOP) for place in places)


@lazy_dataclass()
class Loading:
    """How the user wants the model made."""

    model: str | Callable[..., Any] = ""
    """``pkg.mod:factory``, or in Python what it stands for; empty where the file holds the module
    itself."""
    arguments: Mapping[str, Any] | list[Any] = field(default_factory=dict)
    prefix: str | None = None
    """Part of the file's names before the model's own; None to look for one."""
    where: tuple[str, ...] = ()
    """Places in the file of the models that are meant; empty for every one that fits."""
    trust: bool = False
    """Whether the file's own code may run."""


@lazy_dataclass()
class Feeding:
    """What the user wants to be fed."""

    data: Any = None
    """A path, ``pkg.mod:loader``, or in Python any iterable of batches; None for synthetic."""
    shapes: tuple[str, ...] = ()
    """``--input-shape`` as given, one for each input."""
    batch_size: int = 0
    """0 for the loader's own, or 32."""
    samples: int = SAMPLES
    """At most so many are used."""
    more_samples: int = 0
    """At most so many where those leave open what statistics do; 0 for no more than those."""
    image_size: tuple[int, int] | None = None
    """Height and width to which the images of a folder are resized."""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    imports: bool = True
    """Whether ``data`` may name code; otherwise only what is read."""
    beside: str = ""
    """The model's file: what lies beside it may state the size of its images."""
    as_trained: bool = False
    """Whether made-up images should have the size of the training's, where the layers suggest one;
    otherwise the first size that runs."""


def _silent(what: str, samples: int, coming: int = 0) -> None:
    pass


def _unsaid(_text: str) -> None:
    pass


@lazy_dataclass()
class Isolation:
    """Bounds of the process in which the models of one file run."""

    seconds: float = 600.0
    """For one file; 0 for no bound."""
    memory_bytes: int = 0
    """Resident memory; 0 for no bound."""


@lazy_dataclass()
class Running:
    """All of a run: the model, what it is fed, and where."""

    loading: Loading = field(default_factory=Loading)
    feeding: Feeding = field(default_factory=Feeding)
    device: str = "cpu"
    autocast: str = ""
    """``float16`` or ``bfloat16``; empty for none."""
    seed: int = 0
    dry: bool = False
    """Whether only to say what the data would cost."""
    progress: Progress = field(default=_silent, compare=False)
    announce: Callable[[str], None] = field(default=_unsaid, compare=False)
    """Told in words what of the file's code is about to run."""
    against: Path | None = None
    """Another file of the model: instead of probes, the outputs of both are compared."""
    against_where: str = ""
    """Place in that file of the model that is meant."""
    against_model: str = ""
    """Factory of the model in that file; empty for that of the first."""
    trust_config: bool = False
    """Whether code that only a configuration file names may be imported."""
    isolation: Isolation | None = None
    """Bounds of the process in which models of files run; None to run them in this one."""

    def unheard(self) -> "Running":
        """The same for another process, without the listeners of this one."""
        return replace(self, progress=_silent, announce=_unsaid)
