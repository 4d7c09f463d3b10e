"""What an optimizer's averages tell of the mode that a model was trained in."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.norms.find_norms import anatomy_of
from normcheck.norms.traces.gradient_trace import GradientTrace, Used, gradient_trace

STEPS = 30
Optimizer = Callable[[nn.Module], torch.optim.Optimizer]


class Named(nn.Module):
    """Layers whose names do not tell what stands between them."""

    def __init__(self, *, bias: bool = True, between: type[nn.Module] = nn.Identity) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(2, 8, 3, bias=bias), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, bias=bias), nn.BatchNorm2d(8)
        self.between = between()
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.between(self.conv1(x))))
        x = torch.relu(self.bn2(self.between(self.conv2(x))))
        return self.head(x.mean((2, 3)))


def sequential(*, bias: bool = True) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, bias=bias), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, bias=bias), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip


def stepped(
    model: nn.Module, made: Optimizer, *, training: bool, autocast: bool = False
) -> torch.optim.Optimizer:
    """The optimizer after a short training in one mode; the statistics end at 0 and 1."""
    torch.manual_seed(0)
    optimizer = made(model)
    x, y = torch.randn(64, 2, 8, 8) + 0.5, torch.randint(0, 3, (64,))
    model.train(training)
    for step in range(STEPS):
        rows = slice(step % 4 * 16, step % 4 * 16 + 16)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        torch.autograd.backward(loss)
        optimizer.step()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    return optimizer


def trace_of(path: Path, **content: Any) -> GradientTrace | None:
    """What the file tells of all norms of its first model."""
    torch.save(content, path / "run.ckpt")
    checkpoint = read_checkpoint(path / "run.ckpt")
    try:
        model = checkpoint.models[0]
        layers = anatomy_of(model, judge_links=False).layers
        paths = [layer.path for layer in layers]
        return gradient_trace(model, layers, paths, checkpoint.optimizer_states)
    finally:
        checkpoint.close()


def split_by_rank(model: nn.Module) -> list[dict[str, Any]]:
    """Weights with decay, vectors without, as most recipes do."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]


def three_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Biases, weights of layers, weights of norms, in this order, as detectors do."""
    kinds: dict[str, list[nn.Parameter]] = {"bias": [], "weight": [], "norm": []}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            norm = isinstance(module, nn.BatchNorm2d)
            kinds["bias" if name == "bias" else "norm" if norm else "weight"].append(parameter)
    return [{"params": found} for found in kinds.values()]


OPTIMIZERS: dict[str, Optimizer] = {
    "adam": lambda m: torch.optim.Adam(m.parameters(), 3e-3),
    "adam with decay": lambda m: torch.optim.Adam(m.parameters(), 3e-3, weight_decay=1e-3),
    "adamw": lambda m: torch.optim.AdamW(m.parameters(), 3e-3, weight_decay=0.05),
    "sgd": lambda m: torch.optim.SGD(m.parameters(), 0.02, momentum=0.9),
    "sgd with decay": lambda m: torch.optim.SGD(
        m.parameters(), 0.02, momentum=0.9, weight_decay=1e-3, nesterov=True
    ),
    "by rank": lambda m: torch.optim.AdamW(split_by_rank(m), 3e-3),
    "three groups": lambda m: torch.optim.SGD(three_groups(m), 0.02, momentum=0.9),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_mode_is_told(tmp_path: Path, name: str) -> None:
    """Zero gradients of biases in train mode, and those of any layer in eval mode."""
    for training, used in ((True, Used.BATCH), (False, Used.STORED)):
        model = sequential()
        optimizer = stepped(model, OPTIMIZERS[name], training=training)
        found = trace_of(tmp_path, state_dict=model.state_dict(), optimizer=optimizer.state_dict())
        assert found is not None
        assert found.used is used
        assert len(found.ratios) == 2
        assert found.adjacent


def test_an_older_adamw_does_not_say_that_its_decay_is_decoupled(tmp_path: Path) -> None:
    """Both readings are tried: neither makes a vanished gradient alive."""
    model = sequential()
    state = stepped(model, OPTIMIZERS["adamw"], training=True).state_dict()
    for group in state["param_groups"]:
        group.pop("decoupled_weight_decay", None)
    found = trace_of(tmp_path, state_dict=model.state_dict(), optimizer=state)
    assert found is not None
    assert found.used is Used.BATCH


def test_mixed_precision(tmp_path: Path) -> None:
    """Forwards in bfloat16 round gradients, and do not bring one to life."""
    for training, used in ((True, Used.BATCH), (False, Used.STORED)):
        model = sequential()
        optimizer = stepped(model, OPTIMIZERS["adam"], training=training, autocast=True)
        found = trace_of(tmp_path, model=model.state_dict(), opt=optimizer.state_dict())
        assert found is not None
        assert found.used is used


def test_lightning_keeps_a_list_of_optimizers(tmp_path: Path) -> None:
    """``optimizer_states`` is a list, and names carry the attribute's prefix."""
    model = sequential()
    optimizer = stepped(model, OPTIMIZERS["adam"], training=False)
    named = {f"net.{name}": tensor for name, tensor in model.state_dict().items()}
    found = trace_of(tmp_path, state_dict=named, optimizer_states=[optimizer.state_dict()])
    assert found is not None
    assert found.used is Used.STORED


def test_a_frozen_part_and_a_tail_that_is_trained(tmp_path: Path) -> None:
    """Only the last parameters were handed over: they are found by all their shapes."""
    model = sequential()
    tail = lambda m: torch.optim.Adam(list(m.parameters())[4:], 3e-3)  # noqa: E731
    optimizer = stepped(model, tail, training=True)
    found = trace_of(tmp_path, state_dict=model.state_dict(), optimizer=optimizer.state_dict())
    assert found is not None
    assert found.used is Used.BATCH
    assert len(found.ratios) == 1


def test_names_that_do_not_tell_what_stands_between(tmp_path: Path) -> None:
    """Vanished gradients convict in any order of modules; live ones leave a doubt."""
    for training, used in ((True, Used.BATCH), (False, Used.STORED)):
        model = Named()
        optimizer = stepped(model, OPTIMIZERS["adam"], training=training)
        found = trace_of(tmp_path, state_dict=model.state_dict(), optimizer=optimizer.state_dict())
        assert found is not None
        assert found.used is used
        assert not found.adjacent


def test_what_tells_nothing(tmp_path: Path) -> None:
    """No momentum, normalised gradients, another model's optimizer, and two that fit."""
    model = sequential()
    whole = {"state_dict": model.state_dict()}
    plain = stepped(model, lambda m: torch.optim.SGD(m.parameters(), 0.02), training=False)
    assert trace_of(tmp_path, **whole, optimizer=plain.state_dict()) is None
    rms = lambda m: torch.optim.RMSprop(m.parameters(), 1e-3, momentum=0.9)  # noqa: E731
    scaled = stepped(model, rms, training=True)
    assert trace_of(tmp_path, **whole, optimizer=scaled.state_dict()) is None
    other = nn.Sequential(nn.Conv2d(2, 8, 5), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1),
                          nn.Flatten(), nn.Linear(8, 3))  # fmt: skip
    foreign = stepped(other, OPTIMIZERS["adam"], training=False)
    assert trace_of(tmp_path, **whole, optimizer=foreign.state_dict()) is None
    one = stepped(model, OPTIMIZERS["adam"], training=False).state_dict()
    assert trace_of(tmp_path, **whole, a=one, b=copy.deepcopy(one)) is None
    assert trace_of(tmp_path, **whole) is None


def test_without_biases_filters_tell_train_mode_only(tmp_path: Path) -> None:
    """A gradient orthogonal to each filter shows batch statistics; another shows nothing."""
    for training in (True, False):
        model = sequential(bias=False)
        # Steps so short that the weights are still those of the first gradient.
        slow = lambda m: torch.optim.SGD(m.parameters(), 1e-5, momentum=0.9)  # noqa: E731
        optimizer = stepped(model, slow, training=training)
        found = trace_of(tmp_path, state_dict=model.state_dict(), optimizer=optimizer.state_dict())
        if training:
            assert found is not None
            assert (found.used, found.ratios) == (Used.BATCH, ())
            assert max(found.cosines) < 0.05
        else:
            assert found is None
