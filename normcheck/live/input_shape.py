"""The shape of one input of a model: plain values, without torch."""

from normcheck.lazy_dataclass import lazy_dataclass

FLOAT = "float"
"""Whatever element type the model has."""


@lazy_dataclass()
class Shape:
    """One input without its batch dimension."""

    dimensions: tuple[int, ...]
    dtype: str = FLOAT
    name: str = ""
    """Keyword, where it is passed by name."""
    high: int = 2
    """Integers are drawn from 0 to below it."""

    def __str__(self) -> str:
        """As ``--input-shape`` takes it."""
        shape = "x".join(map(str, self.dimensions)) or "scalar"
        return (
            (f"{self.name}=" if self.name else "")
            + shape
            + ("" if self.dtype == FLOAT else f":{self.dtype}")
        )
