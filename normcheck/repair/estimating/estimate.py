"""Statistics that reproduce themselves in eval mode, from as many passes as that takes.

What a batch norm is given in eval mode depends on the statistics of the norms before it. The
first pass normalises by each batch; every further one by the estimate of the pass before, which
makes at least one more layer exact. Once nothing moves any more the result depends on the data
alone: not on the size of the batches, nor on their order.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.batches import Batch
from normcheck.live.watching.batch_norm_call import BatchNormCall
from normcheck.live.watching.forward import Enough, Interrupted, RegimeOutputs
from normcheck.live.watching.input_moments import by_others
from normcheck.live.watching.outputs import ForwardOutput
from normcheck.live.watching.own_values import address_of
from normcheck.live.watching.reachable_modules import Reached
from normcheck.live.watching.regimes import Regimes
from normcheck.repair.estimating.population import Population

ROUNDS = 20
"""Most passes after the first. Networks of 6 to 100 norms needed 2 to 7."""
TOLERANCE = 1e-3
"""Largest move of any channel, in its standard deviations, with which an estimate stands."""

Reduce = Callable[[Tensor], Tensor]
"""Sums a float64 tensor over all processes, and returns the sum."""
Passes = Callable[[], Iterable[Batch]]
"""Gives the data once more, from its beginning."""
Estimates = Mapping[int, tuple[Tensor, Tensor]]
"""Mean and variance in float64 for each tracked norm, by its number."""


@lazy_dataclass(eq=False)
class Tracked:
    """A module with running statistics, as ``nn.BatchNorm2d`` has them."""

    path: str
    registered: bool
    module: nn.Module
    mean: Tensor
    variance: Tensor


@lazy_dataclass(eq=False)
class Estimate:
    """What was estimated, and how well it reproduces itself."""

    statistics: Estimates
    """Only of norms that ran, by their number among the tracked ones."""
    residual: float
    """What one more pass would still move, in standard deviations of the worst channel."""
    rounds: int
    """Passes over the data."""
    samples: int
    fewest: int
    """Values per channel, of the norm that saw the fewest."""


def tracked_norms(reached: Iterable[Reached]) -> list[Tracked]:
    """Modules that keep a running mean and variance in buffers, registered or hidden."""
    found = []
    for entry in reached:
        buffers = entry.module._buffers  # noqa: SLF001  (registered, whatever attributes hide)
        mean, variance = buffers.get("running_mean"), buffers.get("running_var")
        if mean is not None and variance is not None and mean.numel() > 0:
            found.append(Tracked(entry.path, entry.registered, entry.module, mean, variance))
    return found


@lazy_dataclass(frozen=False)
class Estimator:
    """Runs a model in eval mode and estimates the statistics of its norms.

    The operator is told by the memory of the running mean that it is given, so a norm that
    several calls share, or that is called by hand, gets the statistics of all its inputs.
    """

    regimes: Regimes
    tracked: list[Tracked]
    reduce: Reduce | None = None

    def estimated(
        self, passes: Passes, rounds: int = ROUNDS, tolerance: float = TOLERANCE
    ) -> Estimate:
        """Statistics of the data that reproduce themselves.

        Args:
            passes: The data.
            rounds: Most passes after the first.
            tolerance: Move of the worst channel, in standard deviations, at which to stop.
        """
        known: Estimates = {}
        residual, done, samples, fewest = float("inf"), 0, 0, 0
        # A model whose norms never run, or have no channel in which to differ, needs no more.
        while done == 0 or (known and done <= rounds and residual > tolerance):
            found, samples = self._pass(passes, known if done else None)
            following = {n: (p.mean, p.variance) for n, p in found.items()}
            if done:
                residual = max((self._moved(n, known, following) for n in following), default=0.0)
            known, done = following, done + 1
            fewest = min((p.count for p in found.values()), default=0)
        return Estimate(known, residual if known else 0.0, done, samples, fewest)

    def outputs(self, batches: Iterable[Batch], given: Estimates | None = None) -> RegimeOutputs:
        """The model's outputs with the stored statistics, or with others."""
        return RegimeOutputs.of(self._run(batches, given or {}, None))

    def left_out(
        self, batches: Iterable[Batch], given: Estimates, samples: int
    ) -> RegimeOutputs | None:
        """The model's outputs, each sample's with the statistics of all the others.

        Args:
            batches: Samples to predict.
            given: Statistics of all samples, these among them.
            samples: How many those are of.

        Returns:
            None where samples cannot be told apart at a norm, where they do not all give it
            equally many values, and where it is called several times in a forward.
        """
        places, apart = self._places(), [True]
        shapes: dict[int, tuple[float, torch.Size]] = {}
        called: set[int] = set()

        def each() -> Iterator[Batch]:
            for batch in batches:
                called.clear()
                yield batch

        def how(call: BatchNormCall) -> object:
            number = _number(places, call)
            if number is None or number not in given:
                return None
            each_gives = (len(call.input) / (call.samples or len(call.input)), call.input.shape[1:])
            alike = shapes.setdefault(number, each_gives) == each_gives
            single = alike and number not in called
            out = by_others(call, given[number], samples) if single else None
            if out is None:
                apart[0] = False
                raise Enough
            called.add(number)
            return out

        try:
            return RegimeOutputs.of(self.regimes.run(each(), how))
        except (Enough, Interrupted):
            if apart[0]:
                raise
            return None

    def _pass(self, passes: Passes, given: Estimates | None) -> tuple[dict[int, Population], int]:
        found: dict[int, Population] = {}
        samples = 0
        for batch, _ in self._run(passes(), given, found):
            samples += batch.size
        return self._over_processes(found, samples)

    def _run(
        self, batches: Iterable[Batch], given: Estimates | None, found: dict[int, Population] | None
    ) -> Iterator[tuple[Batch, ForwardOutput]]:
        """Forwards; ``given`` None normalises by each batch."""
        places = self._places()

        def how(call: BatchNormCall) -> object:
            number = _number(places, call)
            if number is None:
                return None
            if found is not None:
                found.setdefault(number, Population()).add(call.input)
            if given is None:
                return call.with_batch_statistics()
            return call.with_statistics(*given[number]) if number in given else None

        yield from self.regimes.run(iter(batches), how)

    def _places(self) -> dict[int, int]:
        addresses = [address_of(tracked.mean) for tracked in self.tracked]
        return {place: number for number, place in enumerate(addresses) if place is not None}

    def _moved(self, number: int, old: Estimates, new: Estimates) -> float:
        if number not in old:
            return float("inf")
        (mean, variance), (mean_now, variance_now) = old[number], new[number]
        eps = float(getattr(self.tracked[number].module, "eps", 0.0) or 0.0)
        deviation = (variance_now + eps).clamp_min(1e-300).sqrt()
        shift = ((mean_now - mean) / deviation).abs().max()
        scale = ((variance + eps).clamp_min(1e-300).sqrt() / deviation).log().abs().max()
        return float(torch.maximum(shift, scale))

    def _over_processes(
        self, found: dict[int, Population], samples: int
    ) -> tuple[dict[int, Population], int]:
        """The populations of all processes together; each may have other batches, or none."""
        if self.reduce is None:
            return found, samples
        whole: dict[int, Population] = {}
        for number, norm in enumerate(self.tracked):
            own = found.get(number, Population())
            zeros = torch.zeros(norm.mean.numel(), dtype=torch.float64)
            mean, deviations = (own.mean, own.deviations) if own.count else (zeros, zeros.clone())
            first = self.reduce(
                torch.cat([torch.tensor([float(own.count)]).double(), own.count * mean])
            )
            count = float(first[0])
            if count == 0:
                continue
            middle = first[1:] / count
            # About the common mean, so that nothing cancels.
            total = self.reduce(deviations + own.count * (mean - middle).square())
            whole[number] = Population(int(count), middle, total)
        everyone = self.reduce(torch.tensor([float(samples)], dtype=torch.float64))
        return whole, int(everyone[0])


def _number(places: Mapping[int, int], call: BatchNormCall) -> int | None:
    """Of the tracked norm whose statistics the operator is given; None in train mode."""
    mean, _ = call.statistics
    place = None if mean is None or call.training else address_of(mean)
    return None if place is None else places.get(place)
