"""What a forward leaves changed in a model."""

import torch
from torch import Tensor

from normcheck.live.watching.reachable_modules import Reached

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def state_of(reached: list[Reached]) -> dict[str, Tensor]:
    """Copies of what a forward in eval mode has no business to change."""
    found = {}
    for entry in reached:
        transient = entry.module._non_persistent_buffers_set  # noqa: SLF001
        named = {**entry.module._parameters, **entry.module._buffers}  # noqa: SLF001
        for name, tensor in named.items():
            small = tensor is not None and not tensor.is_meta
            if small and (name not in transient or name in _STATISTICS):
                path = f"{entry.path}.{name}" if entry.path else name
                found[path] = tensor.detach().clone()  # type: ignore[union-attr]  # not None here
    return found


def changed_each_time(
    before: dict[str, Tensor], between: dict[str, Tensor], after: dict[str, Tensor]
) -> tuple[str, ...]:
    """Tensors that the second forward changed again; what changes once is a cache."""

    def differs(a: Tensor | None, b: Tensor | None) -> bool:
        if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
            return True
        return not torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))

    return tuple(
        name
        for name in before
        if differs(between.get(name), after.get(name))
        or (name.endswith(_STATISTICS) and differs(before[name], between.get(name)))
    )
