"""What is in train mode after ``eval()``: modules that it does not reach, or that refuse."""

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from normcheck.live.measurement import StillTraining
from normcheck.live.watching.reachable_modules import Reached
from normcheck.live.watching.seen import Seen


def still_training(reached: list[Reached], norm_paths: frozenset[str]) -> list[tuple[Reached, str]]:
    """Modules that are in train mode after ``eval()`` and would behave otherwise for it."""
    found = []
    for entry in reached:
        if not getattr(entry.module, "training", False):  # frozen TorchScript has no such flag
            continue
        if _by_mode(entry.module, entry.path in norm_paths):
            found.append((entry, "norm"))
        elif isinstance(entry.module, _DropoutNd):
            if entry.module.p > 0:
                found.append((entry, "dropout"))
        elif not entry.path:
            found.append((entry, "model"))
    return found


def _by_mode(module: nn.Module, is_norm: bool) -> bool:
    """Whether a norm's result depends on its training flag; a LayerNorm's does not."""
    if isinstance(module, nn.modules.batchnorm._NormBase):  # noqa: SLF001
        batch = isinstance(module, nn.modules.batchnorm._BatchNorm)  # noqa: SLF001
        return batch or module.track_running_stats
    return is_norm and any(name.startswith("running_") for name, _ in module.named_buffers())


def and_ran(
    still: list[tuple[Reached, str]], seen: Seen, norm_paths: frozenset[str]
) -> list[StillTraining]:
    """The same with whether they ran, and those that only running showed."""
    found = [
        StillTraining(
            entry.path,
            type(entry.module).__name__,
            kind,
            entry.registered,
            entry.path in seen.called,
        )
        for entry, kind in still
    ]
    for path, module in seen.strays.values():
        if not module.training:
            continue
        if _by_mode(module, path in norm_paths):
            found.append(StillTraining(path, type(module).__name__, "norm", False, True))
        elif isinstance(module, _DropoutNd) and module.p > 0:
            found.append(StillTraining(path, type(module).__name__, "dropout", False, True))
    return found
