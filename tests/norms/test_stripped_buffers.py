"""Files without buffers: what may be said of norms whose kind nothing in the file tells.

Measured over all architectures of the tests with their buffers stripped, as ``named_parameters()``
and adapters leave them: of 491 batch norms none (but one that is called ``ln1``) is said to have
nothing that could go stale, and three quarters of the LayerNorms, by their names, are vouched for.
"""

from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.norms.find_norms import anatomy_of
from normcheck.pipeline.vouching import standings
from normcheck.report.report import Standing
from tests.architectures import norms_of
from tests.norms.saved import FACTORIES, build

pytestmark = pytest.mark.slow

_CALLED_OTHERWISE = {"layernorm_called_bn: ln1"}
"""A batch norm that calls itself a LayerNorm, which nobody could tell."""
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def stripped(model: nn.Module, path: Path, *, parameters: bool) -> dict[str, tuple[str, Standing]]:
    """Each norm that is found without buffers: its true kind, and what is said of it."""
    state = dict(model.named_parameters() if parameters else model.state_dict())
    kept = {n: t.detach() for n, t in state.items() if n.rpartition(".")[2] not in _BUFFERS}
    torch.save(kept, path)
    truth = norms_of(model)
    with_verdict: dict[str, tuple[str, Standing]] = {}
    checkpoint = read_checkpoint(path)
    for saved in checkpoint.models:
        anatomy = anatomy_of(saved, judge_links=False)
        said = standings(anatomy, None, ["NC101"], [])
        for layer in anatomy.layers:
            with_verdict[layer.path] = truth.get(layer.path, ""), said[layer.path][0]
    checkpoint.close()
    return with_verdict


@pytest.mark.parametrize("parameters", [False, True])
def test_no_batch_norm_is_vouched_for(parameters: bool, tmp_path: Path) -> None:
    """Whatever it is called and whatever stands around it."""
    batch: dict[str, Standing] = {}
    layer: list[Standing] = []
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
        batch |= {f"{name}: {p}": s for p, (kind, s) in found.items() if "Batch" in kind}
        layer += [s for kind, s in found.values() if kind == "LayerNorm"]
    assert len(batch) > 200
    vouched = {path for path, said in batch.items() if said is Standing.VOUCHED}
    assert vouched <= _CALLED_OTHERWISE
    assert layer.count(Standing.VOUCHED) > 0.7 * len(layer)
