"""One file, or one live module: read, find, (run), judge. The whole flow of a scan on one page.

Nothing here knows of the other files of the run, so the same function serves in this
process, in a worker, and on another machine.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from normcheck.config.examination import HeldBack
from normcheck.errors import NoModelError, NormcheckError, NoValuesError, UnknownFormatError
from normcheck.findings import Failure
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.formats.reading_errors import complete
from normcheck.live.run_request import Running
from normcheck.live.torch_there import require_torch
from normcheck.norms.find_norms import anatomy_of
from normcheck.pipeline.configured_run import configured_run
from normcheck.pipeline.given import Given
from normcheck.pipeline.judge import BUG, Asides
from normcheck.pipeline.judge_file import KnownModel, judge_models
from normcheck.pipeline.more_samples import ran_until_told
from normcheck.pipeline.results import FileResult, Verdicts, passed_over
from normcheck.report.report import ModelReport
from normcheck.saved.checkpoint import Checkpoint
from normcheck.sources.place import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from normcheck.config.examination import Examination
    from normcheck.formats.targets import Target
    from normcheck.report.form import Wish


_SAVE_AGAIN = "fetch it again, or load its parts by hand and save them with torch"


def examine(
    target: Target, examination: Examination, wishes: frozenset[Wish] = frozenset()
) -> FileResult:
    """Read one file and judge every model in it; what fails becomes an entry of the result.

    Args:
        target: The file.
        examination: How.
        wishes: What outputs want kept of it besides.
    """
    name = str(target.path)
    try:
        checkpoint = read_checkpoint(target.path, examination.limits)
    except NormcheckError as error:
        # In a folder, a file without a model (an optimizer's state, another program's
        # .bin) is nobody's mistake.
        unrelated = isinstance(error, NoModelError | UnknownFormatError) or not target.sure
        if unrelated and not target.explicit:
            return passed_over(name, error.message, unasked=not target.sure)
        return FileResult(name, errors=(Failure(name, error.message, error.hint),))
    except MemoryError:
        return FileResult(name, errors=(Failure(name, f"{name}: not enough memory to read it"),))
    except Exception as error:  # one file must not end the audit of the others
        return FileResult(name, errors=(_broke(name, "reading", error),))
    return _examined(name, checkpoint, examination, wishes, explicit=target.explicit)


def _examined(
    name: str,
    checkpoint: Checkpoint,
    examination: Examination,
    wishes: frozenset[Wish],
    *,
    explicit: bool,
) -> FileResult:
    """Judge every model of what was read, and close it."""
    asides = Asides()
    judged: list[tuple[ModelReport, Verdicts]] = []
    if checkpoint.refused_by_torch:
        # An error and not a note: whoever wants to use the file has to know before all else, and
        # in a folder of healthy files a note is not shown. What was read is judged all the same.
        message = f"{name}: {checkpoint.refused_by_torch}"
        asides.errors.append(Failure(name, message, _SAVE_AGAIN))
    try:
        known = _known(checkpoint, examination, asides, explicit=explicit)
        rules = examination.rules_of(checkpoint.name)
        judged.extend(judge_models(checkpoint, known, rules, wishes, asides))
    except NormcheckError as error:
        complete(error, name)
        asides.errors.append(Failure(name, error.message, error.hint))
    except MemoryError:
        asides.errors.append(Failure(name, f"{name}: not enough memory to judge it"))
    except Exception as error:  # the same, for what finds the norms
        asides.errors.append(_broke(name, "judging", error))
    finally:
        files = checkpoint.files
        checkpoint.close()
    return _result(name, judged, asides, files)


def examine_object(
    kind: Given, value: Any, examination: Examination, wishes: frozenset[Wish] = frozenset()
) -> Iterator[FileResult]:
    """Judge a live object, and run it where it can run.

    Args:
        kind: What it is; no file.
        value: A module, a mapping of tensors or of what a file may hold, an exported program.
        examination: How.
        wishes: What outputs want kept of it besides.

    Raises:
        NormcheckError: There is no model in it.
    """
    if kind is Given.MODULE:
        yield _examine_module(value, type(value).__name__, examination, wishes)
    elif kind is Given.TENSORS:
        require_torch("scanning a state dict in memory")
        from normcheck.live.loading.in_memory import checkpoint_of

        name = type(value).__name__
        checkpoint, modules = checkpoint_of(value, examination.limits)
        if checkpoint is not None:
            yield _examine_in_memory(checkpoint, examination, wishes, examination.running)
        for where, module in modules:
            yield _examine_module(module, f"{name}.{where}", examination, wishes)
    else:
        from normcheck.live.loading.in_memory import checkpoint_of_export

        checkpoint = checkpoint_of_export(value, examination.limits)
        running = examination.running or Running()
        yield _examine_in_memory(checkpoint, examination, wishes, running)


def _examine_in_memory(
    checkpoint: Checkpoint,
    examination: Examination,
    wishes: frozenset[Wish],
    running: Running | None,
) -> FileResult:
    """Judge what was read from memory; it runs in this process, which alone has it."""
    here = replace(running, isolation=None) if running is not None else None
    examination = replace(examination, running=here)
    return _examined(checkpoint.name, checkpoint, examination, wishes, explicit=True)


def _examine_module(
    module: nn.Module, name: str, examination: Examination, wishes: frozenset[Wish]
) -> FileResult:
    """Run and judge a live module."""
    from normcheck.live.process.run_saved import behind_wrappers, run_live
    from normcheck.live.watching.live_records import described
    from normcheck.live.watching.sound_modules import check_sound

    module, notes = behind_wrappers(module)
    asides = Asides()
    try:
        check_sound(module)
        saved = described(module, modes_known=True)
    except NormcheckError as error:
        return FileResult(name, errors=(Failure(name, f"{name}: {error.message}", error.hint),))
    except RecursionError:
        message = f"{name}: its modules are nested deeper than Python follows"
        hint = "raise the limit with sys.setrecursionlimit, or scan a part of it"
        return FileResult(name, errors=(Failure(name, message, hint),))
    size = sum(tensor.numel * tensor.dtype.itemsize for tensor in saved.tensors.values())
    checkpoint = Checkpoint(name, "in memory", size, (saved,))
    try:
        running = examination.running or Running()
        (outcome,) = ran_until_told(lambda how: [run_live(module, how)], running)
        known = KnownModel(saved, outcome.anatomy, outcome.run, notes)
    except NormcheckError as error:
        known = KnownModel(saved, anatomy_of(saved), None, notes)
        if isinstance(error, NoValuesError) and examination.running is None:
            # Nobody asked for a run, and there is nothing to run: no fault of the module.
            known = replace(known, notes=(*notes, f"not run: {error.message}"))
        else:
            known = replace(known, failed=True)
            asides.errors.append(Failure(name, f"{name}: {error.message}", error.hint))
    rules = examination.rules_of(name)
    judged = list(judge_models(checkpoint, [known], rules, wishes, asides))
    return _result(name, judged, asides)


def _result(
    name: str,
    judged: list[tuple[ModelReport, Verdicts]],
    asides: Asides,
    files: tuple[str, ...] = (),
) -> FileResult:
    return FileResult(
        target=name,
        verdicts=tuple(verdicts for _, verdicts in judged),
        skipped=asides.skipped.groups(),
        errors=tuple(asides.errors),
        files=files,
        models=tuple(model for model, _ in judged),
    )


def _known(
    checkpoint: Checkpoint, examination: Examination, asides: Asides, *, explicit: bool
) -> list[KnownModel]:
    """What is known of each model: from the file, and from running it where that is wanted."""
    budget = examination.weights_budget
    anatomies = [anatomy_of(model, weights_budget=budget) for model in checkpoint.models]
    running = configured_run(checkpoint.name, examination)
    if isinstance(running, HeldBack):
        held = f"not run: {running.why}"
        return [
            KnownModel(m, a, held=held) for m, a in zip(checkpoint.models, anatomies, strict=True)
        ]
    if running is not None and is_remote(checkpoint.name):
        message = f"{checkpoint.name}: not run: only read, as it lies at an address"
        asides.errors.append(Failure(checkpoint.name, message, "download it, and run the copy"))
        running = None
    if running is None:
        return [KnownModel(m, a) for m, a in zip(checkpoint.models, anatomies, strict=True)]
    known: list[KnownModel] = []
    from normcheck.live.process.run_models import (
        ran,
    )  # what runs models is not needed to read files

    outcomes = ran_until_told(
        lambda how: ran(checkpoint, anatomies, how, examination.limits), running
    )
    for model, outcome in zip(checkpoint.models, outcomes, strict=True):
        note, error = outcome.note, outcome.error
        if error is not None and not explicit and not running.loading.model:
            # Nobody asked for this very file: what cannot be run is only read.
            note, error = f"not run: {error.message}", None
        notes, failed = (note,) if note else (), error is not None
        known.append(KnownModel(model, outcome.anatomy, outcome.run, notes, failed=failed))
        if error is not None:
            place = f" ({model.where})" if model.where else ""
            message = f"{checkpoint.name}{place}: not run: {error.message}"
            asides.errors.append(Failure(checkpoint.name, message, error.hint))
    return known


def _broke(name: str, doing: str, error: Exception) -> Failure:
    import traceback  # only where something broke

    message = f"{name}: {doing} it failed: {type(error).__name__}: {error}"
    return Failure(name, message, BUG, trace=traceback.format_exc())
