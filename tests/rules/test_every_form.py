"""The same fault gives the same findings in every form that a model is saved in."""

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck import Finding, scan
from tests.norms.saved import (
    as_legacy,
    as_module,
    as_plain_dict,
    as_safetensors,
    as_state_dict,
    save,
)

FORMS = (as_state_dict, as_legacy, as_plain_dict, as_safetensors, as_module)


class Net(nn.Module):
    """Two stages, so that layers have names and not only numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(torch.relu(self.bn2(self.conv2(x))).mean((2, 3)))


def trained(steps: int = 60) -> Net:
    """A network after some real steps of training, a fresh copy at every call."""
    return copy.deepcopy(_trained(steps))


@cache
def _trained(steps: int) -> Net:
    torch.manual_seed(1)
    model = Net().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(steps):
        x = torch.randn(8, 3, 8, 8)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return model.eval()


def healthy(_model: Net) -> None:
    """Change nothing."""


def reset(model: Net) -> None:
    """The statistics were lost, their count with them."""
    model.bn1.reset_running_stats()
    model.bn2.reset_running_stats()


def reset_one(model: Net) -> None:
    """One layer lost its statistics."""
    model.bn2.reset_running_stats()


def zeroed(model: Net) -> None:
    """Statistics written over, the count left alone."""
    for norm in (model.bn1, model.bn2):
        norm.running_mean.zero_()
        norm.running_var.fill_(1)


def with_nan(model: Net) -> None:
    """One bad batch."""
    model.bn1.running_mean[3] = float("nan")


def negative(model: Net) -> None:
    """Arithmetic on buffers."""
    model.bn2.running_var[0] = -2.0


def negative_count(model: Net) -> None:
    """The difference of two checkpoints."""
    model.bn1.num_batches_tracked.fill_(-60)


def broken_gamma(model: Net) -> None:
    """A training that diverged."""
    model.bn1.weight.data[0] = float("inf")


FAULTS: dict[Callable[[Net], None], dict[str, tuple[str, tuple[str, ...]]]] = {
    healthy: {},
    reset: {"NC101": ("warning", ("bn1", "bn2"))},
    reset_one: {"NC101": ("error", ("bn2",))},
    zeroed: {"NC102": ("warning", ("bn1", "bn2"))},
    with_nan: {"NC104": ("error", ("bn1",))},
    negative: {"NC105": ("error", ("bn2",))},
    negative_count: {"NC111": ("warning", ("bn1",))},
    broken_gamma: {"NC501": ("error", ("bn1",))},
}


def findings(file: Path) -> list[Finding]:
    report = scan([file])
    assert report.errors == ()
    return list(report.findings)


def loud(file: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """What would fail a run: code to severity and layers."""
    return {f.rule: (f.severity.value, f.layers) for f in findings(file) if f.severity.rank > 0}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_same_findings(
    fault: Callable[[Net], None], form: Callable[[nn.Module, Path], Path], tmp_path: Path
) -> None:
    """Zip, legacy, plain dictionary, safetensors and whole module: the same verdict."""
    model = trained()
    with torch.no_grad():
        fault(model)
    assert loud(form(model, tmp_path)) == FAULTS[fault]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_same_words(fault: Callable[[Net], None], tmp_path: Path) -> None:
    """Two formats of the same state dict differ in nothing that is said."""
    model = trained()
    with torch.no_grad():
        fault(model)
    said = [
        [(f.message, f.detail, f.severity, f.confidence, f.evidence) for f in findings(file)]
        for file in (as_state_dict(model, tmp_path), as_legacy(model, tmp_path))
    ]
    assert str(said[0]) == str(said[1])


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_too_few_batches(form: Callable[[nn.Module, Path], Path], tmp_path: Path) -> None:
    """Few batches are an error in every form; only a whole module knows the momentum."""
    file = form(trained(5), tmp_path)
    (found,) = [f for f in findings(file) if f.rule == "NC103"]
    assert (found.severity.value, found.layers) == ("error", ("bn1", "bn2"))
    assert found.confidence.value == ("high" if form is as_module else "medium")


def scanned(thing: object, tmp_path: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    return loud(save(thing, tmp_path / "checkpoint.pt"))


def test_names_below_a_wrapper(tmp_path: Path) -> None:
    """DataParallel, torch.compile and Lightning put words before the names, no more."""
    model = trained()
    reset(model)
    for prefix in ("module.", "_orig_mod.", "model.", "_orig_mod.module."):
        state = {prefix + name: tensor for name, tensor in model.state_dict().items()}
        layers = (f"{prefix}bn1", f"{prefix}bn2")
        assert scanned(state, tmp_path) == {"NC101": ("warning", layers)}


def test_training_checkpoint(tmp_path: Path) -> None:
    """An optimizer and an epoch beside the model change no verdict on its numbers."""
    model = trained()
    optimizer = torch.optim.Adam(model.parameters())
    state = {"epoch": 3, "state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
    assert scanned(state, tmp_path) == {}
    model.bn1.reset_running_stats()
    state["state_dict"] = model.state_dict()
    assert scanned(state, tmp_path) == {"NC101": ("error", ("bn1",))}


def test_copy_that_lost_its_statistics(tmp_path: Path) -> None:
    """Raw and averaged weights in one file: the copy without statistics is the broken one."""
    lost = trained()
    reset(lost)
    state = {"model": lost.state_dict(), "ema": trained().state_dict()}
    assert scanned(state, tmp_path) == {"NC101": ("error", ("bn1", "bn2"))}


def test_average_with_buffers(tmp_path: Path) -> None:
    """An average that takes the buffers along is healthy, whatever becomes of the count."""
    average = torch.optim.swa_utils.AveragedModel(trained(60), use_buffers=True)
    for steps in (80, 100):
        average.update_parameters(trained(steps))
    assert scanned(average.state_dict(), tmp_path) == {}


def test_average_of_the_parameters_alone(tmp_path: Path) -> None:
    """An average that leaves buffers out keeps those of the model that it was copied from."""
    torch.manual_seed(1)
    average = Net()
    names = {name for name, _ in average.named_parameters()}
    state = {
        name: 0.5 * tensor + 0.5 * trained().state_dict()[name] if name in names else tensor
        for name, tensor in average.state_dict().items()
    }
    assert scanned(state, tmp_path) == {"NC101": ("warning", ("bn1", "bn2"))}


def test_shadow_of_the_parameters(tmp_path: Path) -> None:
    """Averaged parameters beside the full state dict are kept that way on purpose."""
    model = trained()
    shadow = {name: parameter.clone() for name, parameter in model.named_parameters()}
    state = {"model": model.state_dict(), "shadow": shadow}
    assert scanned(state, tmp_path) == {}


def test_parameters_only(tmp_path: Path) -> None:
    """named_parameters() alone has no buffers: a warning."""
    state = dict(trained().named_parameters())
    assert scanned(state, tmp_path) == {"NC107": ("warning", ("bn1", "bn2"))}


def test_re_estimated_statistics(tmp_path: Path) -> None:
    """update_bn over a dozen batches leaves a small count and good statistics."""
    model = trained()
    batches = [torch.randn(8, 3, 8, 8) for _ in range(12)]
    torch.optim.swa_utils.update_bn(batches, model)
    assert model.bn1.num_batches_tracked == 12
    assert loud(as_module(model.eval(), tmp_path)) == {}


def test_converted_models(tmp_path: Path) -> None:
    """Half precision and bfloat16, as a whole: counts keep their type, nothing is wrong."""
    for dtype in (torch.float16, torch.bfloat16):
        model = trained().to(dtype)
        assert loud(as_state_dict(model, tmp_path)) == {}
        assert loud(as_module(model, tmp_path)) == {}


def test_folded_batch_norms(tmp_path: Path) -> None:
    """Convolution and norm fused into one: no norm is left to judge."""
    model = trained()
    model.conv1 = nn.utils.fuse_conv_bn_eval(model.conv1, model.bn1)
    model.conv2 = nn.utils.fuse_conv_bn_eval(model.conv2, model.bn2)
    model.bn1, model.bn2 = nn.Identity(), nn.Identity()
    assert loud(as_state_dict(model, tmp_path)) == {}
    assert loud(as_module(model, tmp_path)) == {}
