"""Batches that norms counted against the steps that a training loop says it made."""

from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck import diff
from normcheck.compare.movement_story import story
from normcheck.report.diff_report import Diff


def _steps(folder: Path, *, in_train: int, made: int) -> Diff:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
    for _ in range(100):
        model(torch.randn(32, 6))
    torch.save({"state_dict": model.state_dict(), "global_step": 100}, folder / "old.ckpt")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(made):
        model.train(step < in_train)
        model(torch.randn(32, 6)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.save({"state_dict": model.state_dict(), "global_step": 100 + made}, folder / "new.ckpt")
    return diff([folder / "old.ckpt", folder / "new.ckpt"])


def test_a_training_in_eval_mode_after_the_first_step(tmp_path: Path) -> None:
    result = _steps(tmp_path, in_train=1, made=128)
    assert [(f.rule, f.discriminator) for f in result.findings] == [("NC604", "fewer")]
    assert "mostly trained in eval mode" in story(result.comparisons[0])


def test_a_training_in_train_mode(tmp_path: Path) -> None:
    result = _steps(tmp_path, in_train=128, made=128)
    assert not result.findings
    assert story(result.comparisons[0]).endswith("as in training.")


def _pair(
    folder: Path, counted: int, old: dict[str, object], new: dict[str, object], *, start: int = 100
) -> Diff:
    """Two files of one run in which ``counted`` batches passed, with what else they hold."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
    for _ in range(start):
        model(torch.randn(32, 6))
    torch.save({"state_dict": model.state_dict(), **old}, folder / "old.ckpt")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    for _ in range(counted):
        model(torch.randn(32, 6))
    torch.save({"state_dict": model.state_dict(), **new}, folder / "new.ckpt")
    return diff([folder / "old.ckpt", folder / "new.ckpt"])


def _schedule(last: int) -> dict[str, object]:
    return {"lr_schedulers": [{"base_lrs": [0.1], "last_epoch": last, "_step_count": last + 1}]}


def _lightning(batches: int, steps: int) -> dict[str, object]:
    progress = {"total": {"ready": batches, "completed": batches}}
    return {
        "global_step": steps,
        "loops": {"fit_loop": {"epoch_loop.batch_progress": progress}},
    }


EVAL_MODE = {
    "a schedule once a step": (_schedule(100), _schedule(228)),
    "a schedule once an epoch": (_schedule(1), _schedule(30)),
    "Lightning's batches": (_lightning(100, 50), _lightning(228, 114)),
    "mmcv's meta": ({"meta": {"iter": 100, "epoch": 1}}, {"meta": {"iter": 228, "epoch": 2}}),
    "fairseq": tuple({"optimizer_history": [{"num_updates": n}]} for n in (100, 228)),
}


@pytest.mark.parametrize("files", EVAL_MODE.values(), ids=EVAL_MODE)
def test_every_clock_shows_a_training_in_eval_mode(
    tmp_path: Path, files: tuple[dict[str, object], dict[str, object]]
) -> None:
    result = _pair(tmp_path, 1, *files)
    assert [(f.rule, f.discriminator) for f in result.findings] == [("NC604", "fewer")]
    assert "mostly trained in eval mode" in story(result.comparisons[0])


HEALTHY = {
    "accumulation, by Lightning's batches": (128, _lightning(100, 25), _lightning(228, 57)),
    "a schedule once an epoch": (128, _schedule(1), _schedule(3)),
    "a loop that was resumed and began anew": (128, {"global_step": 100}, {"global_step": 128}),
    "a clock that only one file has": (1, {}, {"global_step": 1000}),
    "no clock in common": (20, {"global_step": 1000}, _schedule(1000)),
    "epochs alone": (128, {"epoch": 1}, {"epoch": 300}),
}


@pytest.mark.parametrize(("counted", "old", "new"), HEALTHY.values(), ids=HEALTHY)
def test_clocks_of_healthy_runs(
    tmp_path: Path, counted: int, old: dict[str, object], new: dict[str, object]
) -> None:
    assert not _pair(tmp_path, counted, old, new).findings


def test_validation_in_train_mode_beside_accumulation(tmp_path: Path) -> None:
    """Four batches a step are no whole factor once a validation is counted along."""
    result = _pair(tmp_path, 150, _lightning(100, 25), _lightning(228, 57))
    assert [(f.rule, f.discriminator) for f in result.findings] == [("NC604", "more")]


def test_weights_that_moved_too_far_for_the_batches_counted(tmp_path: Path) -> None:
    """Without any clock it is no finding, and nobody is told that it looks like training."""
    result = _pair(tmp_path, 1, {}, {})
    assert not result.findings
    assert "more than so few batches train them" in story(result.comparisons[0])
