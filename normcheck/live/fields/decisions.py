"""Decisions on smooth random images: under the stored statistics and under others.

Random images are near no class, so the share of decisions that change is no verdict: of healthy
networks up to 78 % do. It ranks damage within one architecture (AUC 0.97 to 1.00).
"""

from dataclasses import field

from torch import Tensor

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.batches import Batch, Feed
from normcheck.live.decided_on_fields import DecidedOnFields, Exchanged
from normcheck.live.feeding.feed import IMAGE, ImageShape, image_shape
from normcheck.live.fields.fitted_field import Field, likeliest_field, usual_field
from normcheck.live.watching.batch_norm_call import BatchNormCall
from normcheck.live.watching.forward import Interrupted, RegimeOutputs
from normcheck.live.watching.input_moments import Collected
from normcheck.live.watching.outputs import flips
from normcheck.live.watching.regimes import Regimes
from normcheck.live.watching.seen import CallSite

_PIXELS = 1 << 21
"""Of one channel over all images, which are one batch."""
_FEWEST, _MOST = 16, 256
"""Images."""
_CONVOLUTIONAL = 0.5
"""Share of the norms, at least, that stand behind convolutions over a plane."""

_LIKE_HEALTHY = 0.5
"""Share of decisions below which a few images say enough."""


@lazy_dataclass(frozen=False, eq=False)
class Looked:
    """What runs in one model, in its order, and what it has stored."""

    collected: Collected = field(default_factory=lambda: Collected(measures=False))
    dimensions: dict[CallSite, int] = field(default_factory=dict)
    """Of the input of each norm that eval mode gives stored statistics."""

    @property
    def first(self) -> CallSite | None:
        """The first norm, where it has stored statistics other than the initial 0 and 1."""
        place = next(iter(self.collected.eps), None)
        if place is None or place not in self.collected.stored:
            return None
        mean, variance = self.collected.stored[place]
        return None if not bool(mean.any()) and bool((variance == 1).all()) else place

    @property
    def convolutional(self) -> bool:
        """Whether most norms, the first among them, stand behind convolutions over a plane."""
        flat = sum(count != IMAGE for count in self.dimensions.values())
        first = next(iter(self.dimensions.values()), 0)
        return first == IMAGE and few_are_flat(flat, len(self.dimensions))


def few_are_flat(flat: int, norms: int) -> bool:
    """Whether random images say enough of a model of whose norms so many are over no plane."""
    return flat <= (1 - _CONVOLUTIONAL) * norms


def looked_at(regimes: Regimes, x: Tensor) -> Looked:
    """What a forward of ``x`` runs.

    Raises:
        Interrupted: The forward raised.
    """
    looked = Looked()

    def how(call: BatchNormCall) -> None:
        looked.collected.take(call)
        if call.place in looked.collected.stored:
            looked.dimensions.setdefault(call.place, call.input.ndim)

    for _ in regimes.run((Batch((x,)),), how):
        pass
    return looked


def decided_on_fields(regimes: Regimes, shape: ImageShape, seed: int) -> DecidedOnFields | None:
    """The share of decisions that change with statistics re-estimated on random images.

    By a few of them, where fewer change than in many healthy networks; else by all.

    Args:
        regimes: Runs the model.
        shape: Of its input.
        seed: Of the random numbers.

    Returns:
        None where the norms do not stand behind convolutions, or the output decides nothing.

    Raises:
        Interrupted: A forward raised.
    """
    looked = looked_at(regimes, usual_field(shape).drawn(2, seed))
    if not looked.convolutional:
        return None
    images = likeliest_field(regimes, looked.collected, looked.first, shape)
    every = _fed(images, seed)
    few = every.part(range(0, every.samples, max(1, every.samples // _FEWEST)))
    fed, changed = few, _changed(regimes, few)
    if changed is not None and changed >= _LIKE_HEALTHY:
        fed, changed = every, _changed(regimes, every)
    if changed is None:
        return None
    return DecidedOnFields(changed, fed.samples, _words(shape), _fitted(images, looked))


def _changed(regimes: Regimes, fed: Feed) -> float | None:
    """Share of the decisions that change with the statistics of one batch."""
    return flips(regimes.stored(fed).mains, regimes.batch(fed).mains)


def exchanged(old: Regimes, new: Regimes, feed: Feed, seed: int) -> Exchanged | None:
    """How many decisions differ between two models, and how many by the statistics alone.

    Args:
        old: Runs the one.
        new: Runs the other.
        feed: What both take; on made-up input of images, smooth random ones take its place.
        seed: Of the random numbers.

    Returns:
        None where their norms are not the same, where the outputs decide nothing, and on made-up
        input that is no image.
    """
    try:
        return _on_data(old, new, feed) if feed.real else _on_fields(old, new, feed, seed)
    except Interrupted:
        return None  # what the user asked for was answered without it


def _on_data(old: Regimes, new: Regimes, feed: Feed) -> Exchanged | None:
    seen = Collected(measures=False), Collected(measures=False)
    outputs = old.stored(feed, seen[0]), new.stored(feed, seen[1])
    found = _shares(old, new, feed, seen, outputs)
    return None if found is None else Exchanged(feed.samples, feed.source, True, *found)


def _on_fields(old: Regimes, new: Regimes, feed: Feed, seed: int) -> Exchanged | None:
    shape = image_shape(feed)
    if shape is None:
        return None
    few = usual_field(shape).drawn(2, seed)
    looked = looked_at(old, few), looked_at(new, few)
    if not (looked[0].convolutional and looked[1].convolutional):
        return None
    # Of two first norms the one that fits a field tells it; the old one where both do.
    images, of = usual_field(shape), looked[0]
    for regimes, of in zip((old, new), looked, strict=True):
        images = likeliest_field(regimes, of.collected, of.first, shape)
        if images.fitted:
            break
    fed = _fed(images, seed)
    seen = looked[0].collected, looked[1].collected
    outputs = old.stored(fed), new.stored(fed)
    found = _shares(old, new, fed, seen, outputs)
    if found is None:
        return None
    return Exchanged(
        fed.samples,
        f"smooth random images ({_words(shape)}{_guess(feed)})",
        False,
        *found,
        flips(outputs[0].mains, old.batch(fed).mains),
        flips(outputs[1].mains, new.batch(fed).mains),
        _fitted(images, of),
    )


def _shares(
    old: Regimes,
    new: Regimes,
    feed: Feed,
    seen: tuple[Collected, Collected],
    outputs: tuple[RegimeOutputs, RegimeOutputs],
) -> tuple[float, float, float] | None:
    """Decisions that differ, and those that change of each with the other's statistics."""
    ours, theirs = (found.stored for found in seen)
    alike = list(ours) == list(theirs) and all(
        ours[place][0].shape == theirs[place][0].shape for place in ours
    )
    if not ours or not alike:
        return None
    differ = flips(outputs[0].mains, outputs[1].mains)
    if differ is None:
        return None
    first = flips(outputs[0].mains, old.given(feed, theirs).mains)
    second = flips(outputs[1].mains, new.given(feed, ours).mains)
    return None if first is None or second is None else (differ, first, second)


def _fed(images: Field, seed: int) -> Feed:
    _, high, wide = images.shape
    count = min(_MOST, max(_FEWEST, _PIXELS // (high * wide)))
    return Feed((Batch((images.drawn(count - count % 2, seed),)),), "", real=False)


def _fitted(images: Field, looked: Looked) -> str:
    return looked.first.path if images.fitted and looked.first is not None else ""


def _guess(feed: Feed) -> str:
    if not feed.guessed:
        return ""
    return f", a guess from {feed.guessed_from or 'trial alone'}"


def _words(shape: ImageShape) -> str:
    return "x".join(map(str, shape))
