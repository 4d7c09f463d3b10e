"""Running the models of a file: each that the user's factory fits, or that the file can give."""

import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from normcheck.errors import NormcheckError
from normcheck.live.loading.load_model import load
from normcheck.live.probes.export_outputs import outputs_compared
from normcheck.live.probes.probe import run
from normcheck.live.process.run_outcome import Outcome
from normcheck.live.run_request import ALL, Running, at_places, named
from normcheck.live.watching.forward import in_words
from normcheck.live.watching.live_records import described
from normcheck.live.watching.sound_modules import check_sound
from normcheck.norms.anatomy import Anatomy
from normcheck.norms.find_norms import anatomy_of
from normcheck.saved.checkpoint import Checkpoint, SavedModel

_OURS = Path(__file__).parents[2]


def run_saved(checkpoint: Checkpoint, anatomies: Sequence[Anatomy], how: Running) -> list[Outcome]:
    """Run the models of a file.

    A factory makes one model, and a file may hold several: those whose tensors do not fit are
    not run, which is an error only where none fits.

    Args:
        checkpoint: The file.
        anatomies: Of its models, as the file tells them.
        how: As the user wants it.
    """
    places = [saved.where for saved in checkpoint.models]
    wanted = at_places(how.loading.where)
    how = replace(how, loading=replace(how.loading, where=wanted))
    missing = [place for place in wanted if place not in places and place != ALL]
    if missing:
        error = NormcheckError(
            f"no model at {named(missing[:1])}", f"the file has models at {named(places)}"
        )
        return [Outcome(anatomies[0], error=error), *(Outcome(a) for a in anatomies[1:])]
    if ALL in wanted and ALL not in places:
        how = replace(how, loading=replace(how.loading, where=()))
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
    return outcomes


def _attempt(checkpoint: Checkpoint, saved: SavedModel, anatomy: Anatomy, how: Running) -> Outcome:
    if how.loading.where and saved.where not in how.loading.where:
        return Outcome(anatomy, note="not run: --where names another model of the file")
    how = replace(how, feeding=replace(how.feeding, beside=checkpoint.name))
    try:
        loaded = load(checkpoint, saved, how.loading)
        check_sound(loaded.module)
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
    """What a probe's failure is to the user: the model's fault, or ours.

    Raised within our own lines it is ours; raised in torch or in the model's code it comes of a
    model that is not as torch's modules are, whoever called.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if frames and Path(frames[-1].filename).is_relative_to(_OURS):
        hint = "this is a bug in normcheck; please report it"
        return NormcheckError(f"a probe failed: {in_words(error)}", hint)
    return NormcheckError(
        f"a probe failed in the model's code or in torch: {in_words(error)}",
        "run model.eval() and one forward of it by hand: where that works, please report this",
    )


def behind_wrappers(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """The module that ``torch.compile`` wraps, and a note on that; any other as it is.

    Its tensors are those of the wrapper, its names those of a state dict before compiling, and
    running it compiles nothing.
    """
    if type(module).__module__.startswith("torch._dynamo"):
        inner = module._modules.get("_orig_mod")  # noqa: SLF001  (the wrapper forwards the rest)
        if inner is not None:
            return inner, ("the module behind torch.compile, run as it was before compiling",)
    return module, ()


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
