"""Pairs of checkpoints of real, if small, training runs: each history is named."""

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck.compare.movement import Movement
from normcheck.findings import Severity
from normcheck.report.people.diff_text import render_diff_text
from normcheck.report.people.text_style import TextStyle
from tests.runs.training_runs import (
    Net,
    compared,
    copy_of,
    forward,
    loud,
    save,
    told,
    train,
    trained,
)

pytestmark = pytest.mark.kernels

NORMS = ("backbone.1", "backbone.4", "neck.1")


@pytest.fixture(scope="module")
def net() -> Net:
    """A trained network; tests work on copies."""
    return trained()


def test_neighbouring_epochs(net: Net, tmp_path: Path) -> None:
    """Ordinary training moves everything, and nothing is found."""
    old = save(net, tmp_path, "old.pt")
    new = save(train(copy_of(net)), tmp_path, "new.pt")
    diff = compared(old, new)
    assert diff.findings == ()
    assert told(diff) == "Weights and statistics moved together over 12 batches, as in training."


def test_models_of_other_seeds(net: Net, tmp_path: Path) -> None:
    """Two runs are not taken for two moments of one."""
    other = trained(seed=5)
    text = told(compared(save(net, tmp_path, "a.pt"), save(other, tmp_path, "b.pt")))
    assert text.endswith("as far as those of models trained apart.")


def test_training_in_eval_mode(net: Net, tmp_path: Path) -> None:
    """Weights moved, statistics did not: both readings are said."""
    old = save(net, tmp_path, "old.pt")
    new = save(train(copy_of(net).eval()), tmp_path, "new.pt")
    diff = compared(old, new)
    (finding,) = diff.findings
    assert (finding.rule, finding.severity) == ("NC601", Severity.WARNING)
    assert finding.layers == NORMS
    assert "No batch was counted" in finding.detail
    assert "eval mode" in finding.consequence
    assert "frozen on purpose" in finding.consequence
    assert "averaged" in finding.consequence
    assert told(diff) == (
        "Weights moved, statistics did not: between these checkpoints training ran in eval "
        "mode, or the norms are frozen."
    )


def test_validation_in_train_mode(net: Net, tmp_path: Path) -> None:
    """Statistics moved, weights are identical."""
    old = save(net, tmp_path, "old.pt")
    new = save(forward(copy_of(net)), tmp_path, "new.pt")
    diff = compared(old, new)
    (finding,) = diff.findings
    assert (finding.rule, finding.severity) == ("NC602", Severity.WARNING)
    assert finding.layers == NORMS
    assert "5 batches passed in train mode" in finding.detail
    assert "5 batches passed in train mode and nothing was learned" in told(diff)


def test_re_estimation(net: Net, tmp_path: Path) -> None:
    """``update_bn`` starts anew: the count shows it."""
    old = save(net, tmp_path, "old.pt")
    new = copy_of(net)
    torch.optim.swa_utils.update_bn([torch.randn(8, 3, 6, 6) for _ in range(4)], new)
    (finding,) = compared(old, save(new, tmp_path, "new.pt")).findings
    assert finding.rule == "NC602"
    assert "update_bn" in finding.detail


def test_lost_and_collected(net: Net, tmp_path: Path) -> None:
    """Statistics back at 0 and 1 are an error; the other way round somebody collected them."""
    reset = copy_of(net)
    for module in reset.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    good, bad = save(net, tmp_path, "good.pt"), save(reset, tmp_path, "bad.pt")
    diff = compared(good, bad)
    assert [(f.rule, f.severity) for f in diff.findings] == [("NC602", Severity.ERROR)]
    assert told(diff).endswith("they were lost, and are back at 0 and 1.")
    back = compared(bad, good)
    assert [(f.rule, f.severity) for f in back.findings] == [("NC602", Severity.INFO)]


def test_lost_in_training(net: Net, tmp_path: Path) -> None:
    """Weights that moved as well do not hide statistics that were thrown away."""
    reset = train(copy_of(net))
    reset.backbone[1].reset_running_stats()
    diff = compared(save(net, tmp_path, "old.pt"), save(reset, tmp_path, "new.pt"))
    lost = next(f for f in diff.findings if f.rule == "NC602")
    assert (lost.layers, lost.severity) == (("backbone.1",), Severity.WARNING)
    assert told(diff) == "Weights moved, and 1 layer had statistics put back to 0 and 1."


def _freeze(part: nn.Module, *, also_statistics: bool) -> None:
    for parameter in part.parameters():
        parameter.requires_grad_(False)
    part.train(not also_statistics)


def test_frozen_backbone(net: Net, tmp_path: Path) -> None:
    """Weights and statistics of a part stood still together: said, and no fault."""
    old = save(net, tmp_path, "old.pt")
    tuned = copy_of(net)
    _freeze(tuned.backbone, also_statistics=True)
    diff = compared(old, save(train(tuned), tmp_path, "new.pt"))
    (finding,) = diff.findings
    assert (finding.rule, finding.severity) == ("NC601", Severity.INFO)
    assert finding.layers == NORMS[:2]
    assert told(diff) == (
        "Weights and statistics moved in 1 of 3 layers; in the other 2 neither did: a frozen part."
    )


def test_linear_probe(net: Net, tmp_path: Path) -> None:
    """Only the head is trained, every norm stands still with its weights: no fault either."""
    old = save(net, tmp_path, "old.pt")
    tuned = copy_of(net)
    _freeze(tuned.backbone, also_statistics=True)
    _freeze(tuned.neck, also_statistics=True)
    diff = compared(old, save(train(tuned), tmp_path, "new.pt"))
    assert [(f.rule, f.severity) for f in diff.findings] == [("NC601", Severity.INFO)]


def test_frozen_backbone_in_train_mode(net: Net, tmp_path: Path) -> None:
    """requires_grad = False alone: the statistics of the frozen part drift."""
    old = save(net, tmp_path, "old.pt")
    tuned = copy_of(net)
    _freeze(tuned.backbone, also_statistics=False)
    (finding,) = compared(old, save(train(tuned), tmp_path, "new.pt")).findings
    assert (finding.rule, finding.severity) == ("NC602", Severity.WARNING)
    assert finding.layers == NORMS[:2]
    assert "requires_grad" in finding.consequence


@pytest.mark.parametrize("affine", [True, False])
def test_fine_tuning_with_norm_eval(net: Net, tmp_path: Path, *, affine: bool) -> None:
    """Frozen statistics under trained weights are what NC601 is; still γ, β speak for intent."""
    old = save(net, tmp_path, "old.pt")
    tuned = copy_of(net)
    for module in tuned.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            for parameter in module.parameters():
                parameter.requires_grad_(affine)
    (finding,) = compared(old, save(train(tuned), tmp_path, "new.pt")).findings
    assert (finding.rule, finding.severity, finding.layers) == ("NC601", Severity.WARNING, NORMS)
    assert ("speaks for frozen norms" in finding.consequence) is not affine


def test_norms_in_eval_mode_in_one_part(net: Net, tmp_path: Path) -> None:
    """Only the layers that stood still are named, and the others are counted."""
    old = save(net, tmp_path, "old.pt")
    tuned = copy_of(net)
    tuned.backbone.eval()
    diff = compared(old, save(train(tuned), tmp_path, "new.pt"))
    (finding,) = diff.findings
    assert (finding.rule, finding.layers) == ("NC601", NORMS[:2])
    assert "1 other layer moved" in finding.detail
    assert told(diff) == "Weights moved, statistics in 1 of 3 layers only."


def test_zero_momentum(net: Net, tmp_path: Path) -> None:
    """Counted and not moved is another cause than eval mode."""
    old = save(net, tmp_path, "old.pt")
    tuned = copy_of(net)
    for module in tuned.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    (finding,) = compared(old, save(train(tuned), tmp_path, "new.pt")).findings
    assert finding.rule == "NC601"
    assert "momentum 0" in finding.detail


def test_identical_files(net: Net, tmp_path: Path) -> None:
    """Nothing moved."""
    diff = compared(save(net, tmp_path, "a.pt"), save(net, tmp_path, "b.pt"))
    assert diff.findings == ()
    assert told(diff) == "Nothing moved: weights, γ and β, statistics are identical."


def test_only_the_optimizer_moved(net: Net, tmp_path: Path) -> None:
    """A step counter that went on beside an identical model is said."""
    optimizer = torch.optim.Adam(net.parameters(), lr=0.0)

    def snapshot(name: str, steps: int) -> Path:
        for _ in range(steps):
            for parameter in net.parameters():
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
        return save(net, tmp_path, name, optimizer=optimizer.state_dict())

    diff = compared(snapshot("old.pt", 3), snapshot("new.pt", 4))
    assert diff.findings == ()
    assert "the optimizer counted 4 steps more" in told(diff)


def _with_optimizer(
    net: Net, folder: Path, *, validate: int, forwards: int = 1
) -> tuple[Path, Path]:
    """Two checkpoints 20 steps apart, with passes in train mode that nothing is learned from."""
    model = copy_of(net)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    paths = []
    for name in ("old.pt", "new.pt"):
        for step in range(20):
            forward(model, forwards - 1, seed=step)
            train(model, 1, step, optimizer)
        forward(model, validate)
        paths.append(save(model, folder, name, optimizer=optimizer.state_dict()))
    return paths[0], paths[1]


def test_validation_in_train_mode_within_training(net: Net, tmp_path: Path) -> None:
    """Weights moved as well; only the count against the optimizer's steps shows it."""
    (finding,) = compared(*_with_optimizer(net, tmp_path, validate=5)).findings
    assert (finding.rule, finding.severity) == ("NC604", Severity.WARNING)
    assert "25 batches" in finding.detail
    assert "20 steps" in finding.detail
    assert "validation" in finding.consequence


@pytest.mark.parametrize(("forwards", "found"), [(1, []), (2, [("NC604", Severity.INFO)])])
def test_as_many_batches_as_steps(
    net: Net, tmp_path: Path, forwards: int, found: list[tuple[str, Severity]]
) -> None:
    """One batch a step is silent; a whole factor (accumulation, checkpointing) is info."""
    diff = compared(*_with_optimizer(net, tmp_path, validate=0, forwards=forwards))
    assert [(f.rule, f.severity) for f in diff.findings] == found


def test_a_layer_that_runs_twice(tmp_path: Path) -> None:
    """A shared layer counts twice as fast: info."""

    class Siamese(Net):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            features = self.neck(self.neck(self.backbone(images)))
            scores: torch.Tensor = self.head(features.mean((2, 3)))
            return scores

    torch.manual_seed(0)
    model = Siamese().train()
    old = save(train(model, 20), tmp_path, "old.pt")
    diff = compared(old, save(train(model, 20), tmp_path, "new.pt"))
    (finding,) = diff.findings
    assert (finding.rule, finding.severity, finding.layers) == ("NC604", Severity.INFO, ("neck.1",))
    assert "several times per step" in finding.detail


def test_a_layer_that_was_reset(net: Net, tmp_path: Path) -> None:
    """Its count goes down while the others go on."""
    old = save(net, tmp_path, "old.pt")
    model = copy_of(net)
    model.neck[1].reset_running_stats()
    (finding,) = compared(old, save(train(model), tmp_path, "new.pt")).findings
    assert (finding.rule, finding.severity) == ("NC604", Severity.WARNING)
    assert finding.layers == ("neck.1",)


def test_files_in_the_wrong_order(net: Net, tmp_path: Path) -> None:
    """Counts that fall everywhere are no fault of the model."""
    old = save(net, tmp_path, "old.pt")
    new = save(train(copy_of(net)), tmp_path, "new.pt")
    diff = compared(new, old)
    assert loud(diff) == set()
    assert "in the order" in diff.comparisons[0].notes[0]


def test_two_optimizers_are_no_witness(net: Net, tmp_path: Path) -> None:
    """A GAN's steps cannot be held against one network's batches."""
    old, new = _with_optimizer(net, tmp_path, validate=5)
    for path in (old, new):
        content = torch.load(path)
        torch.save({**content, "second": copy.deepcopy(content["optimizer"])}, path)
    assert compared(old, new).findings == ()


def test_values_without_end(net: Net, tmp_path: Path) -> None:
    """NaN, infinity and numbers whose squares overflow are compared without a warning."""
    old, new = copy_of(net).double(), copy_of(net).double()
    with torch.no_grad():
        old.neck[0].weight[0], new.neck[0].weight[0] = 1e200, 2e200
        old.backbone[0].weight[0] = new.backbone[0].weight[0] = torch.nan
        new.backbone[1].running_var[0] = torch.inf
        new.backbone[4].running_mean[0] = torch.nan
    diff = compared(*(save(m, tmp_path, f"{i}.pt") for i, m in enumerate((old, new, old))))
    first = diff.comparisons[0].steps[0].layers
    changes = {n.path: n for n in first}
    assert changes["neck.1"].weights == Movement(math.inf, moved=True)
    assert changes["backbone.1"].weights == Movement(0.0, moved=False)
    assert [n.path for n in first if n.stats_moved] == ["backbone.1", "backbone.4"]
    assert "inf %" in render_diff_text(diff, TextStyle())
