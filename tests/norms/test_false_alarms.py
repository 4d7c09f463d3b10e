"""Healthy models of every architecture: nothing is wrong, and nothing is said to be."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck import scan
from tests.architectures import EXAMPLE_INPUTS, huggingface_example_inputs
from tests.norms.saved import (
    FACTORIES,
    NO_MODULE,
    as_module,
    as_plain_dict,
    as_safetensors,
    as_state_dict,
    build,
)

pytestmark = pytest.mark.slow

INPUTS = {**EXAMPLE_INPUTS, **huggingface_example_inputs()}
PASSES = 60
LEFT = 0.005
"""Share of the initial value that the passes leave: half of what is reported."""

REAL: dict[str, dict[str, str]] = {
    "batchnorm_options": {"NC205": "built with track_running_stats=False"},
    "cyclegan_tracking": {"NC208": "built with track_running_stats=True"},
    "cyclegan_statistics_only": {"NC208": "built with track_running_stats=True"},
    "instancenorm_options": {"NC208": "built with track_running_stats=True"},
    "lazy_never_run": {"NC208": "LazyInstanceNorm2d tracks statistics by default"},
    "hf_mobilenet_v2": {"NC206": "momentum 0.997, TensorFlow's decay taken for torch's momentum"},
}
"""What a trained whole module of these architectures really has, with the reason."""
REAL_WHEN_NEW: dict[str, dict[str, str]] = {
    **{name: rules for name, rules in REAL.items() if name != "hf_mobilenet_v2"},
    "lazy_never_run": {"NC209": "lazy norms that never saw an input"},
    "glow": {"NC209": "ActNorms that the first batch will set"},
}
"""The same before the first forward pass."""
LAST_BATCH = {"hf_mobilenet_v2": {"NC108"}}
"""At its momentum the statistics are those of one batch, here of two values a channel: they
may well look foreign."""


def parts_that_run(model: nn.Module, inputs: Callable[[], tuple[object, ...]]) -> set[nn.Module]:
    """The modules that a forward pass reaches; training moves no others."""
    ran: set[nn.Module] = set()
    hooks = [m.register_forward_hook(lambda part, *_: ran.add(part)) for m in model.modules()]
    model(*inputs())
    for hook in hooks:
        hook.remove()
    return ran


def passes_for(model: nn.Module) -> int:
    """Forward passes after which running statistics are warm at the smallest momentum."""
    momenta = [getattr(module, "momentum", None) for module in model.modules()]
    slowest = min((m for m in momenta if isinstance(m, float) and 0 < m < 1), default=0.5)
    return max(PASSES, math.ceil(math.log(LEFT) / math.log(1 - slowest)))


@torch.no_grad()
def trained(name: str) -> nn.Module:
    """A model that looks trained: parameters moved, statistics collected, in eval mode."""
    model = build(name).train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ran = parts_that_run(model, INPUTS[name])
        for part in model.modules():
            for parameter in part.parameters(recurse=False) if part in ran else ():
                if parameter.is_floating_point():
                    parameter.add_(0.05 * torch.randn_like(parameter))
        for _ in range(passes_for(model)):
            model(*INPUTS[name]())
    return model.eval()


def loud(file: Path) -> set[str]:
    """Rules with findings that would fail a run."""
    report = scan([file])
    assert report.errors == ()
    return {finding.rule for finding in report.findings if finding.severity.rank > 0}


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_trained_model(name: str, tmp_path: Path) -> None:
    """After a training nothing is wrong, in no file that it is saved to."""
    model = trained(name)
    for save in (as_state_dict, as_plain_dict, as_safetensors):
        assert loud(save(model, tmp_path)) - LAST_BATCH.get(name, set()) == set(), save
    if name not in NO_MODULE:
        found = loud(as_module(model, tmp_path)) - LAST_BATCH.get(name, set())
        assert found == REAL.get(name, {}).keys()


@pytest.mark.parametrize("name", sorted(FACTORIES))
def test_new_model(name: str, tmp_path: Path) -> None:
    """A model that was just built is no broken one, in whatever mode it is."""
    model = build(name)
    real = REAL_WHEN_NEW.get(name, {}).keys()
    assert loud(as_state_dict(model, tmp_path)) == real - {"NC205", "NC208"}
    if name not in NO_MODULE:
        assert loud(as_module(model, tmp_path)) == real
        assert loud(as_module(model.eval(), tmp_path)) == real


def depthwise_block(channels: int, stride: int) -> nn.Sequential:
    """A block as MobileNets repeat it."""
    return nn.Sequential(
        *(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU6()),
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
        *(nn.BatchNorm2d(channels), nn.ReLU6()),
    )


@torch.no_grad()
def test_deep_network_on_small_images(tmp_path: Path) -> None:
    """The last maps have one pixel, so that padded convolutions see zeros around it: healthy."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()
    )
    model.extend(depthwise_block(32, stride) for stride in (1,) * 8 + (2, 2, 2, 1, 1))
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    for _ in range(PASSES):
        model(torch.randn(16, 3, 8, 8))
    assert loud(as_state_dict(model, tmp_path)) == set()
    assert loud(as_module(model.eval(), tmp_path)) == set()
