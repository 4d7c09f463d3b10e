"""Values of every type that travels between processes, made from its annotations."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
from hypothesis import strategies as st

from normcheck.live.measurement import Fed, NoiseAt, Regime
from normcheck.norms.belonging.agreement import Agreement
from normcheck.norms.belonging.first_norm import FirstNorm
from normcheck.norms.kinds import BY_NAME as KINDS
from normcheck.norms.kinds import NormKind
from normcheck.norms.recognise.baked_modes import BakedMode
from normcheck.saved.dtypes import BY_NAME as DTYPES
from normcheck.saved.dtypes import DType
from normcheck.saved.tensors import Storage

NAMES = {
    kind.__name__: kind for kind in (Fed, NoiseAt, Regime, Agreement, FirstNorm, BakedMode, DType)
}
NAMES |= {"Mapping": Mapping, "Inflow": NoneType}
TEXTS = st.text(st.characters(codec=None, categories=None), max_size=6)
"""Half surrogate pairs included: a file name may have them."""
NUMBERS = st.one_of(st.floats(), st.sampled_from([0.0, -0.0, float("nan"), float("inf"), 5e-324]))


def any_of(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of an annotation."""
    plain = {
        str: TEXTS, int: st.integers(-(2**70), 2**70), bool: st.booleans(), NoneType: st.none(),
        float: NUMBERS, bytes: st.binary(max_size=8), Storage: st.none(),
        DType: st.sampled_from(list(DTYPES.values())),
        NormKind: st.sampled_from(list(KINDS.values())),
    }  # fmt: skip
    if kind in plain:
        return plain[kind]
    arguments = get_args(kind)
    match get_origin(kind):
        case origin if origin in (Union, UnionType):
            return st.one_of(*map(any_of, arguments))
        case origin if origin is tuple and arguments[-1] is ...:
            return st.lists(st.deferred(lambda: any_of(arguments[0])), max_size=2).map(tuple)
        case origin if origin is tuple:
            return st.tuples(*map(any_of, arguments))
        case origin if origin is frozenset:
            return st.frozensets(any_of(arguments[0]), max_size=3)
        case origin if origin is Mapping:
            return st.dictionaries(TEXTS, any_of(arguments[1]), max_size=2)
        case origin if origin is np.ndarray:
            return st.lists(NUMBERS, max_size=4).map(np.array)
    if issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    assert is_dataclass(kind)
    hints = get_type_hints(kind, localns=NAMES)
    parts = {
        field.name: st.deferred(lambda h=hints[field.name]: any_of(h))
        for field in fields(kind)
        if field.init
    }
    return st.builds(kind, **parts)


def plainly(value: Any) -> Any:
    """A value as something that can be compared: NaN is NaN, -0.0 is not 0.0, types count."""
    if isinstance(value, Enum | DType | NormKind):
        return id(value)
    if is_dataclass(value):
        return (
            type(value),
            *(plainly(getattr(value, field.name)) for field in fields(value) if field.init),
        )
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes()
    if isinstance(value, tuple):
        return tuple(map(plainly, value))
    if isinstance(value, frozenset):
        return value
    if isinstance(value, Mapping):
        return tuple((name, plainly(item)) for name, item in value.items())
    return type(value), repr(value)
