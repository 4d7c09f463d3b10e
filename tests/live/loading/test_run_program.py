"""Exported programs run operator by operator: as torch runs them, and nothing else runs."""

from pathlib import Path

import pytest
import torch

from normcheck import Examination, scan
from normcheck.errors import NormcheckError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.live.loading.load_exported import load_exported
from normcheck.live.loading.run_program import Program
from normcheck.live.run_request import Feeding, Loading, Running
from tests.formats.exports.models import CASES, Case, ForgottenDropout, exported, traced

pytestmark = [pytest.mark.slow, pytest.mark.kernels, pytest.mark.filterwarnings("ignore")]

SAME_EACH_TIME = [case for case in CASES if not case.always]


def _loaded(path: Path) -> Program:
    checkpoint = read_checkpoint(path)
    try:
        program = load_exported(checkpoint, checkpoint.models[0], trust=False)
    finally:
        checkpoint.close()
    assert isinstance(program, Program)
    return program


@pytest.mark.parametrize("case", SAME_EACH_TIME, ids=lambda case: case.name)
def test_outputs_are_those_of_the_model(case: Case, tmp_path: Path) -> None:
    program = _loaded(exported(case, tmp_path / "model.pt2", training=False))
    model = case.model(training=False)
    with torch.no_grad():
        given, expected = program(case.example), model(case.example)
    # To the bit but for attention, which torch fuses in a module and not in an export.
    assert torch.allclose(given, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(given, expected) or case.name == "transformer layer"


def test_statistics_move_as_in_the_program(tmp_path: Path) -> None:
    case = CASES[0]
    program = _loaded(exported(case, tmp_path / "model.pt2", training=True, decomposed=True))
    model = case.model(training=True)
    with torch.no_grad():
        program(case.example)
        model(case.example)
    theirs = dict(model.named_buffers())
    for name, buffer in program.named_buffers():
        assert torch.allclose(buffer, theirs[name]), name


def test_modules_keep_their_names(tmp_path: Path) -> None:
    case = CASES[1]
    program = _loaded(exported(case, tmp_path / "model.pt2", training=False))
    assert dict(program.named_parameters()).keys() == dict(case.make().named_parameters()).keys()
    assert program.known_inputs is not None
    assert str(program.known_inputs[0]) == "3x16x16"
    assert program.fixed_batch == 4


@pytest.mark.parametrize("dynamic", [False, True])
def test_any_number_of_samples(dynamic: bool, tmp_path: Path) -> None:
    """A fixed batch is cut up and filled: eval mode gives each sample the same."""
    case = CASES[0]
    path = exported(case, tmp_path / "model.pt2", training=False, dynamic=dynamic)
    data = torch.randn(11, 3, 8, 8)
    report = scan(path, Examination(running=Running(feeding=Feeding(data=data))))
    assert not report.errors
    assert report.models[0].run is not None
    assert report.models[0].run.fed.samples == 11
    assert {drift.path for drift in report.models[0].run.drifts} == {"bn1", "bn2"}
    assert not [f for f in report.findings if f.rule in ("NC301", "NC302", "NC303", "NC308")]


def test_measured_harm_of_training_mode(tmp_path: Path) -> None:
    path = exported(CASES[0], tmp_path / "model.pt2", training=True, dynamic=True)
    report = scan(path, Examination(running=Running()))
    (found,) = [f for f in report.findings if f.rule == "NC204"]
    assert found.severity.value == "error"
    assert "differ by" in found.detail
    # One cause is one finding: what a run shows of it is not reported again.
    assert not [f for f in report.findings if f.rule in ("NC301", "NC302", "NC303", "NC306")]


def test_dropout_that_is_always_on_is_measured(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.make is ForgottenDropout)
    report = scan(exported(case, tmp_path / "model.pt2", training=False),
                  Examination(running=Running()))  # fmt: skip
    (found,) = [f for f in report.findings if f.rule == "NC204"]
    assert found.title.startswith("random in every call")
    assert found.severity.value == "error"


def _described(target: str) -> dict[str, object]:
    node = {
        "target": target, "inputs": [], "outputs": [{"as_tensor": {"name": "y"}}],
        "metadata": {}, "name": "y",
    }  # fmt: skip
    output = {"user_output": {"arg": {"as_tensor": {"name": "y"}}}}
    return {
        "graph": {"nodes": [node], "inputs": [], "outputs": [{"as_tensor": {"name": "y"}}],
                  "tensor_values": {}},
        "signature": {"input_specs": [], "output_specs": [output]},
    }  # fmt: skip


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.from_file.default",
        "torch.ops.profiler._record_function_enter_new.default",
        "torch.ops.higher_order.run_const_graph",
        "torch.ops.aten.__class__.__init__",
        "_operator.attrgetter",
        "_operator.methodcaller",
        "torch.load",
        "os.system",
        "torch.ops.load_library",
        "builtins.eval",
    ],
)
def test_only_operators_of_aten_are_called(target: str) -> None:
    with pytest.raises(NormcheckError, match="no operator that normcheck runs"):
        Program(_described(target), {}, frozenset())


def test_torchscript_runs_layer_by_layer_when_trusted(tmp_path: Path) -> None:
    path = traced(CASES[0], tmp_path / "model.pt", training=False)
    data = torch.randn(24, 3, 8, 8) * 1.5 + 0.3
    running = Running(loading=Loading(trust=True), feeding=Feeding(data=data))
    report = scan(path, Examination(running=running))
    assert not report.errors
    run = report.models[0].run
    assert run is not None
    # Its interpreter calls no module that a hook could see: tensors tell the layers.
    assert {drift.path for drift in run.drifts} == {"bn1", "bn2"}
    # A trace has one mode.
    assert "train" not in {regime.name for regime in run.regimes}


def test_torchscript_needs_trust(tmp_path: Path) -> None:
    path = traced(CASES[0], tmp_path / "model.pt", training=False)
    (error,) = scan(path, Examination(running=Running())).errors
    assert "--trust" in (error.hint or "")


def test_counts_give_a_decomposed_norm_away(tmp_path: Path) -> None:
    """Of a batch norm that is written out nothing but the count of batches is left."""

    class WrittenOut(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                self.norm.num_batches_tracked.add_(1)
                mean, var = x.mean(0), x.var(0, unbiased=False)
            else:
                mean, var = self.norm.running_mean, self.norm.running_var
            return (x - mean) / torch.sqrt(var + 1e-5) * self.norm.weight + self.norm.bias

    for training in (True, False):
        path = tmp_path / f"{training}.pt2"
        model = WrittenOut().train(training)
        torch.export.save(torch.export.export(model, (torch.randn(8, 6),)), path)
        found = [f for f in scan(path).findings if f.rule == "NC204"]
        assert [f.layers for f in found] == ([("norm",)] if training else [])
