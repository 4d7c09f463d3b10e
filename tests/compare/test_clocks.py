"""Batches that norms counted against the steps that a training loop says it made."""

from pathlib import Path

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
