"""Reading works where torch cannot be imported, and never tries to."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

pytestmark = pytest.mark.slow

READER = """
import sys
sys.modules["torch"] = None  # any import of it now fails
sys.modules["safetensors"] = None
from pathlib import Path
from normcheck.formats.read_checkpoint import read_checkpoint
(model,) = read_checkpoint(Path(sys.argv[1])).models
print(model.form, sum(float(t.values().sum()) for t in model.tensors.values()))
assert not [name for name in sys.modules if name.startswith(("torch.", "safetensors."))]
"""


def network() -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    return model


def write(form: str, path: Path) -> None:
    state = network().state_dict()
    if form == "safetensors":
        save_file(state, path)
    elif form == "pickle":
        path.write_bytes(pickle.dumps(state))
    else:
        thing = network() if form.endswith("module") else state
        torch.save(thing, path, _use_new_zipfile_serialization=form.startswith("zip"))


@pytest.mark.parametrize(
    "form", ["zip", "zip module", "legacy", "legacy module", "pickle", "safetensors"]
)
def test_reading_without_torch(form: str, tmp_path: Path, python) -> None:
    """Every format is read, values too, in a process that has no torch."""
    path = tmp_path / "model.pt"
    write(form, path)
    process = python(READER, path)
    assert process.returncode == 0, process.stderr
    words = "whole module" if form.endswith("module") else "state dict"
    assert process.stdout == f"{words} 12.0\n"


def test_the_package_imports_no_torch(python) -> None:
    """Importing every module of the readers imports neither torch nor safetensors."""
    process = python("""
import importlib, pkgutil, sys
for room in ("sources", "saved", "pickles", "formats"):
    package = importlib.import_module(f"normcheck.{room}")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
print([name for name in ("torch", "safetensors") if name in sys.modules])
""")
    assert process.stdout == "[]\n", process.stderr


def test_a_scan_imports_no_masked_arrays(tmp_path: Path, python) -> None:
    """``numpy.ma`` takes longer to import than a small file takes to scan; np.median does it."""
    layers: list[nn.Module] = []
    for made_of in (3, 16, 16, 16, 16):
        layers += [nn.Conv2d(made_of, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    model = nn.Sequential(*layers)
    for _ in range(50):
        model(torch.randn(8, 3, 16, 16))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    scan = "import sys; from normcheck import scan; scan(sys.argv[1])"
    process = python(f"{scan}\nprint('numpy.ma' in sys.modules)", tmp_path / "model.pt")
    assert process.stdout == "False\n", process.stderr
