"""Tensors whose values are not read are named with the reason, in files and in live modules."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.masked import masked_tensor
from torch.testing._internal.two_tensor import TwoTensor

import normcheck
from normcheck.saved.checkpoint import Form, SavedModel
from normcheck.saved.dtypes import FLOAT32
from normcheck.saved.tensors import tensor_without_data
from normcheck.saved.unread_tensors import unread_notes

NORM = {
    "bn.weight": torch.rand(4) + 0.5, "bn.bias": torch.randn(4),
    "bn.running_mean": torch.randn(4), "bn.running_var": torch.rand(4) + 0.5,
}  # fmt: skip


def _bits(name: str) -> torch.Tensor:
    return torch.empty(4, dtype=getattr(torch, name))


LEFT_OUT: dict[str, tuple[Any, Any, str]] = {
    "nested": ("x.weight", torch.nested.nested_tensor([torch.ones(3), torch.ones(4)]),
               "(x.weight): a nested tensor"),
    "jagged": ("x.weight", torch.nested.nested_tensor(
        [torch.ones(3), torch.ones(4)], layout=torch.jagged), "(x.weight): a nested tensor"),
    "key of bytes": (b"x.weight", torch.ones(3), "(b'x.weight'): its key is of type bytes"),
    "key of numbers": (3, torch.ones(3), "(3): its key is of type int"),
    "key of several": (("x", "w"), torch.ones(3), "its key is of type tuple"),
    "in a list": ("x.weight", [torch.ones(3)], "(x.weight): it lies in a list"),
    "float4": ("x.weight", torch.zeros(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
               "element type float4_e2m1fn_x2"),
    **{name: ("x.weight", _bits(name), f"element type {name}")
       for name in ("bits8", "bits16", "bits1x8", "bits2x4", "bits4x2")},
    "quantised": ("x.weight", torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8),
                  "a quantised tensor"),
    "sparse": ("x.weight", torch.eye(3).to_sparse(), "a sparse tensor"),
    "sparse rows": ("x.weight", torch.eye(3).to_sparse_csr(), "a sparse tensor"),
    "meta": ("x.weight", torch.empty(3, device="meta"), "a meta tensor"),
    "lazy": ("x.weight", nn.UninitializedParameter(), "a lazy layer"),
    "a subclass": ("x.weight", TwoTensor(torch.ones(3), torch.ones(3)), "TwoTensor"),
    "masked": ("x.weight", masked_tensor(torch.ones(3), torch.ones(3, dtype=torch.bool)),
               "MaskedTensor"),
}  # fmt: skip
READ: dict[str, torch.Tensor] = {
    "float32": torch.ones(3),
    "complex half": torch.ones(3, dtype=torch.complex64).to(torch.complex32),
    "float8": torch.ones(3).to(torch.float8_e5m2),
    "unsigned": torch.ones(3, dtype=torch.uint16),
    "a view": torch.ones(8)[2:6],
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_is_named(name: str, tmp_path: Path) -> None:
    """A note with the name and the reason; the norm beside it is judged as ever."""
    key, value, said = LEFT_OUT[name]
    path = tmp_path / "model.pt"
    torch.save(NORM | {key: value}, path)
    (model,) = normcheck.scan(path).models
    (note,) = [n for n in model.notes if n.startswith("not readable")]
    assert note.startswith("not readable, 1 tensor (")
    assert said in note
    assert [layer.path for layer in model.layers] == ["bn"]


@pytest.mark.parametrize("name", READ)
def test_what_is_read_is_not(name: str, tmp_path: Path) -> None:
    """Nothing is said of tensors that are read."""
    path = tmp_path / "model.pt"
    torch.save(NORM | {"x.weight": READ[name]}, path)
    assert normcheck.scan(path).models[0].notes == ()


def test_of_a_module(tmp_path: Path) -> None:
    """A parameter of a saved module that is no tensor known here is no silent gap."""
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    net[0]._parameters["bias"] = len  # type: ignore[assignment]
    torch.save(net, tmp_path / "model.pt")
    notes = " ".join(normcheck.scan(tmp_path / "model.pt").models[0].notes)
    assert "1 tensor (0.bias): " in notes
    assert "not read as a tensor" in notes


def test_every_function_that_rebuilds_tensors_is_known() -> None:
    """A new one of torch's would make tensors that are passed over in silence."""
    from normcheck.pickles.torch_objects import constructors

    known = {name for module, name in constructors() if module == "torch._utils"}
    theirs = {name for name in vars(torch._utils) if name.startswith("_rebuild_")}
    assert theirs <= known


def test_many_at_once() -> None:
    """A sentence a reason, names cut, the rest counted."""
    tensors = {
        f"{reason}.{i}": tensor_without_data(FLOAT32, (1,), f"reason {reason}")
        for reason in range(8)
        for i in range(10 - reason)
    }
    notes = list(unread_notes(SavedModel("", Form.STATE_DICT, tensors)))
    assert len(notes) == 6
    assert notes[0] == "not readable, 10 tensors (0.0, 0.1, 0.2, 0.3 and 6 more): reason 0"
    assert notes[-1] == "not readable for other reasons: 12 tensors"


def test_all_of_a_model() -> None:
    """Where nothing is there, that is what is said."""
    tensors = {n: tensor_without_data(FLOAT32, (1,), "a meta tensor") for n in ("a.weight", "b")}
    (note,) = unread_notes(SavedModel("", Form.STATE_DICT, tensors))
    assert note == "not readable, all 2 tensors (a.weight, b): a meta tensor"
