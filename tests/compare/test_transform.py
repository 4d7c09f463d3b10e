"""One exact operation is told from training, whatever it is and whatever type it is stored in."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from normcheck import diff
from normcheck.compare.movement_story import story
from normcheck.compare.transform import transformation
from normcheck.findings import Finding, Severity
from normcheck.report.diff_report import Diff
from normcheck.saved.dtypes import BY_NAME

FLOAT = BY_NAME["float32"]
OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "moved by exactly +2": lambda x: x + 2,
    "moved by exactly -0.25": lambda x: x - 0.25,
    "multiplied by exactly 3": lambda x: x * 3,
    "negated": lambda x: -x,
    "squared": lambda x: x * x,
    "replaced by the square root": torch.sqrt,
    "replaced by the reciprocal": lambda x: 1 / x,
    "replaced by 1 over the square root": torch.rsqrt,
    "put into another order": lambda x: x.flip(0),
    "multiplied by 0.9 and moved by +0.1": lambda x: x * 0.9 + 0.1,
    "rounded to float16": lambda x: x.half().float(),
    "rounded to bfloat16": lambda x: x.bfloat16().float(),
}


def _values(count: int = 64, seed: int = 0) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed)) * 2 + 0.1


def _told(a: Tensor, b: Tensor) -> str:
    found = transformation(
        a.flatten().double().numpy(), b.flatten().double().numpy(), (FLOAT, FLOAT),
        (tuple(a.shape), tuple(b.shape)),
    )  # fmt: skip
    return found.text if found is not None else ""


@pytest.mark.parametrize("count", [8, 64, 5_000])
@pytest.mark.parametrize("text", OPERATIONS)
def test_each_operation_is_named(text: str, count: int) -> None:
    x = _values(count)
    assert _told(x, OPERATIONS[text](x)) == text


@pytest.mark.parametrize("count", [8, 64, 5_000])
@pytest.mark.parametrize("size", [1e-6, 1e-3, 0.1])
def test_training_is_none(size: float, count: int) -> None:
    x = _values(count)
    assert _told(x, x + size * torch.randn(count, generator=torch.Generator().manual_seed(1))) == ""
    assert _told(x, x) == ""


@pytest.mark.parametrize("text", OPERATIONS)
def test_one_value_that_does_not_follow_is_enough(text: str) -> None:
    x = _values(5_000)
    y = OPERATIONS[text](x).clone()
    y[-1] += 0.37
    assert _told(x, y) == ""


def test_a_matrix_may_be_turned() -> None:
    x = _values(48).view(6, 8)
    assert _told(x, x.T.contiguous()) == "transposed"
    assert _told(x.view(8, 6), x.T.contiguous()) == "put into another order"


def test_noise_of_a_coarse_type_is_none() -> None:
    half = BY_NAME["bfloat16"]
    x = _values(256).bfloat16()
    y = (
        x.float() + 0.004 * torch.randn(256, generator=torch.Generator().manual_seed(1))
    ).bfloat16()
    found = transformation(x.double().numpy(), y.double().numpy(), (half, half))
    assert found is None


def test_constants_are_no_evidence() -> None:
    """All ones, and then all twos: any of a dozen operations."""
    ones = np.ones(64)
    assert transformation(ones, 2 * ones, (FLOAT, FLOAT)) is None


def _saved(path: Path, change: Callable[[str, Tensor], Tensor]) -> Path:
    state: dict[str, Tensor] = {}
    for index in range(4):
        state[f"layers.{index}.norm.weight"] = _values(32, index)
        state[f"layers.{index}.fc.weight"] = torch.randn(
            16, 32, generator=torch.Generator().manual_seed(index)
        )
    for index in range(2):
        state[f"head.{index}.bn.weight"] = _values(16, 10 + index)
        state[f"head.{index}.bn.bias"] = _values(16, 20 + index)
        state[f"head.{index}.bn.running_mean"] = _values(16, 30 + index)
        state[f"head.{index}.bn.running_var"] = _values(16, 40 + index)
    torch.save({name: change(name, tensor) for name, tensor in state.items()}, path)
    return path


def _found(folder: Path, change: Callable[[str, Tensor], Tensor]) -> dict[str, Finding]:
    old = _saved(folder / "old.pt", lambda _name, tensor: tensor)
    result = diff([old, _saved(folder / "new.pt", change)])
    assert not result.report.errors
    return {f.discriminator: f for f in result.findings if f.rule == "NC608"}


def test_the_same_shift_everywhere_is_a_convention(tmp_path: Path) -> None:
    found = _found(tmp_path, lambda n, t: t + 1 if n.endswith("norm.weight") else t)
    assert found["weight"].severity is Severity.INFO
    assert found["weight"].title == "γ: moved by exactly +1 in 4 norms"


def test_a_shift_in_some_is_a_warning(tmp_path: Path) -> None:
    some = ("layers.1.norm.weight", "layers.2.norm.weight")
    found = _found(tmp_path, lambda n, t: t + 1 if n in some else t)
    assert found["weight"].severity is Severity.WARNING
    assert found["weight"].layers == ("layers.1.norm", "layers.2.norm")
    assert "not in 2 others" in found["weight"].title


def test_standard_deviations_in_place_of_variances(tmp_path: Path) -> None:
    found = _found(tmp_path, lambda n, t: t.sqrt() if n.endswith("running_var") else t)
    assert found["running_var"].severity is Severity.WARNING
    assert "square root" in found["running_var"].title


def test_weights_are_looked_at_too(tmp_path: Path) -> None:
    found = _found(tmp_path, lambda n, t: t * 2 if n.endswith("fc.weight") else t)
    (finding,) = found.values()
    assert finding.severity is Severity.WARNING
    assert "4 weight tensors were multiplied by exactly 2" in finding.title
    decayed = _found(tmp_path, lambda n, t: t * 0.99 if n.endswith("fc.weight") else t)
    assert [f.severity for f in decayed.values()] == [Severity.INFO]


def test_training_says_nothing(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(5)
    assert not _found(tmp_path, lambda _n, t: t + 0.01 * torch.randn(t.shape, generator=generator))


CONVERSIONS: dict[str, Callable[[str, Tensor], Tensor]] = {
    "variances": lambda n, t: t.sqrt() if n.endswith("running_var") else t,
    "means": lambda n, t: -t if n.endswith("running_mean") else t,
    "one mean through half": lambda n, t: t.half().float() if n == "1.running_mean" else t,
    "gains": lambda n, t: t + 2 if n in ("1.weight", "4.weight") else t,
    "weights": lambda n, t: t * 2 if n.endswith("weight") and t.ndim > 1 else t,
    "all through half": lambda _n, t: t.half().float() if t.is_floating_point() else t,
    "order": lambda n, t: t.flip(0) if "running" in n else t,
}


def _settled_net() -> dict[str, Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8),
    )  # fmt: skip
    with torch.no_grad():
        for index in (1, 4):
            net[index].weight.uniform_(0.5, 1.5)
            net[index].bias.normal_()
        for _ in range(20):
            net(torch.randn(8, 3, 12, 12) * 2 + 1)
    return dict(net.state_dict())


def _pair(change: Callable[[str, Tensor], Tensor], folder: Path) -> Diff:
    state = _settled_net()
    torch.save(state, folder / "old.pt")
    torch.save({n: change(n, t) for n, t in state.items()}, folder / "new.pt")
    return diff([folder / "old.pt", folder / "new.pt"])


@pytest.mark.parametrize("name", CONVERSIONS)
def test_a_conversion_is_told_once_and_no_training_is_told(name: str, tmp_path: Path) -> None:
    """Not ranks, not a forgotten eval(), not a training in eval mode as well."""
    result = _pair(CONVERSIONS[name], tmp_path)
    assert {f.rule for f in result.findings} == {"NC608"}
    assert story(result.comparisons[0]).startswith("Converted, not trained")


def test_another_order_of_the_channels_that_the_weights_do_not_follow(tmp_path: Path) -> None:
    alone = _pair(CONVERSIONS["order"], tmp_path)
    assert {f.severity for f in alone.findings} == {Severity.WARNING}
    # The first convolution and its norm, and what the next convolution takes.
    whole = _pair(
        lambda n, t: t.flip(1) if n == "3.weight"
        else t.flip(0) if n.startswith(("0.", "1.")) and t.ndim else t,
        tmp_path,
    )  # fmt: skip
    assert {f.severity for f in whole.findings if f.layers == ("1",)} == {Severity.INFO}


def test_what_moved_beside_a_conversion_is_judged_as_ever(tmp_path: Path) -> None:
    noise = torch.Generator().manual_seed(1)
    result = _pair(
        lambda n, t: t.sqrt() if n.endswith("running_var")
        else t + 0.01 * torch.randn(t.shape, generator=noise) if n.endswith("running_mean") else t,
        tmp_path,
    )  # fmt: skip
    assert {f.rule for f in result.findings} == {"NC603", "NC608"}
