"""A threshold of a rule that a user may set."""

from math import inf, isfinite
from sys import float_info

from normcheck.lazy_dataclass import lazy_dataclass


@lazy_dataclass()
class Option:
    """One number of a rule, with the bounds within which it makes sense.

    The rule asks for its value with ``subject.value(OPTION)``.
    """

    name: str
    """In kebab case, as it stands in a configuration file: ``max-residue``."""
    default: float
    unit: str
    """``share``, ``momentum``, ``times eps``."""
    meaning: str
    """One line for the rule's page."""
    least: float = 0.0
    most: float = inf

    def allows(self, value: float) -> bool:
        """Whether a value lies within the bounds."""
        # A whole number of a file can be too large for a float.
        return self.least <= value <= min(self.most, float_info.max)

    @property
    def bounds(self) -> str:
        """The bounds in words: ``from 0 to 1``, ``0 or more``."""
        if isfinite(self.most):
            return f"from {self.least:g} to {self.most:g}"
        return f"{self.least:g} or more"
