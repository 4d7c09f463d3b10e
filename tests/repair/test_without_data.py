"""Repairs that need no data: modes, counts, the rest of the initial value. None needs torch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck import NormcheckError, scan
from normcheck.repair.repair_request import Fixing
from normcheck.runs.fix import fix
from sample_models.networks import DigitsNet
from tests.conftest import ROOT, SAMPLES


@pytest.mark.parametrize("legacy", [False, True])
def test_modes_in_place(legacy: bool, tmp_path: Path) -> None:
    """One byte a module; the classes need not be there, and hidden modules count as well."""
    model = DigitsNet().train()
    model.plain = [nn.BatchNorm1d(3).train()]
    model.settings = {"training": True, "other": False}
    path, output = tmp_path / "module.pt", tmp_path / "fixed.pt"
    torch.save(model, path, _use_new_zipfile_serialization=not legacy)
    result = fix(path, Fixing(str(output), modes="eval"))
    assert result.written is not None
    assert result.written.changed == len(list(model.modules())) + 1
    loaded = torch.load(output, weights_only=False)
    assert not any(module.training for module in (*loaded.modules(), *loaded.plain))
    assert loaded.settings == {"training": True, "other": False}
    again = fix_error(output, Fixing(str(tmp_path / "twice.pt"), modes="eval"))
    assert "nothing to repair" in again.message


def fix_error(path: Path, how: Fixing) -> NormcheckError:
    with pytest.raises(NormcheckError) as raised:
        fix(path, how)
    return raised.value


def test_a_state_dict_has_no_modes(tmp_path: Path) -> None:
    how = Fixing(str(tmp_path / "fixed.pt"), modes="eval")
    assert "has no modes" in fix_error(SAMPLES / "digits-healthy.pt", how).message


def test_unwarm_is_exact(tmp_path: Path) -> None:
    """Batches that are all alike: what the residue hides is known to the last digits."""
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(6, momentum=0.2).train()
    x = torch.randn(64, 6) * torch.tensor([0.1, 0.5, 1.0, 2.0, 4.0, 8.0]) + 3
    for _ in range(4):
        norm(x)
    path, output = tmp_path / "cold.pt", tmp_path / "fixed.pt"
    torch.save(nn.Sequential(norm).eval(), path)
    fix(path, Fixing(str(output), unwarm=True))
    fixed = torch.load(output, weights_only=False)[0]
    assert torch.allclose(fixed.running_mean, x.mean(0), rtol=1e-5)
    assert torch.allclose(fixed.running_var, x.var(0), rtol=1e-4, atol=1e-5)
    assert int(fixed.num_batches_tracked) == 0
    assert scan([output]).findings == () or all(f.rule != "NC103" for f in scan([output]).findings)


def test_unwarm_needs_the_momentum(tmp_path: Path) -> None:
    """A state dict does not hold it, and a wrong one is noticed."""
    path = SAMPLES / "too-few-batches.pt"
    output = str(tmp_path / "fixed.pt")
    assert "does not hold the momentum" in fix_error(path, Fixing(output, unwarm=True)).message
    wrong = fix_error(path, Fixing(output, unwarm=True, momentum=0.01))
    assert "do not describe these statistics" in wrong.message
    assert fix(path, Fixing(output, unwarm=True, momentum=0.1)).written is not None


def test_unwarm_finds_nothing_at_0_and_1(tmp_path: Path) -> None:
    how = Fixing(str(tmp_path / "fixed.pt"), unwarm=True, momentum=0.1)
    assert "no layer" in fix_error(SAMPLES / "statistics-lost.pt", how).message


def test_counts(tmp_path: Path) -> None:
    """Negative ones in place; those in floating point in a new file, as whole numbers."""
    state = torch.load(SAMPLES / "digits-healthy.pt", weights_only=True)
    name = "stem.norm.num_batches_tracked"
    state[name] = torch.tensor(-5)
    torch.save(state, tmp_path / "negative.pt")
    result = fix(tmp_path / "negative.pt", Fixing(str(tmp_path / "whole.pt"), counts=True))
    assert result.written is not None
    assert not result.written.anew
    assert int(torch.load(tmp_path / "whole.pt", weights_only=True)[name]) == 0
    state[name] = torch.tensor(443.6)
    torch.save(state, tmp_path / "float.pt")
    result = fix(tmp_path / "float.pt", Fixing(str(tmp_path / "anew.pt"), counts=True))
    assert result.written is not None
    assert result.written.anew
    new = torch.load(tmp_path / "anew.pt", weights_only=True)
    assert new[name].dtype == torch.int64
    assert int(new[name]) == 444
    assert all(torch.equal(new[key], value) for key, value in state.items() if key != name)


def test_without_torch(tmp_path: Path) -> None:
    """Bytes are replaced without importing it."""
    code = (
        "import sys; from normcheck.cli.main import main; "
        f"code = main(['fix', {str(SAMPLES / 'mixed-modes-module.pt')!r}, '--modes', 'eval', "
        f"'-o', {str(tmp_path / 'fixed.pt')!r}]); "
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
