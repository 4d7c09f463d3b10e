"""What a rule is, and what it is given to judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from enum import StrEnum
from functools import cache, cached_property
from importlib import import_module
from typing import TYPE_CHECKING

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.anatomy import Anatomy
from normcheck.norms.kinds import Family
from normcheck.norms.layer import Momentum, NormLayer

if TYPE_CHECKING:
    from normcheck.compare.movement import Comparison
    from normcheck.live.measurement import Mechanics, Run
    from normcheck.live.training_record import TrainingRecord
    from normcheck.norms.traces.bias_trace import BiasTrace
    from normcheck.norms.traces.gradient_trace import GradientTrace
    from normcheck.rules.option import Option
    from normcheck.saved.clocks import Clock
    from normcheck.saved.graph import Op

DEFAULT_MOMENTUM = 0.1
"""BatchNorm's momentum in torch where nobody chose another; a state dict does not hold it."""


COUNTER = "num_batches_tracked"
"""The buffer that counts batches, on which no output depends."""


class Need(StrEnum):
    """What a rule needs to see."""

    STATE = "state"
    """Tensors by name, which every file has."""
    MODULES = "modules"
    """The module tree with its flags, which only a whole saved module has."""
    RUN = "run"
    """Forwards on any input, which need a live model."""
    DATA = "data"
    """Forwards on the user's data."""
    PAIR = "pair"
    """Two checkpoints of one model or more, which only ``diff`` gives."""
    EXPORT = "export"
    """A model and its export, which only ``diff`` gives."""
    TRAINING = "training"
    """A training loop, which only ``guard`` sees."""

    @property
    def compares(self) -> bool:
        """Whether more than one file is needed."""
        return self in (Need.PAIR, Need.EXPORT)

    @property
    def scanned(self) -> bool:
        """Whether a scan can give it."""
        return self in _BY_SCANS


_BY_SCANS = (Need.STATE, Need.MODULES, Need.RUN, Need.DATA)


class CannotTell(Exception):  # noqa: N818  (an outcome, not an error)
    """Raised by a rule that has what it needs and still cannot judge; says why."""


@cache
def _in_file(file: str) -> Rule:
    """The rule of a module, which is asked for with every model."""
    rule: Rule = import_module(file).RULE
    return rule


@lazy_dataclass(eq=False)
class Subject:
    """One model and what else its file tells about it."""

    anatomy: Anatomy
    siblings: tuple[Anatomy, ...] = ()
    """The other models of the same file: an EMA copy, a teacher."""
    optimizer_steps: int | None = None
    """Steps that an optimizer in the same file has counted."""
    clocks: tuple[Clock, ...] = ()
    """All that tells how far the model was trained; empty where nothing certainly does."""
    alone: bool = True
    """Whether the model is the file's own object, with nothing beside it."""
    gradients: Callable[[Sequence[str]], GradientTrace | None] = lambda _paths: None
    """What the file's optimizers tell of the layers before these norms; reads when asked."""
    biases: Callable[[Sequence[str]], BiasTrace | None] = lambda _paths: None
    """What the biases before these norms tell of how they were trained; reads when asked."""
    run: Run | None = None
    """What running the model showed; None where it was not run."""
    pair: Comparison | None = None
    """What moved between this checkpoint and earlier ones; None in a scan."""
    training: TrainingRecord | None = None
    """What was seen of the training loop; None outside a guard."""
    chosen: Mapping[str, float] = field(default_factory=dict)
    """Options of the running rule that somebody set, by name."""

    def value(self, option: Option) -> float:
        """What an option of the running rule is set to, or its default."""
        return self.chosen.get(option.name, option.default)

    @property
    def layers(self) -> tuple[NormLayer, ...]:
        """The normalization layers."""
        return self.anatomy.layers

    def batch_norms(self) -> tuple[NormLayer, ...]:
        """Layers that normalise over the batch, or keep statistics as those do."""
        return self._batch_norms

    @cached_property
    def _batch_norms(self) -> tuple[NormLayer, ...]:
        # A dozen rules ask.
        return tuple(
            layer
            for layer in self.layers
            if layer.kind.family is Family.BATCH
            or (layer.kind.family in (Family.INSTANCE, Family.CUSTOM) and layer.has_statistics)
        )

    @property
    def compared(self) -> Comparison:
        """What moved between checkpoints.

        Raises:
            CannotTell: There is one checkpoint only.
        """
        if self.pair is None:
            raise CannotTell("needs a second checkpoint")
        return self.pair

    def with_statistics(self) -> tuple[NormLayer, ...]:
        """Layers whose stored mean and variance can be read, frozen ones included."""
        return self._with_statistics

    @cached_property
    def _with_statistics(self) -> tuple[NormLayer, ...]:
        return tuple(layer for layer in self.layers if layer.has_statistics)


Check = Callable[["Subject"], Iterator[Finding]]


def _judge_nothing(_subject: Subject) -> Iterator[Finding]:
    return iter(())


@lazy_dataclass()
class Rule:
    """A rule's metadata and its function.

    The page is the docstring of the module that defines the rule.
    """

    code: str
    name: str
    summary: str
    """One line for the catalogue."""
    severity: Severity
    """The most severe that it reports."""
    need: Need
    page: str = ""
    check: Check = _judge_nothing
    options: tuple[Option, ...] = ()
    """Thresholds that a user may set."""
    chosen: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Those that were set, by name."""
    file: str = ""
    """The module that has its page and its check, where these have not been read yet."""
    forced_severity: Severity | None = None
    """The severity that a user gave to everything that the rule reports."""

    @property
    def level(self) -> Severity:
        """The most severe that this rule reports, as it is set."""
        return self.forced_severity or self.severity

    def whole(self) -> Rule:
        """The rule as its file has it, as nobody set it."""
        return _in_file(self.file) if self.file else self

    def judge(self, subject: Subject) -> Iterator[Finding]:
        """What the rule finds, with its options and its severity as they are set."""
        if self.chosen != subject.chosen:
            subject = replace(subject, chosen=self.chosen)
        for finding in self.whole().check(subject):
            if self.forced_severity is None:
                yield finding
            else:
                yield replace(finding, severity=self.forced_severity)

    def finding(
        self,
        *,
        title: str,
        detail: str,
        consequence: str,
        fix: str,
        layers: Sequence[NormLayer | str] = (),
        severity: Severity | None = None,
        confidence: Confidence = Confidence.HIGH,
        evidence: Sequence[Evidence] = (),
        discriminator: str = "",
    ) -> Finding:
        """A finding of this rule, so that no code or name is written twice."""
        return Finding(
            rule=self.code,
            name=self.name,
            severity=severity or self.severity,
            confidence=confidence,
            title=title,
            detail=detail,
            consequence=consequence,
            fix=fix,
            layers=tuple(item if isinstance(item, str) else item.path for item in layers),
            evidence=tuple(evidence),
            discriminator=discriminator,
        )


def mechanics_of(subject: Subject) -> Mechanics:
    """What a few forwards showed, for rules that need a run.

    Raises:
        CannotTell: The model was not run.
    """
    if subject.run is None:
        raise CannotTell("needs a run")
    return subject.run.mechanics


def training_of(subject: Subject) -> TrainingRecord:
    """What a guard saw of the training loop.

    Raises:
        CannotTell: There was no step of an optimizer to see.
    """
    if subject.training is None:
        raise CannotTell("needs a training loop (normcheck.guard)")
    if not subject.training.watched:
        raise CannotTell("the model has no norm with running statistics")
    if not subject.training.steps and not subject.training.incidents:
        raise CannotTell("no step of an optimizer was seen")
    return subject.training


def impossible_statistics(subject: Subject) -> bool:
    """Whether statistics in the file are NaN, infinite or negative: the cause of all that follows.

    Rules on the file name them; rules on outputs need not name the consequence once more.
    """
    for layer in subject.with_statistics():
        for values in (layer.running_mean, layer.running_var):
            if values is not None and not values.finite:
                return True
        if layer.any_negative_variance:
            return True
    return False


def baked_in(subject: Subject, *kinds: Op) -> bool:
    """Whether an export has operators of these kinds in training mode.

    ``train-mode-export`` names them: rules on what a run shows need not name the consequence.
    """
    return any(mode.what in kinds for mode in subject.anatomy.baked if not mode.switchable)


def place(path: str) -> str:
    """A module's path in a sentence; the root has none."""
    return path or "the model's own forward"


def assumed_momentum(layer: NormLayer) -> tuple[float | Momentum, bool]:
    """A layer's momentum, and whether it is known rather than assumed."""
    if layer.momentum is None:
        return DEFAULT_MOMENTUM, False
    return layer.momentum, not layer.momentum_of


def count_is_trusted(layers: Sequence[NormLayer]) -> bool:
    """Whether ``num_batches_tracked`` can describe how these statistics came about.

    A batch variance is never negative, so after n updates with momentum m every
    ``running_var`` is at least ``(1 - m)^n``, the residue of its initial 1. One channel
    below that bound proves that statistics and count have different histories (an
    import, PreciseBN, an EMA), and no finding may rest on the count of this model.
    """
    for layer in layers:
        if layer.running_var is None or layer.batches is None or not layer.batches.whole:
            continue
        momentum, _ = assumed_momentum(layer)
        if isinstance(momentum, Momentum) or not 0 < momentum < 1:
            continue
        bound = (1 - momentum) ** layer.batches.value
        # A relative slack for rounding: n products in float32, or in half precision.
        slack = 1e-2 if layer.running_var.dtype.itemsize <= 2 else 1e-4
        if layer.running_var.size and layer.running_var.lowest < bound * (1 - slack):
            return False
    return True
