"""Whole saved modules: tree, flags, attributes, buffers, ties, of classes nobody can import."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from normcheck.errors import RefusedError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.saved.checkpoint import Form, ModuleRecord, SavedModel
from normcheck.sources.limits import Limits
from tests.formats import by_hand as hand

both_formats = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
pytestmark = pytest.mark.filterwarnings("ignore:Couldn't retrieve source")


def records(model: SavedModel) -> dict[str, ModuleRecord]:
    """The modules by path; no path comes twice."""
    assert model.form is Form.MODULE
    assert model.modules is not None
    found = {record.path: record for record in model.modules}
    assert len(found) == len(model.modules)
    return found


IN_A_PROCESS = """
import json, sys
from pathlib import Path
from normcheck.formats.read_checkpoint import read_checkpoint
(model,) = read_checkpoint(Path(sys.argv[1])).models
assert "vanished_code" not in sys.modules and "torch" not in sys.modules
print(json.dumps([
    [r.path, r.class_path, r.training, dict(r.attributes)] for r in model.modules
]))
"""


@both_formats
def test_classes_that_cannot_be_imported(legacy, vanished, save, read_one, python) -> None:
    """Modules of vanished classes are read the same in this process and in a fresh one."""
    net = vanished("Net")()
    net.stem.eval()
    path = save(net, legacy=legacy)
    vanished.gone()
    found = records(read_one(path))
    assert "vanished_code" not in sys.modules
    assert list(found) == [
        "", "stem", "stem.conv", "stem.norm", "stem.act", "body",
        "body.0", "body.0.conv", "body.0.norm", "body.0.act", "body.1",
    ]  # fmt: skip
    assert (found[""].class_path, found[""].class_name) == ("vanished_code.Net", "Net")
    stem, norm = found["stem"], found["stem.norm"]
    assert (stem.class_name, stem.training, stem.has_children) == ("Block", False, True)
    assert (stem.attributes["title"], stem.attributes["sizes"]) == ("block", (1, 2))
    assert (norm.attributes["eps"], norm.attributes["momentum"]) == (1e-3, None)
    assert "settings" not in found[""].attributes
    outside = python(IN_A_PROCESS, path)
    assert outside.returncode == 0, outside.stderr
    inside = [
        [r.path, r.class_path, r.training, json.loads(json.dumps(dict(r.attributes)))]
        for r in found.values()
    ]
    assert json.loads(outside.stdout) == inside


@both_formats
def test_attributes_of_norms(legacy, read_one) -> None:
    """The configuration of a norm, as its constructor was given it."""
    layers = nn.Sequential(
        nn.BatchNorm2d(4, eps=1e-3, momentum=0.25),
        nn.BatchNorm1d(4, momentum=None, affine=False, track_running_stats=False),
        nn.InstanceNorm2d(3),
        nn.LayerNorm((4, 5), elementwise_affine=False),
        nn.GroupNorm(2, 6),
        nn.RMSNorm(8),
    )
    found = records(read_one(layers, legacy=legacy))
    assert {k: found["0"].attributes[k] for k in ("eps", "momentum", "affine", "num_features")} == {
        "eps": 1e-3, "momentum": 0.25, "affine": True, "num_features": 4,
    }  # fmt: skip
    assert (found["1"].attributes["momentum"], found["1"].attributes["affine"]) == (None, False)
    assert found["1"].attributes["track_running_stats"] is False
    assert found["2"].attributes["track_running_stats"] is False
    assert found["3"].attributes["normalized_shape"] == (4, 5)
    assert (found["4"].attributes["num_groups"], found["4"].attributes["num_channels"]) == (2, 6)
    assert found["5"].attributes["eps"] is None
    # Registered as None is not the same as not registered.
    assert found["1"].buffers == dict.fromkeys(
        ("running_mean", "running_var", "num_batches_tracked")
    )
    assert found["3"].parameters == {"weight": None, "bias": None}
    assert found["5"].buffers == {}


@both_formats
def test_training_flags(legacy, read_one) -> None:
    """Every module keeps its own mode."""
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)))
    model.eval()
    model[1][1].train()
    found = records(read_one(model, legacy=legacy))
    assert {path: record.training for path, record in found.items()} == {
        "": False, "0": False, "1": False, "1.0": False, "1.1": True,
    }  # fmt: skip


class Buffers(nn.Module):
    """Has buffers of all kinds, and tensors that are none."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.ones(2))
        self.register_buffer("left_out", torch.zeros(3), persistent=False)
        self.register_buffer("none", None)
        self.register_parameter("no_parameter", None)
        self.plain = torch.full((2,), 5.0)
        self.scale = nn.Parameter(torch.ones(1), requires_grad=False)


@both_formats
def test_buffers(legacy, read_one) -> None:
    """Buffers, persistent or not, parameters and plain tensors are told apart."""
    model = read_one(nn.Sequential(Buffers()), legacy=legacy)
    record = records(model)["0"]
    assert {name: t and t.shape for name, t in record.buffers.items()} == {
        "kept": (2,), "left_out": (3,), "none": None,
    }  # fmt: skip
    assert record.non_persistent == {"left_out"}
    assert record.plain_tensors["plain"].values().tolist() == [5, 5]
    assert list(record.parameters) == ["no_parameter", "scale"]
    assert record.parameters["scale"].requires_grad is False
    assert list(model.tensors) == list(nn.Sequential(Buffers()).state_dict())


@both_formats
def test_tied_modules(legacy, read_one) -> None:
    """A module in several places is one record, with its other paths; equal ones stay two."""
    norm = nn.BatchNorm1d(2)
    model = nn.ModuleDict({"a": norm, "b": nn.Sequential(norm, nn.BatchNorm1d(2)), "c": norm})
    found = records(read_one(model, legacy=legacy))
    assert list(found) == ["", "a", "b", "b.1"]
    assert found["a"].aliases == ("b.0", "c")
    assert found["b.1"].aliases == ()


class Hiding(nn.Module):
    """Keeps modules where ``eval()`` does not reach them."""

    def __init__(self) -> None:
        super().__init__()
        self.known = nn.BatchNorm1d(1)
        self.list = [nn.BatchNorm1d(2), nn.Sequential(nn.BatchNorm1d(3))]
        self.table = {"a": nn.BatchNorm1d(4), 7: self.known, "n": 1}
        self.pair = (nn.BatchNorm1d(5), 3)
        self.__dict__["single"] = nn.BatchNorm1d(6)


@both_formats
def test_hidden_modules(legacy, read_one) -> None:
    """Modules in plain lists, dictionaries and attributes are found, and flagged."""
    model = read_one(nn.Sequential(Hiding()), legacy=legacy)
    assert {path for path, record in records(model).items() if record.registered} == {
        "", "0", "0.known",
    }  # fmt: skip
    assert {path for path, record in records(model).items() if not record.registered} == {
        "0.list[0]", "0.list[1]", "0.list[1].0", "0.table['a']", "0.pair[0]", "0.single",
    }  # fmt: skip
    assert list(model.tensors) == list(nn.Sequential(Hiding()).state_dict())
    # That a registered module is also in a dictionary gives it no further path.
    assert records(model)["0.known"].aliases == ()


def in_a_wrapper(model: nn.Module) -> Any:
    wrapped = nn.DataParallel(model)
    wrapped.device_ids = []
    return wrapped


@pytest.mark.parametrize(
    ("wrap", "where", "prefix"),
    [
        (in_a_wrapper, "", "module"),
        (lambda model: {"epoch": 1, "model": model}, "model", ""),
        (lambda model: [0, model], "[1]", ""),
        (lambda model: (model, {"lr": 0.1}), "[0]", ""),
        (lambda model: {"nets": [in_a_wrapper(model)]}, "nets[0]", "module"),
    ],
    ids=["DataParallel", "dict", "list", "tuple", "all"],
)
def test_where_modules_sit(wrap, where, prefix, read_one) -> None:
    """A whole module is found inside wrappers and containers."""
    model = read_one(wrap(nn.Sequential(nn.BatchNorm1d(2))))
    assert model.where == where
    norm = records(model)[f"{prefix}.0".lstrip(".")]
    assert norm.class_name == "BatchNorm1d"


@both_formats
def test_graph_module(legacy, read_one) -> None:
    """A GraphModule of torch.fx is a module with the children that it was traced with."""
    traced = torch.fx.symbolic_trace(nn.Sequential(nn.Conv1d(1, 2, 1), nn.BatchNorm1d(2)))
    traced.eval()
    model = read_one(traced, legacy=legacy)
    found = records(model)
    assert found[""].class_path == "torch.fx.graph_module.GraphModule"
    assert found["1"].class_name == "BatchNorm1d"
    assert (found[""].training, found["1"].training) == (False, False)
    assert list(model.tensors) == list(traced.state_dict())


@both_formats
def test_lazy_modules(legacy, read_one) -> None:
    """A lazy layer that never ran is there, its parameters without values."""
    found = records(read_one(nn.Sequential(nn.LazyBatchNorm2d(), nn.Linear(1, 1)), legacy=legacy))
    norm = found["0"]
    assert norm.class_name == "LazyBatchNorm2d"
    assert not norm.parameters["weight"].readable
    assert not norm.buffers["running_mean"].readable
    assert found["1"].parameters["weight"].readable


def test_module_that_contains_itself(read_one) -> None:
    """A tree with a cycle ends."""
    model = nn.Sequential(nn.BatchNorm1d(2))
    model._modules["again"] = model
    found = records(read_one(model))
    assert list(found) == ["", "0"]
    assert found[""].aliases == ("again",)


def module(children: bytes = b"}", parameters: bytes = b"}", **more: bytes) -> bytes:
    """Instructions for a module of a class that does not exist."""
    state = {"training": hand.TRUE, "_parameters": parameters, "_modules": children, **more}
    return hand.build(hand.name("no", "Where") + b")\x81", hand.mapping(state))


@pytest.mark.parametrize(
    ("body", "limits"),
    [
        (module(hand.mapping({str(i): module() for i in range(9)})), Limits(modules=9)),
        (module(hand.mapping({"a": module(hand.mapping({"b": module()}))})), Limits(nesting=1)),
        (module(hand.mapping({"a" * 200: module()})), Limits(name_bytes=100)),
        (module(hand.mapping({"a" * 200: module()})), Limits(path_characters=100)),
        (module(listed=hand.listed(*[hand.NONE] * 50)), Limits(entries=40)),
    ],
    ids=["count", "depth", "path", "all paths", "entries"],
)
def test_limits(body: bytes, limits: Limits, tmp_path: Path) -> None:
    """A tree past one of the limits is refused, and read without it."""
    path = hand.torch_zip(tmp_path / "model.pt", hand.pickled(body))
    read_checkpoint(path).close()
    with pytest.raises(RefusedError):
        read_checkpoint(path, limits)


@pytest.mark.parametrize(
    "body",
    [
        module(training=hand.number(1)),
        module(_buffers=hand.NONE),
        module(_non_persistent_buffers_set=hand.text("x")),
        module(b"}(" + hand.number(1) + module() + hand.TRUE + module() + b"u"),
        module(hand.mapping({"a": hand.NONE, "b": hand.text("c"), "c": b"}"})),
        module(parameters=hand.mapping({"w": hand.text("no tensor"), "n": hand.NONE})),
        module(listed=hand.listed(hand.several(hand.NONE)), table=b"}(" + hand.TRUE + b"Nu"),
    ],
)
def test_odd_states(body: bytes, read_one, tmp_path: Path) -> None:
    """A module whose dictionary is not as torch writes it is read as far as it goes."""
    found = records(read_one(hand.torch_zip(tmp_path / "model.pt", hand.pickled(body))))
    assert found[""].class_path == "no.Where"
    assert len(found) == 1
