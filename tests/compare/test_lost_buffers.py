"""Statistics that are in one of two files only: of batch norms, and of observations."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from normcheck import diff, scan
from normcheck.compare.exports.export_match import Fate
from normcheck.findings import Finding, Severity

pytestmark = pytest.mark.filterwarnings("ignore")


def _head(*, affine: bool = True) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(12, 16), nn.BatchNorm1d(16, affine=affine), nn.ReLU(), nn.Linear(16, 4)
    )
    for _ in range(50):
        model(torch.randn(32, 12) * 2 + 1)
    if affine:
        model[1].weight.data.uniform_(0.8, 1.2)
    return model


def _saved(tensors: Mapping[str, Tensor], path: Path) -> Path:
    torch.save({name: tensor.detach() for name, tensor in tensors.items()}, path)
    return path


def _found(old: Path, new: Path) -> dict[str, Finding]:
    result = diff([old, new])
    assert not result.report.errors
    return {f.discriminator: f for f in result.findings if f.rule == "NC607"}


@pytest.mark.parametrize("affine", [True, False])
def test_parameters_alone_have_lost_the_buffers(affine: bool, tmp_path: Path) -> None:
    model = _head(affine=affine)
    old = _saved(model.state_dict(), tmp_path / "old.pt")
    new = _saved(dict(model.named_parameters()), tmp_path / "new.pt")
    found = _found(old, new)["lost"]
    assert found.severity is Severity.WARNING
    assert found.layers == ("1",)
    assert found.title == "running statistics of 1 are gone"
    assert not _found(old, old)


def test_the_other_way_round_it_is_a_note(tmp_path: Path) -> None:
    model = _head()
    old = _saved(dict(model.named_parameters()), tmp_path / "old.pt")
    new = _saved(model.state_dict(), tmp_path / "new.pt")
    assert _found(old, new)["new"].severity is Severity.INFO


def test_a_layer_that_was_replaced_has_lost_nothing(tmp_path: Path) -> None:
    model = _head()
    torch.save(model, tmp_path / "old.pt")
    model[1] = nn.LayerNorm(16)
    torch.save(model, tmp_path / "new.pt")
    assert not _found(tmp_path / "old.pt", tmp_path / "new.pt")


SPELT = {
    "rsl_rl": {"_mean": (1, 6), "_var": (1, 6), "_std": (1, 6), "count": ()},
    "running": {"running_mean": (6,), "running_var": (6,), "count": ()},
    "brax": {"mean": (6,), "std": (6,), "count": (), "summed_variance": (6,)},
}


def _observed(spelling: str, *, fresh: bool = False) -> dict[str, Tensor]:
    torch.manual_seed(0)
    mean, deviation = torch.randn(6) * 3, torch.rand(6) * 4 + 0.5
    values = {"mean": mean, "var": deviation**2, "std": deviation, "summed": deviation**2}
    start = {"mean": torch.zeros(6), "var": torch.ones(6), "std": torch.ones(6),
             "summed": torch.zeros(6)}  # fmt: skip
    made = {}
    for name, shape in SPELT[spelling].items():
        part = next((p for p in ("summed", "mean", "var", "std") if p in name), "count")
        number = torch.tensor(0 if fresh else 76_800)
        made[name] = number if part == "count" else (start if fresh else values)[part].view(shape)
    return made


class Policy(nn.Module):
    """A policy with its normalizer, or without."""

    def __init__(self, actor: nn.Module, mean: Tensor | None, deviation: Tensor | None) -> None:
        super().__init__()
        self.actor = actor
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(self, x: Tensor) -> Tensor:
        if self.mean is not None:
            x = (x - self.mean) / (self.deviation + 1e-2)
        return self.actor(x)


def _checkpoint(spelling: str, path: Path, *, fresh: bool = False) -> nn.Module:
    torch.manual_seed(1)
    actor = nn.Sequential(nn.Linear(6, 16), nn.ELU(), nn.Linear(16, 2))
    normalizer = {f"obs_normalizer.{n}": t for n, t in _observed(spelling, fresh=fresh).items()}
    torch.save({f"actor.{n}": t for n, t in actor.state_dict().items()} | normalizer, path)
    return actor


@pytest.mark.parametrize("spelling", SPELT)
def test_an_observation_norm_is_listed(spelling: str, tmp_path: Path) -> None:
    _checkpoint(spelling, tmp_path / "model.pt")
    report = scan(tmp_path / "model.pt")
    (layer,) = report.models[0].layers
    assert (layer.path, layer.kind) == ("obs_normalizer", "observation norm")
    assert not [f for f in report.findings if f.severity is not Severity.INFO]


def test_one_that_saw_nothing_is_named(tmp_path: Path) -> None:
    _checkpoint("rsl_rl", tmp_path / "model.pt", fresh=True)
    assert [f.rule for f in scan(tmp_path / "model.pt").findings] == ["NC101"]


@pytest.mark.parametrize("spelling", SPELT)
def test_an_export_without_the_normalizer_is_an_error(spelling: str, tmp_path: Path) -> None:
    source = tmp_path / "model.pt"
    actor = _checkpoint(spelling, source)
    observed = _observed("brax")
    for parts, fate in (
        ((None, None), Fate.LEFT_OUT),
        ((observed["mean"], observed["std"]), Fate.KEPT),
    ):
        policy = Policy(actor, *parts).eval()
        torch.jit.save(torch.jit.trace(policy, torch.randn(3, 6)), tmp_path / "export.pt")
        result = diff([source, tmp_path / "export.pt"])
        assert result.comparisons[0].match is not None
        (norm,) = result.comparisons[0].match.norms
        assert norm.fate is fate
        assert [f.severity.value for f in result.findings] == (
            ["error"] if fate is Fate.LEFT_OUT else []
        )


def test_constants_of_a_preprocessing_are_no_observation_norm(tmp_path: Path) -> None:
    tensors = {
        "scale.mean": torch.rand(3),
        "scale.std": torch.rand(3),
        "fc.weight": torch.rand(4, 3),
    }
    report = scan(_saved(tensors, tmp_path / "model.pt"))
    assert not report.models or not report.models[0].layers
