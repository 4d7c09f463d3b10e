"""One run: read, find, check, report. The whole flow on one page."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from normcheck.checkpoint.model import Checkpoint, Form
from normcheck.checkpoint.read import read_checkpoint
from normcheck.checkpoint.targets import Target, expand
from normcheck.errors import NoModelError, NormcheckError, UnknownFormatError, UnreadableError
from normcheck.findings import Failure, Finding, Skipped
from normcheck.norms.find import anatomy_of
from normcheck.norms.layer import Anatomy
from normcheck.report.fit import AgreementSummary, summarise_agreement
from normcheck.report.report import ModelReport, Report, summarise
from normcheck.rules.rule import CannotTell, Need, Rule, Subject
from normcheck.settings import Settings
from normcheck.version import VERSION


def scan(targets: Iterable[str | Path], settings: Settings | None = None) -> Report:
    """Scan checkpoints and say what is wrong with their normalization layers.

    Nothing of a file's own code runs, and torch is not imported.

    Args:
        targets: Files, folders (searched by extension) and patterns.
        settings: What to check; by default every rule.

    Returns:
        The report. A target that could not be read is one of its ``errors``; the others
        are scanned all the same.
    """
    chosen = settings or Settings()
    run = _Run(chosen)
    for target in _targets([str(word) for word in targets], run):
        run.scan_file(target)
    return run.report()


def _targets(words: list[str], run: "_Run") -> Iterator[Target]:
    for word in words:
        try:
            yield from expand([word])
        except UnreadableError as error:
            run.errors.append(Failure(word, error.message, error.hint))


class _Run:
    """What has been found so far; one target is read, judged and closed before the next."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.models: list[ModelReport] = []
        self.findings: list[Finding] = []
        self.skipped: list[Skipped] = []
        self.errors: list[Failure] = []
        self._seen: set[Path] = set()

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
        try:
            self._judge(checkpoint)
        except NormcheckError as error:
            self.errors.append(Failure(name, f"{name}: {error.message}", error.hint))
        except MemoryError:
            self.errors.append(Failure(name, f"{name}: not enough memory to judge it"))
        finally:
            checkpoint.close()

    def _judge(self, checkpoint: Checkpoint) -> None:
        anatomies = [anatomy_of(model) for model in checkpoint.models]
        for model, anatomy in zip(checkpoint.models, anatomies, strict=True):
            subject = Subject(
                anatomy,
                siblings=tuple(other for other in anatomies if other is not anatomy),
                optimizer_steps=checkpoint.optimizer_steps,
                alone=model.where == "",
            )
            found = sorted(
                self._check(checkpoint.name, subject),
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
                    layers=tuple(summarise(layer, found) for layer in anatomy.layers),
                    agreement=self._agreement(anatomy),
                    notes=checkpoint.notes,
                )
            )

    def _agreement(self, anatomy: Anatomy) -> AgreementSummary | None:
        if anatomy.agreement is None:
            return None
        keep = self.settings.keep_predictions
        return summarise_agreement(anatomy.agreement, keep_values=keep)

    def _check(self, name: str, subject: Subject) -> Iterator[Finding]:
        if not subject.layers and not subject.anatomy.power_iterations:
            return  # nothing that any rule could judge
        for rule in self.settings.rules:
            if rule.need is Need.PAIR:
                continue  # not skipped: a scan never has a second checkpoint
            reason = _cannot_run(rule, subject.anatomy)
            if reason:
                self.skipped.append(Skipped(name, subject.anatomy.where, rule.code, *reason))
                continue
            try:
                for finding in rule.check(subject):
                    yield replace(finding, model=name, where=subject.anatomy.where)
            except CannotTell as outcome:
                self.skipped.append(Skipped(name, subject.anatomy.where, rule.code, str(outcome)))
            except NormcheckError as error:
                self.errors.append(Failure(name, error.message, error.hint, rule.code))
            except Exception as error:  # a rule that breaks must not end the audit
                message = f"rule {rule.code} failed: {type(error).__name__}: {error}"
                self.errors.append(
                    Failure(
                        name, message, "this is a bug in normcheck; please report it", rule.code
                    )
                )

    def report(self) -> Report:
        """Everything that was found, in a stable order."""
        return Report(
            VERSION,
            tuple(self.models),
            tuple(self.findings),
            (),
            tuple(self.skipped),
            tuple(self.errors),
        )


def _cannot_run(rule: Rule, anatomy: Anatomy) -> tuple[str, str] | None:
    """Why a rule has not what it needs, and what would give it; None where it has."""
    if rule.need is Need.MODULES and not anatomy.has_modules:
        return (
            f"needs the module tree, the file has a {Form.STATE_DICT}",
            "they need a whole saved module",
        )
    return None
