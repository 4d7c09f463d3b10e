"""Models saved in the forms that people use, and what is found in them."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.norms.anatomy import Anatomy
from normcheck.norms.find_norms import anatomy_of
from normcheck.norms.layer import NormLayer
from tests.architectures import (
    ARCHITECTURES,
    HUGGINGFACE_STATE_DICT_ONLY,
    STATE_DICT_ONLY,
    huggingface_architectures,
)

# Threads cost more than they bring on models of this size, and fight where tests run side by side.
torch.set_num_threads(1)

FACTORIES: dict[str, Callable[[], nn.Module]] = {**ARCHITECTURES, **huggingface_architectures()}
NO_MODULE = {**STATE_DICT_ONLY, **HUGGINGFACE_STATE_DICT_ONLY}
"""Architectures that torch.save refuses as whole modules."""


def build(name: str) -> nn.Module:
    """An architecture, the same at every call."""
    torch.manual_seed(0)
    return FACTORIES[name]()


def save(thing: object, path: Path, **options: Any) -> Path:
    """torch.save, without the warnings on old quantized storages."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(thing, path, **options)
    return path


def as_state_dict(model: nn.Module, folder: Path) -> Path:
    """The usual file: a state dict, with its metadata."""
    return save(model.state_dict(), folder / "state_dict.pt")


def as_module(model: nn.Module, folder: Path) -> Path:
    """The whole module."""
    return save(model, folder / "module.pt")


def as_legacy(model: nn.Module, folder: Path) -> Path:
    """The file format from before torch 1.6."""
    path = folder / "legacy.pth"
    return save(model.state_dict(), path, _use_new_zipfile_serialization=False)


def as_plain_dict(model: nn.Module, folder: Path) -> Path:
    """A dictionary that somebody put together: no metadata."""
    return save(dict(model.state_dict()), folder / "plain.pt")


def as_safetensors(model: nn.Module, folder: Path) -> Path:
    """Tensors by name and nothing else, in an order of the format's own."""
    path = folder / "model.safetensors"
    tensors = {
        name: tensor.clone().contiguous()
        for name, tensor in model.state_dict().items()
        if isinstance(tensor, torch.Tensor)
    }
    save_file(tensors, str(path))
    return path


def anatomies(path: Path) -> list[Anatomy]:
    """What is found in the file, by model."""
    checkpoint = read_checkpoint(path)
    try:
        return [anatomy_of(model) for model in checkpoint.models]
    finally:
        checkpoint.close()


def layers_in(path: Path) -> dict[str, NormLayer]:
    """The norms of a file, by path: an average within a model is a model of its own."""
    each = anatomies(path)
    found = {
        f"{anatomy.where}.{layer.path}".strip("."): layer
        for anatomy in each
        for layer in anatomy.layers
    }
    assert len(found) == sum(len(anatomy.layers) for anatomy in each)
    return found
