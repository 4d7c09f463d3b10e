"""Tensors by reference: where their bytes lie, and their values when somebody asks."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import prod
from typing import NamedTuple, Protocol

import numpy as np

from normcheck.errors import RefusedError, UnreadableError
from normcheck.often_made import often_made
from normcheck.saved.dtypes import Array, DType, decode
from normcheck.sources.limits import DEFAULT_LIMITS, Limits
from normcheck.sources.source import Bytes, Source, view_at
from normcheck.wording import in_short

_INTEGER = frozenset((int,))
_PAST_INTEGERS = 1 << 63
"""Lengths, steps and offsets of torch have 63 bits."""


class Region(Protocol):
    """A run of bytes that a storage occupies."""

    @property
    def nbytes(self) -> int:
        """Length in bytes."""
        ...

    def read(self, start: int, length: int) -> bytes:
        """``length`` bytes from ``start``, counted within the region."""
        ...


class InPlace:
    """A region whose bytes lie in the file as they are: any part is read by itself."""

    __slots__ = ()

    def view(self, start: int, length: int) -> Bytes:
        """What ``read`` returns, not copied where the source has it at hand."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class PlainRegion(InPlace):
    """Bytes that lie in the file as they are, without a checksum."""

    source: Source
    offset: int
    nbytes: int

    def read(self, start: int, length: int) -> bytes:
        """Read only what is asked for."""
        return self.source.read_at(self.offset + start, length)

    def view(self, start: int, length: int) -> Bytes:
        """The same."""
        return view_at(self.source, self.offset + start, length)

    def spans(self, start: int, length: int) -> Iterator[tuple[Source, int, int]]:
        """Exactly that."""
        yield self.source, self.offset + start, length


@dataclass(slots=True, eq=False)
class Storage:
    """The bytes behind one or more tensors.

    The one mutable value of the readers: the legacy format says only after the pickle
    where the bytes of its storages lie, so ``region`` is filled in then.
    """

    key: str
    dtype: DType
    nbytes: int
    big_endian: bool = False
    region: Region | None = None
    """None while unknown, and for good where the file holds no bytes (meta device)."""
    root: "Storage | None" = None
    """For a view of another storage, as very old files have them: that storage."""
    start: int = 0
    """Where in ``root`` the view begins, in bytes."""

    def read(self, start: int, length: int) -> bytes:
        """``length`` bytes from byte ``start`` of this storage."""
        if self.root is not None:
            return self.root.read(self.start + start, length)
        if self.region is None:
            raise UnreadableError(f"storage {self.key}: its bytes are not in the file")
        return self.region.read(start, length)

    def view(self, start: int, length: int) -> Bytes:
        """The same, to make numbers of: not copied where the source has all of it at hand."""
        region: object = self.region
        if self.root is None and isinstance(region, InPlace):
            return region.view(start, length)
        return self.read(start, length)

    def spans(self, start: int, length: int) -> Iterator[tuple[Source, int, int]]:
        """What ``read`` would read of which source."""
        if self.root is not None:
            yield from self.root.spans(self.start + start, length)
        else:
            # What is packed into a pickle, or lies in memory, has none.
            tell = getattr(self.region, "spans", None)
            if tell is not None:
                yield from tell(start, length)

    @property
    def available(self) -> bool:
        """Whether the file holds the bytes."""
        return self.root.available if self.root is not None else self.region is not None


@often_made(eq=False)
class TensorRef:
    """A tensor of the file, not yet read.

    Two references are equal only where they are the same object; ties between tensors
    show as a common ``storage``.
    """

    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """Steps between neighbours in each dimension, in elements."""
    offset: int
    """First element within the storage, in elements."""
    storage: Storage | None
    """None for tensors without data: meta, fake, uninitialised, quantised or sparse ones."""
    parameter: bool = False
    requires_grad: bool | None = None
    negated: bool = False
    """torch's lazy negative bit: the stored numbers have the opposite sign."""
    conjugated: bool = False
    """torch's lazy conjugate bit: the imaginary parts have the opposite sign."""
    note: str = field(default="", compare=False)
    """Why there is no data, where there is none."""
    rounding: float = 0.0
    """Of numbers that were stored as integers: their error, relative to the largest of them."""

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def numel(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def span(self) -> int:
        """Elements of the storage from the first to the last that belongs to it."""
        if not self.numel:
            return 0
        return 1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))

    def spans(self) -> Iterator[tuple[Source, int, int]]:
        """What reading the values would read of which source: offset and length in bytes."""
        if self.storage is not None:
            size = self.dtype.itemsize
            yield from self.storage.spans(self.offset * size, self.span * size)

    @property
    def readable(self) -> bool:
        """Whether the values can be had from this file."""
        storage = self.storage
        return storage is not None and storage.available and self.dtype.readable

    def with_flags(self, *, parameter: bool, requires_grad: bool) -> "TensorRef":
        """The same tensor as a parameter."""
        return self._twin(self.storage, parameter, requires_grad)

    def lying_in(self, storage: Storage) -> "TensorRef":
        """The same tensor over another storage."""
        return self._twin(storage, self.parameter, self.requires_grad)

    def _twin(
        self, storage: Storage | None, parameter: bool, requires_grad: bool | None
    ) -> "TensorRef":
        if type(self) is not TensorRef:
            return replace(self, storage=storage, parameter=parameter, requires_grad=requires_grad)
        # The same in a fifth of the time: every tensor of some files is made so.
        return TensorRef(
            self.dtype,
            self.shape,
            self.strides,
            self.offset,
            storage,
            parameter,
            requires_grad,
            self.negated,
            self.conjugated,
            self.note,
            self.rounding,
        )

    def values(self) -> Array:
        """The numbers, in the tensor's shape.

        Only the span of the storage that the tensor touches is read.

        Raises:
            UnreadableError: The file holds no data for this tensor, or it ends early.
        """
        storage, dtype, shape = self.storage, self.dtype, self.shape
        if storage is None or not self.readable:
            raise UnreadableError(f"a tensor without values: {self.note or dtype.name}")
        numel = prod(shape)
        if numel == 0:
            return np.zeros(shape)
        size = dtype.itemsize
        plain = self.strides == _usual_strides(shape)
        span = numel if plain else self.span
        # Strides of 0 show one byte any number of times: what is asked for counts, too.
        if max(numel, span) * size > DEFAULT_LIMITS.tensor_bytes:
            raise RefusedError(
                f"a tensor of shape {in_short(shape)} takes more than "
                f"{DEFAULT_LIMITS.tensor_bytes:,} bytes when it is read",
                "only norms and the weights between them are read; no real one is that large",
            )
        raw = storage.view(self.offset * size, span * size)
        flat = decode(raw, dtype, big_endian=storage.big_endian)
        values: Array
        if plain:  # as nearly all are, and in a third of the time
            values = flat.reshape(shape)
            if dtype.decode is not None:  # what lies over the file's bytes cannot be written to
                values.flags.writeable = False
        else:
            # The stride of a dimension of one element is never used, and may be any number.
            steps = tuple(
                s * flat.itemsize if n > 1 else 0
                for n, s in zip(self.shape, self.strides, strict=True)
            )
            values = np.lib.stride_tricks.as_strided(flat, self.shape, steps, writeable=False)
        if self.conjugated:
            values = np.conj(values)
        return -values if self.negated else values


@often_made(eq=False)
class TensorShard(TensorRef):
    """A tensor of which the file has a part; its shape is that of the whole."""

    local: TensorRef = field(kw_only=True)
    """The part."""
    dim: int = 0
    """The dimension along which the whole was cut."""
    start: int | None = None
    """Where in that dimension the part begins; None where the ranks' order alone tells."""


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a row-major tensor, in elements."""
    if len(shape) == 1:
        return (1,)
    strides: list[int] = []
    step = 1
    for length in reversed(shape):
        strides.append(step)
        step *= max(length, 1)
    return tuple(reversed(strides))


_usual_strides = lru_cache(1 << 12)(contiguous_strides)
"""The same, only to be compared: whoever asked first may have asked with 2.0 in place of 2."""


class _Extent(NamedTuple):
    """A shape with its strides; one for all the tensors that have them."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    elements: int
    reach: int
    """Elements of the storage from the tensor's first to behind its last."""


@lru_cache(1 << 12)
def _extent(shape: tuple[int, ...], strides: tuple[int, ...]) -> _Extent | None:
    """What integers as lengths and steps, of equal number, come to; None for impossible ones."""
    numbers = (*shape, *strides)
    # Empty dimensions are left to the full look: others of such a tensor count, too.
    if numbers and (min(numbers) < 0 or max(numbers) >= _PAST_INTEGERS or 0 in shape):
        return None
    reach = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    return _Extent(shape, strides, prod(shape), reach)


def checked_tensor(
    storage: Storage,
    offset: object,
    shape: object,
    strides: object,
    *,
    dtype: DType | None = None,
    requires_grad: bool | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> TensorRef:
    """A tensor over ``storage``, with every number checked before anything trusts it.

    Args:
        storage: Where the elements lie.
        offset: First element, in elements.
        shape: Lengths of the dimensions.
        strides: Steps in elements, one per dimension.
        dtype: Element type where it differs from the storage's (torch's untyped storages).
        requires_grad: As saved.
        limits: The bound on the number of elements.

    Raises:
        UnreadableError: Not integers, negative, or outside the storage.
        RefusedError: More elements than the limits allow.
    """
    element = dtype or storage.dtype
    if (
        type(offset) is int
        and 0 <= offset < _PAST_INTEGERS
        and type(shape) is tuple
        and type(strides) is tuple
        and len(shape) == len(strides) <= limits.dimensions
        # Before they are compared with numbers that are known: True is 1, and so is 1.0.
        and _INTEGER.issuperset(map(type, shape + strides))
    ):
        known = _extent(shape, strides)
        if (
            known is not None
            and known.elements <= limits.tensor_elements
            and (offset + known.reach) * element.itemsize <= storage.nbytes
        ):
            return TensorRef(
                element, known.shape, known.strides, offset, storage, requires_grad=requires_grad
            )
    # What is left is impossible, has no elements, or is written in an odd way: a full look.
    lengths, steps, starts = _integers(shape), _integers(strides), _integers((offset,))
    if min((*lengths, *steps, *starts)) < 0 or len(lengths) != len(steps):
        raise UnreadableError(
            f"storage {storage.key}: a tensor with shape {in_short(shape)}, strides "
            f"{in_short(strides)} and offset {in_short(offset)} is impossible",
            "the file is damaged; save it again from the original model",
        )
    # Empty dimensions left out: numpy, too, refuses (0, 2^62, 2^62).
    if len(lengths) > limits.dimensions or prod(n for n in lengths if n) > limits.tensor_elements:
        raise RefusedError(
            f"storage {storage.key}: a tensor of shape {in_short(lengths)} is past the limit of "
            f"{limits.tensor_elements:.3g} elements in {limits.dimensions} dimensions",
            "no model is that large: the file is damaged or malicious",
        )
    begin = starts[0]
    last = begin + sum((n - 1) * s for n, s in zip(lengths, steps, strict=True))
    if prod(lengths) and (last + 1) * element.itemsize > storage.nbytes:
        raise UnreadableError(
            f"storage {storage.key}: a tensor reaches to byte {(last + 1) * element.itemsize:,} "
            f"of a storage of {storage.nbytes:,}",
            "the file is damaged; save it again from the original model",
        )
    return TensorRef(element, lengths, steps, begin, storage, requires_grad=requires_grad)


def _integers(value: object) -> tuple[int, ...]:
    """Lengths and steps as torch can have them, 63 bits; -1 for whatever cannot be one."""
    if not isinstance(value, tuple | list):
        return (-1,)
    for n in value:
        if type(n) is not int or n.bit_length() >= 64:
            return tuple(n if type(n) is int and n.bit_length() < 64 else -1 for n in value)
    return tuple(value)


def tensor_without_data(
    dtype: DType, shape: object, note: str, *, requires_grad: bool | None = None
) -> TensorRef:
    """A tensor of which the file gives the shape, but no values that can be read."""
    if isinstance(shape, tuple | list) and len(shape) > DEFAULT_LIMITS.dimensions:
        raise RefusedError(f"a tensor of {len(shape):,} dimensions", limit="dimensions")
    lengths = tuple(max(0, n) for n in _integers(shape)) if shape != () else ()
    return TensorRef(
        dtype, lengths, contiguous_strides(lengths), 0, None, requires_grad=requires_grad, note=note
    )
