"""A second run with more samples, where the first leaves open what statistics cost."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from normcheck import scan
from normcheck.cli.main import main
from normcheck.errors import NormcheckError
from normcheck.live.measurement import Fed, Mechanics, Run
from normcheck.live.process.run_outcome import Outcome
from normcheck.live.run_request import MORE_SAMPLES, SAMPLES, Feeding, Loading, Running
from normcheck.norms.anatomy import Anatomy
from normcheck.pipeline.more_samples import ran_until_told
from tests.rules.data.test_room_for_harm import answered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow
OPEN, TOLD = (15, 9), (3, 3)
FED = Fed(
    "val.npz", real=True, guessed=False, samples=SAMPLES, shapes="3x8x8", batch_size=32,
    batch_size_given=False, labelled=True, device="cpu", dtype="float32",
)  # fmt: skip
MECHANICS = Mechanics(
    norms=(), train_norms=(), draws=(), still_training=(), repeat_difference=0.0,
    repeat_blame=None, companions_difference=0.0, companions_blame=None, alone_difference=0.0,
    tolerance=1e-6, changed_state=(), single_error="", mode_difference=None, mode_absolute=None,
    modes_allclose=None, mode_draws=(), unused=(), not_finite=0.0, not_finite_blame=None,
    wrong_axes=(),
)  # fmt: skip
MANY = Running(feeding=Feeding(data="val.npz", more_samples=MORE_SAMPLES))


def outcome(
    changed: tuple[int, int], where: str = "", *, samples: int = SAMPLES, labelled: bool = True
) -> Outcome:
    """What a run of so many samples showed, of which so many answers changed."""
    fed = replace(FED, samples=samples, labelled=labelled)
    against = answered(*changed, samples=samples)
    return Outcome(
        Anatomy(where, (), has_modules=True), Run(fed, MECHANICS, against, forwards=20, seconds=1.0)
    )


class Runs:
    """Runs that give what they are told to, and keep how they were asked."""

    def __init__(self, *results: list[Outcome]) -> None:
        self.results: Iterator[list[Outcome]] = iter(results)
        self.asked: list[Running] = []

    def __call__(self, how: Running) -> list[Outcome]:
        """The next."""
        self.asked.append(how)
        return next(self.results)


def test_an_open_verdict_is_asked_again_with_more() -> None:
    runs = Runs([outcome(OPEN)], [outcome(TOLD, samples=1000)])
    (found,) = ran_until_told(runs, MANY)
    assert [how.feeding.samples for how in runs.asked] == [SAMPLES, MORE_SAMPLES]
    assert found.run is not None
    assert found.run.fed.samples == 1000
    assert found.run.forwards == 40
    assert any("256 samples left open" in note for note in found.run.notes)


@pytest.mark.parametrize(
    ("first", "how"),
    [
        (outcome(TOLD), MANY),
        (outcome(OPEN, samples=200), MANY),  # there are no more
        (outcome(OPEN, labelled=False), MANY),
        (outcome(OPEN), Running(feeding=Feeding(data="val.npz"))),  # so many were asked for
        (outcome(OPEN), replace(MANY, feeding=replace(MANY.feeding, data=iter([])))),
        (Outcome(Anatomy("", (), has_modules=True), error=NormcheckError("no")), MANY),
        (
            Outcome(Anatomy("", (), has_modules=True), Run(FED, MECHANICS, None, 3, 1.0, dry=True)),
            MANY,
        ),
    ],
)
def test_nothing_is_asked_twice_without_need(first: Outcome, how: Running) -> None:
    runs = Runs([first])
    assert ran_until_told(runs, how) == [first]
    assert len(runs.asked) == 1


def test_of_several_models_those_that_are_open_are_run_again() -> None:
    first = [outcome(TOLD, "ema"), outcome(OPEN, "model"), outcome(OPEN)]
    again = [
        Outcome(Anatomy("ema", (), has_modules=True), note="not run"),
        outcome(TOLD, "model", samples=1024),
    ]
    runs = Runs(first, [*again, outcome(TOLD, samples=1024)])
    found = ran_until_told(runs, MANY)
    assert runs.asked[1].loading == Loading(where=("model", "."))
    assert found[0] is first[0]
    assert [o.run.fed.samples for o in found if o.run] == [256, 1024, 1024]


def test_a_second_run_that_fails_costs_nothing_of_the_first() -> None:
    failed = Outcome(Anatomy("", (), has_modules=True), error=NormcheckError("it took too long"))
    (found,) = ran_until_told(Runs([outcome(OPEN)], [failed]), MANY)
    assert found.run is not None
    assert found.error is None
    assert found.run.fed.samples == SAMPLES
    assert any("it took too long" in note for note in found.run.notes)


@pytest.mark.parametrize("error", [NormcheckError("it took too long"), MemoryError()])
def test_nor_does_one_that_raises(error: Exception) -> None:
    """As of a live module, which runs in this process."""
    asked = iter([lambda: [outcome(OPEN)], lambda: _raise(error)])
    (found,) = ran_until_told(lambda _: next(asked)(), MANY)
    assert found.run is not None
    assert found.run.fed.samples == SAMPLES
    assert any("more samples were not run" in note for note in found.run.notes)


def _raise(error: Exception) -> list[Outcome]:
    raise error


def test_data_that_hold_no_more_than_the_first_run_took() -> None:
    first = outcome(OPEN)
    assert ran_until_told(Runs([first], [outcome(OPEN)]), MANY) == [first]


def test_what_the_code_of_a_file_does_is_announced_once() -> None:
    said: list[str] = []

    def run(how: Running) -> list[Outcome]:
        how.announce("its code runs")
        return [outcome(OPEN)]

    ran_until_told(run, replace(MANY, announce=said.append))
    assert said.count("its code runs") == 1
    assert len(said) == 2  # and that more are tried


# The whole of it

OPEN_AT = 0
"""Seed of data by which 256 samples leave it open: 9 answers become right and 6 wrong, or so."""


class Net(nn.Module):
    """A norm, and scores of two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(16)
        self.head = nn.Linear(16, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, 2) of inputs (N, 16)."""
        scores: Tensor = self.head(self.norm(x))
        return scores


def net(shift: float) -> Net:
    """Decides by the first two features; the others move its decisions by a little.

    Args:
        shift: Of the others' means, in standard deviations.
    """
    model = Net()
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.weight[0, 0] = model.head.weight[1, 1] = 1.0
        model.head.weight[0, 2:] = 0.03
    assert model.norm.running_mean is not None
    assert model.norm.running_var is not None
    model.norm.running_mean[2:] = shift
    model.norm.running_var.copy_(1 + 0.02 * torch.randn(16, generator=torch.manual_seed(0)))
    model.norm.num_batches_tracked.fill_(1000)  # type: ignore[operator]
    return model.eval()


def data(samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs, and labels that follow the first two features three times in ten."""
    torch.manual_seed(seed)
    x = torch.randn(samples, 16)
    y = (x[:, 1] > x[:, 0]).long()
    guessed = torch.rand(samples) < 0.7
    return x, torch.where(guessed, torch.randint(2, (samples,)), y)


def taken(shift: float, seed: int, samples: int | None = None) -> int:
    """Samples that a scan takes of 3,000."""
    (found,) = scan(net(shift), data=data(3000, seed), samples=samples).models
    assert found.run is not None
    return found.run.fed.samples


def test_a_scan_takes_more_where_256_leave_it_open() -> None:
    """One answer in twenty changes, at a cost of two points that so few labels seldom tell."""
    found = [taken(0.5, seed) for seed in range(5)]
    assert found.count(MORE_SAMPLES) >= 3
    assert set(found) <= {SAMPLES, MORE_SAMPLES}


def test_a_scan_takes_no_more_where_nothing_is_off_or_so_many_were_asked_for() -> None:
    assert [taken(0.0, seed) for seed in range(3)] == 3 * [SAMPLES]
    assert [taken(0.5, seed, samples) for seed, samples in enumerate((256, 700, 100))] == [
        256, 700, 100,
    ]  # fmt: skip


@pytest.fixture
def said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What the command prints of a file of the model, with data in another."""
    x, y = data(1500, OPEN_AT)
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=y.numpy())
    torch.save(net(0.5).state_dict(), tmp_path / "model.pt")

    def run(*words: str) -> str:
        model, fed = str(tmp_path / "model.pt"), str(tmp_path / "data.npz")
        factory = f"{__file__}:Net"
        main(["scan", model, "--model", factory, "--data", fed, "--exit-zero", *words])
        return capsys.readouterr().out

    return run


def test_the_command_does_so_in_a_process_of_its_own(said: Callable[..., str]) -> None:
    for words, samples in (((), MORE_SAMPLES), (("--samples", "256"), SAMPLES)):
        (model,) = json.loads(said("-f", "json", *words))["models"]
        assert model["run"]["fed"]["samples"] == samples


def test_a_dry_run_says_that_it_may_take_more(said: Callable[..., str]) -> None:
    assert "the same again with 1,024 samples" in " ".join(said("--dry-run").split())
    assert "1,024" not in said("--dry-run", "--samples", "256")
