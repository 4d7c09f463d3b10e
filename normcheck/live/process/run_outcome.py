"""What became of one model when it was run; plain values, without torch."""

from normcheck.errors import NormcheckError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.measurement import Run
from normcheck.live.output_match import OutputMatch
from normcheck.norms.anatomy import Anatomy


@lazy_dataclass(eq=False)
class Outcome:
    """One model after an attempt to run it."""

    anatomy: Anatomy
    """Of the live model where a factory made one: that knows more than a state dict."""
    run: Run | None = None
    note: str = ""
    """Why it was not run, where others of the same file were."""
    error: NormcheckError | None = None
    outputs: OutputMatch | None = None
    """Its outputs beside those of an export, where that was asked for."""
