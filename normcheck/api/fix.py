"""``normcheck.fix``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normcheck.api.words import RunWords, Words, words_of
from normcheck.errors import UsageError
from normcheck.repair.repair_request import SAMPLES, Fixing
from normcheck.runs import fix as run

if TYPE_CHECKING:
    from normcheck.api.words import Model
    from normcheck.repair.repair_result import Repair


def fix(
    target: str | Path,
    output: str | Path | None = None,
    *,
    data: Any = None,
    model: Model | None = None,
    model_args: Mapping[str, Any] | list[Any] | None = None,
    holdout: Any = None,
    without_data: bool = False,
    input_shape: str | Iterable[int] | None = None,
    in_place: bool = False,
    at: Words | None = None,
    modes: str = "",
    counts: bool = False,
    unwarm: bool = False,
    momentum: float | None = None,
    force: bool = False,
    batch_size: int = 0,
    samples: int = SAMPLES,
    device: str = "cpu",
    autocast: str = "",
    prefix: str | None = None,
    trust: bool = False,
) -> Repair:
    """Write a repaired copy of a file, or say why not.

    The input is changed only with ``in_place``. The output is there whole or not at all, and never
    in place of another file. The arguments are those of ``normcheck fix --help``.

    Args:
        target: A checkpoint file.
        output: Where the repaired copy goes.
        data: What to estimate statistics from, best of the training set, with labels; see
            :func:`normcheck.scan`.
        model: What makes the model; see :func:`normcheck.scan`.
        model_args: Arguments of the factory.
        holdout: Data that judge; by default each sample by the statistics of all others.
        without_data: Emergency repair of image networks whose statistics are lost or of other
            weights: estimate them on smooth random fields.
        input_shape: Of one image, for ``without_data``: ``3x224x224`` or ``(3, 224, 224)``.
        in_place: Repair the file itself; it is kept as FILE.bak.
        at: Which models of the file to repair; ``all`` for every one.
        modes: ``eval`` to set the training flags of a whole module to eval.
        counts: Make damaged batch counts whole.
        unwarm: Take what is left of the initial value out of the statistics.
        momentum: Of the layers, where the file does not hold it, for ``unwarm``.
        force: Write what would be refused.
        batch_size: Samples a forward; 0 for the data's own, or 32.
        samples: Most samples that are used.
        device: Where to run.
        autocast: ``float16`` or ``bfloat16``.
        prefix: What stands before the model's names in the file.
        trust: Let the file's own code run.

    Returns:
        What was done; ``refused`` where something spoke against it, and nothing was written.

    Raises:
        NormcheckError: It cannot be done. Nothing was written.
    """
    given: object = output
    if isinstance(given, Fixing):
        return run.fix(target, given)  # the same as one value
    if without_data and (data is not None or holdout is not None or unwarm):
        raise UsageError(
            "without_data, and data or another repair of the statistics are asked for",
            "leave it out: an estimate from data is exact, and so is unwarm",
        )
    if input_shape is not None and not without_data:
        raise UsageError(
            "input_shape is of made-up input, and data have shapes of their own",
            "it belongs to without_data",
        )
    if without_data and samples == SAMPLES:
        samples = 0  # as many as the size of the images asks for
    asked = RunWords(
        model,
        model_args,
        data,
        input_shape,
        batch_size,
        samples,
        device,
        autocast,
        prefix,
        None,
        trust,
    )
    if asked.asks and data is None and not without_data:
        raise UsageError(
            "statistics are estimated from data only, never from made-up input",
            "give data, best of the training set, with labels",
        )
    how = Fixing(
        output=str(output) if output is not None else "",
        in_place=in_place,
        places=tuple(words_of(at)),
        running=asked.running() if asked.asks or without_data else None,
        without_data=without_data,
        holdout=holdout,
        force=force,
        modes=modes,
        counts=counts,
        unwarm=unwarm,
        momentum=momentum,
    )
    if not how.asks_for:
        raise UsageError(
            "no repair is asked for",
            "model and data re-estimate statistics; modes='eval', counts and unwarm need no data",
        )
    return run.fix(target, how)
