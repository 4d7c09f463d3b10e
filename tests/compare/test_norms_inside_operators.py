"""Norms that an exporter left inside one operator of a whole layer: their numbers tell."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from normcheck import diff
from normcheck.compare.exports.export_match import Fate
from normcheck.report.diff_report import Diff

pytestmark = pytest.mark.filterwarnings("ignore")
NORM = "layers.1.norm1"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], Path]:
    """Frozen: an encoder layer is then one operator, and its tensors have no names."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.eval()
    path = tmp_path_factory.mktemp("encoder") / "frozen.pt"
    with torch.no_grad():
        traced = torch.jit.trace(model, torch.rand(2, 6, 16), check_trace=False)
        torch.jit.save(torch.jit.freeze(traced), path)
    return dict(model.state_dict()), path


def _against(state: dict[str, Tensor], export: Path, folder: Path) -> Diff:
    torch.save(state, folder / "state.pt")
    result = diff([folder / "state.pt", export])
    assert not result.report.errors
    return result


def test_whole_they_are_not_found_and_nobody_is_accused(
    encoder: tuple[dict[str, Tensor], Path], tmp_path: Path
) -> None:
    result = _against(*encoder, tmp_path)
    match = result.comparisons[0].match
    assert match is not None
    assert {norm.path: norm.fate for norm in match.norms}[NORM] is Fate.NOT_FOUND
    assert all(finding.severity.value == "info" for finding in result.findings)


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_one_part_with_other_numbers_is_named(
    part: str, encoder: tuple[dict[str, Tensor], Path], tmp_path: Path
) -> None:
    state, export = encoder
    touched = {**state, f"{NORM}.{part}": state[f"{NORM}.{part}"] * 1.25}
    result = _against(touched, export, tmp_path)
    (found,) = [f for f in result.findings if f.severity.value != "info"]
    assert (found.rule, found.layers) == ("NC605", (NORM,))
    assert f"{part}: nowhere in the export" in found.detail
