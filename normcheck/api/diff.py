"""``normcheck.diff``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normcheck.api.words import RunWords, Words, settings_of
from normcheck.runs import diff as run

if TYPE_CHECKING:
    from normcheck.api.words import Model
    from normcheck.config.examination import Examination
    from normcheck.config.policy import Policy
    from normcheck.report.diff_report import Diff


def diff(
    *targets: str | Path | Iterable[str | Path],
    examination: Examination | None = None,
    policy: Policy | None = None,
    ranks: bool = False,
    where: Iterable[str] = (),
    select: Words | None = None,
    ignore: Words | None = None,
    fail_on: str | None = None,
    min_severity: str | None = None,
    min_confidence: str | None = None,
    model: Model | None = None,
    model_args: Mapping[str, Any] | list[Any] | None = None,
    data: Any = None,
    samples: int = 256,
    device: str = "cpu",
) -> Diff:
    """Compare two checkpoints of a model, or a series of them, layer by layer.

    Nothing of the files' own code runs, and torch is not imported. Files are read one after
    another; memory does not grow with their number.

    Args:
        *targets: Files in the order in which they came about, each by itself or in one list; a
            folder or pattern stands for its files, ordered by the numbers in their names.
        examination: The same as one value: which rules judge; the arguments below win.
        policy: The same as one value: what of the findings counts; the arguments below win.
        ranks: Take the files as ranks of one step: each is held against the first.
        where: Which model to compare where a file holds several: one place for all files, or one
            for each.
        select: Rules to run: codes, names, prefixes; by default all that compare.
        ignore: Rules to leave out.
        fail_on: ``warning`` (default) or ``error``: what ``diff.ok`` minds.
        min_severity: Milder findings are listed as suppressed.
        min_confidence: Less sure findings are listed as suppressed.
        model: Where one of two files is an export of the other: what makes the model, so that the
            outputs of both are compared; see :func:`normcheck.scan`. torch is imported then.
        model_args: Arguments of the factory.
        data: What to feed to both.
        samples: Most samples of the data that are used.
        device: Where to run.

    Returns:
        The comparisons and the report. A file that could not be read is one of the report's
        ``errors``; the others are compared all the same where two are left.

    Raises:
        UsageError: Fewer than two files, or no model in common; or what is no path.
    """
    given: list[Any] = list(targets)
    if len(given) > 1 and not isinstance(given[0], str | os.PathLike):
        # Files in a list, and after it the two values, as they may also be given by name.
        examination = given[1] if examination is None else examination
        policy = given[2] if policy is None and len(given) == 3 else policy
        given = given[:1]
    files = given[0] if len(given) == 1 else given
    asked, wanted = settings_of(
        examination, policy, select, ignore, fail_on, min_severity, min_confidence
    )
    run_words = RunWords(model, model_args, data, samples=samples, device=device)
    if run_words.asks:
        asked = replace(asked, running=run_words.running(asked.running))
    places = (where,) if isinstance(where, str) else tuple(where)
    return run.diff(files, asked, wanted, ranks=ranks, where=places)
