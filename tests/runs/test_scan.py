"""The flow of a run, and what happens when a part of it fails."""

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import normcheck
from normcheck.config.examination import Examination
from normcheck.findings import Finding
from normcheck.rules.catalogue import RULES
from normcheck.rules.rule import CannotTell, Subject
from normcheck.runs.scan import scan


def _broken(_subject: Subject) -> Iterator[Finding]:
    raise ZeroDivisionError("on purpose")
    yield  # a generator, as every rule


def _undecided(_subject: Subject) -> Iterator[Finding]:
    raise CannotTell("not without data")
    yield


def test_a_rule_that_breaks_is_recorded_and_the_rest_goes_on(samples: Path) -> None:
    """One broken rule costs its own verdict and nothing else."""
    broken = replace(RULES[2], check=_broken)
    report = scan([samples / "statistics-lost.pt"], Examination(rules=(broken, *RULES[:2])))
    assert [f.rule for f in report.findings] == ["NC101"]
    assert [e.rule for e in report.errors] == [broken.code]
    assert "ZeroDivisionError" in report.errors[0].message


def test_a_rule_that_cannot_tell_is_skipped_with_its_reason(samples: Path) -> None:
    """'Cannot tell' is neither a finding nor an error."""
    rule = replace(RULES[0], check=_undecided)
    report = scan([samples / "statistics-lost.pt"], Examination(rules=(rule,)))
    assert (report.findings, report.errors) == ((), ())
    assert report.skipped[0].reason == "not without data"


def test_a_file_without_a_model_is_passed_over_in_a_folder(tmp_path: Path) -> None:
    """In a folder it is skipped with a reason; named outright it is an error."""
    (tmp_path / "scheduler.pt").write_bytes(pickle.dumps({"last_epoch": 3}, protocol=2))
    in_folder = scan([tmp_path])
    assert in_folder.errors == ()
    assert "no model" in in_folder.skipped[0].reason
    assert "no model" in scan([tmp_path / "scheduler.pt"]).errors[0].message


def test_a_file_of_another_program_is_passed_over_in_a_folder(tmp_path: Path) -> None:
    """A tokenizer's ``.model`` beside the weights is nobody's mistake; a cut-off file is."""
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00")
    (tmp_path / "weights.pt").write_bytes(b"PK\x03\x04 cut off")
    report = scan([tmp_path])
    assert [Path(entry.model).name for entry in report.skipped] == ["tokenizer.model"]
    assert [Path(entry.model).name for entry in report.errors] == ["weights.pt"]
    assert len(scan([tmp_path / "tokenizer.model"]).errors) == 1


def test_the_same_file_under_two_words_is_scanned_once(samples: Path) -> None:
    """A folder and a file in it do not count twice."""
    report = scan([samples / "statistics-lost.pt", samples])
    assert sum(m.target.endswith("statistics-lost.pt") for m in report.models) == 1


def test_two_copies_in_a_file_are_reported_apart(tmp_path: Path) -> None:
    """An EMA copy with statistics turns the raw copy's loss into an error."""
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8))
    torch.nn.init.normal_(net[1].bias)
    lost = {k: v.clone() for k, v in net.state_dict().items()}
    net(torch.randn(64, 4))
    for _ in range(60):
        net(torch.randn(64, 4))
    torch.save({"state_dict": lost, "ema": net.state_dict()}, tmp_path / "both.pt")
    report = scan([tmp_path / "both.pt"])
    assert [m.where for m in report.models] == ["state_dict", "ema"]
    loud = [(f.where, f.rule, f.severity.value) for f in report.findings if f.severity.rank]
    assert loud == [("state_dict", "NC101", "error")]


def test_public_names_are_there() -> None:
    """Everything in ``__all__`` can be had, and a wrong name is an AttributeError."""
    for name in normcheck.__all__:
        assert getattr(normcheck, name) is not None
    with pytest.raises(AttributeError):
        normcheck.no_such_name  # noqa: B018
