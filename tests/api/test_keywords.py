"""Plain keyword arguments, by the words of the flags."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import normcheck
from normcheck.errors import NormcheckError, UsageError
from sample_models.networks import DigitsNet
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _in_samples(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(samples)


def digits(count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    with np.load(ROOT / "sample_models/digits.npz") as held:
        names = list(held)
        return held[names[0]][:count], held[names[1]][:count]


def codes(report: normcheck.Report) -> set[str]:
    return {finding.rule for finding in report.findings}


@pytest.mark.parametrize("words", ["NC5", ["NC5"], "NC501,NC502,NC503,NC504,NC505,NC506"])
def test_select_and_ignore(words: object) -> None:
    """One word, a list, or commas."""
    report = normcheck.scan("statistics-lost.pt", select=words)
    assert {rule.code[:3] for rule in report.rules} == {"NC5"}
    assert "NC101" not in codes(report)
    assert "NC101" not in codes(normcheck.scan("statistics-lost.pt", ignore="NC101"))


def test_settings_are_what_arguments_change() -> None:
    """What they do not name stays."""
    policy = normcheck.Policy(strict=True, fail_on=normcheck.Severity.ERROR)
    report = normcheck.scan("statistics-lost.pt", policy=policy, select="NC1")
    assert report.fail_on is normcheck.Severity.ERROR
    assert normcheck.scan("statistics-lost.pt", None, policy, fail_on="warning").fails()


@pytest.mark.parametrize("kind", ["spec", "class", "function", "instance"])
def test_a_model_is_a_factory_or_one_of_its_kind(kind: str) -> None:
    """And data decide; an instance is left as it was."""
    instance = DigitsNet()
    before = {name: value.clone() for name, value in instance.state_dict().items()}
    model = {
        "spec": "sample_models.networks:DigitsNet",
        "class": DigitsNet,
        "function": lambda **_: DigitsNet(),
        "instance": instance,
    }[kind]
    report = normcheck.scan("statistics-lost.pt", model=model, data=digits(), samples=64)
    assert not report.errors
    (finding,) = [f for f in report.findings if f.rule == "NC101"]
    assert finding.severity == "error"
    assert report.models[0].run is not None
    assert report.models[0].run.fed.samples == 64
    after = instance.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_minima_move_findings_to_the_suppressed() -> None:
    """By severity and by confidence."""
    report = normcheck.scan("statistics-lost.pt", min_severity="error")
    assert not report.findings
    assert report.suppressed
    assert normcheck.scan("statistics-lost.pt", min_confidence="high").ok in (True, False)


def test_fix_writes_and_refuses(tmp_path: Path) -> None:
    """By plain words; a refusal is a result, an impossible wish an error."""
    repair = normcheck.fix(
        "statistics-lost.pt", tmp_path / "fixed.pt", model=DigitsNet, data=digits(256)
    )
    assert repair.ok
    assert (tmp_path / "fixed.pt").exists()
    assert "re-estimated" in str(repair)
    assert repair.to_dict()["models"][0]["estimated"]["samples"] == 256
    for words in ({}, {"model": DigitsNet}, {"counts": True, "modes": ""}):
        with pytest.raises(NormcheckError):
            normcheck.fix("statistics-lost.pt", tmp_path / "other.pt", **words)
    assert not (tmp_path / "other.pt").exists()


def test_diff_takes_files_one_by_one_or_in_a_list() -> None:
    """Both are the same."""
    files = ["digits-healthy.pt", "statistics-lost.pt"]
    assert str(normcheck.diff(*files)) == str(normcheck.diff(files))
    only = normcheck.diff(*files, select="NC601")
    assert {finding.rule for finding in only.findings} <= {"NC601"}


def test_assert_healthy() -> None:
    """The text of the failure is the report."""
    assert normcheck.assert_healthy("digits-healthy.pt").ok
    with pytest.raises(AssertionError) as caught:
        normcheck.assert_healthy("statistics-lost.pt")
    for said in ("6 batch norm layers were never updated", "stem.norm", "fix ", "NC101"):
        assert said in str(caught.value)
    with pytest.raises(AssertionError, match="no such file"):
        normcheck.assert_healthy("no-such-file.pt")


def test_a_live_module_is_run_where_it_is_told() -> None:
    """Without data: mechanics; what cannot be run there is an error of the report."""
    assert normcheck.scan(DigitsNet(), batch_size=4, select="NC3", input_shape="1x8x8").models
    report = normcheck.scan(DigitsNet(), device="no-such-device")
    assert report.errors


@pytest.mark.parametrize("shape", [(1, 8, 8), [1, 8, 8], ["1x8x8"], torch.Size((1, 8, 8))])
def test_a_shape_is_given_as_python_has_it(shape: Iterable[int] | Iterable[str]) -> None:
    """As that of a tensor, or as text."""
    assert normcheck.scan(DigitsNet(), batch_size=4, select="NC3", input_shape=shape).models


@pytest.mark.parametrize("shape", [(1, 8.0, 8), [(1, 8, 8), (3,)], 8.0, [True, True]])
def test_what_is_no_shape_is_an_error_with_a_hint(shape: Any) -> None:
    """Nested ones included: several inputs have a text each."""
    with pytest.raises(UsageError, match="is no shape") as caught:
        normcheck.scan(DigitsNet(), input_shape=shape)
    assert "(3, 224, 224)" in caught.value.hint


@pytest.mark.parametrize(
    "words",
    [
        {"select": "NC9"},
        {"fail_on": "loud"},
        {"min_severity": "none"},
        {"min_confidence": "certain"},
        {"model": 3},
    ],
)
def test_wrong_words_are_errors_with_a_hint(words: dict[str, object]) -> None:
    """As those of the command."""
    with pytest.raises(UsageError) as caught:
        normcheck.scan("statistics-lost.pt", **words)
    assert caught.value.hint
