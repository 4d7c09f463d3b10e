"""``normcheck fix`` as a user calls it: what is said, exit codes, what cannot be asked for."""

from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Normcheck
from tests.conftest import SAMPLES

RUN = ("--model", "sample_models.networks:DigitsNet", "--data", SAMPLES / "digits.npz")
BATCH = ("--batch-size", "256")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_heals_and_says_so(normcheck: Normcheck, tmp_path: Path) -> None:
    ran = normcheck("fix", SAMPLES / "statistics-lost.pt", *RUN, *BATCH, "-o", "fixed.pt")
    assert (ran.code, ran.err) == (0, "")
    assert "9.4 %" in ran.out
    assert "98.4 %" in ran.out
    assert "all others are those" in ran.out
    assert normcheck("scan", "fixed.pt").code == 0


def test_refuses_with_the_reason(normcheck: Normcheck, tmp_path: Path) -> None:
    path = SAMPLES / "never-updated-trained-in-eval.pt"
    ran = normcheck("fix", path, *RUN, *BATCH, "-o", "fixed.pt", "--quiet")
    assert ran.code == 1
    assert "Refused: nothing was written" in ran.out
    assert "trained with the stored statistics, 0 and 1" in ran.out
    assert list(tmp_path.iterdir()) == []


def test_without_data_says_what_it_rests_on(normcheck: Normcheck, tmp_path: Path) -> None:
    """An emergency repair by its name, from a file that is accused; of another, a refusal."""
    words = (*RUN[:2], "--without-data", "--input-shape", "1x8x8", "-o", "fixed.pt")
    ran = normcheck("fix", SAMPLES / "digits-healthy.pt", *words)
    assert ran.code == 2
    assert "nothing in the file says" in ran.err
    assert "hint:" in ran.err
    assert list(tmp_path.iterdir()) == []
    ran = normcheck("fix", SAMPLES / "statistics-partly-lost.pt", *words)
    assert (ran.code, ran.err) == (0, "")
    flat = " ".join(ran.out.split())
    assert "AN EMERGENCY REPAIR, from no data" in flat
    assert "fitted to what stem.norm has stored" in flat
    assert "of the decisions on such fields changed" in flat
    assert normcheck("scan", "fixed.pt").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no repair is asked for"),
        (("--modes", "eval"), "no place for the repaired copy"),
        (("--modes", "eval", "-o", "a", "--in-place"), "two places"),
        (("--run-it",), "no such option"),
        (("--model", "sample_models.networks:DigitsNet"), "from data only"),
        (("--holdout", "x.npz", "--counts"), "--holdout judges"),
        (("--momentum", "0.1", "--counts"), "belongs to --unwarm"),
        (("--unwarm", "--momentum", "1.5"), "not between 0 and 1"),
        ((*RUN, "--unwarm"), "both replace the statistics"),
        ((*RUN, "--without-data"), "--without-data, and data are given"),
        (("--without-data", "--unwarm"), "both replace the statistics"),
        (("--without-data", "--holdout", "x.npz"), "--holdout judges"),
        ((*RUN, "--input-shape", "1x8x8"), "data have shapes of their own"),
    ],
)
def test_words_that_mean_nothing(
    words: tuple[str, ...], said: str, normcheck: Normcheck, tmp_path: Path
) -> None:
    ran = normcheck("fix", SAMPLES / "statistics-lost.pt", *words)
    assert ran.code == 2
    assert said in ran.err
    assert "hint:" in ran.err or said == "not between 0 and 1"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_none(normcheck: Normcheck, tmp_path: Path) -> None:
    ran = normcheck("fix", "nowhere.pt", "--counts", "-o", "fixed.pt")
    assert ran.code == 2
    assert "no such file" in ran.err


def test_in_place_keeps_a_backup(normcheck: Normcheck, tmp_path: Path) -> None:
    path = tmp_path / "module.pt"
    old = (SAMPLES / "mixed-modes-module.pt").read_bytes()
    path.write_bytes(old)
    ran = normcheck("fix", path, "--modes", "eval", "--in-place")
    assert ran.code == 0
    assert "2 of 21 modules set from train to eval mode" in ran.out
    assert "module.pt.bak" in "".join(ran.out.split())
    assert (tmp_path / "module.pt.bak").read_bytes() == old
    assert normcheck("scan", path).code == 0


CONFIG = """
[models."*.pt"]
model = "sample_models.networks:DigitsNet"
data = '{data}'
batch-size = 256
"""


def test_model_and_data_of_the_configuration(normcheck: Normcheck, tmp_path: Path) -> None:
    """--run takes them from it, its code only with --trust-config; --no-config reads none."""
    (tmp_path / "other.toml").write_text(CONFIG.format(data=SAMPLES / "digits.npz"))
    words = ("fix", SAMPLES / "statistics-lost.pt", "--run", "-o", "fixed.pt")
    config = ("--config", "other.toml")
    alone = normcheck(*words, "--no-config")
    assert (alone.code, "from data only" in alone.err) == (2, True)
    untrusted = normcheck(*words, *config)
    assert untrusted.code == 2
    assert "other.toml would import sample_models.networks:DigitsNet (model)" in untrusted.err
    assert "--trust-config" in untrusted.err
    assert not (tmp_path / "fixed.pt").exists()
    ran = normcheck(*words, *config, "--trust-config")
    assert ran.code == 0, ran.err
    assert "has sample_models.networks:DigitsNet (model) imported and run" in ran.err
    assert "98.4 %" in ran.out
    missing = normcheck(*words[:-1], "else.pt", "--config", "nowhere.toml")
    assert (missing.code, "nowhere.toml" in missing.err) == (2, True)


def test_limits_of_reading_hold(normcheck: Normcheck, tmp_path: Path) -> None:
    """One that is too low is an error that names it, and one that is none, too."""
    words = ("fix", SAMPLES / "statistics-lost.pt", "--counts", "-o", "fixed.pt")
    assert "no such limit" in normcheck(*words, "--limit", "files=3").err
    ran = normcheck(*words, "--limit", "pickle-bytes=10")
    assert ran.code == 2
    assert "pickle-bytes" in ran.err
    assert list(tmp_path.iterdir()) == []


SLOW = """
import time, torch
from sample_models.networks import DigitsNet

class Slow(DigitsNet):
    def forward(self, x):
        time.sleep(60)
        return super().forward(x)
"""


def test_a_run_that_takes_too_long_is_stopped(
    normcheck: Normcheck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a forward; nothing is written, and the limit is named."""
    (tmp_path / "slow_net.py").write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    run = ("--model", "slow_net:Slow", *RUN[2:])
    path = SAMPLES / "statistics-lost.pt"
    ran = normcheck("fix", path, *run, *BATCH, "--time-limit", "0.2", "-o", "fixed.pt")
    assert ran.code == 2
    assert "stopped after 0.2 seconds; nothing was written" in ran.err
    assert "--time-limit" in ran.err
    assert not (tmp_path / "fixed.pt").exists()
