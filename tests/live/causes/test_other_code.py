"""Statistics that are right, of another function than the one that the code computes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from normcheck import Examination, Report, scan
from normcheck.findings import Severity
from normcheck.live.batches import Batch, Feed
from normcheck.live.causes.other_code import other_code
from normcheck.live.run_request import Feeding, Running
from normcheck.live.watching.forward import Forward
from normcheck.live.watching.input_moments import Collected
from normcheck.live.watching.reachable_modules import reachable
from normcheck.live.watching.regimes import Regimes

pytestmark = pytest.mark.kernels

Build = Callable[[Callable[[], nn.Module], float], nn.Module]


def plain(activation: Callable[[], nn.Module], eps: float = 1e-5) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for i, o in ((3, 12), (12, 16), (16, 16)):
        layers += [nn.Conv2d(i, o, 3, bias=False), nn.BatchNorm2d(o, eps=eps), activation()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))


class Functional(nn.Module):
    """Activations that are no modules."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.norm1 = nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12)
        self.second, self.norm2 = nn.Conv2d(12, 16, 3), nn.BatchNorm2d(16)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.norm1(self.first(x)))
        return self.activation(self.norm2(self.second(x))).mean((2, 3))


def images(seed: int, count: int = 128) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    smooth = functional.avg_pool2d(torch.randn(count, 3, 14, 14, generator=random), 3, 1, 1)
    return 2 * smooth + 0.3


def trained(model: nn.Module) -> dict[str, Tensor]:
    """Its state with the exact statistics of the data, its γ and β drawn as training draws them."""
    torch.manual_seed(2)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.data.uniform_(0.5, 1.5)
        norm.bias.data.normal_(0, 0.3)
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(images(0))
    return model.state_dict()


def judged(model: nn.Module, state: dict[str, Tensor]) -> Report:
    """What a scan says of the state in this code."""
    model.load_state_dict(state)
    report = scan(model.eval(), Examination(running=Running(feeding=Feeding())), data=images(1))
    assert report.errors == ()
    return report


def named(report: Report) -> str:
    """What the finding on other code names; it speaks in place of the one on stale statistics."""
    (finding,) = [f for f in report.findings if f.rule == "NC407"]
    assert finding.severity is not Severity.INFO
    assert "NC401" not in {f.rule for f in report.findings}
    return finding.detail


@pytest.mark.parametrize(
    ("meant", "served", "words"),
    [
        (nn.Identity, nn.ReLU, "its activations left out"),
        (nn.ReLU, nn.Identity, "ReLU behind each norm"),
        (nn.SiLU, nn.ReLU, "SiLU in place of its activations"),
    ],
)
def test_an_activation_is_named(
    meant: type[nn.Module], served: type[nn.Module], words: str
) -> None:
    """Lost in a conversion, put in by one, or exchanged."""
    state = trained(plain(meant))
    assert words in named(judged(plain(served), state))
    assert not {"NC401", "NC407"} & {f.rule for f in judged(plain(meant), state).findings}


def test_functional_activations() -> None:
    """Found where they run, not by modules; the in-place kind as well."""
    state = trained(Functional(lambda x: x))
    assert "left out" in named(judged(Functional(functional.relu_), state))
    assert "left out" in named(judged(Functional(torch.relu), state))


def test_eps_is_named() -> None:
    """A port from a framework whose eps is 0.001, of small activations."""

    def small(eps: float) -> nn.Module:
        model = plain(nn.ReLU, eps)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.data.mul_(0.05)
        return model

    state = trained(small(1e-3))
    assert "With eps 0.001 all norms fit" in named(judged(small(1e-5), state))


def lagging(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Variances behind the first norm that scatter by channel about those of the weights.

    By 0.3 in logarithms, of which the median channel has 0.2.
    """
    random = torch.Generator().manual_seed(3)
    behind = [n for n in state if n.endswith("running_var") and n != "1.running_var"]
    moved = {n: (0.3 * torch.randn(state[n].shape, generator=random)).exp() for n in behind}
    return state | {name: moved[name] * state[name] for name in behind}


def test_other_code_is_named_where_statistics_lag() -> None:
    """Weights that still moved leave some of it under the function that was trained, too."""
    state = lagging(trained(plain(nn.ReLU)))
    assert " ReLU behind each norm" in named(judged(plain(nn.Identity), state))
    assert "NC407" not in {f.rule for f in judged(plain(nn.ReLU), state).findings}


def test_stale_statistics_are_no_other_code() -> None:
    """Where no function that is tried makes the norms fit, the statistics are what is off."""
    state = trained(plain(nn.ReLU))
    state["4.running_mean"] += 0.5 * state["4.running_var"].sqrt()
    rules = {f.rule for f in judged(plain(nn.ReLU), state).findings}
    assert "NC407" not in rules
    assert "NC401" in rules


def test_distances_of_other_batches_accuse_no_code() -> None:
    """Behind norms that normalise each sample alone the next are off, whatever the code is.

    Leaky ReLU is so near to ReLU that the statistics fit both.
    """
    for meant, served, words in (
        (nn.ReLU, nn.ReLU, None),
        (nn.Identity, nn.ReLU, "its activations left out"),
    ):
        state = trained(plain(meant))
        model = plain(served)
        model.load_state_dict(state)
        regimes = Regimes(Forward(model.eval(), torch.device("cpu")), reachable(model), set())
        feed, seen = Feed((Batch((images(1),)),), "images", real=True), Collected()
        regimes.stored(feed, seen)
        off = {place: 0.8 if number else 0.0 for number, place in enumerate(seen.stored)}
        found = other_code(regimes, feed, seen, off)
        assert (found and found.words) == words


class Ported(nn.Module):
    """A strided convolution, a shortcut around another, an enlargement and a pooling."""

    def __init__(
        self,
        *,
        borders: str = "zeros",
        same: bool = False,
        resize: str = "nearest",
        pooling: type[nn.Module] = nn.MaxPool2d,
        in_place: bool = False,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.a, self.norm1 = nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16)
        self.b, self.norm2 = nn.Conv2d(16, 16, 3, 2, bias=False), nn.BatchNorm2d(16)
        self.c, self.norm3 = nn.Conv2d(16, 16, 3, bias=False), nn.BatchNorm2d(16)
        self.d, self.norm4 = nn.Conv2d(16, 16, 3, bias=False), nn.BatchNorm2d(16)
        self.borders, self.same, self.resize = borders, same, resize
        self.pooling, self.in_place, self.scale = pooling(2), in_place, scale

    def padded(self, x: Tensor, conv: nn.Conv2d) -> Tensor:
        if self.same and conv.stride == (2, 2):
            return functional.conv2d(functional.pad(x, (0, 1, 0, 1)), conv.weight, None, 2)
        if self.borders == "zeros":
            return functional.conv2d(x, conv.weight, None, conv.stride, 1)
        return conv(functional.pad(x, (1, 1, 1, 1), self.borders))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.padded(x + 3, self.a))  # bright, so that borders matter
        y = functional.relu_(x) if self.in_place else functional.relu(x)
        x = self.scale * (x + self.pooling(y).repeat_interleave(2, 2).repeat_interleave(2, 3))
        x = functional.relu(self.norm2(self.padded(x, self.b)))
        corners = None if self.resize == "nearest" else False
        x = functional.interpolate(x, scale_factor=2, mode=self.resize, align_corners=corners)
        x = functional.relu(self.norm3(self.padded(x, self.c)))
        return functional.relu(self.norm4(self.padded(x, self.d))).mean((2, 3))


@pytest.mark.parametrize(
    ("meant", "served", "words"),
    [
        ({"borders": "reflect"}, {}, "reflected borders"),
        ({"borders": "replicate"}, {}, "repeated borders"),
        ({"borders": "circular"}, {}, "circular borders"),
        ({}, {"borders": "reflect"}, "zeros borders"),
        ({"same": True}, {}, "TensorFlow's same"),
        ({}, {"same": True}, "borders alike on both sides"),
        ({"resize": "bilinear"}, {}, "bilinear interpolation"),
        ({}, {"resize": "bilinear"}, "nearest interpolation"),
        ({"pooling": nn.AvgPool2d}, {}, "average pooling in place of max pooling"),
        ({}, {"pooling": nn.AvgPool2d}, "max pooling in place of average pooling"),
        ({"in_place": True}, {}, "its activations working in place"),
        ({"scale": 0.5}, {}, "the input of norm2 times 0."),
        ({}, {"scale": 0.5}, "the input of norm2 times "),
    ],
)
def test_what_ports_change_is_named(meant: dict, served: dict, words: str) -> None:  # type: ignore[type-arg]
    """Each way, and neither is said of the code that was trained."""
    state = trained(Ported(**meant))
    model = Ported(**served)
    assert words in named(judged(model, state))
    assert not {"NC401", "NC407"} & {f.rule for f in judged(Ported(**meant), state).findings}


def test_a_factor_by_channel_is_no_missing_factor() -> None:
    """Statistics that are stale are off by another factor in each channel."""
    state = trained(Ported())
    random = torch.Generator().manual_seed(8)
    factor = (0.4 * torch.randn(16, generator=random) - 0.7).exp()
    state["norm2.running_var"] *= factor.square()
    state["norm2.running_mean"] *= factor
    rules = {f.rule for f in judged(Ported(), state).findings}
    assert "NC407" not in rules
    assert "NC401" in rules


@pytest.mark.parametrize(
    ("served", "size", "found"),
    [(nn.ReLU, 2, False), (nn.Identity, 2, False), (nn.Identity, 8, True)],
)
def test_programs_of_two_samples_accuse_no_code(
    served: Callable[[], nn.Module], size: int, found: bool
) -> None:
    """Norms behind batches of two are off in healthy models; from larger ones code is told."""
    state = trained(plain(nn.ReLU))
    model = plain(served)
    model.load_state_dict(state)
    fed = images(3, 64)
    program = torch.export.export(model.eval(), (fed[:size],))
    assert ("NC407" in {f.rule for f in scan(program, data=list(fed.split(size))).fails()}) is found
