"""Modules whose parameters are cut over processes (FSDP2), put back as they were.

``fully_shard`` gathers parameters before a forward and may leave them gathered behind it; its
first forward also decides which module is the root, after which no other can be. Both are
undone, so that the model can go on as if nobody had run it.
"""

import sys
from collections.abc import Iterator
from typing import Any

from torch import nn

from normcheck.live.watching.torch_state import Undo, container


def sharding_undone(module: nn.Module) -> Undo | None:
    """What brings the sharding of one module back; None where it has none."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    known = getattr(fsdp, "FSDPModule", None)
    if known is None or not isinstance(module, known):
        return None
    states: list[Undo] = []
    groups = []
    try:
        state: Any = module._get_fsdp_state()  # noqa: SLF001
        groups = list(state._fsdp_param_groups)  # noqa: SLF001
        sharded = all(group.is_sharded for group in groups)
        states = [container(part) for part in _parts(state, groups)]
    except (AttributeError, AssertionError):
        # Another version of torch: its public methods have to do.
        sharded = any(hasattr(p, "placements") for p in module.parameters(recurse=False))

    def undo() -> None:
        for group in groups:
            # A forward that raised half-way leaves "in forward" behind, and then nothing moves.
            group._training_state = type(group._training_state).IDLE  # noqa: SLF001
        module.reshard() if sharded else module.unshard()
        for step in states:
            step()

    return undo


def _parts(state: Any, groups: list[Any]) -> Iterator[Any]:
    """The dictionaries and lists in which the state of sharding lies."""
    context = state._state_ctx  # noqa: SLF001
    yield vars(state)
    yield vars(context)
    yield context.all_states
    yield from (vars(group) for group in groups)
