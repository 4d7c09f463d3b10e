"""What can be told on any input: determinism, companions, side effects, crashes, modes."""

from dataclasses import field

import torch
from torch import Tensor, nn

from normcheck.errors import NormcheckError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.batches import Batch, Feed
from normcheck.live.measurement import Blame, Draw, Mechanics, NormRun
from normcheck.live.probes.first_divergence import first_difference, first_not_finite
from normcheck.live.probes.norm_axes import wrong_axes
from normcheck.live.probes.still_training import and_ran, still_training
from normcheck.live.watching.changed_state import changed_each_time, state_of
from normcheck.live.watching.forward import Forward, Interrupted, mode, of_export
from normcheck.live.watching.observe import watching
from normcheck.live.watching.outputs import (
    ForwardOutput,
    difference,
    relative,
    same,
    same_structure,
)
from normcheck.live.watching.reachable_modules import Reached
from normcheck.live.watching.seen import CallSite, Seen
from normcheck.live.watching.untouched import untouched

SAMPLES = 5
"""Samples in a probe's batch. An odd number that is seldom any other dimension of a tensor, so
that the dimension of the batch can be told."""
_TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Relative differences that rounding makes between kernels for the same sums."""


@lazy_dataclass(frozen=False)
class _Probe:
    """The parts of one run of the mechanics."""

    forward: Forward
    reached: list[Reached]
    norm_paths: frozenset[str]
    batch: Batch
    others: Batch
    notes: list[str] = field(default_factory=list)
    per_sample: set[CallSite] = field(default_factory=set)

    @property
    def model(self) -> nn.Module:
        return self.forward.model

    def watched(self, batch: Batch, *, without_dropout: bool = False) -> tuple[ForwardOutput, Seen]:
        """A forward, and what ran in it."""
        with watching(self.model, batch.size, self.reached) as watch:
            watch.without_dropout = without_dropout
            watch.per_sample |= self.per_sample
            output = self.forward(batch)
        self.per_sample |= watch.per_sample
        return output, watch.seen


def mechanics(
    forward: Forward, reached: list[Reached], feed: Feed, norm_paths: frozenset[str]
) -> tuple[Mechanics, set[CallSite]]:
    """Probe the model on a handful of samples.

    Args:
        forward: Runs the model.
        reached: Its modules, hidden ones included.
        feed: What to feed; a few samples of it are used.
        norm_paths: Of the modules that are normalization layers.

    Returns:
        What was seen, and the places where a batch norm operator normalises each sample apart.

    Raises:
        Interrupted: The model does not even run in eval mode.
    """
    batch, others = _two_batches(feed, forward.fixed_batch)
    probe = _Probe(forward, reached, norm_paths, batch, others)
    tolerance = _TOLERANCES.get(forward.autocast or forward.dtype, 1e-2)
    with mode(probe.model, training=False):
        return _in_eval_mode(probe, tolerance), probe.per_sample


def _two_batches(feed: Feed, fixed: int | None) -> tuple[Batch, Batch]:
    """A batch, and one of the same first sample among other companions."""
    whole = feed.pooled() or max(feed.batches, key=lambda batch: batch.size)
    count = whole.size
    size = fixed or min(SAMPLES, max(count, 2))
    first = [i % count for i in range(size)]
    # The other end of the data: sorted by class, those differ most from the first.
    second = [0, *(count - 1 - i % max(1, count - 1) for i in range(size - 1))]
    return whole.rows(first), whole.rows(second)


def _in_eval_mode(probe: _Probe, tolerance: float) -> Mechanics:
    fixed = probe.forward.fixed_mode  # flags of what has one mode say nothing
    still = [] if fixed else still_training(probe.reached, probe.norm_paths)
    before = state_of(probe.reached)
    output, seen = probe.watched(probe.batch)
    between = state_of(probe.reached)
    again, _ = probe.watched(probe.batch)
    after = state_of(probe.reached)
    repeat = 0.0 if same(output, again) else max(difference(again, output), 1e-12)
    repeat_blame = None
    if repeat > 0:
        repeat_blame = _blame(probe, probe.batch, row=False)
    companions = alone = deployed = None
    companions_blame = None
    if repeat > 0:
        deployed = _deployed(probe)
    if repeat <= tolerance:
        companions = _companions(probe, output)
        if companions is not None and companions > tolerance:
            companions_blame = _blame(probe, probe.others, row=True)
        alone = _alone(probe, output)
    share, not_finite_blame = _not_finite(probe, output)
    train, train_seen = _train(probe)
    modes = _modes(probe, output)
    called = seen.called.keys() | train_seen.called.keys()
    return Mechanics(
        norms=_norm_runs(seen, probe.norm_paths),
        train_norms=_norm_runs(train_seen, probe.norm_paths),
        train_draws=bool(train_seen.random),
        draws=_draws(seen),
        still_training=tuple(and_ran(still, seen, probe.norm_paths)),
        repeat_difference=repeat,
        repeat_blame=repeat_blame,
        companions_difference=companions,
        companions_blame=companions_blame,
        alone_difference=alone,
        tolerance=tolerance,
        changed_state=changed_each_time(before, between, after),
        single_error=_single(probe) if not train else "",
        mode_difference=modes.difference,
        mode_absolute=modes.absolute,
        modes_allclose=modes.allclose,
        mode_draws=modes.draws,
        unused=tuple(sorted(probe.norm_paths - called)) if called else (),
        not_finite=share,
        not_finite_blame=not_finite_blame,
        wrong_axes=wrong_axes(probe.forward, probe.reached, probe.batch, probe.norm_paths),
        notes=tuple(probe.notes),
        deployed_difference=deployed,
    )


def _deployed(probe: _Probe) -> float | None:
    """How far two forwards of an ONNX file lie apart as it is deployed; None for all else."""
    make = of_export(probe.model, "as_deployed")
    if make is None:
        return None
    try:
        forward = Forward(make(probe.model), probe.forward.device)
        first, second = forward(probe.batch), forward(probe.batch)
    except (NormcheckError, Interrupted) as error:
        probe.notes.append(f"not run at default optimisations: {error}")
        return None
    return 0.0 if same(first, second) else max(difference(second, first), 1e-12)


def _blame(probe: _Probe, second: Batch, *, row: bool) -> Blame | None:
    try:
        return first_difference(probe.forward, probe.reached, probe.batch, second, row=row)
    except Interrupted as error:
        probe.notes.append(f"the first difference could not be found: {error}")
        return None


def _companions(probe: _Probe, output: ForwardOutput) -> float | None:
    """How much the first sample's output depends on which others are in the batch."""
    try:
        other = probe.forward(probe.others)
    except Interrupted as error:
        probe.notes.append(f"other samples of the data fail: {error}")
        return None
    return _first_sample(output, other, probe.batch.size, probe.others.size)


def _alone(probe: _Probe, output: ForwardOutput) -> float | None:
    """The same against the sample alone, less what another batch size does by itself."""
    try:
        single = probe.forward(probe.batch.rows([0]))
        copies = probe.forward(probe.batch.rows([0] * probe.batch.size))
    except Interrupted as error:
        probe.notes.append(f"a single sample fails in eval mode: {error}")
        return None
    found = _first_sample(output, single, probe.batch.size, 1)
    rounding = _first_sample(copies, single, probe.batch.size, 1)
    if found is None or rounding is None:
        return None
    return max(0.0, found - 10 * rounding)


def _first_sample(
    first: ForwardOutput, second: ForwardOutput, size: int, other_size: int
) -> float | None:
    worst: float | None = None
    for name, tensor in first.tensors.items():
        other = second.tensors.get(name)
        if other is None or not tensor.is_floating_point():
            continue
        one, two = _sample(tensor, size), _sample(other, other_size)
        if one is not None and two is not None and one.shape == two.shape:
            worst = max(worst or 0.0, relative(one, two))
    return worst


def _sample(tensor: Tensor, size: int) -> Tensor | None:
    """The first sample of an output; batches may lie in the second dimension."""
    for dimension in (0, 1):
        if tensor.ndim > dimension and tensor.shape[dimension] == size:
            return tensor.select(dimension, 0)
    return None


def _not_finite(probe: _Probe, output: ForwardOutput) -> tuple[float, Blame | None]:
    values = lost = 0
    for tensor in output.tensors.values():
        if tensor.is_floating_point():
            values += tensor.numel()
            lost += int((~tensor.isfinite()).sum())
    if not lost:
        return 0.0, None
    return lost / values, first_not_finite(probe.forward, probe.reached, probe.batch)


def _train(probe: _Probe) -> tuple[str, Seen]:
    if probe.forward.fixed_mode:
        return "", Seen()
    with untouched(probe.model), mode(probe.model, training=True):
        try:
            _, seen = probe.watched(probe.batch)
        except Interrupted as error:
            return str(error), Seen()
    return "", seen


def _single(probe: _Probe) -> str:
    """Why train mode fails on a batch of one, where it does not fail on several."""
    if probe.forward.fixed_mode:
        return ""
    with untouched(probe.model), mode(probe.model, training=True):
        return probe.forward.error(probe.batch.rows([0])) or ""


@lazy_dataclass()
class _Modes:
    difference: float | None = None
    absolute: float | None = None
    allclose: bool | None = None
    draws: tuple[Draw, ...] = ()


def _modes(probe: _Probe, output: ForwardOutput) -> _Modes:
    """Train mode with dropout off against eval mode, on the same batch."""
    if probe.forward.fixed_mode:
        return _Modes()
    with untouched(probe.model), mode(probe.model, training=True):
        try:
            trained, seen = probe.watched(probe.batch, without_dropout=True)
        except Interrupted:
            return _Modes()
    if not same_structure(output, trained):
        return _Modes()
    pairs = [
        (t, trained.tensors[name])
        for name, t in output.tensors.items()
        if t.is_floating_point() and t.numel()
    ]
    if not pairs:
        return _Modes()
    return _Modes(
        difference(trained, output),
        max(float((b.double() - a.double()).abs().nan_to_num().max()) for a, b in pairs),
        all(torch.allclose(b, a, equal_nan=True) for a, b in pairs),
        tuple(_draws(seen)),
    )


def _norm_runs(seen: Seen, norm_paths: frozenset[str]) -> tuple[NormRun, ...]:
    return tuple(
        NormRun(
            entry.path, entry.op, entry.training, entry.calls, entry.shape, entry.values,
            entry.per_sample, entry.path in norm_paths,
        )
        for entry in seen.norms.values()
    )  # fmt: skip


def _draws(seen: Seen) -> tuple[Draw, ...]:
    return tuple(Draw(entry.path, entry.op, entry.calls) for entry in seen.random.values())
