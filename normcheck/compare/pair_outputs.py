"""The outputs of the models of two files on the same data."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from normcheck.compare.model_pairing import chosen
from normcheck.compare.model_track import Track
from normcheck.errors import UsageError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.output_match import OutputMatch
from normcheck.live.process.run_models import ran
from normcheck.live.run_request import Running, named
from normcheck.norms.anatomy import Anatomy
from normcheck.norms.find_norms import anatomy_of
from normcheck.saved.checkpoint import Checkpoint, Form, SavedModel
from normcheck.sources.limits import Limits


@lazy_dataclass()
class Ran:
    """What a run of two models gave."""

    outputs: OutputMatch | None
    why_not: str = ""
    """Why there are no outputs."""
    hint: str = ""

    @property
    def not_run(self) -> str:
        """Why there are no outputs, and what to do, in one line; empty where there are some."""
        return f"{self.why_not} ({self.hint})" if self.why_not else ""


def track_of_any(files: Sequence[Path], limits: Limits, where: Sequence[str]) -> Track:
    """Two models that need not have a tensor in common, to be run side by side.

    Raises:
        NormcheckError: A file cannot be read, or no model in it is meant.
    """
    opened: list[Checkpoint] = []
    try:
        opened.extend(read_checkpoint(path, limits) for path in files)
        old, new = (model_at(checkpoint, where, i) for i, checkpoint in enumerate(opened))
        return Track.of_two((opened[0], opened[1]), (old, new))
    finally:
        for checkpoint in opened:
            checkpoint.close()


def model_at(checkpoint: Checkpoint, where: Sequence[str], number: int) -> SavedModel:
    """The model of a file that is meant.

    Args:
        checkpoint: The file.
        where: As the user gave places: none, one for all files, or one for each.
        number: Of the file, from 0.

    Raises:
        UsageError: It holds several, and none was named.
    """
    if where:
        return chosen(checkpoint.name, checkpoint.models, where[min(number, len(where) - 1)])
    if len(checkpoint.models) > 1:
        places = named(model.where for model in checkpoint.models)
        raise UsageError(
            f"{checkpoint.name} holds {len(checkpoint.models)} models: {places:.200}",
            "--where says which of them is compared",
        )
    return checkpoint.models[0]


def outputs_of(
    files: tuple[Checkpoint, Checkpoint],
    models: tuple[SavedModel, SavedModel],
    anatomy: Anatomy,
    running: Running,
    limits: Limits,
) -> Ran:
    """Run the models of two files on the same data.

    Args:
        files: That are open.
        models: Of each the one that is meant.
        anatomy: Of the first model.
        running: What is fed; its factory makes both models, or the two that it names with a comma
            one each.
        limits: For reading.
    """
    (first, other), (old, new) = files, models
    factory, second = running.loading.model, ""
    if isinstance(factory, str):
        factory, _, second = factory.partition(",")
    loading = replace(running.loading, model=factory, where=(old.where,))
    how = replace(
        running,
        loading=loading,
        against=Path(other.name),
        against_where=new.where,
        against_model=second,
    )
    if loading.trust and not (second or factory) and new.form in (Form.MODULE, Form.TORCHSCRIPT):
        from normcheck.live.loading.trusted_code import what_runs

        running.announce(what_runs(other))
    outcomes = ran(first, [anatomy] * len(first.models), how, limits)
    place = next(i for i, model in enumerate(first.models) if model is old)
    why = outcomes[place].error
    return Ran(outcomes[place].outputs, *((why.message, why.hint) if why is not None else ()))


def pair_outputs(
    files: Sequence[Path], limits: Limits, where: Sequence[str], running: Running
) -> Ran:
    """The same of two files that are not open.

    Raises:
        NormcheckError: One of them cannot be read, or no model in it is meant.
    """
    opened: list[Checkpoint] = []
    try:
        opened.extend(read_checkpoint(path, limits) for path in files)
        old, new = (model_at(checkpoint, where, i) for i, checkpoint in enumerate(opened))
        anatomy = anatomy_of(old, judge_links=False)
        return outputs_of((opened[0], opened[1]), (old, new), anatomy, running, limits)
    finally:
        for checkpoint in opened:
            checkpoint.close()
