"""The tensors of one file in columns, each made when it is asked for.

A model may have hundreds of thousands of tensors, and a scan looks at those of its norms and at
a few weights between them. An object for each, with its storage and its place in the file, takes
most of the memory of a scan and much of its time.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from normcheck.saved.tensors import PlainRegion, Storage, TensorRef
from normcheck.sources.source import Source

Integers = npt.NDArray[np.int64]


class TensorColumns(Mapping[str, TensorRef]):
    """Tensors by name, each with a storage of its own that lies in the file as it is.

    The same reference is given for a name each time: ties show as one object.
    """

    __slots__ = ("_begins", "_kinds", "_made", "_patterns", "_places", "_source")

    def __init__(
        self,
        source: Source,
        names: Sequence[str],
        begins: Integers,
        kinds: Integers,
        patterns: Sequence[TensorRef],
    ) -> None:
        """Keep what was found valid.

        Args:
            source: The file.
            names: Of the tensors, all different, in the model's order.
            begins: Where the bytes of each lie in the file.
            kinds: Of each, which of the patterns it follows.
            patterns: Contiguous tensors: element types and shapes.
        """
        self._source = source
        self._places = dict(zip(names, range(len(names)), strict=True))
        self._begins = begins
        self._kinds = kinds
        self._patterns = patterns
        self._made: dict[str, TensorRef] = {}

    def __getitem__(self, name: str) -> TensorRef:
        """The tensor of a name."""
        made = self._made.get(name)
        if made is None:
            place = self._places[name]
            pattern = self._patterns[self._kinds[place]]
            nbytes = pattern.numel * pattern.dtype.itemsize
            region = PlainRegion(self._source, int(self._begins[place]), nbytes)
            storage = Storage(name, pattern.dtype, nbytes, region=region)
            made = self._made[name] = pattern.lying_in(storage)
        return made

    def __iter__(self) -> Iterator[str]:
        """The names, in the model's order."""
        return iter(self._places)

    def __len__(self) -> int:
        """How many tensors there are."""
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        """Whether there is a tensor of that name."""
        return name in self._places

    def shapes(self) -> Iterator[tuple[int, ...]]:
        """The shape of each, in the order of the names."""
        shapes = [pattern.shape for pattern in self._patterns]
        return map(shapes.__getitem__, self._kinds.tolist())

    def unreadable(self) -> Iterator[tuple[str, TensorRef]]:
        """Those whose values cannot be had from the file."""
        unread = [not kind.dtype.readable for kind in self._patterns]
        if any(unread):
            for name, kind in zip(self._places, self._kinds.tolist(), strict=True):
                if unread[kind]:
                    yield name, self[name]


def shapes_of(tensors: Mapping[str, TensorRef]) -> Iterable[tuple[int, ...]]:
    """The shape of each tensor, in the order of the names; none is made for it."""
    if isinstance(tensors, TensorColumns):
        return tensors.shapes()
    return [tensor.shape for tensor in tensors.values()]


def unreadable(tensors: Mapping[str, TensorRef]) -> Iterable[tuple[str, TensorRef]]:
    """The tensors whose values cannot be had from the file, by name."""
    if isinstance(tensors, TensorColumns):
        return tensors.unreadable()
    return ((name, tensor) for name, tensor in tensors.items() if not tensor.readable)
