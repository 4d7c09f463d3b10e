"""Checkpoints of training loops: the optimizer and the counts that lie beside the model's file."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import normcheck
from normcheck.findings import Finding
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.saved.checkpoint import Checkpoint
from normcheck.saved.clocks import Unit
from normcheck.saved.optimizer_order import order_of_parameters

STEPS = 60


class Block(nn.Module):
    """Children that are registered in another order than that of their names."""

    def __init__(self, made_of: int, makes: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(made_of, makes, 1)
        self.conv = nn.Conv2d(made_of, makes, 3, padding=1)
        self.bn = nn.BatchNorm2d(makes)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)) + self.shortcut(x))


class Net(nn.Module):
    """The head's name comes before that of what it stands behind."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
        self.blocks = nn.ModuleList([Block(8, 8), Block(8, 16)])
        self.classifier = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.classifier(x.mean((2, 3)))


def trained(*, frozen: bool, kind: str = "Adam") -> tuple[Net, torch.optim.Optimizer]:
    """A few steps, in train mode or in eval mode; groups as the Trainer of Hugging Face makes."""
    torch.manual_seed(1)
    net = Net()
    apart = [p for n, p in net.named_parameters() if not n.endswith("bias")]
    biases = [p for n, p in net.named_parameters() if n.endswith("bias")]
    groups = [{"params": apart, "weight_decay": 0.01}, {"params": biases, "weight_decay": 0.0}]
    optimizer: torch.optim.Optimizer = torch.optim.SGD(net.parameters(), 0.02, momentum=0.9)
    if kind == "Adam":
        optimizer = torch.optim.AdamW(groups, 3e-3)
    net.train(not frozen)
    for _ in range(STEPS):
        labels = torch.randint(0, 4, (16,))
        images = torch.randn(16, 3, 8, 8) + labels[:, None, None, None] / 2
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    return net, optimizer


def lost(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights with statistics of 0 and 1."""
    initial = Net().state_dict()
    kinds = ("running_mean", "running_var", "num_batches_tracked")
    return {n: initial[n] if n.endswith(kinds) else t for n, t in state.items()}


def checkpoint(
    folder: Path, state: dict[str, Tensor], optimizer: torch.optim.Optimizer | None
) -> Path:
    """As the Trainer writes it."""
    folder.mkdir()
    save_file({n: t.contiguous() for n, t in state.items()}, folder / "model.safetensors")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": STEPS, "epoch": 2.5}))
    if optimizer is not None:
        torch.save(optimizer.state_dict(), folder / "optimizer.pt")
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
        schedule.last_epoch = STEPS
        torch.save(schedule.state_dict(), folder / "scheduler.pt")
    return folder


def read(path: Path) -> Checkpoint:
    found = read_checkpoint(path)
    found.close()
    return found


def of(rule: str, findings: Iterable[Finding]) -> Finding:
    return next(f for f in findings if f.rule == rule)


def test_counts_of_the_trainer_are_clocks(tmp_path: Path) -> None:
    """Steps, whole epochs, the schedule and the optimizer's own step; the file stays one."""
    net, optimizer = trained(frozen=False)
    folder = checkpoint(tmp_path / "checkpoint-60", net.state_dict(), optimizer)
    found = read(folder / "model.safetensors")
    clocks = {clock.name: (clock.value, clock.unit) for clock in found.pace}
    assert clocks["trainer_state.json global_step"] == (STEPS, Unit.STEPS)
    assert clocks["trainer_state.json epoch"] == (2, Unit.EPOCHS)
    assert clocks["scheduler.pt last_epoch"] == (STEPS, Unit.AT_LEAST)
    assert clocks["the optimizer's step"] == (STEPS, Unit.STEPS)
    assert len(found.sources) == 1
    assert {Path(name).name for name in found.files} == {
        "model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json",
    }  # fmt: skip


@pytest.mark.parametrize("whole", [False, True])
def test_a_folder_reads_as_its_model(whole: bool, tmp_path: Path) -> None:
    """The folder or the file in it: one model, what was read beside it, and nothing failed."""
    net, optimizer = trained(frozen=False)
    folder = checkpoint(tmp_path / "checkpoint-60", net.state_dict(), optimizer)
    report = normcheck.scan(folder if whole else folder / "model.safetensors")
    assert not report.errors
    (model,) = report.models
    text = " ".join(str(report).split())
    assert "state beside it: optimizer.pt, scheduler.pt, trainer_state.json" in text
    assert not [f for f in report.findings if f.rule in ("NC101", "NC103", "NC114")]
    assert len(model.layers) == 3


@pytest.mark.parametrize("kind", ["Adam", "SGD"])
def test_the_optimizer_tells_lost_statistics_from_eval_mode(kind: str, tmp_path: Path) -> None:
    """By the averages of biases before norms, though the file keeps no order of parameters."""
    net, optimizer = trained(frozen=False, kind=kind)
    folder = checkpoint(tmp_path / "lost", lost(net.state_dict()), optimizer)
    found = of("NC101", normcheck.scan(folder).findings)
    assert "lost" in found.detail + found.consequence
    alone = checkpoint(tmp_path / "alone", lost(net.state_dict()), None)
    undecided = of("NC101", normcheck.scan(alone).findings)
    assert found.consequence != undecided.consequence
    net, optimizer = trained(frozen=True, kind=kind)
    folder = checkpoint(tmp_path / "frozen", net.state_dict(), optimizer)
    frozen = of("NC101", normcheck.scan(folder).findings)
    assert frozen.consequence != found.consequence
    assert "eval mode" in frozen.title + frozen.detail + frozen.consequence


def test_the_order_is_that_of_the_shapes(tmp_path: Path) -> None:
    """Not that of the names: the head comes last, the shortcut before the convolution."""
    net, optimizer = trained(frozen=False)
    folder = checkpoint(tmp_path / "order", net.state_dict(), optimizer)
    found = read_checkpoint(folder / "model.safetensors")
    order = order_of_parameters(found.models[0].tensors, found.optimizer_states[0])
    assert order is not None
    assert list(order.names) == [name for name, _ in net.named_parameters()]
    assert [len(group) for group in order.groups] == [9, 9]
    found.close()


def test_an_optimizer_of_another_model_is_left_alone(tmp_path: Path) -> None:
    """It is said, and neither its steps nor its averages count."""
    net, _ = trained(frozen=False)
    other = nn.Linear(7, 5)
    optimizer = torch.optim.Adam(other.parameters())
    other(torch.randn(2, 7)).sum().backward()
    optimizer.step()
    folder = checkpoint(tmp_path / "other", net.state_dict(), optimizer)
    found = read(folder / "model.safetensors")
    assert (found.optimizers, found.optimizer_steps, found.optimizer_states) == (0, None, ())
    assert any("other shapes" in note for note in found.notes)


def test_states_of_accelerate(tmp_path: Path) -> None:
    """``save_state``: of one model, and of several, whose optimizers nobody can tell apart."""
    net, optimizer = trained(frozen=False)
    torch.save(net.state_dict(), tmp_path / "pytorch_model.bin")
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.bin")
    found = read(tmp_path / "pytorch_model.bin")
    assert (found.optimizers, found.optimizer_steps) == (1, STEPS)
    assert len(found.optimizer_states) == 1
    torch.save(net.state_dict(), tmp_path / "pytorch_model_1.bin")
    torch.save(optimizer.state_dict(), tmp_path / "optimizer_1.bin")
    for name in ("pytorch_model.bin", "pytorch_model_1.bin"):
        found = read(tmp_path / name)
        assert found.optimizer_states == ()
        assert found.pace == ()
        assert any("several optimizers" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("optimizer.pt", b"hello"),
        ("optimizer.pt", b""),
        ("scheduler.pt", b"\x80\x02}q\x00."),
        ("trainer_state.json", b"{"),
        ("trainer_state.json", b'{"global_step": 1, "global_step": 2}'),
    ],
)
def test_damaged_files_cost_nothing_but_a_note(name: str, content: bytes, tmp_path: Path) -> None:
    """The model is what was asked about."""
    net, _ = trained(frozen=False)
    folder = checkpoint(tmp_path / "damaged", net.state_dict(), None)
    (folder / name).write_bytes(content)
    report = normcheck.scan(folder / "model.safetensors")
    assert not report.errors
    (model,) = report.models
    assert name == "scheduler.pt" or any(f"{name} beside it" in note for note in model.notes)


@pytest.mark.parametrize(
    "state", [{"global_step": True}, {"global_step": -1}, {"epoch": "x"}, {"epoch": 1e300}, []]
)
def test_odd_counts_are_none(state: object, tmp_path: Path) -> None:
    net, _ = trained(frozen=False)
    folder = checkpoint(tmp_path / "odd", net.state_dict(), None)
    (folder / "trainer_state.json").write_text(json.dumps(state))
    assert read(folder / "model.safetensors").clocks == ()


@pytest.mark.parametrize("held", [[1, 2], {"state": [1]}, {}, {"lr": 0.1}])
def test_a_file_that_is_called_an_optimizer_and_holds_none(held: object, tmp_path: Path) -> None:
    """It is said, and nothing is said to have been read with the model."""
    save_file(trained(frozen=False)[0].state_dict(), tmp_path / "model.safetensors")
    torch.save(held, tmp_path / "optimizer.pt")
    checkpoint = read_checkpoint(tmp_path / "model.safetensors")
    assert checkpoint.notes == ("optimizer.pt beside it holds no optimizer's state",)
    assert (checkpoint.optimizers, checkpoint.companions) == (0, ())


def test_other_names_take_nothing_from_beside(tmp_path: Path) -> None:
    """A file that merely lies in the folder is not the one that was trained."""
    net, optimizer = trained(frozen=False)
    folder = checkpoint(tmp_path / "else", net.state_dict(), optimizer)
    (folder / "model.safetensors").rename(folder / "best.safetensors")
    found = read(folder / "best.safetensors")
    assert found.clocks == ()
    assert found.optimizers == 0


def test_a_checkpoint_is_repaired_as_one_file(tmp_path: Path) -> None:
    """What lies beside it is no shard of it, and stays as it is."""
    net, optimizer = trained(frozen=False)
    folder = checkpoint(tmp_path / "few", net.state_dict(), optimizer)
    state = net.state_dict()
    for name in list(state):
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(30)
        elif name.endswith("running_var"):
            state[name] = state[name] + 0.1
    save_file({n: t.contiguous() for n, t in state.items()}, folder / "model.safetensors")
    before = (folder / "optimizer.pt").read_bytes()
    output = tmp_path / "fixed.safetensors"
    result = normcheck.fix(folder / "model.safetensors", output, unwarm=True, momentum=0.1)
    assert result.written is not None
    assert (folder / "optimizer.pt").read_bytes() == before
