"""``normcheck.recalibrate``: exact, and nothing but the statistics changes."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from normcheck import NormcheckError, recalibrate
from tests.conftest import PATIENCE, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.kernels]


class Net(nn.Module):
    """Two norms, dropout, and a counter that every forward moves."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4, momentum=0.3))
        self.second = nn.Sequential(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5, momentum=None))
        self.drop = nn.Dropout(0.5)
        self.plain = nn.GroupNorm(1, 5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        self.calls += 1
        hidden = self.drop(torch.relu(self.first(x)))
        return self.plain(self.second(hidden if scale is None else hidden * scale))


def net() -> Net:
    torch.manual_seed(3)
    return Net()


def data(count: int = 101) -> Tensor:
    torch.manual_seed(4)
    # Sorted: the mean drifts from sample to sample.
    return torch.randn(count, 2, 8, 8) + torch.linspace(-3, 3, count)[:, None, None, None]


@torch.no_grad()
def exact(model: Net, x: Tensor) -> list[Tensor]:
    """The statistics layer by layer, on everything at once."""
    model = copy.deepcopy(model).double().eval()
    found = []
    hidden = x.double()
    for block in (model.first, model.second):
        hidden = block[0](hidden)
        block[1].running_mean, block[1].running_var = (
            hidden.mean((0, 2, 3)), hidden.var((0, 2, 3), correction=0)
        )  # fmt: skip
        found += [block[1].running_mean, block[1].running_var]
        hidden = torch.relu(block[1](hidden))
    return found


def statistics(model: Net) -> list[Tensor]:
    return [
        t.double() for block in (model.first, model.second)
        for t in (block[1].running_mean, block[1].running_var)
    ]  # fmt: skip


@pytest.mark.parametrize("batch", [1, 2, 7, 100, 101])
def test_exact_at_any_batch_size(batch: int) -> None:
    """Sorted data, a last odd batch, batches of one: always the whole population's."""
    model = net()
    result = recalibrate(model, DataLoader(TensorDataset(data()), batch_size=batch))
    assert result.layers == ("first.1", "second.1")
    assert result.samples == 101
    assert result.residual < 1e-3
    for found, wanted in zip(statistics(model), exact(net(), data()), strict=True):
        assert torch.allclose(found, wanted, rtol=3e-5, atol=1e-6)


def everything_else(model: nn.Module) -> dict[str, object]:
    state = {n: t.clone() for n, t in model.state_dict().items() if ".running_" not in n}
    modes = {n: (m.training, getattr(m, "momentum", 0)) for n, m in model.named_modules()}
    return {**state, "modes": modes}


def assert_same(a: dict[str, object], b: dict[str, object]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        same = torch.equal(value, b[name]) if isinstance(value, Tensor) else value == b[name]  # type: ignore[arg-type]
        assert same, name


def test_only_statistics_change() -> None:
    """Modes as they were, module by module; counts, momentum, counters, random numbers too."""
    model = net().train()
    model.second.eval()
    loader = DataLoader(data(), batch_size=10, shuffle=True)
    before, noise = everything_else(model), torch.random.get_rng_state()
    recalibrate(model, loader)
    assert_same(before, everything_else(model))
    assert torch.equal(noise, torch.random.get_rng_state())


def test_all_as_before_where_a_forward_raises() -> None:
    model = net().train()
    before, old = everything_else(model), statistics(model)
    with pytest.raises(NormcheckError, match="fails on part of the data"):
        recalibrate(model, DataLoader([*data(20), torch.zeros(2, 1, 1)], batch_size=1))
    assert_same(before, everything_else(model))
    assert all(torch.equal(a, b) for a, b in zip(old, statistics(model), strict=True))


@pytest.mark.parametrize("form", ["dict", "pair", "generator", "list", "tensor"])
def test_any_structure(form: str) -> None:
    x = data()
    chunks = torch.split(x, 16)
    given: object = {
        "dict": [{"x": c, "scale": torch.ones(len(c), 1, 1, 1)} for c in chunks],
        "pair": [(c, torch.zeros(len(c))) for c in chunks],
        "generator": (c for c in chunks),
        "list": list(chunks),
        "tensor": x,
    }[form]
    model = net()
    recalibrate(model, given)
    for found, wanted in zip(statistics(model), exact(net(), x), strict=True):
        assert torch.allclose(found, wanted, rtol=3e-5, atol=1e-6)


def test_half_precision_that_does_not_fit() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3)).half()
    with pytest.raises(NormcheckError, match="does not fit"):
        recalibrate(model, torch.randn(50, 3) * 3000)
    assert torch.equal(model[0].running_var, torch.ones(3).half())


def test_a_norm_that_does_not_run_stays() -> None:
    model = net()
    model.idle = nn.BatchNorm1d(2)
    result = recalibrate(model, data())
    assert result.not_run == ("idle",)
    assert torch.equal(model.idle.running_var, torch.ones(2))


def test_nothing_to_estimate() -> None:
    with pytest.raises(NormcheckError, match="no norm with running statistics"):
        recalibrate(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)), torch.randn(40, 3))


_RANK = """
import sys, torch
import torch.distributed as dist
from normcheck import recalibrate
from tests.repair.test_recalibrate import data, exact, net, statistics
rank = int(sys.argv[1])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
own = data()[:30] if rank == 0 else data()[30:]
model = net()
result = recalibrate(model, list(torch.split(own, 9)))
assert result.samples == 101, result
for found, wanted in zip(statistics(model), exact(net(), data()), strict=True):
    assert torch.allclose(found, wanted, rtol=3e-5, atol=1e-6)
# A process that ends with its group open may be aborted by threads that the group still has.
dist.barrier()
dist.destroy_process_group()
"""


def test_two_processes_with_parts_of_the_data(tmp_path: Path) -> None:
    """Unequal parts, sorted, each process with other batches: both get the statistics of all."""
    meeting = str(tmp_path / "meeting")
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", _RANK, str(rank), meeting], cwd=ROOT, stderr=subprocess.PIPE
        )
        for rank in range(2)
    ]
    for process in ranks:
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said.decode()
