"""One run of a live model, from its modes to its numbers; the model is left as it was."""

import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from normcheck.errors import NormcheckError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.batches import Feed
from normcheck.live.decided_on_fields import DecidedOnFields
from normcheck.live.feeding.feed import device_of, feed_for, trained_shape
from normcheck.live.fields.decisions import decided_on_fields
from normcheck.live.measurement import Fed, Mechanics, Run
from normcheck.live.probes.against_data import FEWEST, against_data
from normcheck.live.probes.cost import cost_of, in_words, wide_feed
from normcheck.live.probes.mechanics import mechanics
from normcheck.live.run_request import Feeding, Progress, Running
from normcheck.live.watching.absent_values import check_values
from normcheck.live.watching.forward import Forward, Interrupted, mode
from normcheck.live.watching.reachable_modules import reachable
from normcheck.live.watching.regimes import Regimes
from normcheck.live.watching.replaced_forwards import replaced_forwards
from normcheck.live.watching.untouched import untouched

_AUTOCAST = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def _is_lazy(value: object) -> bool:
    return isinstance(value, UninitializedParameter | UninitializedBuffer)


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _is_on(tensor: torch.Tensor, device: torch.device) -> bool:
    there = tensor.device
    return there.type == device.type and device.index in (None, there.index)


@lazy_dataclass(frozen=False)
class _Left:
    """Tells what was run and what is to come, so that both end at the same number."""

    tell: Progress
    samples: int = 0

    def run(self, samples: int) -> None:
        """So many were run."""
        self.samples -= samples
        self.tell("comparing", samples)

    def come(self, samples: int) -> None:
        """So many more are to come."""
        self.samples += samples
        self.tell("comparing", 0, samples)

    def done(self) -> None:
        """No more come."""
        self.come(-self.samples)


def _dry(forward: Forward, feed: Feed, seen: Mechanics, feeding: Feeding) -> str:
    """What the data would cost, by a forward of one batch of them."""
    if feed.samples < FEWEST:
        return "dry run: there are too few samples to hold anything against"
    wide = wide_feed(feed, seen.norms)
    cost = cost_of(feed, wide, seen, one_mode=forward.fixed_mode)
    start = time.perf_counter()
    forward(feed.batches[0])
    said = in_words(cost, time.perf_counter() - start, feed.batches[0])
    if feed.labelled and feed.samples == feeding.samples < feeding.more_samples:
        said += (
            "; where they leave open what statistics cost, the same again with "
            f"{feeding.more_samples:,} samples"
        )
    return said


def run(
    model: nn.Module,
    norm_paths: frozenset[str],
    how: Running,
    notes: tuple[str, ...] = (),
) -> Run:
    """Run a model and measure what rules ask for.

    Args:
        model: Left bit for bit as it was, on the device where it was.
        norm_paths: Of its normalization layers.
        how: What to feed and where.
        notes: How the model came about, for the report.

    Raises:
        NormcheckError: It cannot be run at all; says why.
    """
    start = time.perf_counter()
    device = device_of(how.device)
    lazy = [name for name, value in model.named_parameters() if _is_lazy(value)]
    if lazy:
        raise NormcheckError(
            f"it has parameters without values: {', '.join(lazy[:4])}",
            "run it once on an input and save it again",
        )
    check_values(model)
    tell = how.progress
    replaced = replaced_forwards(model)  # before anything is watched
    with untouched(model):
        torch.manual_seed(how.seed)
        if not all(_is_on(tensor, device) for tensor in _tensors(model)):
            # Moving in place makes new parameters of some wrappers, and none of others.
            model.to(device)
        forward = Forward(model, device, _AUTOCAST.get(how.autocast))
        with mode(model, training=False):
            tell("looking for an input", 0)
            feed = feed_for(model, forward, how.feeding)
            reached = reachable(model)
            tell("mechanics", 0)
            try:
                seen, per_sample = mechanics(forward, reached, feed, norm_paths)
            except Interrupted as error:
                raise NormcheckError(f"the model fails in eval mode: {error}") from error
            data = None
            dry = feed.real and how.dry
            if dry:
                feed = replace(feed, notes=(*feed.notes, _dry(forward, feed, seen, how.feeding)))
            elif feed.real:
                left = _Left(tell)
                regimes = Regimes(forward, reached, per_sample, left.run, left.come)
                try:
                    data = against_data(regimes, feed, norm_paths, seen)
                except Interrupted as error:
                    raise NormcheckError(
                        f"the model fails on part of the data: {error}",
                        "every batch has to be one that forward takes",
                    ) from error
                left.done()
            fields = None
            if not (feed.real or forward.fixed_mode):
                regimes = Regimes(forward, reached, per_sample)
                fields = _on_fields(model, regimes, feed, how.seed)
        dtype = str(forward.autocast or forward.dtype).removeprefix("torch.")
    return Run(
        fed=Fed(
            source=feed.source,
            real=feed.real,
            guessed=feed.guessed,
            samples=feed.batches[0].size if dry else feed.samples,
            shapes=feed.batches[0].shapes(),
            batch_size=feed.batch_size,
            batch_size_given=feed.batch_size_given,
            labelled=feed.labelled,
            device=str(device),
            dtype=f"{dtype} autocast" if forward.autocast else dtype,
            guessed_from=feed.guessed_from,
            not_finite=feed.not_finite if feed.real else 0,
        ),
        mechanics=seen,
        against_data=data,
        forwards=forward.count,
        seconds=time.perf_counter() - start,
        notes=(*notes, *feed.notes, *((replaced,) if replaced else ())),
        dry=dry,
        on_fields=fields,
    )


def _on_fields(model: nn.Module, regimes: Regimes, feed: Feed, seed: int) -> DecidedOnFields | None:
    """What decisions on smooth random images change by; None where that cannot be tried."""
    shape = trained_shape(model, regimes.forward, feed)
    try:
        return None if shape is None else decided_on_fields(regimes, shape, seed)
    except Interrupted:
        return None  # more samples than the mechanics took may not fit into memory
