"""``normcheck.scan`` and ``normcheck.assert_healthy``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from normcheck.api.words import RunWords, Words, settings_of
from normcheck.live.run_request import Running
from normcheck.report.form import Wish
from normcheck.runs import scan as run

if TYPE_CHECKING:
    from normcheck.api.words import Model
    from normcheck.config.examination import Examination
    from normcheck.config.policy import Policy
    from normcheck.fleet.fleet_request import Fleet
    from normcheck.report.report import Report
    from normcheck.runs.scan import Targets


def scan(
    targets: Targets,
    examination: Examination | None = None,
    policy: Policy | None = None,
    *,
    data: Any = None,
    model: Model | None = None,
    model_args: Mapping[str, Any] | list[Any] | None = None,
    select: Words | None = None,
    ignore: Words | None = None,
    fail_on: str | None = None,
    min_severity: str | None = None,
    min_confidence: str | None = None,
    input_shape: str | Iterable[str] | Iterable[int] | None = None,
    batch_size: int = 0,
    samples: int | None = None,
    device: str = "cpu",
    autocast: str = "",
    prefix: str | None = None,
    at: Words | None = None,
    trust: bool = False,
    figures: bool = False,
    fleet: Fleet | None = None,
    wishes: frozenset[Wish] = frozenset(),
) -> Report:
    """Scan saved or live models and say what is wrong with their normalization layers.

    Files are read without running anything of theirs, and torch is not imported, unless ``model``,
    ``data``, ``input_shape`` or ``trust`` ask for a run. A live module is run, and left bit for bit
    as it was. The arguments are those of ``normcheck scan --help``.

    Args:
        targets: Files, folders (by names and first bytes), patterns; live modules; state dicts,
            also within dictionaries as a training script saves them; exported programs. One of
            these, or an iterable of several.
        examination: The same as one value: which rules judge, whether and how models are run; the
            arguments below win.
        policy: The same as one value: what of the findings counts; the arguments below win.
        data: What to feed: a ``DataLoader``, a ``Dataset``, tensors, arrays, or any iterable of
            batches, with or without labels; or a path or ``pkg.mod:loader``, as ``--data``.
        model: What makes the model that a state dict belongs to: ``pkg.mod:factory``, a function or
            class, or a model of the same architecture, which is copied.
        model_args: Arguments of the factory, by name or as a list.
        select: Rules to run: codes, names, prefixes; by default all.
        ignore: Rules to leave out; the more specific word wins.
        fail_on: ``warning`` (default) or ``error``: what ``report.ok`` minds.
        min_severity: Milder findings are listed as suppressed.
        min_confidence: Less sure findings are listed as suppressed.
        input_shape: Shape of made-up input without the batch: ``3x224x224`` or ``(3, 224, 224)``;
            several texts, one for each input.
        batch_size: Samples a forward; 0 for the data's own, or 32.
        samples: Most samples of the data that are used; by default 256, and 1,024 where these
            leave open what the statistics cost.
        device: Where to run: ``cpu``, ``cuda:1``, ``mps``.
        autocast: ``float16`` or ``bfloat16``, to run under autocast.
        prefix: What stands before the model's names in the file: ``ema_model.``.
        at: Which models of the file to run, by their places; by default all that fit.
        trust: Let the file's own code run.
        figures: Keep what the panels of ``report.to_html()`` draw: two numbers a channel.
        fleet: How many processes or machines share the files, and where results are kept.
        wishes: What else an output wants of each file.

    Returns:
        The report. A target that could not be read or run is one of its ``errors``; the others are
        scanned all the same.

    Raises:
        NormcheckError: A target is nothing that can be scanned (None, a tensor, a dictionary
            without a model), or an argument is wrong.
    """
    asked, wanted = settings_of(
        examination, policy, select, ignore, fail_on, min_severity, min_confidence
    )
    run_words = RunWords(
        model,
        model_args,
        data,
        input_shape,
        batch_size,
        samples,
        device,
        autocast,
        prefix,
        at,
        trust,
    )
    wishes |= {Wish.PREDICTIONS} if figures else set()
    if model is None and input_shape is None and not trust and asked.running:
        # The examination says how to run; data alone are fed in that run.
        return run.scan(targets, asked, wanted, data=data, fleet=fleet, wishes=wishes)
    # A live module is run anyway: where and on what is heeded without a word that asks for a run.
    here = (batch_size, samples, device, autocast) != (0, None, "cpu", "")
    if run_words.asks or here:
        asked = replace(asked, running=run_words.running(asked.running or Running()))
    return run.scan(targets, asked, wanted, fleet=fleet, wishes=wishes)


def assert_healthy(target: Targets, **words: Any) -> Report:
    """Fail where a scan finds anything at or above ``fail_on``, or could not be done.

    Args:
        target: As for :func:`scan`.
        **words: The keyword arguments of :func:`scan`: ``data=``, ``select=``, ``fail_on=`` …

    Returns:
        The report of what is healthy.

    Raises:
        AssertionError: Its text is the report: what was found, where, and what to do.
        NormcheckError: As for :func:`scan`.
    """
    __tracebackhide__ = True  # of pytest: the line that asserted is the one to show
    report = scan(target, **words)
    if not report.ok:
        raise AssertionError(f"normcheck found faults\n{report}")
    return report
