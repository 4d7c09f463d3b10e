"""The norms found in saved files are those of the live models, for every architecture."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from normcheck.norms.kinds import Family
from normcheck.norms.layer import Confidence, Momentum, NormLayer
from tests.architectures import (
    ARCHITECTURES,
    HIDDEN,
    LOOKALIKES,
    aliases_of,
    lookalikes_of,
    norms_of,
    state_dict_truth,
)
from tests.norms.saved import (
    FACTORIES,
    NO_MODULE,
    as_module,
    as_plain_dict,
    as_safetensors,
    as_state_dict,
    build,
    layers_in,
)

pytestmark = pytest.mark.slow

every_name = pytest.mark.parametrize("name", sorted(FACTORIES))
every_module = pytest.mark.parametrize("name", sorted(FACTORIES.keys() - NO_MODULE.keys()))

CUSTOM = {"GRN", "L2Norm", "PixelNorm", "ScaleNorm"}
"""Kinds of the architectures that normcheck knows no facts of."""
OFFSET = {"GemmaRMSNorm", "Gemma2RMSNorm", "Gemma3RMSNorm", "Qwen3NextRMSNorm"}

UNKNOWABLE = {
    ("layernorm_called_bn", "conv"): "an RMSNorm called conv: a lone weight",
    ("layernorm_options", "no_bias"): "a LayerNorm without a bias: a lone weight",
    ("layernorm_options", "one_channel"): "two single numbers are no more than a scale and a shift",
    ("bfloat16_norms", "2"): "an RMSNorm in a Sequential: a lone weight",
    ("strange_names", "bias"): "an RMSNorm called bias: a lone weight",
}
"""Norms whose tensors in a state dict look like something else, under a name that is no norm's."""

FAMILIES = {
    "BatchNorm": {Family.BATCH},
    # Statistics show, but not that nothing ever updates them.
    "FrozenBatchNorm2d": {Family.BATCH},
    "SyncBatchNorm": {Family.BATCH},
    # With statistics it looks like a BatchNorm; without, metadata tells.
    "InstanceNorm": {Family.BATCH, Family.INSTANCE},
    # One weight and one bias a channel, which LayerNorm has as well.
    "GroupNorm": {Family.GROUP, Family.PER_SAMPLE, Family.LAYER},
    # Without a bias it looks like an RMSNorm.
    "LayerNorm": {Family.LAYER, Family.PER_SAMPLE, Family.RMS},
    "RMSNorm": {Family.RMS},
}
"""What a state dict may show of a kind."""
BUILT_WITHOUT_STATISTICS = {("batchnorm_options", "no_stats")}
"""A BatchNorm in whose state dict nothing tells it from the much commoner InstanceNorm."""


def expected_kind(module: nn.Module, kind: str) -> str:
    """The name of the kind in normcheck's table, which is finer here and coarser there."""
    name = type(module).__name__
    if kind in CUSTOM:
        return "custom norm"
    if kind == "CrossMapLRN2d":
        return "LocalResponseNorm"
    if kind == "GlobalLayerNorm":
        return "LayerNorm"
    if kind.startswith("InstanceNorm") and getattr(module, "track_running_stats", False):
        return "tracking InstanceNorm"
    if kind == "RMSNorm" and name in OFFSET:
        return "RMSNorm (1 + weight)"
    if kind == "LayerNorm" and (
        "2d" in name or getattr(module, "data_format", "") == "channels_first"
    ):
        return "LayerNorm2d"
    return kind


@every_module
def test_whole_module(name: str, tmp_path: Path) -> None:
    """Exactly the registered norms, each of the right kind, and the hidden ones apart."""
    model = build(name)
    found = layers_in(as_module(model, tmp_path))
    truth = {
        path: expected_kind(model.get_submodule(path), kind)
        for path, kind in norms_of(model).items()
    }
    assert {path: n.kind.name for path, n in found.items() if n.reached} == truth
    hidden = {path: n.kind.name for path, n in found.items() if not n.reached}
    assert hidden == HIDDEN.get(name, {})
    aliases = {alias: path for path, n in found.items() for alias in n.aliases}
    assert aliases == aliases_of(model)


def numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().reshape(-1).numpy()


def assert_same_numbers(layer: NormLayer, module: nn.Module) -> None:
    for name in ("running_mean", "running_var", "weight", "bias"):
        tensor, stored = getattr(module, name, None), getattr(layer, name)
        if isinstance(tensor, torch.Tensor) and layer.kind.family is not Family.CUSTOM:
            assert stored is not None, name
            np.testing.assert_array_equal(stored.numbers, numbers(tensor))
            assert stored.dtype.name == str(tensor.dtype).removeprefix("torch.")
        elif tensor is None and name.startswith("running"):
            assert stored is None, name
    counted = getattr(module, "num_batches_tracked", None)
    if isinstance(counted, torch.Tensor):
        assert layer.batches is not None
        assert layer.batches.value == counted.item()


@pytest.mark.parametrize("name", sorted(ARCHITECTURES.keys() - NO_MODULE.keys()))
def test_configuration_and_numbers_of_whole_modules(name: str, tmp_path: Path) -> None:
    """Mode, eps, momentum, flags and every value are those of the live module."""
    model = build(name)
    for path, layer in layers_in(as_module(model, tmp_path)).items():
        if not layer.reached or layer.uninitialised:
            continue
        module = model.get_submodule(path)
        assert layer.training is module.training
        assert layer.eps == getattr(module, "eps", getattr(module, "variance_epsilon", None))
        momentum = getattr(module, "momentum", None)
        assert layer.momentum == momentum or (
            momentum is None and layer.momentum is Momentum.CUMULATIVE
        )
        assert layer.track_running_stats is getattr(module, "track_running_stats", None)
        assert_same_numbers(layer, module)
        size = getattr(module, "num_features", getattr(module, "num_channels", layer.features))
        assert layer.features == size


def names_of(found: Mapping[str, NormLayer]) -> set[str]:
    """Every name that a norm has: tensors that are shared are one layer under several."""
    return {name for path, layer in found.items() for name in (path, *layer.aliases)}


@every_name
def test_state_dict(name: str, tmp_path: Path) -> None:
    """Every norm that a state dict can show is found, and nothing that is none."""
    model = build(name)
    found = layers_in(as_state_dict(model, tmp_path))
    truth = state_dict_truth(model)
    unknowable = {path for model_name, path in UNKNOWABLE if model_name == name}
    due = {path for path, trace in truth.items() if trace.family != "custom"} - unknowable
    assert due <= names_of(found)
    assert not unknowable & found.keys()
    either_way = LOOKALIKES.get(name, {}).keys() | lookalikes_of(model) | aliases_of(model).keys()
    assert found.keys() - truth.keys() <= either_way


@every_name
def test_families_in_a_state_dict(name: str, tmp_path: Path) -> None:
    """Norms with statistics are told from those without, whatever their name is."""
    model = build(name)
    found = layers_in(as_state_dict(model, tmp_path))
    for path, trace in state_dict_truth(model).items():
        if path not in found:
            continue
        layer = found[path]
        assert (trace.family == "batch") == layer.has_statistics or layer.uninitialised
        allowed = next((f for start, f in FAMILIES.items() if trace.kind.startswith(start)), None)
        if allowed is not None and (name, path) not in BUILT_WITHOUT_STATISTICS:
            assert layer.kind.family in allowed, (path, trace)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_without_metadata(name: str, tmp_path: Path) -> None:
    """A plain dictionary and safetensors show the same norms, statistics and numbers."""
    model = build(name)
    with_metadata = layers_in(as_state_dict(model, tmp_path))
    files = [as_plain_dict(model, tmp_path)]
    if not any(layer.uninitialised for layer in with_metadata.values()):
        files.append(as_safetensors(model, tmp_path))
    for file in files:
        found = layers_in(file)
        tracked, here = (
            names_of({path: layer for path, layer in norms.items() if layer.has_statistics})
            for norms in (with_metadata, found)
        )
        assert here == tracked
        # Only metadata tells the one norm on integers that has a scale and a zero point.
        assert names_of(with_metadata) - names_of(found) <= (
            {"2"} if name == "quantized_norms" else set()
        )
        assert names_of(found) <= names_of(with_metadata)
        assert all(layer.norm_base is None for layer in found.values())


def test_dimensions_from_the_neighbours(tmp_path: Path) -> None:
    """A state dict's BatchNorm gets its dimensions from the weights around it, nearly always."""
    right = wrong = unknown = 0
    for name in ARCHITECTURES:
        model = build(name)
        found = layers_in(as_state_dict(model, tmp_path))
        for path, trace in state_dict_truth(model).items():
            if trace.kind.startswith("BatchNorm") and path in found:
                unknown += found[path].kind.name == "BatchNorm"
                right += found[path].kind.name == trace.kind
                wrong += found[path].kind.name not in ("BatchNorm", trace.kind)
    assert right > 200
    assert wrong <= 12
    assert unknown <= 3


@every_name
def test_every_recognition_has_a_reason(name: str, tmp_path: Path) -> None:
    """A reader is told why something is taken for a norm, and how sure that is."""
    files = [as_state_dict(build(name), tmp_path)]
    if name not in NO_MODULE:
        files.append(as_module(build(name), tmp_path))
    for file in files:
        for layer in layers_in(file).values():
            assert len(layer.recognition.reason) > 5
            assert layer.recognition.confidence in Confidence
            if layer.has_statistics:
                assert layer.recognition.confidence is Confidence.HIGH
