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
