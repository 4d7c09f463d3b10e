"""Module trees made to harm: rebuilding them runs and imports nothing that they name."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from normcheck.errors import NormcheckError
from normcheck.live.loading.rebuild import module_class, rebuild
from normcheck.pickles.inert import GlobalName, Inert, OrderedRecord
from tests.formats import by_hand as hand
from tests.pickles import attacks

READER = """
import json, os, sys
from pathlib import Path
import torch
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.errors import NormcheckError
from normcheck.live.loading.rebuild import rebuild

def run(path):
    checkpoint = read_checkpoint(path)
    try:
        model = rebuild(checkpoint.models[0].root)
    finally:
        checkpoint.close()
    try:
        model.eval()(torch.ones(2, 2))
    except Exception as error:
        return f"rebuilt, {type(error).__name__}"
    return "rebuilt"

for path in sorted(Path(sys.argv[2]).iterdir()):  # so that all code is imported
    assert run(path) == "rebuilt"
b"x".decode("raw-unicode-escape"), b"x".decode("latin-1"), "x".encode("latin-1")

FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.", "socket.",
             "exec", "compile", "pickle.find_class", "ctypes.", "os.remove", "os.rename",
             "os.mkdir", "shutil.", "marshal.", "code.", "import")
violations = []
watching = True

def watch(event, args):
    bad = event.startswith(FORBIDDEN)
    if event == "import" and args[0] in sys.modules:
        bad = False
    if event == "open":
        mode, flags = args[1] or "", args[2] or 0
        bad = bool(set(mode) & set("wax+")) or bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    if bad and watching:
        violations.append(f"{event} {args!r:.200}")
        raise SystemExit(f"{event} {args!r:.200}")

sys.addaudithook(watch)
outcomes = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        outcomes[path.name] = run(path)
    except NormcheckError as error:
        outcomes[path.name] = type(error).__name__
    except BaseException as error:
        outcomes[path.name] = f"WRONG: {type(error).__name__} {str(error):.300}"
watching = False
print(json.dumps({"outcomes": outcomes, "violations": violations}))
"""
FLOATS = struct.pack("<4f", 1, 2, 3, 4)
LINEAR = ("torch.nn.modules.linear", "Linear")


def module(
    state: dict[str, bytes], cls: tuple[str, str] = LINEAR, parameters: bytes | None = None
) -> bytes:
    """Pushes a module, as torch.save writes it, with more in its state."""
    weight = hand.tensor(hand.storage(), (2, 2), (2, 1))
    own = {
        "training": hand.FALSE,
        "_parameters": parameters or hand.mapping({"weight": weight, "bias": hand.NONE}),
        "_buffers": hand.mapping({}),
        "_modules": hand.mapping({}),
    }
    return hand.build(hand.name(*cls) + b")\x81", hand.mapping(own | state))


def places(body: bytes) -> dict[str, bytes]:
    """Trees with ``body`` at each place that a module has."""
    sequential = ("torch.nn.modules.container", "Sequential")
    hook = hand.mapping({"0": body})
    return {
        "attribute": module({"thing": body}),
        "forward": module({"forward": body}),
        "in a list": module({"thing": hand.listed(hand.mapping({"a": body}))}),
        "child": module({"_modules": hand.mapping({"0": module({}), "1": body})}, sequential),
        "parameter": module({}, parameters=hand.mapping({"weight": body, "bias": hand.NONE})),
        "buffer": module({"_buffers": hand.mapping({"b": body})}),
        "parameters": module({"_parameters": body}),
        "forward hook": module({"_forward_hooks": hook}),
        "forward pre-hook": module({"_forward_pre_hooks": hook}),
        "backward hook": module({"_backward_hooks": hook}),
        "load hook": module({"_load_state_dict_pre_hooks": hook}),
        "setstate": module({"__setstate__": body, "__class__": body, "__call__": body}),
        "class": hand.build(body + b")\x81", hand.mapping({"_modules": hand.mapping({}),
                                                            "_parameters": hand.mapping({})})),
        "activation": module({"activation": body}, ("torch.nn.modules.transformer",
                                                    "TransformerEncoderLayer")),
    }  # fmt: skip


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that every attack tries to make; the evil modules lie on the path."""
    evil = tmp_path / "evil"
    evil.mkdir()
    for name in ("evil_module", "evil_at_import"):
        evil.joinpath(f"{name}.py").write_text(attacks.EVIL_MODULE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(evil), *filter(None, sys.path)]))
    monkeypatch.setenv("MARKER", str(tmp_path / "marker"))
    return tmp_path / "marker"


def outcomes_of(trees: dict[str, bytes], folder: Path, *, legacy: bool) -> dict[str, str]:
    """What a watched process makes of files with these trees."""
    hostile, warm = folder / "hostile", folder / "warm"
    hostile.mkdir()
    warm.mkdir()
    hand.torch_zip(warm / "a", hand.pickled(module({})), {"0": FLOATS})
    hand.legacy_file(warm / "b", module({}), {"0": (4, FLOATS)})
    for name, tree in trees.items():
        if legacy:
            hand.legacy_file(hostile / name, tree, {"0": (4, FLOATS)})
        else:
            hand.torch_zip(hostile / name, hand.pickled(tree), {"0": FLOATS})
    process = subprocess.run(
        [sys.executable, "-B", "-c", READER, str(hostile), str(warm)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-2000:]
    report = json.loads(process.stdout)
    assert report["violations"] == []
    assert len(report["outcomes"]) == len(trees)
    return dict(report["outcomes"])


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_nothing_runs(legacy: bool, marker: Path, tmp_path: Path) -> None:
    """At every place of a tree, every attack ends in an error of ours or is left out."""
    runners = attacks.code_runners(str(marker)) | attacks.torch_runners(str(marker))
    runners |= {
        "os.system itself": hand.name("os", "system"),
        "evil function": attacks.RUN,
        "evil class": hand.name("evil_module", "OnNew"),
        "os through torch": hand.name("torch.nn.modules.module", "os.system"),
        "torch.load": hand.name("torch", "load"),
        "hub": hand.name("torch.hub", "load"),
        "eval through torch": hand.name("torch.nn.functional", "__builtins__"),
    }
    trees = {
        f"{name} as {place}": tree
        for name, body in runners.items()
        for place, tree in places(body).items()
    }
    outcomes = outcomes_of(trees, tmp_path, legacy=legacy)
    assert not marker.exists()
    wrong = {name: outcome for name, outcome in outcomes.items() if "WRONG" in outcome}
    assert wrong == {}
    # Hooks that no forward calls are left out unseen, and a list or set that is made by a call
    # of something foreign is an empty one; nothing else gets by.
    for name, outcome in outcomes.items():
        attack, _, place = name.rpartition(" as ")
        if place not in ("backward hook", "load hook") and attack not in ("map", "set by a call"):
            assert not outcome.startswith("rebuilt"), name
    named = [outcome for outcome in outcomes.values() if outcome == "ForeignCodeError"]
    assert len(named) > len(outcomes) / 2


TRICKS = (
    "", ".", "os", "os.system", "torch", "torch.load", "torch.nn.Linear", "torch.nn.modules",
    "torch.nn.modules.", "torch.nn.modules..Linear", "torch.nn.modules.Linear",
    "torch.nn.modules.__dict__", "torch.nn.modules.__dict__.values", "torch.nn.modules.linear.",
    "torch.nn.modules.module.os", "torch.nn.modules.module.os.system",
    "torch.nn.modules.module.torch.load", "torch.nn.modules.module.torch.nn.modules.linear.Linear",
    "torch.nn.modules.module.functools.partial", "torch.nn.modules.linear.math.sqrt",
    "torch.nn.modules.linear.Linear.forward", "torch.nn.modules.linear.Linear.__init__",
    "torch.nn.modules.module.Module.__subclasses__", "torch.nn.modules.linear.Module",
    "torch.nn.modules.linear.Parameter", "torch.nn.modules.linear.__builtins__",
    "torch.nn.modules.__builtins__.eval", "torch.nn.modules.batchnorm._BatchNorm",
    "torch.nn.modules.lazy.LazyModuleMixin", "torch.nn.modules.container.OrderedDict",
    "torch.nn.parallel.DistributedDataParallel", "torch.nn.modules.linear\x00.Linear",
    "torch.nn.modules.sys.modules", "torch.jit.ScriptModule", "tests.live.probes.sick.Net",
)  # fmt: skip


@pytest.mark.parametrize("path", TRICKS)
def test_no_way_around_by_path(path: str) -> None:
    """Whatever path a file names, only a class that torch.nn.modules defines there is found."""
    assert module_class(path) is None


WORDS = ("torch", "nn", "modules", "linear", "Linear", "module", "Module", "os", "system", "sys",
         "__dict__", "__builtins__", "__class__", "__globals__", "functional", "container",
         "Sequential", "functools", "", "forward", "utils", "init", "batchnorm")  # fmt: skip


@given(st.lists(st.sampled_from(WORDS), max_size=6))
@settings(max_examples=200, deadline=None)
def test_only_torchs_modules_by_any_path(words: list[str]) -> None:
    """A path is either that of one of torch's modules, to the letter, or of nothing."""
    path = ".".join(["torch.nn.modules", *words])
    found = module_class(path)
    if found is not None:
        assert issubclass(found, nn.Module)
        assert f"{found.__module__}.{found.__qualname__}" == path


def inert(cls: type[nn.Module], state: dict[str, Any]) -> Inert:
    """A module with this state, as the reader gives it."""
    value = Inert(GlobalName(cls.__module__, cls.__name__))
    value.state = {"_parameters": OrderedRecord(), "_buffers": {}, "_modules": {}, **state}
    return value


GARBAGE = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.text("ab_", max_size=3) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab_", max_size=2), inner, max_size=2)
    ),
    max_leaves=5,
)
KEYS = st.sampled_from(
    [ "_flat_weights_names", "mode", "num_layers", "bias",
     "bidirectional", "proj_size", "training", "_modules", "_parameters", "_buffers", "dim",
     "activation", "_qkv_same_embed_dim", "padding", "kernel_size", "_forward_hooks", "eps",
     "_non_persistent_buffers_set", "padding_mode", "_reversed_padding_repeated_twice",
     "_state_dict_hooks", "align_corners", "scale_factor", "approximate", "inplace"],
)  # fmt: skip
CLASSES = (nn.Linear, nn.LSTM, nn.GRU, nn.MultiheadAttention, nn.Conv2d, nn.BatchNorm2d,
           nn.TransformerEncoderLayer, nn.Sequential, nn.ParameterList, nn.GELU, nn.LayerNorm,
           nn.Upsample, nn.PReLU, nn.ConvTranspose2d, nn.TransformerDecoderLayer)  # fmt: skip


def test_recurrent_layer_without_weights() -> None:
    """A recurrent layer whose list of weights is empty is an error of ours."""
    with pytest.raises(NormcheckError):
        rebuild(inert(nn.LSTM, {"all_weights": []}))


@given(st.sampled_from(CLASSES), st.dictionaries(KEYS, GARBAGE, max_size=4))
@settings(max_examples=150, deadline=None)
def test_states_that_no_module_has(cls: type[nn.Module], state: dict[str, Any]) -> None:
    """Whatever a file says that a module's attributes are: a module, or an error of ours."""
    try:
        made = rebuild(inert(cls, state))
    except NormcheckError:
        return
    assert type(made) is cls


def test_trees_without_end() -> None:
    """A module within itself is rebuilt as such; one nested too deep is an error of ours."""
    loop = inert(nn.Sequential, {})
    loop.state["_modules"]["0"] = loop
    model = rebuild(loop)
    assert model[0] is model
    deep: Any = inert(nn.Linear, {})
    for _ in range(5000):
        deep = inert(nn.Sequential, {"_modules": {"0": deep}})
    with pytest.raises(NormcheckError, match="too deep"):
        rebuild(deep)
