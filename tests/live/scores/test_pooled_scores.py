"""The expected number of right answers more, by two sets of scores together."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from normcheck.live.scores.pooled_scores import expected_gain
from normcheck.live.watching.forward import RegimeOutputs

pytestmark = pytest.mark.kernels

CLASSES = 10


def outputs(scores: Tensor, labels: Tensor | None) -> RegimeOutputs:
    """Of one batch."""
    return RegimeOutputs([scores], [labels])


def drawn(count: int, seed: int, *, spoiled: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Scores that are right as often as they say, the same with noise, and labels."""
    made = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(count, CLASSES, generator=made)
    labels = torch.multinomial(scores.softmax(1), 1, generator=made)[:, 0]
    return scores, scores + spoiled * torch.randn(count, CLASSES, generator=made), labels


def counted(worse: Tensor, better: Tensor, labels: Tensor) -> float:
    """The gain that the labels themselves count."""
    right = [float((scores.argmax(1) == labels).double().mean()) for scores in (worse, better)]
    return right[1] - right[0]


def test_it_tells_more_than_counted_answers() -> None:
    """Of 256 samples, time and again: nearer to the truth, which many samples count."""
    better, worse, labels = drawn(100_000, 1)
    truth = counted(worse, better, labels)
    errors: dict[str, list[float]] = {"expected": [], "counted": []}
    for seed in range(40):
        better, worse, labels = drawn(256, 100 + seed)
        found = expected_gain(outputs(worse, labels), outputs(better, labels))
        assert found is not None
        errors["expected"].append((found - truth) ** 2)
        errors["counted"].append((counted(worse, better, labels) - truth) ** 2)
    assert sum(errors["expected"]) < 0.6 * sum(errors["counted"])


def test_it_knows_the_direction_and_no_scale() -> None:
    """Exchanged it is the opposite; scores ten times as large are the same scores."""
    better, worse, labels = drawn(512, 2)
    forth = expected_gain(outputs(worse, labels), outputs(10 * better + 3, labels))
    back = expected_gain(outputs(better, labels), outputs(worse, labels))
    assert forth is not None
    assert back is not None
    assert forth > 0.02
    assert back == pytest.approx(-forth, abs=1e-6)
    assert expected_gain(outputs(worse, labels), outputs(worse, labels)) == pytest.approx(0)


def test_scores_that_separate_all_labels_do_not_run_away() -> None:
    """There is no best weight, and still a number."""
    labels = torch.arange(64) % CLASSES
    perfect = functional.one_hot(labels, CLASSES).float()
    found = expected_gain(outputs(perfect.roll(1, 1), labels), outputs(perfect, labels))
    assert found == pytest.approx(1, abs=0.05)


def test_labels_that_are_ignored_or_one_hot() -> None:
    """Marks for no class count for nothing; rows of zeros with a single one are classes."""
    better, worse, labels = drawn(256, 3)
    found = expected_gain(outputs(worse, labels), outputs(better, labels))
    hot = functional.one_hot(labels, CLASSES)
    assert expected_gain(outputs(worse, hot), outputs(better, hot)) == pytest.approx(found)
    marked = torch.where(torch.arange(256) < 16, -100, labels)
    assert expected_gain(outputs(worse, marked), outputs(better, marked)) is not None


@pytest.mark.parametrize(
    "labels",
    [None, torch.full((8,), 0.5), torch.zeros(8, 4, dtype=torch.long), torch.zeros(8, CLASSES)],
    ids=["none", "numbers", "several a sample", "numbers for each score"],
)
def test_what_are_no_classes(labels: Tensor | None) -> None:
    """Nothing is said of them."""
    scores = torch.randn(8, CLASSES)
    assert expected_gain(outputs(scores, labels), outputs(scores + 1, labels)) is None


def test_scores_that_are_not_finite() -> None:
    """Nothing is said of them either."""
    better, worse, labels = drawn(32, 4)
    worse[3, 2] = float("nan")
    assert expected_gain(outputs(worse, labels), outputs(better, labels)) is None
