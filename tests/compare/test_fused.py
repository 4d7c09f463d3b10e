"""State dicts of which one has its batch norms in the weights: proven, not called other weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from normcheck import diff
from normcheck.compare.exports.export_match import Fate
from normcheck.report.diff_report import Diff
from normcheck.report.people.diff_text import render_diff_text
from normcheck.report.people.text_style import TextStyle


class Block(nn.Module):
    """A block of RepVGG before its branches are merged."""

    def __init__(self, width: int, groups: int = 1, *, identity: bool = True) -> None:
        super().__init__()
        self.dense = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=groups, bias=False), nn.BatchNorm2d(width)
        )
        self.small = nn.Sequential(
            nn.Conv2d(width, width, 1, groups=groups, bias=False), nn.BatchNorm2d(width)
        )
        self.same = nn.BatchNorm2d(width) if identity else None

    def forward(self, x: Tensor) -> Tensor:
        total = self.dense(x) + self.small(x)
        if self.same is not None:
            total = total + self.same(x)
        return torch.relu(total)

    def merged(self) -> nn.Conv2d:
        """The one convolution that computes the same."""
        parts = []
        for branch in (self.dense, self.small):
            fused = fuse_conv_bn_eval(branch[0], branch[1])
            pad = (3 - fused.weight.shape[-1]) // 2
            parts.append((nn.functional.pad(fused.weight, [pad] * 4), fused.bias))
        groups = self.dense[0].groups
        if self.same is not None:
            width = self.same.num_features
            copy = nn.Conv2d(width, width, 3, padding=1, groups=groups, bias=False)
            nn.init.dirac_(copy.weight, groups)
            fused = fuse_conv_bn_eval(copy.eval(), self.same)
            parts.append((fused.weight, fused.bias))
        made = nn.Conv2d(*self.dense[0].weight.shape[:1] * 2, 3, padding=1, groups=groups)
        made.weight = nn.Parameter(sum(w for w, _ in parts))
        made.bias = nn.Parameter(sum(b for _, b in parts))
        return made


def _settled(model: nn.Module, channels: int) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_()
        for _ in range(20):
            model.train()(torch.randn(8, channels, 6, 6) * 1.5 + 0.3)
    return model.eval()


def _plain() -> nn.Sequential:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1),
    )  # fmt: skip
    _settled(model, 3)
    return model


def _compared(old: dict[str, Tensor], new: dict[str, Tensor], folder: Path) -> Diff:
    torch.save(old, folder / "old.pt")
    torch.save(new, folder / "new.pt")
    result = diff([folder / "old.pt", folder / "new.pt"])
    assert not result.report.errors
    return result


def _fates(result: Diff) -> dict[str, Fate]:
    match = result.comparisons[0].match
    assert match is not None
    return {norm.path: norm.fate for norm in match.norms}


def _fused(model: nn.Sequential, *places: int) -> dict[str, Tensor]:
    state = dict(model.state_dict())
    for place in places:
        fused = fuse_conv_bn_eval(model[place], model[place + 1])
        state = {n: t for n, t in state.items() if not n.startswith(f"{place + 1}.")}
        state[f"{place}.weight"], state[f"{place}.bias"] = fused.weight.data, fused.bias.data
    return state


@pytest.mark.parametrize("turned", [False, True])
def test_all_norms_folded(turned: bool, tmp_path: Path) -> None:
    model = _plain()
    files = (model.state_dict(), _fused(model, 0, 3))
    result = _compared(*(files[::-1] if turned else files), tmp_path)
    assert _fates(result) == {"1": Fate.FOLDED, "4": Fate.FOLDED}
    assert not result.findings


def test_one_of_two_folded(tmp_path: Path) -> None:
    model = _plain()
    result = _compared(model.state_dict(), _fused(model, 0), tmp_path)
    assert _fates(result) == {"1": Fate.FOLDED, "4": Fate.KEPT}
    assert not result.findings


def test_one_folded_with_other_numbers(tmp_path: Path) -> None:
    model = _plain()
    state = _fused(model, 0, 3)
    state["3.weight"] = state["3.weight"] * 1.1
    result = _compared(model.state_dict(), state, tmp_path)
    assert _fates(result) == {"1": Fate.FOLDED, "4": Fate.FOLDED_OTHERWISE}
    assert [f.rule for f in result.findings] == ["NC605"]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("identity", [True, False])
def test_branches_merged_into_one(groups: int, identity: bool, tmp_path: Path) -> None:
    model = nn.Sequential(Block(8, groups, identity=identity), Block(8, groups, identity=identity))
    _settled(model, 8)
    new = {}
    for index, block in enumerate(model):
        assert torch.allclose(
            torch.relu(block.merged()(x := torch.randn(2, 8, 5, 5))), block(x), atol=1e-4
        )
        new |= {f"{index}.reparam.{n}": t for n, t in block.merged().state_dict().items()}
    result = _compared(model.state_dict(), new, tmp_path)
    assert set(_fates(result).values()) == {Fate.FOLDED}
    assert not result.findings


def test_what_is_not_proven_is_said_and_has_no_check_mark(tmp_path: Path) -> None:
    model = _plain()
    state = {n: t + 0.1 * torch.randn(t.shape) for n, t in _fused(model, 0, 3).items()}
    result = _compared(model.state_dict(), state, tmp_path)
    assert result.comparisons[0].match is None
    text = render_diff_text(result, TextStyle(width=80, color=False))
    assert "2 norms have no counterpart: not compared" in " ".join(text.split())
    assert "✓" not in text


def test_a_norm_under_two_names(tmp_path: Path) -> None:
    """As nnU-Net saves its blocks: each layer, and once more in a list of all of them."""
    model = _plain()
    aliases = {f"all_modules.{n}": t for n, t in model.state_dict().items()}
    both = {**model.state_dict(), **aliases}
    assert not _compared(both, both, tmp_path).findings
    result = _compared(both, _fused(model, 0, 3), tmp_path)
    assert Fate.FOLDED_OTHERWISE not in _fates(result).values()
    assert {fate for path, fate in _fates(result).items() if path in ("1", "4")} == {Fate.FOLDED}
