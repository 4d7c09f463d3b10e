"""The statistics of one model of a file, estimated from data, and the proof that they help."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch import Tensor

from normcheck.errors import NormcheckError
from normcheck.live.batches import Feed
from normcheck.live.causes.input_map import read_input
from normcheck.live.causes.other_code import other_code
from normcheck.live.feeding.label_range import check_range
from normcheck.live.probes.against_data import distances_of
from normcheck.live.run_request import Running
from normcheck.live.watching.forward import Forward
from normcheck.live.watching.input_moments import Collected
from normcheck.live.watching.regimes import Regimes
from normcheck.repair.editing.tensor_edits import NOT_FINITE
from normcheck.repair.estimating.data_stream import BatchStream, open_stream
from normcheck.repair.estimating.estimate import Estimate, Estimator
from normcheck.repair.estimating.prepared_model import prepared
from normcheck.repair.estimating.proof import Judged, Meant, crossed, held_out, judge
from normcheck.repair.file_findings import training_in_eval
from normcheck.repair.repair_request import Fixing
from normcheck.repair.repair_result import ModelRepair
from normcheck.saved.checkpoint import Checkpoint, SavedModel
from normcheck.wording import fold, plural


def reestimated(checkpoint: Checkpoint, saved: SavedModel, how: Fixing) -> ModelRepair:
    """Estimate the statistics of a model anew, and find out whether that helps.

    Args:
        checkpoint: The file, open.
        saved: The model in it.
        how: What the user wants.

    Raises:
        NormcheckError: The model cannot be made or run, or has nothing to estimate.
    """
    running = how.running
    assert running is not None  # noqa: S101  (only called with one)
    fed = "part of the data", "every batch has to be one that forward takes"
    with prepared(checkpoint, saved, running, "re-estimating", fed) as ready:
        if not ready.tracked:
            raise NormcheckError(
                "the model has no norm with running statistics",
                "LayerNorm, GroupNorm and InstanceNorm have none: nothing to re-estimate",
            )
        estimator = Estimator(ready.regimes, ready.tracked)
        trained = partial(training_in_eval, checkpoint, saved)
        estimate, verdict, source, shapes = _measured(
            estimator, ready.forward, running, how, trained
        )
        layers = ready.layers(estimate)
    idle = [norm.path for n, norm in enumerate(ready.tracked) if n not in estimate.statistics]
    return ready.repair(
        estimate,
        layers,
        (verdict.proof, verdict.objections),
        {"source": source, "shapes": shapes},
        notes=(f"{plural(len(idle), 'norm')} did not run and stay as they are: {fold(idle)}",)
        if idle
        else (),
    )


_LOOKED_AT = 128
"""Samples by which the code is looked at."""


def _measured(
    estimator: Estimator,
    forward: Forward,
    running: Running,
    how: Fixing,
    trained: Callable[[], str],
) -> tuple[Estimate, Judged, str, str]:
    running.progress("looking for an input", 0)
    data = open_stream(forward.model, forward, running.feeding)
    estimate = estimator.estimated(lambda: data)
    if not estimate.statistics:
        raise NormcheckError(
            "no norm with running statistics ran on the data",
            "they are called in train mode, or not at all: normcheck scan --run tells",
        )
    lost = [n for n, both in estimate.statistics.items() if not _finite(both)]
    if lost:
        raise NormcheckError(
            f"{estimator.tracked[lost[0]].path}: the new values are not all finite", NOT_FINITE
        )
    initial = any(
        bool((t.mean == 0).all()) and bool((t.variance == 1).all()) for t in estimator.tracked
    )
    if how.holdout is not None:
        feeding = replace(running.feeding, data=how.holdout)
        holdout = open_stream(forward.model, forward, feeding)
        count = sum(batch.size for batch in holdout)
        before, after = held_out(estimator, estimate, holdout, count)
        by, steady = holdout.source, holdout
    else:
        before, after, by = crossed(estimator, estimate, data)
        steady = data
    check_range(before.mains, before.labels)
    if not steady.repeats:
        raise NormcheckError(
            f"{steady.source} gives other samples on every pass, so that before and after cannot "
            "be compared",
            "seed its random draws, or give other data to judge by with --holdout",
        )
    meant = Meant(trained()) if initial else _meant(estimator.regimes, data)
    verdict = judge((before, after), estimate, by, initial=initial, meant=meant)
    return estimate, verdict, data.source, data.shapes


def _finite(statistics: tuple[Tensor, Tensor]) -> bool:
    return all(bool(part.isfinite().all()) for part in statistics)


def _meant(regimes: Regimes, data: BatchStream) -> Meant:
    """The code and the input that the stored statistics fit, where they are others than given."""
    batches, samples = [], 0
    for batch in data:
        batches.append(batch)
        samples += batch.size
        if samples >= _LOOKED_AT:
            break
    feed = Feed(tuple(batches), data.source, real=True)
    seen, batchwise = Collected(), Collected()
    at_eval = regimes.stored(feed, seen).together()
    code = other_code(regimes, feed, seen)
    if code is not None:
        return Meant(code=code)
    regimes.batch(feed, batchwise)
    told = read_input(regimes, feed, seen, at_eval, distances_of(seen, batchwise))
    return Meant(input=told.map)
