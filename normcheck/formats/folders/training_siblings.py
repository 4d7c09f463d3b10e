"""What training loops keep beside the model's own file: an optimizer's state, and counts.

The Trainer of Hugging Face writes ``checkpoint-500/`` with ``model.safetensors`` (or
``pytorch_model.bin``, or an index of shards), ``optimizer.pt``, ``scheduler.pt`` and
``trainer_state.json``; ``Accelerator.save_state`` writes ``optimizer.bin`` and ``scheduler.bin``,
and numbers the second and further ones of each (``model_1.safetensors``, ``optimizer_1.bin``).
Which optimizer of several trains which model no file says: then only that is told.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import isfinite
from pathlib import Path

from normcheck.errors import NoModelError, NormcheckError
from normcheck.formats.bounded_json import read_json
from normcheck.pickles.locate_models import Found
from normcheck.saved.checkpoint import Checkpoint
from normcheck.saved.clocks import Clock, Unit, merged
from normcheck.saved.tensor_columns import shapes_of
from normcheck.sources.limits import Budget, Limits
from normcheck.sources.opening import open_source
from normcheck.sources.place import Place, RemotePath
from normcheck.sources.source import Source
from normcheck.wording import fold

_MODEL = re.compile(r"(pytorch_model|model)(_\d+)?\.(safetensors|bin)(\.index\.json)?")
_OPTIMIZERS = ("optimizer.pt", "optimizer.bin")
_SECOND = "optimizer_1.bin"
_SCHEDULERS = ("scheduler.pt", "scheduler.bin")
_STATE = "trainer_state.json"
_MOST = 10**12

ReadSource = Callable[[Source, Limits], Checkpoint]
"""Reads a file that is open."""


def is_trained_model(path: Place) -> bool:
    """Whether a file is called as these loops call a model; files at an address are not."""
    return not isinstance(path, RemotePath) and _MODEL.fullmatch(path.name) is not None


def with_training_state(
    path: Place, checkpoint: Checkpoint, limits: Limits, read: ReadSource
) -> Checkpoint:
    """The same with what the files beside it tell of the training.

    A file that cannot be read is named in a note: the model is what was asked about.

    Args:
        path: Of the model, whose name :func:`is_trained_model` knows.
        checkpoint: What was read of it, open.
        limits: For the files beside it.
        read: Reads one of them, once it is open.
    """
    if isinstance(path, RemotePath) or checkpoint.optimizers or len(checkpoint.models) != 1:
        return checkpoint
    folder, notes = path.parent, list[str]()
    sources, clocks = list[Source](), list(checkpoint.clocks)
    found = Found()
    for name in (*_OPTIMIZERS, *_SCHEDULERS):
        if not (folder / name).is_file():
            continue
        held, source, why = _held(folder / name, limits, read)
        if held is None or source is None:
            notes.append(f"{name} beside it was not read: {why}")
            continue
        if name in _OPTIMIZERS and not held.optimizers:
            notes.append(f"{name} beside it holds no optimizer's state")
            source.close()
            continue
        sources.append(source)
        found.add(held, "")
        clocks += [replace(clock, name=f"{name} {clock.name}") for clock in held.clocks]
    if not _fits(found, checkpoint):
        notes.append(
            "the optimizer beside it averaged parameters of other shapes than this model has: it "
            "is left alone"
        )
        found = Found()
    several = found.optimizers > 1 or (folder / _SECOND).is_file()
    if several:
        notes.append(
            "several optimizers beside it: which of them trained this model is not known, and "
            "none is used"
        )
    counted, source, why = _trainer_state(folder, limits)
    clocks += counted
    if source is not None:
        sources.append(source)
    if why:
        notes.append(f"{_STATE} beside it was not read: {why}")
    if sources:
        beside = fold([Path(held.name).name for held in sources])
        notes.insert(0, f"read with the training's state beside it: {beside}")
    elif not notes:
        return checkpoint
    return replace(
        checkpoint,
        clocks=merged(clocks),
        optimizers=2 if several else found.optimizers,
        optimizer_steps=found.optimizer_steps,
        optimizer_states=() if several else tuple(found.optimizer_states),
        notes=(*checkpoint.notes, *notes),
        # They belong to what was read: a cache looks at them, too.
        companions=tuple(sources),
    )


def _fits(found: Found, checkpoint: Checkpoint) -> bool:
    """Whether every shape of which an average is kept is one of the model's, as often as there."""
    kept = Counter(tuple(m.shape) for s in found.optimizer_states for m in s.moments.values())
    there = Counter(map(tuple, shapes_of(checkpoint.models[0].tensors)))
    return found.optimizers > 1 or not kept - there


def _held(path: Place, limits: Limits, read: ReadSource) -> tuple[Found | None, Source | None, str]:
    """What is in a file that holds no model, and the file, open; or why it was not read."""
    try:
        source = open_source(path)
    except NormcheckError as error:
        return None, None, error.message
    try:
        read(source, limits)
    except NoModelError as error:
        if isinstance(error.found, Found):
            return error.found, source, ""
        why = error.message
    except (NormcheckError, RecursionError) as error:
        why = error.message if isinstance(error, NormcheckError) else "nested too deep"
    else:
        why = "it holds a model"
    source.close()
    return None, None, why


def _trainer_state(folder: Place, limits: Limits) -> tuple[list[Clock], Source | None, str]:
    """What the Trainer counted, the file, open, and why it was not read."""
    path = folder / _STATE
    if isinstance(path, RemotePath) or not path.is_file():
        return [], None, ""
    source = open_source(path)
    try:
        held = read_json(source, 0, source.size, Budget(limits), "the state of the Trainer")
    except NormcheckError as error:
        source.close()
        return [], None, error.message
    entries = held if isinstance(held, dict) else {}
    steps, epoch, clocks = entries.get("global_step"), entries.get("epoch"), list[Clock]()
    if isinstance(steps, int) and not isinstance(steps, bool) and 0 < steps < _MOST:
        clocks.append(Clock(f"{_STATE} global_step", steps, Unit.STEPS))
    if isinstance(epoch, int | float) and isfinite(epoch) and 1 <= epoch < _MOST:
        clocks.append(Clock(f"{_STATE} epoch", int(epoch), Unit.EPOCHS))
    return clocks, source, ""
