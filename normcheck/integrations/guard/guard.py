"""A guard for any training loop: it warns where the bug is made, not where it is found."""

from __future__ import annotations

import traceback
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim.optimizer import register_optimizer_step_post_hook

from normcheck.errors import GuardError, GuardWarning, UsageError
from normcheck.findings import Failure, Finding, Severity
from normcheck.integrations.guard.entries import Entries, Quiet, WatchedModule, core_of, in_backward
from normcheck.integrations.guard.guard_report import findings_of, guard_report
from normcheck.integrations.guard.loop import Check, Loop, is_sampled
from normcheck.integrations.guard.modes import EvalModeSteps, ForwardsWithoutLearning
from normcheck.integrations.guard.ranks import AllRanks
from normcheck.integrations.guard.statistics import CloserLook, FiniteValues, StandingStill
from normcheck.integrations.guard.user_line import user_frame
from normcheck.integrations.guard.watched_norms import WatchedNorm, means, watched_norms
from normcheck.live.training_record import Incident, TrainingRecord
from normcheck.rules.catalogue import select as selected
from normcheck.rules.rule import Need

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from normcheck.report.report import Report


class Guard:
    """Watches a training loop until it is closed; made by :func:`guard`."""

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Any],
        frozen: Sequence[str],
        rules: Sequence[str],
        ignored: Sequence[str],
        *,
        strict: bool,
    ) -> None:
        """Hook the model and the optimizers; see :func:`guard`."""
        self._model = model
        self._strict = strict
        self._rules = tuple(
            rule
            for rule in selected(list(rules) or ["ALL"], list(ignored))
            if rule.need is Need.TRAINING
        )
        norms = watched_norms(model, frozen)
        for pattern in frozen:
            if not any(means(pattern, norm.path) for norm in norms):
                raise UsageError(
                    f"frozen: no norm with running statistics matches {pattern!r:.60}",
                    "patterns are held against layer paths: backbone.*",
                )
        self._loop = Loop(core_of(model), norms, self._tell)
        self._look = CloserLook(self._loop)
        self._learning = ForwardsWithoutLearning(self._loop)
        self._finite = FiniteValues(self._loop, self._look)
        self._ranks = AllRanks(self._loop)
        self._checks: tuple[Check, ...] = (
            EvalModeSteps(self._loop), self._learning, self._look, StandingStill(self._loop),
            self._finite, self._ranks,
        )  # fmt: skip
        self._given = tuple(optimizers)
        self._known: dict[int, tuple[weakref.ref[Any], int, Sequence[WatchedNorm] | None]] = {}
        self._incidents: list[Incident] = []
        self._failures: list[Failure] = []
        self._paused = 0
        self._telling = True
        self._closed = not norms
        self._handles: list[Any] = []
        self._entries: Entries | None = None
        if norms:
            self._entries = Entries(model, norms, self._before, self._after)
            self._handles.append(register_optimizer_step_post_hook(self._stepped))
            learning = [p for p in model.parameters() if p.requires_grad and not is_lazy(p)]
            last = [p for p in learning if p.is_leaf][-1:]
            register: Any = Tensor.register_post_accumulate_grad_hook  # has no types
            self._handles += [register(p, Quiet(self._backward)) for p in last]

    def __enter__(self) -> Self:
        """Itself: it watches already."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        """Close it. What it finds at the end does not replace an error of the loop's."""
        self._telling = kind is None
        self.close()

    def __repr__(self) -> str:
        """What is watched, and what was seen."""
        record = self._record()
        return (
            f"<normcheck.guard of {type(self._loop.model).__name__}: {len(record.watched)} norms, "
            f"{record.steps} steps, {len(record.incidents)} incidents>"
        )

    def close(self) -> None:
        """Take all hooks away; the model and its optimizer are as they were. May be repeated."""
        if self._closed:
            return
        self._closed = True
        if self._entries is not None:
            self._entries.close()
        self._look.close()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        # A loop that a NaN ended made no step after it.
        self._safely(self._finite.look, self._loop.norms)
        self._safely(self._ranks.look)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Look at nothing within: for forwards in train mode that are meant so."""
        self._paused += 1
        try:
            yield
        finally:
            self._paused -= 1

    def report(self) -> Report:
        """What was seen up to here, as a scan would report it.

        Returns:
            The model with its layers as they are now, and the findings of the rules ``NC7…``;
            rules that could not judge are skipped with their reason.
        """
        return guard_report(self._loop.model, self._record(), self._rules, self._failures)

    def _record(self) -> TrainingRecord:
        return TrainingRecord(
            incidents=tuple(self._incidents),
            steps=self._loop.steps,
            forwards=self._loop.forwards,
            watched=tuple(norm.path for norm in self._loop.norms),
            frozen=tuple(norm.path for norm in self._loop.norms if norm.frozen),
            ranks=self._ranks.ranks,
        )

    def _before(self, entry: WatchedModule, inputs: tuple[Any, ...]) -> None:
        if self._paused or self._closed or in_backward():
            return
        loop = self._loop
        entry.forwards += 1
        loop.forwards += 1
        loop.input = [weakref.ref(value) for value in inputs if isinstance(value, Tensor)]
        gradients = torch.is_grad_enabled()
        self._safely(self._begin, entry, gradients)

    def _begin(self, entry: WatchedModule, gradients: bool) -> None:
        for check in self._checks:
            check.before(entry, gradients=gradients)

    def _learned(self, norms: Sequence[WatchedNorm]) -> None:
        for check in self._checks:
            check.step(norms)

    def _after(self, entry: WatchedModule) -> None:
        if not self._closed:
            self._safely(self._look.after, entry)

    def _backward(self, _parameter: Tensor) -> None:
        self._learning.answered()

    def _stepped(self, optimizer: Optimizer, _args: object, _kwargs: object) -> None:
        if self._paused or self._closed:
            return
        norms = self._concerned(optimizer)
        if norms is None:
            return
        self._loop.steps += 1
        self._safely(self._learned, norms)
        # With several optimizers each gets its share of the samples.
        ours = sum(known is not None for _, _, known in self._known.values())
        self._loop.sampled = is_sampled(self._loop.steps // max(1, ours))
        for entry in self._entries.entries if self._entries else ():
            entry.forwards = 0

    def _concerned(self, optimizer: Optimizer) -> Sequence[WatchedNorm] | None:
        """The norms whose weights an optimizer changes; None where it is of another model."""
        groups = len(optimizer.param_groups)
        known = self._known.get(id(optimizer))
        if known is not None and known[0]() is optimizer and known[1] == groups:
            return known[2]
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        given = any(_same(optimizer, held, one) for one in self._given)
        ours: Sequence[WatchedNorm] | None = None
        if (given or not self._given) and any(id(p) in held for p in self._model.parameters()):
            ours = [n for n in self._loop.norms if any(id(p) in held for p in n.part)]
        elif given:
            ours = self._loop.norms  # its parameters are made of the model's: sharded, flattened
        self._known[id(optimizer)] = (weakref.ref(optimizer), groups, ours)
        return ours

    def _tell(self, incident: Incident) -> None:
        self._incidents.append(incident)
        alone = replace(self._record(), incidents=(incident,))
        for finding in findings_of(self._rules, alone):
            self._say(finding)

    def _say(self, finding: Finding) -> None:
        if not self._telling:
            return
        text = f"{finding.message} ({finding.rule}). {finding.consequence}"
        if self._strict and finding.severity is not Severity.INFO:
            raise GuardError(text, finding.fix)
        message, frame = f"{text} Fix: {finding.fix}", user_frame()
        if frame is None:
            warnings.warn(message, GuardWarning, stacklevel=2)
            return
        warnings.warn_explicit(
            message,
            GuardWarning,
            frame.f_code.co_filename,
            frame.f_lineno,
            module=str(frame.f_globals.get("__name__", "")),
        )

    def _safely(self, look: Callable[..., None], *words: Any) -> None:
        """Look, and never let a fault of ours end the training."""
        try:
            look(*words)
        except (GuardError, GuardWarning):
            raise  # wanted: strict, or warnings that are errors
        except Exception as error:
            self._checks = ()
            self._failures.append(
                Failure(
                    type(self._loop.model).__name__,
                    f"the guard broke and looks no more: {type(error).__name__}: {error}",
                    "this is a bug in normcheck; please report it",
                    trace=traceback.format_exc(),
                )
            )


def _same(optimizer: Optimizer, held: set[int], given: Any) -> bool:
    """Whether an optimizer is one that was given, or lies in a wrapper that was."""
    groups = getattr(given, "param_groups", ())
    return given is optimizer or any(id(p) in held for group in groups for p in group["params"])


def guard(
    model: nn.Module,
    optimizer: Any = None,
    *,
    frozen: Iterable[str] = (),
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
    strict: bool = False,
) -> Guard:
    """Watch a training loop, and warn at the line that makes a mistake with batch norms.

    Watches from now on, until ``close()`` or the end of a ``with`` block. It computes nothing with
    the model and changes nothing of it; hooks on the model and its children cost less than a
    hundredth of a step. Copies and pickles of the model do not have them.

    Args:
        model: That is trained; also within ``DistributedDataParallel`` or ``torch.compile``.
        optimizer: Whose steps count, or several of them; by default every optimizer of torch that
            holds parameters of the model.
        frozen: Patterns of norms that stay in eval mode on purpose: ``backbone.*``. Parts of which
            nothing requires gradients need not be named.
        select: Rules to watch by: codes, names, prefixes; by default all of ``NC7``.
        ignore: Rules to leave out.
        strict: Raise instead of warning.

    Returns:
        The guard, with ``report()``, ``paused()`` and ``close()``.

    Raises:
        UsageError: ``model`` is no module, a rule is unknown, a pattern matches no norm.
        GuardError: Later, in the loop, where ``strict`` is set and something is found.

    Warns:
        GuardWarning: In the loop, once for each cause.
    """
    given: object = model
    if not isinstance(given, nn.Module):
        raise UsageError(
            f"guard watches an nn.Module, not {type(given).__name__}", "give the model itself"
        )
    several = isinstance(optimizer, list | tuple)
    optimizers = tuple(optimizer) if several else () if optimizer is None else (optimizer,)
    words = [(w,) if isinstance(w, str) else tuple(w) for w in (frozen, select, ignore)]
    return Guard(model, optimizers, *words, strict=strict)
