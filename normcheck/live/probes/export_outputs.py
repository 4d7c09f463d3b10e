"""The outputs of two models on the same input: a model and its export, or two checkpoints."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from normcheck.errors import NormcheckError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.live.feeding.feed import device_of, feed_for
from normcheck.live.fields.decisions import exchanged
from normcheck.live.loading.load_exported import load_exported
from normcheck.live.loading.load_model import load
from normcheck.live.output_match import OutputMatch
from normcheck.live.probes.first_layer import first_layer_apart
from normcheck.live.run_request import Running
from normcheck.live.watching.forward import Forward, Interrupted, mode, of_export
from normcheck.live.watching.outputs import flips, relative
from normcheck.live.watching.reachable_modules import reachable
from normcheck.live.watching.regimes import Regimes
from normcheck.live.watching.sound_modules import check_sound
from normcheck.live.watching.untouched import untouched

_TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-3}
_HALF = 3e-2
"""Relative differences of outputs that other kernels and element types make."""


def outputs_compared(source: nn.Module, other: Path, how: Running) -> OutputMatch:
    """Feed both the same and compare the main outputs, both in eval mode.

    Args:
        source: Left as it was.
        other: A file of the same model, or an export of it.
        how: What to feed and where.

    Raises:
        NormcheckError: One of them does not run, or they return nothing that can be compared.
    """
    checkpoint = read_checkpoint(other)
    try:
        models = [m for m in checkpoint.models if m.where == how.against_where]
        saved = models[0] if models else checkpoint.models[0]
        if saved.form.exported:
            module = load_exported(checkpoint, saved, trust=how.loading.trust)
        else:
            loading = replace(how.loading, model=how.against_model or how.loading.model, where=())
            try:
                module = load(checkpoint, saved, loading).module
            except NormcheckError as error:
                raise NormcheckError(f"{other}: {error.message}", error.hint) from error
            check_sound(module)
        return _compared(source, module, how)
    finally:
        checkpoint.close()


def _compared(source: nn.Module, export: nn.Module, how: Running) -> OutputMatch:
    device = device_of(how.device)
    feeding = replace(how.feeding, as_trained=True)
    known = of_export(export, "known_inputs")
    if feeding.data is None and not feeding.shapes and known:
        feeding = replace(feeding, shapes=tuple(str(shape) for shape in known))
    with untouched(source, export):
        torch.manual_seed(how.seed)
        source.to(device)
        export.to(device)
        ours, theirs = Forward(source, device), Forward(export, device)
        with mode(source, training=False), mode(export, training=False):
            feed = feed_for(source, ours, feeding)
            mains: list[Tensor] = []
            others: list[Tensor] = []
            for batch in feed.batches:
                how.progress("comparing", batch.size)
                try:
                    one = ours(batch).main(batch.size)
                    two = theirs(batch).main(batch.size)
                except Interrupted as error:
                    raise NormcheckError(
                        str(error),
                        "both have to take the same input, in the same order",
                    ) from error
                if one is None or two is None or one.numel() != two.numel():
                    raise NormcheckError(
                        "they return nothing of the same shape",
                        "compare versions of the model that return the same",
                    )
                mains.append(one.double().cpu())
                others.append(two.double().cpu().reshape(one.shape))
            tolerance = max(_TOLERANCES.get(forward.dtype, _HALF) for forward in (ours, theirs))
            a, b = torch.cat([t.flatten() for t in mains]), torch.cat([t.flatten() for t in others])
            difference = relative(b, a)
            apart = ""
            if difference > tolerance:
                apart = first_layer_apart(ours, theirs, feed.batches[0], tolerance)
            swapped = None
            if not (ours.fixed_mode or theirs.fixed_mode):
                old, new = _regimes(ours, how), _regimes(theirs, how)
                swapped = exchanged(old, new, feed, how.seed)
    gap = b - a
    finite = gap[gap.isfinite()]
    return OutputMatch(
        samples=feed.samples,
        source=feed.source,
        difference=difference,
        largest=float(finite.abs().max()) if finite.numel() else 0.0,
        flips=flips(mains, others),
        tolerance=tolerance,
        first_apart=apart,
        exchanged=swapped,
    )


def _regimes(forward: Forward, how: Running) -> Regimes:
    def tick(samples: int) -> None:
        how.progress("comparing", samples)

    return Regimes(forward, reachable(forward.model), set(), tick)
