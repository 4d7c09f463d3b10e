"""Why statistics may misfit the data although they are right: other code, or another input."""

from normcheck.lazy_dataclass import lazy_dataclass


@lazy_dataclass()
class OtherCode:
    """A function that the statistics fit, where they do not fit the one that the code computes."""

    words: str
    """``eps 0.001``, ``its activations left out``."""
    before: float
    """Largest median distance of a layer from its statistics: in standard deviations, or a log
    variance ratio."""
    after: float
    """The same under the other function."""
    last_right: str
    """Path of the norm before the first that is off."""
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

    @property
    def expected(self) -> tuple[tuple[float, float], ...]:
        """Mean and standard deviation of the input that the statistics are of."""
        ordered = reversed(self.fed) if self.reversed_channels else self.fed
        return tuple(
            (self.factor * mean + offset, abs(self.factor) * deviation)
            for (mean, deviation), offset in zip(ordered, self.offsets, strict=True)
        )
