"""NC108 on averages that were given the statistics of the raw model in the same file."""

from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck.findings import Finding
from normcheck.runs.scan import scan
from tests.norms.settled import conv_net, settle

pytestmark = [pytest.mark.slow, pytest.mark.kernels]

State = dict[str, torch.Tensor]
SAMPLES = (3, 16, 16)


def _raw(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return settle(conv_net(nn.ReLU(), blocks=5), *SAMPLES, seed=seed)


def _moved(state: State, by: float, seed: int = 1) -> State:
    """Other weights, so far from these by their length; the statistics as they were."""
    torch.manual_seed(seed)
    moved = {}
    for name, value in state.items():
        moved[name] = value
        if name.endswith(("weight", "bias")):
            step = torch.randn_like(value)
            moved[name] = value + by * value.norm() / step.norm() * step
    return moved


def _loud(file: Path, models: dict[str, State]) -> list[Finding]:
    torch.save(models, file)
    return [f for f in scan([file]).findings if f.severity.rank]


@pytest.mark.parametrize("seed", range(4))
def test_an_average_with_the_raw_statistics(tmp_path: Path, seed: int) -> None:
    """The averaged copy is accused, not the raw one, and the fix is that of an average."""
    state = _raw(seed).state_dict()
    models = {"model": state, "model_ema": _moved(state, 0.25)}
    (found,) = _loud(tmp_path / "run.pt", models)
    assert (found.rule, found.where, found.discriminator) == ("NC108", "model_ema", "copied")
    assert "'model'" in found.title
    assert "update_bn" in found.fix
    assert len(found.layers) == 5


class TestHealthy:
    """Copies of which nothing is to be said."""

    @pytest.mark.parametrize("seed", range(4))
    def test_an_average_that_hardly_parted(self, tmp_path: Path, seed: int) -> None:
        """At the end of an annealed training the copied statistics fit both."""
        state = _raw(seed).state_dict()
        assert not _loud(tmp_path / "run.pt", {"model": state, "ema": _moved(state, 0.02)})

    @pytest.mark.parametrize("seed", range(4))
    def test_statistics_of_its_own(self, tmp_path: Path, seed: int) -> None:
        """Re-estimated, as ``update_bn`` does."""
        raw = _raw(seed)
        average = conv_net(nn.ReLU(), blocks=5)
        average.load_state_dict(_moved(raw.state_dict(), 0.25))
        with torch.no_grad():
            for module in average.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.reset_running_stats()
                    module.momentum = None
            for _ in range(12):
                average(torch.randn(16, *SAMPLES))
        own = average.state_dict()
        own |= {k: torch.tensor(1000) for k in own if k.endswith("num_batches_tracked")}
        assert not _loud(tmp_path / "run.pt", {"model": raw.state_dict(), "ema": own})

    def test_the_same_model_twice_and_another_one(self, tmp_path: Path) -> None:
        """``best`` and ``last`` that are one; two folds."""
        one, other = _raw(0).state_dict(), _raw(5).state_dict()
        twin = {name: value.clone() for name, value in one.items()}
        assert not _loud(tmp_path / "twice.pt", {"best": one, "last": twin})
        assert not _loud(tmp_path / "folds.pt", {"fold0": one, "fold1": other})
