"""What statistics on fields are of: norms that stay, first norms that are foreign themselves."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import normcheck
from normcheck.repair.repair_result import Emergency
from sample_models.networks import DigitsNet
from tests.conftest import SAMPLES
from tests.repair.files import HEALTHY, LOST

pytestmark = [pytest.mark.slow, pytest.mark.kernels]
LAYERS = ["block.first.norm", "block.second.norm", "depthwise.norm", "pointwise.norm", "last.norm"]


def state_of(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, weights_only=True)
    return state


def repaired(
    state: dict[str, Tensor], folder: Path, force: bool = False
) -> tuple[dict[str, Tensor], Emergency]:
    """The repaired state dict, and what it rests on."""
    torch.save(state, folder / "broken.pt")
    result = normcheck.fix(
        folder / "broken.pt", folder / "fixed.pt", model=DigitsNet, without_data=True,
        input_shape="1x8x8", force=force,
    )  # fmt: skip
    found = result.models[0].estimated
    assert found is not None
    assert found.emergency is not None
    return state_of(folder / "fixed.pt"), found.emergency


def off(state: dict[str, Tensor], layer: str) -> tuple[float, float]:
    """How far a layer is from its healthy statistics: means in deviations, variances in logs."""
    healthy = state_of(HEALTHY)
    mean, variance = (healthy[f"{layer}.running_{kind}"] for kind in ("mean", "var"))
    shift = (state[f"{layer}.running_mean"] - mean) / variance.sqrt()
    scale = (state[f"{layer}.running_var"] / variance).log()
    return float(shift.square().mean().sqrt()), float(scale.square().mean().sqrt())


@pytest.mark.parametrize("layer", LAYERS)
def test_one_lost_layer(layer: str, tmp_path: Path) -> None:
    """What reaches it has mean β and deviation γ, as the norms before it had it in training."""
    healthy, lost = state_of(HEALTHY), state_of(LOST)
    state = {n: lost[n] if n.startswith(f"{layer}.") else t for n, t in healthy.items()}
    new, _ = repaired(state, tmp_path)
    shift, scale = off(new, layer)
    # With the stored statistics of the norms before it 0.4, in the last one.
    assert shift < 0.1
    assert scale < 0.4
    assert all(torch.equal(new[n], t) for n, t in state.items() if not n.startswith(f"{layer}."))


def test_a_first_norm_that_is_foreign_too_tells_nothing(tmp_path: Path) -> None:
    """It has to show that it is not; what fits a field by accident would make images up."""
    foreign, healthy = state_of(SAMPLES / "foreign-statistics.pt"), state_of(HEALTHY)
    new, rests_on = repaired(foreign, tmp_path)
    assert not rests_on.fitted_to
    assert not torch.equal(new["stem.norm.running_var"], foreign["stem.norm.running_var"])
    (tmp_path / "fixed.pt").unlink()
    state = {n: healthy[n] if n.startswith("stem.") else t for n, t in foreign.items()}
    new, rests_on = repaired(state, tmp_path)
    assert rests_on.fitted_to == "stem.norm"
    assert torch.equal(new["stem.norm.running_var"], healthy["stem.norm.running_var"])
