"""Forwards under other statistics: what is estimated, who is to blame, and nothing is written."""

import pytest
import torch
from torch import Tensor, nn

from normcheck.live.batches import Batch, Feed, split
from normcheck.live.probes.layer_ranking import closings
from normcheck.live.watching.forward import Forward
from normcheck.live.watching.input_moments import Collected
from normcheck.live.watching.reachable_modules import reachable
from normcheck.live.watching.regimes import Regimes
from normcheck.live.watching.seen import CallSite
from tests.live.watching.test_untouched import snapshot

pytestmark = pytest.mark.kernels

# Threads cost more than they bring on models of this size, and fight for the cores.
torch.set_num_threads(1)
CPU = torch.device("cpu")


class Deep(nn.Module):
    """Many small norms behind one another."""

    def __init__(self, depth: int, width: int = 6) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for norm in self.norms:
            x = x + 0.3 * torch.tanh(norm(x.flip(1)))
        return x


def images() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3, bias=False),
        nn.BatchNorm2d(5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(5),
    )  # fmt: skip


def feed_of(rows: Tensor, size: int = 8) -> Feed:
    return Feed(tuple(split(Batch((rows,)), size)), "", True, batch_size=size)


def regimes(model: nn.Module) -> Regimes:
    return Regimes(Forward(model.eval(), CPU), reachable(model), set())


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 1.7 + 0.4


def two_pass(model: nn.Module, x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Statistics of all the data, each norm's behind norms that use theirs: by train mode."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):

            def note(_module: nn.Module, given: tuple[Tensor], at: str = name) -> None:
                values = given[0].double().transpose(0, 1).flatten(1)
                found[at] = values.mean(1), values.var(1, correction=0)

            module.register_forward_pre_hook(note)
    with torch.no_grad():
        model.train()(x)
    return found


@pytest.mark.parametrize("size", [3, 8, 24, 100])
def test_estimated_statistics(size: int) -> None:
    """They are those of an exact pass over all the data at once, for any size of batches."""
    x = rows(24, 3, 9, 9)
    torch.manual_seed(0)
    model = images()
    estimate = regimes(model).estimated(feed_of(x, size))
    found, residual = estimate.statistics, estimate.residual
    exact = two_pass(model, x)
    assert [place.path for place in found] == list(exact)
    for place, (mean, variance) in found.items():
        assert torch.allclose(mean, exact[place.path][0], atol=1e-4)
        assert torch.allclose(variance, exact[place.path][1], rtol=1e-3)
    assert residual < 1e-3


def test_few_rounds_leave_a_residual() -> None:
    """The residual tells how far the estimate still moves; without rounds nothing is known."""
    torch.manual_seed(0)
    run = regimes(Deep(6))
    feed = feed_of(rows(32, 6), 4)
    assert run.estimated(feed, 0, in_order=0).residual == float("inf")
    once, often = (run.estimated(feed, count, in_order=0) for count in (1, 6))
    assert once.residual > often.residual


class Steep(nn.Module):
    """Norms whose inputs grow a hundredfold where the norm before them is off."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm1d(4) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for norm in self.norms:
            x = norm(x + x.abs() * x)
        return x


def test_an_estimate_that_runs_away_settles() -> None:
    """First estimates from batches of two are far off, and each pass mends one more layer.

    One batch of all mends them at once.
    """
    run, feed = regimes(Steep(8)), feed_of(rows(32, 4), 2)
    assert run.estimated(feed, 2, in_order=0).residual > 0.1
    settled, at_once = run.estimated(feed), run.estimated(feed_of(rows(32, 4), 32))
    assert settled.residual < 0.01
    assert at_once.residual < 0.01
    assert at_once.rounds == 2
    for place, (mean, variance) in at_once.statistics.items():
        assert torch.allclose(settled.statistics[place][0], mean, atol=0.05)
        assert torch.allclose(settled.statistics[place][1], variance, rtol=0.05)


def test_an_estimate_that_never_comes_back_is_taken_layer_by_layer() -> None:
    """Inputs behind a first estimate grow beyond all numbers in deep models: then in order."""
    run, feed = regimes(Steep(30)), feed_of(rows(32, 4), 2)
    assert run.estimated(feed, in_order=0).residual == float("inf")
    found = run.estimated(feed)
    assert found.residual < 0.01
    assert found.rounds == 21 + 31
    assert all(bool(t.isfinite().all()) for pair in found.statistics.values() for t in pair)
    # A model deeper than that is said not to settle, and no figure of it is used.
    assert run.estimated(feed, in_order=5).residual > 0.1


@pytest.mark.parametrize("size", [1, 2, 5, 8, 16])
@pytest.mark.parametrize("count", [16, 17])
def test_one_forward_stands_for_many(size: int, count: int) -> None:
    """Batch statistics of groups within a forward are those of forwards of each group."""
    torch.manual_seed(0)
    model = nn.Sequential(*images()[:6])  # type: ignore[index]
    run, x = regimes(model), rows(count, 3, 9, 9)
    wide, apart = Collected(), Collected()
    together = run.batch(feed_of(x, count), wide, size=size).mains
    each = run.batch(feed_of(x, size), apart).mains
    assert len(together) == 1 < len(each) or size == 16
    assert torch.allclose(torch.cat(together), torch.cat(each), atol=1e-5)
    for place, moments in wide.moments.items():
        mean, variance = apart.moments[place].pooled()
        assert torch.allclose(moments.pooled()[0], mean, atol=1e-5)
        assert torch.allclose(moments.pooled()[1], variance, rtol=1e-4)


def test_nothing_of_the_model_is_written() -> None:
    """Bytes of buffers, their versions, counts and modes stay, under every regime."""
    torch.manual_seed(0)
    model = images().eval()
    before, held = snapshot(model)
    versions = [tensor._version for tensor in (*model.parameters(), *model.buffers())]
    run = regimes(model)
    feed = feed_of(rows(12, 3, 9, 9))
    estimated = run.estimated(feed, 2).statistics
    run.stored(feed, Collected())
    run.batch(feed)
    run.given(feed, estimated)
    closings(run, feed, estimated, list(estimated))
    assert snapshot(model)[0] == before
    assert [t._version for t in (*model.parameters(), *model.buffers())] == versions
    assert held


def test_outputs_of_the_regimes() -> None:
    """Stored is eval mode, batch is train mode's arithmetic, given is eval mode with others."""
    torch.manual_seed(0)
    model, x = images(), rows(16, 3, 9, 9)
    run, feed = regimes(model), feed_of(x, 16)
    with torch.no_grad():
        assert torch.equal(run.stored(feed).mains[0], model(x))
        batch = run.batch(feed).mains[0]
        estimated = run.estimated(feed, 3).statistics
        given = run.given(feed, estimated).mains[0]
        assert torch.allclose(batch, given, atol=1e-3)
        model.eval()
        for place, (mean, variance) in estimated.items():
            norm = model.get_submodule(place.path)
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
        assert torch.allclose(model(x), given, atol=1e-5)
        assert torch.allclose(model.train()(x), batch, atol=1e-5)


def test_collected() -> None:
    """Stored statistics, eps and the moments of each norm's input, in the order of running."""
    torch.manual_seed(0)
    model, x = images(), rows(10, 3, 9, 9)
    model[1].running_mean.fill_(0.25)
    model[1].eps = 1e-2
    collected = Collected()
    regimes(model).stored(feed_of(x, 4), collected)
    assert [place.path for place in collected.moments] == ["1", "4", "8"]
    first = next(iter(collected.moments))
    assert first == CallSite("1", 0)
    assert collected.eps[first] == pytest.approx(1e-2)
    assert torch.equal(collected.stored[first][0], torch.full((6,), 0.25).double())
    with torch.no_grad():
        values = model[0](x).double()
    mean, variance = collected.moments[first].pooled()
    assert torch.allclose(mean, values.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(variance, values.var((0, 2, 3), correction=0), rtol=1e-5)
    assert torch.cat(collected.samples).shape == (10, 12)


def test_batches_of_one() -> None:
    """Loaders of single images are run: their own statistics exist, and the pool is exact."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    x = rows(6, 3, 9, 9)
    single = Feed(tuple(Batch((row[None],)) for row in x), "", True, batch_size=1)
    estimate = regimes(model).estimated(single, 1)
    found, residual = estimate.statistics, estimate.residual
    (mean, variance) = next(iter(found.values()))
    with torch.no_grad():
        values = model[0](x).double()
    assert torch.allclose(mean, values.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(variance, values.var((0, 2, 3), correction=0), rtol=1e-5)
    assert residual < 1e-6


def test_norms_without_statistics_are_left_alone() -> None:
    """Where eval mode has no stored statistics, there are none to estimate."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.InstanceNorm2d(4)
    )
    run, feed = regimes(model), feed_of(rows(8, 3, 9, 9))
    assert run.estimated(feed, 1).statistics == {}
    stored, batch = run.stored(feed).mains, run.batch(feed).mains
    assert all(torch.equal(a, b) for a, b in zip(stored, batch, strict=True))


@pytest.mark.parametrize(("depth", "wrong"), [(5, 0), (5, 3), (20, 19), (52, 21)])
def test_the_wrong_layer_is_ranked_first(depth: int, wrong: int) -> None:
    """One layer with wrong statistics among right ones is named, however many there are."""
    torch.manual_seed(1)
    model = Deep(depth)
    feed = feed_of(rows(24, 6), 24)
    run = regimes(model)
    estimated = run.estimated(feed, 3).statistics
    for place, (mean, variance) in estimated.items():
        norm = model.get_submodule(place.path)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
    model.norms[wrong].running_mean += 1.5
    model.norms[wrong].running_var *= 9
    found = closings(run, feed, estimated, list(estimated))
    assert found[0].path == f"norms.{wrong}"
    assert found[0].share > 0.8
    assert all(entry.share < 0.3 for entry in found[1:])
    assert len(found) == depth or depth > 48


def test_no_gap_nobody_to_blame() -> None:
    """Where stored statistics are those of the data, no layer is tried."""
    model = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))
    run, feed = regimes(model), feed_of(rows(16, 6), 16)
    place = CallSite("1", 0)
    stored = {place: (torch.zeros(6).double(), torch.ones(6).double())}
    assert closings(run, feed, stored, [place]) == ()
