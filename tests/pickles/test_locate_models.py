"""Finding the models in training checkpoints, and never an optimizer among them."""

from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from normcheck.errors import NoModelError, RefusedError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.saved.checkpoint import Form
from normcheck.sources.limits import Limits
from tests.formats import by_hand as hand


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def state() -> OrderedDict[str, torch.Tensor]:
    return network().state_dict()


def trained(kind: str, steps: int = 2, **options: Any) -> torch.optim.Optimizer:
    """An optimizer that has made some steps."""
    model = network()
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=1e-3, **options)
    for _ in range(steps):
        model(torch.randn(5, 3)).square().sum().backward()
        optimizer.step()
    return optimizer


def places(checkpoint: Any) -> list[str]:
    return [model.where for model in checkpoint.models]


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "key", ["state_dict", "model", "model_state_dict", "ema", "net", "weights", "module", 0]
)
def test_nested_once(key, legacy, read) -> None:
    """A state dict under any key is found there, with all its tensors."""
    checkpoint = read({"epoch": 1, key: state(), "best": 0.5}, legacy=legacy)
    assert places(checkpoint) == [str(key)]
    assert list(checkpoint.models[0].tensors) == list(state())
    assert checkpoint.models[0].form is Form.STATE_DICT


def test_nested_deeply(read) -> None:
    """A state dict is found at any depth, through dictionaries, lists and objects."""
    thing = {"a": [0, {"b": ({"c": state()},)}]}
    assert places(read(thing)) == ["a[1].b[0].c"]


@pytest.mark.parametrize(("depth", "found"), [(10, True), (990, True), (1010, False)])
def test_depth(depth: int, found: bool, read, tmp_path: Path) -> None:
    """Depth alone does not hide a model; past the limit the file is refused."""
    model = hand.mapping({"a.weight": hand.tensor(hand.storage(numel=0), (0,), (1,))})
    data = hand.pickled(b"]" * depth + model + b"a" * depth)
    path = hand.torch_zip(tmp_path / "deep.pt", data, {"0": b""})
    if found:
        assert places(read(path)) == ["[0]" * depth]
    else:
        with pytest.raises(RefusedError, match="nested too deep"):
            read_checkpoint(path)


def test_several_models_apart(read) -> None:
    """Teacher, student, averages and the parts of a GAN are models of their own."""
    thing = {
        "teacher": state(),
        "student": {"backbone": state(), "head": state()},
        "nets": [state(), state()],
        "ema": {"decay": 0.99, "shadow": state()},
    }
    assert places(read(thing)) == [
        "teacher", "student.backbone", "student.head", "nets[0]", "nets[1]", "ema.shadow",
    ]  # fmt: skip


def test_one_model_in_two_places(read) -> None:
    """The very same dictionary, saved under two names, is one model."""
    shared = state()
    assert places(read({"model": shared, "best": shared})) == ["model"]


def test_lightning(read, save, vanished) -> None:
    """A Lightning checkpoint: state dict, callbacks, loops, settings of unknown classes."""
    adam = trained("Adam").state_dict()
    thing = {
        "epoch": 4,
        "global_step": 40,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": OrderedDict((f"model.{k}", v) for k, v in state().items()),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 5}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [adam],
        "lr_schedulers": [{"base_lrs": [0.1], "_last_lr": [0.1]}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"settings": vanished("Settings")(), "path": Path("a/b")},
    }
    path = save(thing, "epoch=4.ckpt")
    vanished.gone()
    checkpoint = read(path)
    assert places(checkpoint) == ["state_dict"]
    assert checkpoint.optimizer_steps == 2


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("SGD", {"momentum": 0.9}), ("SGD", {}), ("Adam", {}), ("Adam", {"amsgrad": True}),
        ("AdamW", {}), ("RMSprop", {}), ("Adagrad", {}), ("Adadelta", {}), ("Adamax", {}),
        ("NAdam", {}), ("RAdam", {}), ("ASGD", {}), ("Rprop", {}), ("Adafactor", {}),
    ],
)  # fmt: skip
def test_optimizers_are_no_models(kind, options, read, tmp_path: Path) -> None:
    """No optimizer's state is taken for a model, beside one, nested, or alone in the file."""
    if not hasattr(torch.optim, kind):
        pytest.skip(f"this torch has no {kind}")
    optimizer = trained(kind, **options).state_dict()
    thing = {"model": state(), "optimizer": optimizer, "more": {"deep": [optimizer]}}
    checkpoint = read(thing)
    assert places(checkpoint) == ["model"]
    # SGD is the one that counts no steps.
    assert checkpoint.optimizer_steps == (None if kind == "SGD" else 2)
    path = tmp_path / "optimizer.pt"
    torch.save(optimizer, path)
    with pytest.raises(NoModelError, match="optimizer"):
        read_checkpoint(path)


def test_optimizer_keyed_by_names(read) -> None:
    """FSDP keys an optimizer's state by parameter names, which look like a state dict's."""
    adam = {
        name: {"step": torch.tensor(11.0), "exp_avg": p, "exp_avg_sq": p}
        for name, p in network().named_parameters()
    }
    sgd = {name: {"momentum_buffer": p} for name, p in network().named_parameters()}
    thing = {
        "model": state(),
        "optim": {"state": adam, "param_groups": [{"params": list(adam)}]},
        "momenta": sgd,
    }
    checkpoint = read(thing)
    assert places(checkpoint) == ["model"]
    assert checkpoint.optimizer_steps == 11
    assert read({"model": state(), "bare": adam}).optimizer_steps == 11


@pytest.mark.parametrize(
    ("step", "read_as"),
    [
        (5, 5), (5.0, 5), (torch.tensor(5), 5), (torch.tensor([5.0]), 5), (None, None),
        ("5", None), (-1, None), (float("inf"), None), (float("nan"), None), (10**30, None),
        (torch.tensor([1, 2]), None), (torch.tensor(5 + 0j), 5),
        (torch.empty((), device="meta"), None), (torch.tensor(True), 1),
    ],
)  # fmt: skip
def test_optimizer_steps(step, read_as, read) -> None:
    """The largest step that makes sense counts; what makes none is passed over."""
    optimizer = {"state": {0: {"step": step}, 1: {"step": 0}, 2: 3}, "param_groups": []}
    assert read({"m": state(), "o": optimizer}).optimizer_steps == read_as


def test_a_model_with_a_part_called_state(read) -> None:
    """Only both keys of an optimizer make one: a model may have a part called ``state``."""
    thing = {"state": state(), "args": {"param_groups": 3}}
    assert places(read(thing)) == ["state"]


@pytest.mark.parametrize(
    "names",
    [["weight"], ["running_mean", "running_var"], ["gamma", "beta"], ["weight_ih_l0"],
     ["in_proj_bias"], ["0.x"]],
)  # fmt: skip
def test_state_dict_of_a_single_layer(names, read) -> None:
    """A dictionary is a state dict by dots in its names, or by a layer's own names."""
    assert places(read({name: torch.ones(2) for name in names})) == [""]


@pytest.mark.parametrize("names", [["loss"], ["train_loss", "epoch"], ["images", "labels"]])
def test_dictionaries_of_other_tensors(names, tmp_path: Path) -> None:
    """Losses and data are no model."""
    path = tmp_path / "data.pt"
    torch.save({name: torch.ones(2) for name in names}, path)
    with pytest.raises(NoModelError):
        read_checkpoint(path)


def test_nested_state_dict(read) -> None:
    """Dictionaries within dictionaries, one for each module, are one model."""
    layer = {"weight": torch.ones(2), "bias": torch.zeros(2)}
    thing = {"conv1": dict(layer), "bn1": {**layer, "running_mean": torch.ones(2)},
             "layer1": {"0": {"conv": dict(layer)}}, "epoch": 4}  # fmt: skip
    (model,) = read(thing).models
    assert model.where == ""
    assert list(model.tensors) == [
        "conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias", "bn1.running_mean",
        "layer1.0.conv.weight", "layer1.0.conv.bias",
    ]  # fmt: skip


def test_tensors_and_models_side_by_side(read) -> None:
    """Below a state dict further models are found, its own tensors not twice."""
    thing = {"a.weight": torch.ones(2), "extra": {"ema": state()}}
    checkpoint = read(thing)
    assert places(checkpoint) == ["", "extra.ema"]
    assert list(checkpoint.models[0].tensors) == ["a.weight"]


def test_module_and_state_dict(read) -> None:
    """Whole modules and state dicts in one file, in lists, tuples and dictionaries."""
    thing = {"nets": [network(), (network(),)], "state": state(), "wrapped": defaultdict(dict)}
    thing["wrapped"]["model"] = network()
    checkpoint = read(thing)
    assert places(checkpoint) == ["nets[0]", "nets[1][0]", "state", "wrapped.model"]
    assert [model.form for model in checkpoint.models] == [
        Form.MODULE, Form.MODULE, Form.STATE_DICT, Form.MODULE,
    ]  # fmt: skip


class Learner:
    """An object of the user's with a model in an attribute."""

    def __init__(self) -> None:
        self.model = network()
        self.history = [0.5] * 10


def test_model_in_an_attribute(read) -> None:
    """A model inside a saved object is found by the attribute's name."""
    assert places(read({"learner": Learner()})) == ["learner.model"]


def test_cycles(read) -> None:
    """A container that contains itself does not lead around for ever."""
    thing: dict[str, Any] = {"model": state()}
    thing["again"] = [thing, {"up": thing}]
    assert places(read(thing)) == ["model"]


def test_versions(read_one) -> None:
    """Module versions come from ``_metadata``, those of a plain dictionary are empty."""
    assert read_one({"m": state()}).versions == {"": 1, "0": 1, "1": 2, "2": 1}
    assert read_one(dict(state())).versions == {}


def test_long_lists_of_numbers(read) -> None:
    """A history of many numbers beside the model is passed over."""
    assert places(read({"losses": [1.5] * 100_000, "model": state()})) == ["model"]


def test_limit_on_paths(tmp_path: Path) -> None:
    """A model along a path longer than the limit is refused."""
    path = tmp_path / "long.pt"
    torch.save({"long" * 20: {"longer" * 20: state()}}, path)
    read_checkpoint(path).close()
    with pytest.raises(RefusedError):
        read_checkpoint(path, Limits(name_bytes=100))


@pytest.mark.parametrize("limits", [Limits(models=2), Limits(entries=25)])
def test_limits_on_models(limits: Limits, tmp_path: Path) -> None:
    """More models, or tensors in them, than the limits allow are refused."""
    path = tmp_path / "many.pt"
    torch.save([state() for _ in range(3)], path)
    read_checkpoint(path).close()
    with pytest.raises(RefusedError):
        read_checkpoint(path, limits)


def test_limit_on_nested_state_dicts(tmp_path: Path) -> None:
    """Dictionaries that share their parts, each twice the one below, are not unfolded."""
    level: dict[str, Any] = {"weight": torch.ones(1)}
    for _ in range(60):
        level = {"a": level, "b": level}
    path = tmp_path / "laughs.pt"
    torch.save({"x": {"weight": torch.ones(1)}, "y": {"bias": torch.ones(1)}, "z": level}, path)
    with pytest.raises(RefusedError, match="entries"):
        read_checkpoint(path, Limits(entries=10_000))


class Metric(nn.Module):
    """A loss or a metric with a weight for each task, and a scaling of the targets."""

    def __init__(self, **tensors: torch.Tensor) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)


@pytest.mark.parametrize(
    "beside",
    [
        {"task_weights": torch.ones(1, 12)},
        {"mean": torch.zeros(1, 3), "scale": torch.ones(1, 3)},
        {"threshold": torch.tensor(0.5), "classes": torch.arange(4)},
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_settings_beside_a_model(whole: bool, beside: dict[str, torch.Tensor], read) -> None:
    """What a metric or a scaling holds is no model, where there is one."""
    held = Metric(**beside) if whole else beside
    assert places(read({"hyper_parameters": {"metric": held}, "state_dict": state()})) == [
        "state_dict"
    ]
    if whole:
        assert places(read({"hyper_parameters": {"metric": held}})) == ["hyper_parameters.metric"]


@pytest.mark.parametrize(
    "norm",
    [
        {"weight": torch.ones(4), "bias": torch.zeros(4)},
        {"running_mean": torch.zeros(4), "running_var": torch.ones(4)},
        {"mean": torch.zeros(4), "std": torch.ones(4), "count": torch.tensor(10.0)},
    ],
)
def test_norms_beside_a_model(norm: dict[str, torch.Tensor], read) -> None:
    """Vectors that may be a norm's are kept: they are what is looked for."""
    assert set(places(read({"normalizer": norm, "state_dict": state()}))) == {
        "normalizer",
        "state_dict",
    }
