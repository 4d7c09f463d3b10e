"""What the process in which models run tells the one that started it."""

from dataclasses import dataclass

from normcheck.live.measurement import Run
from normcheck.live.output_match import OutputMatch
from normcheck.norms.anatomy import Anatomy


@dataclass(frozen=True, slots=True)
class Progress:
    """Something was done."""

    what: str
    samples: int
    """That were run since."""


@dataclass(frozen=True, slots=True)
class Failed:
    """No more comes: an error that the user can do something about."""

    message: str
    hint: str


@dataclass(frozen=True, slots=True, eq=False)
class Came:
    """What became of the next model of the file."""

    anatomy: Anatomy | None
    """Of a live model; None where the file says as much."""
    run: Run | None
    note: str
    error: tuple[str, str] | None
    """Message and hint."""
    outputs: OutputMatch | None


@dataclass(frozen=True, slots=True)
class Finished:
    """All models are done."""


MESSAGES = {kind.__name__: kind for kind in (Progress, Failed, Came, Finished)}
