"""The output is the input byte for byte, but for the buffers and their checksums."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from normcheck import scan
from normcheck.errors import NormcheckError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.formats.zip_members import StoredRegion
from normcheck.repair.editing.named_tensors import all_tensors
from normcheck.runs.fix import fix
from normcheck.saved.tensors import PlainRegion
from tests.repair.files import HEALTHY, LOST, lost_model, saved, statistics, wanted

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def allowed(path: Path) -> set[int]:
    """Places in a file of the bytes of norm buffers, and of the checksums of a zip."""
    places: set[int] = set()
    checkpoint = read_checkpoint(path)
    for model in checkpoint.models:
        for name, ref in all_tensors(model).items():
            if name.endswith(_BUFFERS):
                assert ref.storage is not None
                region = ref.storage.region
                assert isinstance(region, PlainRegion | StoredRegion)
                start = region.offset + ref.offset * ref.dtype.itemsize
                places.update(range(start, start + ref.numel * ref.dtype.itemsize))
    data = path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                crc = member.CRC.to_bytes(4, "little")
                at = data.find(crc)
                while at >= 0:
                    places.update(range(at, at + 4))
                    at = data.find(crc, at + 1)
    checkpoint.close()
    return places


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "half", "module"])
def test_only_buffers_and_checksums_change(kind: str, tmp_path: Path) -> None:
    """In every kind of file; what is written loads and heals the model."""
    path, output = saved(kind, tmp_path), tmp_path / f"fixed.{kind}"
    before = path.read_bytes()
    trust = {"model": "", "trust": True} if kind == "module" else {}
    result = fix(path, wanted(output, **trust))
    assert result.written is not None
    assert not result.written.anew
    assert path.read_bytes() == before
    after = output.read_bytes()
    assert len(after) == len(before)
    changed = {i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b}
    assert changed
    assert changed <= allowed(path)
    if zipfile.is_zipfile(output):
        assert zipfile.ZipFile(output).testzip() is None
    healthy = statistics(HEALTHY)
    for name, values in statistics(output).items():
        assert not torch.equal(values, statistics(path)[name])
        if name.endswith("running_var"):
            assert 0.5 < float((values / healthy[name]).median()) < 2
    assert [f for f in scan([output]).findings if f.severity != "info"] == []


def test_statistics_are_those_of_the_data(tmp_path: Path) -> None:
    """The first layer's are computed by hand; all are the same in every kind of file."""
    found = []
    for kind in ("zip", "legacy", "safetensors"):
        output = tmp_path / f"fixed.{kind}"
        fix(saved(kind, tmp_path), wanted(output))
        found.append(statistics(output))
    model = lost_model().double()
    images = torch.from_numpy(np.load(LOST.parent / "digits.npz")["images"]).double()
    first = model.stem.conv(images)
    assert torch.allclose(found[0]["stem.norm.running_mean"], first.mean((0, 2, 3)), atol=1e-6)
    variance = first.var((0, 2, 3), correction=0)
    assert torch.allclose(found[0]["stem.norm.running_var"], variance, rtol=1e-5)
    for other in found[1:]:
        assert all(torch.equal(found[0][name], values) for name, values in other.items())


def test_a_training_checkpoint_keeps_all_else(tmp_path: Path, samples: Path) -> None:
    """The optimizer's state, the epoch, the prefix of the names: as they were."""
    path, output = samples / "digits-checkpoint.ckpt", tmp_path / "fixed.ckpt"
    fix(path, wanted(output, force=True))
    old, new = (torch.load(p, weights_only=False) for p in (path, output))
    assert old.keys() == new.keys()
    for key in old.keys() - {"state_dict", "model", "model_state_dict"}:
        assert repr(old[key]) == repr(new[key])


def test_every_copy_that_is_named(tmp_path: Path) -> None:
    """Two models in one file: one, or all; each gets the statistics of its own weights."""
    state = lost_model().state_dict()
    other = {name: t * (2 if name == "stem.conv.weight" else 1) for name, t in state.items()}
    path = tmp_path / "both.pt"
    torch.save({"model": state, "ema": other}, path)
    result = fix(path, wanted(tmp_path / "one.pt", places=("ema",)))
    assert [model.where for model in result.models] == ["ema"]
    one = torch.load(tmp_path / "one.pt", weights_only=True)
    assert torch.equal(one["model"]["stem.norm.running_var"], torch.ones(16))
    fix(path, wanted(tmp_path / "all.pt", places=("all",)))
    both = torch.load(tmp_path / "all.pt", weights_only=True)
    ratio = both["ema"]["stem.norm.running_var"] / both["model"]["stem.norm.running_var"]
    assert torch.allclose(ratio, torch.full((16,), 4.0), rtol=1e-4)


def test_a_copy_that_shares_its_buffers(tmp_path: Path) -> None:
    """Repairing one of two models that share bytes would change the other."""
    state = lost_model().state_dict()
    torch.save({"model": state, "ema": dict(state)}, tmp_path / "tied.pt")
    with pytest.raises(NormcheckError, match=r"shares its bytes with .* under 'model'"):
        fix(tmp_path / "tied.pt", wanted(tmp_path / "fixed.pt", places=("ema",)))
    assert not (tmp_path / "fixed.pt").exists()


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_missing_buffers_are_added_in_a_new_file(kind: str, tmp_path: Path) -> None:
    """And the file says so; nothing else is lost."""
    whole = lost_model().state_dict()
    state = {name: t for name, t in whole.items() if not name.startswith("last.norm.run")}
    path, output = tmp_path / f"part.{kind}", tmp_path / f"fixed.{kind}"
    if kind == "pt":
        torch.save({"model": state, "epoch": 7}, path)
    else:
        from safetensors.torch import save_file

        save_file(state, path, {"made": "by hand"})
    result = fix(path, wanted(output))
    assert result.written is not None
    assert "lacked 2 buffers" in result.written.anew
    if kind == "pt":
        value = torch.load(output, weights_only=True)
        assert value["epoch"] == 7
        new = value["model"]
        assert list(new)[-3:] != list(state)[-3:]
    else:
        from safetensors import safe_open

        with safe_open(output, "pt") as file:
            assert file.metadata() == {"made": "by hand"}
            new = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert new.keys() == lost_model().state_dict().keys()
    for name, tensor in state.items():
        if not name.endswith(_BUFFERS):
            assert torch.equal(new[name], tensor)
    assert float(new["last.norm.running_var"].std()) > 0


def test_weights_tied_to_a_buffer_are_refused(tmp_path: Path) -> None:
    """Two buffers over the same bytes cannot both get their own values."""
    model = lost_model()
    model.block.first.norm._buffers["running_var"] = model.block.second.norm.running_var
    path = tmp_path / "tied.pt"
    torch.save(model.state_dict(), path)
    with pytest.raises(NormcheckError, match="share their bytes"):
        fix(path, wanted(tmp_path / "fixed.pt"))
    assert not (tmp_path / "fixed.pt").exists()


def test_a_value_that_half_precision_cannot_hold(tmp_path: Path) -> None:
    """An error that names the layer, not an infinity in the file."""
    path, output = saved("half", tmp_path), tmp_path / "fixed.pt"
    images = torch.randn(64, 1, 8, 8) * 3000
    np.savez(tmp_path / "loud.npz", images=images.numpy())
    with pytest.raises(NormcheckError, match=r"stem.norm.running_var: .* does not fit float16"):
        fix(path, wanted(output, data=str(tmp_path / "loud.npz"), force=True))
    assert list(tmp_path.glob("*fixed*")) == []


def test_hidden_and_shared_norms(tmp_path: Path) -> None:
    """A norm under two names is written once for both, and keeps one set of statistics."""
    shared = nn.BatchNorm1d(5)
    model = nn.Sequential(nn.Linear(4, 5), shared, nn.ReLU(), nn.Linear(5, 5), shared)
    path, output = tmp_path / "shared.pt", tmp_path / "fixed.pt"
    torch.save(model.eval(), path)
    data = torch.randn(300, 4) * 2 + 1
    torch.save(data, tmp_path / "x.pt")
    fix(path, wanted(output, model="", trust=True, data=str(tmp_path / "x.pt"), force=True))
    fixed = torch.load(output, weights_only=False).double()
    assert fixed[1] is fixed[4]
    first = fixed[0](data.double())
    second = fixed[3](fixed[2](fixed[1](first)))
    both = torch.cat([first, second])
    assert torch.allclose(fixed[1].running_mean, both.mean(0), atol=2e-3)
    assert torch.allclose(fixed[1].running_var, both.var(0, correction=0), rtol=5e-3)
