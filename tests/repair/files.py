"""Files for repairs: the sample network with lost statistics, in every kind of file."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from normcheck.cli.flags.run_words import requested
from normcheck.config.flags.running_flags import RunFlags
from normcheck.repair.repair_request import Fixing
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
