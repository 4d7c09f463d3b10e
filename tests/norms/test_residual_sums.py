"""Norms behind residual sums: vouched for by what the sums predict, accused by nothing."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import pad

from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.norms.anatomy import Anatomy
from normcheck.norms.belonging.agreement import Agreement
from normcheck.norms.belonging.fit import off_one
from normcheck.norms.belonging.fit_places import AGREES, LARGEST_FACTOR
from normcheck.norms.belonging.sums import residual_sums
from normcheck.norms.find_norms import anatomy_of
from normcheck.report.fit_summary import summarise_agreement
from normcheck.rules.evidence.belonging_evidence import readings
from tests.norms.settled import anatomy, settle

pytestmark = [pytest.mark.slow, pytest.mark.kernels]
WIDTHS = (16, 32, 48)


class Basic(nn.Module):
    """Two convolutions and what is added to them; where the activations stand is told."""

    def __init__(
        self, takes: int, makes: int, *, before: bool = False, behind: bool = True, pads: str = ""
    ) -> None:
        super().__init__()
        self.before, self.behind, self.pads = before, behind, pads
        self.conv1 = nn.Conv2d(takes, makes, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(makes)
        self.conv2 = nn.Conv2d(makes, makes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(makes)
        self.downsample = None
        if takes != makes and not pads:
            self.downsample = nn.Sequential(
                nn.Conv2d(takes, makes, 1, bias=False), nn.BatchNorm2d(makes)
            )

    def forward(self, x: Tensor) -> Tensor:
        added = x if self.downsample is None else self.downsample(x)
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        missing = y.shape[1] - added.shape[1]
        ahead = missing // 2 if self.pads == "around" else 0
        added = pad(added, (0, 0, 0, 0, ahead, missing - ahead))
        total = (y.relu() if self.before else y) + added
        return total.relu() if self.behind else total


class Inverted(nn.Module):
    """The linear bottleneck of MobileNetV2, with its names."""

    def __init__(self, takes: int, makes: int) -> None:
        super().__init__()
        wide = 4 * takes
        self.conv = nn.Sequential(
            nn.Sequential(nn.Conv2d(takes, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()),
            nn.Sequential(
                nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False),
                nn.BatchNorm2d(wide),
                nn.ReLU6(),
            ),
            nn.Conv2d(wide, makes, 1, bias=False),
            nn.BatchNorm2d(makes),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if y.shape == x.shape else y


class Plain(nn.Module):
    """A block that adds nothing, under the names of one that does."""

    def __init__(self, takes: int, makes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(takes, makes, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(makes)
        self.conv2 = nn.Conv2d(makes, makes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(makes)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()  # type: ignore[no-any-return]


class Net(nn.Module):
    """A stem, and three blocks at each width."""

    def __init__(self, block, widths: tuple[int, ...] = WIDTHS) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        takes = widths[0]
        for stage, makes in enumerate(widths, 1):
            blocks = []
            for _ in range(3):
                blocks.append(block(takes, makes))
                takes = makes
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        for name, stage in self.named_children():
            y = stage(y) if name.startswith("layer") else y
        return y


def _net(block, widths: tuple[int, ...] = WIDTHS) -> nn.Module:  # type: ignore[no-untyped-def]
    torch.manual_seed(1)
    return settle(Net(block, widths), 3, 16, 16)


def _agreement(found: Anatomy) -> Agreement:
    assert found.agreement is not None
    return found.agreement


def _behind_sums(agreement: Agreement) -> set[str]:
    return {fit.link.target.path for fit in agreement.by_sums}


def _agreeing(agreement: Agreement) -> set[str]:
    return {fit.link.target.path for fit in agreement.agreeing}


STYLES = {
    "behind": Basic,
    "before": lambda a, b: Basic(a, b, before=True, behind=False),
    "nowhere": lambda a, b: Basic(a, b, behind=False),
}
FIRST = {f"layer{s}.{b}.bn1" for s in (1, 2, 3) for b in (0, 1, 2)} - {"layer1.0.bn1"}
"""Norms that a sum reaches."""
BRANCHES = {"layer2.0.downsample.1", "layer3.0.downsample.1"}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("whole", [False, True], ids=["state dict", "module"])
def test_first_norms_of_residual_blocks_are_vouched_for(
    tmp_path: Path, style: str, whole: bool
) -> None:
    """Wherever the activation stands; by whichever link."""
    agreement = _agreement(anatomy(_net(STYLES[style]), tmp_path, whole=whole))
    assert len(_behind_sums(agreement)) >= 6
    assert len(_agreeing(agreement) & (FIRST | BRANCHES)) >= 9
    summary = summarise_agreement(agreement, keep_values=False)
    assert {link.target: link.explained for link in summary.links}.keys() == {
        link.target for link in summary.links
    }
    assert not {path for path, _ in summary.unjudged} & _behind_sums(agreement)
    assert all(link.explained >= 0.8 for link in summary.links if link.target in FIRST)


@pytest.mark.parametrize("pads", ["around", "behind"])
def test_an_input_of_fewer_channels_may_be_padded(tmp_path: Path, pads: str) -> None:
    """As the ResNets for CIFAR do it, without weights in the shortcut."""
    net = _net(lambda a, b: Basic(a, b, pads=pads), (16, 32, 64))
    found = _behind_sums(_agreement(anatomy(net, tmp_path)))
    assert {f"layer{stage}.{block}.bn1" for stage in (2, 3) for block in (1, 2)} <= found


def test_linear_bottlenecks(tmp_path: Path) -> None:
    """Where no activation stands behind sums, means add up exactly."""
    agreement = _agreement(anatomy(_net(Inverted), tmp_path))
    # The second block of a stage takes what weights alone made, the third a sum.
    assert {f"layer{stage}.2.conv.0.1" for stage in (1, 2, 3)} <= _behind_sums(agreement)
    assert min(fit.explained for fit in agreement.by_sums) > 0.95


def test_without_an_order_by_their_numbers(tmp_path: Path) -> None:
    """Safetensors keep no order; blocks and their branches are told by names alone."""
    file = tmp_path / "model.safetensors"
    save_file({n: t.contiguous() for n, t in _net(Basic).state_dict().items()}, str(file))
    assert len(_behind_sums(_agreement(anatomy_of(read_checkpoint(file).models[0])))) >= 6


def _permuted(norm: nn.BatchNorm2d) -> None:
    order = torch.randperm(norm.num_features, generator=torch.Generator().manual_seed(3))
    norm.running_mean.copy_(norm.running_mean[order])  # type: ignore[union-attr,index]
    norm.running_var.copy_(norm.running_var[order])  # type: ignore[union-attr,index]


FAULTS = {
    "permuted": _permuted,
    "negated": lambda n: n.running_mean.neg_(),
    "doubled": lambda n: n.running_mean.mul_(2),
    "foreign": lambda n: n.running_mean.copy_(torch.randn(n.num_features).mul_(0.5)),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("place", ["layer1.2.bn1", "layer3.0.downsample.1", "layer2.1.bn1"])
def test_a_faulty_norm_behind_a_sum_is_not_vouched_for(
    tmp_path: Path, fault: str, place: str
) -> None:
    """And those beside it are, as before."""
    net = _net(Basic)
    before = _behind_sums(_agreement(anatomy(net, tmp_path)))
    assert place in before
    FAULTS[fault](net.get_submodule(place))
    agreement = _agreement(anatomy(net, tmp_path))
    assert place not in _agreeing(agreement)
    assert len(before - _behind_sums(agreement)) <= 2


def test_where_nothing_fits_within_blocks_no_sum_vouches(tmp_path: Path) -> None:
    """Statistics of another network: sums are not even looked at."""
    net = _net(Basic)
    for seed, module in enumerate(net.modules()):
        if isinstance(module, nn.BatchNorm2d):
            torch.manual_seed(seed)
            _permuted(module)
    assert _behind_sums(_agreement(anatomy(net, tmp_path))) == set()


@pytest.mark.parametrize("style", [*STYLES, "plain", "padded"])
def test_what_is_held_against_a_model_stays(
    tmp_path: Path, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With sums and without them: the same fits, the same readings."""
    blocks = STYLES | {"plain": Plain, "padded": lambda a, b: Basic(a, b, pads="around")}
    found = anatomy(_net(blocks[style], (16, 32, 64)), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("normcheck.norms.find_norms.with_sums", lambda agreement, *_: agreement)
        without = anatomy(_net(blocks[style], (16, 32, 64)), tmp_path)
    assert [f.link.target.path for f in found.agreement.fits] == [  # type: ignore[union-attr]
        f.link.target.path
        for f in without.agreement.fits  # type: ignore[union-attr]
    ]
    assert readings(found.agreement, found.first) == readings(without.agreement, without.first)
    assert not set(map(id, _agreement(found).by_sums)) & set(map(id, _agreement(found).likely))


def test_blocks_that_add_nothing_are_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where plain links vouch for everything, nothing more is read."""
    monkeypatch.setattr(residual_sums, "units_of", lambda _: pytest.fail("looked for blocks"))
    assert _behind_sums(_agreement(anatomy(_net(Plain), tmp_path))) == set()


def test_a_faulty_block_that_adds_nothing_finds_no_sum_to_vouch(tmp_path: Path) -> None:
    """Other readings of a block do not explain what its own cannot."""
    net = _net(Plain, (32, 32, 32))
    for place in ("layer1.1.bn1", "layer2.1.bn1", "layer3.2.bn1"):
        _permuted(net.get_submodule(place))  # type: ignore[arg-type]
    assert _behind_sums(_agreement(anatomy(net, tmp_path))) == set()


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_a_part_of_a_sum_does_not_vouch(tmp_path: Path, seed: int) -> None:
    """The norm before is the smaller mean: it looks right where means are as much too small."""
    torch.manual_seed(seed)
    net = settle(Net(Basic, (32, 32, 32)), 3, 16, 16, seed=seed)
    agreement = _agreement(anatomy(net, tmp_path))
    healthy = {fit.link.target.path: fit for fit in agreement.fits}
    looked_right = 0
    for path in sorted(_behind_sums(agreement) & healthy.keys()):
        left = 1 - 1 / healthy[path].slope
        if left < 0.35:
            continue  # nearly within the precision of the sum itself
        norm = net.get_submodule(path)
        kept = norm.running_mean.clone(), norm.running_var.clone()
        norm.running_mean.mul_(1 - left)
        norm.running_var.mul_(1 - left).add_(left)
        sick = _agreement(anatomy(net, tmp_path))
        (plain,) = (fit for fit in sick.fits if fit.link.target.path == path)
        looked_right += plain.explained >= AGREES and off_one(plain.slope) <= LARGEST_FACTOR
        assert path not in _agreeing(sick)
        norm.running_mean.copy_(kept[0])
        norm.running_var.copy_(kept[1])
    assert looked_right >= 1


def test_where_nothing_is_added_plain_links_go_on_vouching(tmp_path: Path) -> None:
    """Faulty norms have sums looked for; the others keep what speaks for them."""
    net = _net(Plain, (32, 32, 32))
    before = _agreeing(_agreement(anatomy(net, tmp_path)))
    faulty = {"layer1.1.bn1", "layer2.1.bn1", "layer3.2.bn1"}
    for place in faulty:
        _permuted(net.get_submodule(place))  # type: ignore[arg-type]
    assert _agreeing(_agreement(anatomy(net, tmp_path))) == before - faulty
