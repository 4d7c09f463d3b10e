"""Keyword arguments by the words of the flags, as the values that runs are given."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from normcheck.config.examination import Examination
from normcheck.config.policy import Policy
from normcheck.errors import UsageError
from normcheck.findings import Confidence, Severity
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.run_request import MORE_SAMPLES, SAMPLES, Feeding, Loading, Running
from normcheck.pipeline.given import check_kinds
from normcheck.rules.catalogue import select as selected

if TYPE_CHECKING:
    from torch import nn

    Model = str | Callable[..., nn.Module] | nn.Module
    """``pkg.mod:factory``; a function or class that makes the model; or a model of the same
    architecture, which is copied."""

Words = str | Iterable[str]
"""One word, or several."""


def words_of(given: Words | None) -> list[str]:
    """The words in what was given; commas part them, as on the command line."""
    several = [given] if isinstance(given, str) else list(given or ())
    return [word.strip() for text in several for word in text.split(",") if word.strip()]


def settings_of(
    examination: Examination | None,
    policy: Policy | None,
    select: Words | None,
    ignore: Words | None,
    fail_on: str | None,
    min_severity: str | None,
    min_confidence: str | None,
) -> tuple[Examination, Policy]:
    """The settings that keyword arguments ask for.

    Args:
        examination: What they change; None for the defaults.
        policy: Likewise.
        select: Rules.
        ignore: Rules.
        fail_on: A severity.
        min_severity: A severity.
        min_confidence: A confidence.

    Raises:
        UsageError: A word is none, or a value is of another kind.
    """
    check_kinds(examination, policy)
    asked, wanted = examination or Examination(), policy or Policy()
    if select is not None or ignore is not None:
        chosen = words_of(select) if select is not None else ["ALL"]
        rules = selected(chosen, words_of(ignore))
        mine = {rule.code: rule for rule in asked.rules}
        # Thresholds that were set stay set.
        asked = replace(asked, rules=tuple(mine.get(rule.code, rule) for rule in rules))
    if fail_on is not None:
        wanted = replace(wanted, fail_on=_one_of(Severity, fail_on, "fail_on"))
    if min_severity is not None:
        least = _one_of(Severity, min_severity, "min_severity")
        wanted = replace(wanted, min_severity=least)
    if min_confidence is not None:
        sure = _one_of(Confidence, min_confidence, "min_confidence")
        wanted = replace(wanted, min_confidence=sure)
    return asked, wanted


def _one_of(kind: Any, word: str, name: str) -> Any:
    try:
        return kind(word)
    except ValueError as error:
        raise UsageError(
            f"{name}: {word!r:.60} is none of {', '.join(kind)}",
            "as the flag of that name takes it",
        ) from error


def shapes_of(given: str | Iterable[str] | Iterable[int] | None) -> tuple[str, ...]:
    """Shapes of made-up inputs, as the flag takes them.

    Args:
        given: One as text, ``"3x224x224"``, or as Python has it, ``(3, 224, 224)``; or several
            texts, one for each input.

    Raises:
        UsageError: It is neither.
    """
    if given is None or isinstance(given, str):
        return () if given is None else (given,)
    # What callers give who check no types: a number alone, shapes within a list.
    value: object = given
    several = list(value) if isinstance(value, Iterable) else [value]
    if several and all(type(size) is int for size in several):
        return ("x".join(map(str, several)),)
    texts = tuple(shape for shape in several if isinstance(shape, str))
    if len(texts) < len(several):
        raise UsageError(
            f"input_shape: {given!r:.60} is no shape",
            "for example '3x224x224' or (3, 224, 224); for several inputs a list of such texts",
        )
    return texts


@lazy_dataclass()
class RunWords:
    """Everything that a run can be asked for."""

    model: Model | None = None
    model_args: Mapping[str, Any] | list[Any] | None = None
    data: Any = None
    input_shape: str | Iterable[str] | Iterable[int] | None = None
    batch_size: int = 0
    samples: int | None = None
    """None for as many as a scan takes: more where the first leave its verdict open."""
    device: str = "cpu"
    autocast: str = ""
    prefix: str | None = None
    at: Words | None = None
    trust: bool = False

    @property
    def asks(self) -> bool:
        """Whether anything of it needs a run."""
        return (
            self.model is not None
            or self.data is not None
            or self.input_shape is not None
            or self.trust
        )

    def running(self, base: Running | None = None) -> Running:
        """The run.

        Args:
            base: What it changes.
        """
        before = base or Running()
        return replace(
            before,
            loading=Loading(
                model=factory_of(self.model),
                arguments=self.model_args if self.model_args is not None else {},
                prefix=self.prefix,
                where=tuple(words_of(self.at)),
                trust=self.trust,
            ),
            feeding=Feeding(
                data=self.data,
                shapes=shapes_of(self.input_shape),
                batch_size=self.batch_size,
                samples=SAMPLES if self.samples is None else self.samples,
                more_samples=MORE_SAMPLES if self.samples is None else 0,
            ),
            device=self.device,
            autocast=self.autocast,
        )


def factory_of(model: Model | None) -> str | Callable[..., Any]:
    """The factory that a model's word stands for; of a live model one that copies it.

    Raises:
        UsageError: It is none.
    """
    if model is None or isinstance(model, str):
        return model or ""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        return lambda: copy.deepcopy(model)
    if not callable(model):
        raise UsageError(
            f"model: a {type(model).__name__} is no factory",
            "give pkg.mod:factory, a function or class that makes the model, or the model",
        )
    return model
