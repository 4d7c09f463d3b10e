"""Numbers as bytes of an element type, and bytes at places of a file."""

import numpy as np
import pytest
import torch

from normcheck import NormcheckError
from normcheck.repair.editing.tensor_edits import Edits, encoded
from normcheck.repair.estimating.population import Population
from normcheck.saved.dtypes import BY_NAME


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16"])
def test_rounded_as_torch_rounds(name: str) -> None:
    """To the nearest, ties to even, denormals included."""
    torch.manual_seed(0)
    special = torch.tensor([0.0, -0.0, 1.00390625, 1.01171875, 1e-7, 6e4]).double()
    values = torch.cat([torch.randn(500).double().exp(), -torch.randn(500).double()])
    values = torch.cat([values, special])
    raw = encoded("x", values.numpy(), BY_NAME[name])
    wanted = (
        values.to(torch.float32).to(getattr(torch, name))
        if name == "bfloat16"
        else values.to(getattr(torch, name))
    )
    assert raw == wanted.view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize(
    ("name", "value"), [("float16", 65520.0), ("bfloat16", 3.4e38), ("float32", 1e39)]
)
def test_too_large(name: str, value: float) -> None:
    with pytest.raises(NormcheckError, match="does not fit"):
        encoded("x", np.array([1.0, value]), BY_NAME[name])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(value: float) -> None:
    with pytest.raises(NormcheckError, match="not all finite"):
        encoded("x", np.array([value]), BY_NAME["float32"])


def test_big_endian() -> None:
    assert encoded("x", np.array([1.0]), BY_NAME["float32"], big_endian=True) == b"\x3f\x80\0\0"


def test_runs_are_joined_and_never_overlap() -> None:
    edits = Edits()
    edits.put(4, b"cd")
    edits.put(0, b"ab")
    edits.put(2, b"xy")
    assert list(edits.runs()) == [(0, b"abxycd")]
    with pytest.raises(NormcheckError, match="share their bytes"):
        edits.put(4, b"ee")
    edits.put(5, b"d")
    with pytest.raises(NormcheckError, match="share their bytes"):
        list(edits.runs())


def test_populations_merge_in_any_order() -> None:
    """Parts of any size, far from zero, in float32: the moments of the whole in float64."""
    torch.manual_seed(0)
    x = (torch.randn(101, 3, 4, 5) * 1e-2 + torch.tensor([1e3, 0.0, -7.0])[:, None, None]).float()
    parts = [Population() for _ in range(4)]
    for number, part in enumerate(torch.split(x, 7)):
        parts[number % 4].add(part)
    merged = Population()
    for part in reversed(parts):
        merged.merge(part)
    whole = x.double()
    assert merged.count == 101 * 20
    assert torch.allclose(merged.mean, whole.mean((0, 2, 3)), rtol=1e-12, atol=1e-14)
    assert torch.allclose(merged.variance, whole.var((0, 2, 3), correction=0), rtol=1e-9)
