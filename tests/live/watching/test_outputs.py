"""What a forward gives: structures, decisions, losses, and outputs under two regimes compared."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from normcheck.live.scores import regime_comparison as comparison
from normcheck.live.watching import outputs
from normcheck.live.watching.forward import RegimeOutputs
from normcheck.live.watching.outputs import ForwardOutput, flattened

pytestmark = pytest.mark.kernels

Pair = namedtuple("Pair", "scores hidden")  # noqa: PYI024
A, B = torch.zeros(2, 3), torch.ones(2)


@dataclass
class Structured:
    logits: Tensor
    extra: Any = None


class ModelOutput(OrderedDict[str, Any]):
    """As in transformers: a dictionary that is a dataclass as well."""


@dataclass
class Hugging(ModelOutput):
    loss: Tensor | None = None
    logits: Tensor | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) is not None:
                self[field.name] = getattr(self, field.name)


class Distribution:
    def __init__(self) -> None:
        self.mean, self.name = A, "normal"


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (A, [""]),
        ((A, B), ["[0]", "[1]"]),
        ([A, (B, "text")], ["[0]", "[1][0]"]),
        ({"out": A, "n": 3, 5: B}, ["out", "5"]),
        (Pair(A, [B]), ["scores", "hidden[0]"]),
        (Structured(A, {"deep": Pair(B, None)}), ["logits", "extra.deep.scores"]),
        (Hugging(logits=A), ["logits"]),
        (Distribution(), ["mean"]),
        ("nothing", []),
        (None, []),
    ],
)
def test_structures(value: object, names: list[str]) -> None:
    """Every tensor of what a forward gives is found, by a name that tells where it sat."""
    assert list(flattened(value).tensors) == names


def test_endless_structures() -> None:
    """A structure that holds itself is flattened as deep as makes sense."""
    loop: list[Any] = [A]
    loop.append(loop)
    assert "[0]" in flattened(loop).tensors


def test_main_output() -> None:
    """Logits before anything else, then the first floating output with a row for each sample."""
    whole = ForwardOutput({"hidden": torch.zeros(2, 9), "ids": torch.zeros(2, dtype=torch.long),
                    "logits": A, "loss": torch.zeros(())})  # fmt: skip
    assert whole.main(2) is A
    assert whole.main(5) is None
    assert ForwardOutput({"ids": torch.zeros(2, dtype=torch.long), "z": B}).main(2) is B


def test_equality_of_outputs() -> None:
    """NaN equals itself, a structure or a bit that differs does not."""
    nan = ForwardOutput({"a": torch.tensor([float("nan"), 1])})
    assert outputs.same(nan, ForwardOutput({"a": torch.tensor([float("nan"), 1])}))
    assert not outputs.same(nan, ForwardOutput({"a": torch.tensor([float("nan"), 1 + 1e-6])}))
    assert not outputs.same(nan, ForwardOutput({"b": nan.tensors["a"]}))
    assert outputs.difference(nan, ForwardOutput({"a": torch.zeros(2)})) == float("inf")
    assert outputs.difference(
        ForwardOutput({"a": B * 1.1}), ForwardOutput({"a": B})
    ) == pytest.approx(0.1)
    assert outputs.difference(ForwardOutput({"a": A}), ForwardOutput({"a": A})) == 0


@pytest.mark.parametrize(
    ("main", "expected"),
    [
        (torch.tensor([[0.1, 0.9], [3.0, 2.0]]), [1, 0]),
        (torch.tensor([[0.2], [0.7]]), [0, 1]),
        (torch.tensor([0.2, 0.7]), [0, 1]),
        (torch.tensor([[-3.0], [2.0]]), None),
        (torch.eye(3)[None].expand(2, 3, 3), [[0, 1, 2], [0, 1, 2]]),
        (torch.tensor([[[[1.0, 0]], [[0, 5]]]]), [[[0, 1]]]),
    ],
)
def test_decisions(main: Tensor, expected: Any) -> None:
    """Classes along their own axis, probabilities at one half, numbers decide nothing."""
    found = outputs.decisions(main)
    assert (None if found is None else found.tolist()) == expected


def test_right_answers() -> None:
    """Labels match decisions where their shapes do; a score that is NaN is never right."""
    main = torch.tensor([[0.0, 1.0], [1.0, 0.0], [float("nan"), 0.0]])
    right = outputs.correct(main, torch.tensor([1, 1, 0]))
    assert right is not None
    assert right.tolist() == [True, False, False]
    column = outputs.correct(main, torch.tensor([[1], [1], [0]], dtype=torch.uint8))
    assert column is not None
    assert column.tolist() == [True, False, False]
    assert outputs.correct(main, torch.full((3,), 0.5)) is None
    assert outputs.correct(main, torch.zeros(4, dtype=torch.long)) is None


def test_flips() -> None:
    """The share of decisions that differ, over all batches; None where nothing is decided."""
    first, second = [torch.eye(4), torch.eye(4)], [torch.eye(4), torch.eye(4).flip(0)]
    assert outputs.flips(first, second) == 0.5
    assert outputs.flips([torch.full((2, 1), 5.0)], [torch.zeros(2, 1)]) is None


def test_loss() -> None:
    """Cross-entropy for classes, squared error for numbers, nothing where they do not match."""
    main = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    classes = outputs.loss(main, torch.tensor([0, 0]))
    assert classes is not None
    assert classes.tolist() == pytest.approx([np.log1p(np.exp(-2)), np.log1p(np.exp(2))])
    numbers = outputs.loss(main, torch.zeros(2, 2))
    assert numbers is not None
    assert numbers.tolist() == [2, 2]
    assert outputs.loss(main, torch.tensor([0, 5])) is None
    assert outputs.loss(main, torch.zeros(7)) is None


def test_loss_of_single_numbers() -> None:
    """A model that gives one number for each sample, without a column, has a loss."""
    found = outputs.loss(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]))
    assert found is not None
    assert found.tolist() == [0, 4]


def test_labels_below_zero() -> None:
    """Labels of -1 are no classes, and there is no loss."""
    assert outputs.loss(torch.eye(2), torch.tensor([-1, 1])) is None


def measured(*mains: Tensor, labels: Tensor | None = None) -> RegimeOutputs:
    return RegimeOutputs(list(mains), [labels for _ in mains])


def test_comparison_of_regimes() -> None:
    """Accuracy, loss, flips and difference against eval mode, from the outputs alone."""
    stored, given = measured(torch.eye(4), labels=torch.arange(4)), measured(
        torch.eye(4).flip(0) * 2, labels=torch.arange(4)
    )  # fmt: skip
    found = comparison.regime("batch", given, stored)
    assert (found.accuracy, found.flips, found.samples) == (0.0, 1.0, 4)
    assert found.difference == pytest.approx(
        float((torch.eye(4).flip(0) * 2 - torch.eye(4)).norm() / 2)
    )
    assert comparison.regime("eval", stored, stored).accuracy == 1
    assert comparison.changed_answers(stored, given) == (0, 4)
    assert comparison.changed_answers(measured(torch.eye(4)), given) == (None, None)
    assert np.isnan(comparison.difference([torch.eye(3)], [torch.eye(4)]))


def test_loss_gain_and_decisiveness_have_a_sign() -> None:
    """Both are positive where the second is better, and None where there is nothing to compare."""
    labels = torch.arange(40) % 5
    noise = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    vague = measured(noise, labels=labels)
    sure = measured(noise + 5 * torch.eye(5)[labels], labels=labels)
    assert (comparison.loss_gain(vague, sure) or 0) > 5
    assert (comparison.loss_gain(sure, vague) or 0) < -5
    assert comparison.loss_gain(measured(noise), sure) is None
    found = comparison.decisiveness(vague, sure)
    assert found is not None
    assert found == comparison.decisiveness(vague, sure)
    assert min(found.t, found.margin_t, found.entropy_t) > 5
    two = measured(torch.randn(5, 2))
    assert comparison.decisiveness(two, two) is None
    single = measured(torch.randn(5, 1))
    assert comparison.decisiveness(single, single) is None


def test_few_confident_mistakes_do_not_decide() -> None:
    """The difference of one sample's losses is clipped: forty small gains outweigh one ruin."""
    labels = torch.zeros(41, dtype=torch.long)
    before = torch.zeros(41, 3)
    after = before + 0.3 * torch.eye(3)[0]
    after[0] = torch.tensor([-500.0, 500.0, 0.0])
    gain = comparison.loss_gain(measured(before, labels=labels), measured(after, labels=labels))
    assert (gain or 0) > 2


def test_dense_outputs_count_samples_not_pixels() -> None:
    """A thousand pixels of one image that turn wrong are one sample that did."""
    labels = torch.zeros(3, 32, 32, dtype=torch.long)
    right = torch.stack([torch.ones(3, 32, 32), torch.zeros(3, 32, 32)], dim=1)
    worse = right.clone()
    worse[0, 1] = 2
    stored, given = measured(right, labels=labels), measured(worse, labels=labels)
    assert comparison.changed_answers(stored, given) == (0, 1)
    assert comparison.regime("re-estimated", given, stored).accuracy == pytest.approx(2 / 3)
    assert comparison.answers(stored) is None
    assert (comparison.loss_gain(stored, given) or 0) < 0


def test_answers_know_chance() -> None:
    """One of the classes, or what the model's own answers would hit dealt out anew."""
    labels = torch.arange(40) % 4
    found = comparison.answers(measured(torch.eye(8)[labels], labels=labels))
    assert found is not None
    assert (found.right, found.samples, found.classes) == (40, 40, 8)
    assert found.chance == pytest.approx(1 / 4)
    # A model that always says the most frequent class knows nothing.
    skewed = torch.tensor([0] * 30 + [1, 2, 3, 1, 2] * 2)
    always = comparison.answers(measured(torch.eye(4)[torch.zeros(40).long()], labels=skewed))
    assert always is not None
    assert always.chance == pytest.approx(0.75)
    one = measured(torch.eye(4)[torch.arange(40) % 2], labels=torch.zeros(40).long())
    found = comparison.answers(one)
    assert found is not None
    assert (found.right, found.chance) == (20, 1 / 4)


def test_scores_that_are_only_larger_are_no_better() -> None:
    """A common factor moves every loss and no answer: at the best temperatures nothing is left."""
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (256,), generator=random)
    scores = torch.nn.functional.one_hot(labels, 5) + torch.randn(256, 5, generator=random)
    stored = RegimeOutputs([12 * scores], [labels])
    larger = RegimeOutputs([scores], [labels])
    plain, calibrated = (
        gain(stored, larger) for gain in (comparison.loss_gain, comparison.calibrated_gain)
    )
    assert plain is not None
    assert calibrated is not None
    assert plain > 4
    assert abs(calibrated) < 0.5
    # Where answers are better, both say so.
    noisy = RegimeOutputs([scores + 2 * torch.randn(256, 5, generator=random)], [labels])
    better = comparison.calibrated_gain(noisy, larger)
    assert better is not None
    assert better > 4
    assert comparison.calibrated_gain(noisy, RegimeOutputs([scores * torch.inf], [labels])) is None
    assert comparison.calibrated_gain(noisy, RegimeOutputs([scores], [None])) is None


CLASSES = torch.tensor([2, 0, 1, 2])
SCORES = torch.nn.functional.one_hot(CLASSES, 3).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_classes_kept_as_floating_numbers(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Tables keep their classes so; they are judged as whole numbers are."""
    labels = CLASSES.reshape(shape).to(dtype)
    assert outputs.correct(SCORES, labels).tolist() == [True] * 4
    assert torch.equal(outputs.loss(SCORES, labels), outputs.loss(SCORES, CLASSES))
    assert not outputs.are_numbers(SCORES, labels)


@pytest.mark.parametrize("wrong", [0.5, -1.0, 3.0, float("nan")])
def test_numbers_that_are_no_classes(wrong: float) -> None:
    """One value that is no class, and the labels are of another kind."""
    labels = CLASSES.float()
    labels[1] = wrong
    assert outputs.correct(SCORES, labels) is None
    assert outputs.loss(SCORES, labels) is None


def test_whole_numbers_of_a_regression_stay_numbers() -> None:
    """As many as the output has: squared errors, also where they happen to be whole."""
    wanted = torch.tensor([[1.0, 2.0], [0.0, 3.0], [2.0, 2.0]])
    assert outputs.are_numbers(wanted + 1, wanted)
    assert outputs.loss(wanted + 1, wanted).tolist() == [1.0, 1.0, 1.0]
    assert outputs.are_numbers(wanted[:, :1], wanted[:, 0])
