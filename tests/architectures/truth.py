"""The normalization layers of a live model, and what of them its state dict can show."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.parameter import is_lazy

# SyncBatchNorm is no subclass of the numbered BatchNorm classes, nor are the lazy ones before
# their first run, when they become the class that they are listed under here.
_TORCH_KINDS: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.SyncBatchNorm, "SyncBatchNorm"),
    (nn.BatchNorm1d, "BatchNorm1d"),
    (nn.BatchNorm2d, "BatchNorm2d"),
    (nn.BatchNorm3d, "BatchNorm3d"),
    (nn.LazyBatchNorm1d, "BatchNorm1d"),
    (nn.LazyBatchNorm2d, "BatchNorm2d"),
    (nn.LazyBatchNorm3d, "BatchNorm3d"),
    (nn.InstanceNorm1d, "InstanceNorm1d"),
    (nn.InstanceNorm2d, "InstanceNorm2d"),
    (nn.InstanceNorm3d, "InstanceNorm3d"),
    (nn.LazyInstanceNorm1d, "InstanceNorm1d"),
    (nn.LazyInstanceNorm2d, "InstanceNorm2d"),
    (nn.LazyInstanceNorm3d, "InstanceNorm3d"),
    (nn.GroupNorm, "GroupNorm"),
    (nn.LayerNorm, "LayerNorm"),
    (nn.RMSNorm, "RMSNorm"),
    (nn.LocalResponseNorm, "LocalResponseNorm"),
    (nn.CrossMapLRN2d, "CrossMapLRN2d"),
)

# Ends of the class names of the transformers library, longer ones before those they end in.
_TRANSFORMERS_SUFFIXES = (
    ("RMSNorm", "RMSNorm"),
    ("RMSNormGated", "RMSNorm"),
    ("LayerNorm", "LayerNorm"),
    ("FrozenBatchNorm2d", "FrozenBatchNorm2d"),
    ("BatchNorm1d", "BatchNorm1d"),
    ("BatchNorm2d", "BatchNorm2d"),
    ("GroupNorm", "GroupNorm"),
    ("L2Norm", "L2Norm"),
    ("GRN", "GRN"),
)
# Called LayerNorms, but neither centred nor shifted.
_TRANSFORMERS_RMS_NORMS = frozenset(
    f"{model}LayerNorm"
    for model in (
        "CpmAnt",
        "ImageGPT",
        "LongT5",
        "MT5",
        "Pix2Struct",
        "Pop2Piano",
        "SwitchTransformers",
        "T5",
        "UMT5",
        "Udop",
    )
)


class Trace(NamedTuple):
    """What a state dict shows of one norm.

    ``family`` is what the keys alone can tell:

    * ``batch``: running_mean and running_var, whatever else there is
    * ``affine``: one 1-D weight (or gamma) and at most a bias (or beta) of its shape
    * ``affine_nd``: a pair of those with more dimensions, such as (8, 8) or (1, C, 1)
    * ``custom``: own names or shapes, which only a reader who knows the class can place
    """

    kind: str
    family: str
    keys: tuple[str, ...]


def kind_of(module: nn.Module) -> str | None:
    """Name the kind of normalization layer that ``module`` is, or None where it is none."""
    declared = getattr(type(module), "norm_kind", None)
    if isinstance(declared, str):
        return declared
    for norm, kind in _TORCH_KINDS:
        if isinstance(module, norm):
            return kind
    # The norms on quantized integers derive from the private base of all batch norms.
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return type(module).__name__
    if type(module).__module__.startswith("transformers."):
        return _transformers_kind(module)
    return None


def _transformers_kind(module: nn.Module) -> str | None:
    """Go by the class name, as most of the library's models define norms of their own."""
    name = type(module).__name__
    # Encoders such as Wav2Vec2EncoderStableLayerNorm end in a norm's name and have parts.
    if any(True for _ in module.children()):
        return None
    if name in _TRANSFORMERS_RMS_NORMS:
        return "RMSNorm"
    return next((kind for suffix, kind in _TRANSFORMERS_SUFFIXES if name.endswith(suffix)), None)


def norms_of(model: nn.Module) -> dict[str, str]:
    """Map the path of every normalization layer to its kind, a shared one under its first path."""
    kinds = ((path, kind_of(module)) for path, module in model.named_modules())
    return {path: kind for path, kind in kinds if kind is not None}


def aliases_of(model: nn.Module) -> dict[str, str]:
    """Map every further path of a shared norm to the first one, which norms_of lists."""
    first: dict[int, str] = {}
    aliases: dict[str, str] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if kind_of(module) is None:
            continue
        seen = first.setdefault(id(module), path)
        if seen != path:
            aliases[path] = seen
    return aliases


def state_dict_truth(model: nn.Module) -> dict[str, Trace]:
    """Map the path of every norm that has a tensor in the state dict to what it shows there."""
    modules = dict(model.named_modules())
    saved = model.state_dict(keep_vars=True)
    truth: dict[str, Trace] = {}
    for path, kind in norms_of(model).items():
        own = _own_tensors(saved, path, modules[path])
        if own:
            truth[path] = Trace(kind, family_of(own) or "custom", tuple(own))
    return truth


def lookalikes_of(model: nn.Module) -> set[str]:
    """Find every childless module that is no norm and whose keys and shapes could be one's."""
    saved = model.state_dict(keep_vars=True)
    found: set[str] = set()
    for path, module in model.named_modules():
        if kind_of(module) is not None or any(True for _ in module.children()):
            continue
        own = _own_tensors(saved, path, module)
        if own and family_of(own) is not None:
            found.add(path)
    return found


def family_of(own: dict[str, torch.Tensor]) -> str | None:
    """Name the family that a module's own keys and shapes speak for, None where they do not."""
    if {"running_mean", "running_var"} <= own.keys():
        return "batch"
    for scale, shift in (("weight", "bias"), ("gamma", "beta")):
        if scale not in own or not own.keys() <= {scale, shift}:
            continue
        if any(is_lazy(tensor) for tensor in own.values()):
            return None
        if len({tensor.shape for tensor in own.values()}) > 1:
            return None
        dimensions = own[scale].ndim
        if dimensions == 1:
            return "affine"
        # A lone matrix is a projection without bias; only a pair of one shape speaks for a norm.
        if dimensions > 1 and shift in own:
            return "affine_nd"
    return None


def _own_tensors(
    saved: dict[str, torch.Tensor], path: str, module: nn.Module
) -> dict[str, torch.Tensor]:
    """Select what is saved for ``module`` itself, by the names relative to it."""
    prefix = f"{path}." if path else ""
    children = {name for name, child in module.named_children() if name != "parametrizations"}
    own: dict[str, torch.Tensor] = {}
    for key, tensor in saved.items():
        if not key.startswith(prefix) or not isinstance(tensor, torch.Tensor):
            continue
        name = key.removeprefix(prefix)
        if "." not in name or name.split(".")[0] not in children:
            own[name] = tensor
    return own
