"""Why statistics may misfit the data although they are right: other code, or another input."""

from normcheck.lazy_dataclass import lazy_dataclass

FITS = 0.1
"""Median distance of a layer from its statistics (standard deviations, or log variance ratio) up
to which it fits the code that runs."""


@lazy_dataclass()
class OtherCode:
    """A function that the statistics fit, where they do not fit the one that the code computes."""

    words: str
    """``eps 0.001``, ``its activations left out``, ``the input of bn2 times 0.5``."""
    before: float
    """Largest median distance of a layer from its statistics: in standard deviations, or a log
    variance ratio."""
    after: float
    """The same under the other function."""
    last_right: str
    """Path of the norm before the first that is off; empty where that is the first of all."""
    first_wrong: str


@lazy_dataclass()
class InputMap:
    """A change of the input, ``factor * x + offset``, under which the first norm fits."""

    factor: float
    """Negative where intensities are inverted."""
    offsets: tuple[float, ...]
    """For each channel of the input, or one for all features."""
    reversed_channels: bool
    """Whether the channels come in the other order."""
    fed: tuple[tuple[float, float], ...]
    """Mean and standard deviation of what is fed, as ``offsets`` has the channels."""
    before: float
    """Median distance of the first norm from its statistics as the input is: in standard
    deviations, or a log variance ratio."""
    behind: float
    """Largest of the norms behind, each of them behind norms that normalise by the batch."""
    samples: int
    first: float = float("inf")
    """The first norm's of the input so changed."""
    later: float = float("inf")
    """Largest of those behind, of the input so changed, all with their stored statistics."""
    healed: int | None = None
    """Labelled samples that are answered right only of the input so changed."""
    harmed: int | None = None
    """Labelled samples that are answered right only of the input as it is."""
    right: int | None = None
    """Labelled samples that are answered right of the input so changed."""
    guessed: float = 0.0
    """Share of them that guessing would answer right, of the input so changed."""
    fits: bool = True
    """Whether all norms fit it; else the first does, and labels speak for it."""

    @property
    def expected(self) -> tuple[tuple[float, float], ...]:
        """Mean and standard deviation of the input that the statistics are of."""
        ordered = reversed(self.fed) if self.reversed_channels else self.fed
        return tuple(
            (self.factor * mean + offset, abs(self.factor) * deviation)
            for (mean, deviation), offset in zip(ordered, self.offsets, strict=True)
        )


@lazy_dataclass()
class OtherContent:
    """The first norm's statistics are of images of another kind than those that are fed.

    A norm behind a convolution sees how neighbouring values correlate: noise, shuffled pixels or
    another set of images make other variances than those that it was trained on, and no factor or
    offset makes up for that.
    """

    scatter: float
    """Of the first norm's variances about those of the input, root mean square of logarithms: no
    factor explains it."""
    explained: float
    """The same about those of smooth random images, under which the statistics come about."""
    neighbours: float
    """Correlation of neighbouring values in those images."""
    fed: float
    """The same of what is fed."""
