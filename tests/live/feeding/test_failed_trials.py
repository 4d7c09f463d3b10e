"""Of many shapes that a model did not take, the error that says most is shown."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from normcheck.errors import NormcheckError
from normcheck.live.feeding.failed_trials import (
    FailedShape,
    counted_modules,
    in_brief,
    most_telling,
)
from normcheck.live.feeding.feed import feed_for
from normcheck.live.input_shape import Shape
from normcheck.live.run_request import Feeding
from normcheck.live.watching.forward import Forward


def failed(error: str, modules: int = 0, side: int = 8) -> FailedShape:
    return FailedShape((Shape((3, side, side)),), error, modules)


def test_the_furthest() -> None:
    """One that came through more modules says more than any number that failed at once."""
    failures = [failed("a")] * 9 + [failed("b", 4)] + [failed("a")] * 5
    assert most_telling(failures).error == "b"


def test_the_commonest_of_those() -> None:
    """Numbers in the words aside: they are the shape's."""
    failures = [failed("x 1"), failed("y 1"), failed("y 22"), failed("z")]
    assert most_telling(failures).error == "y 1"


def test_the_first_of_those() -> None:
    """Guesses come with the likeliest first."""
    assert most_telling([failed("a", 2), failed("b", 2)]).error == "a"


def test_modules_are_counted_where_they_end() -> None:
    """A module that fails is not counted, nor are those around it."""
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(4, 4))
    with counted_modules() as count, pytest.raises(RuntimeError):
        net(torch.ones(1, 2))
    assert count == [2]
    net[:2](torch.ones(1, 2))
    assert count == [2]  # the hook is gone


class Classifier(nn.Module):
    """Wants images of 40 by 40, which no guess has."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4 * 38 * 38, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).flatten(1))


class Faulty(Classifier):
    """Has a fault that no shape would help."""

    def forward(self, x: Tensor) -> Tensor:
        return self.nothing(self.body(x))


class WantsTwo(nn.Module):
    """Fails with the same words whatever it is given."""

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError(f"{x.shape[1]} is not what I want")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (Classifier, "came furthest, and failed with: RuntimeError: mat1 and mat2"),
        (Faulty, "AttributeError: 'Faulty' object has no attribute 'nothing'"),
        (WantsTwo, "all failed with: ValueError"),
    ],
)
def test_what_a_user_is_told(made: Callable[[], nn.Module], said: str) -> None:
    """The head's complaint, the model's own fault; not the last guess at a sequence."""
    model = made().eval()
    with pytest.raises(NormcheckError) as caught:
        feed_for(model, Forward(model, torch.device("cpu")), Feeding())
    assert said in caught.value.message
    assert "--input-shape" in caught.value.hint


def test_none_was_tried() -> None:
    """A model to which no shape could be guessed is not said to have refused any."""
    assert in_brief([]) == "no shape was tried"
