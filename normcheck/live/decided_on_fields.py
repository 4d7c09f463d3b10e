"""Decisions that change with the statistics that norms use: plain values, without torch."""

from normcheck.lazy_dataclass import lazy_dataclass

HEALTHY_MOST = 0.78
"""Share of the decisions on random images that re-estimating on them changes of healthy networks,
at most, of 90 (0.57 in nine of ten): random images are near no class."""


@lazy_dataclass()
class DecidedOnFields:
    """What one model decides on smooth random images."""

    changed: float
    """Share of the decisions that change with statistics re-estimated on these images."""
    samples: int
    shape: str
    """Of one image."""
    fitted_to: str = ""
    """The first norm, where its stored statistics told mean, scale and smoothness."""


@lazy_dataclass()
class Exchanged:
    """How many decisions differ between two models of one architecture, and by what."""

    samples: int
    source: str
    """What was fed: the user's data, or smooth random images."""
    real: bool
    """Whether it was data."""
    differ: float
    """Share of the decisions that differ, both models as they are."""
    old_with_new: float
    """Share that change of the old model's when it is given the statistics of the new one."""
    new_with_old: float
    """The same of the new model's with the statistics of the old one."""
    old_re_estimated: float | None = None
    """Share that change of the old model's with statistics re-estimated on the random images; None
    on data."""
    new_re_estimated: float | None = None
    fitted_to: str = ""
    """The first norm, where its stored statistics told mean, scale and smoothness of the images."""
