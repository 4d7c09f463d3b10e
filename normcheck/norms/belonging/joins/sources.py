"""What may reach weights that do not follow a single norm in the file: by channels and blocks.

A file shows neither concatenations nor the way around a branch. But the weights take a number of
channels, and few norms nearby, or joins of them, make just that many:

- a norm of another place: before a branch that was registered between, or at the end of a block
  whose inner modules were registered last;
- one half of a norm's channels, as blocks take that split them;
- the ends of neighbouring branches, one behind the other (Inception);
- a norm and one far before it (the skips of a U-Net), either way round;
- a block's first norm and the last ones of its numbered parts, which may add up (CSP blocks).
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.belonging.structure.module_step import ModuleStep
from normcheck.norms.belonging.sums.stream import Moments, moments_behind
from normcheck.norms.layer import NormLayer

BACK, AHEAD = 12, 8
"""Norms before and behind the weights that are nearby."""
_BRANCHES = 6
"""Branches of one block."""
_SKIPS = 4
"""Norms far before that may be the other half of a join, the latest."""
MOST = 32
"""Sources that are tried for one norm."""


@lazy_dataclass(eq=False)
class Part:
    """Some channels of a norm."""

    norm: NormLayer
    half: int | None = None
    """0 or 1 for one half of its channels; None for all."""

    @property
    def channels(self) -> int:
        """How many there are."""
        whole = self.norm.features or 0
        return whole if self.half is None else whole // 2


@lazy_dataclass(eq=False)
class Origin:
    """Parts that are joined, or added up."""

    parts: tuple[Part, ...]
    adds: bool = False
    """Whether each part is added to the last channels before it, as residual parts of a block
    are; of parts of all channels, whether they are one sum."""


class Nearby:
    """The norms of a model, asked for what may reach weights.

    Args:
        steps: Modules in the order in which they run.
        activation: Behind each norm.
        added: Whether the model has residual sums: a norm alone may then be one part of a sum,
            which looks right where means are as much too small.
    """

    def __init__(self, steps: Sequence[ModuleStep], activation: str, *, added: bool) -> None:
        """Put the norms in order."""
        self._added = added
        self._places = [i for i, step in enumerate(steps) if step.norm is not None]
        self._norms = [norm for step in steps if (norm := step.norm) is not None]
        self._ends = [_ends_here(steps, place) for place in self._places]
        self._activation = activation
        self._known: dict[str, Moments] = {}

    def origins(self, place: int, path: str, takes: int) -> list[Origin]:
        """What may reach weights.

        Args:
            place: Of the weights in the order of the model.
            path: Of the weights.
            takes: Channels that they take.
        """
        before = int(np.searchsorted(self._places, place))
        near = self._norms[max(0, before - BACK) : before][::-1]
        behind = self._norms[before + 1 : before + 1 + AHEAD]  # without the norm they lead to
        block = path.rpartition(".")[0].rpartition(".")[0]
        inside = [n for n in (*near[::-1], *behind) if block and n.path.startswith(f"{block}.")]
        found: dict[tuple[object, ...], Origin] = {}
        for origin in (
            *self._alone([*near, *behind], takes),
            *_in_parts(inside, block, takes),
            *self._branches(before, takes),
            *self._skips(before, takes),
            *_sums(near, takes),
        ):
            key = (origin.adds, *((part.norm.path, part.half) for part in origin.parts))
            found.setdefault(key, origin)
        return list(islice(found.values(), MOST))

    def _alone(self, norms: Sequence[NormLayer], takes: int) -> Iterator[Origin]:
        for norm in norms:
            if norm.features == takes and not self._added:
                yield Origin((Part(norm),))
            elif norm.features == 2 * takes:
                yield Origin((Part(norm, 1),))
                yield Origin((Part(norm, 0),))

    def _branches(self, before: int, takes: int) -> Iterator[Origin]:
        """Ends of branches, one behind the other."""
        first = max(0, before - BACK)
        norms, ends_here = self._norms[first:before], self._ends[first:before]
        ends = [norm for norm, ends in zip(norms, ends_here, strict=True) if ends]
        for last in range(len(ends), 1, -1):
            for count in range(2, min(_BRANCHES, last) + 1):
                some = ends[last - count : last]
                if sum(norm.features or 0 for norm in some) == takes:
                    yield Origin(tuple(map(Part, some)))

    def _skips(self, before: int, takes: int) -> Iterator[Origin]:
        """The nearest norm and one anywhere before it, either way round."""
        if not before:
            return
        near = self._norms[before - 1]
        rest = takes - (near.features or 0)
        far = (n for n in reversed(self._norms[: before - 1]) if n.features == rest)
        for norm in islice(far, _SKIPS):
            yield Origin((Part(norm), Part(near)))
            yield Origin((Part(near), Part(norm)))

    def moments(self, origin: Origin) -> Moments | None:
        """Means and variances of what reaches the weights, each of shape (channels,)."""
        each = [self._behind(part) for part in origin.parts]
        if any(one is None for one in each):
            return None
        parts = [one for one in each if one is not None]
        if not origin.adds:
            mean, variance = (np.concatenate(some) for some in zip(*parts, strict=True))
            return mean, variance
        if len({len(mean) for mean, _ in parts}) == 1 and origin.parts[0].half is not None:
            return sum(m for m, _ in parts), sum(v for _, v in parts)  # type: ignore[return-value]
        added = [parts[0]]
        for mean, variance in parts[1:]:
            count, (flows, varies) = len(mean), added[-1]
            if len(flows) < count:
                return None
            added.append((mean + flows[-count:], variance + varies[-count:]))
        joined = tuple(np.concatenate(some) for some in zip(*added, strict=True))
        return joined[0], joined[1]

    def learn(self, origins: Iterable[Origin]) -> None:
        """Work out what is behind the norms of origins; to be called before ``moments``."""
        norms = {part.norm.path: part.norm for origin in origins for part in origin.parts}
        self._known = moments_behind(list(norms.values()), self._activation)

    def _behind(self, part: Part) -> Moments | None:
        whole = self._known.get(part.norm.path)
        if whole is None or part.half is None:
            return whole
        some = slice(None, part.channels) if part.half == 0 else slice(part.channels, None)
        return whole[0][some], whole[1][some]


def _ends_here(steps: Sequence[ModuleStep], place: int) -> bool:
    """Whether a branch ends with a norm: the weights behind it in the file take something else."""
    norm = steps[place].norm
    behind = steps[place + 1] if place + 1 < len(steps) else None
    if norm is None or behind is None or not behind.is_weights or behind.shape is None:
        return True
    return behind.shape[1] not in (norm.features, 1)


def _in_parts(inside: Sequence[NormLayer], block: str, takes: int) -> Iterator[Origin]:
    """A block's first norm and the last ones of its numbered parts, in a row or added up."""
    if len(inside) < 2:
        return
    lasts: dict[str, NormLayer] = {}
    for norm in inside:
        words = norm.path[len(block) + 1 :].split(".")
        number = next((i for i, word in enumerate(words) if word.isdecimal()), None)
        if number is not None:
            lasts[".".join(words[: number + 1])] = norm
    parts = tuple(map(Part, lasts.values()))
    first = Part(inside[0])
    if parts and first.channels + sum(part.channels for part in parts) == takes:
        yield Origin((first, *parts), adds=True)
        yield Origin((first, *parts))
    for one in inside:
        for other in inside:
            if one is not other and (one.features or 0) + (other.features or 0) == takes:
                yield Origin((Part(one), Part(other)))


def _sums(near: Sequence[NormLayer], takes: int) -> Iterator[Origin]:
    """The nearest norm added to one half of another, as parts of a split block are."""
    alike = [norm for norm in near if norm.features == takes]
    wide = [norm for norm in near if norm.features == 2 * takes]
    for norm in alike[:2]:
        for other in wide[:2]:
            yield Origin((Part(other, 1), Part(norm)), adds=True)
