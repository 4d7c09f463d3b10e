"""An exported program that is run calls operators of ATen and nothing else of its choosing."""

import os
import resource
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from normcheck.errors import NormcheckError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.live.loading.load_exported import load_exported
from tests.formats.exports import hostile
from tests.formats.exports.hostile import node, value

TARGETS = (
    "torch.ops.aten.from_file.default", "torch.ops.aten.from_file.out",
    "torch.ops.aten.save.default", "torch.ops.aten.load.default",
    "torch.ops.aten._print.default", "torch.ops.aten.warn.default",
    "torch.ops.aten.set_.source_Tensor", "torch.ops.aten.resize_.default",
    "torch.ops.aten._sparse_coo_tensor_unsafe.default", "torch.ops.aten.sparse_coo_tensor.indices",
    "torch.ops.aten._nested_view_from_buffer.default", "torch.ops.aten.set_grad_enabled.default",
    "torch.ops.aten.__class__.__mro__", "torch.ops.aten.__init__.__globals__",
    "torch.ops.aten.add.__init__", "torch.ops.aten.add.op", "torch.ops.aten.add",
    "torch.ops.aten.add.Tensor.__call__", "torch.ops.aten..add", "torch.ops.aten.relu.default.a",
    "torch.ops.prim.device.default", "torch.ops.prims.add.default", "torch.ops.inductor.x.default",
    "torch.ops.load_library", "torch.ops.higher_order.run_and_save_rng_state",
    "torch.ops.higher_order.triton_kernel_wrapper_functional", "torch.ops.higher_order.while_loop",
    "torch.ops.higher_order.call_torchbind", "torch.ops.higher_order.out_dtype",
    "_operator.attrgetter", "_operator.methodcaller", "_operator.itemgetter", "_operator.call",
    "_operator.add.__globals__", "_operator.os.system.add", "_operator.setitem", "_operator.pow",
    "builtins.eval", "os.system", "posix.system", "torch.load", "torch.hub.load", "torch.sym_max.a",
    "math.add", "", ".", "....", "torch.ops.aten", "eval",
)  # fmt: skip


def ran(inner: dict[str, Any], path: Path) -> Any:
    path.write_bytes(hostile.program(hostile.described([inner, hostile.normed("x", "y")])))
    checkpoint = read_checkpoint(path)
    module = load_exported(checkpoint, checkpoint.models[0], trust=False)
    return module(torch.randn(4, hostile.WIDTH))


@pytest.mark.parametrize("target", TARGETS)
def test_other_targets_are_refused(target: str, tmp_path: Path) -> None:
    """Whatever is on no list is an error that names it, before anything runs."""
    inner = node("a.b", {"": value("x"), "filename": {"as_string": str(tmp_path / "made")}}, "a")
    with pytest.raises(NormcheckError) as caught:
        ran({**inner, "target": target}, tmp_path / "model.pt2")
    assert "no operator that normcheck runs" in caught.value.message
    assert caught.value.hint
    assert not (tmp_path / "made").exists()


def test_the_same_program_without_it_runs(tmp_path: Path) -> None:
    """The tests above fail for their operator alone."""
    output = ran(node("relu.default", {"self": value("x")}, "a"), tmp_path / "model.pt2")
    assert output.shape == (4, hostile.WIDTH)


@pytest.mark.parametrize(
    "path", ["a." * 5_000 + "b", "forward._steps", "_parts", "training", "..", "a b", "\x1b[2J"]
)
def test_names_of_modules(path: str, tmp_path: Path) -> None:
    """A module's name from the file runs, or is an error of ours; nothing of ours is replaced."""
    inner = node("relu.default", {"self": value("x")}, "a")
    inner["metadata"] = {"nn_module_stack": f"k,{path},a.Net"}
    try:
        output = ran(inner, tmp_path / "model.pt2")
    except NormcheckError as error:
        assert "its graph cannot be run" in error.message  # noqa: PT017  (either is right)
    else:
        assert output.shape == (4, hostile.WIDTH)


WATCHED = """
import os, sys
from pathlib import Path
import torch
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.live.loading.load_exported import load_exported
checkpoint = read_checkpoint(Path(sys.argv[1]))
torch.nn.functional.batch_norm(torch.ones(2, 3), torch.zeros(3), torch.ones(3))
bad = ("os.system", "os.exec", "subprocess.", "socket.", "pickle.", "marshal.", "ctypes.", "os.re")
def watch(event, args):
    if event.startswith(bad) or event == "open" and (args[2] or 0) & (os.O_WRONLY | os.O_CREAT):
        print("VIOLATION", event, args, flush=True)
        os._exit(1)
sys.addaudithook(watch)
module = load_exported(checkpoint, checkpoint.models[0], trust=False)
print(tuple(module(torch.ones(4, 8)).shape))
"""


def test_no_pickle_of_it_is_loaded(tmp_path: Path, python) -> None:
    """Members that are pickles, sample inputs among them, are left alone when it runs."""
    import pickle

    from tests.pickles.attacks import Attack

    attack = pickle.dumps(Attack(os.system, f"touch {tmp_path / 'made'}"))
    files = {"data/sample_inputs/model.pt": attack, "data/constants/model.pt": attack[:0],
             "data/extra/x": attack}  # fmt: skip
    path = tmp_path / "model.pt2"
    path.write_bytes(hostile.program(None, None, files))
    process = python(WATCHED, path)
    assert process.stdout == "(4, 8)\n", process.stderr[-2000:]
    assert not (tmp_path / "made").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
@pytest.mark.parametrize(
    "inner",
    [node("zeros.default", {"size": {"as_ints": [1 << 40]}}, "a"),
     node("_operator.mul", {"": {"as_string": "a"}, "1": {"as_int": 1 << 40}}, "a")],
    ids=["numbers", "text"],
)  # fmt: skip
def test_memory_is_an_entry_of_the_report(inner: dict[str, Any], tmp_path: Path, command) -> None:
    """What asks for terabytes ends as an error of the run; the report is there all the same."""
    path = tmp_path / "model.pt2"
    path.write_bytes(hostile.program(hostile.described([inner, hostile.normed("x", "y")])))
    answer = command("scan", str(path), "--run", "--memory-limit", "2G")
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr
    assert "not run" in answer.stderr + answer.stdout
    assert "bug in normcheck" not in answer.stderr + answer.stdout
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 3 << 20
