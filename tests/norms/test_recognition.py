"""What is taken for a norm in a state dict, what is not, and why."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from normcheck.norms.kinds import Family
from normcheck.norms.layer import Confidence, NormLayer
from tests.norms.saved import (
    anatomies,
    as_module,
    as_plain_dict,
    as_state_dict,
    layers_in,
    save,
)

ONES = torch.ones(8)


def recognised(tmp_path: Path, **tensors: torch.Tensor) -> dict[str, NormLayer]:
    """The norms of a plain dictionary of tensors; ``__`` stands for a dot."""
    named = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    return layers_in(save(named, tmp_path / "state.pt"))


def named(**modules: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(modules))


@pytest.mark.parametrize("prefix", ["module", "_orig_mod", "model", "_orig_mod.module", "net.0"])
def test_prefixes_stay_and_do_not_disturb(prefix: str, tmp_path: Path) -> None:
    """A wrapper's name in front is kept in the path and changes nothing else."""
    model = named(conv1=nn.Conv2d(3, 8, 3), bn1=nn.BatchNorm2d(8), ln=nn.LayerNorm(8))
    bare = layers_in(as_state_dict(model, tmp_path))
    prefixed = {f"{prefix}.{name}": t for name, t in model.state_dict().items()}
    found = layers_in(save(prefixed, tmp_path / "prefixed.pt"))
    assert list(found) == [f"{prefix}.{path}" for path in bare]
    assert [n.kind for n in found.values()] == [n.kind for n in bare.values()]
    assert found[f"{prefix}.bn1"].recognition == bare["bn1"].recognition


def test_statistics_are_certain(tmp_path: Path) -> None:
    """Both running statistics are a BatchNorm under any name, with the evidence as reason."""
    found = layers_in(as_plain_dict(named(a=nn.Linear(4, 8), b=nn.BatchNorm1d(8)), tmp_path))
    assert list(found) == ["b"]
    assert found["b"].recognition.confidence is Confidence.HIGH
    reason = "has running_mean and running_var; beside a weight of 2 dimensions"
    assert found["b"].recognition.reason == reason


def test_half_of_the_statistics_is_less_certain(tmp_path: Path) -> None:
    """One of the two is still taken for a BatchNorm, with less confidence."""
    found = recognised(tmp_path, x__weight=ONES, x__bias=ONES, x__running_mean=ONES)["x"]
    assert found.kind.family is Family.BATCH
    assert found.recognition.confidence is Confidence.MEDIUM
    assert not found.has_statistics


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("norm1", "LayerNorm"),
        ("input_layernorm", "LayerNorm"),
        ("ln_f", "LayerNorm"),
        ("group_norm", "GroupNorm"),
        ("gn1", "GroupNorm"),
        ("rms_norm", "RMSNorm"),
    ],
)
def test_names_that_tell_the_kind(name: str, kind: str, tmp_path: Path) -> None:
    """Weight and bias under a norm's name: medium confidence, and the name is the reason."""
    found = recognised(tmp_path, **{f"x__{name}__weight": ONES, f"x__{name}__bias": ONES})
    layer = found[f"x.{name}"]
    assert layer.kind.name == kind
    assert layer.recognition.confidence is Confidence.MEDIUM
    assert layer.recognition.reason.startswith(f"called {name}, ")


def test_one_shape_without_a_name(tmp_path: Path) -> None:
    """A weight and a bias of one shape may be a project's own scaling: low confidence."""
    found = recognised(tmp_path, a__weight=torch.ones(8, 4), x__weight=ONES, x__bias=ONES)
    assert list(found) == ["x"]
    assert found["x"].recognition.confidence is Confidence.LOW


def test_metadata_tells_batch_and_instance_norm(tmp_path: Path) -> None:
    """Version 2 without statistics: an InstanceNorm, or a BatchNorm where the name says so."""
    model = named(
        conv=nn.Conv3d(3, 8, 3),
        x=nn.InstanceNorm3d(8, affine=True),
        bn=nn.BatchNorm3d(8, track_running_stats=False),
        ln=nn.LayerNorm(8),
    )
    found = layers_in(as_state_dict(model, tmp_path))
    assert [n.kind.name for n in found.values()] == ["InstanceNorm3d", "BatchNorm3d", "LayerNorm"]
    assert [n.norm_base for n in found.values()] == [True, True, False]
    assert found["x"].recognition.confidence is Confidence.MEDIUM


def test_behind_a_linear_layer_is_no_instance_norm(tmp_path: Path) -> None:
    """Version 2 without statistics, where there is no space to average over: a BatchNorm1d."""
    mlp = named(
        a=nn.Linear(4, 8), x=nn.BatchNorm1d(8, track_running_stats=False), b=nn.Linear(8, 2)
    )
    sequence = named(a=nn.Conv1d(4, 8, 3), x=nn.InstanceNorm1d(8, affine=True))
    kinds = [layers_in(as_state_dict(m, tmp_path))["x"].kind.name for m in (mlp, sequence)]
    assert kinds == ["BatchNorm1d", "InstanceNorm1d"]


def test_lone_weights_need_a_name(tmp_path: Path) -> None:
    """A PReLU and a LayerScale hold one weight a channel, as an RMSNorm does."""
    found = recognised(
        tmp_path,
        act__weight=ONES,
        block__ls1__gamma=ONES,
        block__layer_scale=ONES,
        final_norm__weight=ONES,
    )
    assert list(found) == ["final_norm"]
    assert found["final_norm"].kind.name == "RMSNorm"


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(3, 8, 3),
        nn.Linear(8, 8),
        nn.Linear(8, 1),
        nn.Embedding(8, 8),
        nn.LSTM(8, 8),
        nn.PReLU(),
        nn.Bilinear(8, 8, 8),
    ],
    ids=lambda module: type(module).__name__,
)
def test_layers_with_a_norms_name(module: nn.Module, tmp_path: Path) -> None:
    """A convolution called norm is a convolution: names alone convince nobody."""
    model = named(norm=nn.Identity(), first=nn.Linear(4, 4))
    model.norm = module
    expected = {"norm"} if isinstance(module, nn.PReLU) else set()
    assert layers_in(as_state_dict(model, tmp_path)).keys() <= expected
    assert layers_in(as_module(model, tmp_path)) == {}


def test_reparametrisations_are_no_norms(tmp_path: Path) -> None:
    """Weight norm and spectral norm, old and new, normalise weights and not activations."""
    model = named(
        a=parametrizations.weight_norm(nn.Conv1d(4, 8, 3)),
        b=parametrizations.spectral_norm(nn.Linear(8, 8)),
        c=nn.utils.spectral_norm(nn.Conv2d(4, 8, 3)),
    )
    assert layers_in(as_state_dict(model, tmp_path)) == {}


@pytest.mark.parametrize(
    "name", ["normalize", "normalizer", "weight_norm", "spectral_norm", "normal", "abnormal"]
)
def test_names_that_only_sound_like_norms(name: str, tmp_path: Path) -> None:
    """Input scaling, reparametrisations and distributions are no layers of this kind."""
    assert recognised(tmp_path, **{f"{name}__weight": ONES, "fc__weight": ONES[:, None]}) == {}


def test_scalars_are_no_norms(tmp_path: Path) -> None:
    """Temperature scaling has a weight and a bias without dimensions."""
    number = torch.tensor(1.5)
    assert recognised(tmp_path, norm__weight=number, norm__bias=number, fc__bias=ONES) == {}


def test_shapes_must_agree(tmp_path: Path) -> None:
    """γ and β have one shape; a weight of another is no γ."""
    assert recognised(tmp_path, norm__weight=ONES, norm__bias=ONES[:4]) == {}


def test_gamma_and_beta(tmp_path: Path) -> None:
    """TensorFlow's names are a norm's; gamma alone is a layer scale."""
    found = recognised(tmp_path, LayerNorm__gamma=2 * ONES, LayerNorm__beta=ONES, x__gamma=ONES)
    assert list(found) == ["LayerNorm"]
    assert found["LayerNorm"].weight is not None
    assert found["LayerNorm"].weight.numbers.tolist() == [2.0] * 8


def test_parameters_of_the_model_itself(tmp_path: Path) -> None:
    """Weight and bias at the root, beside modules, belong to the model and no norm."""
    assert recognised(tmp_path, weight=ONES, bias=ONES, fc__weight=torch.ones(8, 8)) == {}


def test_layer_norm_of_a_matrix(tmp_path: Path) -> None:
    """A LayerNorm over an image has γ and β of its shape."""
    plane = torch.ones(4, 4)
    found = recognised(tmp_path, x__weight=plane, x__bias=plane)
    assert (found["x"].kind.name, found["x"].features) == ("LayerNorm", 16)


def test_values_that_cannot_be_read(tmp_path: Path) -> None:
    """A layer on the meta device is found, with the reason why it has no numbers."""
    model = named(bn=nn.BatchNorm2d(8, device="meta"))
    layer = layers_in(as_state_dict(model, tmp_path))["bn"]
    assert layer.running_mean is None
    assert not layer.has_statistics
    assert set(layer.unread) == {"running_mean", "running_var", "weight", "bias"}
    assert all(layer.unread.values())


class Renamed(nn.BatchNorm2d):
    """A user's class, of which a pickle shows the name and no base."""


class PlainStatistics(nn.Module):
    """Statistics in plain attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.running_mean = torch.zeros(8)
        self.running_var = torch.ones(8)
        self.momentum = 0.1


class Meter(nn.Module):
    """A record of what passed by, which normalises nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(8))
        self.register_buffer("running_var", torch.ones(8))


def test_own_classes_are_told_by_what_they_carry(tmp_path: Path) -> None:
    """A subclass keeps what its base's constructor set; plain attributes are marked."""
    model = named(conv=nn.Conv2d(3, 8, 3), a=Renamed(8), b=PlainStatistics(), c=Meter())
    found = layers_in(as_module(model, tmp_path))
    assert list(found) == ["a", "b"]
    assert found["a"].kind.name == "BatchNorm2d"
    assert found["a"].class_path is not None
    assert found["a"].class_path.endswith(".Renamed")
    assert "Renamed carries running_mean and running_var" in found["a"].recognition.reason
    assert found["b"].unregistered == ("running_mean", "running_var")
    assert found["a"].unregistered == ()


def test_untracked_norms_of_a_module(tmp_path: Path) -> None:
    """Buffers registered as None are known not to exist."""
    model = named(bn=nn.BatchNorm2d(8, track_running_stats=False))
    layer = layers_in(as_module(model, tmp_path))["bn"]
    assert layer.absent_buffers == {"running_mean", "running_var", "num_batches_tracked"}
    assert layer.track_running_stats is False
    assert not layer.has_statistics
    assert layer.uses_statistics


def test_what_is_known_of_the_whole_model(tmp_path: Path) -> None:
    """A module tree tells class, mode and whether anything trains; a state dict none of it."""
    model = named(conv=nn.Conv2d(3, 8, 3), bn=nn.BatchNorm2d(8))
    (state,) = anatomies(as_state_dict(model, tmp_path))
    assert not state.has_modules
    assert not state.trainable
    assert (state.class_path, state.training, state.tensor_count) == (None, None, 7)
    (module,) = anatomies(as_module(model.eval(), tmp_path))
    assert module.has_modules
    assert module.class_path == "torch.nn.modules.container.Sequential"
    assert (module.training, module.trainable, module.tensor_count) == (False, True, 7)
    (frozen,) = anatomies(as_module(model.train().requires_grad_(False), tmp_path))
    assert (frozen.training, frozen.trainable) == (True, False)
