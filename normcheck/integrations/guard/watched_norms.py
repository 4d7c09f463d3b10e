"""The norms of a model that a guard watches, and which of them are frozen on purpose."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import is_lazy

from normcheck.errors import NormcheckError
from normcheck.live.watching.reachable_modules import reachable


class WatchedNorm:
    """A module with a running mean and variance, and what was seen of it."""

    __slots__ = (
        "declared", "eval_steps", "module", "own", "parent", "part", "path", "samples", "small",
        "version",
    )  # fmt: skip

    def __init__(self, path: str, module: nn.Module, parents: Sequence[nn.Module]) -> None:
        """A norm of which nothing was seen yet.

        Args:
            path: Within the model.
            module: The norm.
            parents: The modules around it, the innermost first.
        """
        self.path = path
        self.module = module
        self.parent = parents[0] if parents else None
        self.own = tuple(module.parameters(recurse=False))
        self.part = self.own or next((p for m in parents if (p := tuple(m.parameters()))), ())
        """Its parameters; of a norm without any those of the smallest part around it."""
        self.declared = False
        self.eval_steps = 0
        self.version = -1
        self.small = 0
        self.samples = 0

    @property
    def mean(self) -> Tensor:
        """``running_mean``, as it is now."""
        return self._buffer("running_mean")

    @property
    def variance(self) -> Tensor:
        """``running_var``, as it is now."""
        return self._buffer("running_var")

    def _buffer(self, name: str) -> Tensor:
        buffer = self.module._buffers[name]  # noqa: SLF001  (registered, whatever attributes hide)
        if buffer is None:
            raise NormcheckError(f"{name} of {self.path} is gone")
        return buffer

    @property
    def ready(self) -> bool:
        """Whether it has statistics by now: a lazy norm has none before its first input."""
        return not is_lazy(self.mean)

    @property
    def updates(self) -> int:
        """A number that grows with each update, read without waiting for a device; -1 for none.

        Torch counts how often a tensor was written, and a norm writes its count once a batch.
        """
        count = self.module._buffers.get("num_batches_tracked")  # noqa: SLF001  (the same)
        return -1 if count is None else count._version  # noqa: SLF001  (no public name for it)

    @property
    def momentum(self) -> float | None:
        """Weight of a batch; None for a plain average."""
        momentum = getattr(self.module, "momentum", None)
        return momentum if isinstance(momentum, int | float) else None

    @property
    def updating(self) -> bool:
        """Whether a forward now would update statistics as training does.

        A momentum of None or 1 is how ``update_bn`` and others re-estimate.
        """
        momentum = self.momentum
        return self.module.training and momentum is not None and 0 < momentum < 1

    @property
    def per_batch(self) -> bool:
        """Whether mean and variance are taken over the samples of a batch."""
        return not isinstance(self.module, _InstanceNorm)

    @property
    def frozen(self) -> bool:
        """Whether it is frozen on purpose: declared, or nothing of its part learns."""
        return self.declared or not any(parameter.requires_grad for parameter in self.part)

    @property
    def never_updated(self) -> bool:
        """Whether its statistics are the initial 0 and 1. Waits for a device."""
        return bool((self.mean == 0).all()) and bool((self.variance == 1).all())


def watched_norms(model: nn.Module, frozen: Sequence[str]) -> list[WatchedNorm]:
    """The norms with running statistics, in the order of their registration.

    Args:
        model: The whole.
        frozen: Patterns of paths that are frozen on purpose, ``backbone.*``; a path without
            a wildcard means all below it, too.
    """
    found = []
    entries = reachable(model)
    by_path = {entry.path: entry.module for entry in entries}
    for entry in entries:
        buffers = entry.module._buffers  # noqa: SLF001  (registered, whatever attributes hide)
        if buffers.get("running_mean") is None or buffers.get("running_var") is None:
            continue
        # torchvision's FrozenBatchNorm2d and its like: constants by construction.
        if isinstance(buffers.get("weight"), Tensor):
            continue
        above = entry.path.split(".")[:-1] if entry.path else []
        parents = [
            by_path[path]
            for length in range(len(above), -1, -1)
            if (path := ".".join(above[:length])) in by_path and path != entry.path
        ]
        norm = WatchedNorm(entry.path, entry.module, parents)
        norm.declared = any(means(pattern, entry.path) for pattern in frozen)
        found.append(norm)
    return found


def means(pattern: str, path: str) -> bool:
    """Whether a pattern names a layer, or a part that it lies in."""
    return fnmatch.fnmatchcase(path, pattern) or path.startswith(f"{pattern}.")
