"""Labels of classes that the model does not have are refused, by their range and the model's."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

import normcheck
from normcheck.errors import NormcheckError
from normcheck.live.feeding.label_range import check_range

pytestmark = pytest.mark.kernels

CLASSES = 10


def scores(count: int = 40) -> Tensor:
    return torch.randn(count, CLASSES, generator=torch.Generator().manual_seed(0))


def labels(count: int = 40) -> Tensor:
    return torch.arange(count) % CLASSES


def changed(value: int) -> Tensor:
    """Labels of which one is of no class."""
    found = labels()
    found[7] = value
    return found


@pytest.mark.parametrize(
    ("wrong", "least", "greatest", "hint"),
    [
        (labels() + 1, 1, 10, "subtract 1"),
        (changed(10), 0, 10, "numbers of classes from 0"),
        (changed(-1), -1, 9, r"without a label \(-1\)"),
        (changed(-100), -100, 9, r"without a label \(-100\)"),
        ((labels() + 1)[:, None], 1, 10, "subtract 1"),
    ],
)
def test_labels_of_no_class_are_refused(
    wrong: Tensor, least: int, greatest: int, hint: str
) -> None:
    """Both ranges are named, over all batches."""
    said = re.escape(f"labels run from {least} to {greatest}, the model has outputs for 0 to 9")
    parts = [wrong[:20], wrong[20:]]
    with pytest.raises(NormcheckError, match=said) as error:
        check_range(list(scores().split(20)), parts)
    assert re.search(hint, error.value.hint or "")


@pytest.mark.parametrize(
    ("outputs", "fitting"),
    [
        (scores(), labels()),
        (scores(), labels()[:, None]),
        (scores(), labels().int()),
        (scores(), torch.nn.functional.one_hot(labels(), CLASSES)),
        (scores(), torch.randn(40, CLASSES)),  # numbers
        (scores(), torch.full((40,), 3.5)),
        (scores(), None),
        (scores()[:, :1], labels() % 2),  # one score a sample
        (scores()[:, :1], labels() + 40),  # a whole number that is predicted
        (scores() * 0, (scores() > 0).long()),  # marks
        (torch.randn(4, 3, 5, 5), torch.full((4, 5, 5), 255)),  # masks, places to ignore
        (torch.randn(4, 6, 3), torch.tensor([[0, 1, 2, -100, -1, 2]] * 4)),  # tokens
    ],
)
def test_other_labels_pass(outputs: Tensor, fitting: Tensor | None) -> None:
    """Classes in any form, numbers, marks, and places that are not to count."""
    check_range([outputs], [fitting])


def test_masks_of_no_class_are_refused() -> None:
    """Places to ignore are not counted, others are."""
    mask = torch.zeros(4, 5, 5, dtype=torch.long)
    mask[0, 0, 0], mask[1, 2, 3] = 3, 255
    with pytest.raises(NormcheckError, match="run from 0 to 3, the model has outputs for 0 to 2"):
        check_range([torch.randn(4, 3, 5, 5)], [mask])


def test_a_scan_ends_with_it_and_the_file_is_read_all_the_same() -> None:
    """Not with the verdict that the model knows nothing."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.LazyLinear(10))
    x = torch.randn(40, 1, 6, 6)
    model(x)
    report = normcheck.scan(model.eval(), data=(x, labels() + 1))
    assert "labels run from 1 to 10" in report.errors[0].message
    assert "NC406" not in {finding.rule for finding in report.findings}
    assert normcheck.scan(model, data=(x, labels())).errors == ()
