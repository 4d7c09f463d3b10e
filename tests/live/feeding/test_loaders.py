"""Loaders of every shape: what of a batch is input, what is a label, and how batches are cut."""

import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from normcheck.errors import NormcheckError, UsageError
from normcheck.live.batches import Batch, Feed, joined, split
from tests.live.feeding.test_data_files import NUMBERS, ROWS, Flat, Pair, fed, inputs, labels

SET = TensorDataset(ROWS, NUMBERS)
Point = namedtuple("Point", "x y")  # noqa: PYI024


class Plain:
    """A data set by duck typing."""

    def __len__(self) -> int:
        return len(ROWS)

    def __getitem__(self, index: int) -> tuple[Tensor, int, str]:
        return ROWS[index], int(NUMBERS[index]), f"file {index}"


class Words(Flat):
    def forward(self, *, x: Tensor, scale: Tensor | None = None) -> Tensor:
        return self.linear(x if scale is None else x * scale)


class OneDict(Flat):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.linear(batch["rows"])


def batches(*parts: Any) -> list[Any]:
    return [parts, parts]


LOADERS: dict[str, tuple[Any, Callable[[], nn.Module], bool]] = {
    "tensor": (ROWS, Flat, False),
    "array": (ROWS.numpy(), Flat, False),
    "pair of tensors": ((ROWS, NUMBERS), Flat, True),
    "data set": (SET, Flat, True),
    "data set by duck typing": (Plain(), Flat, True),
    "data loader": (DataLoader(SET, 4), Flat, True),
    "data loader of dictionaries": (
        DataLoader([{"x": x, "label": y} for x, y in SET], 5), Flat, True,
    ),
    "data loader of strings": (
        DataLoader([(x, y, "name") for x, y in SET], 5), Flat, True,
    ),
    "generator of tensors": ((ROWS[i : i + 5] for i in (0, 5)), Flat, False),
    "list of tensors": ([ROWS[:5], ROWS[5:]], Flat, False),
    "list of lists": ([[ROWS, NUMBERS]], Flat, True),
    "named tuples": ([Point(ROWS, NUMBERS)], Flat, True),
    "mapping": ({"x": ROWS, "y": NUMBERS}, Flat, True),
    "mapping by other names": ([{"image": ROWS, "target": NUMBERS}], Flat, True),
    "mapping in a tuple": ([({"left": ROWS, "right": ROWS}, NUMBERS)], Pair, True),
    "two inputs and labels": ([((ROWS, ROWS), NUMBERS)], Pair, True),
    "keywords": ([{"x": ROWS, "scale": ROWS, "label": NUMBERS}], Words, True),
    "one dictionary": ([{"rows": ROWS, "label": NUMBERS}], OneDict, True),
    "numbers beside": ([(ROWS, 3, "text", None, NUMBERS)], Flat, True),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
@pytest.mark.parametrize("name", LOADERS)
def test_loaders_of_every_shape(name: str) -> None:
    """The model runs on what it gets, all samples arrive in order, labels where they are."""
    data, build, labelled = LOADERS[name]
    feed = fed(data, build())
    assert feed.samples == 10
    assert feed.labelled is labelled
    if labelled:
        assert labels(feed) == list(range(10))
    if build is Flat:
        assert torch.equal(inputs(feed), ROWS)


def test_two_required_inputs() -> None:
    """As many parts are inputs as forward requires; the next one is the label."""

    class Two(Flat):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return self.linear(left * right)

    feed = fed([(ROWS, ROWS, NUMBERS)], Two())
    assert labels(feed) == list(range(10))
    assert len(feed.batches[0].args) == 2


def test_names_between_input_and_label() -> None:
    """Texts between inputs and labels are for people."""
    loader = DataLoader([(x, "name", y) for x, y in SET], 5)
    assert labels(fed(loader)) == list(range(10))


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(zip(ROWS, NUMBERS, strict=True))


def test_data_set_without_length() -> None:
    """An IterableDataset gives single samples, as every data set does."""
    image = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    assert fed(Stream(), image).samples == 10


@pytest.mark.parametrize("sample", [object(), None], ids=["no tensor", "raises"])
def test_data_set_that_cannot_be_read(sample: object) -> None:
    """A data set whose samples cannot be read or put together is an error in words."""

    class Bad(Plain):
        def __getitem__(self, index: int) -> Any:
            if sample is None:
                raise FileNotFoundError("image 3")
            return sample

    with pytest.raises(NormcheckError):
        fed(Bad())


def test_no_more_samples_than_wanted() -> None:
    """Of a loader not more samples are used than asked for."""
    assert fed(DataLoader(SET, 4), samples=6).samples == 6


def test_endless_loader_is_not_exhausted() -> None:
    """A generator without end is read only as far as needed."""
    taken = []

    def endless() -> Iterator[Tensor]:
        while True:
            taken.append(1)
            yield ROWS[:4]

    assert fed(endless(), samples=8).samples == 8
    assert len(taken) == 2


SOURCE = """
import torch

rows = [(torch.ones(4, 3), torch.arange(4))]


def load():
    return rows


class Loader:
    def __iter__(self):
        return iter(rows)


def fails():
    raise OSError("no disk")


def stops():
    yield rows[0]
    raise OSError("lost")


def number():
    return 3


def nothing():
    return []
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "data_of_user.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("data_of_user", None)


@pytest.mark.parametrize("name", ["rows", "load", "Loader"])
def test_loader_by_name(name: str, project: None) -> None:
    """A name of the user's is a loader, or a function or class that makes one."""
    feed = fed(f"data_of_user:{name}")
    assert feed.samples == 4
    assert feed.source == f"data_of_user:{name}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fails", "failed: OSError: no disk"),
        ("stops", "failed after 1 batch: OSError: lost"),
        ("number", "gives a int, not batches"),
        ("nothing", "gave no batch"),
        ("absent", "has no absent"),
    ],
)
def test_bad_loaders(name: str, message: str, project: None) -> None:
    """What is wrong with a loader is told by its name, with a hint."""
    with pytest.raises(NormcheckError) as caught:
        fed(f"data_of_user:{name}")
    assert message in caught.value.message
    assert caught.value.hint


def test_batch_size() -> None:
    """The loader's own batch size is kept, the user's comes before it, arrays have 32."""
    assert fed(DataLoader(SET, 4)).batch_size == 4
    own = fed(DataLoader(SET, 4), batch_size=5)
    assert [batch.size for batch in own.batches] == [5, 5]
    assert own.batch_size_given
    assert fed(ROWS).batch_size == 32
    assert not fed(ROWS).batch_size_given


def feed_of(count: int, size: int = 4) -> Feed:
    whole = Batch((torch.arange(count),), {"k": torch.arange(count)}, torch.arange(count))
    return Feed(tuple(split(whole, size)), "", True, batch_size=size)


def numbers(feed: Feed) -> list[int]:
    for batch in feed.batches:
        assert batch.labels is not None
        assert torch.equal(batch.args[0], batch.kwargs["k"])
        assert torch.equal(batch.args[0], batch.labels)
    return [int(n) for batch in feed.batches for n in batch.args[0]]


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 12))
@settings(deadline=None)
def test_rebatching(count: int, size: int, other: int) -> None:
    """No sample is lost or moved, and the last batch is never a single sample."""
    feed = feed_of(count, size).rebatched(other)
    assert numbers(feed) == list(range(count))
    sizes = [batch.size for batch in feed.batches]
    assert all(n == other for n in sizes[:-1])
    if count > 1 and other > 1:
        assert 2 <= sizes[-1] <= other + 1


@given(st.integers(1, 60), st.integers(1, 12), st.data())
@settings(deadline=None)
def test_parts(count: int, size: int, data: st.DataObject) -> None:
    """A part has just the samples that were asked for; halves take turns; a spread is even."""
    feed = feed_of(count, size)
    wanted = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
    assert numbers(feed.part(sorted(wanted))) == sorted(wanted)
    if count > 1:
        first, second = feed.halves()
        assert numbers(first) == list(range(0, count, 2))
        assert numbers(second) == list(range(1, count, 2))
    most = data.draw(st.integers(1, 20))
    spread = numbers(feed.spread(most))
    assert len(spread) == min(most, count)
    gaps = {b - a for a, b in pairwise(spread)}
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_sequences_of_several_lengths_stay_apart() -> None:
    """Batches that cannot be joined stay as they are, also in parts of the data."""
    ragged = [Batch((torch.ones(2, n, 3),)) for n in (4, 5, 6)]
    assert joined(ragged) is None
    feed = Feed(tuple(ragged), "", True)
    assert feed.pooled() is None
    assert feed.rebatched(3) is feed
    assert [batch.size for batch in feed.part([0, 3, 4]).batches] == [1, 1, 1]
    assert [b.args[0].shape[1] for b in feed.part([0, 3, 4]).batches] == [4, 5, 6]


def test_shapes_in_words() -> None:
    """Inputs are described without the batch, by name where they have one."""
    batch = Batch((torch.ones(2, 3, 4), [torch.ones(2), torch.ones(2, 5)]), {"m": torch.ones(2, 7)})
    assert batch.shapes() == "3x4, 1 and 5, m 7"


def test_what_is_no_row_stays_whole() -> None:
    """Rows are picked from what has one for each sample; a table or a number goes along."""
    batch = Batch((torch.arange(5), torch.eye(3)), {"n": torch.tensor(7), "w": "text"})
    some = batch.rows([4, 0])
    assert some.args[0].tolist() == [4, 0]
    assert torch.equal(some.args[1], torch.eye(3))
    assert (int(some.kwargs["n"]), some.kwargs["w"]) == (7, "text")


def test_no_data_at_all() -> None:
    """An empty list of batches is said to be one."""
    with pytest.raises(UsageError, match="gave no batch"):
        fed([])
