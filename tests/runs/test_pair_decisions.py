"""Decisions that differ between two checkpoints, and how many by the statistics alone."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import normcheck
from normcheck.config.examination import Examination
from normcheck.live.decided_on_fields import Exchanged
from normcheck.live.run_request import Feeding, Isolation, Loading, Running
from normcheck.report.diff_report import Diff
from normcheck.report.machines.diff_json import render_diff_json
from normcheck.report.people.diff_text import render_diff_text
from normcheck.report.people.text_style import TextStyle
from normcheck.runs.diff import diff

HERE = "tests.runs.test_pair_decisions"
IMAGES = ("3x12x12",)


class Net(nn.Module):
    """A small convolutional classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.bn = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3)
        self.bn2 = nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.conv(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


class Regression(Net):
    """Its output decides nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return 10 + super().forward(x)[:, :1]


class Tokens(nn.Module):
    """Norms that stand behind no convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 16)
        self.norm = nn.BatchNorm1d(16)
        self.last = nn.Linear(16, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.norm(self.first(x))))


def network(kind: type[nn.Module], size: tuple[int, ...], seed: int = 5) -> nn.Module:
    """With statistics of its input, and γ and β that are not the initial ones."""
    torch.manual_seed(seed)
    net = kind()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_()
        for _ in range(60):
            net.train()(0.4 + 2 * torch.randn(32, *size))
    return net.eval()


def pair(folder: Path, old: dict[str, Tensor], new: dict[str, Tensor]) -> tuple[Path, Path]:
    """Two files of state dicts."""
    files = folder / "old.pt", folder / "new.pt"
    for file, state in zip(files, (old, new), strict=True):
        torch.save(state, file)
    return files


def run(
    files: tuple[Path, Path], model: str = "Net", shapes: tuple[str, ...] = IMAGES, **words: object
) -> Diff:
    running = Running(
        loading=Loading(model=f"{HERE}:{model}"),
        feeding=Feeding(shapes=shapes, **words),  # type: ignore[arg-type]
    )
    return diff(files, Examination(running=running))


def decided(result: Diff) -> Exchanged | None:
    outputs = result.comparisons[0].outputs
    assert outputs is not None
    return outputs.exchanged


def lost(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights, with statistics of 0 and 1."""
    values = {"running_mean": 0.0, "running_var": 1.0, "num_batches_tracked": 0.0}
    return {
        name: torch.full_like(tensor, values[own]) if (own := name.rpartition(".")[2]) in values
        else tensor
        for name, tensor in state.items()
    }  # fmt: skip


def test_lost_statistics_are_all_of_the_difference(tmp_path: Path) -> None:
    """The weights are the same: with the other's statistics each decides as the other does."""
    good = network(Net, (3, 12, 12)).state_dict()
    result = run(pair(tmp_path, good, lost(good)))
    found = decided(result)
    assert found is not None
    assert not found.real
    assert found.differ > 0.2
    assert found.old_with_new == found.new_with_old == found.differ
    assert found.old_re_estimated is not None
    assert found.new_re_estimated is not None
    assert found.new_re_estimated > found.old_re_estimated
    text = " ".join(render_diff_text(result, TextStyle(width=90)).split())
    assert "decisions that differ (256 samples of smooth random images (3x12x12))" in text
    assert "old.pt, with the statistics of new.pt" in text
    assert "compare the rows" in text
    (entry,) = json.loads(render_diff_json(result))["comparisons"]
    assert entry["decisions"]["differ"] == found.differ
    assert entry["decisions"]["old_with_new_statistics"] == found.old_with_new
    assert entry["decisions"]["new_re_estimated"] == found.new_re_estimated


def test_weights_that_moved_are_told_from_statistics(tmp_path: Path) -> None:
    """Another head decides otherwise, whatever the statistics."""
    good = network(Net, (3, 12, 12)).state_dict()
    other = good | {"fc.weight": -good["fc.weight"], "fc.bias": -good["fc.bias"]}
    found = decided(run(pair(tmp_path, good, other)))
    assert found is not None
    assert found.differ > 0.9
    assert found.old_with_new == found.new_with_old == 0.0


def test_the_first_norm_of_either_tells_the_images(tmp_path: Path) -> None:
    """In whichever order the files are named, also where those of the other are lost."""
    good = network(Net, (3, 12, 12)).state_dict()
    for old, new in ((good, lost(good)), (lost(good), good)):
        found = decided(run(pair(tmp_path, old, new)))
        assert found is not None
        assert found.fitted_to == "bn"


def test_equal_files_decide_alike(tmp_path: Path) -> None:
    good = network(Net, (3, 12, 12)).state_dict()
    found = decided(run(pair(tmp_path, good, good)))
    assert found is not None
    assert (found.differ, found.old_with_new, found.new_with_old) == (0.0, 0.0, 0.0)
    assert found.old_re_estimated == found.new_re_estimated


def test_on_data_statistics_are_exchanged_on_these(tmp_path: Path) -> None:
    """Any input then, since it is not made up; nothing is re-estimated on it."""
    good = network(Tokens, (12,)).state_dict()
    data = 0.4 + 2 * torch.randn(40, 12, generator=torch.Generator().manual_seed(1))
    result = run(pair(tmp_path, good, lost(good)), "Tokens", (), data=data)
    found = decided(result)
    assert found is not None
    assert found.real
    assert found.samples == 40
    assert found.old_with_new == found.differ == result.comparisons[0].outputs.flips  # type: ignore[union-attr]
    assert found.old_re_estimated is None
    assert "random images" not in render_diff_text(result, TextStyle(width=90))


@pytest.mark.parametrize(
    ("kind", "size", "shapes"),
    [(Tokens, (12,), ("12",)), (Regression, (3, 12, 12), IMAGES)],
)
def test_silent_where_images_or_decisions_are_missing(
    kind: type[nn.Module], size: tuple[int, ...], shapes: tuple[str, ...], tmp_path: Path
) -> None:
    good = network(kind, size).state_dict()
    result = run(pair(tmp_path, good, lost(good)), kind.__name__, shapes)
    assert decided(result) is None
    assert "decisions that differ" not in render_diff_text(result, TextStyle(width=90))
    (entry,) = json.loads(render_diff_json(result))["comparisons"]
    assert entry["decisions"] is None


def test_nothing_runs_unless_asked(tmp_path: Path) -> None:
    good = network(Net, (3, 12, 12)).state_dict()
    result = normcheck.diff(*pair(tmp_path, good, lost(good)))
    assert result.comparisons[0].outputs is None
    assert "decisions that differ" not in str(result)


def test_through_a_process_of_its_own_and_on_a_page(tmp_path: Path) -> None:
    good = network(Net, (3, 12, 12)).state_dict()
    files = pair(tmp_path, good, lost(good))
    running = Running(
        loading=Loading(model=f"{HERE}:Net"),
        feeding=Feeding(shapes=IMAGES),
        isolation=Isolation(120.0),
    )
    result = diff(files, Examination(running=running))
    assert decided(result) == decided(run(files))
    page = result.to_html()
    assert "Decisions that differ" in page
    assert "compare the rows" in page
