"""What a run showed, reduced to what reports say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass

if TYPE_CHECKING:
    from normcheck.live.measurement import Drift, Fed, NoiseAt, Regime, Run
    from normcheck.norms.layer import Floats


@lazy_dataclass()
class DriftSummary:
    """One layer's stored statistics against those of the data."""

    path: str
    shift: float
    """Median over channels of |mean of the data - running_mean|, in standard deviations."""
    factor: float
    """Median over channels of variance of the data over running_var."""
    off: float
    """Share of channels that lie provably and materially off."""
    closes: float | None
    """Share of the gap in outputs that this layer closes; None where it was not tried alone."""


@lazy_dataclass()
class RunSummary:
    """The run of one model."""

    fed: Fed
    allclose: bool | None
    """``torch.allclose`` of the outputs in train mode without dropout and in eval mode."""
    largest_difference: float | None
    """Between the same."""
    mode_dependent: bool
    """Whether a norm that ran differs between the modes."""
    regimes: tuple[Regime, ...]
    noise: tuple[NoiseAt, ...]
    drifts: tuple[DriftSummary, ...]
    forwards: int
    residual: float | None
    notes: tuple[str, ...]
    verdict: str = ""
    """What was found of the stored statistics: a :class:`normcheck.rules.data_verdict.Harm`."""
    words: str = ""
    """The numbers that it rests on, in a sentence or two."""
    right: float | None = None
    """Share of the labels that eval mode answers right; None where nothing was counted."""
    chance: float = 0.0
    """Share that guessing answers right."""
    one_class: bool = False
    """Whether the labels are nearly all of one class."""
    labels_decide: bool = False
    """Whether labels, and not only how clear decisions are, told which statistics are right."""
    dry: bool = False
    """Whether it only said what holding the model against the data would cost."""


def summarise_run(run: Run) -> RunSummary:
    """Reduce a run to plain values."""
    from normcheck.live.hits import ONE_CLASS  # most scans run nothing
    from normcheck.rules.data_verdict import verdict

    data, seen = run.against_data, run.mechanics
    closes = {c.path: c.share for c in data.closings} if data else {}
    found = verdict(run)
    answers = data.answers if data else None
    return RunSummary(
        fed=run.fed,
        allclose=seen.modes_allclose,
        largest_difference=seen.mode_absolute,
        mode_dependent=any(
            n.training for n in (*seen.norms, *seen.train_norms) if not n.per_sample
        ),
        regimes=data.regimes if data else (),
        noise=data.noise if data else (),
        drifts=tuple(_drift(d, closes.get(d.path)) for d in data.drifts) if data else (),
        forwards=run.forwards,
        residual=data.residual if data and data.drifts else None,
        notes=(*run.notes, *seen.notes, *(data.notes if data else ())),
        verdict=found.harm.value if found else "",
        words=found.text if found else "",
        right=answers.right / answers.samples if answers else None,
        chance=answers.chance if answers else 0.0,
        one_class=answers is not None and answers.most_frequent >= ONE_CLASS,
        labels_decide=run.fed.labelled,
        dry=run.dry,
    )


def _drift(drift: Drift, closes: float | None) -> DriftSummary:
    from normcheck.rules.channels_off import share_off

    return DriftSummary(
        path=drift.path,
        shift=_median(np.abs(drift.shift)),
        factor=float(np.exp(min(_median(drift.log_scale), 700.0))),
        off=share_off(drift),
        closes=closes,
    )


def _median(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(np.sort(known)[known.size // 2]) if known.size else float("nan")
