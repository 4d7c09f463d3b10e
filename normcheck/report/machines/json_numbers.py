"""Numbers as JSON can hold them."""

from math import isfinite


def json_number(value: float | str | None) -> float | str | int | None:
    """Whole numbers without a fraction; NaN and infinity, which JSON lacks, as strings."""
    if isinstance(value, float):
        if not isfinite(value):
            return str(value)
        return int(value) if value.is_integer() and abs(value) < 1 << 53 else value
    return value
