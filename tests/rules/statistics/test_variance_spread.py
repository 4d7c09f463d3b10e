"""Deviations, inverses and other units of variances, told through two layers of weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from normcheck.norms.belonging.two_layers import two_layers
from normcheck.rules.evidence import variance_spread
from normcheck.rules.evidence.evidence_apart import Indication
from normcheck.rules.evidence.variance_spread import MOST_CHANNELS, SMALLEST, of_variances
from tests.norms.settled import CHANNELS, anatomy, conv_net, settle

pytestmark = [pytest.mark.slow, pytest.mark.kernels]
SEEDS = range(5)
SIZE = 16


class Block(nn.Module):
    """Two convolutions beside what they are added to."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(CHANNELS)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + x).relu()


def _grouped() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS)]
    for _ in range(4):
        layers += [nn.SiLU(), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=4)]
        layers += [nn.BatchNorm2d(CHANNELS)]
    return nn.Sequential(*layers)


def _depthwise() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS)]
    for _ in range(3):
        layers += [nn.ReLU(), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS)]
        layers += [nn.BatchNorm2d(CHANNELS), nn.ReLU(), nn.Conv2d(CHANNELS, CHANNELS, 1)]
        layers += [nn.BatchNorm2d(CHANNELS)]
    return nn.Sequential(*layers)


class Unit(nn.Module):
    """A convolution and its norm, of which names only say that they are beside each other."""

    def __init__(self, made_of: int, size: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(made_of, CHANNELS, size, padding=size // 2, bias=False)
        self.bn = nn.BatchNorm2d(CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.silu(self.bn(self.conv(x)))


def _units() -> nn.Module:
    return nn.Sequential(Unit(3), *(Unit(CHANNELS) for _ in range(7)))


def _separable() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS)]
    for _ in range(4):
        layers += [nn.ReLU(), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS)]
        layers += [nn.Conv2d(CHANNELS, CHANNELS, 1), nn.BatchNorm2d(CHANNELS)]
    return nn.Sequential(*layers)


def _residual() -> nn.Module:
    stem = nn.Sequential(nn.Conv2d(3, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS), nn.ReLU())
    return nn.Sequential(stem, *(Block() for _ in range(4)))


STYLES: Mapping[str, Callable[[], nn.Module]] = {
    "plain": lambda: conv_net(nn.ReLU(), blocks=5),
    "tanh": lambda: conv_net(nn.Tanh(), blocks=5),
    "grouped": _grouped,
    "depthwise": _depthwise,
    "residual": _residual,
    "units": _units,
    "separable": _separable,
}
FAULTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "deviations": torch.sqrt,
    "inverses": torch.reciprocal,
    "inverse deviations": torch.rsqrt,
}


def _smooth(model: nn.Module, seed: int) -> nn.Module:
    """Kernels whose taps go together, as trained ones do, and γ of both signs."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                shared = torch.randn(*module.weight.shape[:2], 1, 1)
                module.weight.add_(module.weight.std() * shared)
    settle(model, 3, SIZE, SIZE, seed=seed)
    return model


def _all_read(model: nn.Module, folder: Path) -> dict[str, Indication]:
    agreement = anatomy(model, folder).agreement
    assert agreement is not None
    return {one.key: one for one in of_variances(agreement)}


def _read(model: nn.Module, folder: Path) -> Indication | None:
    return _all_read(model, folder).get("spread of variances")


@pytest.mark.parametrize("style", STYLES)
def test_variances_spread_as_two_layers_of_weights_make_them(tmp_path: Path, style: str) -> None:
    """Of healthy networks none speaks; of those with something else in their place most do.

    Means of many inputs that go together vary more than predicted, by up to half: of deviations,
    whose spread is half of it, that hides some.
    """
    speaks = dict.fromkeys(FAULTS, 0)
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = _smooth(STYLES[style](), seed)
        healthy = _read(model, tmp_path)
        assert healthy is None or not healthy.speaks
        kept = {k: v.clone() for k, v in model.state_dict().items()}
        for name, fault in FAULTS.items():
            model.load_state_dict(
                {k: fault(v) if k.endswith("running_var") else v for k, v in kept.items()}
            )
            found = _read(model, tmp_path)
            speaks[name] += found is not None and found.speaks
            assert found is None or "logarithms' spread (" in found.sentence
        model.load_state_dict(kept)
    assert min(speaks["inverses"], speaks["inverse deviations"]) >= len(SEEDS) - 1
    if style in ("grouped", "depthwise"):
        assert speaks["deviations"] >= len(SEEDS) - 1


class Gated(nn.Module):
    """Squeeze-and-excitation between norms and next weights, which names put elsewhere."""

    def __init__(self, *, flat: bool) -> None:
        super().__init__()
        few = CHANNELS // 4

        def layer(takes: int, makes: int) -> nn.Module:
            return nn.Linear(takes, makes) if flat else nn.Conv2d(takes, makes, 1)

        self.flat = flat
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(made_of, CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS)
            )
            for made_of in (3, *[CHANNELS] * 4)
        )
        self.gates = nn.ModuleList(
            nn.Sequential(layer(CHANNELS, few), nn.ReLU(), layer(few, CHANNELS), nn.Sigmoid())
            for _ in self.blocks
        )
        for gate in self.gates:
            nn.init.constant_(gate[2].bias, 1.2)  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        for block, gate in zip(self.blocks, self.gates, strict=True):
            x = block(x).relu()
            mean = x.mean((2, 3)) if self.flat else x.mean((2, 3), keepdim=True)
            x = x * gate(mean).reshape(*x.shape[:2], 1, 1)
        return x


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_what_gates_may_have_left_of_variances_accuses_nobody(
    tmp_path: Path, seed: int, flat: bool
) -> None:
    """Open by three quarters they leave a half of them, and so much of the means as names allow."""
    torch.manual_seed(seed)
    model = Gated(flat=flat)
    settle(model, 3, SIZE, SIZE, seed=seed)
    agreement = anatomy(model, tmp_path).agreement
    assert agreement is not None
    assert agreement.gated == {CHANNELS}
    found = _all_read(model, tmp_path)
    assert found["variances too small"].value > SMALLEST
    assert not any(one.speaks for one in found.values())


def _signals(taps: int, *, separable: bool = False) -> nn.Module:
    layers: list[nn.Module] = []
    for made_of in (3, *[CHANNELS] * 4):
        apart = separable and made_of == CHANNELS
        size = 1 if separable else taps
        if apart:
            layers += [nn.Conv1d(made_of, made_of, taps, padding=taps // 2, groups=made_of)]
        layers += [nn.Conv1d(made_of, CHANNELS, size, padding=size // 2, bias=False)]
        layers += [nn.BatchNorm1d(CHANNELS), nn.ReLU()]
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("taps", "separable", "told"), [(7, False, False), (7, True, False), (1, False, True)]
)
def test_signals_over_time_are_not_read(
    tmp_path: Path, taps: int, separable: bool, told: bool
) -> None:
    """They go together as no input does that is tried: neither shape nor size says a thing."""
    model = _signals(taps, separable=separable)
    settle(model, 3, 64)
    assert bool(_all_read(model, tmp_path)) is told
    for name, tensor in model.state_dict().items():
        tensor.mul_({"running_mean": 3, "running_var": 9}.get(name.rpartition(".")[2], 1))
    assert any(one.speaks for one in _all_read(model, tmp_path).values()) is told


@pytest.mark.parametrize("style", ["plain", "residual", "grouped"])
def test_what_is_not_read_would_not_speak(
    tmp_path: Path, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading ends early only where all links together say the same."""
    ended = 0
    for seed, fault in enumerate([torch.clone, torch.clone, *FAULTS.values()]):
        model = _smooth(STYLES[style](), seed)
        model.load_state_dict(
            {k: fault(v) if k.endswith("running_var") else v for k, v in model.state_dict().items()}
        )
        found = _all_read(model, tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(variance_spread, "_settled", lambda *_: False)
            whole = _all_read(model, tmp_path)
        assert found.keys() <= whole.keys()
        assert {k for k, v in found.items() if v.speaks} == {
            k for k, v in whole.items() if v.speaks
        }
        ended += not found and bool(whole)
    assert ended > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_what_would_make_variances_so_would_make_them_as_large(tmp_path: Path, seed: int) -> None:
    """Large variances that spread less are none of deviations, whose size they have not."""
    model = _smooth(STYLES["grouped"](), seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.mul_(8)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
    settle(model, 3, SIZE, SIZE, seed=seed)
    kept = {k: v.clone() for k, v in model.state_dict().items()}

    def flattened(variance: Tensor) -> Tensor:
        middle = variance.log().median()
        return (middle + 0.5 * (variance.log() - middle)).exp()

    for change, speaks in ((flattened, False), (torch.sqrt, True)):
        model.load_state_dict(
            {k: change(v) if k.endswith("running_var") else v for k, v in kept.items()}
        )
        found = _read(model, tmp_path)
        assert (found is not None and found.speaks) is speaks


UNITS = (0.33, 3.0)
"""Factors of means; variances have their squares."""


@pytest.mark.parametrize("style", [style for style in STYLES if style != "units"])
def test_variances_have_the_size_that_two_layers_of_weights_give_them(
    tmp_path: Path, style: str
) -> None:
    """Of healthy networks none speaks; of those in other units nearly all do, up and down."""
    speaks = dict.fromkeys(UNITS, 0)
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = _smooth(STYLES[style](), seed)
        assert not any(one.speaks for one in _all_read(model, tmp_path).values())
        kept = {k: v.clone() for k, v in model.state_dict().items()}
        for factor in UNITS:
            of = {"running_mean": factor, "running_var": factor**2}
            model.load_state_dict({k: v * of.get(k.rpartition(".")[2], 1) for k, v in kept.items()})
            found = _all_read(model, tmp_path)
            name = "variances too small" if factor < 1 else "variances too large"
            speaks[factor] += name in found and found[name].speaks
        model.load_state_dict(kept)
    assert min(speaks.values()) >= len(SEEDS) - 1, speaks


def _settle_on_smooth_images(model: nn.Module, seed: int) -> None:
    """As by patches of photographs: neighbours and channels hardly differ."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.3, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.6)
            module.momentum = None
    model.train()
    with torch.no_grad():
        for _ in range(12):
            brightness, shade = torch.randn(64, 1, 1, 1), 0.3 * torch.randn(64, 1, 4, 4)
            smooth = nn.functional.interpolate(shade, size=SIZE, mode="bilinear")
            model((brightness + smooth).expand(-1, 3, -1, -1))
    model.eval()


def _two_links(seed: int, *, taps: float, channels: float) -> nn.Sequential:
    """Three norms on smooth images.

    Args:
        seed: Of the weights.
        taps: How much the taps of a kernel go together, in standard deviations of the weights.
        channels: The same of all that looks at the image.
    """
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 5, padding=2), nn.BatchNorm2d(16), nn.LeakyReLU(0.1),
        nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.LeakyReLU(0.1),
        nn.Conv2d(16, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS),
    )  # fmt: skip
    with torch.no_grad():
        for module in model:
            if isinstance(module, nn.Conv2d):
                makes, inputs, deviation = *module.weight.shape[:2], module.weight.std()
                module.weight.add_(taps * deviation * torch.randn(makes, inputs, 1, 1))
                if inputs == 3:
                    module.weight.add_(channels * deviation * torch.randn(makes, 1, 1, 1))
    _settle_on_smooth_images(model, seed)
    return model


def test_images_whose_channels_go_together_accuse_no_network_of_two_links(tmp_path: Path) -> None:
    """Wide kernels take them away, beyond any input that is tried; a twelfth is no image's."""
    beyond, told, name = 0, 0, "variances too small"
    for seed in SEEDS:
        model = _two_links(seed, taps=0.0, channels=2.0)
        found = _all_read(model, tmp_path)
        beyond += name in found and found[name].value > SMALLEST
        assert not any(one.speaks for one in found.values())
        for norm in model.children():
            if isinstance(norm, nn.BatchNorm2d):
                assert norm.running_var is not None
                norm.running_var.div_(12)
        found = _all_read(model, tmp_path)
        told += name in found and found[name].speaks
    assert beyond > 0
    assert told >= 3


@dataclass
class _Sized:
    """A link whose variances are so much larger than predicted, as a logarithm."""

    path: str
    of: float

    def scale(self) -> float:
        return self.of


@pytest.mark.parametrize(
    ("sizes", "speaks"),
    [
        ((1.32, 1.61), False),  # of a healthy network for patches of photographs
        ((2.1, 2.3), True),
        ((1.32, 1.61, 1.2), True),
        ((-0.5, -0.6), False),
        ((-0.5, -0.6, -0.4), True),
        ((-1.2, -1.1), True),
    ],
)
def test_of_two_links_a_size_has_to_be_plainer(sizes: tuple[float, ...], speaks: bool) -> None:
    links = [_Sized(str(place), size) for place, size in enumerate(sizes)]
    (found,) = variance_spread._of_size(links, {link.path for link in links}, weakened=False)  # type: ignore[arg-type]
    assert found.speaks is speaks


@pytest.mark.parametrize("style", ["plain", "separable"])
def test_large_variances_beside_small_means_are_those_of_heavy_tails(
    tmp_path: Path, style: str
) -> None:
    """Other units make means larger, too, or an activation hides that; tails make them smaller."""
    speaks = {(0.7, 9.0): 0, (1.0, 9.0): 0, (3.0, 9.0): 0}
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = _smooth(STYLES[style](), seed)
        kept = {k: v.clone() for k, v in model.state_dict().items()}
        for factors in speaks:
            of = dict(zip(("running_mean", "running_var"), factors, strict=True))
            model.load_state_dict({k: v * of.get(k.rpartition(".")[2], 1) for k, v in kept.items()})
            found = _all_read(model, tmp_path).get("variances too large")
            speaks[factors] += found is not None and found.speaks
    assert speaks[0.7, 9.0] == 0
    assert min(speaks[1.0, 9.0], speaks[3.0, 9.0]) >= len(SEEDS) - 1, speaks


def _of_one_direction() -> nn.Module:
    """Weights of which decay has left one direction, so that all channels go together."""
    layers: list[nn.Module] = []
    for made_of in (8, *[CHANNELS] * 4):
        linear = nn.Linear(made_of, CHANNELS, bias=False)
        with torch.no_grad():
            left = torch.rand(CHANNELS, 1) @ torch.rand(1, made_of)
            linear.weight.copy_(left + 0.3 * torch.randn(CHANNELS, made_of))
        layers += [linear, nn.BatchNorm1d(CHANNELS), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("seed", SEEDS)
def test_channels_of_a_table_may_go_together_less_than_two_layers_make_them(
    tmp_path: Path, seed: int
) -> None:
    """Variances are too small only where they are smaller than those of independent channels."""
    torch.manual_seed(seed)
    model = settle(_of_one_direction(), 8, seed=seed)
    kept = {k: v.clone() for k, v in model.state_dict().items()}
    for factor, speaks in ((1.0, False), (0.5, False), (0.01, True)):
        model.load_state_dict(
            {k: v * factor if k.endswith("running_var") else v for k, v in kept.items()}
        )
        found = _all_read(model, tmp_path).get("variances too small")
        assert (found is not None and found.speaks) is speaks


@pytest.mark.parametrize("seed", SEEDS)
def test_what_an_average_pooling_may_have_left_of_variances_accuses_nobody(
    tmp_path: Path, seed: int
) -> None:
    """Where a few norms may stand behind one, as names in a block do not tell."""

    class Pooled(Unit):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.silu(self.bn(nn.functional.avg_pool2d(self.conv(x), 2)))

    torch.manual_seed(seed)
    model = nn.Sequential(Unit(3), *(Pooled(CHANNELS) for _ in range(3)))
    settle(model, 3, 64, 64, seed=seed)
    found = _all_read(model, tmp_path)
    assert found["variances too small"].value > 0.35
    assert not any(one.speaks for one in found.values())


def test_the_weights_before_make_channels_go_together(tmp_path: Path) -> None:
    """Variances are predicted better than by channels that are independent."""
    better = 0
    for seed in SEEDS:
        torch.manual_seed(seed)
        agreement = anatomy(_smooth(STYLES["plain"](), seed), tmp_path).agreement
        assert agreement is not None
        for fit in agreement.fits:
            (both,) = two_layers([fit], MOST_CHANNELS)
            assert both is not None
            found = both.spread()
            assert found is not None
            better += found.correlation > fit.scale_correlation
    assert better >= 4 * len(SEEDS) * 0.8


@pytest.mark.parametrize("size", [1, 2, 3])
def test_maps_of_a_few_pixels_tell_nothing(tmp_path: Path, size: int) -> None:
    """Most taps of two kernels meet nothing there."""
    model = settle(conv_net(nn.ReLU(), blocks=5), 3, size, size)
    assert _read(model, tmp_path) is None


def test_weights_that_are_not_right_before_the_norm_are_not_taken(tmp_path: Path) -> None:
    """Where a Sequential leaves a place between, the norm may have recorded something else."""
    for between in ([], [nn.Identity()]):
        layers: list[nn.Module] = []
        for block in range(4):
            made_of = 3 if block == 0 else CHANNELS
            layers += [nn.Conv2d(made_of, CHANNELS, 3, padding=1), *between]
            layers += [nn.BatchNorm2d(CHANNELS), nn.ReLU()]
        agreement = anatomy(settle(nn.Sequential(*layers), 3, SIZE, SIZE), tmp_path).agreement
        assert agreement is not None
        assert {fit.link.before is None for fit in agreement.fits} == {bool(between)}
