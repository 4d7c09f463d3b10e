"""Guards within other people's trainers, with the real libraries: the famous bug in each."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import normcheck
from tests.integrations.loops import CLASSES, SIDE, Net, codes, loss_of, said, sgd

pytestmark = pytest.mark.slow

STEPS = 6
"""Of an epoch."""


def loader() -> DataLoader[Any]:
    torch.manual_seed(0)
    size = 8 * STEPS
    x, y = torch.randn(size, 1, SIDE, SIDE), torch.randint(0, CLASSES, (size,))
    return DataLoader(TensorDataset(x, y), batch_size=8)


@pytest.fixture(autouse=True)
def _quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for name, value in (
        ("HF_HUB_OFFLINE", "1"), ("WANDB_MODE", "offline"), ("WANDB_SILENT", "true"),
        ("ACCELERATE_USE_CPU", "true"), ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("DO_NOT_TRACK", "1"), ("MLFLOW_ALLOW_FILE_STORE", "true"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# Lightning.


@pytest.mark.parametrize("sick", [False, True])
def test_lightning(sick: bool, tmp_path: Path) -> None:
    """A pretrained part in eval mode stays so: its trainer keeps the mode of each part."""
    lightning = pytest.importorskip("lightning.pytorch")
    from normcheck.integrations.lightning import GuardCallback

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()
            if sick:
                self.net.eval()  # as from_pretrained returns it

        def training_step(self, batch: Any, _number: int) -> torch.Tensor:
            return loss_of(self.net, batch)

        def validation_step(self, batch: Any, _number: int) -> None:
            self.log("loss", loss_of(self.net, batch))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return sgd(self)

    callback = GuardCallback()
    trainer = lightning.Trainer(
        max_epochs=3, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, callbacks=[callback],
    )  # fmt: skip
    warned = said(lambda: trainer.fit(Module(), loader(), loader()))
    assert callback.guard is not None
    assert codes(callback.guard.report()) == (["NC701"] if sick else [])
    assert callback.saved is not None
    if sick:
        assert "NC701" in str(warned[0].message)
        assert warned[0].filename == __file__
        assert "up to step 3," in callback.guard.report().findings[0].detail
        assert "NC101" in codes(callback.saved)
        assert any("what was saved" in str(entry.message) for entry in warned)
    else:
        assert not [entry for entry in warned if "NC7" in str(entry.message)]
        assert callback.saved.models


def test_lightning_strict_ends_the_fit(tmp_path: Path) -> None:
    """With the error of the guard, and no hook left."""
    lightning = pytest.importorskip("lightning.pytorch")
    from normcheck.integrations.lightning import GuardCallback

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net().eval()

        def training_step(self, batch: Any, _number: int) -> torch.Tensor:
            return loss_of(self.net, batch)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return sgd(self)

    module = Module()
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, default_root_dir=tmp_path,
        callbacks=[GuardCallback(strict=True)],
    )  # fmt: skip
    with pytest.raises(normcheck.GuardError):
        trainer.fit(module, loader())
    assert not any(part._forward_pre_hooks for part in module.modules())


# Hugging Face.


class Labelled(nn.Module):
    """The interface of a model of Transformers."""

    def __init__(self, *, stays: bool = False) -> None:
        super().__init__()
        self.net = Net()
        self.stays = stays

    def train(self, mode: bool = True) -> "Labelled":
        """Of the sick one the part below never leaves eval mode, whatever the trainer says."""
        super().train(mode)
        if self.stays:
            self.net.eval()
        return self

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        scores = self.net(x)
        return {"loss": nn.functional.cross_entropy(scores, labels), "logits": scores}


@pytest.mark.parametrize("sick", [False, True])
def test_transformers(sick: bool, tmp_path: Path) -> None:
    """The trainer itself calls train(); a model that overrides it stays in eval mode."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from normcheck.integrations.transformers import GuardCallback

    data = [{"x": x, "labels": y} for x, y in loader().dataset]
    callback = GuardCallback()
    trainer = transformers.Trainer(
        model=Labelled(stays=sick),
        args=transformers.TrainingArguments(
            str(tmp_path / "out"), num_train_epochs=3, per_device_train_batch_size=8,
            report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="epoch",
            eval_strategy="epoch", logging_strategy="no",
        ),
        train_dataset=data, eval_dataset=data, callbacks=[callback],
    )  # fmt: skip
    warned = said(trainer.train)
    assert callback.guard is not None
    assert codes(callback.guard.report()) == (["NC701"] if sick else [])
    assert callback.saved is not None
    assert callback.saved.models
    if sick:
        assert "NC701" in str(warned[0].message)
        assert "NC101" in codes(callback.saved)
    else:
        assert not [entry for entry in warned if "NC7" in str(entry.message)]


# Accelerate.


@pytest.mark.parametrize("sick", [False, True])
def test_accelerate(sick: bool, tmp_path: Path) -> None:
    """A loop of one's own: eval() for validation, and no train() after it."""
    accelerate = pytest.importorskip("accelerate")
    from normcheck.integrations.accelerate import guarded

    accelerator = accelerate.Accelerator(cpu=True)
    model = Net()
    model, optimizer, data = accelerator.prepare(model, sgd(model), loader())
    guards = []

    def train() -> None:
        with guarded(accelerator, model, optimizer) as guard:
            guards.append(guard)
            for _ in range(3):
                if not sick:
                    model.train()
                for batch in data:
                    optimizer.zero_grad()
                    accelerator.backward(loss_of(model, batch))
                    optimizer.step()
                model.eval()
                with torch.no_grad():
                    for x, _ in data:
                        model(x)
                accelerator.save_state(str(tmp_path / "state"))

    warned = said(train)
    (guard,) = guards
    assert codes(guard.report()) == (["NC701"] if sick else [])
    if sick:
        assert warned[0].filename == __file__
        assert f"up to step {STEPS + 3}" in guard.report().findings[0].detail
    else:
        assert not [entry for entry in warned if "NC7" in str(entry.message)]


# Ignite.


@pytest.mark.parametrize("sick", [False, True])
def test_ignite(sick: bool, tmp_path: Path) -> None:
    """A step of one's own that does not call train(), beside an evaluator."""
    engine = pytest.importorskip("ignite.engine")
    handlers = pytest.importorskip("ignite.handlers")
    from normcheck.integrations.ignite import GuardHandler

    model = Net()
    optimizer = sgd(model)

    def step(_engine: Any, batch: Any) -> None:
        if not sick:
            model.train()
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()

    trainer = engine.Engine(step)
    evaluator = engine.create_supervised_evaluator(model)
    trainer.add_event_handler(engine.Events.EPOCH_COMPLETED, lambda: evaluator.run(loader()))
    saver = handlers.DiskSaver(str(tmp_path / "saved"), create_dir=True)
    saves = handlers.Checkpoint({"model": model}, saver)
    trainer.add_event_handler(engine.Events.EPOCH_COMPLETED, saves)
    handler = GuardHandler(model, optimizer, checkpoint=saves).attach(trainer)
    warned = said(lambda: trainer.run(loader(), max_epochs=3))
    assert handler.guard is not None
    assert codes(handler.guard.report()) == (["NC701"] if sick else [])
    assert handler.saved is not None
    assert handler.saved.models
    if sick:
        assert warned[0].filename == __file__
    else:
        assert not [entry for entry in warned if "NC7" in str(entry.message)]


def test_ignite_strict_ends_the_run() -> None:
    """With the error of the guard."""
    engine = pytest.importorskip("ignite.engine")
    from normcheck.integrations.ignite import GuardHandler

    model = Net().eval()
    optimizer = sgd(model)

    def step(_engine: Any, batch: Any) -> None:
        loss_of(model, batch).backward()
        optimizer.step()

    trainer = engine.Engine(step)
    GuardHandler(model, strict=True).attach(trainer)
    with pytest.raises(normcheck.GuardError):
        trainer.run(loader(), max_epochs=1)
    assert not model._forward_pre_hooks


# Trackers.


def report() -> normcheck.Report:
    model = Net().eval()
    optimizer = sgd(model)
    with warnings.catch_warnings(), normcheck.guard(model, optimizer) as guard:
        warnings.simplefilter("ignore")
        for batch in loader():
            loss_of(model, batch).backward()
            optimizer.step()
    return guard.report()


def test_mlflow(tmp_path: Path) -> None:
    """Metrics and artifacts of a run, in a folder."""
    mlflow = pytest.importorskip("mlflow")
    from normcheck.integrations.mlflow import log_to_mlflow

    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    with mlflow.start_run() as run:
        log_to_mlflow(report(), step=7)
    seen = mlflow.get_run(run.info.run_id)
    assert seen.data.metrics["normcheck/error"] == 1
    assert seen.data.metrics["normcheck/ok"] == 0
    files = {file.name: file for file in (tmp_path / "runs").rglob("normcheck.*")}
    assert {"normcheck.txt", "normcheck.json"} <= set(files)
    assert "NC701" in files["normcheck.txt"].read_text(encoding="utf-8")


def test_wandb(tmp_path: Path) -> None:
    """Offline: the run's file holds the metrics and the artifact."""
    wandb = pytest.importorskip("wandb")
    from normcheck.errors import UsageError
    from normcheck.integrations.wandb import log_to_wandb

    with pytest.raises(UsageError, match="no run"):
        log_to_wandb(report())
    with wandb.init(mode="offline", dir=str(tmp_path), project="p") as run:
        log_to_wandb(report())
        assert run.summary["normcheck/error"] == 1
    # A process of its own writes the file; it may still be at it when the run has ended.
    wandb.teardown()
    (written,) = tmp_path.rglob("*.wandb")
    assert b"normcheck.txt" in written.read_bytes()
