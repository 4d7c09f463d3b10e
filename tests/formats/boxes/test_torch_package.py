"""Archives of torch.package, written by torch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.package import PackageExporter  # type: ignore[attr-defined]

from sample_models.networks import DigitsNet
from tests.conftest import SAMPLES
from tests.verdict import accused

pytestmark = pytest.mark.filterwarnings("ignore")


def packaged(path: Path, things: dict[str, Any]) -> Path:
    with PackageExporter(str(path)) as exporter:
        exporter.intern("sample_models.**")
        exporter.extern("numpy.**")
        for name, thing in things.items():
            exporter.save_pickle("models", name, thing)
    return path


def network(sample: str) -> nn.Module:
    model = DigitsNet()
    model.load_state_dict(torch.load(SAMPLES / sample))
    return model.eval()


def test_module_tree(tmp_path: Path, read: Any) -> None:
    """Modules with their classes, modes and numbers; code beside them is not run."""
    model = network("digits-healthy.pt")
    (found,) = read(packaged(tmp_path / "p.pt", {"model.pkl": model})).models
    assert found.where == "!models/model.pkl"
    assert found.modules is not None
    assert [m.path for m in found.modules] == [path for path, _ in model.named_modules()]
    for name, tensor in model.state_dict().items():
        assert found.tensors[name].values().tolist() == tensor.tolist()


def test_several_pickles(tmp_path: Path, read: Any) -> None:
    """Each is a model of its own; the sick one is accused."""
    path = packaged(
        tmp_path / "p.pt",
        {
            "good.pkl": network("digits-healthy.pt"),
            "bad.pkl": network("foreign-statistics.pt").state_dict(),
            "config.pkl": {"lr": 0.1},
        },
    )
    assert [m.where for m in read(path).models] == ["!models/good.pkl", "!models/bad.pkl"]
    assert "NC108" in accused(path)
    assert not accused(packaged(tmp_path / "g.pt", {"m.pkl": network("digits-healthy.pt")}))
