"""Every format, whole and damaged: the numbers that were saved, or an error that helps."""

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from normcheck.errors import NormcheckError
from normcheck.formats.reading_errors import complete
from normcheck.formats.registry import read_source
from normcheck.norms.find_norms import anatomy_of
from normcheck.sources.source import MemorySource

from .strategies import CHECKED, Saved, damaged, files
from .targets import LIMITS

pytestmark = pytest.mark.slow

MANY = int(os.environ.get("NORMCHECK_EXAMPLES", "0"))
EXAMPLES = settings(
    max_examples=MANY or 300, deadline=None, derandomize=not MANY, database=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip


def _numbers(data: bytes) -> dict[str, Any]:
    """Every tensor that can be read; anatomies are made on the way."""
    found: dict[str, Any] = {}
    for model in read_source(MemorySource(data, "file"), LIMITS).models:
        anatomy_of(model)
        for name, tensor in model.tensors.items():
            if tensor.readable and tensor.numel < 1 << 16:
                found[name] = tensor.values()
    return found


@given(files())
@EXAMPLES
def test_whole_files(saved: Saved) -> None:
    """What was saved is read, bit for bit."""
    found = _numbers(saved.data)
    for name, values in saved.numbers.items():
        assert found[name].tobytes() == np.array(values, np.float32).tobytes()


@given(st.data(), files())
@EXAMPLES
def test_damaged_files(data: Any, saved: Saved) -> None:
    """An error with a hint; or, where a checksum would show it, the very numbers."""
    broken = data.draw(damaged(saved.data))
    try:
        found = _numbers(broken)
    except NormcheckError as error:
        complete(error, "file")
        if not error.hint:
            raise AssertionError(f"no hint: {error}") from error
        return
    if saved.form in CHECKED:
        for name in saved.numbers.keys() & found.keys():
            expected = np.array(saved.numbers[name], np.float32)
            assert found[name].tobytes() == expected.tobytes(), name
