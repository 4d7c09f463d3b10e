"""What the process in which models run tells the one that started it."""

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.measurement import Run
from normcheck.live.output_match import OutputMatch
from normcheck.norms.anatomy import Anatomy


@lazy_dataclass()
class Progress:
    """Something was done."""

    what: str
    samples: int
    """That were run since."""
    coming: int = 0
    """To come, beyond those of which it was told."""


@lazy_dataclass()
class Failed:
    """No more comes: an error that the user can do something about."""

    message: str
    hint: str


@lazy_dataclass(eq=False)
class Came:
    """What became of the next model of the file."""

    anatomy: Anatomy | None
    """Of a live model; None where the file says as much."""
    run: Run | None
    note: str
    error: tuple[str, str] | None
    """Message and hint."""
    outputs: OutputMatch | None


@lazy_dataclass()
class Finished:
    """All models are done."""


MESSAGES = {kind.__name__: kind for kind in (Progress, Failed, Came, Finished)}
