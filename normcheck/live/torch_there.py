"""Whether torch is there: normcheck runs models with it, and scans without."""

import importlib.util

from normcheck.errors import UsageError


def require_torch(what: str) -> None:
    """See that torch is installed, without importing it.

    Args:
        what: Is to be done with it: ``running a model``.

    Raises:
        UsageError: It is not; says how to install it.
    """
    if importlib.util.find_spec("torch") is None:
        raise UsageError(
            f"{what} needs torch, which is not installed",
            "pip install 'normcheck[run]' (README: Install says how to get a build without CUDA)",
        )
