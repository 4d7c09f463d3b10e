"""How well outputs hit the user's labels, and how well they would hit them by guessing."""

from math import sqrt

from normcheck.lazy_dataclass import lazy_dataclass

ONE_CLASS = 0.98
"""Share of the most frequent label from which data are of one class: rare events are more."""
ONE_SIDED = 0.8
"""Share of the most frequent label from which labels are nearly of one class, and cannot show what
a model knows of classes."""


@lazy_dataclass()
class Answers:
    """How many of the user's labels the model hits, and how many it would hit by guessing."""

    right: int
    samples: int
    chance: float
    """Share of right answers without any skill: that of one class in all, or that of the model's
    own answers dealt out anew, whichever is larger (of labels of nearly one class the first)."""
    classes: int
    """Between which the output decides."""
    most_frequent: float = 0.0
    """Share of the labels that the most frequent one has: what always answering it gives."""


@lazy_dataclass()
class Skill:
    """How far outputs are above guessing, where a sample has a number or many decisions."""

    of: str
    """``numbers`` or ``places``."""
    samples: int
    share: float
    """Of the error of guessing that is taken away: 1 is perfect, 0 no better. R squared of numbers
    (against their mean), Cohen's kappa of decisions at places."""
    most: float
    """The upper end of its interval."""
    t: float
    """It over its standard error, between samples."""
    chance: float
    """Share of places that the model's own answers for other samples hit; 0 of numbers."""
    correlation: float = 0.0
    """Of numbers with what was predicted: high where only unit or offset are others."""


def z_of(healed: int, harmed: int) -> float:
    """Changed answers for the better, less those for the worse, in standard deviations."""
    return (healed - harmed) / sqrt(max(1, healed + harmed))
