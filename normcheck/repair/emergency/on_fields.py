"""The statistics of one model of a file, estimated on random fields instead of data."""

from dataclasses import field, replace

import torch
from torch import Tensor, nn

from normcheck.errors import NormcheckError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.batches import Batch, Feed
from normcheck.live.feeding.feed import IMAGE, ImageShape, feed_for, image_shape
from normcheck.live.fields.decisions import few_are_flat
from normcheck.live.fields.fitted_field import GREY, Field, likeliest_field
from normcheck.live.loading.model_factory import Fitting
from normcheck.live.run_request import Feeding, Running
from normcheck.live.scores.regime_comparison import regime
from normcheck.live.watching.batch_norm_call import BatchNormCall
from normcheck.live.watching.forward import Forward
from normcheck.live.watching.input_moments import Collected
from normcheck.live.watching.own_values import address_of
from normcheck.live.watching.regimes import Regimes
from normcheck.live.watching.seen import CallSite
from normcheck.repair.emergency.objections import AS_HEALTHY, OF_FEW, objections
from normcheck.repair.emergency.permission import (
    GIVE_DATA,
    Accused,
    in_words,
    only_mildly_off,
)
from normcheck.repair.emergency.trained_with import shown_lost
from normcheck.repair.estimating.changed_tensors import place_in_file
from normcheck.repair.estimating.estimate import Estimate, Estimates, Estimator, Tracked
from normcheck.repair.estimating.prepared_model import prepared
from normcheck.repair.repair_request import Fixing
from normcheck.repair.repair_result import Emergency, ModelRepair, Proof
from normcheck.saved.checkpoint import Checkpoint, SavedModel
from normcheck.wording import part, percent

_VALUES = 1 << 20
"""Of one channel over all fields."""
_FEWEST, _MOST = 64, 256
"""Fields to estimate from, where the user does not say how many."""
_PIXELS = 1 << 18
"""Of one channel over the fields that are fed at once: small ones all together, which takes two
passes; where they take several batches, each pass makes one more layer exact."""
_FEWEST_AT_ONCE = 16
_JUDGES = 128
"""Fields on which decisions are compared."""
_AS_STORED = 0.2
"""Root mean square over the channels of a norm by which new means lie from the stored ones, in
deviations, below which the fields vouch for them, and statistics that are only unlike the weights
stay: as of 99 in 100 of 168 healthy norms behind the first (half are within 0.08). Of the first one
means tell nothing, as images have mean 0."""
_NOTHING = 1e-12


def estimated_on_fields(
    checkpoint: Checkpoint, saved: SavedModel, how: Fixing, accused: Accused
) -> ModelRepair:
    """Estimate statistics that are lost or foreign on smooth random fields.

    Args:
        checkpoint: The file, open.
        saved: The model in it.
        how: What the user wants.
        accused: The layers that it is about.

    Raises:
        NormcheckError: The model cannot be made or run, is none of images, or too little would
            change for an estimate without data to be the lesser evil.
    """
    running = how.running
    assert running is not None  # noqa: S101  (only called with one)
    with prepared(checkpoint, saved, running, "estimating", ("random images", "")) as ready:
        beside = replace(running.feeding, beside=checkpoint.name)
        shape, guessed_from = _image_shape(ready.model, ready.forward, beside)
        found = _Model(ready.regimes, ready.tracked, ready.fit, accused).estimated(shape, running)
        layers = ready.layers(found.estimate)
    return ready.repair(
        found.estimate,
        layers,
        (found.proof, found.objections),
        {"source": "smooth random fields", "shapes": "x".join(map(str, shape))},
        Emergency(
            in_words(accused),
            found.field.smoothness.neighbours,
            found.fitted_to,
            found.kept,
            guessed_from,
            found.in_part,
            found.vouched,
        ),
    )


def _image_shape(
    model: nn.Module, forward: Forward, feeding: Feeding
) -> tuple[ImageShape, str | None]:
    """The shape of the images that the model takes, and what it was guessed from if it was."""
    feed = feed_for(model, forward, replace(feeding, data=None, as_trained=True))
    shape = image_shape(feed)
    if shape is None:
        raise NormcheckError(
            f"the model takes {feed.batches[0].shapes() or 'no tensor'}, no image of floating "
            "numbers: smooth random fields can stand in for images only",
            "say which shape it takes, --input-shape 3x224x224, if that was guessed; or "
            f"{GIVE_DATA}",
        )
    return shape, feed.guessed_from if feed.guessed else None


@lazy_dataclass(frozen=False)
class _Order:
    """What runs, in its order."""

    places: dict[CallSite, int | None] = field(default_factory=dict)
    """Number of the tracked norm whose statistics are taken there."""
    dimensions: dict[int, int] = field(default_factory=dict)
    """Of the input of each tracked norm."""


@lazy_dataclass(eq=False)
class _Found:
    """What one model gave."""

    estimate: Estimate
    """Of the norms that change only."""
    proof: Proof
    objections: tuple[str, ...]
    field: Field
    fitted_to: str
    kept: tuple[str, ...]
    in_part: tuple[str, ...]
    vouched: tuple[str, ...]


@lazy_dataclass(eq=False)
class _Model:
    """A live model, and what its file says against its statistics."""

    regimes: Regimes
    tracked: list[Tracked]
    fit: Fitting
    accused: Accused

    def estimated(self, shape: tuple[int, int, int], running: Running) -> _Found:
        """The statistics, and what changes by them."""
        order, seen = self._order(shape)
        against = {n for n in order.dimensions if self._place(n) in self.accused.layers}
        doubtful = {n for n in order.dimensions if self._place(n) in self.accused.doubtful}
        self._check(order, against)
        place, first = next(iter(order.places.items()))
        candidate = first is not None and first not in against
        images = likeliest_field(
            self.regimes, seen, place if candidate else None, shape, doubted=self.accused.foreign
        )
        changed = against | (doubtful - {first} if images.fitted else doubtful)
        unlike = {n for n in against if self._place(n) in self.accused.unlike} | doubtful
        samples = running.feeding.samples or min(
            _MOST, max(_FEWEST, _VALUES // (shape[1] * shape[2]))
        )
        # Norms that stay normalise by the fields, too: what is behind them is then given values of
        # mean β and deviation γ, as it was in training, however far the fields are from images.
        numbers = sorted(order.dimensions)
        estimator = Estimator(self.regimes, [self.tracked[n] for n in numbers])
        batches = _batches(images.drawn(samples, running.seed))
        estimate = estimator.estimated(lambda: batches)
        of_fields = {numbers[k]: v for k, v in estimate.statistics.items()}
        means = self._means((unlike & changed) - {first}, of_fields)
        vouched = {n for n, (shift, _) in means.items() if shift < _AS_STORED}
        changed -= vouched
        if vouched and changed <= unlike & {first}:
            raise only_mildly_off("random images give the norms the means that they have stored")
        kept = {n: self._whole(n, v) for n, v in of_fields.items() if n in changed}
        fresh = _batches(images.drawn(min(samples, _JUDGES), running.seed + 1))
        beside = {k: of_fields[n] for k, n in enumerate(numbers) if n not in kept}
        before = estimator.outputs(fresh, beside)
        new = {k: kept[n] for k, n in enumerate(numbers) if n in kept}
        after = estimator.outputs(fresh, beside | new)
        changes = regime("after", after, before)
        whole = 2 * len(kept) >= len(order.dimensions)
        least = AS_HEALTHY[images.fitted] if whole or not self.accused.lost else OF_FEW
        if changes.flips is not None and changes.flips < least and not self.accused.lost:
            raise only_mildly_off(
                f"{percent(changes.flips)} of the decisions on random images would change"
            )
        proof = Proof(
            regime("before", before, before), changes, "",
            "other fields of the same kind, which are no data",
        )  # fmt: skip
        return _Found(
            replace(estimate, statistics=kept),
            proof,
            tuple(
                objections(
                    estimate,
                    changes.flips,
                    least if all(map(self._can_be, kept)) else 0.0,
                    [] if self.accused.lost else [alike for _, alike in means.values()],
                    lost=not self.accused.untold or shown_lost(before, after),
                )
            ),
            images,
            self.tracked[first].path if images.fitted and first is not None else "",
            tuple(t.path for n, t in enumerate(self.tracked) if n not in kept),
            tuple(self.tracked[n].path for n in kept if self._place(n) in self.accused.in_part),
            tuple(self.tracked[n].path for n in sorted(vouched)),
        )

    def _means(self, norms: set[int], new: Estimates) -> dict[int, tuple[float, float]]:
        """How far from the stored means those lie that the fields give, and how they correlate.

        Both in deviations; of means that are one in all channels the correlation is 0.
        """
        found = {}
        for n in norms & new.keys():
            deviation = new[n][1].clamp_min(_NOTHING).sqrt()
            given, stored = new[n][0] / deviation, self._stored(n)[0].detach().cpu().double()
            stored = stored / deviation
            alike = torch.corrcoef(torch.stack((given, stored)))[0, 1].nan_to_num()
            found[n] = float((given - stored).square().mean().sqrt()), float(alike)
        return found

    def _can_be(self, n: int) -> bool:
        """Whether what a norm has stored are a mean and a variance, whatever they are of."""
        mean, variance = self._stored(n)
        return bool(mean.isfinite().all() and variance.isfinite().all() and (variance >= 0).all())

    def _whole(self, n: int, new: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """New statistics of a norm; of one that is wrong in part, only of the wrong channels."""
        if self._place(n) not in self.accused.in_part:
            return new
        mean, variance = (x.detach().cpu().double() for x in self._stored(n))
        sound = mean.isfinite() & variance.isfinite() & (variance >= 0)
        return torch.where(sound, mean, new[0]), torch.where(sound, variance, new[1])

    def _stored(self, n: int) -> tuple[Tensor, Tensor]:
        return self.tracked[n].mean, self.tracked[n].variance

    def _order(self, shape: tuple[int, int, int]) -> tuple[_Order, Collected]:
        addresses = [address_of(norm.mean) for norm in self.tracked]
        numbers = {place: n for n, place in enumerate(addresses) if place is not None}
        order, seen = _Order(), Collected()

        def how(call: BatchNormCall) -> None:
            mean, _ = call.statistics
            where = None if mean is None or call.training else address_of(mean)
            number_ = None if where is None else numbers.get(where)
            order.places.setdefault(call.place, number_)
            if number_ is not None:
                order.dimensions[number_] = call.input.ndim
            seen.take(call)

        for _ in self.regimes.run((Batch((Field(shape, GREY).drawn(2, 0),)),), how):
            pass
        return order, seen

    def _place(self, n: int) -> str:
        return place_in_file(self.tracked[n].path, self.fit)

    def _check(self, order: _Order, against: set[int]) -> None:
        if not against:
            raise NormcheckError(
                "the norms that the file's findings name do not run in this model",
                "is --model the network that the file is of?",
            )
        flat = [n for n, dimensions in order.dimensions.items() if dimensions != IMAGE]
        first = next(iter(order.places.values()))
        if first in flat or not few_are_flat(len(flat), len(order.dimensions)):
            raise NormcheckError(
                f"{part(len(flat), len(order.dimensions), 'norm', 'stands', 'stand')} behind no "
                "convolution over an image: random fields say nothing of what they are given",
                GIVE_DATA,
            )


def _batches(images: Tensor) -> tuple[Batch, ...]:
    at_once = max(_FEWEST_AT_ONCE, _PIXELS // (images.shape[2] * images.shape[3]))
    return Feed((Batch((images,)),), "", real=False).rebatched(at_once).batches
