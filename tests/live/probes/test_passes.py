"""What a run with data costs, and that what was spared would have said the same."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor, nn

from normcheck.live.batches import Batch, Feed
from normcheck.live.measurement import Mechanics
from normcheck.live.probes.against_data import against_data
from normcheck.live.probes.batch_noise import NOISE_SIZES, noise_groups, regrouped
from normcheck.live.probes.cost import cost_of, wide_feed
from normcheck.live.probes.drifts import TRACE
from normcheck.live.probes.groups import given_each, grouped, packed
from normcheck.live.probes.mechanics import mechanics
from normcheck.live.probes.train_mode import in_train_mode
from normcheck.live.run_request import Running
from normcheck.live.watching.forward import Forward
from normcheck.live.watching.reachable_modules import reachable
from normcheck.live.watching.regimes import Regimes
from normcheck.rules.channels_off import MATERIAL

SAMPLES = 256

pytestmark = pytest.mark.kernels


def convolutional(*between: nn.Module) -> nn.Module:
    """Three convolutions with their norms, something between the last two."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8),
        nn.ReLU(), *between, nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


def images(count: int = SAMPLES, seed: int = 1) -> Tensor:
    """Random images whose brightness varies."""
    made = torch.Generator().manual_seed(seed)
    light = torch.randn(count, 3, 1, 1, generator=made)
    return torch.randn(count, 3, 9, 9, generator=made) + light


def settled(model: nn.Module) -> nn.Module:
    """The same with the statistics of other images."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        for seed in range(2, 18):
            model(images(seed=seed))
    return model.eval()


def regimes_of(model: nn.Module) -> Regimes:
    """What runs a model."""
    return Regimes(Forward(model.eval(), torch.device("cpu")), reachable(model), set())


def feed_of(x: Tensor, size: int = 32) -> Feed:
    """Real data in batches."""
    return Feed((Batch((x,)),), "", True, batch_size=size).rebatched(size)


def seen_in(regimes: Regimes, feed: Feed) -> Mechanics:
    """What a few samples show."""
    return mechanics(regimes.forward, regimes.reached, feed, frozenset())[0]


def passes(model: nn.Module) -> float:
    """Passes over the data that holding a model against them takes, mechanics not counted.

    A forward that is ended early counts for the part of the norms that it reached.
    """
    regimes, feed = regimes_of(model), feed_of(images())
    seen = seen_in(regimes, feed)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    reached = [0]

    def note(_module: nn.Module, given: tuple[Tensor]) -> None:
        reached[0] += len(given[0])

    for norm in norms:
        norm.register_forward_pre_hook(note)
    assert against_data(regimes, feed, frozenset(), seen) is not None
    return reached[0] / len(norms) / feed.samples


def test_healthy_and_sick_networks_take_few_passes() -> None:
    """Seven at most where nothing is off, eleven where all is."""
    healthy = settled(convolutional())
    assert passes(healthy) < 6
    dropping = nn.Sequential(healthy, nn.Dropout(0.3))
    assert passes(dropping) < 7
    for module in healthy.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    assert 6 < passes(healthy) < 11
    assert 6 < passes(dropping) < 11


def test_one_batch_is_checked_by_a_few_samples() -> None:
    """The statistics are those of the full second pass; a model that draws anew takes that pass."""
    model = convolutional()
    regimes, feed = regimes_of(model), feed_of(images(64), 64)
    full = regimes.estimated(feed)
    spent = regimes.forward.samples
    short = regimes.estimated(feed, repeatable=True)
    assert regimes.forward.samples - spent == 64 + 16
    assert spent == 128
    assert short.rounds == 1
    assert short.residual == pytest.approx(full.residual, abs=1e-4)
    assert short.outputs is not None
    given = regimes.given(feed, full.statistics)
    assert torch.allclose(short.outputs.mains[0], given.mains[0], atol=1e-4)
    for place, (mean, variance) in full.statistics.items():
        assert torch.allclose(short.statistics[place][0], mean, atol=1e-5)
        assert torch.allclose(short.statistics[place][1], variance, rtol=1e-4)


class Drawing(nn.Module):
    """Adds noise in train mode."""

    def forward(self, x: Tensor) -> Tensor:
        """With a little noise."""
        return x + 0.1 * torch.randn_like(x) if self.training else x


@pytest.mark.parametrize("size", [32, 256, 7])
@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize(
    "between", [(), (nn.Dropout(0.2),), (Drawing(),)], ids=["plain", "dropout", "drawing"]
)
def test_what_is_announced_is_what_it_takes(
    size: int, labelled: bool, between: tuple[nn.Module, ...]
) -> None:
    """Samples and forwards of a healthy model to the last one; at most so many of a sick one."""
    model = nn.Sequential(settled(convolutional()), *between)
    x = images()
    labels = torch.arange(len(x)) % 5 if labelled else None
    for sick in (False, True):
        if sick:
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.reset_running_stats()
        regimes = regimes_of(model)
        feed = Feed((Batch((x,), {}, labels),), "", True, batch_size=size).rebatched(size)
        seen = seen_in(regimes, feed)
        cost = cost_of(feed, wide_feed(feed, seen.norms), seen, one_mode=False)
        spent, forwards = regimes.forward.samples, regimes.forward.count
        told, came = [0], [0]
        regimes.tick = lambda samples, told=told: told.__setitem__(0, told[0] + samples)
        regimes.expect = lambda samples, came=came: came.__setitem__(0, came[0] + samples)
        found = against_data(regimes, feed, frozenset(), seen)
        assert found is not None
        fed = regimes.forward.samples - spent
        assert told[0] == fed
        assert came[0] >= fed
        if found.closings or (not sick and came[0] > cost.samples):
            assert cost.samples < fed <= cost.samples + cost.search
        else:
            assert (fed, regimes.forward.count - forwards) == (cost.samples, cost.forwards)
        assert bool(found.closings) == sick


class Standardising(nn.Module):
    """Normalises by the batch by hand, which no operator shows."""

    def forward(self, x: Tensor) -> Tensor:
        """Of the whole batch."""
        return (x - x.mean()) / x.std() * (1 + x[0].mean())


def test_what_depends_on_the_whole_batch_is_not_taken_for_settled() -> None:
    """A few samples do not repeat what the batch gave: then the passes decide, as ever."""
    regimes, feed = regimes_of(convolutional(Standardising())), feed_of(images(64), 64)
    found = regimes.estimated(feed, repeatable=True)
    assert found.rounds > 1
    assert found.residual == regimes.estimated(feed).residual


def test_groups_in_one_forward_are_forwards_of_each() -> None:
    """Each group has its own statistics, samples may come in several, packs keep groups whole."""
    regimes, x = regimes_of(convolutional()), images(40)
    groups = [[0], [1, 2], [3, 1, 0, 7], list(range(30, 40)), [5, 6]]
    together = grouped(regimes, Batch((x,)), groups, 64)
    assert regimes.forward.count == 1
    apart = grouped(regimes, Batch((x,)), groups, 6)
    for group, one, two in zip(groups, together, apart, strict=True):
        alone = regimes.batch(feed_of(x[group], len(group))).mains[0]
        assert torch.allclose(one, alone, atol=1e-5)
        assert torch.allclose(two, alone, atol=1e-5)
    assert [[len(g) for g in pack] for pack in packed(groups, 6)] == [[1, 2], [4], [10], [2]]


class Tokens(nn.Module):
    """Normalises the tokens of all samples in one dimension."""

    def __init__(self) -> None:
        """Three features."""
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 3, 9, 9)`` as ``(81 N, 3)``, and back to the samples."""
        flat = x.flatten(2).transpose(1, 2).flatten(0, 1)
        found: Tensor = self.norm(flat).reshape(len(x), -1)
        return found


def test_groups_of_tokens() -> None:
    """Rows that are several to a sample go with their sample."""
    regimes, x = regimes_of(Tokens()), images(16)
    wide = torch.cat(regimes.batch(feed_of(x, 16), size=4).mains)
    narrow = torch.cat(regimes.batch(feed_of(x, 4)).mains)
    assert torch.allclose(wide, narrow, atol=1e-5)


def test_several_sets_of_statistics_in_one_forward() -> None:
    """The outputs are those under each set, where a set lacks a norm under its stored ones."""
    regimes, x = regimes_of(convolutional()), images(8)
    estimated = regimes.estimated(feed_of(x, 8)).statistics
    first, *others = estimated
    variants = [{}, estimated, {first: estimated[first]}, {p: estimated[p] for p in others}]
    before = regimes.forward.count
    together = given_each(regimes, Batch((x,)), variants, 32)
    assert regimes.forward.count == before + 1
    for variant, found in zip(variants, together, strict=True):
        expected = regimes.given(feed_of(x, 8), variant).mains[0]
        assert torch.allclose(found, expected, atol=1e-5)


class Skipping(nn.Module):
    """Skips itself in train mode, by Python's own random numbers."""

    def forward(self, x: Tensor) -> Tensor:
        """As it is, or nothing."""
        return x * (random.random() < 0.999) if self.training else x  # noqa: S311


@pytest.mark.parametrize(
    ("between", "spared"),
    [((), True), ((nn.Dropout(0.5),), False), ((Skipping(),), False)],
)  # fmt: skip
def test_train_mode_is_run_where_it_does_more_than_normalise(
    between: tuple[nn.Module, ...], spared: bool
) -> None:
    """One batch shows that the others are known; what draws random numbers is run in full."""
    model = convolutional(*between)
    regimes, feed = regimes_of(model), feed_of(images())
    at_batch = regimes.batch(feed).together()
    spent = regimes.forward.samples
    found, note = in_train_mode(regimes, feed, at_batch, 1e-4)
    assert not note
    assert found is not None
    assert regimes.forward.samples - spent == (32 if spared else SAMPLES)
    full, _ = in_train_mode(regimes, feed, None, 1e-4)
    assert full is not None
    if spared or isinstance(between[0], Skipping):
        assert torch.allclose(found.mains[0], full.mains[0], atol=1e-5)
    else:
        assert torch.equal(found.mains[0], full.mains[0])


class Branching(nn.Module):
    """Gives half in eval mode."""

    def forward(self, x: Tensor) -> Tensor:
        """All of it in train mode."""
        return x if self.training else x / 2


def test_another_train_mode_is_run() -> None:
    """A branch on the mode shows in the first batch."""
    regimes, feed = regimes_of(nn.Sequential(convolutional(), Branching())), feed_of(images())
    at_batch = regimes.batch(feed).together()
    found, _ = in_train_mode(regimes, feed, at_batch, 1e-4)
    assert found is not None
    assert torch.allclose(found.mains[0], 2 * at_batch.mains[0], atol=1e-5)


@pytest.mark.parametrize("count", [4, 31, 64, 65, 256, 1000])
def test_groups_of_noise(count: int) -> None:
    """No group lacks samples, none is of a single one but those that are meant so."""
    for size, groups in noise_groups(count).items():
        assert size in NOISE_SIZES
        assert all(len(group) in (size, size + 1) or group is groups[-1] for group in groups)
        assert size == 1 or all(len(group) > 1 for group in groups)
        assert all(0 <= i < count for group in groups for i in group)
    others = regrouped(count, 32)
    if count <= 32:
        assert others == []
    else:
        places = [i for group in others for i in group]
        assert len(set(places)) == len(places) >= min(count, 64)
        assert set(others[0]) != set(range(32))


class Subtracting(nn.Module):
    """Standardises its input in place, as much code does."""

    def __init__(self) -> None:
        """Before a network."""
        super().__init__()
        self.inner = convolutional()

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        scores: Tensor = self.inner(x.sub_(0.5).mul_(2.0))
        return scores


def test_a_forward_that_changes_its_input_is_fed_the_same_each_time() -> None:
    """The user's tensors stay as they were, and every pass sees them so."""
    x = images(64)
    kept = x.clone()
    regimes, feed = regimes_of(Subtracting()), feed_of(x, 16)
    first, second = regimes.stored(feed), regimes.stored(feed)
    assert torch.equal(x, kept)
    assert all(torch.equal(a, b) for a, b in zip(first.mains, second.mains, strict=True))


def test_what_is_ranked_is_what_rules_speak_of() -> None:
    """Layers are ranked from the same bound on that makes a rule name them."""
    assert TRACE == MATERIAL
    assert Running().feeding.samples == SAMPLES
