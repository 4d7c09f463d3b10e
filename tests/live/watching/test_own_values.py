"""Tensors of every class are read through their own methods, or named; none ends the process."""

import json
import subprocess
import sys
from typing import Any

import pytest
import torch

from normcheck.live.watching.absent_values import why_absent
from normcheck.live.watching.own_values import own_memory, reading_of
from tests.conftest import ROOT

from .tensor_zoo import KINDS, VALUES

NAMED = {
    "meta": "a meta tensor",
    "freed": "given back",
    "nested": "a nested tensor",
    "jagged": "a nested tensor",
    "bits": "element type bits8",
    "float4": "element type float4",
    "lazy": "never ran",
    "batched": "torch.func",
    "differentiated": "torch.func",
    "functional": "a trace",
    "functionalised": "a trace",
    "fake": "a trace",
    "refuses": "Refuses",
    "silent": "copies no values",
    "wraps nothing": "Wraps",
    "shard": "holds a part, 4x4 of 8x4",
    "sum": "summed over processes",
}
"""Kinds that cannot be read, or not whole, with what is said of them."""


def looked_at(*names: str) -> list[dict[str, Any]]:
    """What a process of its own says of the tensors of these names."""
    command = [sys.executable, "-m", "tests.live.watching.tensor_zoo", *names]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    last = lines[-1] if lines else {}
    assert not done.returncode, f"died of {last.get('name')} {last.get('way')}: {done.stderr}"
    return [line for line in lines if "named" in line]


@pytest.fixture(scope="module")
def of_kinds() -> dict[str, dict[str, Any]]:
    """All kinds, in one process: importing torch takes longer than reading them."""
    return {line["name"]: line for line in looked_at(*KINDS)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_or_named(kind: str, of_kinds: dict[str, dict[str, Any]]) -> None:
    """Read equal to its own dense values, or named with the reason; never both, never neither."""
    found = of_kinds[kind]
    if kind in NAMED:
        assert NAMED[kind] in found["named"]
        assert not found["read"]
    else:
        assert found["read"]
        assert not found["named"]
        assert found.get("equal", True)


def test_values_of_wrappers_are_those_inside(of_kinds: dict[str, dict[str, Any]]) -> None:
    """A wrapper that computes gives its values; a part of a distributed tensor is its local one."""
    for kind in ("wraps", "whole", "shard", "quantised", "sparse", "sparse rows", "mkldnn"):
        assert of_kinds[kind]["values"] == str(VALUES.flatten().tolist()[:4]), kind
    assert of_kinds["shard"]["part"]


def test_every_subclass_that_is_installed() -> None:
    """All that torch and the packages beside it define, whole and half made: named or read."""
    found = looked_at()
    assert {line["name"] for line in found} >= {
        "torch.distributed.tensor.DTensor", "torch._subclasses.fake_tensor.FakeTensor",
        "torch.masked.maskedtensor.core.MaskedTensor", "torch.nn.parameter.Parameter",
        "torch.testing._internal.two_tensor.TwoTensor",
    }  # fmt: skip
    wrong = [line for line in found if line["read"] is bool(line["named"])]
    assert wrong == []
    assert [line for line in found if line.get("equal") is False] == []
    assert sum(line["read"] for line in found) >= 10


def test_a_storage_of_its_own() -> None:
    """Views share one, a tensor whose memory was given back has one only for who asks for it."""
    tensor = torch.arange(6.0)
    memory = own_memory(tensor)
    assert memory is not None
    assert own_memory(tensor[2:]).data_ptr() == memory.data_ptr()  # type: ignore[union-attr]
    tensor.untyped_storage().resize_(8)
    assert own_memory(tensor) is None
    assert own_memory(tensor, freed=True) is not None


def test_only_what_computes_nothing_is_absent() -> None:
    """A quantised or nested tensor runs in a forward; a meta tensor does not."""
    for kind in ("plain", "quantised", "sparse", "mkldnn", "nested", "wraps", "zero"):
        assert why_absent(KINDS[kind]()) == "", kind
    for kind in ("meta", "freed", "fake", "batched", "functional"):
        assert why_absent(KINDS[kind]()), kind


def test_too_large_to_be_written_out() -> None:
    """A sparse table of billions of rows is named; its dense form would take all memory."""
    index = torch.tensor([[0], [0]])
    table = torch.sparse_coo_tensor(index, torch.ones(1), (1 << 20, 1 << 20))
    assert "bytes when it is written out" in reading_of(table).reason


def test_torchao() -> None:
    """Weights quantised by torchao are read as what they stand for."""
    pytest.importorskip("torchao")
    from torch import nn
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    model = nn.Sequential(nn.Linear(64, 32))
    quantize_(model, Int8WeightOnlyConfig())
    weight = model[0].weight
    reading = reading_of(weight)
    assert reading.take is not None
    assert torch.equal(reading.take(), weight.dequantize())
