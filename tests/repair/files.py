"""Files for repairs: the sample network with lost statistics, in every kind of file."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from normcheck.cli.flags.run_words import requested
from normcheck.config.flags.running_flags import RunFlags
from normcheck.repair.repair_request import Fixing
from sample_models.data import load
from sample_models.networks import DigitsNet
from tests.conftest import SAMPLES

DATA = str(SAMPLES / "digits.npz")
MODEL = "sample_models.networks:DigitsNet"
LOST = SAMPLES / "statistics-lost.pt"
HEALTHY = SAMPLES / "digits-healthy.pt"
TRAINED_IN_EVAL = SAMPLES / "never-updated-trained-in-eval.pt"


def wanted(output: Path | None = None, **more: object) -> Fixing:
    """A re-estimation of the sample network on the sample data."""
    run = {name: more.pop(name) for name in ("model", "data", "prefix", "trust") if name in more}
    words = RunFlags(**{"model": MODEL, "data": DATA, "samples": 10_000, "batch_size": 512, **run})  # type: ignore[arg-type]
    return Fixing(str(output) if output else "", running=requested(words), **more)  # type: ignore[arg-type]


def lost_state() -> dict[str, Tensor]:
    """The state dict whose statistics are back at 0 and 1."""
    state: dict[str, Tensor] = torch.load(LOST, weights_only=True)
    return state


def lost_model() -> nn.Module:
    """The network with lost statistics, in eval mode."""
    model = DigitsNet()
    model.load_state_dict(lost_state())
    return model.eval()


def small() -> nn.Module:
    """Two convolutions with norms, for the sample's images."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip


def trained_with_adam(path: Path, *, training: bool) -> Path:
    """A checkpoint of it after 20 batches, with the optimizer's state and statistics of 0 and 1.

    Args:
        path: Where to save it.
        training: Whether it learned in train mode, and lost its statistics afterwards; else it
            learned in eval mode.
    """
    torch.manual_seed(0)
    model = small().train(training)
    train, _ = load()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for rows in torch.arange(640).split(32):
        optimizer.zero_grad()
        x, y = train.inputs["images"][rows], train.labels[rows]
        torch.autograd.backward(nn.functional.cross_entropy(model(x), y))
        optimizer.step()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.reset_running_stats()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
    return path


def halved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same in half precision, as ``model.half()`` makes it."""
    return {name: t.half() if t.is_floating_point() else t for name, t in state.items()}


def saved(kind: str, folder: Path) -> Path:
    """The lost state dict in a file of some kind."""
    path = folder / f"lost.{kind}"
    state = lost_state()
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "legacy":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif kind == "module":
        torch.save(lost_model(), path)
    elif kind == "half":
        torch.save(halved(state), path)
    else:
        torch.save({"model": state, "note": "kept", "history": [1, 2.5, {"a": (3,)}]}, path)
    return path


def statistics(path: Path) -> dict[str, Tensor]:
    """Running means and variances of a file of state dicts, in float64."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(path)
    else:
        value = torch.load(path, weights_only=False)
        value = value.get("model", value) if isinstance(value, dict) else value.state_dict()
        state = value
    return {name: t.double() for name, t in state.items() if ".running_" in name}
