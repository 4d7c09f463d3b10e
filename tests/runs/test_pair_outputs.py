"""Two checkpoints run on the same data: outputs, decisions, the first layer that differs."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from normcheck import diff
from normcheck.config.examination import Examination
from normcheck.errors import UsageError
from normcheck.live.run_request import Feeding, Isolation, Loading, Running
from normcheck.report.diff_report import Diff
from normcheck.report.machines.diff_json import render_diff_json
from normcheck.report.people.diff_text import render_diff_text
from normcheck.report.people.text_style import TextStyle

HERE = "tests.runs.test_pair_outputs"


class Net(nn.Module):
    """A network of named layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.conv(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


class Port(Net):
    """The same tensors, with an activation that was left out."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


class Elsewhere(nn.Module):
    """A port under other names, of which none is in :class:`Net`."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x)).mean((2, 3)))


class Wide(Net):
    """Returns another number of values."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).repeat(1, 2)


def trained() -> Net:
    torch.manual_seed(5)
    net = Net()
    with torch.no_grad():
        for norm in (net.bn, net.bn2):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_()
        for _ in range(20):
            net.train()(torch.randn(8, 3, 9, 9))
    return net.eval()


def asked(running: Running) -> Examination:
    return Examination(running=running)


def running(model: str, **words: object) -> Running:
    data = torch.randn(24, 3, 9, 9, generator=torch.Generator().manual_seed(3))
    return Running(loading=Loading(model=model), feeding=Feeding(data=data), **words)  # type: ignore[arg-type]


def saved(net: nn.Module, path: Path) -> Path:
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """The same state dict twice."""
    return saved(trained(), tmp_path / "ours.pt"), saved(trained(), tmp_path / "port.pt")


def _text(result: Diff) -> str:
    return " ".join(render_diff_text(result, TextStyle(width=80, color=False)).split())


def test_equal_code_gives_equal_outputs(pair: tuple[Path, Path]) -> None:
    result = diff(pair, examination=asked(running(f"{HERE}:Net")))
    assert not result.findings
    assert not result.report.errors
    outputs = result.comparisons[0].outputs
    assert outputs is not None
    assert (outputs.difference, outputs.flips, outputs.first_apart) == (0.0, 0.0, "")
    assert "✓" in _text(result)
    assert "Outputs agree on 24 samples, to the last bit." in _text(result)


def test_other_code_for_the_same_tensors_is_named_with_its_first_layer(
    pair: tuple[Path, Path],
) -> None:
    result = diff(pair, examination=asked(running(f"{HERE}:Net,{HERE}:Port")))
    (found,) = result.findings
    assert (found.rule, found.severity.value, found.layers) == ("NC609", "error", ("conv2",))
    outputs = result.comparisons[0].outputs
    assert outputs is not None
    assert outputs.difference > 0.01
    assert outputs.flips is not None
    assert "The first layer that differs is conv2." in found.detail
    assert "✓" not in _text(result)


def test_outputs_of_moved_weights_are_told_and_not_accused(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    net = trained()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
        for _ in range(3):
            net.train()(torch.randn(8, 3, 9, 9))
    later = saved(net, tmp_path / "later.pt")
    result = diff([pair[0], later], examination=asked(running(f"{HERE}:Net")))
    outputs = result.comparisons[0].outputs
    assert outputs is not None
    assert outputs.differ
    assert outputs.first_apart == "conv"
    assert "NC609" not in {f.rule for f in result.findings}
    assert "Outputs differ by" in _text(result)
    assert "first in conv" in _text(result)


def test_two_modules_run_without_a_factory(tmp_path: Path) -> None:
    nets = []
    for slope in (0.0, 0.3):
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.LeakyReLU(slope),
                            nn.Linear(8, 3)).eval()  # fmt: skip
        nets.append(tmp_path / f"{slope}.pt")
        torch.save(net, nets[-1])
    data = torch.randn(12, 6, generator=torch.Generator().manual_seed(2))
    result = diff(nets, examination=asked(Running(feeding=Feeding(data=data))))
    outputs = result.comparisons[0].outputs
    assert outputs is not None
    assert outputs.first_apart == "2"
    # The other slope is in the files: what explains the outputs is said once.
    assert [f.rule for f in result.findings] == ["NC606"]


def test_why_there_are_no_outputs_is_said(pair: tuple[Path, Path]) -> None:
    without = diff(
        pair,
        examination=asked(Running(feeding=Feeding(data=torch.randn(4, 3, 9, 9)))),
    )
    assert without.comparisons[0].outputs is None
    assert "a state dict has no code to run" in _text(without)
    other = diff(pair, examination=asked(running(f"{HERE}:Net,{HERE}:Wide")))
    assert "they return nothing of the same shape" in _text(other)


def test_a_model_is_left_as_it_was_and_runs_in_a_process_of_its_own(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    import numpy as np

    np.savez(tmp_path / "data.npz", x=torch.randn(8, 3, 9, 9).numpy())
    before = [path.read_bytes() for path in pair]
    how = Running(
        loading=Loading(model=f"{HERE}:Net,{HERE}:Port"),
        feeding=Feeding(data=str(tmp_path / "data.npz")),
        isolation=Isolation(),
    )
    (comparison,) = diff(pair, examination=asked(how)).comparisons
    assert comparison.outputs is not None
    assert comparison.outputs.first_apart == "conv2"
    assert [path.read_bytes() for path in pair] == before


def test_places_of_models_are_those_that_were_named(tmp_path: Path) -> None:
    net, other = trained(), trained()
    with torch.no_grad():
        other.fc.weight += 0.1 * torch.randn(other.fc.weight.shape)
    path = tmp_path / "run.pt"
    torch.save({"model": net.state_dict(), "ema": other.state_dict()}, path)
    how = running(f"{HERE}:Net")
    same = (
        diff([path, path], where=["model", "model"], examination=asked(how)).comparisons[0].outputs
    )
    apart = (
        diff([path, path], where=["model", "ema"], examination=asked(how)).comparisons[0].outputs
    )
    assert same is not None
    assert apart is not None
    assert (same.difference, apart.first_apart) == (0.0, "fc")
    with pytest.raises(UsageError, match="holds 2 models"):
        diff([path, path], examination=asked(how))


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_a_port_under_other_names_is_run(
    shift: float, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    port = Elsewhere().eval()
    own = port.state_dict()
    given = trained().state_dict()
    for target, value in zip(own.values(), given.values(), strict=True):
        target.copy_(value)
    port.head.bias.data += shift * torch.arange(6)
    path = saved(port, tmp_path / "elsewhere.pt")
    result = diff([pair[0], path], examination=asked(running(f"{HERE}:Net,{HERE}:Elsewhere")))
    assert not result.report.errors
    outputs = result.comparisons[0].outputs
    assert outputs is not None
    assert outputs.differ == (shift > 0)
    text = _text(result)
    if shift:
        assert ("NC605", ("fc",)) in {(f.rule, f.layers) for f in result.findings}
        assert "✓" not in text
    else:
        assert not result.findings
        assert "✓ elsewhere.pt holds 2 norms with the same numbers and 6 weight tensors" in text


def test_models_without_anything_in_common(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """Refused with what to do; with data they are run, though here they take other inputs."""
    other = tmp_path / "other.pt"
    torch.save(nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7)).state_dict(), other)
    (error,) = diff([pair[0], other]).report.errors
    assert "--model OLD,NEW" in (error.hint or "")
    result = diff([pair[0], other], examination=asked(running(f"{HERE}:Net,{HERE}:other_net")))
    (error,) = result.report.errors
    assert error.message.startswith("outputs not compared: ")
    assert not result.findings
    assert "No tensor has a counterpart: numbers were not compared" in _text(result)
    assert "Outputs were not compared" in _text(result)


def other_net() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7))


def test_only_two_files_are_run(pair: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="outputs are compared of two files"):
        diff([*pair, pair[0]], examination=asked(running(f"{HERE}:Net")))
    with pytest.raises(UsageError, match="outputs are compared of two files"):
        diff(pair, ranks=True, examination=asked(running(f"{HERE}:Net")))


def test_json_holds_the_outputs(pair: tuple[Path, Path]) -> None:
    result = diff(pair, examination=asked(running(f"{HERE}:Net,{HERE}:Port")))
    (comparison,) = json.loads(render_diff_json(result))["comparisons"]
    assert comparison["outputs"]["first_apart"] == "conv2"
    assert comparison["outputs"]["samples"] == 24
    assert comparison["not_run"] is None


def test_the_command(pair: tuple[Path, Path], command: Callable[..., object]) -> None:
    done = command("diff", *map(str, pair), "--run", "--input-shape", "3,9,9",
                   "--model", f"{HERE}:Net,{HERE}:Port")  # fmt: skip
    assert done.returncode == 1  # type: ignore[attr-defined]
    assert "NC609 error" in done.stdout  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["empty", "missing", "damaged"])
def test_bad_data_are_an_error(pair: tuple[Path, Path], tmp_path: Path, kind: str) -> None:
    """The comparison that was asked for is not there: the numbers are, and the reason with a hint.

    The same data that are as they should be are no error.
    """
    data = tmp_path / "data.npz"
    images = np.zeros((0 if kind == "empty" else 4, 3, 9, 9), np.float32)
    if kind == "damaged":
        data.write_bytes(b"PK\x03\x04" + bytes(40))
    elif kind != "missing":
        np.savez(data, images=images)
    how = Running(loading=Loading(model=f"{HERE}:Net"), feeding=Feeding(data=str(data)))
    result = diff(pair, examination=asked(how))
    (error,) = result.report.errors
    assert error.message.startswith("outputs not compared: ")
    assert error.hint
    assert "Outputs were not compared" in _text(result)
    np.savez(data, images=images if len(images) else np.ones((4, 3, 9, 9), np.float32))
    assert not diff(pair, examination=asked(how)).report.errors
