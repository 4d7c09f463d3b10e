"""Images of another kind than the statistics are of: told from statistics that are off."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from normcheck.findings import Severity
from tests.live.causes.test_input_map import convolutions, perceptron, said, settled

pytestmark = pytest.mark.kernels

KIND = "images of another kind"


def photos(seed: int, count: int = 192) -> Tensor:
    """Smooth images, 3x14x14, whose colours nearly agree."""
    random = torch.Generator().manual_seed(seed)
    bright = torch.randn(count, 1, 4, 4, generator=random)
    rough = bright + 0.3 * torch.randn(count, 3, 4, 4, generator=random)
    smooth = functional.interpolate(rough, (14, 14), mode="bicubic", align_corners=True)
    return smooth + 0.1 * torch.randn(count, 3, 14, 14, generator=random) - 0.2


def noise(seed: int) -> Tensor:
    return torch.randn(192, 3, 14, 14, generator=torch.Generator().manual_seed(seed))


def as_noise(x: Tensor) -> Tensor:
    """Noise with the mean and deviation of each channel of the data."""
    mean, deviation = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True)
    return mean + deviation * noise(4)


def shuffled(x: Tensor) -> Tensor:
    """The pixels of each image in another order, its channels together."""
    random = torch.Generator().manual_seed(5)
    order = torch.rand(len(x), 14 * 14, generator=random).argsort(1)
    return x.flatten(2).gather(2, order[:, None].expand(-1, 3, -1)).reshape(x.shape)


def levels(x: Tensor) -> Tensor:
    """Images of one colour each."""
    return x.mean((2, 3), keepdim=True).expand_as(x).contiguous()


def halved(x: Tensor) -> Tensor:
    """The same images, hardly smaller."""
    return functional.interpolate(x[..., 1:-1, 1:-1], (14, 14), mode="bilinear")


@pytest.mark.parametrize("change", [as_noise, shuffled, levels])
def test_another_kind_of_images_is_named(change: Callable[[Tensor], Tensor]) -> None:
    """It is the input, and no word is said of stale statistics."""
    model = settled(convolutions(), photos(0))
    found = said(model, change(photos(1)))
    severity, text = found["NC404"]
    assert severity is Severity.WARNING
    assert KIND in text
    assert "NC401" not in found


@pytest.mark.parametrize("change", [lambda x: x, halved, lambda x: 1.3 * x + 0.1])
def test_images_of_the_same_kind_are_no_others(change: Callable[[Tensor], Tensor]) -> None:
    """Other samples, another crop, and another scale, which is named as such."""
    model = settled(convolutions(), photos(0))
    assert not any(KIND in text for _, text in said(model, change(photos(1))).values())


def _first(model: nn.Module) -> nn.BatchNorm2d:
    return next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))


def permuted(model: nn.Module) -> None:
    """The first norm's statistics in another order: as of other weights."""
    norm = _first(model)
    for values in (norm.running_mean, norm.running_var):
        assert values is not None
        values.copy_(values.roll(5))


def with_residue(model: nn.Module) -> None:
    """A third of the initial values left, in all norms."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.mul_(0.7)  # type: ignore[union-attr]
            norm.running_var.mul_(0.7).add_(0.3)  # type: ignore[union-attr]


def of_other_weights(model: nn.Module) -> None:
    """Variances that nothing makes."""
    variance = _first(model).running_var
    assert variance is not None
    variance.mul_(torch.randn(len(variance), generator=torch.Generator().manual_seed(6)).exp())


@pytest.mark.parametrize("fault", [permuted, with_residue, of_other_weights])
def test_statistics_that_are_off_are_no_other_images(fault: Callable[[nn.Module], None]) -> None:
    """On the data that they should be of, whatever is said of them is not about the images."""
    model = settled(convolutions(), photos(0))
    fault(model)
    assert not any(KIND in text for _, text in said(model, photos(1)).values())


def test_labels_that_show_harm_speak_of_statistics() -> None:
    """Answers that become right under new statistics are stale ones, whatever the images are."""
    meant, data = convolutions(), photos(1)
    labels = settled(meant, as_noise(photos(1)))(as_noise(data)).argmax(1)
    model = settled(convolutions(), photos(0))
    found = said(model, (as_noise(data), labels))
    assert "NC401" in found
    assert not any(KIND in text for _, text in found.values())


def test_rows_of_numbers_have_no_neighbours() -> None:
    """A linear layer sees each pixel for itself: nothing is said of kinds of images in tables."""
    model = nn.Sequential(nn.Flatten(), *list(perceptron())[1:])
    rows = photos(0).flatten(1)
    model = settled(model, rows)
    found = said(model, torch.randn(rows.shape, generator=torch.Generator().manual_seed(7)))
    assert not any(KIND in text for _, text in found.values())
