"""One run: read, find, check, report. The whole flow on one page."""

import importlib.util
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from normcheck.checkpoint.limits import Limits
from normcheck.checkpoint.model import Checkpoint, Form, SavedModel
from normcheck.checkpoint.place import Place, is_remote, shown
from normcheck.checkpoint.read import complete, read_checkpoint
from normcheck.checkpoint.targets import Target, expand
from normcheck.errors import (
    NoModelError,
    NormcheckError,
    UnknownFormatError,
    UnreadableError,
    UsageError,
)
from normcheck.findings import Failure, Finding, Skipped
from normcheck.live.measurement import Run as Measured
from normcheck.live.outcome import Outcome
from normcheck.live.request import Running
from normcheck.norms.find import anatomy_of
from normcheck.norms.layer import Anatomy
from normcheck.report.fit import AgreementSummary, summarise_agreement
from normcheck.report.report import ModelReport, Report, summarise
from normcheck.report.run import summarise_run
from normcheck.rules.rule import CannotTell, Need, Rule, Subject
from normcheck.rules.settle import settled
from normcheck.settings import Settings
from normcheck.suppress import Sieve
from normcheck.version import VERSION

if TYPE_CHECKING:
    from torch import nn

_BUG = "this is a bug in normcheck; please report it"


def scan(
    targets: "Iterable[str | Path | nn.Module] | str | Path | nn.Module",
    settings: Settings | None = None,
    *,
    data: Any = None,
) -> Report:
    """Scan saved or live models and say what is wrong with their normalization layers.

    Files are read without running anything of theirs, and torch is not imported, unless
    ``settings.running`` asks for a run. A live module is run, and left bit for bit as it was.

    Args:
        targets: Files, folders (searched by extension), patterns, and live modules; or one of
            them.
        settings: What to check, and whether and how to run; by default every rule, without.
        data: What to feed: a ``DataLoader``, a ``Dataset``, tensors, arrays, or any iterable of
            batches, with or without labels. With it the models are run.

    Returns:
        The report. A target that could not be read or run is one of its ``errors``; the others
        are scanned all the same.
    """
    chosen = settings or Settings()
    if data is not None:
        running = chosen.running or Running()
        feeding = replace(running.feeding, data=data)
        chosen = replace(chosen, running=replace(running, feeding=feeding))
    session = _Session(chosen)
    single = isinstance(targets, str | Path) or is_module(targets)
    for target in [targets] if single else targets:  # type: ignore[union-attr]  # not a single one
        if is_module(target):
            session.scan_module(target)
            continue
        try:
            for found in expand([str(target)]):
                session.scan_file(found)
        except UnreadableError as error:
            session.errors.append(Failure(shown(str(target)), error.message, error.hint))
    return session.report()


def is_module(value: object) -> "TypeGuard[nn.Module]":
    """Whether a target is a live ``nn.Module``; torch is there if one is."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """One model and all that is known of it before rules judge."""

    model: SavedModel
    anatomy: Anatomy
    run: "Measured | None" = None
    notes: tuple[str, ...] = ()


class _Session:
    """What has been found so far; one target is read, judged and closed before the next."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.models: list[ModelReport] = []
        self.findings: list[Finding] = []
        self.skipped: list[Skipped] = []
        self.errors: list[Failure] = []
        self.sieve = Sieve(settings)
        self._seen: set[Place] = set()

    def scan_file(self, target: Target) -> None:
        """Read one file and judge every model in it; what fails becomes an entry."""
        if target.path in self._seen:
            return
        self._seen.add(target.path)
        name = str(target.path)
        try:
            checkpoint = read_checkpoint(target.path, self.settings.limits)
        except NormcheckError as error:
            # In a folder, a file without a model (an optimizer's state, another program's
            # .bin) is nobody's mistake.
            unrelated = isinstance(error, NoModelError | UnknownFormatError)
            if unrelated and not target.explicit:
                self.skipped.append(Skipped(name, "", "", error.message))
            else:
                self.errors.append(Failure(name, error.message, error.hint))
            return
        except MemoryError:
            self.errors.append(Failure(name, f"{name}: not enough memory to read it"))
            return
        except Exception as error:  # one file must not end the audit of the others
            self._broke(name, "reading", error)
            return
        try:
            self._judge(checkpoint, explicit=target.explicit)
        except NormcheckError as error:
            complete(error, name)
            self.errors.append(Failure(name, error.message, error.hint))
        except MemoryError:
            self.errors.append(Failure(name, f"{name}: not enough memory to judge it"))
        except Exception as error:  # the same, for what finds the norms
            self._broke(name, "judging", error)
        finally:
            checkpoint.close()

    def scan_module(self, module: "nn.Module") -> None:
        """Run and judge a live module."""
        from normcheck.live.records import described
        from normcheck.live.run_saved import run_live

        saved = described(module, modes_known=True)
        name = type(module).__name__
        size = sum(tensor.numel * tensor.dtype.itemsize for tensor in saved.tensors.values())
        checkpoint = Checkpoint(name, "in memory", size, (saved,))
        running = self.settings.running or Running()
        try:
            outcome = run_live(module, running)
        except NormcheckError as error:
            self.errors.append(Failure(name, f"{name}: {error.message}", error.hint))
            self._report(checkpoint, [_Known(saved, anatomy_of(saved))])
            return
        self._report(checkpoint, [_Known(saved, outcome.anatomy, outcome.run)])

    def _broke(self, name: str, doing: str, error: Exception) -> None:
        message = f"{name}: {doing} it failed: {type(error).__name__}: {error}"
        trace = _trace()
        self.errors.append(Failure(name, message, _BUG, trace=trace))

    def _judge(self, checkpoint: Checkpoint, *, explicit: bool) -> None:
        anatomies = [
            anatomy_of(model, weights_budget=self.settings.weights_budget)
            for model in checkpoint.models
        ]
        known = [_Known(m, a) for m, a in zip(checkpoint.models, anatomies, strict=True)]
        running = self.settings.running_of(Path(checkpoint.name))
        if running is not None and is_remote(checkpoint.name):
            message = f"{checkpoint.name}: not run: only read, as it lies at an address"
            hint = "download it, and run the copy"
            self.errors.append(Failure(checkpoint.name, message, hint))
            running = None
        if running is not None:
            known = []
            outcomes = _ran(checkpoint, anatomies, running, self.settings.limits)
            for model, outcome in zip(checkpoint.models, outcomes, strict=True):
                note, error = outcome.note, outcome.error
                if error is not None and not explicit and not running.loading.model:
                    # Nobody asked for this very file: what cannot be run is only read.
                    note, error = f"not run: {error.message}", None
                known.append(_Known(model, outcome.anatomy, outcome.run, (note,) if note else ()))
                if error is not None:
                    place = f" ({model.where})" if model.where else ""
                    message = f"{checkpoint.name}{place}: not run: {error.message}"
                    self.errors.append(Failure(checkpoint.name, message, error.hint))
        self._report(checkpoint, known)

    def _report(self, checkpoint: Checkpoint, models: list[_Known]) -> None:
        for known in models:
            model, anatomy = known.model, known.anatomy
            subject = Subject(
                anatomy,
                siblings=tuple(other.anatomy for other in models if other is not known),
                optimizer_steps=checkpoint.optimizer_steps,
                alone=model.where == "" and model.form is not Form.LIVE,
                run=known.run,
            )
            # Of a model without norms no rule can say anything, not even that it is well.
            something = subject.layers or anatomy.power_iterations or known.run
            rules = self.settings.rules_of(Path(checkpoint.name)) if something else ()
            before = len(self.sieve.suppressed)
            found = sorted(
                self.sieve.kept(
                    settled(list(self._check(checkpoint.name, subject, rules)), known.run)
                ),
                key=lambda f: (-f.severity.rank, f.rule, f.discriminator),
            )
            self.findings.extend(found)
            self.models.append(
                ModelReport(
                    target=checkpoint.name,
                    where=model.where,
                    format=checkpoint.format,
                    form=model.form.value,
                    size=checkpoint.size,
                    class_path=anatomy.class_path,
                    tensors=anatomy.tensor_count,
                    layers=tuple(
                        summarise(layer, found, self.sieve.suppressed[before:])
                        for layer in anatomy.layers
                    ),
                    rules=tuple(rule.code for rule in rules),
                    agreement=self._agreement(anatomy),
                    notes=(*checkpoint.notes, *known.notes),
                    run=summarise_run(known.run) if known.run else None,
                )
            )

    def _agreement(self, anatomy: Anatomy) -> AgreementSummary | None:
        if anatomy.agreement is None:
            return None
        keep = self.settings.keep_predictions
        return summarise_agreement(anatomy.agreement, keep_values=keep)

    def _check(self, name: str, subject: Subject, rules: tuple[Rule, ...]) -> Iterator[Finding]:
        for rule in rules:
            if rule.need is Need.PAIR:
                continue  # not skipped: a scan never has a second checkpoint
            reason = _cannot_run(rule, subject)
            if reason:
                self.skipped.append(Skipped(name, subject.anatomy.where, rule.code, *reason))
                continue
            try:
                for finding in rule.judge(subject):
                    yield replace(finding, model=name, where=subject.anatomy.where)
                self.sieve.ran(name, rule.code)
            except CannotTell as outcome:
                self.skipped.append(Skipped(name, subject.anatomy.where, rule.code, str(outcome)))
            except NormcheckError as error:
                where = subject.anatomy.where
                self.errors.append(Failure(name, error.message, error.hint, rule.code, where))
            except Exception as error:  # a rule that breaks must not end the audit
                message = f"rule {rule.code} failed on {name}: {type(error).__name__}: {error}"
                where = subject.anatomy.where
                trace = _trace()
                self.errors.append(Failure(name, message, _BUG, rule.code, where, trace))

    def report(self) -> Report:
        """Everything that was found, in a stable order."""
        return Report(
            VERSION,
            tuple(self.models),
            tuple(self.findings),
            tuple(self.sieve.suppressed),
            tuple(self.skipped),
            tuple(self.errors),
            self.sieve.unused(),
            self.settings.rules,
            self.settings.fail_on,
        )


def _ran(
    checkpoint: Checkpoint, anatomies: list[Anatomy], running: Running, limits: Limits
) -> list[Outcome]:
    """What became of each model, run here or in a process of its own.

    Raises:
        UsageError: torch is not installed; it is imported here and not before.
    """
    modules = any(model.form is Form.MODULE for model in checkpoint.models)
    if running.loading.trust and not running.loading.model and modules:
        from normcheck.live.trust import what_runs

        running.announce(what_runs(checkpoint))
    if importlib.util.find_spec("torch") is None:
        raise UsageError("running a model needs torch", "pip install torch")
    if running.isolation is not None:
        from normcheck.live.isolated import run_isolated

        return run_isolated(checkpoint, anatomies, running, running.isolation, limits)
    from normcheck.live.run_saved import run_saved

    return run_saved(checkpoint, anatomies, running)


def _trace() -> str:
    import traceback  # only where something broke

    return traceback.format_exc()


def _cannot_run(rule: Rule, subject: Subject) -> tuple[str, str, bool] | None:
    """Why a rule has not what it needs, what that is, and whether only other flags give it."""
    run = subject.run
    if rule.need is Need.RUN and run is None:
        return "needs to run the model", "a run (--run, --model)", True
    if rule.need is Need.DATA and run is None:
        return "needs to run the model on your data", "your data (--data)", True
    if rule.need is Need.DATA and run is not None and run.against_data is None:
        few = "has too few samples" if run.fed.real else "was fed made-up input"
        return f"needs your data, the run {few}", "your data (--data)", not run.fed.real
    if rule.need is Need.MODULES and not subject.anatomy.has_modules:
        return (
            f"needs the module tree, the file has a {Form.STATE_DICT}",
            "a whole saved module",
            False,
        )
    return None
