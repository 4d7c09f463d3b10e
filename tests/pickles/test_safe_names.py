"""Names that need trust: the table is that of the installed torch, and files say what they need."""

import io
import warnings
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

import normcheck
from normcheck.pickles.safe_names import AFTER_IMPORT, ALLOWED, TORCH, needs_trust, refused_names


def _of_torch() -> tuple[set[str], set[str]]:
    """What the installed torch takes at once, and what after its packages are imported."""
    import torch._weights_only_unpickler as unpickler

    return set(unpickler._get_allowed_globals()), set(unpickler._get_user_allowed_globals())


@pytest.mark.skipif(
    not torch.__version__.startswith(f"{TORCH}."), reason=f"the table is that of torch {TORCH}"
)
def test_the_table_is_torchs() -> None:
    """No name more, no name less: a torch that changes its list fails here."""
    at_once, imported = _of_torch()
    assert at_once == ALLOWED
    assert imported == AFTER_IMPORT


class Own:
    """A class of a user's."""


def _values() -> dict[str, Any]:
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    state = net.state_dict()
    return {
        "state dict": state,
        "nested": {"model": state, "epoch": 3, "best": 0.5, "names": ["a"], "flags": {1, 2}},
        "optimizer": {"m": state, "o": torch.optim.Adam(net.parameters()).state_dict()},
        "containers": {"m": state, "c": Counter("aab"), "o": OrderedDict(a=1), "z": 1j},
        "bytes": {"m": state, "b": b"abc", "a": bytearray(b"abc"), "d": torch.device("cpu")},
        "dtypes": {"m": state, "d": [torch.float32, torch.int8, torch.bfloat16], "s": torch.Size()},
        "parameters": {"m.weight": nn.Parameter(torch.ones(3)), "m.bias": torch.ones(3).half()},
        "quantised": {"w.weight": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)},
        "sparse": {"m": state, "s.weight": torch.eye(3).to_sparse()},
        "sparse rows": {"m": state, "s.weight": torch.eye(3).to_sparse_csr()},
        "meta": {"s.weight": torch.empty(3, device="meta")},
        "module": net,
        "default dictionary": {"m": state, "d": defaultdict(list)},
        "array": {"m": state, "a": np.ones(3)},
        "array scalar": {"m": state, "a": np.float64(0.5)},
        "own class": {"m": state, "a": Own()},
        "path": {"m": state, "p": Path("x")},
        "function": {"m": state, "f": len},
        "slice": {"m": state, "f": slice(1)},
        "wrapper": {"m": state, "t.weight": TwoTensor(torch.ones(3), torch.ones(3))},
        "lazy": {"m": state, "t.weight": nn.UninitializedParameter()},
        "generator": {"m": state, "g": torch.nn.functional.relu},
    }


VALUES = _values()


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", VALUES)
def test_files_that_need_trust(name: str, legacy: bool, tmp_path: Path) -> None:
    """The note stands in the report where ``weights_only=True`` fails, and nowhere else."""
    path = tmp_path / "model.pt"
    torch.save(VALUES[name], path, _use_new_zipfile_serialization=not legacy)
    try:
        torch.load(path, weights_only=True)
        loads = True
    except Exception:
        loads = False
    (*_, model) = normcheck.scan(path).models
    notes = [note for note in model.notes if note.startswith("loading needs trust")]
    assert (not notes) is loads
    assert all("weights_only=True" in note for note in notes)


def test_words() -> None:
    """What is not torch's own is named first, a long list is cut, and nothing is called bad."""
    names = [("torch.nn.modules.linear", "Linear"), ("mine", "Net"), ("torch", "FloatStorage")]
    note = needs_trust([*names, *(("lib", f"C{i}") for i in range(9))])
    assert "names mine.Net, lib.C0 and 9 more" in note
    assert needs_trust(names[2:]) == ""
    assert not any(word in note for word in ("danger", "malicious", "unsafe", "attack"))


def test_names_of_python_2() -> None:
    """``__builtin__`` is what protocol 2 calls ``builtins``."""
    assert refused_names([("__builtin__", "set"), ("__builtin__", "eval")]) == ("builtins.eval",)


def test_plain_pickles_are_not_spoken_of(tmp_path: Path) -> None:
    """``torch.load`` takes no plain pickle: what it would take of one is no use to anybody."""
    import pickle

    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(VALUES["module"]))
    assert normcheck.scan(path).models[0].notes == ()


@pytest.fixture(autouse=True)
def _quiet() -> None:
    warnings.simplefilter("ignore")


def test_saving_needs_no_file() -> None:
    """The values of this test are such as torch can save."""
    for value in VALUES.values():
        torch.save(value, io.BytesIO())
