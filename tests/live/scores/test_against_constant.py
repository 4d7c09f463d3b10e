"""What knows nothing of a sample: numbers, masks, marks and tokens, sick and healthy."""

import pytest
import torch
from torch import Tensor, nn

import normcheck
from normcheck.findings import Severity
from normcheck.live.hits import Skill
from normcheck.live.scores.against_constant import skill
from normcheck.live.scores.regime_comparison import answers
from normcheck.live.watching import outputs
from normcheck.live.watching.forward import RegimeOutputs
from normcheck.report.report import Report
from normcheck.rules.data.skill import knows_nothing, skill_in_words

pytestmark = pytest.mark.kernels

COUNT = 256


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers, the same each time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def known(main: Tensor, labels: Tensor) -> Skill:
    """The skill of one set of outputs, which has one."""
    found = skill(RegimeOutputs([main], [labels]))
    assert found is not None
    return found


TARGET = drawn(COUNT, 1)
LONG_TAILED = drawn(COUNT, 1).mul(2).exp()


@pytest.mark.parametrize(
    ("main", "labels", "nothing"),
    [
        (torch.zeros(COUNT, 1) + 0.01, TARGET, True),
        (drawn(COUNT, 1, seed=1), TARGET, True),
        (TARGET + 0.5 * drawn(COUNT, 1, seed=1), TARGET, False),
        (0.3 * TARGET, TARGET, False),
        (TARGET.flatten(), TARGET.flatten(), False),
        # Two columns of different size: each counts the same.
        (torch.cat([0 * TARGET, 99 * TARGET], 1), torch.cat([TARGET, 100 * TARGET], 1), False),
        # The bulk is predicted, the tail is not: squares see only the tail.
        (LONG_TAILED.clamp_max(9), LONG_TAILED, False),
        (LONG_TAILED.median() * torch.ones(COUNT, 1), LONG_TAILED, True),
        # Images: a mean for each channel is no skill.
        (torch.tensor([1.0, 5.0])[None, :, None, None].expand(COUNT, 2, 4, 4),
         drawn(COUNT, 2, 4, 4) + torch.tensor([1.0, 5.0])[None, :, None, None], True),
        (drawn(COUNT, 2, 4, 4), drawn(COUNT, 2, 4, 4) + 0.3 * drawn(COUNT, 2, 4, 4, seed=1), False),
    ],
)  # fmt: skip
def test_numbers(main: Tensor, labels: Tensor, nothing: bool) -> None:
    """Above the best constant, or not."""
    found = known(main, labels)
    assert found.of == "numbers"
    assert knows_nothing(found) is nothing


def test_numbers_in_another_unit_are_told() -> None:
    """Worse than a constant, and yet not ignorant: the words say what may be wrong."""
    found = known(100 * TARGET + 7, TARGET)
    assert knows_nothing(found)
    assert "another unit" in skill_in_words(found)
    assert "another unit" not in skill_in_words(known(drawn(COUNT, 1, seed=1), TARGET))


def test_few_samples_accuse_nobody() -> None:
    """Eight numbers that a model half knows are not enough to say that it knows nothing."""
    half = TARGET[:8] + drawn(8, 1, seed=3)
    assert not knows_nothing(known(half, TARGET[:8]))
    assert skill(RegimeOutputs([TARGET[:3]], [TARGET[:3]])) is None
    assert skill(RegimeOutputs([TARGET], [torch.ones(COUNT, 1)])) is None
    assert skill(RegimeOutputs([TARGET * torch.nan], [TARGET])) is None
    assert skill(RegimeOutputs([TARGET], [None])) is None


PLACES = (drawn(COUNT, 8, 8) > 0.6).long()
"""Three in ten are of class 1, anywhere."""
SKY = PLACES.clone()
SKY[:, :4] = 2
"""The upper half is always of class 2."""


def scores(classes: Tensor) -> Tensor:
    """Outputs that decide for these classes."""
    return nn.functional.one_hot(classes, 3).movedim(-1, 1).float()


def mixed(share: float, other: Tensor) -> Tensor:
    """``PLACES`` where chance has it so, ``other`` elsewhere."""
    return torch.where(drawn(COUNT, 8, 8, seed=5).sigmoid() < share, PLACES, other)


@pytest.mark.parametrize(
    ("main", "labels", "nothing"),
    [
        (scores(torch.zeros_like(PLACES)), PLACES, True),
        (scores(PLACES.roll(1, 0)), PLACES, True),
        (scores(mixed(0.5, torch.zeros_like(PLACES))), PLACES, False),
        # It knows where the sky is, which is the same in every sample.
        (scores(torch.where(SKY == 2, 2, 0)), SKY, True),
        (scores(SKY), SKY, False),
        # One in twenty: nearly all places are right without any skill.
        (scores(torch.zeros_like(PLACES)), (drawn(COUNT, 8, 8) > 1.6).long(), True),
        (scores((drawn(COUNT, 8, 8) > 1.4).long()), (drawn(COUNT, 8, 8) > 1.6).long(), False),
        # As logits and as probabilities of a mask.
        (drawn(COUNT, 1, 8, 8, seed=2), PLACES[:, None].float(), True),
        (3.0 * PLACES[:, None] - 1 + 0.5 * drawn(COUNT, 1, 8, 8, seed=2), PLACES[:, None], False),
        (0.6 * PLACES[:, None].float(), PLACES[:, None].float(), False),
        # Marks, of which one is rare and always denied.
        (torch.full((COUNT, 3), -1.0), (drawn(COUNT, 3) > torch.tensor([1.0, 0.5, 1.5])).float(),
         True),
        (drawn(COUNT, 3) - 0.2, (drawn(COUNT, 3) > 0).float(), False),
    ],
)  # fmt: skip
def test_places(main: Tensor, labels: Tensor, nothing: bool) -> None:
    """Beyond what is known of the places alone, or not."""
    found = known(main, labels)
    assert found.of == "places"
    assert knows_nothing(found) is nothing


def test_places_without_a_label_do_not_count() -> None:
    """Ignored ones are neither right nor wrong; labels of one class show nothing."""
    holes = PLACES.clone()
    holes[:, 0] = 255
    holes[:, 1] = -100
    found = known(scores(PLACES), holes)
    assert found.share == pytest.approx(1, abs=0.01)
    assert skill(RegimeOutputs([scores(PLACES)], [torch.zeros_like(PLACES)])) is None


def test_tokens() -> None:
    """Scores of classes in the last of three axes."""
    tokens = PLACES[:, 0]
    assert not knows_nothing(known(nn.functional.one_hot(tokens, 3).float(), tokens))
    assert knows_nothing(known(torch.eye(3)[0].expand(COUNT, 8, 3), tokens))


def test_one_decision_of_yes_or_no() -> None:
    """A column of scores, or of probabilities, with labels of 0 and 1 in any type."""
    wanted = (TARGET > 0).flatten()
    for main in (TARGET, (3 * TARGET).sigmoid(), TARGET.flatten()):
        for labels in (wanted, wanted.long(), wanted[:, None].float()):
            found = answers(RegimeOutputs([main], [labels]))
            assert found is not None
            assert (found.right, found.classes) == (COUNT, 2)
    one_hot = nn.functional.one_hot(PLACES[:, 0, 0], 3)
    right = outputs.correct(one_hot.float(), one_hot.float())
    assert right is not None
    assert right.shape == (COUNT,)


class Net(nn.Module):
    """A norm with the statistics of its input, and a head that knows something or nothing."""

    def __init__(self, head: nn.Module, *, in_eval: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.head = head
        nn.init.constant_(self.norm.weight, 1.3)
        nn.init.constant_(self.norm.bias, 0.2)
        if not in_eval:
            self.norm.num_batches_tracked.fill_(5000)  # type: ignore[union-attr]
            self.norm.running_mean.fill_(3.0)  # type: ignore[union-attr]
            self.norm.running_var.fill_(4.0)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(x))
        return out


IMAGES = 3 + 2 * drawn(COUNT, 1, 8, 8, seed=8)


def head(task: str, *, ignorant: bool) -> tuple[nn.Module, Tensor]:
    """A head for a task, and the labels; an ignorant one always gives the same."""
    if task == "regression":
        layer: nn.Module = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
        linear, labels = layer[1], IMAGES.mean((1, 2, 3))[:, None]  # type: ignore[index]
        nn.init.constant_(linear.weight, 0.0 if ignorant else 2 / 1.3 / 64)
        nn.init.constant_(linear.bias, 3 - (0 if ignorant else 0.4 / 1.3))
    else:
        layer = nn.Conv2d(1, 2, 1)
        labels = (IMAGES[:, 0] > 4).long()
        with torch.no_grad():
            layer.weight.zero_()
            layer.bias.copy_(torch.tensor([0.0, -1.0]))
            if not ignorant:
                layer.weight[1] = 1.0
                layer.bias[1] = -0.85
    return layer, labels


def report(task: str, *, ignorant: bool, in_eval: bool) -> Report:
    """A scan with labels."""
    layer, labels = head(task, ignorant=ignorant)
    found = normcheck.scan(Net(layer, in_eval=in_eval).eval(), data=(IMAGES, labels))
    assert not found.errors
    return found


@pytest.mark.parametrize("task", ["regression", "segmentation"])
def test_a_model_at_chance_is_a_warning(task: str) -> None:
    """Whatever explains it; a healthy one is silent."""
    sick = report(task, ignorant=True, in_eval=False)
    assert {f.rule: f.severity for f in sick.findings}["NC406"] is Severity.WARNING
    assert not report(task, ignorant=False, in_eval=False).findings


@pytest.mark.parametrize("task", ["regression", "segmentation"])
def test_trained_in_eval_mode_is_never_acquitted(task: str) -> None:
    """Norms at 0 and 1 under trained weights that know nothing: an error that says why."""
    found = [
        f for f in report(task, ignorant=True, in_eval=True).findings if f.rule == "NC101"
    ]  # fmt: skip
    assert [f.severity for f in found] == [Severity.ERROR]
    assert "guessing" in found[0].consequence
