"""Data in files and folders: what is read, how it is sampled, and what is said of bad ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from normcheck.errors import NormcheckError, UsageError
from normcheck.live.batches import Feed
from normcheck.live.feeding.feed import feed_for
from normcheck.live.feeding.user_data import read_data
from normcheck.live.run_request import Feeding
from normcheck.live.watching.forward import Forward

CPU = torch.device("cpu")


class Flat(nn.Module):
    """Takes rows of three numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class Pair(Flat):
    def forward(self, left: Tensor, right: Tensor | None = None) -> Tensor:
        return self.linear(left if right is None else left * right)


def fed(data: Any, model: nn.Module | None = None, **options: Any) -> Feed:
    model = (model or Flat()).eval()
    return feed_for(model, Forward(model, CPU), Feeding(data=data, **options))


def inputs(feed: Feed) -> Tensor:
    """The first input of all samples, passed by name or by place."""
    return torch.cat([next(iter((*b.args, *b.kwargs.values()))) for b in feed.batches])


def labels(feed: Feed) -> list[int]:
    assert feed.labelled
    return [int(n) for batch in feed.batches for n in batch.labels]  # type: ignore[union-attr]


ROWS = torch.arange(30.0).view(10, 3)
NUMBERS = torch.arange(10)

WRITERS: dict[str, tuple[str, Callable[[Path], object], bool]] = {
    "npy": ("a.npy", lambda p: np.save(p, ROWS.numpy()), False),
    "npy, big-endian": ("a.npy", lambda p: np.save(p, ROWS.numpy().astype(">f4")), False),
    "npy, backwards": ("a.npy", lambda p: np.save(p, ROWS.numpy()[::-1][::-1]), False),
    "npz, one array": ("a.npz", lambda p: np.savez(p, anything=ROWS), False),
    "npz, x and y": ("a.npz", lambda p: np.savez(p, x=ROWS, y=NUMBERS), True),
    "npz, compressed": ("a.NPZ", lambda p: _savez(p, images=ROWS, labels=NUMBERS), True),
    "npz, X and Y": ("a.npz", lambda p: np.savez(p, X=ROWS, Y=NUMBERS), True),
    "npz, label first": ("a.npz", lambda p: np.savez(p, target=NUMBERS, data=ROWS), True),
    "tensor": ("a.pt", lambda p: torch.save(ROWS, p), False),
    "tuple": ("a.pth", lambda p: torch.save((ROWS, NUMBERS), p), True),
    "dict": ("a.pt", lambda p: torch.save({"inputs": ROWS, "labels": NUMBERS}, p), True),
    "list of batches": (
        "a.pt",
        lambda p: torch.save([(ROWS[:5], NUMBERS[:5]), (ROWS[5:], NUMBERS[5:])], p),
        True,
    ),
    "safetensors": ("a.safetensors", lambda p: save_file({"x": ROWS, "y": NUMBERS}, p), True),
    "safetensors, one": ("a.safetensors", lambda p: save_file({"rows": ROWS}, p), False),
}


def _savez(path: Path, **arrays: Any) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


@pytest.mark.parametrize("name", WRITERS)
def test_files_of_every_kind(name: str, tmp_path: Path) -> None:
    """All rows arrive with their values, and labels where there are any."""
    file, write, labelled = WRITERS[name]
    write(tmp_path / file)
    feed = fed(str(tmp_path / file))
    assert torch.equal(inputs(feed).float(), ROWS)
    assert feed.labelled is labelled
    if labelled:
        assert labels(feed) == list(range(10))
    assert feed.real
    assert feed.source == str(tmp_path / file)


def test_arrays_by_the_names_of_the_inputs(tmp_path: Path) -> None:
    """Arrays that are called as the arguments of forward go there, whatever their order."""
    path = tmp_path / "a.npz"
    np.savez(path, right=ROWS * 2, labels=NUMBERS, left=ROWS)
    feed = fed(path, Pair())
    assert torch.equal(torch.cat([b.kwargs["right"] for b in feed.batches]), ROWS * 2)
    assert torch.equal(torch.cat([b.kwargs["left"] for b in feed.batches]), ROWS)
    assert labels(feed) == list(range(10))


def test_rows_are_taken_evenly(tmp_path: Path) -> None:
    """Few samples of many come from all of the file, first and last row included."""
    path = tmp_path / "a.npz"
    np.savez(path, x=np.repeat(np.arange(101.0)[:, None], 3, 1), y=np.arange(101))
    feed = fed(path, samples=11)
    assert labels(feed) == list(range(0, 101, 10))
    assert inputs(feed)[:, 0].tolist() == labels(feed)


def test_bytes_as_images(tmp_path: Path) -> None:
    """Images of bytes are fed as numbers where the model takes no bytes; labels stay whole."""
    path = tmp_path / "a.npz"
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
    np.savez(path, x=images, y=np.arange(6))
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Flatten())
    feed = fed(path, model)
    assert inputs(feed).dtype == torch.float32
    assert float(inputs(feed).max()) > 200
    assert feed.batches[0].labels is not None
    assert not feed.batches[0].labels.is_floating_point()


def test_tokens_stay_whole(tmp_path: Path) -> None:
    """Token numbers that an embedding takes are not turned into floats."""
    np.save(tmp_path / "a.npy", np.arange(12).reshape(4, 3))
    feed = fed(tmp_path / "a.npy", nn.Sequential(nn.Embedding(20, 4), nn.LayerNorm(4)))
    assert inputs(feed).dtype == torch.int64


BAD: dict[str, tuple[str, Callable[[Path], object], str, str]] = {
    "absent": ("a.npy", lambda _p: None, "no such file", "check the path"),
    "unknown": ("a.csv", lambda p: p.write_text("1,2"), "a file of a known kind", ".npz, .pt"),
    "damaged": ("a.npy", lambda p: p.write_bytes(b"\x93NUMPY\x01"), "cannot be read", "arrays"),
    "pickled": (
        "a.npy",
        lambda p: np.save(p, np.array([{"a": 1}], dtype=object), allow_pickle=True),
        "cannot be read: ValueError",
        "without running code",
    ),
    "object": ("a.pt", lambda p: torch.save(Path("x"), p), "cannot be read", "pkg.mod:loader"),
    "no safetensors": ("a.safetensors", lambda p: p.write_bytes(b"x" * 99), "a.safetensors", ""),
    "text of another kind": ("a.pt", lambda p: p.write_text("hello"), "not a file of", "x and the"),
    "empty": ("a.npy", lambda p: np.save(p, ROWS.numpy()[:0]), "the data are empty", "samples"),
    "number": ("a.pt", lambda p: torch.save(3, p), "gives a int, not batches", "DataLoader"),
    "texts": ("a.npy", lambda p: np.save(p, np.array(["a", "b"])), "an array of <U1", "numbers"),
    "dates": ("a.npy", lambda p: np.save(p, np.zeros(3, "M8[s]")), "datetime64", "numbers"),
    "complex": ("a.npy", lambda p: np.save(p, np.ones((5, 3), "c8")), "fails on the data", "NCHW"),
    "only texts": ("a.npz", lambda p: np.savez(p, x=np.array(["a"])), "no array of n", "as x"),
    "other names": (
        "a.npz",
        lambda p: np.savez(p, x_train=ROWS, x_test=ROWS[:3]),
        "takes nothing called x_train, x_test",
        "inputs x",
    ),
    "width": (
        "a.npy",
        lambda p: np.save(p, np.ones((5, 4), "f")),
        "fails on the data (4 a",
        "NCHW",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str, tmp_path: Path) -> None:
    """Each kind of bad data has a message that says what, and a hint on what to give instead."""
    file, write, message, hint = BAD[name]
    write(tmp_path / file)
    with pytest.raises(NormcheckError) as caught:
        fed(tmp_path / file)
    assert message in caught.value.message
    assert caught.value.hint
    if hint != "NCHW":
        assert hint in caught.value.hint


def test_names_of_classes_beside_the_arrays(tmp_path: Path) -> None:
    """An array of texts in the same file is left out."""
    np.savez(tmp_path / "a.npz", x=ROWS, y=NUMBERS, class_names=np.array(["cat", "dog"]))
    assert fed(tmp_path / "a.npz").samples == 10


@pytest.mark.parametrize("count", [3, 5, 0])
def test_labels_of_another_number_are_left_out(count: int, tmp_path: Path) -> None:
    """Which sample each is of is not told; the samples are used all the same, and it is said."""
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(count))
    feed = fed(tmp_path / "data.npz", nn.Linear(6, 2), batch_size=3)
    assert (feed.samples, feed.labelled) == (4, False)
    (note,) = feed.notes
    assert note.startswith(f"the labels are left out: {count} label")
    np.savez(tmp_path / "right.npz", x=x, y=np.arange(4))
    feed = fed(tmp_path / "right.npz", nn.Linear(6, 2), batch_size=3)
    assert (feed.labelled, feed.notes, labels(feed)) == (True, (), [0, 1, 2, 3])


ANIMALS = ["cat", "dog", "cat", "emu", "cat", "dog", "dog", "emu", "cat", "dog"]
TEXT_LABELS: dict[str, Callable[[Path], Any]] = {
    "npz": lambda p: _saved(p / "a.npz", x=ROWS, y=np.array(ANIMALS)),
    "npz, unknown input": lambda p: _saved(p / "a.npz", rows=ROWS, labels=np.array(ANIMALS)),
    "mapping": lambda _: {"x": ROWS, "labels": ANIMALS},
    "mapping, of a table": lambda _: {"x": ROWS, "labels": np.array(ANIMALS, dtype=object)},
    "loader": lambda _: DataLoader(list(zip(ROWS, ANIMALS, strict=True)), batch_size=10),  # type: ignore[arg-type]
}


def _saved(path: Path, **arrays: Any) -> Path:
    _savez(path, **arrays)
    return path


@pytest.mark.parametrize("form", TEXT_LABELS)
def test_labels_as_texts_are_left_out_and_it_is_said(form: str, tmp_path: Path) -> None:
    """Accuracy needs numbers; that it is not measured is no secret."""
    data = TEXT_LABELS[form](tmp_path)
    feed = fed(data)
    assert (feed.samples, feed.labelled) == (10, False)
    (note,) = feed.notes
    assert note.startswith("the labels are left out: they are texts ('cat')")


def test_texts_beside_the_inputs_that_are_no_labels(tmp_path: Path) -> None:
    """Names of classes beside numbers, and a name of a file for each sample."""
    path = _saved(tmp_path / "a.npz", x=ROWS, y=NUMBERS, labels=np.array(["cat", "dog"]))
    assert (labels(fed(path)), fed(path).notes) == (list(range(10)), ())
    files = [(row, f"{number}.png") for number, row in enumerate(ROWS)]
    assert fed(DataLoader(files, batch_size=10)).notes == ()  # type: ignore[arg-type]


def test_labels_as_objects_are_refused(tmp_path: Path) -> None:
    """As a table of pandas gives texts: they are not unpickled, and other objects are left out."""
    path = _saved(tmp_path / "a.npz", x=ROWS, y=np.array(ANIMALS, dtype=object))
    with pytest.raises(UsageError, match="'y' holds Python objects"):
        fed(path)
    path = _saved(tmp_path / "b.npz", x=ROWS, names=np.array(ANIMALS, dtype=object), y=NUMBERS)
    assert labels(fed(path)) == list(range(10))


@pytest.mark.parametrize("name", ["x", "names"])
def test_a_damaged_array_is_no_text(name: str, tmp_path: Path) -> None:
    """An array that ends early is an error, whatever it is called."""
    path = _saved(tmp_path / "a.npz", x=ROWS, names=np.arange(10.0), y=NUMBERS)
    cut = tmp_path / "cut.npz"
    with ZipFile(path) as whole, ZipFile(cut, "w") as out:
        for member in whole.namelist():
            content = whole.read(member)
            out.writestr(member, content[:-8] if member == f"{name}.npy" else content)
    with pytest.raises(NormcheckError, match="cannot be read"):
        fed(cut)


class Raising(Flat):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("backbone")


class Wide(Flat):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.view(len(x), 1, 7))


@pytest.mark.parametrize(
    ("model", "hint"), [(Raising(), "in its own code"), (Wide(), "channels first")]
)
def test_a_forward_that_fails(model: nn.Module, hint: str) -> None:
    """A hint on shapes only where it is about shapes, and labels are not counted as input."""
    with pytest.raises(NormcheckError, match=r"fails on the data \(3 a sample\)") as caught:
        fed((ROWS, NUMBERS), model)
    assert hint in caught.value.hint


def test_arrays_without_names(tmp_path: Path) -> None:
    """Arrays that were saved without names are taken in their order."""
    np.savez(tmp_path / "a.npz", ROWS, NUMBERS)
    assert labels(fed(tmp_path / "a.npz")) == list(range(10))


def picture(path: Path, value: int, size: tuple[int, int] = (8, 6), mode: str = "RGB") -> None:
    image = pytest.importorskip("PIL.Image")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.new(mode, size, value if mode == "L" else (value, 0, 255)).save(path)


def seen(folder: Path, channels: int = 3, **options: Any) -> Any:
    model = nn.Sequential(nn.Conv2d(channels, 2, 3))
    (item,) = read_data(Feeding(data=str(folder), **options), model).items
    return item


def test_folder_of_images(tmp_path: Path) -> None:
    """Images are channels first, from 0 to 1, height before width, in the order of their names."""
    for number in range(3):
        picture(tmp_path / f"{number}.png", 51 * number)
    images = seen(tmp_path)
    assert images.shape == (3, 3, 6, 8)
    assert images[:, 0, 0, 0].tolist() == pytest.approx([0, 0.2, 0.4])
    assert float(images[:, 2].min()) == 1
    assert "3 images" in read_data(Feeding(data=str(tmp_path)), nn.Conv2d(3, 1, 1)).source


def test_folders_are_classes(tmp_path: Path) -> None:
    """Names of folders in sorted order are the classes, also where few images are taken."""
    for number in range(4):
        picture(tmp_path / "dog" / f"{number}.png", 0)
        picture(tmp_path / "cat" / "deep" / f"{number}.JPG", 0)
    images, classes = seen(tmp_path)
    assert classes.tolist() == [0] * 4 + [1] * 4
    images, classes = seen(tmp_path, samples=2)
    assert classes.tolist() == [0, 1]
    assert len(images) == 2


def test_images_are_resized_and_normalised(tmp_path: Path) -> None:
    """Sizes are height and width; mean and std are per channel, after scaling to 0 to 1."""
    picture(tmp_path / "a.png", 255, (8, 6))
    picture(tmp_path / "b.png", 255, (5, 5))
    images = seen(tmp_path, image_size=(4, 7), mean=(0.5, 0.0, 1.0), std=(0.5, 1.0, 2.0))
    assert images.shape == (2, 3, 4, 7)
    assert images[0, :, 0, 0].tolist() == [1, 0, 0]


def test_grey_images(tmp_path: Path) -> None:
    """A model whose first convolution has one channel sees grey."""
    picture(tmp_path / "a.png", 255, mode="L")
    assert seen(tmp_path, channels=1).shape == (1, 1, 6, 8)
    assert seen(tmp_path, channels=3).shape == (1, 3, 6, 8)


def test_bad_folders(tmp_path: Path) -> None:
    """No images, images of several sizes, a damaged one, a wrong number of means."""
    with pytest.raises(UsageError, match="no images in it"):
        seen(tmp_path)
    picture(tmp_path / "a.png", 0)
    with pytest.raises(UsageError, match="--mean has 2 values, the images 3 channels"):
        seen(tmp_path, mean=(0.5, 0.5))
    picture(tmp_path / "b.png", 0, (4, 4))
    with pytest.raises(UsageError, match="several sizes") as caught:
        seen(tmp_path)
    assert "--image-size" in caught.value.hint
    (tmp_path / "c.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match="no image") as caught:
        seen(tmp_path)
    assert "c.png" in caught.value.message
