"""``normcheck fix`` as a user calls it: what is said, exit codes, what cannot be asked for."""

import json
import sys
from pathlib import Path

import pytest
import torch

from normcheck.cli.flags.fix_flags import FORMS
from normcheck.report.forms import NAMES, form_of
from normcheck.report.page import template
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
    assert "98.0 %" in ran.out
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


def test_one_model_of_several_is_repaired_without_a_run(
    normcheck: Normcheck, tmp_path: Path
) -> None:
    """--where names it; the other stays as it is, and what is said names it, too."""
    state = torch.load(SAMPLES / "too-few-batches-mild.pt")
    torch.save({"model": state, "ema": {k: v.clone() for k, v in state.items()}}, "two.pt")
    words = ("fix", "two.pt", "--unwarm", "--momentum", "0.1", "-o", "fixed.pt")
    ran = normcheck(*words)
    assert ran.code == 2
    assert "holds 2 models: 'model', 'ema'" in ran.err
    ran = normcheck(*words, "--where", "ema")
    assert (ran.code, ran.err) == (0, "")
    assert "the model under 'ema'" in ran.out
    fixed = torch.load("fixed.pt")
    assert all(torch.equal(fixed["model"][name], value) for name, value in state.items())
    assert not torch.equal(fixed["ema"]["stem.norm.running_var"], state["stem.norm.running_var"])


def test_the_model_beside_its_average_is_named_by_a_dot(
    normcheck: Normcheck, tmp_path: Path
) -> None:
    """A flat state dict of both has it at the top: fix and diff take it, and leave the average."""
    state = torch.load(SAMPLES / "statistics-lost.pt")
    torch.save(state | {f"ema.{name}": tensor.clone() for name, tensor in state.items()}, "flat.pt")
    ran = normcheck("fix", "flat.pt", *RUN, *BATCH, "-o", "fixed.pt")
    assert ran.code == 2
    assert "holds 2 models: '.', 'ema'" in ran.err
    ran = normcheck("fix", "flat.pt", *RUN, *BATCH, "-o", "fixed.pt", "--where", ".")
    assert (ran.code, ran.err) == (0, "")
    fixed = torch.load("fixed.pt")
    assert all(torch.equal(fixed[f"ema.{name}"], tensor) for name, tensor in state.items())
    assert not torch.equal(fixed["stem.norm.running_var"], state["stem.norm.running_var"])
    moved = normcheck("diff", "flat.pt", "fixed.pt", "--where", ".", "-f", "json").out
    kept = normcheck("diff", "flat.pt", "fixed.pt", "--where", "ema", "-f", "json").out
    assert json.loads(moved)["comparisons"] != json.loads(kept)["comparisons"]


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
    assert "98.0 %" in ran.out
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


MODULE = SAMPLES / "mixed-modes-module.pt"
MODES = ("--modes", "eval")


def test_the_page_goes_where_it_is_wanted(normcheck: Normcheck, tmp_path: Path) -> None:
    """A file of its own, or stdout while the copy goes to a file; -o is always the copy."""
    ran = normcheck("fix", MODULE, *MODES, "-o", "a.pt", "-f", "html", "--report", "fix.html")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    page = (tmp_path / "fix.html").read_text(encoding="utf-8")
    assert "2 of 21 modules set from train to eval mode" in page
    assert "--modes eval -o a.pt" in page
    ran = normcheck("fix", MODULE, *MODES, "-o", "b.pt", "-f", "html", "--quiet")
    assert ran.out.startswith("<!doctype html>")
    both = ("-f", "text", "-f", "html", "--report", "-", "--report", "both.html")
    ran = normcheck("fix", MODULE, *MODES, "-o", "c.pt", *both)
    assert ran.out.startswith("✓ ")
    assert (tmp_path / "both.html").exists()
    assert len({(tmp_path / f"{name}.pt").read_bytes() for name in "abc"}) == 1


def test_the_page_of_a_refusal(normcheck: Normcheck, tmp_path: Path) -> None:
    """It is written, and nothing else is."""
    path = SAMPLES / "never-updated-trained-in-eval.pt"
    page = ("-f", "html", "--report", "fix.html")
    ran = normcheck("fix", path, *RUN, *BATCH, "-o", "fixed.pt", *page)
    assert (ran.code, ran.out, ran.err) == (1, "", "")
    text = (tmp_path / "fix.html").read_text(encoding="utf-8")
    assert "Refused: nothing was written" in text
    assert "<svg" in text
    assert "--batch-size 256 -o fixed.pt" in text
    assert [file.name for file in tmp_path.iterdir()] == ["fix.html"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-o", "fixed.pt", "--report", "fixed.pt"), "two outputs for one place"),
        (("-o", "fixed.pt", "--report", "model.pt"), "is an input of this run"),
        (("-o", "fixed.pt", "--report", "linked.pt"), "is an input of this run"),
        (("--in-place", "--report", "model.pt.bak"), "holds the file as it was"),
        (("--in-place", "--report", "./model.pt.bak"), "holds the file as it was"),
        (("-o", "-", "-f", "html"), "two outputs for stdout"),
        (("-o", "fixed.pt", "--report", "a", "--report", "b"), "2 output files for 1 formats"),
        (("-o", "fixed.pt", "--report", "no/such/folder.html"), "no such folder"),
        (("-o", "fixed.pt", "-f", "sarif"), "'sarif' is not one of"),
    ],
)
def test_what_is_said_replaces_no_model(
    words: tuple[str, ...], said: str, normcheck: Normcheck, tmp_path: Path
) -> None:
    """Neither the input, nor its backup, nor the copy; nothing at all is written."""
    old = MODULE.read_bytes()
    (tmp_path / "model.pt").write_bytes(old)
    (tmp_path / "linked.pt").symlink_to("model.pt")
    ran = normcheck("fix", "model.pt", *MODES, *words)
    assert ran.code == 2
    assert said in ran.err
    assert "hint:" in ran.err
    assert {file.name for file in tmp_path.iterdir()} == {"model.pt", "linked.pt"}
    assert (tmp_path / "model.pt").read_bytes() == old


def test_without_jinja2_nothing_is_repaired(
    normcheck: Normcheck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the page cannot be made is said before any work, and what to install."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    template._environment.cache_clear()
    ran = normcheck("fix", MODULE, *MODES, "-o", "fixed.pt", "-f", "html")
    template._environment.cache_clear()
    assert (ran.code, "normcheck[html]" in ran.err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_every_form_that_tells_of_a_repair_can_be_asked_for() -> None:
    assert set(FORMS) == {name for name in NAMES if form_of(name).fix is not None}
