"""Running statistics of a live model, estimated anew: an exact ``update_bn``."""

from typing import Any

import torch
from torch import Tensor, nn

from normcheck.errors import NormcheckError, UsageError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.run_request import Feeding
from normcheck.live.watching.absent_values import check_values
from normcheck.live.watching.forward import Forward, Interrupted, mode
from normcheck.live.watching.reachable_modules import reachable
from normcheck.live.watching.regimes import Regimes
from normcheck.live.watching.sound_modules import check_sound
from normcheck.live.watching.untouched import untouched
from normcheck.repair.estimating.data_stream import open_stream
from normcheck.repair.estimating.estimate import (
    ROUNDS,
    TOLERANCE,
    Estimate,
    Estimator,
    Reduce,
    Tracked,
    tracked_norms,
)

_ALL = 1 << 40
"""More samples than any data has."""


@lazy_dataclass()
class Recalibration:
    """What :func:`recalibrate` did."""

    layers: tuple[str, ...]
    """Paths of the norms whose statistics were replaced."""
    not_run: tuple[str, ...]
    """Norms with running statistics that no forward used: they are as they were."""
    samples: int
    """Samples in a pass, over all processes."""
    passes: int
    """Passes over the data."""
    residual: float
    """How far one more pass would still move the worst channel, in standard deviations."""


def recalibrate(
    module: nn.Module,
    data: Any,
    *,
    batch_size: int = 0,
    samples: int | None = None,
    rounds: int = ROUNDS,
    tolerance: float = TOLERANCE,
    reduce: Reduce | None = None,
) -> Recalibration:
    """Replace running_mean and running_var of all batch norms by those of the data.

    The statistics are the exact mean and variance of all that a norm is given in eval mode
    (in float64, not an average over batches), from passes that are repeated until they
    reproduce themselves: they do not depend on the size or order of the batches. Dropout is off.

    Nothing else changes: modes, momentum, ``num_batches_tracked``, parameters, gradients, other
    buffers and the random number generators are as before, also when a forward raises; then the
    statistics are as before as well. A copy of the model's tensors is held in the meantime.

    In a process group every process may give other data, and as many batches as it has; all end
    with the statistics of all data.

    Args:
        module: On any device; its norms may be shared, hidden in lists, or called by hand.
        data: A ``DataLoader``, a ``Dataset``, tensors, arrays, or an iterable of batches: tensors,
            tuples or dictionaries, with or without labels. Gone through several times.
        batch_size: Samples a forward, for data without batches of its own; 0 for 32.
        samples: At most so many are used; None for all.
        rounds: Most passes after the first.
        tolerance: Move of the worst channel, in standard deviations, at which to stop.
        reduce: Sums a float64 tensor over all processes and returns the sum; by default
            ``torch.distributed.all_reduce`` where a process group exists.

    Returns:
        Which layers changed, and the residual.

    Raises:
        NormcheckError: The model does not run on the data, has no running statistics, or they
            do not fit the type of a buffer. Nothing was changed.
    """
    given: object = module
    if not isinstance(given, nn.Module):
        kind = "None" if given is None else f"a {type(given).__name__}"
        raise UsageError(
            f"recalibrate takes an nn.Module, not {kind}", "give the model itself, an instance"
        )
    if data is None:
        raise UsageError(
            "recalibrate needs data to estimate from",
            "give a DataLoader, a Dataset, tensors, or an iterable of batches",
        )
    check_sound(module)
    check_values(module)
    feeding = Feeding(data=data, batch_size=batch_size, samples=samples or _ALL)
    reached = reachable(module)
    tracked = tracked_norms(reached)
    if not tracked:
        raise NormcheckError(
            f"{type(module).__name__} has no norm with running statistics to estimate"
        )
    with untouched(module):
        forward = Forward(module, tracked[0].mean.device)
        estimator = Estimator(Regimes(forward, reached, set()), tracked, reduce or _over_group())
        with mode(module, training=False):
            try:
                stream = open_stream(module, forward, feeding)
                estimate = estimator.estimated(lambda: stream, rounds, tolerance)
            except Interrupted as error:
                raise NormcheckError(f"the model fails on part of the data: {error}") from error
    write(tracked, estimate)
    return Recalibration(
        layers=tuple(tracked[number].path for number in sorted(estimate.statistics)),
        not_run=tuple(t.path for n, t in enumerate(tracked) if n not in estimate.statistics),
        samples=estimate.samples,
        passes=estimate.rounds,
        residual=estimate.residual,
    )


def write(tracked: list[Tracked], estimate: Estimate) -> None:
    """Put estimated statistics into the buffers, all or none.

    Raises:
        NormcheckError: A value is not finite, or does not fit the type of its buffer.
    """
    planned: list[tuple[Tensor, Tensor]] = []
    for number, (mean, variance) in estimate.statistics.items():
        norm = tracked[number]
        for name, buffer, values in (
            ("running_mean", norm.mean, mean),
            ("running_var", norm.variance, variance),
        ):
            path = f"{norm.path}.{name}" if norm.path else name
            if not bool(values.isfinite().all()):
                raise NormcheckError(
                    f"{path}: the data give values that are not finite; nothing was changed",
                    "look for NaN or infinite values in the data and the weights",
                )
            if float(values.abs().max()) > torch.finfo(buffer.dtype).max:
                raise NormcheckError(
                    f"{path}: {float(values.abs().max()):.4g} does not fit {buffer.dtype}; "
                    "nothing was changed",
                    "keep running statistics in float32",
                )
            planned.append((buffer, values))
    with torch.no_grad():
        for buffer, values in planned:
            buffer.copy_(values)


def _over_group() -> Reduce | None:
    """The sum over the default process group; None where there is none."""
    group = torch.distributed
    if not (group.is_available() and group.is_initialized()) or group.get_world_size() < 2:
        return None
    # NCCL moves tensors of GPUs only.
    device = torch.device("cuda" if group.get_backend() == "nccl" else "cpu")

    def reduce(values: Tensor) -> Tensor:
        moved = values.to(device)
        group.all_reduce(moved)
        return moved.cpu()

    return reduce
