"""Norms of a few libraries: recognised in state dicts and modules, judged for what they are."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from normcheck.report.report import Standing
from tests.verdict import report_on

ACT_NORMS: dict[str, tuple[dict[str, Tensor], str]] = {
    "taming-transformers": (
        {"loc": torch.randn(1, 16, 1, 1), "scale": torch.rand(1, 16, 1, 1)},
        "initialized",
    ),
    "nflows": ({"log_scale": torch.randn(16), "shift": torch.randn(16)}, "initialized"),
    "normflows": (
        {"s": torch.randn(1, 16, 1, 1), "t": torch.randn(1, 16, 1, 1)},
        "data_dep_init_done",
    ),
}
every_library = pytest.mark.parametrize("library", ACT_NORMS)


def between_convolutions(leaves: dict[str, Tensor], path: Path) -> Path:
    state = {"0.weight": torch.randn(16, 3, 3, 3), "0.bias": torch.randn(16)}
    state |= {f"1.{name}": tensor for name, tensor in leaves.items()}
    torch.save(state | {"2.weight": torch.randn(8, 16, 3, 3)}, path)
    return path


@every_library
@pytest.mark.parametrize("is_set", [True, False])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float32])
def test_act_norm(library: str, *, is_set: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    """Set from a batch it has nothing that could go stale; not set, the next batch sets it."""
    leaves, flag = ACT_NORMS[library]
    whole = {**leaves, flag: torch.tensor(int(is_set), dtype=dtype)}
    report = report_on(between_convolutions(whole, tmp_path / "m.pt"))
    (layer,) = report.models[0].layers
    assert layer.kind == "ActNorm"
    assert (layer.standing is Standing.VOUCHED) is is_set
    assert [f.rule for f in report.findings] == ([] if is_set else ["NC209"])


@every_library
def test_without_its_flag(library: str, tmp_path: Path) -> None:
    """Two tensors of such names are those of any layer."""
    report = report_on(between_convolutions(ACT_NORMS[library][0], tmp_path / "m.pt"))
    assert not any(layer.kind == "ActNorm" for layer in report.models[0].layers)


class ActNorm(nn.Module):
    """As taming-transformers has it."""

    def __init__(self, *, is_set: bool) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.randn(1, 16, 1, 1))
        self.scale = nn.Parameter(torch.rand(1, 16, 1, 1))
        self.register_buffer("initialized", torch.tensor(int(is_set), dtype=torch.uint8))


@pytest.mark.parametrize("is_set", [True, False])
def test_act_norm_of_a_module(*, is_set: bool, tmp_path: Path) -> None:
    """The same by its class."""
    model = nn.Sequential(nn.Conv2d(3, 16, 3), ActNorm(is_set=is_set)).eval()
    torch.save(model, tmp_path / "m.pt")
    rules = [f.rule for f in report_on(tmp_path / "m.pt").findings]
    assert ("NC209" in rules) is not is_set


@pytest.mark.parametrize(
    ("leaves", "wasted"),
    [
        (("weight", "bias", "running_mean", "running_var"), True),
        (("weight", "bias", "tau"), False),  # FilterResponseNorm subtracts no mean
        (("weight", "bias", "mean_scale"), False),  # GraphNorm a learned share of it
    ],
)
def test_bias_before_them(leaves: tuple[str, ...], *, wasted: bool, tmp_path: Path) -> None:
    """Only where the mean is taken away the bias before goes with it."""
    tensors = {name: torch.rand(16) + 0.5 for name in leaves}
    report = report_on(between_convolutions(tensors, tmp_path / "m.pt"))
    assert len(report.models[0].layers) == 1
    assert ("NC504" in {f.rule for f in report.findings}) is wasted


def test_variance_alone(tmp_path: Path) -> None:
    """EvoNorm-B has no mean that could be missing."""
    leaves: dict[str, Any] = {name: torch.rand(16) + 0.5 for name in ("weight", "bias", "v")}
    leaves["running_var"] = torch.rand(16) + 0.5
    (layer,) = report_on(between_convolutions(leaves, tmp_path / "m.pt")).models[0].layers
    assert layer.kind == "EvoNorm-B"
    assert "variance alone" in layer.why


def stands(state: dict[str, Tensor], name: str, path: Path) -> tuple[str, Standing]:
    torch.save(state, path)
    layers = report_on(path).models[0].layers
    return next((n.kind, n.standing) for n in layers if n.path == name)


def test_gammas_alone(tmp_path: Path) -> None:
    """BatchNorm through time has γ and no β: without its buffers it is no RMSNorm."""
    state = {"conv.weight": torch.randn(16, 3, 3, 3)}
    state |= {f"bn_list.{step}.weight": torch.rand(16) + 0.5 for step in range(4)}
    assert stands(state, "bn_list.2", tmp_path / "m.pt")[1] is Standing.UNTOLD
    called_norm = {name.replace("bn_list", "norms"): t for name, t in state.items()}
    assert stands(called_norm, "norms.2", tmp_path / "m.pt")[1] is Standing.UNTOLD
    tokens = {"fc.weight": torch.randn(16, 16), "q_norm.weight": torch.rand(16) + 0.5}
    assert stands(tokens, "q_norm", tmp_path / "m.pt") == ("RMSNorm", Standing.VOUCHED)


@pytest.mark.parametrize("inner", ["", ".module"], ids=["norms.0", "norms.0.module"])
def test_norms_are_not_called_rms(inner: str, tmp_path: Path) -> None:
    """``norms`` ends in ``rms``, and says nothing of the kind."""
    path = f"norms.0{inner}"
    state = {"lins.0.weight": torch.randn(16, 4), "lins.0.bias": torch.randn(16)}
    state |= {f"{path}.weight": torch.rand(16) + 0.5, f"{path}.bias": torch.randn(16)}
    kind, _ = stands(state, path, tmp_path / "m.pt")
    assert "RMS" not in kind
    if inner:  # nothing calls it a norm: it may be a batch norm
        assert stands(state, path, tmp_path / "m.pt")[1] is Standing.UNTOLD
    rms = {name.replace("norms.0", "rms_norms.0"): t for name, t in state.items()}
    if not inner:
        assert stands(rms, "rms_norms.0", tmp_path / "m.pt") == ("RMSNorm", Standing.VOUCHED)


def test_between_a_matrix_and_a_convolution(tmp_path: Path) -> None:
    """A norm whose channels a convolution takes is that of an image, whatever made them."""
    state = {"final.weight": torch.randn(16, 16), "norm1.weight": torch.rand(16) + 0.5}
    state |= {"norm1.bias": torch.randn(16), "fc1.weight": torch.randn(64, 16, 1, 1)}
    expected = ("LayerNorm or GroupNorm or BatchNorm", Standing.UNTOLD)
    assert stands(state, "norm1", tmp_path / "m.pt") == expected
    state["fc1.weight"] = torch.randn(64, 16)
    assert stands(state, "norm1", tmp_path / "m.pt") == ("LayerNorm", Standing.VOUCHED)
    statistics = {"norm1.running_mean": torch.randn(16), "norm1.running_var": torch.rand(16) + 0.5}
    assert stands(state | statistics, "norm1", tmp_path / "m.pt")[0] == "BatchNorm1d"
    state["fc1.weight"] = torch.randn(64, 16, 1, 1)
    assert stands(state | statistics, "norm1", tmp_path / "m.pt")[0] == "BatchNorm2d"
