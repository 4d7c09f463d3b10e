"""Boxes and norms written by the libraries themselves, where these are installed.

None of them is needed to develop normcheck: what their files look like is in the other tests. These
hold the layouts against the libraries. ``docs/libraries.md`` has the versions that they ran with.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.formats.targets import expand
from normcheck.norms.find_norms import anatomy_of
from normcheck.norms.layer import NormLayer
from tests.verdict import accused

pytestmark = pytest.mark.filterwarnings("ignore")
Truth = Mapping[str, tuple[Any, Any]]
"""Mean and variance of each norm, by the ends of their places."""


class Small(nn.Sequential):
    """Of this module, so that pickles find it."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


def item(number):  # type: ignore[no-untyped-def]
    """A sample for fastai, which takes the annotation of a function's result for a class."""
    return torch.randn(6), number % 3


def trained() -> Small:
    torch.manual_seed(0)
    model = Small()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(80):
        loss = nn.functional.cross_entropy(model(torch.randn(32, 6)), torch.arange(32) % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def of_module(model: nn.Module) -> Truth:
    return {
        f"{name}": (module.running_mean, module.running_var)
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm1d)
    }


def skorch_net(folder: Path) -> tuple[Path, Truth]:
    net = pytest.importorskip("skorch").NeuralNetClassifier(
        Small, max_epochs=60, criterion=nn.CrossEntropyLoss, verbose=0
    )
    net.fit(np.random.default_rng(0).normal(size=(256, 6)).astype("float32"), np.arange(256) % 3)
    (folder / "net.pkl").write_bytes(pickle.dumps(net))
    return folder / "net.pkl", of_module(net.module_)


def fastai_learner(folder: Path) -> tuple[Path, Truth]:
    pytest.importorskip("fastai")
    from fastai.data.core import DataLoaders, TfmdLists
    from fastai.learner import Learner

    lists = TfmdLists(list(range(64)), [item]), TfmdLists(list(range(16)), [item])
    loaders = DataLoaders.from_dsets(*lists, bs=16)
    loaders.n_inp, loaders.path = 1, folder
    learner = Learner(loaders, trained(), loss_func=nn.CrossEntropyLoss())
    learner.fit(10)
    learner.export("export.pkl")
    return folder / "export.pkl", of_module(learner.model)


def mlflow_pickle(folder: Path) -> tuple[Path, Truth]:
    flavour = pytest.importorskip("mlflow.pytorch")
    model = trained()
    flavour.save_model(model, folder / "model", serialization_format="pickle")
    return folder / "model", of_module(model)


def mlflow_program(folder: Path) -> tuple[Path, Truth]:
    flavour = pytest.importorskip("mlflow.pytorch")
    model = trained()
    example = np.zeros((2, 6), dtype="float32")
    flavour.save_model(model, folder / "model", input_example=example)
    return folder / "model", of_module(model)


def bentoml_model(folder: Path) -> tuple[Path, Truth]:
    code = (
        "import bentoml\nfrom tests.formats.boxes.test_real_packages import trained\n"
        "bentoml.pytorch.save_model('net', trained())"
    )
    pytest.importorskip("bentoml")
    here = os.environ | {"BENTOML_HOME": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=here, check=True)
    return folder, of_module(trained())


def torchserve(folder: Path) -> tuple[Path, Truth]:
    pytest.importorskip("model_archiver")
    model = trained()
    torch.save(model.state_dict(), folder / "net.pt")
    (folder / "handler.py").write_text("def handle(data, context): ...\n")
    words = ["--model-name", "net", "--version", "1.0", "--serialized-file", str(folder / "net.pt")]
    words += ["--handler", str(folder / "handler.py"), "--export-path", str(folder)]
    subprocess.run([sys.executable, "-m", "model_archiver.model_packaging", *words], check=True)
    return folder / "net.mar", of_module(model)


def vec_normalize(folder: Path) -> tuple[Path, Truth]:
    vec_env = pytest.importorskip("stable_baselines3.common.vec_env")
    gymnasium = pytest.importorskip("gymnasium")
    environment = vec_env.VecNormalize(vec_env.DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]))
    environment.reset()
    for _ in range(50):
        environment.step([environment.action_space.sample()])
    environment.save(str(folder / "vecnormalize.pkl"))
    rms = environment.obs_rms
    return folder / "vecnormalize.pkl", {"obs_rms:": (rms.mean, rms.var)}


def vec_norm(folder: Path) -> tuple[Path, Truth]:
    envs = pytest.importorskip("torchrl.envs")
    pytest.importorskip("gymnasium")
    transform = envs.VecNorm(in_keys=["observation"])
    environment = envs.TransformedEnv(envs.GymEnv("CartPole-v1"), transform)
    environment.rollout(60, break_when_any_done=False)
    torch.save(environment.state_dict(), folder / "env.pt")
    mean, deviation = transform.loc["observation"], transform.scale["observation"]
    return folder / "env.pt", {"observation": (mean, deviation**2)}


def hetero_batch_norm(folder: Path) -> tuple[Path, Truth]:
    norm = pytest.importorskip("torch_geometric.nn").HeteroBatchNorm(8, 3)
    for _ in range(50):
        norm(2 * torch.randn(60, 8) + 1, torch.arange(60) % 3)
    torch.save(norm, folder / "norm.pt")
    return folder / "norm.pt", {":": (norm.running_mean, norm.running_var)}


def diff_group_norm(folder: Path) -> tuple[Path, Truth]:
    norm = pytest.importorskip("torch_geometric.nn").DiffGroupNorm(8, groups=4)
    for _ in range(50):
        norm(2 * torch.randn(60, 8) + 1)
    torch.save(norm.state_dict(), folder / "norm.pt")
    return folder / "norm.pt", {"norm": (norm.norm.running_mean, norm.norm.running_var)}


def equivariant(folder: Path) -> tuple[Path, Truth]:
    norm = pytest.importorskip("e3nn.nn").BatchNorm("8x0e+4x1o")
    for _ in range(50):
        norm(2 * torch.randn(64, norm.irreps.dim) + 1)
    torch.save(norm.state_dict(), folder / "norm.pt")
    return folder / "norm.pt", {":": (norm.running_mean, norm.running_var)}


MAKERS: tuple[Callable[[Path], tuple[Path, Truth]], ...] = (
    skorch_net, fastai_learner, mlflow_pickle, mlflow_program, bentoml_model, torchserve,
    vec_normalize, vec_norm, hetero_batch_norm, diff_group_norm, equivariant,
)  # fmt: skip


def layers_under(path: Path) -> dict[str, NormLayer]:
    found: dict[str, NormLayer] = {}
    for target in expand([str(path)]):
        checkpoint = read_checkpoint(target.path)
        for model in checkpoint.models:
            found |= {f"{model.where}:{n.path}": n for n in anatomy_of(model).layers}
        checkpoint.close()
    return found


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_norms_are_those_of_the_live_model(
    make: Callable[[Path], tuple[Path, Truth]], tmp_path: Path
) -> None:
    """As many as it has, each with its numbers; and nothing of a healthy one is accused."""
    path, truth = make(tmp_path)
    found = layers_under(path)
    assert len(found) == len(truth)
    for end, (mean, variance) in truth.items():
        (layer,) = (layer for place, layer in found.items() if place.endswith(end))
        assert layer.running_mean is not None
        assert layer.running_var is not None
        for read, alive in ((layer.running_mean, mean), (layer.running_var, variance)):
            wanted = np.asarray(alive, dtype=np.float64).reshape(-1)
            assert read.numbers.reshape(-1) == pytest.approx(wanted, rel=1e-4, abs=1e-7)
    for target in expand([str(path)]):
        assert not accused(Path(str(target.path)))
