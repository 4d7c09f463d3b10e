"""Damaged at random, a file is read or is an error of ours: never anything else."""

import io
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from normcheck.errors import NormcheckError, UnreadableError
from normcheck.formats.read_checkpoint import read_checkpoint

pytestmark = pytest.mark.slow

CASES = 50
"""Per file and kind of damage; hundreds of times as many were tried when this was written."""


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(1, 2, 1), nn.BatchNorm1d(2, momentum=None), nn.ReLU())


def torch_file(thing: Any, *, legacy: bool = False) -> bytes:
    raw = io.BytesIO()
    torch.save(thing, raw, _use_new_zipfile_serialization=not legacy)
    return raw.getvalue()


def deflated(raw: bytes) -> bytes:
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(raw)) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return packed.getvalue()


def training() -> dict[str, Any]:
    state = {0: {"step": torch.tensor(5.0), "exp_avg": torch.ones(2)}}
    optimizer = {"state": state, "param_groups": []}
    return {"state_dict": model().state_dict(), "epoch": 3, "optimizer": optimizer}


FILES = {
    "zip": lambda: torch_file(training()),
    "zip of a module": lambda: torch_file(model()),
    "compressed zip": lambda: deflated(torch_file(training())),
    "legacy": lambda: torch_file(training(), legacy=True),
    "legacy module": lambda: torch_file(model(), legacy=True),
    "pickle": lambda: pickle.dumps(model()),
    "pickle of protocol 0": lambda: pickle.dumps(model(), 0),
    "numpy": lambda: pickle.dumps({"a.weight": np.ones((2, 3)), "b.weight": np.zeros(2)}, 5),
    "safetensors": lambda: safetensors.torch.save(model().state_dict()),
}


def flipped(whole: bytes, chance: random.Random) -> bytes:
    """Some bits the other way."""
    data = bytearray(whole)
    for _ in range(chance.choice((1, 1, 2, 5))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def spliced(whole: bytes, chance: random.Random) -> bytes:
    """A run of bytes removed, doubled, or replaced by zeros, by noise, by another run."""
    start = chance.randrange(len(whole))
    end = min(len(whole), start + chance.choice((1, 2, 4, 8, 16, 100)))
    run, length = whole[start:end], end - start
    other = chance.randrange(len(whole))
    middle = (b"", run * 2, bytes(length), chance.randbytes(length), whole[other : other + length])
    return whole[:start] + chance.choice(middle) + whole[end:]


def cut(whole: bytes, chance: random.Random) -> bytes:
    """The end missing, and something else there perhaps."""
    return whole[: chance.randrange(len(whole))] + chance.randbytes(chance.choice((0, 0, 1, 30)))


def seeded(*words: object) -> random.Random:
    """Chance that is the same in every run."""
    return random.Random(repr(words))  # noqa: S311  # nothing secret is made of it


def read_everything(path: Path) -> bool:
    """Whether the file could be read; any error but ours passes through."""
    try:
        checkpoint = read_checkpoint(path)
    except UnreadableError as error:
        if str(path) not in error.message or not error.hint or not error.message.isprintable():
            raise AssertionError(f"not a helpful error: {error.message!r}") from error
        return False
    for found in checkpoint.models:
        for tensor in found.tensors.values():
            try:
                if tensor.numel < 1_000_000:
                    tensor.values()
            except NormcheckError:
                continue
    checkpoint.close()
    return True


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source")
@pytest.mark.parametrize("damage", [flipped, spliced, cut])
@pytest.mark.parametrize("form", FILES)
def test_random_damage(form: str, damage: Any, tmp_path: Path) -> None:
    """Bit flips, splices and cuts: a checkpoint, or an UnreadableError with file and hint."""
    path = tmp_path / "model.pt"
    whole = FILES[form]()
    for case in range(CASES):
        path.write_bytes(damage(whole, seeded(form, damage.__name__, case)))
        read_everything(path)


@pytest.mark.parametrize("damage", [flipped, spliced])
@pytest.mark.parametrize("thing", [training, model], ids=["state dict", "module"])
def test_damage_within_the_pickle_of_a_zip(thing: Any, damage: Any, tmp_path: Path) -> None:
    """The same within ``data.pkl``, its checksum made to fit, so that the pickle is read."""
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(io.BytesIO(torch_file(thing()))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = [name for name in members if name.endswith("/data.pkl")]
    readable = 0
    for case in range(CASES):
        chance = seeded(damage.__name__, case)
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, damage(content, chance) if name == pickled else content)
        readable += read_everything(path)
    # Neither all nor none: damage is found, and names changed by a letter are still names.
    assert 0 < readable < CASES
