"""Large tensors read a few rows at a time."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from normcheck.errors import UnreadableError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.saved.tensor_blocks import in_blocks

WEIGHT = torch.arange(30_000.0).reshape(100, 30, 10)


@pytest.mark.parametrize("form", ["pt", "legacy", "safetensors"])
def test_blocks_make_up_the_tensor(form: str, tmp_path: Path) -> None:
    """Their rows follow each other, and none is larger than asked for."""
    path = tmp_path / f"m.{form}"
    if form == "safetensors":
        save_file({"a.weight": WEIGHT}, path)
    else:
        torch.save({"a.weight": WEIGHT}, path, _use_new_zipfile_serialization=form == "pt")
    checkpoint = read_checkpoint(path)
    tensor = checkpoint.models[0].tensors["a.weight"]
    blocks = list(in_blocks(tensor, 8_000))
    assert [start for start, _ in blocks] == list(range(0, 100, 6))
    assert max(block.nbytes for _, block in blocks) <= 8_000
    assert np.array_equal(np.concatenate([block for _, block in blocks]), WEIGHT.numpy())
    checkpoint.close()


def test_transposed_comes_whole(tmp_path: Path) -> None:
    """What does not lie row by row in the file is one block."""
    torch.save({"a.weight": WEIGHT.transpose(0, 1)}, tmp_path / "m.pt")
    checkpoint = read_checkpoint(tmp_path / "m.pt")
    ((start, block),) = in_blocks(checkpoint.models[0].tensors["a.weight"], 8_000)
    assert start == 0
    assert np.array_equal(block, WEIGHT.transpose(0, 1).numpy())
    checkpoint.close()


def test_damage_in_a_large_member(tmp_path: Path) -> None:
    """A flipped bit in a tensor of over 8 MB shows once all its blocks were read."""
    path = tmp_path / "m.pt"
    torch.save({"a.weight": torch.ones(3000, 1000)}, path)
    data = bytearray(path.read_bytes())
    data[6_000_000] ^= 1
    path.write_bytes(data)
    checkpoint = read_checkpoint(path)
    seen = []
    with pytest.raises(UnreadableError, match="checksum"):
        seen.extend(start for start, _ in in_blocks(checkpoint.models[0].tensors["a.weight"]))
    assert seen  # the last block alone is withheld
    checkpoint.close()
