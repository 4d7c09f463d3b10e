"""Running the models of a file: each that the user's factory fits, or that the file can give."""

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from normcheck.errors import NormcheckError
from normcheck.live.loading.load_model import load
from normcheck.live.probes.export_outputs import outputs_compared
from normcheck.live.probes.probe import run
from normcheck.live.process.run_outcome import Outcome
from normcheck.live.run_request import Running
from normcheck.live.watching.forward import in_words
from normcheck.live.watching.live_records import described
from normcheck.norms.anatomy import Anatomy
from normcheck.norms.find_norms import anatomy_of
from normcheck.saved.checkpoint import Checkpoint, SavedModel


def run_saved(checkpoint: Checkpoint, anatomies: Sequence[Anatomy], how: Running) -> list[Outcome]:
    """Run the models of a file.

    A factory makes one model, and a file may hold several: those whose tensors do not fit are
    not run, which is an error only where none fits.

    Args:
        checkpoint: The file.
        anatomies: Of its models, as the file tells them.
        how: As the user wants it.
    """
    outcomes = [
        _attempt(checkpoint, saved, anatomy, how)
        for saved, anatomy in zip(checkpoint.models, anatomies, strict=True)
    ]
    if any(outcome.run for outcome in outcomes) and how.loading.model:
        return [
            replace(outcome, note=f"not run: {outcome.error.message}", error=None)
            if outcome.error
            else outcome
            for outcome in outcomes
        ]
    if how.loading.where is not None and not any(o.run or o.error for o in outcomes):
        places = ", ".join(repr(saved.where) for saved in checkpoint.models)
        missing = NormcheckError(
            f"no model at {how.loading.where!r}", f"the file has models at {places}"
        )
        outcomes[0] = replace(outcomes[0], error=missing)
    return outcomes


def _attempt(checkpoint: Checkpoint, saved: SavedModel, anatomy: Anatomy, how: Running) -> Outcome:
    if how.loading.where is not None and saved.where != how.loading.where:
        return Outcome(anatomy, note="not run: --at names another model of the file")
    try:
        loaded = load(checkpoint, saved, how.loading)
        if how.against is not None:
            return Outcome(anatomy, outputs=outputs_compared(loaded.module, how.against, how))
        if how.loading.model:
            live = anatomy_of(described(loaded.module, modes_known=False))
            anatomy = replace(live, where=anatomy.where)
        return Outcome(anatomy, run(loaded.module, _paths(anatomy), how, loaded.notes))
    except NormcheckError as error:
        return Outcome(anatomy, error=error)
    except Exception as error:  # a probe that breaks must not cost what the file tells
        return Outcome(anatomy, error=_broken(error))


def _broken(error: Exception) -> NormcheckError:
    return NormcheckError(
        f"a probe failed: {in_words(error)}", "this is a bug in normcheck; please report it"
    )


def run_live(module: nn.Module, how: Running) -> Outcome:
    """Run a module that is alive already.

    Args:
        module: Left as it was.
        how: What to feed and where.

    Raises:
        NormcheckError: It cannot be run.
    """
    anatomy = anatomy_of(described(module, modes_known=True))
    try:
        return Outcome(anatomy, run(module, _paths(anatomy), how))
    except NormcheckError:
        raise
    except Exception as error:
        raise _broken(error) from error


def _paths(anatomy: Anatomy) -> frozenset[str]:
    return frozenset(layer.path for layer in anatomy.layers)
