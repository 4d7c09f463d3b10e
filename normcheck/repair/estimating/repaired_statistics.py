"""The statistics of one model of a file, estimated from data, and the proof that they help."""

from collections.abc import Mapping
from dataclasses import field, replace

import numpy as np
import torch
from torch import nn

from normcheck.errors import NormcheckError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.batches import Feed
from normcheck.live.feeding.feed import device_of
from normcheck.live.loading.load_model import load
from normcheck.live.loading.model_factory import Fitting, fitting
from normcheck.live.misfit import OtherCode
from normcheck.live.run_request import Running
from normcheck.live.watching.forward import Forward, Interrupted, mode
from normcheck.live.watching.functions import other_code
from normcheck.live.watching.reachable_modules import reachable
from normcheck.live.watching.regimes import Collected, Regimes, Tick
from normcheck.live.watching.untouched import untouched
from normcheck.norms.find_norms import anatomy_of
from normcheck.norms.layer import NormLayer
from normcheck.repair.batch_counts import COUNT, outdated_count
from normcheck.repair.editing.named_tensors import all_tensors, joined
from normcheck.repair.estimating.data_stream import Stream, open_stream
from normcheck.repair.estimating.estimate import Estimate, Estimator, Tracked, tracked_norms
from normcheck.repair.estimating.proof import Judged, crossed, held_out, judge
from normcheck.repair.repair_request import Fixing
from normcheck.repair.repair_result import Change, Estimated, LayerRepair, ModelRepair
from normcheck.saved.checkpoint import Checkpoint, SavedModel
from normcheck.saved.dtypes import Array
from normcheck.saved.tensors import TensorRef
from normcheck.wording import fold, plural

_AUTOCAST = {"float16": torch.float16, "bfloat16": torch.bfloat16}


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
    loaded = load(checkpoint, saved, running.loading)
    model = loaded.module
    device = device_of(running.device)
    with untouched(model):
        model.to(device)
        reached = reachable(model)
        tracked = tracked_norms(reached)
        if not tracked:
            raise NormcheckError(
                "the model has no norm with running statistics",
                "LayerNorm, GroupNorm and InstanceNorm have none: nothing to re-estimate",
            )
        forward = Forward(model, device, _AUTOCAST.get(running.autocast))
        estimator = Estimator(Regimes(forward, reached, set(), _tick(running)), tracked)
        with mode(model, training=False):
            try:
                estimate, verdict, source, shapes = _measured(estimator, forward, running, how)
            except Interrupted as error:
                raise NormcheckError(
                    f"the model fails on part of the data: {error}",
                    "every batch has to be one that forward takes",
                ) from error
        fit = fitting(model, saved.tensors, running.loading.prefix)
        layers = tuple(_layer(tracked[n], *estimate.statistics[n]) for n in estimate.statistics)
    changes, notes = _changes(saved, model, tracked, estimate, fit)
    idle = [norm.path for n, norm in enumerate(tracked) if n not in estimate.statistics]
    if idle:
        notes.append(f"{plural(len(idle), 'norm')} did not run and stay as they are: {fold(idle)}")
    return ModelRepair(
        where=saved.where,
        changes=tuple(changes),
        estimated=Estimated(
            source=source,
            shapes=shapes,
            samples=estimate.samples,
            passes=estimate.rounds,
            residual=estimate.residual,
            device=str(device),
            layers=layers,
            proof=verdict.proof,
            objections=verdict.objections,
        ),
        notes=(*loaded.notes, *notes),
    )


_LOOKED_AT = 128
"""Samples by which the code is looked at."""


def _tick(running: Running) -> Tick:
    return lambda samples: running.progress("re-estimating", samples)


def _measured(
    estimator: Estimator, forward: Forward, running: Running, how: Fixing
) -> tuple[Estimate, Judged, str, str]:
    running.progress("looking for an input", 0)
    data = open_stream(forward.model, forward, running.feeding)
    estimate = estimator.estimated(lambda: data)
    if not estimate.statistics:
        raise NormcheckError(
            "no norm with running statistics ran on the data",
            "they are called in train mode, or not at all: normcheck scan --run tells",
        )
    initial = any(
        bool((t.mean == 0).all()) and bool((t.variance == 1).all()) for t in estimator.tracked
    )
    if how.holdout is not None:
        feeding = replace(running.feeding, data=how.holdout)
        holdout = open_stream(forward.model, forward, feeding)
        count = sum(batch.size for batch in holdout)
        outputs = held_out(estimator, estimate, holdout, count)
        by, steady = holdout.source, holdout
    else:
        outputs = crossed(estimator, data, estimate.samples)
        by, steady = "the other half of it", data
    if not steady.repeats:
        raise NormcheckError(
            f"{steady.source} gives other samples on every pass, so that before and after cannot "
            "be compared",
            "seed its random draws, or give other data to judge by with --holdout",
        )
    meant = None if initial else _other_code(estimator.regimes, data)
    verdict = judge(outputs, estimate, by, initial=initial, meant=meant)
    return estimate, verdict, data.source, data.shapes


def _other_code(regimes: Regimes, data: Stream) -> OtherCode | None:
    """The function that the stored statistics fit, where it is another than the code's."""
    batches, samples = [], 0
    for batch in data:
        batches.append(batch)
        samples += batch.size
        if samples >= _LOOKED_AT:
            break
    feed = Feed(tuple(batches), data.source, real=True)
    seen = Collected()
    regimes.stored(feed, seen)
    return other_code(regimes, feed, seen)


def _layer(norm: Tracked, mean: torch.Tensor, variance: torch.Tensor) -> LayerRepair:
    old_mean, old_variance = norm.mean.double().cpu(), norm.variance.double().cpu()
    shift = ((mean - old_mean).abs() / variance.clamp_min(1e-30).sqrt()).numpy()
    with np.errstate(all="ignore"):
        factor = (variance / old_variance).numpy()
    return LayerRepair(norm.path, _median(shift), _median(factor))


def _median(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")


def _changes(
    saved: SavedModel, model: nn.Module, tracked: list[Tracked], estimate: Estimate, fit: Fitting
) -> tuple[list[Change], list[str]]:
    """New values for the tensors of the file, under every name that the file has for them."""
    known = all_tensors(saved)
    anatomy = {layer.path: layer for layer in anatomy_of(saved, judge_links=False).layers}
    aliases: dict[int, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        aliases.setdefault(id(module), []).append(path)
    found = _Found()
    for number, statistics in estimate.statistics.items():
        norm = tracked[number]
        places = [_in_file(path, fit) for path in aliases.get(id(norm.module), [norm.path])]
        there = [p for p in places if joined(p, "running_mean") in known]
        if not there and not norm.registered:
            found.outside.append(norm.path)
            continue
        for place in there or places[:1]:
            found.take(place, known, anatomy.get(place), statistics, norm)
    return found.changes, found.notes()


def _in_file(path: str, fit: Fitting) -> str:
    """The path of a module of the model in the names of the file."""
    below = f"{path}." if path else ""
    return (fit.prefix + below.removeprefix(fit.own_prefix)).removesuffix(".")


@lazy_dataclass(frozen=False)
class _Found:
    """The changes of one model, and what has to be said of them."""

    changes: list[Change] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    recounted: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def take(
        self,
        place: str,
        known: Mapping[str, TensorRef],
        layer: NormLayer | None,
        statistics: tuple[torch.Tensor, torch.Tensor],
        norm: Tracked,
    ) -> None:
        """Note the new tensors of one layer."""
        for name, values in zip(("running_mean", "running_var"), statistics, strict=True):
            full = joined(place, name)
            self.changes.append(Change(full, known.get(full), values.numpy()))
        full = joined(place, COUNT)
        count, zero = known.get(full), np.zeros((), dtype=np.int64)
        if any(change.ref is None for change in self.changes[-2:]):
            self.added.append(place)
            if count is None and norm.module._buffers.get(COUNT) is not None:  # noqa: SLF001
                self.changes.append(Change(full, None, zero, whole_numbers=True))
        if count is not None and outdated_count(layer, count):
            self.recounted.append(place)
            self.changes.append(Change(full, count, zero))

    def notes(self) -> list[str]:
        """What a user should know."""
        notes = []
        if self.added:
            notes.append(f"statistics that the file lacked are added: {fold(self.added)}")
        if self.recounted:
            notes.append(
                f"batch counts set to 0 in {plural(len(self.recounted), 'layer')}: they told of "
                "the statistics before, and would make these look under-warmed"
            )
        if self.outside:
            notes.append(
                f"norms outside of the registered modules are not in the file: {fold(self.outside)}"
            )
        return notes
