"""NC103: layers built with another momentum than 0.1, which a state dict does not hold."""

from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck.findings import Finding
from normcheck.runs.scan import scan
from tests.norms.settled import conv_net, settle

pytestmark = [pytest.mark.slow, pytest.mark.kernels]

BLOCKS = 8


def _scanned(
    file: Path, *, momentum: float, batches: int, count: int | None = None, seed: int = 0,
    blocks: int = BLOCKS, cold: int = 4,
) -> list[Finding]:  # fmt: skip
    """A network whose last layers saw so many batches at that momentum."""
    torch.manual_seed(seed)
    net = settle(conv_net(nn.ReLU(), blocks=blocks), 3, 12, 12, seed=seed)
    state = net.state_dict()
    left = (1 - momentum) ** batches
    for block in range(blocks):
        prefix = f"{3 * block + 1}."
        mean, variance = state[f"{prefix}running_mean"], state[f"{prefix}running_var"]
        # Some channels of real layers hardly vary.
        variance[:3] *= torch.tensor([1e-3, 3e-3, 1e-2])
        if block >= blocks - cold:
            mean.mul_(1 - left)
            variance.mul_(1 - left).add_(left)
        state[f"{prefix}num_batches_tracked"] = torch.tensor(count or batches)
    torch.save(state, file)
    return [f for f in scan([file]).findings if f.severity.rank]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("momentum", "batches"), [(0.01, 80), (0.03, 50), (0.001, 1000)])
def test_some_layers_on_a_floor(tmp_path: Path, momentum: float, batches: int, seed: int) -> None:
    """The momentum is named, and the layers; the pretrained rest is not."""
    (found,) = _scanned(tmp_path / "m.pt", momentum=momentum, batches=batches, seed=seed)
    assert (found.rule, found.discriminator) == ("NC103", "other momentum")
    assert f"momentum {momentum:g}" in found.title
    assert found.layers == tuple(str(3 * block + 1) for block in range(BLOCKS - 4, BLOCKS))


@pytest.mark.parametrize("seed", range(3))
def test_warm_layers(tmp_path: Path, seed: int) -> None:
    """Nothing is left of the initial values: no floor, whatever the count."""
    for count in (60, 150, 700):
        found = _scanned(tmp_path / "m.pt", momentum=0.1, batches=500, count=count, seed=seed)
        assert found == []


def test_variances_that_happen_to_be_alike(tmp_path: Path) -> None:
    """Means that follow the weights in full acquit them."""
    torch.manual_seed(0)
    state = settle(conv_net(nn.ReLU(), blocks=5), 3, 12, 12).state_dict()
    for name, value in state.items():
        if name.endswith("running_var"):
            value.clamp_(min=0.46)
        if name.endswith("num_batches_tracked"):
            value.fill_(80)  # 0.99^80 = 0.4475
    torch.save(state, tmp_path / "m.pt")
    assert not [f for f in scan([tmp_path / "m.pt"]).findings if f.rule == "NC103"]
