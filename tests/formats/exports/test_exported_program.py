"""Exported programs: what is read is what was saved, in every layout that torch has had."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from normcheck.errors import UnreadableError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.norms.find_norms import anatomy_of
from normcheck.saved.checkpoint import Checkpoint, Form, SavedModel
from normcheck.saved.graph import NORMS, Node, Op
from tests.formats.exports import pt2_by_hand as hand
from tests.formats.exports.models import Convolutional, Shared

pytestmark = pytest.mark.filterwarnings("ignore")
LAYOUTS = ("today", "2.8", "2.6")


def as_saved(program, path: Path, layout: str = "today") -> Path:
    if layout == "2.8":
        return hand.layout_of_2_8(program, path)
    if layout == "2.6":
        return hand.layout_of_2_6(program, path)
    torch.export.save(program, path)
    return path


def read(path: Path) -> Checkpoint:
    checkpoint = read_checkpoint(path)
    assert checkpoint.format == "pt2 archive"
    return checkpoint


def read_one(path: Path) -> SavedModel:
    (model,) = read(path).models
    assert model.form is Form.EXPORTED
    return model


def norms(model: SavedModel) -> list[Node]:
    return [node for node in model.graph.nodes if node.op in NORMS]


def assert_holds(model: SavedModel, expected: dict[str, Tensor]) -> None:
    for name, tensor in expected.items():
        ours = model.tensors[name]
        assert (ours.dtype.name, ours.shape) == (str(tensor.dtype)[6:], tuple(tensor.shape)), name
        if tensor.dtype == torch.bfloat16:
            assert ours.values().tolist() == tensor.detach().double().tolist(), name
        else:
            assert ours.values().tobytes() == tensor.detach().contiguous().numpy().tobytes(), name


class Odd(nn.Module):
    """Types, views, ties, a hidden buffer, constants, a buffer that a forward changes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.fc.weight
        self.norm = nn.BatchNorm1d(4, eps=1e-3, momentum=0.25)
        self.register_buffer("sixteen", torch.full((4,), 0.1, dtype=torch.float16))
        self.register_buffer("brain", torch.full((4,), 0.1).bfloat16())
        self.register_buffer("flags", torch.tensor([True, False, True, True]))
        self.register_buffer("turned", torch.arange(8.0).view(2, 4).t())
        self.register_buffer("hidden", torch.arange(4.0), persistent=False)
        self.register_buffer("calls", torch.tensor(3))
        self.constant = torch.tensor([1.5, 2.5, 3.5, 4.5])

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        y = self.norm(self.tied(self.fc(x))) + self.hidden + self.constant
        return (y + self.sixteen + self.brain + self.turned.sum()) * self.flags


@pytest.fixture(scope="module")
def odd():
    torch.manual_seed(0)
    model = Odd().eval()
    return model, hand.exported(model, torch.randn(3, 4))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tensors(layout: str, odd, tmp_path: Path) -> None:
    """Parameters, buffers of every type, constants: names, types, bits; ties and views too."""
    source, program = odd
    model = read_one(as_saved(program, tmp_path / "model.pt2", layout))
    assert_holds(model, dict(source.state_dict()))
    assert_holds(model, {"hidden": source.hidden})
    constants = [v for k, v in model.tensors.items() if v.shape == (4,) and "constant" in k]
    assert [ref.values().tolist() for ref in constants] == [[1.5, 2.5, 3.5, 4.5]]
    assert model.tensors["fc.weight"].storage is model.tensors["tied.weight"].storage
    assert model.tensors["fc.weight"].requires_grad
    assert not model.tensors["flags"].requires_grad


@pytest.mark.parametrize("layout", LAYOUTS)
def test_graph(layout: str, odd, tmp_path: Path) -> None:
    """The norm with its numbers, its mode, its module; the buffer that running it changes."""
    _, program = odd
    model = read_one(as_saved(program, tmp_path / "model.pt2", layout))
    (norm,) = norms(model)
    assert (norm.op, norm.module, norm.training) == (Op.BATCH_NORM, "norm", False)
    assert norm.class_path == "torch.nn.modules.batchnorm.BatchNorm1d"
    assert (norm.settings["eps"], norm.settings["momentum"]) == (1e-3, 0.25)
    assert model.graph.updated == {"calls"}
    (layer,) = anatomy_of(model).layers
    assert (layer.path, layer.eps, layer.features, layer.training) == ("norm", 1e-3, 4, False)


@pytest.mark.parametrize("strict", [True, False])
def test_both_tracers(strict: bool, tmp_path: Path) -> None:
    """Strict mode writes the way to a module otherwise; its path is the same."""
    net = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.BatchNorm1d(4), nn.ReLU()), Shared())
    net[2].fc, net[2].bn = nn.Linear(4, 4), nn.BatchNorm1d(4)
    program = hand.exported(net.train(), torch.randn(3, 4), strict=strict)
    model = read_one(as_saved(program, tmp_path / "model.pt2"))
    assert [node.module for node in norms(model)] == ["1.0", "2.bn", "2.bn"]
    assert all(node.training for node in norms(model))
    assert {"1.0.running_mean", "2.bn.running_var"} <= model.graph.updated
    assert [layer.path for layer in anatomy_of(model).layers] == ["1.0", "2.bn"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_free_lengths(layout: str, tmp_path: Path) -> None:
    """A batch of any size is a length that is not known."""
    batch = torch.export.Dim("batch", min=2, max=64)
    program = hand.exported(
        Convolutional().eval(), torch.randn(4, 3, 8, 8), dynamic_shapes=({0: batch},)
    )
    model = read_one(as_saved(program, tmp_path / "model.pt2", layout))
    assert model.graph.shapes["x"] == (None, 3, 8, 8)
    assert len(norms(model)) == 2


class Inner(nn.Module):
    """Graphs within the graph: without gradients, and of a condition."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(8)
        self.fc = nn.Linear(8, 8)
        self.last = nn.BatchNorm1d(8)

    def _normed(self, x: Tensor) -> Tensor:
        return self.bn(x)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.fc(self.bn(x))
        x = self.last(x)
        return torch.cond(x.sum() > 0, self._normed, lambda a: a * 2, (x,))


def test_inner_graphs(tmp_path: Path) -> None:
    """Their operators are there, over the outer graph's values, and links go through blocks."""
    program = hand.exported(Inner().eval(), torch.randn(3, 8))
    model = read_one(as_saved(program, tmp_path / "model.pt2"))
    assert [node.module for node in norms(model)][:2] == ["bn", "last"]
    assert len(norms(model)) == 3
    stored = {model.graph.stored[node.operands["running_mean"]] for node in norms(model)}
    assert stored == {"bn.running_mean", "last.running_mean"}
    layers = {layer.path for layer in anatomy_of(model).layers}
    assert layers == {"bn", "last"}


def test_several_models(tmp_path: Path) -> None:
    """One archive with several programs: each with its own weights."""
    from torch.export.pt2_archive._package import package_pt2

    nets = {name: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval() for name in "ab"}
    path = tmp_path / "models.pt2"
    programs = {name: hand.exported(net, torch.randn(3, 4)) for name, net in nets.items()}
    package_pt2(path, exported_programs=programs)
    models = {model.where: model for model in read(path).models}
    assert set(models) == {"a", "b"}
    for name, net in nets.items():
        assert_holds(models[name], dict(net.state_dict()))


def test_pickled_weights(odd, tmp_path: Path) -> None:
    """A weight that is no plain tensor is pickled: read by the machine that runs nothing."""
    _, program = odd
    parts = hand.members(as_saved(program, tmp_path / "model.pt2"))
    config = "data/weights/model_weights_config.json"
    entries = json.loads(parts[config])
    entry = entries["config"]["norm.running_mean"]
    entry["use_pickle"] = True
    parts[f"data/weights/{entry['path_name']}"] = hand.saved(torch.full((4,), 9.0))
    path = hand.write(tmp_path / "pickled.pt2", {**parts, config: json.dumps(entries)})
    model = read_one(path)
    assert model.tensors["norm.running_mean"].values().tolist() == [9.0] * 4


def test_compiled_only(tmp_path: Path, command) -> None:
    """An archive of compiled code holds no graph: it is said what it is, with exit code 2."""
    path = hand.write(
        tmp_path / "compiled.pt2",
        {
            "archive_format": "pt2", "archive_version": "0", "byteorder": "little",
            "data/aotinductor/model/cabc.wrapper.so": b"\x7fELF",
            "data/aotinductor/model/c.cpp": "",
        },
    )  # fmt: skip
    with pytest.raises(UnreadableError) as caught:
        read_checkpoint(path)
    assert caught.value.hint
    answer = command("scan", str(path))
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr
    assert "compiled" in answer.stderr.lower()
