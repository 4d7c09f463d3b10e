"""Residual blocks by names and shapes: their main path, and the branch that they add to it."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.lazy_pattern import lazy_pattern
from normcheck.norms.belonging.structure.module_step import ModuleStep
from normcheck.norms.layer import NormLayer

_SHORTCUT = lazy_pattern(
    r"downsample|shortcut|(^|[._])(skip|short)|identity|(^|[._])proj|match|res_?conv|conv_?res",
    re.IGNORECASE,
)
"""Parts of names of the branch that a block adds."""
_DEEPEST = 16
"""Modules within modules in which a block is looked for."""


@lazy_dataclass(eq=False)
class Pair:
    """Weights and the norm right behind them."""

    weights: ModuleStep
    norm: NormLayer

    @property
    def takes(self) -> int:
        """Inputs of the weights; of a grouped convolution those of a group."""
        return self.weights.weight.shape[1]

    @property
    def makes(self) -> int:
        """Channels of the norm."""
        return self.norm.features or 0


@lazy_dataclass(eq=False)
class Unit:
    """A block, or weights with their norm that stand alone."""

    main: tuple[Pair, ...]
    """The main path, in order; at least one."""
    shortcut: Pair | None
    """The weights of the branch that is added; None where there are none."""
    is_block: bool
    clear: bool = True
    """Whether no more than one branch stands beside the main path."""


def units_of(steps: Sequence[ModuleStep]) -> Iterator[Unit]:
    """Blocks, and what stands between them.

    A block is the innermost module with a number in which weights and norms follow each other
    twice: ``layer1.0`` of ``layer1.0.conv1``, ``features.2`` of ``features.2.conv.0.0``.

    Args:
        steps: The modules of a model, as they run.
    """
    pairs = [
        Pair(here, behind.norm)
        for here, behind in pairwise(steps)
        if here.is_weights and behind.norm is not None
    ]
    around = [tuple(numbered(pair.weights.path)) for pair in pairs]
    counts = Counter(place for places in around for place in places)
    blocks = [next((place for place in places if counts[place] > 1), "") for places in around]
    for block, members in groupby(range(len(pairs)), blocks.__getitem__):
        some = [pairs[i] for i in members]
        if block:
            yield _block(block, some)
        else:
            yield from (Unit((pair,), None, is_block=False) for pair in some)


def numbered(path: str) -> Iterator[str]:
    """The modules around one that a number tells from others, the innermost first."""
    parent = path
    for _ in range(_DEEPEST):
        parent = parent.rpartition(".")[0]
        if not parent:
            return
        if parent[-1].isdecimal():
            yield parent


def is_shortcut(name: str) -> bool:
    """Whether a name within a block is that of the branch that it adds."""
    return _SHORTCUT.search(name) is not None


def _block(block: str, pairs: Sequence[Pair]) -> Unit:
    """A block with its shortcut told from its main path, by names or else by its shape."""
    beside = [is_shortcut(pair.weights.path[len(block) + 1 :]) for pair in pairs]
    if all(beside):
        beside = [False] * len(pairs)
    if not any(beside) and len(pairs) > 2:
        first, before, last = pairs[0], pairs[-2], pairs[-1]
        # It takes what the block takes and makes what the block makes, and follows nothing.
        beside[-1] = last.takes == first.takes != before.makes == last.makes and first.takes > 1
    main = tuple(pair for pair, side in zip(pairs, beside, strict=True) if not side)
    branches = [pair for pair, side in zip(pairs, beside, strict=True) if side]
    return Unit(main, branches[0] if branches else None, is_block=True, clear=len(branches) < 2)
