"""A model beside its export: the same numbers, folded ones, other ones, and outputs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck import diff
from normcheck.compare.exports.export_match import ExportMatch, Fate
from normcheck.config.examination import Examination
from normcheck.live.run_request import Feeding, Loading, Running
from normcheck.report.diff_report import Diff
from normcheck.report.machines.diff_json import render_diff_json
from normcheck.report.people.diff_text import render_diff_text
from normcheck.report.people.text_style import TextStyle
from tests.formats.exports.models import CASES

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

CASE = CASES[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as a state dict and a module, and its exports."""
    path = tmp_path_factory.mktemp("pair")
    model = CASE.model(training=False)
    torch.save(model.state_dict(), path / "state.pt")
    torch.save(model, path / "module.pt")
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(model, (CASE.example,), dynamic_shapes=({0: batch},))
    torch.export.save(program, path / "program.pt2")
    torch.jit.save(torch.jit.trace(model, CASE.example), path / "traced.pt")
    torch.jit.save(torch.jit.freeze(torch.jit.script(model)), path / "frozen.pt")
    torch.onnx.export(model, (CASE.example,), str(path / "old.onnx"), dynamo=False)
    torch.onnx.export(model, (CASE.example,), str(path / "new.onnx"), dynamo=True, verbose=False)
    with torch.no_grad():
        model.bn2.running_mean += 0.3
        model.bn2.running_var *= 2
    torch.export.save(torch.export.export(model, (CASE.example,)), path / "later.pt2")
    torch.onnx.export(model, (CASE.example,), str(path / "later.onnx"), dynamo=False)
    model.bn2 = nn.Identity()  # as a converter does that does not know an operator
    torch.export.save(torch.export.export(model, (CASE.example,)), path / "dropped.pt2")
    return path


def _match(result: Diff) -> ExportMatch:
    assert not result.report.errors
    (comparison,) = result.comparisons
    assert comparison.match is not None
    return comparison.match


def _fates(result: Diff) -> dict[str, Fate]:
    return {norm.path: norm.fate for norm in _match(result).norms}


@pytest.mark.parametrize("source", ["state.pt", "module.pt"])
@pytest.mark.parametrize(
    ("export", "fate"),
    [
        ("program.pt2", Fate.KEPT),
        ("traced.pt", Fate.KEPT),
        ("frozen.pt", Fate.FOLDED),
        ("old.onnx", Fate.FOLDED),
        ("new.onnx", Fate.FOLDED),
    ],
)
def test_a_true_export_is_not_accused(source: str, export: str, fate: Fate, folder: Path) -> None:
    result = diff([folder / source, folder / export])
    assert _fates(result) == {"bn1": fate, "bn2": fate}
    assert not result.findings
    if fate is Fate.FOLDED:
        assert all(0 <= norm.deviation < 1e-5 for norm in _match(result).norms)


def test_the_order_of_the_two_does_not_matter(folder: Path) -> None:
    result = diff([folder / "old.onnx", folder / "state.pt"])
    assert _fates(result) == {"bn1": Fate.FOLDED, "bn2": Fate.FOLDED}


@pytest.mark.parametrize("export", ["later.pt2", "later.onnx"])
def test_an_export_of_other_statistics_is_named(export: str, folder: Path) -> None:
    (found,) = diff([folder / "state.pt", folder / export]).findings
    assert found.rule == "NC605"
    assert found.severity.value == "error"
    assert found.layers == ("bn2",)
    if export.endswith("pt2"):
        assert "running_mean: up to 0.3 apart" in found.detail
        assert "running_var: median ratio 2" in found.detail
    else:
        # Folded: every weight is 1/√2 of what the source's variance makes of it.
        assert "weights 0.707 times as large" in found.detail


def test_a_norm_that_was_dropped_is_named(folder: Path) -> None:
    result = diff([folder / "state.pt", folder / "dropped.pt2"])
    assert _fates(result) == {"bn1": Fate.KEPT, "bn2": Fate.DROPPED}
    (found,) = result.findings
    assert found.title == "1 norm layer was dropped by the export"


def _asked(**words: object) -> Examination:
    data = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    running = Running(loading=Loading(model="tests.formats.exports.models:Convolutional", **words),
                      feeding=Feeding(data=data))  # type: ignore[arg-type]  # fmt: skip
    return Examination(running=running)


@pytest.mark.parametrize("export", ["program.pt2", "frozen.pt", "old.onnx", "new.onnx"])
def test_outputs_of_a_true_export_agree(export: str, folder: Path) -> None:
    result = diff(
        [folder / "state.pt", folder / export],
        examination=_asked(trust=True),
    )
    outputs = _match(result).outputs
    assert outputs is not None
    assert outputs.samples == 12
    assert outputs.difference < 1e-5
    assert outputs.flips == 0
    assert not result.findings


def test_outputs_of_another_export_differ(folder: Path) -> None:
    result = diff([folder / "state.pt", folder / "later.onnx"], examination=_asked())
    outputs = _match(result).outputs
    assert outputs is not None
    assert outputs.difference > 0.05
    assert [f.discriminator for f in result.findings] == ["numbers", "outputs"]


def test_torchscript_runs_only_when_trusted(folder: Path) -> None:
    """Outputs were asked for, and nothing was compared: an error, as of a scan."""
    result = diff([folder / "state.pt", folder / "traced.pt"], examination=_asked())
    (comparison,) = result.comparisons
    assert comparison.match is not None
    assert comparison.match.outputs is None
    (failure,) = result.report.errors
    assert "not compared" in failure.message
    assert "--trust" in failure.hint


def test_text_and_json_say_what_became_of_the_norms(folder: Path) -> None:
    result = diff([folder / "state.pt", folder / "old.onnx"], examination=_asked())
    text = render_diff_text(result, TextStyle(width=80, color=False))
    said = " ".join(text.split())
    assert "The export holds 2 folded into the weights before, as their numbers say." in said
    assert "Outputs agree on 12 samples" in said
    (comparison,) = json.loads(render_diff_json(result))["comparisons"]
    assert [norm["fate"] for norm in comparison["export"]["norms"]] == ["folded", "folded"]
    assert comparison["export"]["outputs"]["flips"] == 0


def test_the_command(folder: Path, command: Callable[..., object]) -> None:
    done = command("diff", str(folder / "state.pt"), str(folder / "later.pt2"), "--run",
                   "--model", "tests.formats.exports.models:Convolutional")  # fmt: skip
    assert done.returncode == 1  # type: ignore[attr-defined]
    assert "NC605 error" in done.stdout  # type: ignore[attr-defined]
