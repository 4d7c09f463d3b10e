"""What is gained where only the norms that are off get re-estimated statistics."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from normcheck.live.batches import Batch, Feed
from normcheck.live.measurement import AgainstData
from normcheck.live.probes.against_data import against_data
from normcheck.live.probes.cost import cost_of, wide_feed
from normcheck.rules.channels_off import share_off
from sample_models.data import load
from sample_models.networks import DigitsNet
from tests.live.probes.networks.build import SAMPLES, norms
from tests.live.probes.test_passes import regimes_of, seen_in

pytestmark = pytest.mark.kernels

COUNT = 256


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """Held-out digits and their labels."""
    part = load()[1]
    rows = torch.linspace(0, len(part.labels) - 1, COUNT).long()
    return part.inputs["images"][rows], part.labels[rows]


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """A healthy network; tests change copies of it."""
    model = DigitsNet().eval()
    model.load_state_dict(torch.load(SAMPLES / "digits-healthy.pt", weights_only=True))
    return model


def held(model: nn.Module, x: Tensor, labels: Tensor | None, size: int = 32) -> AgainstData:
    """What holding it against data measured; not more is fed than was announced."""
    regimes = regimes_of(model)
    feed = Feed((Batch((x,), {}, labels),), "", True, batch_size=size).rebatched(size)
    seen = seen_in(regimes, feed)
    cost = cost_of(feed, wide_feed(feed, seen.norms), seen, one_mode=False)
    spent = regimes.forward.samples
    found = against_data(regimes, feed, frozenset(), seen)
    assert found is not None
    assert regimes.forward.samples - spent <= cost.samples + cost.search
    return found


def shifted(model: nn.Module, *which: int) -> nn.Module:
    """A copy in which the means of some norms are off by 1.5 standard deviations."""
    changed = copy.deepcopy(model)
    for number in which:
        norm = list(norms(changed))[number]
        norm.running_mean += 1.5 * norm.running_var.sqrt()
    return changed


def test_a_norm_that_is_off_is_exchanged_alone(
    trained: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    """What is left is the healthy network, but for the noise of one norm: its answers return."""
    x, labels = digits
    found = held(shifted(trained, -1), x, labels)
    assert [share_off(drift) > 0.5 for drift in found.drifts][-1]
    assert sum(share_off(drift) > 0 for drift in found.drifts) == 1
    assert found.exchanged is not None
    assert found.exchanged.healed > found.exchanged.harmed
    assert found.exchanged.expected_gain > 0.01
    with torch.no_grad():
        healthy, sick = ((m(x).argmax(1) == labels) for m in (trained, shifted(trained, -1)))
    gained = found.exchanged.healed - found.exchanged.harmed
    assert gained == pytest.approx(int(healthy.sum()) - int(sick.sum()), abs=3)


def test_a_healthy_network_has_no_norm_to_exchange(
    trained: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    """Nor is anything told of one without labels."""
    assert held(trained, *digits).exchanged is None
    assert held(shifted(trained, -1), digits[0], None).exchanged is None


def test_where_all_norms_are_off_the_exchange_is_the_whole(
    trained: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    """The same answers, without another forward."""
    every = range(len(list(norms(trained))))
    found = held(shifted(trained, *every), *digits)
    assert found.exchanged is not None
    assert (found.exchanged.healed, found.exchanged.harmed) == (found.healed, found.harmed)
    assert found.exchanged.calibrated_t == found.calibrated_t
    assert found.exchanged.expected_gain == found.expected_gain


def test_scores_that_are_drawn_anew_are_not_compared(
    trained: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    """Two draws of one network differ, and by luck one of them is right more often."""

    class Drawing(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(self.inner(x), 0.2, training=True)

    torch.manual_seed(0)
    assert held(Drawing(shifted(trained, -1)), *digits).exchanged is None
