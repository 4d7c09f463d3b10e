"""Averaged copies beside the raw model, and ranks of a distributed run."""

from pathlib import Path

import pytest
import torch
from torch import nn

import normcheck
from normcheck.compare.movement_story import story
from normcheck.errors import UsageError
from normcheck.findings import Severity
from normcheck.report.people.diff_text import render_diff_text
from normcheck.report.people.text_style import TextStyle
from tests.runs.training_runs import Net, batches, compared, copy_of, save, told, train, trained

torch.set_num_threads(1)


def _average(ema: nn.Module, raw: nn.Module, *, buffers: bool) -> None:
    with torch.no_grad():
        for ours, theirs in zip(ema.parameters(), raw.parameters(), strict=True):
            ours.lerp_(theirs, 0.3)
        for ours, theirs in zip(ema.buffers(), raw.buffers(), strict=True):
            if buffers:
                ours.copy_(theirs)


def _run(folder: Path, *, buffers: bool) -> tuple[Path, Path]:
    raw = trained()
    ema = copy_of(raw)
    paths = []
    for name in ("old.pt", "new.pt"):
        for step in range(5):
            train(raw, 2, seed=step)
            _average(ema, raw, buffers=buffers)
        paths.append(save(raw, folder, name, ema=ema.state_dict()))
    return paths[0], paths[1]


def test_averaged_copy_without_buffers(tmp_path: Path) -> None:
    """Its weights move, its statistics stay: stale, as the raw copy beside it shows."""
    diff = compared(*_run(tmp_path, buffers=False))
    assert [c.sides[0].where for c in diff.comparisons] == ["model", "ema"]
    (finding,) = diff.findings
    assert (finding.rule, finding.where) == ("NC601", "ema")
    assert "under 'model'" in finding.consequence
    assert "fall behind its weights" in finding.consequence


def test_averaged_copy_with_buffers(tmp_path: Path) -> None:
    """Copied buffers move along: nothing to say about either model."""
    assert compared(*_run(tmp_path, buffers=True)).findings == ()


def test_averaged_copy_beside_raw_in_one_file(tmp_path: Path) -> None:
    """``where`` holds two models of one file against each other."""
    path, _ = _run(tmp_path, buffers=True)
    diff = compared(path, path, where=("model", "ema"))
    (comparison,) = diff.comparisons
    assert [side.where for side in comparison.sides] == ["model", "ema"]
    (finding,) = diff.findings
    assert (finding.rule, finding.where) == ("NC601", "ema")
    assert "averaged" in finding.consequence


def test_one_place_is_chosen(tmp_path: Path) -> None:
    """One ``where`` for all files; an unknown one is an error that lists the places."""
    paths = _run(tmp_path, buffers=False)
    diff = compared(*paths, where=("model",))
    assert [c.sides[1].where for c in diff.comparisons] == ["model"]
    assert diff.findings == ()
    with pytest.raises(UsageError) as caught:
        normcheck.diff(paths, where=("teacher",))
    assert "'model', 'ema'" in caught.value.hint
    with pytest.raises(UsageError, match="3 times for 2 files"):
        normcheck.diff(paths, where=("model", "ema", "ema"))


def test_a_file_with_one_model_against_one_with_two(tmp_path: Path) -> None:
    """The raw model finds its like, not the averaged copy; what is left out is said."""
    _, both = _run(tmp_path, buffers=False)
    single = tmp_path / "single.pt"
    torch.save(trained().state_dict(), single)
    (comparison,) = compared(single, both).comparisons
    assert comparison.sides[1].where == "model"
    assert "'ema', not compared" in comparison.notes[0]
    (back,) = compared(both, single).comparisons
    assert back.sides[0].where == "model"
    assert any("'ema' of" in note for note in back.notes)


def test_places_under_other_names(tmp_path: Path) -> None:
    """Raw goes with raw and average with average, whatever a file calls them."""
    raw, average = trained(), trained(seed=1)
    one, other = tmp_path / "one.pt", tmp_path / "other.pt"
    torch.save({"model": raw.state_dict(), "ema": average.state_dict()}, one)
    torch.save({"model_ema": average.state_dict(), "state_dict": raw.state_dict()}, other)
    diff = compared(one, other)
    places = [(c.sides[0].where, c.sides[1].where) for c in diff.comparisons]
    assert places == [("model", "state_dict"), ("ema", "model_ema")]
    assert all(story(c).startswith("Nothing moved") for c in diff.comparisons)


def _ranks(folder: Path, *, broadcast: bool = False, count: int = 2) -> list[Path]:
    """Models of ranks that average gradients, each with its own half of the data."""
    models = [trained() for _ in range(count)]
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.05) for m in models]
    for step in range(30):
        for rank, model in enumerate(models):
            if broadcast:
                model.load_state_dict({**model.state_dict(), **dict(models[0].named_buffers())})
            model.zero_grad()
            ((images, labels),) = batches(1, seed=1000 * rank + step, size=4)
            nn.functional.cross_entropy(model(images), labels).backward()
        for group in zip(*(m.parameters() for m in models), strict=True):
            mean = torch.stack([p.grad for p in group]).mean(0)
            for parameter in group:
                parameter.grad = mean.clone()
        for optimizer in optimizers:
            optimizer.step()
    return [save(model, folder, f"rank-{r}.pt") for r, model in enumerate(models)]


@pytest.mark.parametrize("said", [True, False])
def test_ranks_with_statistics_of_their_own(tmp_path: Path, *, said: bool) -> None:
    """Equal weights and counts, other statistics: found with ``ranks`` and without."""
    diff = compared(*_ranks(tmp_path), ranks=said)
    (finding,) = diff.findings
    assert (finding.rule, finding.severity) == ("NC603", Severity.WARNING)
    assert len(finding.layers) == 3
    assert "SyncBatchNorm" in finding.fix
    assert "rank" in told(diff)
    assert ("replaced after training" in finding.detail) is not said


def test_ranks_that_share_everything(tmp_path: Path) -> None:
    """Nothing to say, in words too."""
    (first, *_) = _ranks(tmp_path)
    diff = compared(first, first, first, ranks=True)
    assert diff.findings == ()
    assert told(diff) == "3 ranks hold the same weights and the same statistics."


def test_three_ranks_are_one_finding(tmp_path: Path) -> None:
    """Each against the first, and one cause is one finding."""
    diff = compared(*_ranks(tmp_path, count=3), ranks=True)
    (comparison,) = diff.comparisons
    assert [(s.old, s.new) for s in comparison.steps] == [(0, 1), (0, 2)]
    (finding,) = diff.findings
    assert finding.title.startswith("3 ranks")


def test_ranks_of_another_step_are_not_compared(tmp_path: Path) -> None:
    """Ranks compare at equal step; what was not judged is listed with the reason."""
    first, second = _ranks(tmp_path)
    model = Net()
    model.load_state_dict(torch.load(second))
    later = save(train(model, 3), tmp_path, "later.pt")
    diff = compared(first, later, ranks=True)
    assert diff.findings == ()
    (skipped,) = diff.report.skipped
    assert skipped.rule == "NC603"
    assert "3 batches apart" in skipped.reason
    assert "✓" not in render_diff_text(diff, TextStyle())


def test_ranks_with_other_weights(tmp_path: Path) -> None:
    """At one step that is an error: gradients were not averaged."""
    models = [train(trained(), 10, seed=rank) for rank in (1, 2)]
    paths = [save(model, tmp_path, f"rank-{r}.pt") for r, model in enumerate(models)]
    (finding,) = compared(*paths, ranks=True).findings
    assert (finding.rule, finding.severity) == ("NC603", Severity.ERROR)
    assert finding.title == "ranks hold different weights"


def test_broadcast_buffers_leave_a_small_gap(tmp_path: Path) -> None:
    """Less than without, by the factor that one update makes."""
    apart = {}
    for broadcast in (False, True):
        folder = tmp_path / str(broadcast)
        folder.mkdir()
        (comparison,) = compared(*_ranks(folder, broadcast=broadcast)).comparisons
        apart[broadcast] = max(n.mean.distance for n in comparison.total.layers if n.mean)
    assert apart[True] < 0.7 * apart[False]
