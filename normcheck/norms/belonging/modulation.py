"""Links that a conditioned network may modulate: scale and shift come from outside between norms.

FiLM (Perez et al. 2018, https://arxiv.org/abs/1709.07871), label and time embeddings and learned
scales multiply or shift channels between a norm and the next weights, by values that no weights
between the two tell. A state dict shows the tensors that make them, and not where they are used.
A link between widths that one of them makes is a guess, then: it vouches where means agree, and is
held against nobody. Squeeze-and-excitation is another thing: what it makes comes from the very
channels, between 0 and 1, and means fit all the same; variances may be smaller by it.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from normcheck.norms.belonging.agreement import Agreement
from normcheck.norms.belonging.fit import Fit
from normcheck.norms.belonging.structure.links import SEQUENTIAL
from normcheck.norms.belonging.structure.module_step import ModuleStep
from normcheck.norms.layer import Confidence, Recognition

MODULATED = (
    "tensors of the file may scale or shift its input on the way, as those of a conditioned "
    "network do"
)
_SAYS_SO = re.compile(
    r"film|modulat|condition|adain|ada_?(?:norm|ln|gn|bn)|time_?(?:mlp|emb|proj)|t_?emb|style",
    re.IGNORECASE,
)
"""Names that such modules have."""
_SIBLINGS = 16
"""Matrices of one module among which the one before a matrix is looked for."""
_NO_SCALE = re.compile(r"bias|(?:running_)?(?:mean|var|std)$")
"""Beginnings of last names of vectors that belong to weights elsewhere, as ``bias_ih_l0`` does, or
describe the data."""


def without_modulated(agreement: Agreement, steps: Sequence[ModuleStep]) -> Agreement:
    """An agreement whose links that may be modulated are guesses.

    Links of an ``nn.Sequential`` stay: between its numbers there is no room.

    Args:
        agreement: Of one model, by the order of its names.
        steps: Its modules, in the order of the file.
    """
    if all(f.link.recognition.reason == SEQUENTIAL for f in agreement.fits):
        return agreement
    makers = _makers(steps, {f.link.weights_path for f in agreement.fits})
    if not makers:
        return agreement
    return replace(agreement, fits=tuple(_guessed(fit, makers) for fit in agreement.fits))


def gated_widths(steps: Sequence[ModuleStep]) -> frozenset[int]:
    """Numbers of channels that two layers of weights squeeze and make again, without a norm.

    That is squeeze-and-excitation (Hu et al. 2018, https://arxiv.org/abs/1709.01507), as matrices
    or as convolutions of one tap: its gates, between 0 and 1, weaken channels before the next
    weights.
    """
    found = set()
    squeezing: tuple[int, int] | None = None
    for number, step in enumerate(steps):
        if not step.is_weights:
            if step.norm is not None:
                squeezing = None
            continue
        makes, takes, *taps = step.shape or (0, 0)
        behind = steps[number + 1].norm if number + 1 < len(steps) else None
        if behind is not None or any(size != 1 for size in taps):
            squeezing = None
        elif squeezing == (makes, takes):
            found.add(makes)
            squeezing = None
        else:
            squeezing = (takes, makes) if makes < takes else None
    return frozenset(found)


def modulated(agreement: Agreement) -> dict[str, str]:
    """Norms that such a link reaches, and what that leaves open, by their paths."""
    return {
        fit.link.target.path: MODULATED
        for fit in agreement.fits
        if fit.link.recognition.reason.startswith(MODULATED)
    }


def _guessed(fit: Fit, makers: Mapping[int, Sequence[str]]) -> Fit:
    """A fit, by a link that is a guess where something in its module makes as many channels."""
    link = fit.link
    if link.recognition.reason == SEQUENTIAL:
        return fit
    block = _common(link.source.path, link.target.path)
    for width in (link.source.features or 0, link.target.features or 0):
        for path in makers.get(width, ()):
            if path.startswith(block):
                why = Recognition(Confidence.LOW, f"{MODULATED}: {path}")
                return replace(fit, link=replace(link, recognition=why))
    return fit


def _common(one: str, other: str) -> str:
    """The module that holds both, with a dot; empty for the model itself."""
    parts = []
    for here, there in zip(one.split(".")[:-1], other.split(".")[:-1], strict=False):
        if here != there:
            break
        parts.append(here + ".")
    return "".join(parts)


def _makers(steps: Sequence[ModuleStep], linking: set[str]) -> dict[int, list[str]]:
    """What makes scales or shifts of so many channels, by their number."""
    widths = {n: s.norm.features or 0 for n, s in enumerate(steps) if s.norm is not None}
    if not widths:
        return {}
    known = {*widths.values()} - {0}
    apart = _Apart(steps, linking, widths)
    found: dict[int, list[str]] = {}
    for width, path in apart.made():
        for channels in (width, width // 2) if width % 2 == 0 else (width,):
            if channels in known:
                found.setdefault(channels, []).append(path)
    return found


class _Apart:
    """Modules beside the chain of weights and norms."""

    def __init__(
        self, steps: Sequence[ModuleStep], linking: set[str], widths: Mapping[int, int]
    ) -> None:
        """Modules of a model.

        Args:
            steps: All, in the order of the file.
            linking: Paths of weights that link two norms.
            widths: The channels of norms by their places among the modules, in their order.
        """
        self._steps, self._widths = steps, widths
        self._norms = list(widths)
        self._first, self._last = self._norms[0], self._norms[-1]
        self._ends = ends = widths[self._last]
        self._matrices = [
            place
            for place, step in enumerate(steps)
            if step.is_weights
            and len(step.shape or ()) == 2
            and step.path not in linking
            and place + 1 not in widths
        ]
        self._joined: dict[int, int] = {}
        """The widest inputs that are no multiple of the last norm's channels, by what is over."""
        for place in self._matrices:
            takes = (steps[place].shape or (0, 0))[1]
            if ends and takes % ends:
                self._joined[takes % ends] = max(takes, self._joined.get(takes % ends, 0))
        self._beginnings: dict[int, int] = {}

    def made(self) -> Iterator[tuple[int, str]]:
        """Numbers of values that modules make from what is no activation, and their paths."""
        tables = []
        for number, place in enumerate(self._matrices):
            step = self._steps[place]
            makes, takes = step.shape or (0, 0)
            self._beginnings[place] = self._begins(number)
            if step.leaf("bias") is None:
                tables.append((place, takes))
            if self._from_outside(place, makes, takes):
                yield makes, step.path
        yield from self._of_tables(tables)
        for step in self._steps:
            yield from _lone_vectors(step)

    def _from_outside(self, place: int, makes: int, takes: int) -> bool:
        """Whether a matrix ends a chain that begins with something else than activations."""
        path = self._steps[place].path
        begins = self._beginnings[place]
        if makes in (begins, takes) or begins == 2 * makes:
            return False  # squeeze-and-excitation, attention
        if self._goes_on(place, makes):
            return False
        if _SAYS_SO.search(path):
            return True
        ahead = bisect_left(self._norms, place) - 1
        before = self._widths[self._norms[ahead]] if ahead >= 0 else 0
        return not any(width and begins % width == 0 for width in (before, self._ends))

    def _begins(self, number: int) -> int:
        """What the first matrix of a chain takes, going back from its last.

        Args:
            number: Of the last among the matrices; it is known of those before it.
        """
        place = self._matrices[number]
        _, takes = self._steps[place].shape or (0, 0)
        parent = self._steps[place].path.rpartition(".")[0]
        for earlier in reversed(self._matrices[max(0, number - _SIBLINGS) : number]):
            step = self._steps[earlier]
            if earlier < place - 1 and step.path.rpartition(".")[0] != parent:
                break
            if (step.shape or (0,))[0] == takes:
                return self._beginnings[earlier]
        return takes

    def _goes_on(self, place: int, makes: int) -> bool:
        """Whether weights take what a matrix makes: a layer of the way, or one of a join."""
        behind = self._steps[place + 1] if place + 1 < len(self._steps) else None
        if behind is not None and behind.is_weights and (behind.shape or (0, 0))[1] == makes:
            return True
        return bool(self._ends) and self._joined.get(makes % self._ends, 0) > makes

    def _of_tables(self, tables: Sequence[tuple[int, int]]) -> Iterator[tuple[int, str]]:
        """Embeddings, without those that are the input and without a classifier without bias."""
        head_has_bias = any(
            p > self._last
            and (self._steps[p].shape or (0, 0))[1] == self._ends
            and self._steps[p].leaf("bias") is not None
            for p in self._matrices
        )
        head = head_has_bias
        for place, width in tables:
            if place > self._last and width == self._ends and not head:
                head = True
                continue
            if place < self._first and self._is_input(width):
                continue
            yield width, self._steps[place].path

    def _is_input(self, width: int) -> bool:
        """Whether the first weights that make a norm's input take the values of a table."""
        before = self._steps[self._first - 1] if self._first else None
        return before is not None and before.is_weights and (before.shape or (0, 0))[1] == width


def _lone_vectors(step: ModuleStep) -> Iterator[tuple[int, str]]:
    """Vectors of their own, one value for each channel: learned scales."""
    if step.norm is not None or step.shape is not None:
        return
    for name in step.names:
        if _NO_SCALE.match(name.rpartition(".")[2]):
            continue
        shape = step.tensors[name].shape
        wide = [size for size in shape if size != 1]
        if len(wide) == 1 and shape[:2] in ((wide[0],), (1, wide[0]), (wide[0], 1)):
            yield wide[0], name
