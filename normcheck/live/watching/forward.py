"""One forward: no gradients, on the device, under autocast where wanted; errors as words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.batches import Batch
from normcheck.live.watching.fixed_batch import in_batches
from normcheck.live.watching.outputs import ForwardOutput, flattened


def of_export(model: nn.Module, name: str) -> Any:
    """What an export as we load it says of itself; None for any other module.

    Only of classes that say so: an attribute of a file's module must not decide how it is probed.
    """
    ours = hasattr(type(model), "fixed_mode") or isinstance(model, torch.jit.ScriptModule)
    return vars(model).get(name, getattr(type(model), name, None)) if ours else None


class Enough(Exception):  # noqa: N818  (an outcome, not an error)
    """Raised within a forward that has shown what it was run for."""


class Interrupted(Exception):  # noqa: N818  (an outcome, not an error)
    """A forward of the model raised; carries its words."""


@lazy_dataclass(frozen=False)
class Forward:
    """Runs a model on batches."""

    model: nn.Module
    device: torch.device
    autocast: torch.dtype | None = None
    count: int = 0
    """Forwards so far."""
    samples: int = 0

    @property
    def fixed_mode(self) -> bool:
        """Whether it is an export, which computes the same in whatever mode it is put."""
        return of_export(self.model, "fixed_mode") is True or not switchable(self.model)

    @property
    def fixed_batch(self) -> int | None:
        """The only number of samples that an export takes; None where any is taken."""
        size = of_export(self.model, "fixed_batch")
        return size if isinstance(size, int) else None

    @property
    def dtype(self) -> torch.dtype:
        """What floating inputs are converted to: that of the model's parameters."""
        for tensor in self.model.parameters():
            if tensor.is_floating_point() and tensor.dtype.itemsize >= 2:
                return tensor.dtype
        return torch.float32

    def __call__(self, batch: Batch) -> ForwardOutput:
        """The output for one batch, in whatever mode the model is.

        Raises:
            Interrupted: The forward raised.
        """
        # A copy: forwards that change their input in place would feed the next ones with it.
        fed = batch.to(self.device, None if self.autocast else self.dtype)
        self.count += 1
        self.samples += batch.size
        try:
            with torch.no_grad(), self._autocast():
                return self._output(fed)
        except Exception as error:
            # Some models take derivatives of their own output (forces from an energy).
            if "does not require grad" in str(error):
                try:
                    with torch.enable_grad(), self._autocast():
                        return self._output(fed)
                except Exception as second:
                    raise Interrupted(in_words(second)) from second
            raise Interrupted(in_words(error)) from error

    def error(self, batch: Batch) -> str | None:
        """Why the model does not take this batch; None where it does, and gives tensors."""
        try:
            output = self(batch)
        except Interrupted as error:
            return str(error)
        return None if output.tensors else "it returned no tensor"

    def _output(self, batch: Batch) -> ForwardOutput:
        size = self.fixed_batch
        if size is None or size == batch.size:
            return flattened(self.model(*batch.args, **batch.kwargs))
        return in_batches(lambda part: self.model(*part.args, **part.kwargs), size, batch)

    @contextlib.contextmanager
    def _autocast(self) -> Iterator[None]:
        if self.autocast is None:
            yield
            return
        with torch.autocast(self.device.type, dtype=self.autocast):
            yield


def in_words(error: BaseException) -> str:
    """An exception in one short line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def switchable(model: nn.Module) -> bool:
    """Whether it has two modes: what ``torch.export`` and ``torch.jit.freeze`` make has one."""
    if isinstance(model, torch.jit.ScriptModule):
        return hasattr(model, "training")
    # An exported program's module has a train() of its own, which raises.
    return not (isinstance(model, torch.fx.GraphModule) and "train" in vars(model))


@contextlib.contextmanager
def mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """The model in one mode as its user would put it there.

    ``model.train()`` is the user's own where overridden. The modes are put back by the
    ``untouched`` around every probe.
    """
    if switchable(model):
        model.train(training)
    # The fused inference path of transformers hides the modules that it replaces.
    torch.backends.mha.set_fastpath_enabled(False)
    yield


@lazy_dataclass(frozen=False)
class RegimeOutputs:
    """The main outputs of all batches under one regime, and the labels."""

    mains: list[Tensor]
    labels: list[Tensor | None]

    @classmethod
    def of(cls, forwards: Iterator[tuple[Batch, ForwardOutput]]) -> RegimeOutputs:
        """Gather them; batches without a per-sample output are left out."""
        mains, labels = [], []
        for batch, output in forwards:
            main = output.main(batch.size)
            if main is not None:
                mains.append(main.cpu())
                labels.append(None if batch.labels is None else batch.labels.cpu())
        return cls(mains, labels)

    def together(self) -> RegimeOutputs:
        """The same as of one batch; itself where they have several shapes."""
        return self.rows(range(sum(map(len, self.mains)))) or self

    def rows(self, index: range) -> RegimeOutputs | None:
        """Those of some samples, by the order in which they were fed.

        Returns:
            None where outputs have several shapes.
        """
        if len({main.shape[1:] for main in self.mains}) != 1:
            return None
        labels = [label for label in self.labels if label is not None]
        chosen = torch.arange(sum(map(len, self.mains)))[index.start : index.stop : index.step]
        told = torch.cat(labels)[chosen] if len(labels) == len(self.mains) else None
        return RegimeOutputs([torch.cat(self.mains)[chosen]], [told])
