"""The first layer at which two models go apart on the same input."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from normcheck.live.batches import Batch
from normcheck.live.watching.forward import Forward, Interrupted
from normcheck.live.watching.outputs import flattened, relative

_KEPT = 1 << 16
"""Values kept of a layer's output, evenly spread over it."""


def first_layer_apart(ours: Forward, theirs: Forward, batch: Batch, tolerance: float) -> str:
    """The path of the first layer, in the order of the first model, whose outputs differ.

    Of layers that both models have by name; empty where none of these differs, or one of the two
    is an export without modules.

    Args:
        ours: Runs the first model.
        theirs: Runs the second.
        batch: What both are fed.
        tolerance: Relative L2 difference that is none.
    """
    names = _leaves(ours.model).keys() & _leaves(theirs.model).keys()
    try:
        before = _outputs(ours, batch, names)
        after = _outputs(theirs, batch, names)
    except Interrupted:
        return ""
    for path, one in before.items():
        two = after.get(path)
        if two is not None and (one.shape != two.shape or relative(two, one) > tolerance):
            return path
    return ""


def _leaves(model: nn.Module) -> dict[str, nn.Module]:
    if isinstance(model, torch.jit.ScriptModule):
        return {}  # takes no hooks
    return {
        path: module
        for path, module in model.named_modules()
        if path and not any(True for _ in module.children())
    }


def _outputs(forward: Forward, batch: Batch, names: set[str]) -> dict[str, Tensor]:
    """What each layer gave when it was first called, in the order of the calls."""
    found: dict[str, Tensor] = {}
    leaves = {path: m for path, m in _leaves(forward.model).items() if path in names}
    with _hooked(leaves, found):
        forward(batch)
    return found


@contextmanager
def _hooked(leaves: dict[str, nn.Module], found: dict[str, Tensor]) -> Iterator[None]:
    def keep(path: str, output: Any) -> None:
        tensors = flattened(output).tensors.values()
        tensor = next((t for t in tensors if t.is_floating_point() and t.numel()), None)
        if path not in found and tensor is not None:
            flat = tensor.detach().flatten()
            found[path] = flat[:: max(1, flat.numel() // _KEPT)].double().cpu()

    handles = [
        module.register_forward_hook(lambda _m, _i, output, path=path: keep(path, output))
        for path, module in leaves.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
