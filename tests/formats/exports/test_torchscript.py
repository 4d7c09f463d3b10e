"""TorchScript archives: what is read is what was saved, and what the code computes."""

import zipfile
from pathlib import Path
from typing import Dict, Optional, Tuple  # noqa: UP035  (TorchScript knows these)

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (torch's own convention)

from normcheck import scan
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.norms.find_norms import anatomy_of
from normcheck.saved.checkpoint import Form, ModuleRecord, SavedModel
from normcheck.saved.graph import NORMS, Node, Op
from tests.formats.exports.models import CASES, Convolutional, Residual, Shared

pytestmark = pytest.mark.filterwarnings("ignore")


def read_one(path: Path) -> SavedModel:
    (model,) = read_checkpoint(path).models
    assert model.form is Form.TORCHSCRIPT
    return model


def saved_script(model: nn.Module, folder: Path) -> SavedModel:
    torch.jit.save(torch.jit.script(model), folder / "model.pt")
    return read_one(folder / "model.pt")


def saved_trace(model: nn.Module, example: Tensor, folder: Path) -> SavedModel:
    torch.jit.save(torch.jit.trace(model, example, check_trace=False), folder / "model.pt")
    return read_one(folder / "model.pt")


def assert_holds(model: SavedModel, expected: dict[str, Tensor]) -> None:
    """Every tensor, with its type, shape and bits."""
    assert set(model.tensors) >= set(expected)
    for name, tensor in expected.items():
        ours = model.tensors[name]
        assert (ours.dtype.name, ours.shape) == (str(tensor.dtype)[6:], tuple(tensor.shape)), name
        assert ours.values().tobytes() == tensor.detach().contiguous().numpy().tobytes(), name


def norms(model: SavedModel) -> list[Node]:
    assert model.graph is not None
    return [node for node in model.graph.nodes if node.op in NORMS]


def record(model: SavedModel, path: str) -> ModuleRecord:
    return next(r for r in model.modules or () if r.path == path)


SOME = ("convolutional", "standardised weights", "recurrent", "attention")


@pytest.mark.parametrize("case", [c for c in CASES if c.name in SOME], ids=lambda case: case.name)
def test_tensors_are_the_state_dict(case, tmp_path: Path) -> None:
    """Traced and scripted alike: names, types and bits are those of the state dict."""
    model = case.model(training=False)
    state = model.state_dict()
    assert_holds(saved_script(model, tmp_path), state)
    assert_holds(saved_trace(model, case.example, tmp_path), state)


class Odd(nn.Module):
    """Tensors of several types, views, ties, a buffer that is not persistent, constants."""

    def __init__(self) -> None:
        super().__init__()
        base = torch.arange(24.0)
        self.weight = nn.Parameter(base[1:13].view(3, 4))
        self.frozen = nn.Parameter(base[12:24:2], requires_grad=False)
        self.tied = self.weight
        self.register_buffer("sixteen", torch.full((3,), 0.1, dtype=torch.float16))
        self.register_buffer("brain", torch.full((3,), 0.1).bfloat16())
        self.register_buffer("count", torch.tensor(7))
        self.register_buffer("flags", torch.tensor([True, False, True]))
        self.register_buffer("turned", torch.arange(6.0).view(2, 3).t())
        self.register_buffer("hidden", torch.arange(3.0), persistent=False)
        self.register_buffer("nothing", None)

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight) + self.hidden
        y = y + F.linear(x, self.tied) + self.sixteen.float() + self.brain.float()
        return y * self.flags + self.count + self.turned.sum() + self.frozen.sum()


def test_odd_tensors(tmp_path: Path) -> None:
    """Views of one storage, ties, half types, transposed and hidden buffers."""
    odd = Odd()
    model = saved_script(odd, tmp_path)
    for name, tensor in (*odd.named_parameters(), *odd.named_buffers()):
        ours = model.tensors[name]
        assert str(tensor.dtype) == f"torch.{ours.dtype.name}"
        theirs = tensor.detach().float().numpy()
        assert (ours.values().astype("f4") == theirs).all(), name
        assert ours.strides == tensor.stride(), name
    assert model.tensors["weight"].storage is model.tensors["tied"].storage
    assert model.tensors["weight"].storage is model.tensors["frozen"].storage
    top = record(model, "")
    assert set(top.parameters) == {"weight", "frozen", "tied"}
    assert top.buffers["nothing"] is None
    assert {"hidden", "sixteen", "flags", "turned"} <= set(top.buffers)


class Nested(nn.Module):
    """Numbers as names, a list, a dictionary, modules in modules, a module in two places."""

    def __init__(self) -> None:
        super().__init__()
        shared = nn.BatchNorm1d(4, eps=1e-3, momentum=0.25)
        self.first = nn.Sequential(nn.Linear(4, 4), shared, nn.Sequential(nn.ReLU(), shared))
        self.many = nn.ModuleList([nn.LayerNorm(4, eps=1e-6), nn.GroupNorm(2, 4)])
        self.named = nn.ModuleDict({"a": nn.LayerNorm(4, bias=False), "b": nn.Dropout(0.25)})

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for part in self.many:
            x = part(x)
        for part in self.named.values():
            x = part(x)
        return x


def test_module_tree(tmp_path: Path) -> None:
    """Paths, classes without what TorchScript adds, flags, eps, momentum, aliases."""
    nested = Nested()
    nested.named["b"].eval()
    model = saved_script(nested, tmp_path)
    # Scripting makes two objects of a module in two places; their tensors stay tied.
    theirs = dict(nested.named_modules(remove_duplicate=False))
    records = {r.path: r for r in model.modules or ()}
    assert set(records) == set(theirs)
    tied = (model.tensors[f"first.{path}.weight"].storage for path in ("1", "2.1"))
    assert len(set(map(id, tied))) == 1
    for path, module in theirs.items():
        ours = records[path]
        assert ours.class_name == type(module).__name__
        if path:
            assert ours.class_path == f"{type(module).__module__}.{type(module).__qualname__}"
        assert ours.training == module.training
        assert ours.has_children == bool(list(module.children()))
    layers = {layer.path: layer for layer in anatomy_of(model).layers}
    assert (layers["first.1"].eps, layers["first.1"].momentum) == (1e-3, 0.25)
    assert layers["many.0"].eps == pytest.approx(1e-6)
    assert layers["many.1"].kind.name == "GroupNorm"


def test_calls_are_followed_into_modules(tmp_path: Path) -> None:
    """Each operator of a nested model is under its module; a shared one appears twice."""
    model = saved_script(Nested().eval(), tmp_path)
    assert [(node.op, node.module) for node in norms(model)] == [
        (Op.BATCH_NORM, "first.1"), (Op.BATCH_NORM, "first.2.1"), (Op.LAYER_NORM, "many.0"),
        (Op.GROUP_NORM, "many.1"), (Op.LAYER_NORM, "named.a"),
    ]  # fmt: skip
    assert model.graph.exact
    traced = saved_trace(Shared().eval(), torch.randn(4, 12), tmp_path)
    assert [node.op for node in norms(traced)] == [Op.BATCH_NORM, Op.BATCH_NORM]
    assert {node.operands["running_mean"] for node in norms(traced)} == {"bn.running_mean"}


def normalised(x: Tensor, weight: Tensor, eps: float = 1e-4, twice: bool = False) -> Tensor:
    """A function of its own with defaults."""
    x = F.layer_norm(x, [4], weight, None, eps)
    if twice:
        x = F.layer_norm(x, [4], weight, None, eps)
    return x


class Controlled(nn.Module):
    """Branches on flags, on data, on options; early returns; dictionaries and tuples."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(4)
        self.other = nn.BatchNorm1d(4)
        self.weight = nn.Parameter(torch.ones(4))
        self.deep: bool = False

    def forward(
        self,
        x: Tensor,
        y: Optional[Tensor] = None,  # noqa: UP045
    ) -> Tuple[Tensor, Dict[str, Tensor]]:  # noqa: UP006
        if self.training:
            x = F.dropout(x, 0.5)
        x = normalised(x, self.weight)
        if y is not None:
            return y, {"a": self.bn(y)}
        if self.deep:
            x = self.bn(x)
        if x.sum() > 0:
            x = self.other(x)
        for _ in range(3):
            x = normalised(x, self.weight, twice=True)
        return x, {"x": x}


@pytest.mark.parametrize("training", [True, False])
def test_control_flow(training: bool, tmp_path: Path) -> None:
    """Known flags decide their branch; of what depends on data both sides are there."""
    model = saved_script(Controlled().train(training), tmp_path)
    dropped = [node for node in model.graph.nodes if node.op is Op.DROPOUT]
    assert [node.as_in_training for node in dropped] == [True] * training
    found = [(node.op, node.module) for node in norms(model)]
    assert (Op.BATCH_NORM, "bn") in found
    assert (Op.BATCH_NORM, "other") in found
    assert found.count((Op.LAYER_NORM, "")) >= 3
    assert all(node.training is training for node in norms(model) if node.op is Op.BATCH_NORM)
    assert not model.graph.exact
    assert model.graph.outputs


def test_eps_of_functions_comes_from_their_defaults(tmp_path: Path) -> None:
    """A default of a function is a constant in the code of the caller."""
    model = saved_script(Controlled().eval(), tmp_path)
    layers = [node for node in norms(model) if node.op is Op.LAYER_NORM]
    assert {node.settings["eps"] for node in layers} == {1e-4}
    assert {node.operands["weight"] for node in layers} == {"weight"}


def test_frozen(tmp_path: Path) -> None:
    """Freezing makes constants of the tensors; the operators name them, with their numbers."""
    net = Convolutional().eval()
    with torch.no_grad():
        net.bn1.running_mean.copy_(torch.arange(8.0))
    frozen = torch.jit.freeze(torch.jit.script(net), optimize_numerics=False)
    torch.jit.save(frozen, tmp_path / "model.pt")
    model = read_one(tmp_path / "model.pt")
    first, second = norms(model)
    assert (first.training, second.training) == (False, False)
    held = model.tensors[model.graph.stored[first.operands["running_mean"]]]
    assert held.values().tolist() == list(range(8))
    layers = anatomy_of(model).layers
    assert [layer.features for layer in layers] == [8, 16]


class WrittenOut(nn.Module):
    """RMS norm by hand; freezing makes a tensor of its eps."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 6)
        self.weight = nn.Parameter(torch.rand(6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 3e-6))


def test_a_written_out_norm_of_a_frozen_model(tmp_path: Path) -> None:
    traced = torch.jit.trace(WrittenOut().eval(), torch.rand(2, 8))
    torch.jit.save(torch.jit.freeze(traced), tmp_path / "model.pt")
    model = read_one(tmp_path / "model.pt")
    assert model.graph is not None
    (layer,) = anatomy_of(model).layers
    assert (layer.kind.name, layer.eps, layer.features) == ("RMSNorm", 3e-6, 6)


def test_optimised_for_inference_folds(tmp_path: Path) -> None:
    """What freezing folds is no norm any more, and no reader invents one."""
    frozen = torch.jit.freeze(torch.jit.script(Convolutional().eval()))
    torch.jit.save(frozen, tmp_path / "model.pt")
    assert norms(read_one(tmp_path / "model.pt")) == []


def test_lite_interpreter(tmp_path: Path) -> None:
    """Mobile archives have byte code beside the code; modules and tensors are read."""
    net = Residual(8).eval()
    path = tmp_path / "model.ptl"
    torch.jit.script(net)._save_for_lite_interpreter(str(path))
    model = read_one(path)
    assert_holds(model, net.state_dict())
    assert {layer.path for layer in anatomy_of(model).layers} == {
        "stem.1", "bn1", "bn2", "bn3", "bn4", "down.1",
    }  # fmt: skip


def test_two_readings_are_the_same(tmp_path: Path, command) -> None:
    """Nodes are numbered by the code, not by the order of a set."""
    torch.jit.save(torch.jit.script(Controlled()), tmp_path / "model.pt")
    outputs = {
        command(
            "scan", "-e", "-f", "json", str(tmp_path / "model.pt"), PYTHONHASHSEED=str(seed)
        ).stdout
        for seed in (1, 2)
    }
    assert len(outputs) == 1


@pytest.mark.parametrize("training", [True, False])
def test_without_code_the_flags_are_what_is_left(training: bool, tmp_path: Path) -> None:
    """As some exporters for phones write it: bytecode that only an interpreter can follow."""
    whole, bare = tmp_path / "whole.ptl", tmp_path / "bare.ptl"
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    with torch.no_grad():  # as training leaves it
        for _ in range(60):
            model(torch.randn(8, 3, 5, 5))
        model[1].weight.uniform_(0.5, 1.5)
        model[1].bias.normal_()
    torch.jit.script(model.train(training))._save_for_lite_interpreter(str(whole))
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(bare, "w") as target:
        for name in source.namelist():
            if "/code/" not in name:
                target.writestr(name, source.read(name))
    report = scan(bare)
    assert not report.errors
    assert [layer.path for layer in report.models[0].layers] == ["1"]
    loud = [f.rule for f in report.findings if f.severity.value != "info"]
    assert loud == (["NC201"] if training else [])
