"""The same tensors under other hyperparameters: another function, and nothing in a state dict."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from normcheck import diff
from normcheck.findings import Finding, Severity

pytestmark = pytest.mark.filterwarnings("ignore")

Make = Callable[[], nn.Module]


def _net(norm: nn.Module, *, stride: int = 1, act: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride, padding=1), norm, act or nn.ReLU(), nn.Dropout(0.2)
    )


def _saved(make: Make, path: Path) -> Path:
    torch.save(make().eval(), path)
    return path


def _found(old: Path, new: Path) -> dict[str, Finding]:
    result = diff([old, new])
    assert not result.report.errors
    return {finding.discriminator: finding for finding in result.findings}


SOURCE = {
    "groups": (lambda: _net(nn.GroupNorm(8, 16)), lambda: _net(nn.GroupNorm(4, 16)),
               "num_groups 8 → 4", "1"),
    "eps": (lambda: _net(nn.BatchNorm2d(16)), lambda: _net(nn.BatchNorm2d(16, eps=1e-3)),
            "eps 1e-05 → 0.001", "1"),
    "eps of an instance norm": (lambda: _net(nn.InstanceNorm2d(16)),
                 lambda: _net(nn.InstanceNorm2d(16, eps=1e-4)), "eps 1e-05 → 0.0001", "1"),
    "stride": (lambda: _net(nn.BatchNorm2d(16)), lambda: _net(nn.BatchNorm2d(16), stride=2),
               "stride (1, 1) → (2, 2)", "0"),
    "activation": (lambda: _net(nn.BatchNorm2d(16)),
                   lambda: _net(nn.BatchNorm2d(16), act=nn.SiLU()), "activation ReLU → SiLU", "2"),
    "slope": (lambda: _net(nn.BatchNorm2d(16), act=nn.LeakyReLU(0.1)),
              lambda: _net(nn.BatchNorm2d(16), act=nn.LeakyReLU(0.2)),
              "activation leaky ReLU 0.1 → leaky ReLU 0.2", "2"),
    "form of a GELU": (lambda: _net(nn.BatchNorm2d(16), act=nn.GELU()),
                       lambda: _net(nn.BatchNorm2d(16), act=nn.GELU("tanh")),
                       "approximate none → tanh", "2"),
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCE)
def test_two_modules_of_the_same_tensors(name: str, tmp_path: Path) -> None:
    source, port, change, layer = SOURCE[name]
    old, new = _saved(source, tmp_path / "old.pt"), _saved(port, tmp_path / "new.pt")
    (found,) = _found(old, new).values()
    assert (found.rule, found.severity) == ("NC606", Severity.ERROR)
    assert change in found.title
    assert found.layers == (layer,)
    assert not _found(old, old)


@pytest.mark.parametrize("name", ["groups", "eps", "stride", "activation", "form of a GELU"])
def test_a_module_and_a_graph(name: str, tmp_path: Path) -> None:
    """The operators of an export hold them too."""
    source, port, change, layer = SOURCE[name]
    old = _saved(source, tmp_path / "old.pt")
    example = torch.randn(2, 3, 8, 8)
    for make, expected in ((port, {layer}), (source, set())):
        path = tmp_path / "export.pt2"
        torch.export.save(torch.export.export(make().eval(), (example,)), path)
        found = _found(old, path)
        assert {path for finding in found.values() for path in finding.layers} == expected
        if expected and name != "eps":
            assert any(change.partition(" ")[0] in f.detail for f in found.values())


def test_what_only_training_feels_is_info(tmp_path: Path) -> None:
    old = _saved(lambda: _net(nn.BatchNorm2d(16)), tmp_path / "old.pt")
    new = _saved(lambda: _net(nn.BatchNorm2d(16, momentum=0.01)), tmp_path / "new.pt")
    found = _found(old, new)
    assert found["training"].severity is Severity.INFO
    assert "momentum 0.1 → 0.01" in found["training"].title


def test_a_change_with_a_further_training_is_a_warning(tmp_path: Path) -> None:
    def trained() -> nn.Module:
        model = _net(nn.GroupNorm(4, 16))
        with torch.no_grad():
            model[0].weight += 0.01 * torch.randn_like(model[0].weight)
        return model

    old = _saved(lambda: _net(nn.GroupNorm(8, 16)), tmp_path / "old.pt")
    found = _found(old, _saved(trained, tmp_path / "new.pt"))
    assert found["eval"].severity is Severity.WARNING


def test_what_a_state_dict_does_not_hold_is_said(tmp_path: Path) -> None:
    model = _net(nn.BatchNorm2d(16))
    torch.save(model, tmp_path / "module.pt")
    torch.save(model.state_dict(), tmp_path / "state.pt")
    result = diff([tmp_path / "module.pt", tmp_path / "state.pt"])
    (note,) = result.comparisons[0].notes
    assert "eps" in note
    assert note.endswith("(state dict): not compared")
    assert not result.findings


def _hub(folder: Path, config: dict[str, object]) -> Path:
    folder.mkdir()
    torch.manual_seed(0)
    tensors = {
        f"model.layers.{i}.{name}": value
        for i in range(2)
        for name, value in (
            ("input_layernorm.weight", torch.rand(8) + 0.5),
            ("mlp.up_proj.weight", torch.randn(16, 8)),
        )
    }
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_the_configuration_beside_the_weights(tmp_path: Path) -> None:
    base: dict[str, object] = {"rms_norm_eps": 1e-5, "hidden_act": "silu", "vocab_size": 100}
    source = _hub(tmp_path / "source", base)
    port = _hub(tmp_path / "port", {**base, "rms_norm_eps": 1e-6, "hidden_act": "gelu"})
    grown = _hub(tmp_path / "grown", {**base, "vocab_size": 120})
    found = _found(source, port)["eval"]
    assert "rms_norm_eps 1e-05 → 1e-06" in found.detail
    assert "hidden_act silu → gelu" in found.detail
    assert not _found(source, grown)


def test_a_damaged_configuration_is_none(tmp_path: Path) -> None:
    base: dict[str, object] = {"rms_norm_eps": 1e-5}
    source, other = _hub(tmp_path / "source", base), _hub(tmp_path / "other", base)
    (other / "config.json").write_text("{")
    assert not _found(source, other)


class Layer(nn.Module):
    """What ``_hub`` stores of a layer."""

    def __init__(self, eps: float, act: nn.Module) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(8, eps=eps)
        self.mlp = nn.Module()
        self.mlp.up_proj = nn.Linear(8, 16, bias=False)
        self.mlp.act_fn = act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp.act_fn(self.mlp.up_proj(self.input_layernorm(x)))[..., :8]


class Stack(nn.Module):
    """Two of them, by the names of ``_hub``."""

    def __init__(self, eps: float, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.layers = nn.Sequential(Layer(eps, act()), Layer(eps, act()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model.layers(x)


@pytest.mark.parametrize("form", ["module", "program"])
@pytest.mark.parametrize("case", ["same", "eps", "activation"])
def test_the_configuration_beside_the_weights_of_another_form(
    case: str, form: str, tmp_path: Path
) -> None:
    """Against a whole module, and against a graph."""
    hub = _hub(tmp_path / "hub", {"rms_norm_eps": 1e-5, "hidden_act": "silu"})
    model = Stack(1e-3 if case == "eps" else 1e-5, nn.GELU if case == "activation" else nn.SiLU)
    model.load_state_dict(load_file(hub / "model.safetensors"))
    model.eval()
    other = tmp_path / ("model.pt" if form == "module" else "model.pt2")
    if form == "module":
        torch.save(model, other)
    else:
        torch.export.save(torch.export.export(model, (torch.rand(2, 8),)), other)
    result = diff([hub / "model.safetensors", other])
    assert not result.report.errors
    told = " ".join(f"{f.title} {f.detail}" for f in result.findings)
    if case == "same":
        assert not result.findings
    elif case == "eps":
        assert {f.rule for f in result.findings} == {"NC606" if form == "module" else "NC605"}
        assert "1e-05 → 0.001" in told
    else:
        assert "activation SiLU → GELU" in told
        assert {layer for f in result.findings for layer in f.layers} == {
            f"model.layers.{i}.mlp.act_fn" for i in range(2)
        }


class Listed(nn.Module):
    """Layers that have two names, and run by the second, as those of nnU-Net."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.act = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), act
        self.every = nn.Sequential(self.conv, self.norm, self.act)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.every(x)


@pytest.mark.parametrize("other", [nn.ReLU, nn.SiLU])
def test_a_layer_that_an_export_calls_by_another_of_its_names(
    other: Callable[[], nn.Module], tmp_path: Path
) -> None:
    old = _saved(lambda: Listed(nn.ReLU()), tmp_path / "old.pt")
    program = torch.export.export(Listed(other()).eval(), (torch.randn(2, 3, 8, 8),))
    torch.export.save(program, tmp_path / "new.pt2")
    found = _found(old, tmp_path / "new.pt2")
    paths = {path for finding in found.values() for path in finding.layers}
    assert paths == (set() if other is nn.ReLU else {"act"})
