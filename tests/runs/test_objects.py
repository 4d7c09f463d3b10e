"""``normcheck.scan`` in Python: what has a meaning is scanned, and the rest is refused in words."""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import normcheck
from normcheck import NormcheckError, Report
from normcheck.config.examination import Examination
from normcheck.live.run_request import Feeding, Running
from normcheck.repair.repair_request import Fixing
from normcheck.report.people.text_style import TextStyle
from normcheck.runs.fix import fix
from tests.report.everything import text_of

warnings.filterwarnings("ignore", category=DeprecationWarning)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    for _ in range(60):
        net(torch.randn(8, 3, 8, 8) * 2 + 1)
    return net.eval()


def lost() -> nn.Sequential:
    """A network whose statistics were never updated, while its affine parameters were."""
    net = network()
    nn.init.normal_(net[1].weight)
    nn.init.normal_(net[1].bias)
    net[1].reset_running_stats()
    return net


def rules(report: Report) -> set[str]:
    return {f.rule for f in report.findings}


def kinds(report: Report) -> list[tuple[str, str, str]]:
    return [(m.target, m.where, m.form) for m in report.models]


def test_a_state_dict() -> None:
    """Judged as its file is, without a module and without torch running anything."""
    report = normcheck.scan(lost().state_dict())
    assert kinds(report) == [("OrderedDict", "", "state dict")]
    assert "NC101" in rules(report)
    assert report.errors == ()
    assert [layer.path for layer in report.models[0].layers] == ["1"]


@pytest.mark.parametrize("kind", ["module", "state dict", "nested", "several", "arrays"])
def test_as_its_file(kind: str, tmp_path: Path) -> None:
    """What a mapping holds is found where its file has it, with equal verdicts."""
    sick, well = lost(), network()
    value: Any = {
        "module": {"epoch": 3, "net": {"weights": sick.state_dict()}},
        "state dict": sick.state_dict(),
        "nested": {"model": sick.state_dict(), "optimizer": torch.optim.SGD(
            sick.parameters(), lr=0.1, momentum=0.9).state_dict()},
        "several": {"nets": [sick.state_dict(), well.state_dict()], "best": 0.5},
        "arrays": {name: t.numpy() for name, t in sick.state_dict().items()},
    }[kind]  # fmt: skip
    path = tmp_path / "model.pt"
    torch.save(value, path)
    read, given = normcheck.scan(path), normcheck.scan(value)
    assert [m.where for m in given.models] == [m.where for m in read.models]
    assert {(f.rule, f.where, f.title) for f in given.findings} == {
        (f.rule, f.where, f.title) for f in read.findings
    }
    assert given.findings


def test_versions_of_a_state_dict_are_read() -> None:
    """The metadata that torch attaches tells a BatchNorm from what only has its names."""
    state = OrderedDict(network()[1].state_dict())
    with_metadata = normcheck.scan(network()[1].state_dict())
    assert with_metadata.models[0].layers[0].confidence == "high"
    assert normcheck.scan(state).models[0].layers


def test_modules_in_a_mapping() -> None:
    """A checkpoint dictionary that was not saved yet: its modules are run, under their places."""
    report = normcheck.scan({"net": lost(), "ema": {"state": network().state_dict()}})
    assert kinds(report) == [("dict", "ema.state", "state dict"), ("dict.net", "", "live module")]
    assert report.models[1].run is not None
    assert {f.model for f in report.findings if f.rule == "NC101"} == {"dict.net"}


def test_other_mappings() -> None:
    """Any mapping will do, and one that holds itself ends."""
    state = lost().state_dict()
    assert "NC101" in rules(normcheck.scan(MappingProxyType(dict(state))))
    loop: dict[str, Any] = {"state": state}
    loop["again"] = loop
    assert len(normcheck.scan(loop).models) == 1


def test_an_exported_program() -> None:
    """Read as its archive is, and run as a module is."""
    program = torch.export.export(network(), (torch.randn(2, 3, 8, 8),))
    report = normcheck.scan(program)
    assert kinds(report) == [("ExportedProgram", "", "exported program")]
    assert report.errors == ()
    assert report.models[0].run is not None
    assert [layer.kind for layer in report.models[0].layers] == ["BatchNorm2d"]


@pytest.mark.parametrize(
    "wrapped",
    [
        torch.compile,
        torch.fx.symbolic_trace,
        torch.jit.script,
        lambda net: torch.jit.trace(net, torch.randn(2, 3, 8, 8)),
        nn.DataParallel,
    ],
    ids=["compiled", "traced by fx", "scripted", "traced", "data parallel"],
)
def test_wrapped_modules(wrapped: Callable[[nn.Module], Any]) -> None:
    """One norm, found once, and run; a compiled module is run as it was before compiling."""
    report = normcheck.scan(wrapped(lost()))
    assert report.errors == ()
    (model,) = report.models
    assert model.run is not None
    assert len(model.layers) == 1
    assert "NC101" in rules(report)


def test_a_compiled_module_keeps_its_names() -> None:
    """Layers are called as in the state dict of the module itself, not of the wrapper."""
    report = normcheck.scan(torch.compile(network()))
    assert [layer.path for layer in report.models[0].layers] == ["1"]
    assert "torch.compile" in report.models[0].notes[0]


def test_what_has_one_mode() -> None:
    """Frozen scripts and modules of exported programs have no train mode: none is accused of it."""
    frozen = torch.jit.freeze(torch.jit.script(network()))
    assert normcheck.scan(frozen).errors == ()
    exported = torch.export.export(network(), (torch.randn(5, 3, 8, 8),)).module()
    examination = Examination(running=Running(feeding=Feeding(data=[torch.randn(5, 3, 8, 8)] * 3)))
    report = normcheck.scan(exported, examination)
    assert [e for e in report.errors if "bug" in e.hint] == []
    assert rules(report) & {"NC201", "NC202", "NC302"} == set()


def test_parametrized_norm() -> None:
    """The class that parametrizing makes is not what the layer is called."""
    net = network()
    nn.utils.parametrize.register_parametrization(net[1], "weight", nn.Identity())
    (layer,) = normcheck.scan(net).models[0].layers
    assert (layer.kind, layer.class_path) == (
        "BatchNorm2d", "torch.nn.modules.batchnorm.BatchNorm2d"
    )  # fmt: skip


def test_two_of_a_kind_are_told_apart() -> None:
    """Two modules of one class are two models of the report, under names of their own."""
    report = normcheck.scan([lost(), network(), network().state_dict()])
    assert [m.target for m in report.models] == ["Sequential", "Sequential (2)", "OrderedDict"]
    assert {f.model for f in report.findings if f.rule == "NC101"} == {"Sequential"}


def test_files_and_objects_together(samples: Path) -> None:
    """A generator of paths and objects is taken as it comes."""
    targets = iter([samples / "statistics-lost.pt", network()])
    report = normcheck.scan(targets)
    assert len(report.models) == 2


def test_a_module_without_values() -> None:
    """A meta device module: said, nothing run, no tick; no error, for nobody asked for a run."""
    report = normcheck.scan(network().to("meta"))
    assert report.errors == ()
    notes = " ".join(report.models[0].notes)
    assert "7 tensors" in notes
    assert "a meta tensor" in notes
    assert "not run" in notes
    text = text_of(report, TextStyle(errors=True))
    assert "✓" not in text
    assert rules(report) & {"NC101", "NC102", "NC110"} == set()


def test_a_run_that_was_asked_for_is_an_error() -> None:
    """With data there is something to be done that cannot be."""
    report = normcheck.scan(network().to("meta"), data=torch.randn(4, 3, 8, 8))
    assert "no values" in report.errors[0].message
    assert "load its weights" in report.errors[0].hint


def test_a_state_dict_without_values(tmp_path: Path) -> None:
    """The same of a file, and of a mapping."""
    state = network().to("meta").state_dict()
    torch.save(state, tmp_path / "meta.pt")
    for report in (normcheck.scan(state), normcheck.scan(tmp_path / "meta.pt")):
        assert "all 7 tensors" in report.models[0].notes[-1]
        assert "✓" not in text_of(report, TextStyle())


REFUSED: dict[str, tuple[Any, str, str]] = {
    "None": (None, "None cannot be scanned", "give a path"),
    "int": (3, "an int", "give a path"),
    "empty dict": ({}, "an empty dict", "state_dict()"),
    "dict of numbers": ({"a": 1}, "holds no tensors", "state_dict()"),
    "one nameless tensor": ({"x": torch.ones(3)}, "without parameter names", "names are"),
    "optimizer": (
        torch.optim.Adam(network().parameters()).state_dict() | {"exp_avg": torch.ones(2)},
        "an optimizer's state", "state_dict()",
    ),
    "tensor": (torch.ones(3), "a Tensor", "a mapping from names"),
    "array": (np.ones(3), "an ndarray", "a mapping from names"),
    "function": (network, "the function network", "call it"),
    "class": (nn.Linear, "the class Linear", "an instance"),
    "bytes": (b"model.pt", "bytes", "as text"),
    "list of ints": ([3], "an int", "give a path"),
    "list with None": ([network(), None], "None", "give a path"),
    "list of tensors": ([torch.ones(3)], "a Tensor", "a mapping from names"),
    "generator of numbers": ((n for n in (1, 2)), "an int", "give a path"),
    "optimizer itself": (torch.optim.SGD(network().parameters()), "SGD", "give a path"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_scanned(name: str) -> None:
    """An error that says what it is and what to give; never one of Python, never a bug of ours."""
    target, message, hint = REFUSED[name]
    with pytest.raises(NormcheckError) as caught:
        normcheck.scan(target)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_nothing_is_scanned_before_all_is_looked_at() -> None:
    """What is wrong with the last of a list is said before the first is run."""
    ran = []
    net = network()
    net.register_forward_hook(lambda *_: ran.append(1))
    with pytest.raises(NormcheckError):
        normcheck.scan([net, 3])
    assert ran == []


ARGUMENTS: dict[str, tuple[Callable[[], Any], str]] = {
    "scan with an examination of another kind": (
        lambda: normcheck.scan(network(), {"rules": ()}), "the examination is given as a dict"  # type: ignore[arg-type]
    ),
    "diff None": (lambda: normcheck.diff(None), "diff compares files, not None"),  # type: ignore[arg-type]
    "diff of a number": (lambda: normcheck.diff(3), "not an int"),  # type: ignore[arg-type]
    "diff of modules": (lambda: normcheck.diff([network(), network()]), "not a Sequential"),  # type: ignore[list-item]
    "diff of a mapping": (lambda: normcheck.diff({"a": 1, "b": 2}), "not a dict"),
    "diff of one word": (lambda: normcheck.diff("model.pt"), "1 given"),
    "diff with a policy": (lambda: normcheck.diff(["a"], policy={}), "the policy is given"),  # type: ignore[arg-type]
    "fix None": (lambda: fix(None, Fixing()), "fix repairs files, not None"),  # type: ignore[arg-type]
    "fix a module": (lambda: fix(network(), Fixing()), "not a Sequential"),  # type: ignore[arg-type]
    "fix without how": (lambda: fix("model.pt", None), "Fixing"),  # type: ignore[arg-type]
    "recalibrate None": (lambda: normcheck.recalibrate(None, [1]), "not None"),
    "recalibrate a path": (lambda: normcheck.recalibrate("model.pt", [1]), "not a str"),
    "recalibrate a class": (lambda: normcheck.recalibrate(nn.BatchNorm2d, [1]), "nn.Module"),
    "recalibrate without data": (lambda: normcheck.recalibrate(network(), None), "needs data"),
    "recalibrate on a number": (lambda: normcheck.recalibrate(network(), 3), "not batches"),
    "recalibrate on nothing": (lambda: normcheck.recalibrate(network(), []), "no batch"),
    "recalibrate without values": (
        lambda: normcheck.recalibrate(network().to("meta"), torch.ones(4, 3, 8, 8)), "no values"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_another_kind(name: str) -> None:
    """Each function names what it was given and what it takes."""
    call, message = ARGUMENTS[name]
    with pytest.raises(NormcheckError, match=message) as caught:
        call()
    assert caught.value.hint


def test_a_mapping_is_left_as_it_was() -> None:
    """Scanning copies nothing into it, and changes no tensor of it."""
    state: Mapping[str, Any] = network().state_dict()
    before = {name: (id(t), t.clone()) for name, t in state.items()}
    normcheck.scan(state)
    assert {name: id(t) for name, t in state.items()} == {n: i for n, (i, _) in before.items()}
    assert all(torch.equal(state[name], kept) for name, (_, kept) in before.items())
