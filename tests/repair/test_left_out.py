"""Each sample is judged by the statistics of all the others: it says nothing for itself."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from normcheck.errors import NormcheckError
from normcheck.live.batches import Batch
from normcheck.live.watching.forward import Forward
from normcheck.live.watching.reachable_modules import reachable
from normcheck.live.watching.regimes import Regimes
from normcheck.repair.estimating.estimate import Estimator, tracked_norms
from normcheck.repair.estimating.proof import crossed
from normcheck.runs.fix import fix
from tests.repair.files import DATA, HEALTHY, LOST, wanted

pytestmark = [pytest.mark.slow, pytest.mark.kernels]


class Shared(nn.Module):
    """One norm that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.norm(x).relu())


class Mixed(nn.Module):
    """Rows are no longer samples where the norm stands."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        whole: Tensor = self.norm(x.mean((0, 2, 3))[None].repeat(2, 1))
        return whole


def estimator(model: nn.Module) -> Estimator:
    reached = reachable(model.eval())
    return Estimator(
        Regimes(Forward(model, torch.device("cpu")), reached, set()), tracked_norms(reached)
    )


def batches(x: Tensor, size: int) -> list[Batch]:
    return [Batch((part,)) for part in x.split(size)]


@pytest.mark.parametrize("size", [7, 20, 64])
def test_as_if_each_were_taken_out_by_hand(size: int) -> None:
    """In batches of any size, the last one smaller."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(80, 3))
    x = torch.randn(33, 2, 6, 6) * torch.linspace(0.1, 5, 33)[:, None, None, None]
    found = estimator(model)
    whole = found.estimated(lambda: batches(x, size))
    left_out = found.left_out(batches(x, size), whole.statistics, 33)
    assert left_out is not None
    got = torch.cat(left_out.mains)
    for sample in range(33):
        others = x[torch.arange(33) != sample]
        without = found.estimated(lambda others=others: batches(others, 32))  # type: ignore[misc]
        (wanted_,) = found.outputs([Batch((x[sample : sample + 1],))], without.statistics).mains
        assert torch.allclose(got[sample], wanted_[0], atol=1e-4)
    together = torch.cat(found.outputs(batches(x, size), whole.statistics).mains)
    assert not torch.allclose(got, together, atol=1e-2)


@pytest.mark.parametrize("made", [Shared, Mixed])
def test_where_samples_cannot_be_told_apart_nothing_is_left_out(
    made: Callable[[], nn.Module],
) -> None:
    """One that a norm gets twice, or of which no row is left there."""
    found, x = estimator(made()), torch.randn(16, 3, 4, 4)
    whole = found.estimated(lambda: batches(x, 16))
    assert whole.statistics
    assert found.left_out(batches(x, 16), whole.statistics, 16) is None


def test_samples_of_several_sizes_are_judged_by_halves() -> None:
    """A large one counts for more than a small one: taking out a share of each would be wrong."""
    model = nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.AdaptiveAvgPool2d(1))
    small, large = torch.randn(16, 2, 6, 6), torch.randn(16, 2, 12, 12)
    found = estimator(model)
    both = [Batch((small,)), Batch((large,))]
    whole = found.estimated(lambda: both)
    assert found.left_out(both, whole.statistics, 32) is None
    stream = Stream(both)
    before, after, by = crossed(found, whole, stream)  # type: ignore[arg-type]
    assert by == "statistics of the other half"
    assert sum(map(len, before.mains)) == sum(map(len, after.mains)) == 32


class Stream:
    """What ``BatchStream`` offers a proof."""

    def __init__(self, parts: list[Batch]) -> None:
        self.parts = parts

    def thinned(self, _step: int) -> list[Batch]:
        return self.parts

    def every_other(self, start: int, _step: int = 1) -> list[Batch]:
        return [part.rows(range(start, part.size, 2)) for part in self.parts]


def test_what_judged_is_said(tmp_path: Path) -> None:
    """And the gain that both sets of scores expect decides, as in a scan."""
    found = fix(LOST, wanted(tmp_path / "fixed.pt")).models[0].estimated
    assert found is not None
    assert found.proof.judged_by == "statistics of all other samples"


@pytest.mark.parametrize("path", [LOST, HEALTHY])
def test_labels_that_no_output_stands_for(path: Path, tmp_path: Path) -> None:
    """They count as wrong whoever is right, and would decide of the repair; of a holdout, too."""
    digits = np.load(DATA)
    np.savez(tmp_path / "one.npz", images=digits["images"], labels=digits["labels"] + 1)
    before = path.read_bytes()
    for words in (
        {"data": str(tmp_path / "one.npz")},
        {"data": DATA, "holdout": str(tmp_path / "one.npz")},
    ):
        with pytest.raises(NormcheckError, match="labels run from 1 to 10") as raised:
            fix(path, wanted(tmp_path / "fixed.pt", **words))
        assert "subtract 1" in raised.value.hint
    assert not (tmp_path / "fixed.pt").exists()
    assert path.read_bytes() == before
