"""Made-up input: shapes of the user's, and shapes that are found by trial."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from normcheck.errors import NormcheckError, UsageError
from normcheck.live.batches import Feed
from normcheck.live.feeding.feed import device_of, feed_for
from normcheck.live.feeding.synthetic_input import guesses, made, parse
from normcheck.live.input_shape import Shape
from normcheck.live.run_request import Feeding
from normcheck.live.watching.forward import Forward
from tests.architectures import ARCHITECTURES

CPU = torch.device("cpu")


def fed(model: nn.Module, *shapes: str) -> Feed:
    model.eval()
    return feed_for(model, Forward(model, CPU), Feeding(shapes=shapes))


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("3x224x224", Shape((3, 224, 224))),
        ("3,32,32", Shape((3, 32, 32))),
        ("3X8x8", Shape((3, 8, 8))),
        (" 3 x 4", Shape((3, 4))),
        ("16", Shape((16,))),
        ("128:long", Shape((128,), "long")),
        ("128:int64", Shape((128,), "long")),
        ("5:float32", Shape((5,))),
        ("4:bool", Shape((4,), "bool")),
        ("input_ids=128:long", Shape((128,), "long", "input_ids")),
        ("t=:long", Shape((), "long", "t")),
        ("t=scalar:long", Shape((), "long", "t")),
        ("scalar", Shape(())),
    ],
)
def test_shapes_are_read(text: str, shape: Shape) -> None:
    """Dimensions with x or commas, a type after a colon, a name before an equals sign."""
    assert parse(text) == shape


@pytest.mark.parametrize(
    "text",
    ["3x", "x3", "3x0", "3x-1", "3x2.5", "a", "3:half", "1a=3", "=3", "a b=3", "a=b=3",
     "(3,4)", "3x4;5", "²"],
)  # fmt: skip
def test_what_is_no_shape(text: str) -> None:
    """Anything else is an error that shows the forms, not a guess."""
    with pytest.raises(UsageError, match="not a shape") as caught:
        parse(text)
    assert "3x224x224" in caught.value.hint


@given(
    st.builds(
        Shape,
        st.lists(st.integers(1, 999), max_size=4).map(tuple),
        st.sampled_from(["float", "long", "bool"]),
        st.sampled_from(["", "x", "input_ids"]),
    )
)
def test_shapes_in_words_are_read_again(shape: Shape) -> None:
    """What a report shows can be given as --input-shape."""
    assert parse(str(shape)) == shape


def test_values() -> None:
    """Normal numbers, tokens within the vocabulary, masks of ones; the same for the same seed."""
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 4))
    shapes = [parse("500"), parse("400:long"), parse("mask=4:bool"), Shape((9,), "long", "t", 5)]
    batch = made(shapes, 3, model)
    floats, tokens = batch.args
    assert abs(float(floats.mean())) < 0.2
    assert abs(float(floats.std()) - 1) < 0.1
    assert set(tokens.flatten().tolist()) == set(range(7))
    assert batch.kwargs["mask"].all()
    assert int(batch.kwargs["t"].max()) <= 4
    assert torch.equal(made(shapes, 3, model).args[0], floats)
    assert not torch.equal(made(shapes, 3, model, seed=1).args[0], floats)


def test_shapes_of_the_user() -> None:
    """Given shapes are fed as they are; one that does not fit is an error with the forward's."""
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2))
    feed = fed(model, "3x9x7")
    assert feed.batches[0].args[0].shape == (8, 3, 9, 7)
    assert not feed.real
    assert not feed.guessed
    assert feed.source == "random numbers of shape 3x9x7"
    with pytest.raises(NormcheckError, match="input of shape 4x9x7: RuntimeError") as caught:
        fed(model, "4x9x7")
    assert "without the batch" in caught.value.hint


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)


class TwoInputs(Named):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.linear(left) * right


class Timed(Named):
    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        return self.linear(x) + timestep.float()[:, None]


class Masked(Named):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.linear(self.embedding(input_ids)) * attention_mask[..., None]


class Configured(nn.Module):
    """Takes images of one size only, which it states."""

    img_size = 40

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 8, stride=8)
        self.head = nn.Linear(4 * 25, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).flatten(1))


FOUND: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "images": (lambda: nn.Sequential(nn.Conv2d(5, 2, 3), nn.BatchNorm2d(2)), "5x64x64"),
    "small images": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 26 * 26, 3)),
        "1x28x28",
    ),
    "signals": (lambda: nn.Sequential(nn.Conv1d(4, 2, 3), nn.BatchNorm1d(2)), "4x128"),
    "volumes": (lambda: nn.Conv3d(2, 2, 3), "2x16x32x32"),
    "features": (lambda: nn.Sequential(nn.Linear(13, 2), nn.BatchNorm1d(2)), "13"),
    "tokens": (lambda: nn.Sequential(nn.Embedding(9, 4), nn.LayerNorm(4)), "16:long"),
    "sequences": (lambda: nn.LSTM(6, 3, batch_first=True), "16x6"),
    "encoder": (lambda: nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), "16x8"),
    "two inputs": (TwoInputs, "6, 6"),
    "time steps": (Timed, "6, scalar:long"),
    "mask": (Masked, "16:long, 16:bool"),
    "stated size": (Configured, "3x40x40"),
}


@pytest.mark.parametrize("name", FOUND)
def test_shapes_found_by_trial(name: str) -> None:
    """The first layers, the names of the inputs and stated sizes tell what a model takes."""
    build, words = FOUND[name]
    feed = fed(build())
    assert feed.guessed
    assert feed.source.endswith(f" of shape {words}")


def test_nothing_fits() -> None:
    """A model that takes nothing is an error with the last reason and the way out."""

    class Picky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("never")

    with pytest.raises(NormcheckError, match=r"no input was found .* ValueError: never") as caught:
        fed(Picky())
    assert "--input-shape" in caught.value.hint
    assert "--data" in caught.value.hint


def test_guesses_are_few_and_distinct() -> None:
    """Nothing is tried twice, and no sample is larger than a large image."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(12, 4), nn.Embedding(9, 4), nn.LSTM(3, 4))
    found = [tuple(shapes) for shapes in guesses(model)]
    assert len(found) == len(set(found)) < 300
    assert max(torch.Size(shape.dimensions).numel() for (shape,) in found) <= 1 << 22


SLOW = frozenset({"spade_block", "film"})
"""Architectures that nothing fits and whose trials take most of the time."""
FLOOR = 0.9
"""Of the architectures; 0.94 when this was written."""


def test_most_architectures_get_an_input() -> None:
    """Of the small models in the form of real projects, nine in ten need no shape to be given."""
    torch.set_num_threads(1)
    names = sorted(ARCHITECTURES.keys() - SLOW)
    without = []
    for name in names:
        torch.manual_seed(0)
        try:
            assert fed(ARCHITECTURES[name]()).guessed
        except NormcheckError:
            without.append(name)
    share = 1 - len(without) / len(names)
    print(f"an input is found for {share:.0%} of {len(names)}; not for {', '.join(without)}")  # noqa: T201
    assert share >= FLOOR


def test_optional_inputs_are_not_made_up() -> None:
    """What forward does not require it is not fed."""

    class Optional(Named):
        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            assert mask is None
            return self.linear(x)

    assert fed(Optional()).source == "random numbers of shape 6"


def test_devices() -> None:
    """A device that is not there is an error in words."""
    assert device_of("cpu") == CPU
    for name in ("tpu-of-mine", "cuda:99"):
        with pytest.raises(NormcheckError, match=f"--device {name}"):
            device_of(name)
