"""Live models rebuilt from pickled trees of torch's own modules."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import spectral_norm, weight_norm

from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.live.loading.rebuild import ForeignCodeError, module_class, rebuild

pytestmark = [
    pytest.mark.kernels,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning"),
]

Case = tuple[Callable[[], nn.Module], tuple[int, ...]]


class Called(nn.Module):
    """Not torch's."""


def _norms() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU6(), nn.InstanceNorm2d(8, affine=True),
        nn.GroupNorm(2, 8), nn.LayerNorm([6, 6]), nn.RMSNorm(6), nn.LocalResponseNorm(2),
        nn.InstanceNorm2d(8, track_running_stats=True), nn.BatchNorm2d(8, momentum=None),
        nn.SyncBatchNorm(8), nn.CrossMapLRN2d(2), nn.BatchNorm2d(8, track_running_stats=False),
    )  # fmt: skip


def _convolutions() -> nn.Module:
    return nn.Sequential(
        nn.ReflectionPad2d(1), nn.Conv2d(3, 8, 3, groups=1, padding_mode="circular", padding=1),
        nn.Conv2d(8, 8, 3, padding="same", dilation=2, bias=False), nn.ConvTranspose2d(8, 4, 3),
        nn.ZeroPad2d(2), nn.MaxPool2d(2), nn.AvgPool2d(2, ceil_mode=True), nn.LPPool2d(2, 2),
        nn.AdaptiveAvgPool2d((None, 1)), nn.Flatten(), nn.Identity(),
    )  # fmt: skip


def _activations() -> nn.Module:
    return nn.Sequential(
        nn.ELU(), nn.GELU("tanh"), nn.SiLU(inplace=True), nn.Mish(), nn.Hardswish(), nn.PReLU(3),
        nn.LeakyReLU(0.3), nn.Softplus(), nn.Hardtanh(-2, 2), nn.RReLU(), nn.Threshold(0.1, 0.2),
        nn.Softmin(1), nn.LogSoftmax(1), nn.Softmax2d(), nn.GLU(2), nn.CELU(), nn.Tanhshrink(),
    )  # fmt: skip


def _dropouts() -> nn.Module:
    return nn.Sequential(
        nn.Dropout(0.1), nn.Dropout2d(0.2), nn.AlphaDropout(0.3), nn.FeatureAlphaDropout(0.1)
    )


def _shapes() -> nn.Module:
    return nn.Sequential(
        nn.PixelShuffle(2), nn.PixelUnshuffle(2), nn.ChannelShuffle(2), nn.Unfold(2), nn.Fold(4, 2),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        nn.UpsamplingNearest2d(size=(8, 8)), nn.Flatten(2), nn.Unflatten(2, (8, 8)),
    )  # fmt: skip


def _containers() -> nn.Module:
    model = nn.Sequential(OrderedDict(first=nn.Linear(6, 6), second=nn.Identity()))
    model.second.list = nn.ModuleList([nn.Linear(6, 6), nn.BatchNorm1d(6)])
    model.second.dictionary = nn.ModuleDict({"a.b".replace(".", "_"): nn.LayerNorm(6)})
    model.second.parameters_list = nn.ParameterList([torch.ones(2), torch.zeros(3)])
    model.second.parameters_dict = nn.ParameterDict({"x": torch.ones(2)})
    model.second.plain = torch.arange(3.0)
    model.second.note = ("text", 1, None, {"k": [1.5]}, {1, 2}, torch.float16, torch.Size([2]))
    return model


def _weight_norm() -> nn.Module:
    return nn.Sequential(weight_norm(nn.Conv2d(3, 4, 3)), weight_norm(nn.Conv2d(4, 4, 1), dim=None))


def _encoder(activation: Any = "gelu", **options: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, activation=activation, batch_first=True, **options)
    return nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8), enable_nested_tensor=False)


CASES: dict[str, Case] = {
    "norms": (_norms, (2, 3, 8, 8)),
    "convolutions": (_convolutions, (2, 3, 32, 32)),
    "activations": (_activations, (2, 3, 4, 4)),
    "dropouts": (_dropouts, (2, 3, 4, 4)),
    "shapes": (_shapes, (2, 4, 4, 4)),
    "containers": (_containers, (4, 6)),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)), (2, 3, 9)),
    "conv3d": (lambda: nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4)), (2, 1, 5, 5, 5)),
    "perceptron": (lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2)), (3, 5)),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(8, 2, 16), (4, 3, 8)),
    "encoder": (_encoder, (3, 4, 8)),
    "encoder, norm first": (lambda: _encoder(norm_first=True, bias=False), (3, 4, 8)),
    "encoder, functional": (lambda: _encoder(functional.silu), (3, 4, 8)),
    "encoder, module": (lambda: _encoder(nn.Mish()), (3, 4, 8)),
    "attention": (lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True), (4, 3, 8)),
    "attention, kdim": (lambda: nn.MultiheadAttention(8, 2, kdim=8, vdim=8), (4, 3, 8)),
    "transformer": (lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True), (2, 4, 8)),
    "decoder": (lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 9), 2), (4, 3, 8)),
    "lstm": (lambda: nn.LSTM(5, 6, 2, bidirectional=True, batch_first=True), (2, 4, 5)),
    "lstm, projected": (lambda: nn.LSTM(5, 6, 2, proj_size=3), (4, 2, 5)),
    "gru": (lambda: nn.GRU(5, 6, 3, bidirectional=True, dropout=0.1), (4, 2, 5)),
    "rnn": (lambda: nn.RNN(5, 6, nonlinearity="relu", bias=False), (4, 2, 5)),
    "cell": (lambda: nn.GRUCell(5, 6), (2, 5)),
    "bilinear": (lambda: nn.Bilinear(5, 5, 3), (2, 5)),
    "distance": (lambda: nn.CosineSimilarity(dim=1), (2, 5)),
    "weight norm": (_weight_norm, (2, 3, 8, 8)),
    "spectral norm": (lambda: nn.Sequential(spectral_norm(nn.Linear(5, 4))), (2, 5)),
}
INPUTS = {"attention": 3, "attention, kdim": 3, "transformer": 2, "decoder": 2, "bilinear": 2,
          "distance": 2}  # fmt: skip


def saved(model: object, folder: Path, *, legacy: bool = False) -> Path:
    path = folder / "model.pt"
    torch.save(model, path, _use_new_zipfile_serialization=not legacy)
    return path


def rebuilt(model: object, folder: Path, *, legacy: bool = False) -> Any:
    """What is made of the only model of a file."""
    checkpoint = read_checkpoint(saved(model, folder, legacy=legacy))
    try:
        (found,) = checkpoint.models
        return rebuild(found.root)
    finally:
        checkpoint.close()


def flat(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [] if value is None else [t for item in value for t in flat(item)]


def assert_equal_outputs(one: nn.Module, other: nn.Module, *inputs: Tensor) -> None:
    with torch.no_grad():
        first, second = flat(one(*inputs)), flat(other(*inputs))
    assert len(first) == len(second) > 0
    for a, b in zip(first, second, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


def trained(model: nn.Module) -> nn.Module:
    """With numbers in its statistics that no constructor writes."""
    for tensor in model.buffers():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return model


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", CASES)
def test_outputs_are_the_originals(name: str, legacy: bool, tmp_path: Path) -> None:
    """The rebuilt model gives bit for bit what the original gives, and has the same modes."""
    build, shape = CASES[name]
    torch.manual_seed(0)
    model = trained(build()).eval()
    model.train(mode=False)
    next(model.modules()).training = True  # a mode of its own at the top
    copy = rebuilt(model, tmp_path, legacy=legacy)
    assert type(copy) is type(model)
    assert [m.training for m in copy.modules()] == [m.training for m in model.modules()]
    assert list(copy.state_dict()) == list(model.state_dict())
    inputs = [torch.randn(shape) for _ in range(INPUTS.get(name, 1))]
    assert_equal_outputs(copy.eval(), model.eval(), *inputs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["perceptron", "encoder", "conv1d"])
def test_other_number_types(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """Weights keep their type, whatever the file's."""
    build, shape = CASES[name]
    model = trained(build()).to(dtype).eval()
    copy = rebuilt(model, tmp_path)
    assert_equal_outputs(copy, model, torch.randn(shape).to(dtype))


def test_embeddings(tmp_path: Path) -> None:
    """Embeddings take token numbers as before, padding and all."""
    model = nn.Sequential(nn.Embedding(9, 4, padding_idx=0), nn.LayerNorm(4)).eval()
    assert_equal_outputs(rebuilt(model, tmp_path), model, torch.arange(9)[None])
    bag = nn.EmbeddingBag(9, 4, mode="max").eval()
    assert_equal_outputs(rebuilt(bag, tmp_path), bag, torch.arange(9).view(3, 3))


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_ties_and_strides(legacy: bool, tmp_path: Path) -> None:
    """Shared modules, parameters and memory stay shared; channels-last stays channels-last."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Conv2d(3, 4, 3), nn.LayerNorm(4))
    model[1].weight = model[0].weight
    model.append(model[3])
    model[2].to(memory_format=torch.channels_last)
    model.register_buffer("row", model[0].weight.detach()[1])
    model[0].bias.requires_grad_(False)
    copy = rebuilt(model, tmp_path, legacy=legacy)
    assert copy[0].weight is copy[1].weight
    assert copy[3] is copy[4]
    assert copy[2].weight.stride() == model[2].weight.stride()
    assert copy[2].weight.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        copy[0].weight[1, 2] = 42
    assert copy.row[2] == 42
    assert [p.requires_grad for p in copy.parameters()] == [
        p.requires_grad for p in model.parameters()
    ]


def test_activation_from_torch_itself(tmp_path: Path) -> None:
    """An activation that was given as torch.tanh is torch's own as much as F.silu."""
    model = _encoder(torch.tanh).eval()
    assert_equal_outputs(rebuilt(model, tmp_path), model, torch.ones(3, 4, 8))


def test_plain_attributes(tmp_path: Path) -> None:
    """Attributes of plain types come back as what they were."""
    copy = rebuilt(_containers(), tmp_path)
    assert copy.second.note == (
        "text", 1, None, {"k": [1.5]}, {1, 2}, torch.float16, torch.Size([2]),
    )  # fmt: skip
    assert torch.equal(copy.second.plain, torch.arange(3.0))
    assert copy.second.parameters_list[0].requires_grad
    assert copy.second.parameters_dict["x"].shape == (2,)


def own_hook(*_: object) -> None:
    """A hook of somebody's."""


def _with_hook(register: str) -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2))
    getattr(model[0], register)(own_hook)
    return model


def _with_attribute(value: object) -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].thing = value
    return model


FOREIGN: dict[str, tuple[Callable[[], object], str]] = {
    "class": (lambda: nn.Sequential(nn.Linear(2, 2), Called()), f"{__name__}.Called"),
    "root": (Called, f"{__name__}.Called"),
    "forward hook": (lambda: _with_hook("register_forward_hook"), "own_hook"),
    "forward pre-hook": (lambda: _with_hook("register_forward_pre_hook"), "own_hook"),
    "function": (lambda: _with_attribute(own_hook), "own_hook"),
    "function of torch": (lambda: _with_attribute(torch.load), "torch.serialization.load"),
    "class of Python": (lambda: _with_attribute(Path("x")), "pathlib"),
    "type": (lambda: _with_attribute(Path), "pathlib.Path"),
    "activation": (lambda: _encoder(own_hook), "own_hook"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_code_is_named(name: str, tmp_path: Path) -> None:
    """What is not torch's own is refused by its name, with the two ways out."""
    build, foreign = FOREIGN[name]
    with pytest.raises(ForeignCodeError) as caught:
        rebuilt(build(), tmp_path)
    assert foreign in caught.value.message
    assert "--trust" in caught.value.hint
    assert "--model" in caught.value.hint


def test_several_foreign_names(tmp_path: Path) -> None:
    """All foreign names are counted in one message, each once."""
    model = nn.Sequential(Called(), Called(), _with_attribute(own_hook))
    model.others = [Path, torch.load, torch.save, print]
    with pytest.raises(ForeignCodeError) as caught:
        rebuilt(model, tmp_path)
    assert "and 3 more" in caught.value.message


@pytest.mark.parametrize(
    "register", ["register_full_backward_hook", "register_state_dict_post_hook",
                 "register_state_dict_pre_hook"],
)  # fmt: skip
def test_hooks_that_no_forward_calls(register: str, tmp_path: Path) -> None:
    """Hooks of training and saving are left out, whatever they are, and do not forbid a run."""
    if not hasattr(nn.Module, register):
        pytest.skip("torch 2.4 keeps it private")
    model = _with_hook(register).eval()
    assert_equal_outputs(rebuilt(model, tmp_path), model, torch.ones(1, 2))


def test_module_class_gives_torchs_modules_only() -> None:
    """Every public class of torch.nn is found by its path, and nothing else is."""
    found = 0
    for cls in vars(nn).values():
        if isinstance(cls, type) and issubclass(cls, nn.Module):
            path = f"{cls.__module__}.{cls.__qualname__}"
            if cls.__module__.startswith("torch.nn.modules.") and not cls.__name__.startswith("_"):
                assert module_class(path) is cls
                found += 1
    assert found > 100
