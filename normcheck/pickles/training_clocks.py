"""The counts that training loops store beside their models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.pickles.inert import Inert, entries_of
from normcheck.saved.clocks import Clock, Unit
from normcheck.sources.limits import ENTRY_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from normcheck.sources.limits import Budget

_STEPS = (
    "global_step", "global_steps", "num_updates", "global_iteration", "iteration", "iter",
    "iter_num", "n_iter", "num_iter", "iterations", "train_steps", "current_step", "step",
)  # fmt: skip
"""What loops call the steps of the optimizer that they made."""
_EPOCHS = ("epoch", "epochs", "current_epoch")
_WRAPPERS = (
    "meta", "state", "train_state", "training_state", "trainer", "trainer_state", "extra_state",
    "train_iterator", "progress", "info", "metadata",
)  # fmt: skip
"""Dictionaries of the outermost one in which some keep them: mmcv, fairseq, own loops."""
_LISTS = ("lr_schedulers", "schedulers", "optimizer_history")
_SCHEDULE = frozenset({"_step_count", "base_lrs", "_last_lr", "_get_lr_called_within_step"})
"""Beside one of these ``last_epoch`` is that of a ``torch.optim.lr_scheduler``."""
_LOOKED_AT = 256
"""Entries of the outermost dictionary that are looked at for a schedule, and of its lists."""
_DEPTH = 2
_MOST = 10**12


def training_clocks(root: Mapping[object, object], budget: Budget) -> tuple[Clock, ...]:
    """The clocks of a checkpoint, by where they lie in its outermost dictionary.

    Args:
        root: That dictionary.
        budget: What reading the file may still cost.
    """
    found = {clock.name: clock for clock in _clocks(root, "", _DEPTH, budget)}
    if (scheduled := _scheduled(root)) is not None:  # a schedule in a file of its own
        found["last_epoch"] = Clock("last_epoch", scheduled, Unit.AT_LEAST)
    return tuple(found.values())


def _clocks(
    entries: Mapping[object, object], where: str, depth: int, budget: Budget
) -> Iterator[Clock]:
    budget.spend(ENTRY_BYTES)
    for names, unit in ((_STEPS, Unit.STEPS), (_EPOCHS, Unit.EPOCHS)):
        for name in names:
            if (count := _count(entries.get(name))) is not None:
                yield Clock(where + name, count, unit)
                break
    if (completed := _lightning_batches(entries)) is not None:
        yield Clock(f"{where}loops, batches completed", completed, Unit.BATCHES)
    for name, value in _containers(entries):
        inner = entries_of(value)
        if (scheduled := _scheduled(inner)) is not None:
            yield Clock(f"{where}{name}.last_epoch", scheduled, Unit.AT_LEAST)
        elif depth and name in _WRAPPERS:
            yield from _clocks(inner, f"{where}{name}.", depth - 1, budget)
        elif isinstance(value, list) and name in _LISTS:
            for number, item in enumerate(value[:_LOOKED_AT]):
                budget.spend(ENTRY_BYTES)
                place = f"{where}{name}[{number}]."
                if (scheduled := _scheduled(held := entries_of(item))) is not None:
                    yield Clock(f"{place}last_epoch", scheduled, Unit.AT_LEAST)
                elif (made := _count(held.get("num_updates"))) is not None:
                    yield Clock(f"{place}num_updates", made, Unit.STEPS)


def _containers(entries: Mapping[object, object]) -> Iterator[tuple[str, object]]:
    """The first containers of a dictionary, of which a state dict at the top has none."""
    for number, (name, value) in enumerate(entries.items()):
        if number >= _LOOKED_AT:
            return
        held: object = value
        if isinstance(name, str) and isinstance(held, dict | list | Inert):
            yield name, value


def _scheduled(entries: Mapping[object, object]) -> int | None:
    return _count(entries.get("last_epoch")) if _SCHEDULE & entries.keys() else None


def _lightning_batches(entries: Mapping[object, object]) -> int | None:
    """Batches that Lightning's loop trained on in all its epochs."""
    loop = entries_of(entries_of(entries.get("loops")).get("fit_loop"))
    progress = entries_of(loop.get("epoch_loop.batch_progress"))
    return _count(entries_of(progress.get("total")).get("completed"))


def _count(value: object) -> int | None:
    known = isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST
    return value if known and isinstance(value, int) else None
