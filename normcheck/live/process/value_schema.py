"""From what JSON holds to values of declared types: the data name nothing that is looked up.

Which class stands where follows from the annotations of the value that is asked for, so the
types that bytes can become are those that can be reached from it, and no other. Each field is
held against its type before anything is built of it.
"""

import binascii
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from math import prod
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from normcheck.norms.kinds import BY_NAME as KINDS
from normcheck.norms.kinds import NormKind
from normcheck.norms.layer import NormLayer
from normcheck.saved.dtypes import BY_NAME as DTYPES
from normcheck.saved.dtypes import DType
from normcheck.saved.tensors import Storage

SHARED: tuple[type, ...] = (NormLayer, np.ndarray)
"""Written once for each object and then by number: layers are told apart by identity."""
NUMBERS = "<f8"
"""The one element type of arrays that travel."""
_OURS = "normcheck."
_MOST_SIGNATURES = 1024
"""Kept for each class. The fields of honest values come in a few combinations of types."""

Seen = list[Any]
"""Shared values so far, by their number."""
Convert = Callable[[Any, Seen], Any]
Arms = Mapping[type, Convert | None]
"""What JSON may hold in a place, and what makes the value of it; None where it is the value."""


@cache
def arms_of(kind: Any) -> Arms:
    """What may stand where a value of a type is to be.

    Args:
        kind: An annotation: a plain type, an enumeration, a dataclass, an array of float64, or
            a tuple, frozenset, mapping or union of these.

    Raises:
        TypeError: It is none of them.
    """
    if kind in (str, int, bool, NoneType):
        return {kind: None}
    if kind is float:
        return {float: None, int: None}
    if kind is bytes:
        return {str: lambda raw, _: binascii.a2b_base64(raw, strict_mode=True)}
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return _either([arms_of(arm) for arm in get_args(kind)], kind)
    if origin is tuple:
        return {list: _tuple_of(get_args(kind))}
    if origin is frozenset:
        members = _tuple_of((*get_args(kind), ...))
        return {list: lambda raw, seen: frozenset(members(raw, seen))}
    if origin in (Mapping, dict):
        return {dict: _mapping_of(*get_args(kind))}
    if origin is np.ndarray:
        return {list: _array, int: _known(np.ndarray)}
    return _own(kind)


def _own(kind: Any) -> Arms:
    if kind is Storage:
        return {NoneType: None}  # bytes of a file, which stay where they are
    if kind is NormKind:
        return {str: lambda raw, _: KINDS[raw]}
    if kind is DType:
        return {str: lambda raw, _: DTYPES[raw]}
    if isinstance(kind, type) and issubclass(kind, Enum):
        members = {member.value: member for member in kind}
        return {str: lambda raw, _: members[raw]}
    if isinstance(kind, type) and is_dataclass(kind) and kind.__module__.startswith(_OURS):
        build = _builder(kind)
        return {list: build, int: _known(kind)} if kind in SHARED else {list: build}
    raise TypeError(f"{kind!r} is nothing that travels")


def _either(choices: list[Arms], kind: Any) -> Arms:
    both: dict[type, Convert | None] = {}
    for arms in choices:
        for raw, convert in arms.items():
            if raw in both and (convert or both[raw]):
                raise TypeError(f"{kind!r}: JSON does not tell its members apart")
            both[raw] = convert
    return both


def convert(raw: Any, arms: Arms, seen: Seen) -> Any:
    """The value that JSON's ``raw`` stands for.

    Raises:
        KeyError: It is of a type, or names a member, that is none of the place.
        ValueError: Its parts are not what they must be.
    """
    made = arms[type(raw)]
    return raw if made is None else made(raw, seen)


def _tuple_of(arguments: tuple[Any, ...]) -> Convert:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arms = arms_of(arguments[0])
        plain = frozenset(raw for raw, made in arms.items() if made is None)

        def members(raw: list[Any], seen: Seen) -> tuple[Any, ...]:
            kinds = set(map(type, raw))
            if kinds <= plain:
                return tuple(raw)
            if len(kinds) > 1:
                return tuple([convert(item, arms, seen) for item in raw])
            made = arms[kinds.pop()]
            return tuple([made(item, seen) for item in raw])  # type: ignore[misc]  # not plain

        return members
    each = [arms_of(argument) for argument in arguments]

    def fixed(raw: list[Any], seen: Seen) -> tuple[Any, ...]:
        return tuple([convert(v, arms, seen) for v, arms in zip(raw, each, strict=True)])

    return fixed


def _mapping_of(key: Any, value: Any) -> Convert:
    if key is not str:
        raise TypeError(f"a mapping of {key!r}: JSON has texts for keys")
    arms = arms_of(value)
    return lambda raw, seen: {name: convert(item, arms, seen) for name, item in raw.items()}


def _known(kind: type) -> Convert:
    def shared(raw: int, seen: Seen) -> Any:
        if not (0 <= raw < len(seen) and isinstance(seen[raw], kind)):
            raise ValueError("a number of nothing that came before")
        return seen[raw]

    return shared


def _array(raw: list[Any], seen: Seen) -> Any:
    shape, text = raw
    if type(shape) is not list or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("a shape that is none")
    data = bytearray(binascii.a2b_base64(text, strict_mode=True))
    if len(data) != 8 * prod(shape):
        raise ValueError("an array of another length than its shape")
    seen.append(np.frombuffer(data, NUMBERS).reshape(shape))
    return seen[-1]


def _builder(kind: type) -> Convert:
    """What makes values of a dataclass; looks at its annotations when the first is made."""
    each: list[Arms] = []
    rest: list[tuple[int, Arms]] = []
    known: set[tuple[type, ...]] = set()
    shared = kind in SHARED

    def check(signature: tuple[type, ...]) -> None:
        if not each:
            each.extend(arms_of(hint) for hint in _hints(kind))
            rest.extend((place, arms) for place, arms in enumerate(each) if any(arms.values()))
        fits = len(signature) == len(each) and all(
            part in arms for part, arms in zip(signature, each, strict=True)
        )
        if not fits:
            raise ValueError(f"not the parts of {kind.__name__}")
        if len(known) < _MOST_SIGNATURES:
            known.add(signature)

    def build(raw: list[Any], seen: Seen) -> Any:
        # Thousands for one run: to have seen the same types before is a third of the time.
        signature = tuple(map(type, raw))
        if signature not in known:
            check(signature)
        number = len(seen)
        if shared:
            seen.append(None)
        for place, arms in rest:
            made = arms[signature[place]]
            if made is not None:
                raw[place] = made(raw[place], seen)
        value = kind(*raw)
        if shared:
            seen[number] = value
        return value

    return build


def _hints(kind: type) -> list[Any]:
    """The annotations of a dataclass, in the order of its constructor's arguments."""
    parts = [part for part in fields(kind) if part.init]  # what is worked out again does not travel
    if any(part.kw_only for part in parts):
        raise TypeError(f"{kind!r} cannot be built of its parts in their order")
    try:
        hints = get_type_hints(kind)
    except NameError:
        hints = get_type_hints(kind, localns=_named_for_checkers())
    return [hints[part.name] for part in parts]


def _named_for_checkers() -> dict[str, Any]:
    """What our modules import for annotations only, so that reading files needs none of it."""
    from normcheck.live.measurement import Fed, NoiseAt, Regime
    from normcheck.norms.belonging.agreement import Agreement
    from normcheck.norms.belonging.first_norm import FirstNorm
    from normcheck.norms.recognise.baked_modes import BakedMode

    known = (Fed, NoiseAt, Regime, Agreement, FirstNorm, BakedMode, DType, Mapping)
    # What a graph shows on the way to weights stays in its process: it holds functions.
    return {kind.__name__: kind for kind in known} | {"Inflow": NoneType}
