"""Dataclasses of which thousands are made.

A frozen dataclass sets each of its fields by a call, so that making one takes four times as long as
making one that is not; with slots, either is as quick to read. So these are frozen for whoever
checks types, and nobody else looks.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

_Class = TypeVar("_Class")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def often_made(*, eq: bool = True) -> Callable[[type[_Class]], type[_Class]]:
    """Like ``dataclass(frozen=True, slots=True, eq=eq)``, for a program that mypy has checked.

    Args:
        eq: Compare and hash by the values of the fields; without it, by identity.
    """

    def decorate(cls: type[_Class]) -> type[_Class]:
        return dataclass(slots=True, eq=eq, unsafe_hash=eq)(cls)

    return decorate
