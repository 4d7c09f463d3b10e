"""Statistics of observations that are pickled without a module around them, and skorch's nets."""

import io
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from normcheck.errors import NoModelError, NormcheckError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.norms.find_norms import anatomy_of
from normcheck.norms.layer import NormLayer
from tests.verdict import accused, report_on

MEAN, VAR = np.array([0.5, -1.0, 2.0]), np.array([0.25, 4.0, 1.0])


class RunningMeanStd:
    """As stable-baselines3 has it."""

    def __init__(self, mean: Any = MEAN, var: Any = VAR, count: Any = 257.0001) -> None:
        self.mean, self.var, self.count = mean, var, count


class VecNormalize:
    """As stable-baselines3 pickles it: normalizers of observations and of returns."""

    def __init__(self, obs_rms: Any) -> None:
        self.num_envs, self.norm_obs, self.epsilon, self.clip_obs = 1, True, 1e-8, 10.0
        self.obs_rms = obs_rms
        self.ret_rms = RunningMeanStd(np.float64(12.5), np.float64(74.5), 256.0001)
        self.returns = np.zeros(1)


def pickled(thing: Any, path: Path) -> Path:
    path.write_bytes(pickle.dumps(thing))
    return path


def saved(thing: Any, path: Path) -> Path:
    torch.save(thing, path)
    return path


def layers_of(path: Path) -> dict[str, NormLayer]:
    checkpoint = read_checkpoint(path)
    found = {
        f"{model.where}:{layer.path}": layer
        for model in checkpoint.models
        for layer in anatomy_of(model).layers
    }
    checkpoint.close()
    return found


def check(layer: NormLayer, count: float = 257.0001) -> None:
    assert layer.kind.name == "observation norm"
    assert layer.running_mean is not None
    assert layer.running_var is not None
    assert layer.batches is not None
    assert layer.running_mean.numbers == pytest.approx(MEAN, abs=1e-6)
    assert layer.running_var.numbers == pytest.approx(VAR, abs=1e-5)
    assert layer.batches.value == count


@pytest.mark.parametrize("count", [257.0001, 257, np.float64(257), np.array(257.0)])
def test_vec_normalize(count: Any, tmp_path: Path) -> None:
    """The observations' statistics are judged; those of returns have one feature and no say."""
    path = pickled(VecNormalize(RunningMeanStd(count=count)), tmp_path / "vecnormalize.pkl")
    found = layers_of(path)
    assert list(found) == ["obs_rms:"]
    check(found["obs_rms:"], float(count))
    assert not accused(path)


def test_observations_of_several_kinds(tmp_path: Path) -> None:
    """A dictionary space has a normalizer for each of its keys."""
    both = {"camera": RunningMeanStd(), "joints": RunningMeanStd()}
    found = layers_of(pickled(VecNormalize(both), tmp_path / "v.pkl"))
    assert list(found) == ["obs_rms.camera:", "obs_rms.joints:"]


@pytest.mark.parametrize("write", [pickled, saved])
def test_beside_a_policy(write: Any, tmp_path: Path) -> None:
    """A script's own checkpoint: the policy is a model, and the normalizer is told apart."""
    policy = nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8)).state_dict()
    state = {"mean": torch.from_numpy(MEAN), "var": torch.from_numpy(VAR), "count": 257.0001}
    found = layers_of(write({"policy": policy, "obs_rms": state}, tmp_path / "run.pt"))
    assert list(found) == ["policy:1", "obs_rms:"]
    check(found["obs_rms:"])


def test_never_updated(tmp_path: Path) -> None:
    """A normalizer that never saw anything is said to be that."""
    fresh = RunningMeanStd(np.zeros(3), np.ones(3), 1e-4)
    path = pickled(VecNormalize(fresh), tmp_path / "v.pkl")
    assert [f.rule for f in report_on(path).findings] == ["NC101"]


@pytest.mark.parametrize(
    "held",
    [
        {"mean": MEAN, "var": VAR},  # constants of a preprocessing
        {"mean": MEAN, "var": VAR[:2], "count": 3},
        {"mean": MEAN, "count": 3},
        {"mean": MEAN, "var": VAR, "count": "many"},
        {"mean": MEAN, "var": VAR, "count": True},
        {"mean": MEAN, "var": VAR, "count": 10**400},
        {"mean": 1.0, "var": 2.0, "count": 3},
    ],
)
def test_no_normalizer(held: dict[str, Any], tmp_path: Path) -> None:
    """What lacks a part, or whose parts do not fit."""
    with pytest.raises(NoModelError):
        read_checkpoint(pickled(held, tmp_path / "x.pkl"))


def test_torchrl_sums(tmp_path: Path) -> None:
    """TorchRL's VecNorm: sums that fade alike, so that their ratio is what is applied."""
    count = 63.8
    state = {
        "observation_sum": torch.from_numpy(MEAN * count).float(),
        "observation_ssq": torch.from_numpy((VAR + MEAN**2) * count).float(),
        "observation_count": torch.tensor([count]),
    }
    found = layers_of(saved({"_extra_state": state}, tmp_path / "v.pt"))
    check(found["_extra_state:observation"], pytest.approx(count))


@pytest.mark.parametrize("count", [0, 64, 100_000])
def test_torchrl_moments(count: int, tmp_path: Path) -> None:
    """VecNormV2 stores moments that begin at 0: after many samples they are what is applied."""
    share = 1 - 0.9999**count
    state = {
        "loc.-|-.observation": torch.from_numpy(MEAN * share).float(),
        "var.-|-.observation": torch.from_numpy((VAR + MEAN**2) * share).float(),
        "count.-|-.observation": torch.tensor(count),
    }
    path = saved({"_extra_state": state}, tmp_path / "v.pt")
    layer = layers_of(path)["_extra_state:observation"]
    assert layer.kind.name == "observation norm"
    if count == 100_000:
        assert layer.running_mean is not None
        assert layer.running_mean.numbers == pytest.approx(MEAN, rel=1e-3)
    else:
        assert layer.running_mean is None
        assert layer.unread.keys() == {"running_mean", "running_var"}
    assert not accused(path)


def test_torchrl_several(tmp_path: Path) -> None:
    """Nested keys keep their path."""
    state = {
        f"{stat}.-|-.agents.-|-.{key}": torch.ones(3)
        for key in ("position", "speed")
        for stat in ("loc", "var")
    }
    state |= {f"count.-|-.agents.-|-.{key}": torch.tensor(5) for key in ("position", "speed")}
    found = layers_of(saved(state, tmp_path / "v.pt"))
    assert list(found) == [":agents.position", ":agents.speed"]


@pytest.fixture
def skorch() -> Iterator[type[Any]]:
    """A class as skorch's: what lies on a device is a pickle within the pickle."""

    class NeuralNetClassifier:
        def __init__(self, module: nn.Module) -> None:
            self.module, self.module_ = type(module), module
            self.criterion_ = nn.CrossEntropyLoss()
            self.optimizer_ = torch.optim.SGD(module.parameters(), lr=0.1)

        def __getstate__(self) -> dict[str, Any]:
            state = self.__dict__.copy()
            apart = {name: state.pop(name) for name in ("module_", "criterion_", "optimizer_")}
            raw = io.BytesIO()
            pickle.dump(apart, raw)
            state["__cuda_dependent_attributes__"] = raw.getvalue()
            return state

    library = types.ModuleType("skorch_layout")
    NeuralNetClassifier.__module__ = "skorch_layout"
    NeuralNetClassifier.__qualname__ = "NeuralNetClassifier"
    library.NeuralNetClassifier = NeuralNetClassifier  # type: ignore[attr-defined]
    sys.modules["skorch_layout"] = library
    yield NeuralNetClassifier
    del sys.modules["skorch_layout"]


@pytest.mark.parametrize("write", [pickled, saved])
def test_skorch(write: Any, skorch: type[Any], tmp_path: Path) -> None:
    """The module of a pickled net, with the numbers that it has alive; the loss is no model."""
    module = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8))
    for _ in range(3):
        module(torch.randn(16, 3))
    nn.init.uniform_(module[1].weight)
    path = write(skorch(module), tmp_path / "net.pkl")
    found = layers_of(path)
    assert list(found) == ["module_:1"]
    mean = found["module_:1"].running_mean
    assert mean is not None
    assert mean.numbers == pytest.approx(module[1].running_mean.numpy())
    assert "NC103" in {f.rule for f in report_on(path).findings}


@pytest.mark.parametrize("inner", [b"", b"\x80\x04", b"no pickle", b"\x80\x04\x95" + bytes(50)])
def test_damaged_pickle_within(inner: bytes, tmp_path: Path) -> None:
    """Ends in an error of ours."""
    thing = RunningMeanStd()
    thing.__dict__ = {"__cuda_dependent_attributes__": inner}
    with pytest.raises(NormcheckError):
        read_checkpoint(pickled(thing, tmp_path / "x.pkl"))


def test_pickles_within_each_other(tmp_path: Path) -> None:
    """One is looked into; what lies in the second is nobody's, however deep it goes."""
    data = pickle.dumps({"module_": nn.BatchNorm1d(4)})
    for _ in range(100):
        thing = RunningMeanStd()
        thing.__dict__ = {"__cuda_dependent_attributes__": data}
        data = pickle.dumps(thing)
    path = tmp_path / "deep.pkl"
    path.write_bytes(data)
    with pytest.raises(NoModelError):
        read_checkpoint(path)
