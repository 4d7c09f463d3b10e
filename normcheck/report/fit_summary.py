"""How a model's statistics fit its weights, reduced to what reports show."""

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.belonging.agreement import ROUGHLY, Agreement
from normcheck.norms.belonging.fit import Fit
from normcheck.norms.belonging.fit_places import AGREES
from normcheck.often_made import often_made


@often_made()
class LinkSummary:
    """One link: the norm before, the weights between, the norm whose statistics are predicted."""

    source: str
    weights: str
    target: str
    kind: str
    confidence: str
    """How sure it is that the link exists."""
    reason: str
    activation: str
    """The one that fits best."""
    pool: float
    """Values that a max pooling seems to choose from; 1 is none."""
    explained: float
    correlation: float
    slope: float
    log_scale: float
    predicted: tuple[float, ...] = ()
    """Predicted means in units of the stored standard deviation, where a figure is wanted."""
    stored: tuple[float, ...] = ()


@lazy_dataclass()
class AgreementSummary:
    """The positive reading: in which layers statistics and weights agree."""

    activation: str
    explained: float
    """Median explained fraction over the agreeing layers."""
    agreeing: tuple[str, ...]
    unjudged: tuple[tuple[str, str], ...]
    """Layers about which the weights say nothing, and why."""
    links: tuple[LinkSummary, ...]


def summarise_agreement(agreement: Agreement, *, keep_values: bool) -> AgreementSummary:
    """Reduce an agreement to plain values.

    Args:
        agreement: Of one model.
        keep_values: Keep predicted and stored means of every channel, for a figure.
    """
    agreeing = sorted(fit.explained for fit in agreement.agreeing)
    # Of a norm behind a sum the link that explains it is shown, not the one that misses the sum.
    sums = {fit.link.target.path: fit for fit in agreement.by_sums}
    plain = [fit for fit in agreement.fits if fit.link.target.path not in sums]
    # A link that fits nothing and may not exist says nothing about its layer.
    doubtful = tuple(
        (
            fit.link.target.path,
            ROUGHLY
            if fit.link.rectified
            else f"its link is a guess: {fit.link.recognition.reason}",
        )
        for fit in plain
        if fit.explained < AGREES and fit not in agreement.likely
    )
    return AgreementSummary(
        activation=agreement.activation,
        explained=agreeing[len(agreeing) // 2] if agreeing else 0.0,
        agreeing=tuple(fit.link.target.path for fit in agreement.agreeing),
        unjudged=(*(one for one in agreement.unjudged if one[0] not in sums), *doubtful),
        links=tuple(_link(fit, keep_values=keep_values) for fit in (*plain, *agreement.by_sums)),
    )


def _link(fit: Fit, *, keep_values: bool) -> LinkSummary:
    predicted: tuple[float, ...] = ()
    stored: tuple[float, ...] = ()
    if keep_values:
        # The unit of a channel is its own stored deviation, as in the explained fraction.
        unit = (abs(fit.stored_variance) + 1e-3 * abs(fit.stored_variance).mean() + 1e-12) ** 0.5
        predicted = tuple((fit.predicted_mean / unit).tolist())
        stored = tuple((fit.stored_mean / unit).tolist())
    return LinkSummary(
        source=fit.link.source.path,
        weights=fit.link.weights_path,
        target=fit.link.target.path,
        kind=fit.link.kind.value,
        confidence=fit.link.recognition.confidence.value,
        reason=fit.link.recognition.reason,
        activation=fit.activation,
        pool=fit.pool,
        explained=fit.explained,
        correlation=fit.correlation,
        slope=fit.slope,
        log_scale=fit.log_scale,
        predicted=predicted,
        stored=stored,
    )
