"""Reading weights with a budget: the same places in every layout, and no more than needed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from normcheck.compare.weight_sample import FEWEST, Sample, comparable, limit_for, sample
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.saved.tensors import TensorRef
from normcheck.sources.source import FileSource

LIMIT = FEWEST
SHAPE = (60, 50, 7, 3)


def _stored(tensor: torch.Tensor, folder: Path, name: str) -> TensorRef:
    path = folder / name
    torch.save({"conv.weight": tensor}, path)
    return read_checkpoint(path).models[0].tensors["conv.weight"]


@pytest.fixture
def weights() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(SHAPE)


def test_small_tensors_are_read_whole(tmp_path: Path) -> None:
    """Up to the limit every value is there, in order."""
    values = torch.arange(float(LIMIT)).reshape(32, -1)
    read = sample(_stored(values, tmp_path, "a.pt"), LIMIT)
    assert read.values.tolist() == values.flatten().tolist()


def test_the_same_places_in_every_layout(weights: torch.Tensor, tmp_path: Path) -> None:
    """Channels last, a transposed view and another type have the same sample."""
    plain = sample(_stored(weights, tmp_path, "plain.pt"), LIMIT)
    last = weights.to(memory_format=torch.channels_last)
    turned = weights.transpose(0, 1).contiguous().transpose(0, 1)
    inside = torch.cat([torch.zeros(1, *SHAPE[1:]), weights])[1:]
    wide = weights.double()
    for name, tensor in (("last", last), ("turned", turned), ("inside", inside), ("wide", wide)):
        other = sample(_stored(tensor, tmp_path, name), LIMIT)
        assert np.array_equal(plain.values, other.values), name
    assert plain.numel == weights.numel()
    assert plain.values.size == LIMIT


def test_values_are_spread_over_the_tensor(tmp_path: Path) -> None:
    """The first and the last values are among them, and no value twice."""
    count = 100 * LIMIT + 17
    read = sample(_stored(torch.arange(count, dtype=torch.float64), tmp_path, "a.pt"), LIMIT)
    assert read.values[0] == 0
    assert read.values[-1] == count - 1
    assert len(set(read.values.tolist())) == LIMIT


def test_only_the_sample_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large tensor only the sampled blocks come from the disk."""
    tensor = _stored(torch.zeros(4096 * LIMIT), tmp_path, "a.pt")
    lengths: list[int] = []
    real = FileSource.read_at

    def counting(self: FileSource, offset: int, length: int) -> bytes:
        lengths.append(length)
        return real(self, offset, length)

    monkeypatch.setattr(FileSource, "read_at", counting)
    sample(tensor, LIMIT)
    assert sum(lengths) == 4 * LIMIT


def test_a_packed_file_is_read_once(tmp_path: Path) -> None:
    """Inside a deflated archive no place can be jumped to; the sample is the same."""
    import zipfile

    values = torch.randn(5 * LIMIT)
    plain = _stored(values, tmp_path, "plain.pt")
    packed = tmp_path / "packed.pt"
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))
    other = read_checkpoint(packed).models[0].tensors["conv.weight"]
    assert np.array_equal(sample(plain, LIMIT).values, sample(other, LIMIT).values)


def test_the_distance_of_a_sample_is_that_of_the_whole(
    weights: torch.Tensor, tmp_path: Path
) -> None:
    """The estimate lies within a few percent."""
    moved = weights + 0.1 * torch.randn(SHAPE)

    def distance(a: Sample, b: Sample) -> float:
        return float(np.linalg.norm(b.values - a.values) / np.linalg.norm(a.values))

    refs = [_stored(t, tmp_path, f"{i}.pt") for i, t in enumerate((weights, moved))]
    exact = distance(*(sample(ref, 10**9) for ref in refs))
    assert distance(*(sample(ref, LIMIT) for ref in refs)) == pytest.approx(exact, rel=0.1)


def test_budget(weights: torch.Tensor, tmp_path: Path) -> None:
    """Whole where everything fits, then the largest power of two, never below the fewest."""
    tensors = {str(i): _stored(weights, tmp_path, f"{i}.pt") for i in range(4)}
    total = 4 * weights.numel()
    assert limit_for(tensors, total) >= weights.numel()
    tight = limit_for(tensors, total // 2)
    assert tight < weights.numel()
    assert 4 * tight <= total // 2 < 4 * 2 * tight
    assert limit_for(tensors, 10) == FEWEST
    assert limit_for({}, 10) == FEWEST


@pytest.mark.parametrize(
    ("tensor", "usable"),
    [
        (torch.zeros(3), True),
        (torch.zeros(3, dtype=torch.bfloat16), True),
        (torch.zeros(0), False),
        (torch.zeros(3, dtype=torch.int64), False),
        (torch.zeros(3, dtype=torch.complex64), False),
        (torch.zeros(3, device="meta"), False),
    ],
)
def test_what_can_be_compared(tensor: torch.Tensor, usable: bool, tmp_path: Path) -> None:
    """Real floating numbers that are in the file."""
    assert comparable(_stored(tensor, tmp_path, "a.pt")) is usable
