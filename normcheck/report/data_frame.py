"""Tables for pandas, which is imported where one is asked for."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from normcheck.errors import NormcheckError


def frame_of(records: Sequence[dict[str, Any]], columns: Sequence[str] | None = None) -> Any:
    """A ``pandas.DataFrame``.

    Args:
        records: Its rows.
        columns: Their names, for a table that may have no row.

    Raises:
        NormcheckError: pandas is not installed.
    """
    try:
        pandas = import_module("pandas")
    except ImportError as error:
        raise NormcheckError(
            "to_dataframe needs pandas, which is not installed", "pip install pandas"
        ) from error
    return pandas.DataFrame(list(records), columns=columns)
