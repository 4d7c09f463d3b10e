"""Do running statistics belong to the weights before them? Prediction against what is stored.

For a link A → φ → W → B the mean of B's input follows from A's γ and β, φ and W alone:

    m_i = E[φ(y)],  v_i = Var[φ(y)],  y ~ N(β_i, γ_i²)
    mean_o = b_o + Σ_taps c(tap) Σ_i W[o, i, tap] m_i
    variance_o ≈ Σ W² v   (inputs taken as independent)

c(tap) is the share of output positions at which a tap lies inside the image, with zero
padding (1 - |dy| f)(1 - |dx| f), f about 1/size. φ, f and the strength of a max pooling are
not in a state dict; of a few values the best-fitting is taken, which cannot make unrelated
statistics fit: there are hundreds of channels and a handful of choices.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from normcheck.norms.layer import Confidence, Floats
from normcheck.norms.links import Link, Weights
from normcheck.norms.moments import ACTIVATIONS, POOLS, after_activation, after_prelu

BORDERS = (0.0, 0.03, 0.07, 0.14, 0.25, 0.5)
"""Values of f: images of no border, 32, 16, 8, 4 and 2 pixels."""
FEWEST_CHANNELS = 8
"""Below this a good fit can be chance."""
MOST_OF_A_CHANNEL = 25.0
"""Bound on (mean / standard deviation)² of one channel, so that a nearly constant channel
does not decide for its layer."""
AGREES = 0.8
"""Explained fraction from which a layer's statistics are said to agree with the weights. In
healthy models most links reach 0.9 to 1; unrelated statistics reach 0.2 by chance."""
CONVINCING = 0.9
"""Explained fraction at which no max pooling is looked for."""
WEIGHT_BUDGET = 1 << 28
"""Weights that are read for one model; links beyond it are not judged."""


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """How well one link's prediction agrees with the stored statistics of its target."""

    link: Link
    activation: str
    pool: float
    predicted_mean: Floats
    predicted_variance: Floats
    stored_mean: Floats
    stored_variance: Floats
    explained: float
    """1 - Σ((mean - stored)/σ)² / Σ(stored/σ)²: 1 is perfect, 0 as good as predicting zero."""
    correlation: float
    """Of predicted and stored means over the channels."""
    slope: float
    """Stored means per predicted mean: the factor between them."""
    log_scale: float
    """Median of log(stored variance / predicted variance)."""
    scale_correlation: float
    """Of the logarithms of predicted and stored variances over the channels."""


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """The fits of a model, and what could not be judged."""

    fits: tuple[Fit, ...]
    activation: str
    """The activation that most links are consistent with."""
    unjudged: tuple[tuple[str, str], ...]
    """Norms with statistics that no link predicts, and why."""

    @property
    def likely(self) -> tuple[Fit, ...]:
        """The fits whose links probably exist: only these can speak against a model."""
        return tuple(f for f in self.fits if f.link.recognition.confidence is not Confidence.LOW)

    @property
    def agreeing(self) -> tuple[Fit, ...]:
        """The fits in which prediction and statistics agree, by whatever link."""
        return tuple(fit for fit in self.fits if fit.explained >= AGREES)


def agreement_of(links: tuple[Link, ...], norms: tuple[str, ...]) -> Agreement:
    """Predict the target of every link and compare.

    Args:
        links: Of one model.
        norms: Paths of its norms with statistics, for the list of those not judged.
    """
    reasons = dict.fromkeys(norms, "no norm feeds it directly")
    roles: dict[str, list[Link]] = defaultdict(list)
    spent = 0
    for link in links:
        spent += link.weights.numel
        reason = _cannot_judge(link) or ("beyond the budget" if spent > WEIGHT_BUDGET else "")
        if reason:
            reasons[link.target.path] = reason
        else:
            roles[link.role].append(link)
    fits = [fit for members in roles.values() for fit in _fit_role(members)]
    order = {link.target.path: i for i, link in enumerate(links)}
    fits.sort(key=lambda fit: order[fit.link.target.path])
    judged = {fit.link.target.path for fit in fits}
    named = [fit.activation for fit in fits if fit.explained > 0.5]
    usual = max(set(named), key=lambda name: (named.count(name), name)) if named else ""
    return Agreement(
        tuple(fits), usual, tuple((p, r) for p, r in reasons.items() if p not in judged)
    )


def _fit_role(links: list[Link]) -> list[Fit]:
    """Fits of the links at one place of a model's blocks, which share their activation."""
    candidates = [_Candidates(link, (1.0,)) for link in links]
    scores = np.median([c.best_by_activation() for c in candidates], axis=0)
    if scores.max() < CONVINCING and all(_has_room_for_pooling(link) for link in links):
        candidates = [_Candidates(link, POOLS) for link in links]
        scores = np.median([c.best_by_activation() for c in candidates], axis=0)
    chosen = _first_best(scores)
    return [candidate.fit(chosen) for candidate in candidates]


def _has_room_for_pooling(link: Link) -> bool:
    """Whether a max pooling could stand in the link: a Sequential without a gap has no room."""
    certain = link.recognition.confidence is Confidence.HIGH
    return link.slopes is None and not (certain and link.role.endswith((" +1", " +2")))


def _first_best(scores: Floats) -> int:
    """The first of the candidates that is as good as the best, within a hundredth."""
    return int(np.argmax(scores >= scores.max() - 0.01))


def _cannot_judge(link: Link) -> str:
    target = link.target
    mean, variance = target.running_mean, target.running_var
    if mean is None or variance is None or mean.size < FEWEST_CHANNELS:
        return f"fewer than {FEWEST_CHANNELS} channels"
    if not (np.isfinite(mean.numbers).all() and np.isfinite(variance.numbers).all()):
        return "its statistics are not finite"
    if (mean.numbers >= 0).all() and (variance.numbers >= 0).all():
        # conv → activation → norm: means of rectified values, which a link does not predict.
        return "its means are those of rectified values: the norm stands behind the activation"
    return ""


class _Candidates:
    """One link under every hypothesis: activations × poolings × borders."""

    def __init__(self, link: Link, pools: tuple[float, ...]) -> None:
        self.link = link
        source = link.source
        channels = source.features or 0
        gamma = source.weight.numbers if source.weight else np.ones(channels)
        beta = source.bias.numbers if source.bias else np.zeros(channels)
        self.pools = pools
        if link.slopes is not None:
            slopes = np.asarray(link.slopes.values(), dtype=np.float64).reshape(-1)
            self.names: tuple[str, ...] = ("PReLU",)
            moments = [after_prelu(gamma, beta, slopes)]
        else:
            self.names = tuple(ACTIVATIONS)
            moments = [
                after_activation(gamma, beta, function, self.pools)
                for function in ACTIVATIONS.values()
            ]
        means = np.concatenate([mean for mean, _ in moments], axis=1)
        variances = np.concatenate([variance for _, variance in moments], axis=1)
        bias = np.zeros(link.target.features or 0)
        if link.bias is not None and link.bias.readable:
            bias = np.asarray(link.bias.values(), dtype=np.float64).reshape(-1)
        weights = np.asarray(link.weights.values(), dtype=np.float64)
        weights = weights.reshape(*weights.shape[:2], -1)
        taps = _by_tap(link, weights, means)
        shape = link.weights.shape[2:]
        shares = np.stack([_shares(shape, border).reshape(-1) for border in BORDERS], axis=1)
        # One mean for each channel, hypothesis and border.
        self.mean = np.einsum("oth,tf->ohf", taps, shares) + bias[:, None, None]
        self.variance = _by_tap(link, weights**2, variances).sum(axis=1)
        self._explained: Floats | None = None

    def explained(self) -> Floats:
        """Explained fractions, of shape (activations, poolings, borders)."""
        if self._explained is None:
            stored, weight = _weighted(self.link)
            missed = ((self.mean - stored[:, None, None]) ** 2 * weight[:, None, None]).sum(axis=0)
            total = max(float((stored**2 * weight).sum()), 1e-12)
            self._explained = (1.0 - missed / total).reshape(
                len(self.names), len(self.pools), len(BORDERS)
            )
        return self._explained

    def best_by_activation(self) -> Floats:
        """The best explained fraction that each activation reaches, at least -1."""
        best: Floats = np.maximum(self.explained().max(axis=(1, 2)), -1.0)
        return best

    def fit(self, activation: int) -> Fit:
        """The best fit under one activation."""
        scores = self.explained()[activation]
        pool, border = np.unravel_index(int(np.argmax(scores)), scores.shape)
        hypothesis = activation * len(self.pools) + int(pool)
        mean = self.mean[:, hypothesis, int(border)]
        variance = self.variance[:, hypothesis]
        stored, weight = _weighted(self.link)
        target = self.link.target
        assert target.running_var is not None  # noqa: S101  (links have both statistics)
        stored_variance = target.running_var.numbers
        both = (stored_variance > 0) & (variance > 0)
        logs = np.log(stored_variance[both]), np.log(variance[both])
        energy = max(float((mean**2 * weight).sum()), 1e-12)
        return Fit(
            link=self.link,
            activation=self.names[activation],
            pool=self.pools[int(pool)],
            predicted_mean=mean,
            predicted_variance=variance,
            stored_mean=stored,
            stored_variance=stored_variance,
            explained=float(scores[pool, border]),
            correlation=_correlation(mean, stored, weight),
            slope=float((mean * stored * weight).sum()) / energy,
            log_scale=float(np.median(logs[0] - logs[1])) if both.any() else 0.0,
            scale_correlation=_correlation(*logs, np.ones(int(both.sum()))),
        )


def _weighted(link: Link) -> tuple[Floats, Floats]:
    """Stored means, and the weight of each channel: 1/σ², bounded."""
    mean, variance = link.target.running_mean, link.target.running_var
    assert mean is not None  # noqa: S101  (links have both statistics)
    assert variance is not None  # noqa: S101
    positive = np.maximum(variance.numbers, 0.0)
    # A thousandth of the usual variance: a constant channel has no unit of its own.
    floor = 1e-3 * float(np.sort(positive)[positive.size // 2]) + 1e-12
    weight = 1.0 / (positive + floor)
    bound = MOST_OF_A_CHANNEL / np.maximum(mean.numbers**2, 1e-300)
    return mean.numbers, np.minimum(weight, bound)


def _correlation(a: Floats, b: Floats, weight: Floats) -> float:
    total = float(weight.sum())
    if a.size < 2 or total <= 0:
        return 0.0
    da, db = a - (a * weight).sum() / total, b - (b * weight).sum() / total
    spread = float(np.sqrt((da**2 * weight).sum() * (db**2 * weight).sum()))
    return float((da * db * weight).sum()) / spread if spread > 0 else 0.0


def _shares(shape: tuple[int, ...], border: float) -> Floats:
    """Share of output positions at which each tap of a kernel lies inside the image."""
    shares: Floats = np.ones(())
    for length in shape:
        distance = np.abs(np.arange(length) - (length - 1) / 2)
        inside = np.clip(1.0 - distance * border, 0.0, 1.0)
        shares = np.asarray(np.multiply.outer(shares, inside))
    return shares


def _by_tap(link: Link, weights: Floats, columns: Floats) -> Floats:
    """Weights times input, kept apart by tap: shape (out channels, taps, columns)."""
    if link.kind is Weights.DEPTHWISE:
        single: Floats = np.einsum("ot,oh->oth", weights[:, 0], columns)
        return single
    if link.kind is Weights.TRANSPOSED:
        # Each output position sees every second tap per dimension at the usual stride of 2;
        # with stride 1 the slope shows it.
        weights = weights.transpose(1, 0, 2) / 2 ** (link.weights.ndim - 2)
    out, inner, taps = weights.shape
    groups = columns.shape[0] // inner
    blocks = weights.reshape(groups, out // groups, inner, taps)
    inputs = columns.reshape(groups, inner, -1)
    result: Floats = np.einsum("goit,gih->goth", blocks, inputs, optimize=True).reshape(
        out, taps, -1
    )
    return result
