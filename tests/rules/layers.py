"""Hand-made norm layers and models: rules are tested without torch and without files."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from normcheck.findings import Finding
from normcheck.norms.anatomy import Anatomy
from normcheck.norms.kinds import BY_NAME as KINDS
from normcheck.norms.kinds import Family, NormKind
from normcheck.norms.layer import (
    BatchCount,
    Confidence,
    NormLayer,
    PowerIteration,
    Recognition,
    Values,
)
from normcheck.norms.traces.bias_trace import BiasTrace
from normcheck.norms.traces.gradient_trace import GradientTrace
from normcheck.rules.catalogue import find
from normcheck.rules.rule import Need, Subject
from normcheck.saved.clocks import Clock
from normcheck.saved.dtypes import BY_NAME as DTYPES

CHANNELS = 8
CERTAIN = Recognition(Confidence.HIGH, "made by hand")

MEANS = np.linspace(-0.6, 0.5, CHANNELS)
VARIANCES = np.linspace(0.3, 1.7, CHANNELS)
GAMMAS = np.linspace(0.7, 1.2, CHANNELS)
BETAS = np.linspace(-0.2, 0.3, CHANNELS)
"""What training leaves: no two channels alike."""


def values(
    numbers: Iterable[float], dtype: str = "float32", requires_grad: bool | None = None
) -> Values:
    """The numbers as a tensor stores them, with what its type makes of them."""
    stored = np.asarray(list(numbers), dtype=np.float64)
    if dtype in ("float16", "float32"):
        with np.errstate(over="ignore"):
            stored = stored.astype(dtype).astype(np.float64)
    return Values(stored, DTYPES[dtype], requires_grad)


def constant(value: float, size: int = CHANNELS, dtype: str = "float32") -> Values:
    """One value in every channel."""
    return values([value] * size, dtype)


def count(value: float, dtype: str = "int64") -> BatchCount:
    """``num_batches_tracked``."""
    return BatchCount(value, DTYPES[dtype])


def kind(name: str) -> NormKind:
    """A kind of the table, by its name."""
    return KINDS[name]


def batch_norm(path: str = "bn", **changes: Any) -> NormLayer:
    """A trained BatchNorm2d as a state dict shows it, 1,000 batches old."""
    layer = NormLayer(
        path=path,
        kind=kind("BatchNorm2d"),
        recognition=CERTAIN,
        features=CHANNELS,
        running_mean=values(MEANS),
        running_var=values(VARIANCES),
        batches=count(1000),
        weight=values(GAMMAS),
        bias=values(BETAS),
    )
    return replace(layer, **changes)


def reset_norm(path: str = "bn", batches: int | None = 0, **changes: Any) -> NormLayer:
    """A BatchNorm with trained γ and β whose statistics are at 0 and 1."""
    return batch_norm(
        path,
        **{
            "running_mean": constant(0.0),
            "running_var": constant(1.0),
            "batches": None if batches is None else count(batches),
            **changes,
        },
    )


def new_norm(path: str = "bn", **changes: Any) -> NormLayer:
    """A BatchNorm as its constructor leaves it."""
    return reset_norm(path, **{"weight": constant(1.0), "bias": constant(0.0), **changes})


def module_norm(path: str = "bn", **changes: Any) -> NormLayer:
    """A trained BatchNorm2d of a whole saved module, in eval mode."""
    return batch_norm(
        path,
        **{
            "class_path": "torch.nn.modules.batchnorm.BatchNorm2d",
            "training": False,
            "eps": 1e-5,
            "momentum": 0.1,
            "affine": True,
            "track_running_stats": True,
            **changes,
        },
    )


def frozen_norm(path: str = "bn", **changes: Any) -> NormLayer:
    """A FrozenBatchNorm2d, which has statistics and no count."""
    return batch_norm(path, **{"kind": kind("FrozenBatchNorm2d"), "batches": None, **changes})


def plain_norm(path: str = "norm", name: str = "LayerNorm", **changes: Any) -> NormLayer:
    """A trained norm without statistics, by default a LayerNorm."""
    return batch_norm(
        path,
        **{
            "kind": kind(name),
            "running_mean": None,
            "running_var": None,
            "batches": None,
            **changes,
        },
    )


def model(*layers: NormLayer, modules: bool = False, **changes: Any) -> Anatomy:
    """A model of these layers; ``modules`` where the file has the module tree."""
    return replace(Anatomy(where="", layers=layers, has_modules=modules), **changes)


def copy_of(where: str, *layers: NormLayer) -> Anatomy:
    """Another model of the same file."""
    return model(*layers, where=where)


def spectral(path: str = "conv", dtype: str = "float32", **vectors: Iterable[float]) -> Any:
    """The vectors of a spectral normalization."""
    return PowerIteration(path, {name: values(v, dtype) for name, v in vectors.items()})


def judge(
    name: str,
    *layers: NormLayer,
    siblings: tuple[Anatomy, ...] = (),
    optimizer_steps: int | None = None,
    alone: bool = True,
    clocks: tuple[Clock, ...] = (),
    trace: GradientTrace | None = None,
    biases: BiasTrace | None = None,
    **anatomy: Any,
) -> list[Finding]:
    """What one rule finds in a model of these layers.

    Also holds every finding against what its rule says of itself.
    """
    rule = find(name)
    modules = anatomy.pop("modules", rule.need is Need.MODULES)
    subject = Subject(
        model(*layers, modules=modules, **anatomy),
        siblings=siblings,
        optimizer_steps=optimizer_steps,
        alone=alone,
        clocks=clocks,
        gradients=lambda _paths: trace,
        biases=lambda _paths: biases,
    )
    found = list(rule.judge(subject))
    for finding in found:
        assert (finding.rule, finding.name) == (rule.code, rule.name)
        assert finding.severity.rank <= rule.severity.rank
        assert finding.title
        assert finding.detail
        assert finding.consequence
        assert finding.fix
        assert not finding.title.endswith(".")
    assert len({(f.layers, f.discriminator) for f in found}) == len(found)
    return found


def only(found: list[Finding]) -> Finding:
    """The one finding."""
    assert len(found) == 1, [finding.title for finding in found]
    return found[0]


def evidence(finding: Finding) -> dict[str, float | str]:
    """The measured numbers by name."""
    return {item.name: item.value for item in finding.evidence}


def thresholds(finding: Finding) -> dict[str, float | str | None]:
    """What the numbers were held against, by name."""
    return {item.name: item.threshold for item in finding.evidence}


HEALTHY = {
    "a trained model": model(batch_norm("bn1"), batch_norm("bn2")),
    "a whole module in eval mode": model(
        module_norm("bn1"), module_norm("bn2"), modules=True, training=False, trainable=True
    ),
    "an import without a count": model(batch_norm("bn1", batches=count(0)), batch_norm("bn2")),
    "a checkpoint older than the count": model(batch_norm("bn1", batches=None)),
    "a frozen backbone": model(frozen_norm("body.bn1"), plain_norm("head.norm", "GroupNorm")),
    "a transformer": model(plain_norm("ln_1"), plain_norm("ln_2")),
    "half precision": model(
        batch_norm(
            running_mean=values(MEANS, "float16"),
            running_var=values(VARIANCES, "float16"),
            weight=values(GAMMAS, "float16"),
            bias=values(BETAS, "float16"),
        )
    ),
    "a normalised input": model(
        batch_norm(running_mean=constant(1e-7), running_var=constant(1.0000001))
    ),
    "genuine large variances": model(batch_norm(running_var=values(1e7 * VARIANCES))),
    "a model without norms": model(),
}
"""Models that no rule may say anything about."""

__all__ = [
    "BETAS",
    "CHANNELS",
    "GAMMAS",
    "HEALTHY",
    "MEANS",
    "VARIANCES",
    "Family",
    "batch_norm",
    "constant",
    "copy_of",
    "count",
    "evidence",
    "frozen_norm",
    "judge",
    "kind",
    "model",
    "module_norm",
    "new_norm",
    "only",
    "plain_norm",
    "reset_norm",
    "spectral",
    "thresholds",
    "values",
]
