"""Files without buffers: what may be said of norms whose kind nothing in the file tells.

Measured over all architectures of the tests with their buffers stripped, as ``named_parameters()``
and adapters leave them: of 491 batch norms none (but one that is called ``ln1``) is said to have
nothing that could go stale, and three quarters of the LayerNorms, by their names, are vouched for.
A kind of medium confidence is the true one, or one of the two or three that are named, in 88 of
100 layers, one of low confidence in 85. The others are mostly LayerNorms without bias that are
called RMSNorm, GroupNorms called LayerNorm or ``bn``, and InstanceNorms with weights.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.norms.find_norms import anatomy_of
from normcheck.norms.layer import Confidence
from normcheck.pipeline.vouching import standings
from normcheck.report.report import Standing
from tests.architectures import norms_of
from tests.norms.saved import FACTORIES, build

pytestmark = pytest.mark.slow

_CALLED_OTHERWISE = {"layernorm_called_bn: ln1"}
"""A batch norm that calls itself a LayerNorm, which nobody could tell."""
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, slots=True)
class Said:
    """A norm that is found without buffers."""

    truth: str
    """Its kind; empty where it is none."""
    kinds: tuple[str, ...]
    """What is said that it is."""
    confidence: Confidence
    standing: Standing

    @property
    def right(self) -> bool:
        """Whether one of the kinds is the true one, dimensions aside."""
        return any(_family(kind) == _family(self.truth) for kind in self.kinds)


def _family(kind: str) -> str:
    return next((part for part in ("BatchNorm", "InstanceNorm") if part in kind), kind)


def stripped(model: nn.Module, path: Path, *, parameters: bool) -> dict[str, Said]:
    """Each norm that is found without buffers, by its path."""
    state = dict(model.named_parameters() if parameters else model.state_dict())
    kept = {n: t.detach() for n, t in state.items() if n.rpartition(".")[2] not in _BUFFERS}
    torch.save(kept, path)
    truth = norms_of(model)
    found: dict[str, Said] = {}
    checkpoint = read_checkpoint(path)
    for saved in checkpoint.models:
        anatomy = anatomy_of(saved, judge_links=False)
        said = standings(anatomy, None, ["NC101"], [])
        for layer in anatomy.layers:
            standing, why = said[layer.path]
            kinds = layer.kind.name.split(" or ")
            if "names do not tell" in why:
                kinds.append("BatchNorm")
            found[layer.path] = Said(
                truth.get(layer.path, ""), tuple(kinds), layer.recognition.confidence, standing
            )
    checkpoint.close()
    return found


@pytest.mark.parametrize("parameters", [False, True])
def test_honest_about_kind(parameters: bool, tmp_path: Path) -> None:
    """No batch norm is vouched for, whatever it is called; and a confidence means what it says."""
    norms: dict[str, Said] = {}
    for name in sorted(FACTORIES):
        model = build(name)
        if not list(model.named_parameters()):
            continue
        try:
            found = stripped(model, tmp_path / "model.pt", parameters=parameters)
        except (RuntimeError, TypeError, ValueError):
            continue  # lazy or packed parameters, which cannot be taken off by hand
        except Exception as error:
            if "no model" in str(error):
                continue
            raise
        norms |= {f"{name}: {path}": said for path, said in found.items()}
    batch = {place: said for place, said in norms.items() if "Batch" in said.truth}
    assert len(batch) > 200
    vouched = {place for place, said in batch.items() if said.standing is Standing.VOUCHED}
    assert vouched <= _CALLED_OTHERWISE
    layer = [said.standing for said in norms.values() if said.truth == "LayerNorm"]
    assert layer.count(Standing.VOUCHED) > 0.7 * len(layer)
    for confidence, least in ((Confidence.MEDIUM, 0.85), (Confidence.LOW, 0.8)):
        right = [said.right for said in norms.values() if said.confidence is confidence]
        assert len(right) > 100
        assert right.count(True) > least * len(right), confidence


def _standing(model: nn.Module, path: Path) -> tuple[Standing, str]:
    torch.save(model.state_dict(), path)
    checkpoint = read_checkpoint(path)
    anatomy = anatomy_of(checkpoint.models[0], judge_links=False)
    (said,) = standings(anatomy, None, ["NC101"], []).values()
    checkpoint.close()
    return said


@pytest.mark.parametrize("name", ["1", "norm", "x", "in_block"])
def test_batch_norm_without_tracking_is_not_vouched_for(name: str, tmp_path: Path) -> None:
    """It leaves what an InstanceNorm leaves, metadata too, and depends on the batch in eval."""
    model = nn.Sequential()
    model.add_module("conv", nn.Conv2d(3, 8, 3))
    model.add_module(name, nn.BatchNorm2d(8, track_running_stats=False))
    standing, why = _standing(model, tmp_path / "model.pt")
    assert standing is Standing.UNTOLD
    assert "--model" in why


@pytest.mark.parametrize("name", ["in1", "instance_norm", "InstanceNorm_0", "instnorm"])
def test_instance_norm_by_name_is_vouched_for(name: str, tmp_path: Path) -> None:
    """Names and metadata together tell an InstanceNorm."""
    model = nn.Sequential()
    model.add_module("conv", nn.Conv2d(3, 8, 3))
    model.add_module(name, nn.InstanceNorm2d(8, affine=True))
    assert _standing(model, tmp_path / "model.pt")[0] is Standing.VOUCHED
