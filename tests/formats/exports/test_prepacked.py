"""Models that ``optimize_for_mobile`` packed; by hand, as few builds of torch can make them."""

import io
import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.jit._pickle
from torch import Tensor, nn

from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.norms.find_norms import anatomy_of
from normcheck.saved.graph import Op
from tests.formats.exports.hostile import archive
from tests.norms.settled import settle

pytestmark = pytest.mark.filterwarnings("ignore")
WIDTH = 24
MODULE = "__torch__.torch.classes.xnnpack"


KINDS = {
    kind: type(kind, (), {"__module__": MODULE, "__getstate__": lambda self: self.state})
    for kind in ("Conv2dOpContext", "TransposeConv2dOpContext", "LinearOpContext")
}


def _packed(kind: str, *state: Any) -> Any:
    """An object of XNNPACK, to be pickled as it pickles itself."""
    made = KINDS[kind]()
    made.state = state  # type: ignore[attr-defined]
    return made


class _Numbers(list[int]):
    """A list of integers, as TorchScript pickles it."""


def _tensor(value: Tensor, storage: Any) -> tuple[Any, ...]:
    shape, strides = tuple(value.shape), tuple(value.contiguous().stride())
    rebuild = torch._utils._rebuild_tensor_v2
    return rebuild, (storage, 0, shape, strides, False, OrderedDict())


class _Storage:
    def __init__(self, place: int, value: Tensor) -> None:
        self.place, self.value = place, value


class _Constants(pickle.Pickler):
    """Writes ``constants.pkl`` and keeps what its storages hold."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, protocol=2)
        self.held: list[Tensor] = []

    def persistent_id(self, value: Any) -> tuple[Any, ...] | None:
        if not isinstance(value, _Storage):
            return None
        size = value.value.numel()
        return ("storage", torch.FloatStorage, f"{value.place}.storage", "cpu", size)

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            self.held.append(value.detach().contiguous())
            return _tensor(value, _Storage(len(self.held) - 1, value))
        if isinstance(value, _Numbers):
            return torch.jit._pickle.build_intlist, (list(value),)
        return NotImplemented


def packed_archive(constants: tuple[Any, ...], lines: list[str]) -> bytes:
    """A mobile archive of one ``forward``, whose constants are these."""
    root = type("M", (), {"__module__": "__torch__"})
    modules = {name: types.ModuleType(name) for name in (MODULE, "__torch__")}
    vars(modules[MODULE]).update(KINDS)
    vars(modules["__torch__"])["M"] = root
    stream = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        written = _Constants(stream)
        written.dump(constants)
        body = pickle.dumps(_root(root), protocol=2)
    code = "".join(f"    {line}\n" for line in lines)
    return archive(
        {
            "data.pkl": body,
            "code/__torch__.py": "class M(Module):\n  __parameters__ = []\n  __buffers__ = []\n"
            f"  def forward(self: __torch__.M,\n    x: Tensor) -> Tensor:\n{code}",
            "constants.pkl": stream.getvalue(),
            **{f"constants/{i}.storage": t.numpy().tobytes() for i, t in enumerate(written.held)},
            "version": "3\n",
        }
    )  # fmt: skip


def _root(kind: type) -> object:
    made: object = kind()
    vars(made)["training"] = False
    return made


def _convolution(layer: nn.Conv2d | nn.ConvTranspose2d, *bounds: float | None) -> Any:
    stride, padding = (_Numbers(int(n) for n in p) for p in (layer.stride, layer.padding))
    dilation = _Numbers(layer.dilation)
    if isinstance(layer, nn.ConvTranspose2d):
        extra = _Numbers(layer.output_padding)
        state = (layer.weight, layer.bias, stride, padding, extra, dilation, layer.groups)
        return _packed("TransposeConv2dOpContext", *state, *bounds)
    state = (layer.weight, layer.bias, stride, padding, dilation, layer.groups)
    return _packed("Conv2dOpContext", *state, *bounds)


def _mobile(net: nn.Sequential) -> bytes:
    """The model as the optimizer writes it: convolutions packed, norms as they were."""
    constants: list[Any] = []
    lines = []
    for layer in net:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            constants.append(_convolution(layer, None, None))
            run = "conv2d_transpose_clamp_run" if layer.transposed else "conv2d_clamp_run"
            lines.append(f"x = ops.prepacked.{run}(x, CONSTANTS.c{len(constants) - 1})")
        elif isinstance(layer, nn.BatchNorm2d):
            names = ("weight", "bias", "running_mean", "running_var")
            first = len(constants)
            constants += [getattr(layer, name) for name in names]
            parts = ", ".join(f"CONSTANTS.c{first + n}" for n in range(4))
            lines.append(f"x = torch.batch_norm(x, {parts}, False, 0.1, 1.0e-05, True)")
        else:
            lines.append("x = torch.relu(x)")
    return packed_archive(tuple(constants), [*lines, "return x"])


def _net() -> nn.Sequential:
    layers: list[nn.Module] = []
    for place, made_of in enumerate((3, WIDTH, WIDTH, WIDTH)):
        kind = nn.ConvTranspose2d if place == 2 else nn.Conv2d
        layers += [kind(made_of, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU()]
    torch.manual_seed(0)
    net = settle(nn.Sequential(*layers), 3, 12, 12)
    assert isinstance(net, nn.Sequential)
    return net


def test_weights_that_are_packed_are_read_and_vouch(tmp_path: Path) -> None:
    """With strides and paddings; a transposed one as what it is."""
    net = _net()
    (tmp_path / "model.ptl").write_bytes(_mobile(net))
    (model,) = read_checkpoint(tmp_path / "model.ptl").models
    assert model.graph is not None
    first, *_, last = [n for n in model.graph.nodes if n.op is Op.CONVOLUTION]
    assert first.settings["padding"] == (1, 1)
    held = model.tensors[model.graph.stored[first.operands["weight"]]]
    assert held.values().tobytes() == net[0].weight.detach().numpy().tobytes()
    assert "bias" in last.operands
    agreement = anatomy_of(model).agreement
    assert agreement is not None
    assert [round(fit.explained, 1) for fit in agreement.agreeing] == [1.0, 1.0, 1.0]


def test_statistics_of_other_channels_are_accused_as_in_any_other_form(tmp_path: Path) -> None:
    """The sick twin: every norm's channels in another order."""
    net = _net()
    generator = torch.Generator().manual_seed(1)
    for norm in (m for m in net if isinstance(m, nn.BatchNorm2d)):
        order = torch.randperm(WIDTH, generator=generator)
        norm.running_mean.copy_(norm.running_mean[order].clone())
        norm.running_var.copy_(norm.running_var[order].clone())
    (tmp_path / "model.ptl").write_bytes(_mobile(net))
    agreement = anatomy_of(read_checkpoint(tmp_path / "model.ptl").models[0]).agreement
    assert agreement is not None
    assert not agreement.agreeing


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [((0.0, None), (0.0, None)), ((0.0, 6.0), (0.0, 6.0)), ((None, None), None)],
)
def test_a_fused_activation(
    tmp_path: Path, bounds: tuple[float | None, ...], expected: tuple[float | None, ...] | None
) -> None:
    """What a result is clamped to is an activation behind its operator; of a linear one too."""
    layer = nn.Linear(4, 5)
    context = _packed("LinearOpContext", layer.weight, layer.bias, *bounds)
    lines = ["return ops.prepacked.linear_clamp_run(x, CONSTANTS.c0)"]
    (tmp_path / "model.ptl").write_bytes(packed_archive((context,), lines))
    graph = read_checkpoint(tmp_path / "model.ptl").models[0].graph
    assert graph is not None
    linear, *clamp = graph.nodes
    assert (linear.op, set(linear.operands)) == (Op.LINEAR, {"input", "weight", "bias"})
    assert [(n.settings.get("min"), n.settings.get("max")) for n in clamp] == (
        [] if expected is None else [expected]
    )


@pytest.mark.parametrize("state", [(), (1, 2), (None,) * 8, ("weight",) * 8], ids=str)
def test_a_state_of_another_form_is_unknown(tmp_path: Path, state: tuple[Any, ...]) -> None:
    """Nothing is read into it."""
    lines = ["return ops.prepacked.conv2d_clamp_run(x, CONSTANTS.c0)"]
    context = _packed("Conv2dOpContext", *state)
    (tmp_path / "model.ptl").write_bytes(packed_archive((context,), lines))
    graph = read_checkpoint(tmp_path / "model.ptl").models[0].graph
    assert graph is not None
    assert [node.op for node in graph.nodes] == [Op.OTHER]
