"""The architectures are what their registries say that they are."""

from __future__ import annotations

import io
import re
import warnings

import pytest
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from . import (
    ARCHITECTURES,
    EXAMPLE_INPUTS,
    HIDDEN,
    HUGGINGFACE_LOOKALIKES,
    HUGGINGFACE_STATE_DICT_ONLY,
    LOOKALIKES,
    MISNAMED,
    STATE_DICT_ONLY,
    WITHOUT_NORMS,
    aliases_of,
    huggingface_architectures,
    huggingface_example_inputs,
    kind_of,
    lookalikes_of,
    norms_of,
    state_dict_truth,
)

pytestmark = pytest.mark.slow

LIMIT = 300_000
FACTORIES = {**ARCHITECTURES, **huggingface_architectures()}
REFUSED = {**STATE_DICT_ONLY, **HUGGINGFACE_STATE_DICT_ONLY}
INPUTS = {**EXAMPLE_INPUTS, **huggingface_example_inputs()}

every_name = pytest.mark.parametrize("name", sorted(FACTORIES))


def build(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return FACTORIES[name]().train()


def saved(thing: object) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # Old-style storages of quantized tensors warn when they are written.
        warnings.simplefilter("ignore")
        torch.save(thing, stream)
    return stream.getvalue()


def test_there_are_many() -> None:
    assert len(ARCHITECTURES) >= 40
    registered = set(EXAMPLE_INPUTS) | set(LOOKALIKES) | set(HIDDEN) | set(STATE_DICT_ONLY)
    assert registered <= set(ARCHITECTURES)
    assert {name for name in WITHOUT_NORMS if not name.startswith("hf_")} <= set(ARCHITECTURES)


@every_name
def test_norms_are_known(name: str) -> None:
    norms = norms_of(build(name))
    assert bool(norms) == (name not in WITHOUT_NORMS)


@every_name
def test_state_dict_is_small_and_shows_the_norms(name: str) -> None:
    model = build(name)
    truth = state_dict_truth(model)
    keys = model.state_dict().keys()
    assert len(saved(model.state_dict())) < LIMIT
    assert truth.keys() <= norms_of(model).keys()
    for path, trace in truth.items():
        assert {f"{path}.{key}" if path else key for key in trace.keys} <= keys
    silent = norms_of(model).keys() - truth.keys()
    assert not [path for path in silent if list(model.get_submodule(path).parameters())]


@every_name
def test_same_seed_gives_the_same_model(name: str) -> None:
    first, second = build(name).state_dict(), build(name).state_dict()
    assert first.keys() == second.keys()
    for key, tensor in first.items():
        if not isinstance(tensor, torch.Tensor) or is_lazy(tensor):
            continue
        assert torch.equal(tensor, second[key]), key


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_training_step_runs(name: str) -> None:
    model = build(name)
    before = norms_of(model)
    assert model(*INPUTS[name]()) is not None
    assert norms_of(model) == before


@pytest.mark.parametrize("name", sorted(FACTORIES.keys() - REFUSED.keys()))
def test_whole_model_can_be_saved(name: str) -> None:
    model = build(name)
    loaded = torch.load(io.BytesIO(saved(model)), weights_only=False)
    assert norms_of(loaded) == norms_of(model)


@pytest.mark.parametrize("name", sorted(FACTORIES.keys() & REFUSED.keys()))
def test_whole_model_is_refused(name: str) -> None:
    with pytest.raises((AttributeError, RuntimeError)):
        saved(build(name))


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_lookalikes_are_listed(name: str) -> None:
    assert lookalikes_of(build(name)) == LOOKALIKES.get(name, {}).keys()


@every_name
def test_misleading_class_names_are_listed(name: str) -> None:
    classes = {type(module).__name__ for module in build(name).modules() if not kind_of(module)}
    assert {
        found for found in classes if re.search("norm", found, re.IGNORECASE)
    } <= MISNAMED.keys()


def test_lookalikes_of_the_library_are_listed() -> None:
    pytest.importorskip("transformers")
    for name in huggingface_architectures():
        model = build(name)
        classes = {type(model.get_submodule(path)).__name__ for path in lookalikes_of(model)}
        assert classes <= HUGGINGFACE_LOOKALIKES.keys(), name


def test_shared_norms_are_listed_once() -> None:
    model = build("tied_norms")
    assert aliases_of(model) == {"bn2": "bn1", "second.0": "first.0"}
    assert norms_of(model) == {
        "bn1": "BatchNorm2d",
        "first.0": "LayerNorm",
        "second.1": "LayerNorm",
    }


def test_norms_of_some_models_in_full() -> None:
    assert norms_of(build("faster_rcnn_frozen")) == {
        f"backbone.body.{path}": "FrozenBatchNorm2d"
        for path in (
            "bn1",
            *(f"layer{i}.{j}.bn{k}" for i in (1, 2) for j in (0, 1) for k in (1, 2, 3)),
            *(f"layer{i}.0.downsample.1" for i in (1, 2)),
        )
    }
    parts = ("self_attn.q_norm", "self_attn.k_norm", "input_layernorm", "post_attention_layernorm")
    layers = {f"model.layers.{i}.{part}": "RMSNorm" for i in (0, 1) for part in parts}
    assert norms_of(build("qwen3")) == layers | {"model.norm": "RMSNorm"}
    assert norms_of(build("sync_batchnorm")) == {"1": "SyncBatchNorm", "3": "SyncBatchNorm"}
    assert norms_of(build("lazy_never_run")) == {"1": "BatchNorm2d", "2": "InstanceNorm2d"}
    assert norms_of(build("norm_is_the_root")) == {"": "BatchNorm2d"}
    assert norms_of(build("alexnet_lrn")) == {f"features.{i}": "LocalResponseNorm" for i in (2, 5)}


def test_hidden_norms_are_no_modules() -> None:
    for name, hidden in HIDDEN.items():
        assert not hidden.keys() & dict(build(name).named_modules()).keys()


def test_families_of_norms_without_their_class() -> None:
    families = {
        path: trace.family for path, trace in state_dict_truth(build("batchnorm_options")).items()
    }
    assert families == {"no_affine": "batch", "no_stats": "affine", "cumulative": "batch"}
    tracking = state_dict_truth(build("cyclegan_tracking"))
    assert {trace[:2] for trace in tracking.values()} == {("InstanceNorm2d", "batch")}
    matrix = state_dict_truth(build("layernorm_of_matrix"))
    assert [trace.family for trace in matrix.values()] == ["affine_nd", "custom"]
