"""Another input than the one that the statistics are of: found, named, told from statistics."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from normcheck import Examination, Report, scan
from normcheck.findings import Severity
from normcheck.live.run_request import Feeding, Running
from sample_models.data import load
from sample_models.networks import DigitsNet
from tests.conftest import SAMPLES

pytestmark = pytest.mark.kernels

Change = Callable[[Tensor], Tensor]

IMAGENET = (torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225]))


def photos(seed: int, count: int = 192) -> Tensor:
    """Smooth images of bright and dark parts, 3x14x14, from 0 to 1; each channel has its own."""
    random = torch.Generator().manual_seed(seed)
    smooth = functional.avg_pool2d(torch.randn(count, 3, 16, 16, generator=random), 3, 1)
    smooth = smooth + 0.4 * torch.randn(count, 3, 1, 1, generator=random)
    level = torch.tensor([-0.4, 0.1, 0.9])[:, None, None]
    width = torch.tensor([1.6, 1.1, 0.8])[:, None, None]
    return (width * smooth.square() + level).sigmoid()


def standard(x: Tensor) -> Tensor:
    """As torchvision's models take it."""
    mean, deviation = (t[:, None, None] for t in IMAGENET)
    return (x - mean) / deviation


def convolutions(*, bias: bool = False, padding: int = 1) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for i, o in ((3, 24), (24, 32), (32, 32)):
        conv = nn.Conv2d(i, o, 3, padding=padding, bias=bias)
        layers += [conv, nn.BatchNorm2d(o), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5))


def perceptron() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3 * 14 * 14, 64), nn.BatchNorm1d(64), nn.ReLU(),
        nn.Linear(64, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 5),
    )  # fmt: skip


def settled(model: nn.Module, seen: Tensor) -> nn.Module:
    """The model with the exact statistics of ``seen``, its γ and β drawn as training draws them."""
    torch.manual_seed(2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(seen)
    return model.eval()


def said(model: nn.Module, data: Tensor | tuple[Tensor, Tensor]) -> dict[str, tuple[Severity, str]]:
    """What the rules on data say."""
    report: Report = scan(model, Examination(running=Running(feeding=Feeding())), data=data)
    assert report.errors == ()
    return {
        f.rule: (f.severity, f.detail)
        for f in report.findings
        if f.rule.startswith("NC4") and f.rule not in ("NC403", "NC405")
    }


CHANGES: list[tuple[Change, Change, str]] = [
    (lambda x: x, lambda x: 255 * x, "as if pixels from 0 to 255 had not been divided by 255"),
    (lambda x: 255 * x, lambda x: x, "as if pixels had been divided by 255 once too often"),
    (standard, lambda x: x, "as if ImageNet's mean and deviation had not been taken out"),
    (standard, lambda x: 255 * x, "not been divided by 255, and ImageNet's mean"),
    (lambda x: x, lambda x: 1 - x, "as if it had been inverted"),
    (lambda x: 2 * x - 1, lambda x: 9.2 * x - 4.6, "as if it had not been divided by 4."),
    (standard, lambda x: standard(x).flip(1), "came in the other order"),
]


@pytest.mark.parametrize(("meant", "fed", "words"), CHANGES)
def test_the_change_is_named(meant: Change, fed: Change, words: str) -> None:
    """From the first norm's statistics alone, whatever borders of zeros make of it."""
    model = settled(convolutions(), meant(photos(0)))
    assert said(model, meant(photos(1))) == {}
    found = said(model, fed(photos(1)))
    assert set(found) == {"NC404"}
    severity, detail = found["NC404"]
    assert severity is Severity.WARNING
    assert words in detail


@pytest.mark.parametrize("build", [lambda: convolutions(bias=True, padding=0), perceptron])
def test_other_first_layers(build: Callable[[], nn.Module]) -> None:
    """With a bias, without borders, and a linear layer that shares no weights."""
    model = settled(build(), photos(0))
    _, detail = said(model, 255 * photos(1))["NC404"]
    assert "divided by 255" in detail
    assert "NC401" not in said(model, 1 - photos(1))


@pytest.mark.parametrize("factor", [4.6, 1 / 4.6])
def test_the_first_norm_names_the_change_where_later_ones_lag(factor: float) -> None:
    """As after a training whose weights still moved: later norms fit no input, whatever it is."""
    meant = standard(photos(1))
    model = settled(convolutions(), standard(photos(0)))
    with torch.no_grad():
        labels = model(meant).argmax(1)
    for norm in (model[4], model[7]):  # type: ignore[index]
        norm.running_var.mul_(1.5)  # type: ignore[union-attr,operator]
    severity, detail = said(model, (factor * meant, labels))["NC404"]
    assert severity is Severity.ERROR
    assert "it would fit" in detail
    assert "all fit" not in detail
    assert f"as if it had {'not ' if factor > 1 else ''}been divided by 4." in detail
    # As it was meant the input is not blamed.
    assert "NC404" not in said(model, (meant, labels))


@pytest.mark.parametrize("change", [lambda x: -x, lambda x: x + 1, lambda x: 1 - x])
def test_labels_tell_an_input_from_its_inverse(change: Change) -> None:
    """Of what lies evenly about its mean both fit alike, and an inversion moves no norm by much."""
    random = torch.Generator().manual_seed(5)
    smooth = functional.avg_pool2d(torch.randn(384, 1, 16, 16, generator=random), 3, 1)
    images = smooth / smooth.std()
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 24, 5, padding=2, bias=False), nn.BatchNorm2d(24), nn.LeakyReLU(0.1),
        nn.Conv2d(24, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.LeakyReLU(0.1),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, 6),
    )  # fmt: skip
    model = settled(model, images[:192])
    with torch.no_grad():
        labels = model(images[192:]).argmax(1)
    assert "NC404" not in said(model, (images[192:], labels))
    found = said(model, (change(images[192:]), labels))
    severity, detail = found["NC404"]
    assert severity is Severity.ERROR
    turned = float(change(torch.tensor(1.0)) - change(torch.tensor(0.0))) < 0
    assert ("as if it had been inverted" in detail) is turned
    assert "NC401" not in found


def test_labels_prove_it() -> None:
    """Answers that become right of the input so changed are an error, and no statistics' fault."""
    model = settled(convolutions(), photos(0))
    images = photos(1)
    with torch.no_grad():
        labels = model(images).argmax(1)
    found = said(model, (1 - images, labels))
    assert set(found) == {"NC404"}
    severity, detail = found["NC404"]
    assert severity is Severity.ERROR
    assert "sign test" in detail
    assert "answers are right (1" in detail  # more than a hundred of them become right


def permuted(model: nn.Module) -> None:
    """Channels of the first norm's statistics in another order than its weights."""
    order = torch.randperm(24, generator=torch.Generator().manual_seed(5))
    model[1].running_mean, model[1].running_var = (  # type: ignore[index]
        model[1].running_mean[order], model[1].running_var[order],  # type: ignore[index]
    )  # fmt: skip


def residue(model: nn.Module) -> None:
    """A tenth of the initial 0 and 1 in all layers."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.mul_(0.9)  # type: ignore[union-attr]
            norm.running_var.mul_(0.9).add_(0.1)  # type: ignore[union-attr]


def shifted(model: nn.Module) -> None:
    """One layer far off."""
    norm = model[4]  # type: ignore[index]
    norm.running_mean += norm.running_var.sqrt()


@pytest.mark.parametrize("damage", [permuted, residue, shifted])
def test_statistics_that_are_off_are_no_other_input(damage: Callable[[nn.Module], None]) -> None:
    """A permuted first norm fits no input, and no input makes later norms fit."""
    model = settled(convolutions(), standard(photos(0)))
    damage(model)
    report = scan(model, Examination(running=Running(feeding=Feeding())), data=standard(photos(1)))
    rules = {f.rule for f in report.findings if f.severity.rank or f.rule == "NC401"}
    assert "NC404" not in {f.rule for f in report.findings}
    assert rules & {"NC401", "NC108"}


def test_weights_that_made_up_for_it() -> None:
    """A first norm of other input is no fault where the weights behind it know that."""
    model = settled(convolutions(), photos(0))
    dim = 0.4 * photos(0) + 0.1
    first = copy.deepcopy(model[1])  # type: ignore[index]
    settled(model, dim)
    model[1] = first  # type: ignore[operator]
    # The norms behind have the statistics of what the first makes of dim images.
    with torch.no_grad():
        for module in model[2:].modules():  # type: ignore[index]
            module.train()
        model[2:](model[:2](dim))  # type: ignore[index]
    found = said(model.eval(), 0.4 * photos(1) + 0.1)
    assert all(severity is Severity.INFO for severity, _ in found.values())


def test_nothing_of_the_model_is_left_changed() -> None:
    """Also where a forward is ended at its first norm."""
    model = settled(convolutions(), photos(0))
    before = {name: t.clone() for name, t in model.state_dict().items()}
    hooks = [len(m._forward_hooks) for m in model.modules()]
    said(model, 255 * photos(1))
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert hooks == [len(m._forward_hooks) for m in model.modules()]


@pytest.mark.parametrize("name", ["images", None])
def test_an_input_that_is_given_by_name_is_looked_at_as_well(
    name: str | None, tmp_path: Path
) -> None:
    """As an archive of arrays gives it, of which one is called like the model's argument."""
    images = 4.6 * load()[1].inputs["images"][:256]
    data: object = images
    if name is not None:
        np.savez(tmp_path / "data.npz", **{name: images.numpy()})
        data = tmp_path / "data.npz"
    report = scan(SAMPLES / "digits-healthy.pt", model=DigitsNet, data=data)
    (finding,) = (finding for finding in report.findings if finding.rule == "NC404")
    assert "as if it had not been divided by 4." in finding.detail


def test_where_no_change_is_named_the_statistics_may_be_off() -> None:
    """The words say both: of a first norm alone that is off, nobody knows what is to blame."""
    unnamed = []
    for seed in range(5, 9):
        model = settled(convolutions(), standard(photos(0)))
        random = torch.Generator().manual_seed(seed)
        # No map of the input scatters variances channel by channel.
        model[1].running_var *= (0.9 * torch.randn(24, generator=random)).exp()
        report = scan(model, Examination(running=Running()), data=standard(photos(1)))
        unnamed += [f for f in report.findings if f.rule == "NC404" and "all fit" not in f.detail]
    assert unnamed
    for finding in unnamed:
        assert "or the first norm's statistics alone are off" in finding.consequence
        assert "normcheck fix" in finding.fix
