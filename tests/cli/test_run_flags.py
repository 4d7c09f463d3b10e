"""Running models from the command line: flags, what they need, and how they fail."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from normcheck.errors import UsageError
from normcheck.live.feeding.user_data import read_data
from normcheck.live.run_request import Feeding
from tests.cli.conftest import Normcheck

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
STATE = "sample_models/digits-healthy.pt"
LOST = "sample_models/statistics-lost.pt"
OWN_CLASSES = "sample_models/digits-healthy-module.pt"
TORCH_CLASSES = "sample_models/mlp-batchnorm-module.pt"
NET = ("--model", "sample_models.networks:DigitsNet")
DATA = ("--data", "sample_models/digits.npz", "--samples", "48")


@pytest.fixture(autouse=True)
def _at_the_root(normcheck: Normcheck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_a_module_of_torchs_classes_runs_without_trust(normcheck: Normcheck) -> None:
    """Rebuilt from what was read; the first lines say that no statistic is judged."""
    ran = normcheck("scan", TORCH_CLASSES, "--run")
    assert ran.code == 0
    head = " ".join(ran.out.split("\n")[:6])
    assert "ran on random numbers of shape 20" in head
    assert "statistics are not judged by made-up input" in " ".join(head.split())
    assert ran.err == ""


def test_layer_norm_is_shown_to_be_independent_of_the_mode(normcheck: Normcheck) -> None:
    """The measured allclose of the two modes is in the report."""
    ran = normcheck("scan", "sample_models/mlp-layernorm-module.pt", "--run")
    text = " ".join(ran.out.split())
    assert "torch.allclose is True, largest difference 0" in text
    assert "torch.allclose" not in normcheck("scan", TORCH_CLASSES, "--run").out


def test_classes_of_its_own_need_trust(normcheck: Normcheck) -> None:
    """Without it: exit code 2, the classes by name, what to do, and still what the file tells."""
    ran = normcheck("scan", OWN_CLASSES, "--run")
    assert ran.code == 2
    assert "sample_models.networks.DigitsNet" in ran.err
    assert "--trust" in ran.err
    assert "6 norm layers" in ran.out


def test_trust_is_said_before_it_runs(normcheck: Normcheck) -> None:
    """What runs is named on stderr, also under --quiet."""
    for quiet in ((), ("--quiet",)):
        ran = normcheck("scan", OWN_CLASSES, "--trust", *quiet)
        assert ran.code == 0
        assert "--trust unpickles it, which runs whatever it names" in ran.err
        assert "sample_models.networks.DigitsNet" in ran.err


def test_a_state_dict_needs_a_factory(normcheck: Normcheck) -> None:
    """Named outright it is an error; in a folder it is read, and said not to have run."""
    ran = normcheck("scan", STATE, "--run")
    assert ran.code == 2
    assert "--model" in ran.err
    everything = normcheck("scan", "sample_models", "--run", "--exit-zero")
    assert "error" not in everything.err


def test_data_settle_what_the_file_leaves_open(normcheck: Normcheck) -> None:
    """Lost statistics: a warning from the file, an error with labelled data."""
    assert normcheck("scan", LOST, "--fail-on", "error").code == 0
    ran = normcheck("scan", LOST, *NET, *DATA, "--fail-on", "error")
    assert ran.code == 1
    assert "accuracy is" in " ".join(ran.out.split())
    assert normcheck("scan", STATE, *NET, *DATA).code == 0


def test_two_runs_give_the_same_bytes(normcheck: Normcheck) -> None:
    """Under other hash seeds; all other forms are pure functions of the same report."""
    words = ("scan", LOST, *NET, *DATA, "--format", "json")
    assert len({_with_seed(seed, *words) for seed in ("1", "2")}) == 1


def _with_seed(seed: str, *words: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "normcheck", *words],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode in (0, 1), result.stderr
    return result.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((STATE, "--prefix", "ema."), "--prefix says how to run"),
        ((STATE, "--device", "cuda:7"), "--device says how to run"),
        ((STATE, *NET, "--device", "cuda:7"), "--device cuda:7"),
        ((STATE, *NET, "--model-args", "{"), "not JSON"),
        ((STATE, *NET, "--model-args", "3"), "neither an object nor a list"),
        ((STATE, *NET, "--model-args", '{"no": 1}'), "track_running_stats"),
        ((STATE, "--model", "nowhere"), "pkg.mod:name"),
        ((STATE, "--model", "sample_models.networks:Nothing"), "has no Nothing"),
        ((STATE, "--model", "sample_models.networks:mlp_batchnorm"), "no tensor of the file fits"),
        ((STATE, *NET, "--data", "nowhere.npz"), "no such file"),
        ((STATE, *NET, "--data", "pyproject.toml"), "neither a folder"),
        ((STATE, *NET, "--input-shape", "3y"), "not a shape"),
        ((STATE, *NET, "--input-shape", "7"), "fails on input of shape 7"),
        ((STATE, *NET, "--image-size", "big"), "not a size"),
        ((STATE, *NET, "--mean", "a"), "not numbers"),
        ((STATE, *NET, "--where", "ema"), "no model at 'ema'"),
    ],
)
def test_bad_words_are_exit_2_with_a_hint(
    normcheck: Normcheck, words: tuple[str, ...], said: str
) -> None:
    """What is wrong is named, and what to do."""
    ran = normcheck("scan", *words)
    assert ran.code == 2
    assert said in " ".join(ran.err.split())
    assert "hint: " in ran.err
    assert "Traceback" not in ran.err


def test_the_configuration_names_factory_and_data_but_runs_nothing(
    normcheck: Normcheck, tmp_path: Path
) -> None:
    """An entry acts under --run only: a scanned folder must not decide that its code runs."""
    config = tmp_path / "normcheck.toml"
    config.write_text(
        '[models."*/statistics-lost.pt"]\n'
        'model = "sample_models.networks:DigitsNet"\n'
        f'data = "{ROOT / "sample_models/digits.npz"}"\n'
    )
    words = ("scan", LOST, "--config", str(config), "--format", "json", "--exit-zero")
    assert json.loads(normcheck(*words).out)["models"][0]["run"] is None
    trusted = normcheck(*words, "--run", "--trust-config")
    run = json.loads(trusted.out)["models"][0]["run"]
    assert run["fed"]["labelled"] is True
    assert run["fed"]["samples"] == 256  # all, where nothing limits them
    # What is imported is said.
    assert "has sample_models.networks:DigitsNet (model) imported and run" in trusted.err


MARK = "open('imported', 'w').close()\n"
"""A module that leaves a mark when it is imported."""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A fetched folder: a checkpoint, a configuration that names code, and the code."""
    (tmp_path / "a.pt").write_bytes((ROOT / LOST).read_bytes())
    (tmp_path / "b.pt").write_bytes((ROOT / LOST).read_bytes())
    (tmp_path / "theirs.py").write_text(MARK + "def build(): ...\ndef load(): ...\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "theirs.py").write_text(MARK + "load = []\n")
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        'model = "theirs:build"',
        'data = "theirs:load"',
        'data = "theirs.py:load"',
        'data = "sub/theirs.py:load"',
        'model = "theirs:build"\ndata = "nowhere.npz"',
    ],
)
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_configuration_alone_imports_nothing(
    command: Callable[..., subprocess.CompletedProcess[str]],
    repository: Path,
    words: str,
    jobs: str,
) -> None:
    """What it names is said once with the flag that allows it, and the rules are skipped."""
    (repository / "normcheck.toml").write_text(f'[models."*"]\n{words}\n')
    run = ("scan", ".", "--run", "-f", "json", "--exit-zero", "--jobs", jobs)
    ran = command(*run, cwd=repository)
    assert not (repository / "imported").exists()
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("normcheck.toml would import") == 1
    assert "--trust-config" in ran.stderr
    report = json.loads(ran.stdout)
    skipped = [entry for entry in report["skipped"] if "would import" in entry["reason"]]
    assert {entry["model"] for entry in skipped} == {"a.pt", "b.pt"}
    assert [model["run"] for model in report["models"]] == [None, None]
    # With --strict what was skipped is not well.
    assert command(*run, "--strict", cwd=repository).returncode == 2


def test_trust_in_a_configuration_is_a_flag_of_its_own(
    command: Callable[..., subprocess.CompletedProcess[str]], repository: Path
) -> None:
    """Neither --trust gives it, nor naming the file, nor a key in it; the flag does."""
    config = repository / "normcheck.toml"
    config.write_text('[models."*"]\nmodel = "theirs:build"\n')
    run = ("scan", "a.pt", "--run")
    for more in (("--trust",), ("--config", "normcheck.toml")):
        command(*run, *more, cwd=repository)
        assert not (repository / "imported").exists()
    command(*run, cwd=repository, NORMCHECK_CONFIG="normcheck.toml")
    assert not (repository / "imported").exists()
    ran = command(*run, "--trust-config", cwd=repository)
    assert (repository / "imported").exists()
    assert "normcheck.toml has theirs:build (model) imported" in ran.stderr
    assert ran.returncode == 2  # it makes no model
    config.write_text("trust-config = true\n")
    assert "a file cannot switch on" in command(*run, cwd=repository).stderr


def test_data_of_a_configuration_that_are_only_read(
    command: Callable[..., subprocess.CompletedProcess[str]], repository: Path
) -> None:
    """A path to arrays runs nothing, and needs no trust; nor does code that a flag names."""
    shutil.copy(ROOT / "sample_models/digits.npz", repository)
    shutil.copy(ROOT / "sample_models/digits-healthy-module.pt", repository / "a.pt")
    (repository / "normcheck.toml").write_text('[models."*"]\ndata = "digits.npz"\n')
    ran = command("scan", "a.pt", "--run", "--trust", "-f", "json", cwd=repository,
                  PYTHONPATH=str(ROOT))  # fmt: skip
    assert "would import" not in ran.stderr
    assert json.loads(ran.stdout)["models"][0]["run"]["fed"]["labelled"] is True


def test_data_that_became_code_meanwhile_are_not_imported(repository: Path) -> None:
    """Where the trust was not given, the place that imports refuses as well."""
    feeding = Feeding(data=str(repository / "sub" / "theirs.py:load"), imports=False)
    with pytest.raises(UsageError, match="is code to import"):
        read_data(feeding, nn.Identity())
    assert not Path("imported").exists()


def test_unlabelled_arrays(normcheck: Normcheck, tmp_path: Path) -> None:
    """An array alone is fed as it is, and nothing is said of accuracy."""
    with np.load(ROOT / "sample_models/digits.npz") as digits:
        np.save(tmp_path / "images.npy", digits["images"][:64])
    ran = normcheck("scan", STATE, *NET, "--data", str(tmp_path / "images.npy"))
    assert ran.code == 0
    assert "without labels" in ran.out
    assert "accuracy" not in ran.out


def test_models_that_crash_when_called(normcheck: Normcheck, tmp_path: Path) -> None:
    """A factory whose forward raises is an error with its own words."""
    (tmp_path / "net.py").write_text(
        "from sample_models.networks import DigitsNet\n"
        "class Broken(DigitsNet):\n"
        "    def forward(self, images):\n"
        "        raise RuntimeError('on purpose')\n"
    )
    factory = f"{tmp_path / 'net.py'}:Broken"
    ran = normcheck("scan", STATE, "--model", factory, *DATA)
    assert ran.code == 2
    assert "on purpose" in ran.err
    assert "6 norm layers" in ran.out
