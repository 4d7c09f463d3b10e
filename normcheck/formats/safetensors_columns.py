"""Headers of safetensors files as the library writes them, read into columns.

Whatever else JSON allows (other orders of keys, escapes in names, numbers in other forms), and
whatever is wrong with a header, is left to those who look at each tensor by itself and say what
is wrong: nothing is refused here, and nothing is taken that they would refuse.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from normcheck.errors import NormcheckError
from normcheck.formats.bounded_json import parse_within
from normcheck.lazy_pattern import lazy_pattern
from normcheck.saved.key_order import natural_keys
from normcheck.saved.tensor_columns import Integers, TensorColumns
from normcheck.saved.tensors import TensorRef
from normcheck.sources.source import Source

_GAP = r"[ \t\r\n]*"
_OFFSET = "(0|[1-9][0-9]{0,17})"
"""Eighteen digits are less than 63 bits."""
_ENTRY = lazy_pattern(
    _GAP.join(
        (
            "", r'"([^"\\\x00-\x1f]*)"', ":", r"\{",
            # As one, which repeats: what an entry says of type and shape.
            _GAP.join(
                ('("dtype"', ":", '"[A-Z0-9_]+"', ",", '"shape"', ":", r"\[[0-9, \t\r\n]*\])")
            ),
            ",", '"data_offsets"', ":", r"\[", _OFFSET, ",", _OFFSET, r"\]", r"\}", "([,}])",
        )
    )
)  # fmt: skip
"""A tensor, and what stands behind it. Matched where the last one ended and never searched for:
a search would go through a long gap from each of its places."""
METADATA = "__metadata__"
_START = lazy_pattern(_GAP + r"\{")
_METADATA_FIRST = lazy_pattern(_GAP.join((_START.pattern, f'"{METADATA}"', ":", "")))
_COMMA = lazy_pattern(_GAP + ",")


def read_columns(
    source: Source,
    raw: bytes,
    begin: int,
    pattern_of: Callable[[dict[str, Any]], TensorRef | None],
) -> tuple[TensorColumns, object] | None:
    """The tensors of a header and its metadata; None where each is to be looked at by itself.

    Args:
        source: The file.
        raw: The header.
        begin: Where in the file the bytes of the tensors begin.
        pattern_of: Makes a tensor of what an entry says of its type and shape; None, or a
            ``NormcheckError``, where that is no usual one.
    """
    metadata: object = None
    try:
        text = raw.decode("utf-8")
        first = _METADATA_FIRST.match(text)
        if first is not None:
            metadata, at = parse_within(text, first.end())
            start = _COMMA.match(text, at)
        else:
            start = _START.match(text)
        if start is None:
            return None
        return _columns(source, text, start.end(), begin, pattern_of), metadata
    except (NormcheckError, ValueError, OverflowError, RecursionError):
        return None


class _IrregularError(ValueError):
    """Something stands in a header that is not looked at here."""


def _columns(
    source: Source,
    text: str,
    at: int,
    begin: int,
    pattern_of: Callable[[dict[str, Any]], TensorRef | None],
) -> TensorColumns:
    names: list[str] = []
    kinds: list[int] = []
    firsts: list[int] = []
    lasts: list[int] = []
    known: dict[str, int] = {}
    patterns: list[TensorRef] = []
    match, behind = _ENTRY.match, ","
    while behind == ",":
        found = match(text, at)
        if found is None:
            raise _IrregularError
        name, described, first, last, behind = found.groups()
        at = found.end()
        kind = known.get(described)
        if kind is None:
            pattern = pattern_of(json.loads(f"{{{described}}}"))
            if pattern is None:
                raise _IrregularError
            kind = known[described] = len(patterns)
            patterns.append(pattern)
        names.append(name)
        kinds.append(kind)
        firsts.append(int(first))
        lasts.append(int(last))
    if text[at:].strip(" \t\r\n"):
        raise _IrregularError
    keys = natural_keys(names)
    order = np.array(sorted(range(len(names)), key=keys.__getitem__), dtype=np.int64)
    del keys
    columns = [np.array(column, dtype=np.int64)[order] for column in (kinds, firsts, lasts)]
    which, starts, ends = columns
    lengths = np.array([p.numel * p.dtype.itemsize for p in patterns], dtype=np.int64)
    if not _fill(starts, ends, source.size - begin) or (ends - starts != lengths[which]).any():
        raise _IrregularError
    tensors = TensorColumns(
        source, [names[place] for place in order.tolist()], starts + begin, which, patterns
    )
    if len(tensors) < len(names) or METADATA in tensors:
        raise _IrregularError
    return tensors


def _fill(starts: Integers, ends: Integers, size: int) -> bool:
    """Whether spans lie one behind the other and fill so many bytes."""
    order = np.lexsort((ends, starts))
    edges = np.concatenate(([0], ends[order]))
    return bool((starts[order] == edges[:-1]).all() and edges[-1] == size)
