"""Each sample under the statistics of all the others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from normcheck.live.batches import Batch, Feed
from normcheck.live.watching.forward import Forward
from normcheck.live.watching.input_moments import Collected, pooled
from normcheck.live.watching.reachable_modules import reachable
from normcheck.live.watching.regimes import Regimes, Statistics

pytestmark = pytest.mark.kernels


def images(count: int = 24) -> Tensor:
    """Images of which every other is brighter."""
    made = torch.Generator().manual_seed(0)
    light = torch.arange(count).remainder(2).reshape(-1, 1, 1, 1)
    return torch.randn(count, 3, 6, 6, generator=made) + light


def feed_of(x: Tensor, size: int) -> Feed:
    """Real data in batches."""
    return Feed((Batch((x,)),), "", True, batch_size=size).rebatched(size)


def regimes_of(model: nn.Module) -> Regimes:
    """What runs a model."""
    return Regimes(Forward(model.eval(), torch.device("cpu")), reachable(model), set())


def of_all(regimes: Regimes, feed: Feed) -> Statistics:
    """Statistics of all samples under batch propagation."""
    collected = Collected()
    regimes.batch(feed, collected)
    return collected.statistics()


class Tokens(nn.Module):
    """Four tokens of each sample are rows of one norm."""

    def __init__(self) -> None:
        """One norm with a scale and an offset."""
        super().__init__()
        self.norm = nn.BatchNorm1d(9)
        nn.init.uniform_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 3, 6, 6)`` to ``(N, 12, 9)``."""
        return self.norm(x.reshape(-1, 9)).reshape(len(x), -1, 9)


@pytest.mark.parametrize("size", [24, 7])
@pytest.mark.parametrize(
    "model", [nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False, eps=1e-2), Tokens()]
)
def test_one_norm_is_exact(model: nn.Module, size: int) -> None:
    """It is as if each sample had been left out of the estimate, whatever the batches are."""
    x = images()
    regimes = regimes_of(model)
    found = regimes.left_out(feed_of(x, size), of_all(regimes, feed_of(x, len(x))))
    assert found is not None
    for sample, output in enumerate(torch.cat(found.mains)):
        others = torch.arange(len(x)) != sample
        statistics = of_all(regimes, feed_of(x[others], len(x)))
        expected = regimes.given(feed_of(x[sample : sample + 1], 1), statistics).mains[0][0]
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)


def test_an_outlier_does_not_make_itself_ordinary() -> None:
    """Statistics that hold a sample far off the others show it as if it were near them."""
    x = images()
    x[3] *= 50
    regimes = regimes_of(nn.BatchNorm2d(3))
    whole = of_all(regimes, feed_of(x, len(x)))
    left_out = regimes.left_out(feed_of(x, len(x)), whole)
    assert left_out is not None
    own = torch.cat(regimes.given(feed_of(x, len(x)), whole).mains)
    assert torch.cat(left_out.mains)[3].abs().mean() > 5 * own[3].abs().mean()


def test_samples_that_cannot_be_told_apart() -> None:
    """A norm that is given fewer rows than samples, or rows that belong to no one sample."""

    class Pairs(nn.Module):
        """Two samples make a row."""

        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(216)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x.reshape(-1, 216)).reshape(len(x), -1)

    regimes = regimes_of(Pairs())
    feed = feed_of(images(), 24)
    assert regimes.left_out(feed, of_all(regimes, feed)) is None


def test_two_halves_are_pooled() -> None:
    """Mean and variance of all values, from those of two parts of several sizes."""
    x = images()
    regimes = regimes_of(nn.BatchNorm2d(3))
    (place, whole), *_ = of_all(regimes, feed_of(x, len(x))).items()
    first, second = (of_all(regimes, feed_of(part, 24))[place] for part in (x[:10], x[10:]))
    for found, expected in zip(pooled(first, second, 10 / 24), whole, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("count", [8, 24])
def test_a_channel_that_one_sample_alone_uses_stays_within_bounds(count: int) -> None:
    """The others have no variance there: without a bound it would be divided by eps alone."""
    x = images(count)
    x[:, 1] = 0
    x[2, 1] = torch.randn(6, 6, generator=torch.Generator().manual_seed(1)) + 3
    regimes = regimes_of(nn.BatchNorm2d(3))
    whole = of_all(regimes, feed_of(x, count))
    left_out = regimes.left_out(feed_of(x, count), whole)
    assert left_out is not None
    own = torch.cat(regimes.given(feed_of(x, count), whole).mains)
    assert torch.cat(left_out.mains).abs().max() < 10 * own.abs().max()


def two_norms() -> nn.Module:
    """The second norm's input depends on the first one's statistics."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4)
    )


def test_one_batch_of_all_samples_tells_its_own_statistics() -> None:
    """Those of two halves do not fit each other: each was taken behind that half's first norm."""
    x = images()
    regimes, feed = regimes_of(two_norms()), feed_of(x, len(x))
    parts = [of_all(regimes, feed_of(half, 12)) for half in (x[::2], x[1::2])]
    halves = {place: pooled(parts[0][place], parts[1][place], 0.5) for place in parts[0]}
    by_halves, by_all = (regimes.left_out(feed, s) for s in (halves, of_all(regimes, feed)))
    assert by_halves is not None
    assert by_all is not None
    torch.testing.assert_close(by_halves.mains[0], by_all.mains[0])


def test_statistics_of_halves_are_refined_where_memory_allows_no_one_batch() -> None:
    """One pass more brings several batches to what one batch gives."""
    x = images()
    regimes, feed, some = regimes_of(two_norms()), feed_of(images(), 24), feed_of(images(), 7)
    exact = regimes.left_out(feed, of_all(regimes, feed))
    parts = [of_all(regimes, feed_of(half, 12)) for half in (x[::2], x[1::2])]
    halves = {place: pooled(parts[0][place], parts[1][place], 0.5) for place in parts[0]}
    assert exact is not None
    errors = []
    for statistics in (halves, regimes.refined(some, halves)):
        found = regimes.left_out(some, statistics)
        assert found is not None
        errors.append(float((torch.cat(found.mains) - exact.mains[0]).norm()))
    # What is left is that its second norm sees all samples under the same statistics of the first.
    assert errors[1] < 0.4 * errors[0]
