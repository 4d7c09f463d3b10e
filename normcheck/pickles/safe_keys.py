"""Which values of a file may be hashed, as keys and members of sets."""

from typing import Any

from normcheck.errors import RefusedError
from normcheck.pickles.inert import OrderedRecord
from normcheck.sources.limits import Limits

_UNHASHABLE = (list, dict, set, bytearray)


def hashable(value: object, limits: Limits) -> Any:
    """``value`` as a dictionary key or set member, where hashing it is safe.

    Hashing nested tuples recurses in C without a guard: deep ones end the process.

    Raises:
        TypeError: It is no key.
        RefusedError: Nested too deep, or made to collide.
    """
    if isinstance(value, _UNHASHABLE) and not isinstance(value, OrderedRecord):
        raise TypeError(f"{type(value).__name__} as a dictionary key")
    level: list[object] = [value]
    members = 0
    for _ in range(limits.key_nesting):
        # Integers hash by their remainder, so that long ones can be made to collide.
        if any(isinstance(part, int) and part.bit_length() > 64 for part in level):
            break
        tuples = [part for part in level if isinstance(part, tuple)]
        if not tuples:
            return value
        members += sum(map(len, tuples))
        if members > limits.key_items:
            break
        level = [part for members_of in tuples for part in members_of]
    raise RefusedError("a dictionary key of deeply nested or very long tuples or integers")
