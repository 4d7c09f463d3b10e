"""Series of checkpoints, and what happens when some cannot be read."""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import torch

import normcheck
from normcheck.compare.movement import Side, short_names
from normcheck.compare.movement_story import Motion, motion
from normcheck.config.examination import Examination
from normcheck.errors import UsageError
from normcheck.findings import Finding
from normcheck.rules.catalogue import find
from normcheck.rules.rule import Subject
from tests.runs.training_runs import compared, forward, save, told, train, trained

pytestmark = pytest.mark.slow


def _series(folder: Path, modes: str) -> list[Path]:
    """A checkpoint after each stretch: t trains, e trains in eval mode, v only passes."""
    model = trained()
    paths = [save(model, folder, "epoch-0.pt")]
    for number, mode in enumerate(modes, 1):
        model.train(mode != "e")
        forward(model, 3, number) if mode == "v" else train(model, 4, number)
        paths.append(save(model, folder, f"epoch-{number}.pt"))
    return paths


def test_training_throughout(tmp_path: Path) -> None:
    """One sentence, with how the steps developed; one step a neighbouring pair."""
    diff = compared(*_series(tmp_path, "tttt"))
    (comparison,) = diff.comparisons
    assert [(s.old, s.new) for s in comparison.steps] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert (comparison.total.old, comparison.total.new) == (0, 4)
    assert comparison.total.batches == sum(s.batches or 0 for s in comparison.steps) == 16
    assert told(diff).startswith(
        "Over 4 steps: weights and statistics moved together over 16 batches, as in training; "
        "weights by "
    )
    assert diff.findings == ()


def test_eval_mode_from_the_middle_on(tmp_path: Path) -> None:
    """One cause is one finding, which says from where to where."""
    diff = compared(*_series(tmp_path, "tteee"))
    (finding,) = diff.findings
    assert finding.rule == "NC601"
    assert "from epoch-2.pt → epoch-5.pt" in finding.detail
    assert told(diff) == (
        "epoch-0.pt → epoch-2.pt: weights and statistics moved together over 8 batches, as in "
        "training; epoch-2.pt → epoch-5.pt: weights moved, statistics did not: between these "
        "checkpoints training ran in eval mode, or the norms are frozen."
    )


def test_scattered_steps(tmp_path: Path) -> None:
    """Stretches that are not neighbours are named apart, each cause is a finding."""
    diff = compared(*_series(tmp_path, "etvte"))
    assert sorted(f.rule for f in diff.findings) == ["NC601", "NC602"]
    still = next(f for f in diff.findings if f.rule == "NC601")
    assert "epoch-0.pt → epoch-1.pt and epoch-4.pt → epoch-5.pt" in still.detail
    kinds = [motion(step) for step in diff.comparisons[0].steps]
    together, eval_mode = Motion.TOGETHER, Motion.STATS_STILL
    assert kinds == [eval_mode, together, Motion.STATS_ALONE, together, eval_mode]
    assert "1 more change" in told(diff)


def test_a_folder_is_ordered_by_the_numbers_in_its_names(tmp_path: Path) -> None:
    """epoch-10 comes after epoch-9."""
    model = trained()
    for number in (9, 10, 11):
        save(train(model, 2), tmp_path, f"epoch-{number}.pt")
    (comparison,) = compared(tmp_path).comparisons
    assert [Path(s.target).name for s in comparison.sides] == [
        "epoch-9.pt",
        "epoch-10.pt",
        "epoch-11.pt",
    ]


def test_an_unreadable_file_of_a_series(tmp_path: Path) -> None:
    """It is an error; the others are compared, over the gap."""
    paths = _series(tmp_path, "tt")
    paths[1].write_bytes(b"PK\x03\x04 cut off")
    diff = normcheck.diff([*paths, tmp_path / "missing.pt"])
    assert [Path(e.model).name for e in diff.report.errors] == ["epoch-1.pt", "missing.pt"]
    (comparison,) = diff.comparisons
    assert len(comparison.sides) == 2


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_files(tmp_path: Path, count: int) -> None:
    """A usage error that says how to call it."""
    with pytest.raises(UsageError, match=f"{count} given"):
        normcheck.diff(_series(tmp_path, "")[:count])


def test_a_file_cut_off_within_its_weights(tmp_path: Path) -> None:
    """Bytes that are missing are an error of that file, not a crash."""
    paths = _series(tmp_path, "t")
    torch.save(trained().state_dict(), paths[1], _use_new_zipfile_serialization=False)
    paths[1].write_bytes(paths[1].read_bytes()[:-400])
    diff = normcheck.diff(paths)
    (error,) = diff.report.errors
    assert "epoch-1.pt" in error.message
    assert diff.comparisons == ()


def test_a_rule_that_breaks_ends_nothing(tmp_path: Path) -> None:
    """It is an error with the rule's code; the other rules are heard."""
    from dataclasses import replace

    def broken(subject: Subject) -> list[Finding]:
        raise ZeroDivisionError("on purpose")

    rules = (replace(find("NC604").whole(), check=broken), find("NC601"))
    diff = normcheck.diff(_series(tmp_path, "e"), Examination(rules=rules))
    assert [f.rule for f in diff.findings] == ["NC601"]
    (error,) = diff.report.errors
    assert (error.rule, "ZeroDivisionError" in error.message) == ("NC604", True)


def test_memory_does_not_grow_with_the_series(tmp_path: Path) -> None:
    """Seven checkpoints take hardly more than three."""
    paths = []
    for number in range(7):
        path = tmp_path / f"{number}.pt"
        weights = torch.full((400, 400), float(number))
        torch.save({"conv.weight": weights, "bn.weight": torch.ones(4)}, path)
        paths.append(path)

    def peak(count: int) -> int:
        tracemalloc.start()
        normcheck.diff(paths[:count])
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(2)  # what is imported and cached once
    assert peak(7) < peak(3) + 500_000


def test_no_torch_is_imported(tmp_path: Path) -> None:
    """A comparison works where importing torch would fail."""
    paths = _series(tmp_path, "e")
    code = (
        "import sys; sys.modules['torch'] = None; import normcheck; "
        "print([f.rule for f in normcheck.diff(sys.argv[1:]).findings])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, check=False
    )
    assert result.stdout == "['NC601']\n", result.stderr


def test_the_report_is_of_the_last_checkpoint(tmp_path: Path) -> None:
    """Every output of a scan can show it: models, findings, and layers that they name."""
    paths = _series(tmp_path, "te")
    report = compared(*paths).report
    (model,) = report.models
    (finding,) = report.findings
    assert model.target == finding.model == str(paths[-1])
    assert {layer.path for layer in model.layers if "NC601" in layer.rules} == set(finding.layers)


def _names(*targets: str, places: tuple[str, ...] = ()) -> tuple[str, ...]:
    places = places or ("",) * len(targets)
    pairs = zip(targets, places, strict=True)
    return short_names(tuple(Side(t, w, "", "", 0, None, "") for t, w in pairs))


def test_short_names() -> None:
    """As short as they stay different."""
    assert _names("runs/a.pt", "runs/b.pt") == ("a.pt", "b.pt")
    assert _names("x/1/m.pt", "x/2/m.pt") == ("1/m.pt", "2/m.pt")
    assert _names("m.pt", "m.pt", places=("raw", "ema")) == ("m.pt (raw)", "m.pt (ema)")
    assert _names("a/m.pt", "m.pt") == ("a/m.pt", "m.pt")
