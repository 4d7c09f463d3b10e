"""Dataclasses for which nothing is compiled.

``dataclasses.dataclass`` compiles six methods for each class, half a millisecond; the scan of a
small file imports well over a hundred such classes, makes instances of half of them and compares
next to none. Here the methods are closures over the names of the fields, and what describes the
fields is made when it is asked for: by ``fields``, ``replace``, ``asdict``, ``match``, ``help``.
An instance takes up to twice as long to make, and has no slots: what is made by the thousand stays
a ``dataclass``.
"""

from __future__ import annotations

import dataclasses
import inspect
import operator
import reprlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, dataclass_transform

_Class = TypeVar("_Class", bound=type)
_PLAN = "_lazy_dataclass"


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def lazy_dataclass(
    *,
    frozen: bool = True,
    eq: bool = True,
    order: bool = False,
    repr: bool = True,  # noqa: A002  # the word of dataclass
) -> Callable[[_Class], _Class]:
    """Like ``dataclass(frozen=frozen, eq=eq, order=order, repr=repr)``.

    What inherits fields of such a class is to be one itself.

    Args:
        frozen: Refuse to change an instance.
        eq: Compare by the values of the fields, and hash what is frozen by them; without it,
            both by identity.
        order: Order instances by the values of the fields.
        repr: Show the fields; without it, what a base of the class shows.
    """

    def decorate(cls: _Class) -> _Class:
        _Plan(cls, frozen=frozen, eq=eq, order=order, repr=repr).install()
        return cls

    return decorate


class _Plan:
    """What a class was written as, and how it becomes a dataclass."""

    def __init__(self, cls: type, **shape: bool) -> None:
        self.cls: Any = cls
        self.shape = shape
        self.kinds: dict[str, Any] = {}
        self.defaults: dict[str, Any] = {}
        """Values, and what ``field`` made."""
        for base in reversed(cls.__mro__[1:]):
            plan = vars(base).get(_PLAN)
            if plan is not None:
                self.kinds |= plan.kinds
                self.defaults |= plan.defaults
            elif "__dataclass_fields__" in vars(base):
                raise TypeError(f"{base.__name__}, a base of {cls.__name__}, is not lazy")
        own = _annotations(cls)
        self.kinds |= own
        self.defaults |= {name: vars(cls)[name] for name in own if name in vars(cls)}

    def install(self) -> None:
        """Put a placeholder where a dataclass has a method or an attribute."""
        for name, default in list(vars(self.cls).items()):
            if isinstance(default, dataclasses.Field):
                delattr(self.cls, name)
                if default.default is not dataclasses.MISSING:
                    setattr(self.cls, name, default.default)
        made = dict(self._methods())
        if self.shape["frozen"]:
            made["__setattr__"] = made["__delattr__"] = _refuse
        for name in ("__dataclass_fields__", "__match_args__"):
            made[name] = _Asked(self.make_fields, name)
        made["__signature__"] = _Asked(self.make_signature, "__signature__")
        if hasattr(dataclasses, "_replace"):  # from Python 3.13 on, for copy.replace
            made["__replace__"] = dataclasses._replace
        for name, value in made.items():
            setattr(self.cls, name, value)
        setattr(self.cls, _PLAN, self)

    def _methods(self) -> Iterator[tuple[str, Any]]:
        yield "__init__", self._init()
        own = vars(self.cls)
        if self.shape["repr"] and "__repr__" not in own:
            yield "__repr__", _shower(self._names("repr"))
        values = _getter(self._names("compare"))
        if self.shape["eq"] and "__eq__" not in own:
            yield "__eq__", _comparer(values, operator.eq)
            if own.get("__hash__") is None:
                yield "__hash__", (lambda me: hash(values(me))) if self.shape["frozen"] else None
        for name in ("lt", "le", "gt", "ge") * self.shape["order"]:
            yield f"__{name}__", _comparer(values, getattr(operator, name))

    def _names(self, use: str) -> list[str]:
        """The fields that take part in ``compare`` or ``repr``."""
        return [n for n in self.kinds if getattr(self.defaults.get(n), use, True)]

    def _init(self) -> Callable[..., None]:
        """An ``__init__`` that nothing was compiled for."""
        names, put = tuple(self.kinds), object.__setattr__
        known, count = frozenset(names), len(names)
        given: dict[str, Any] = {}
        anew: dict[str, Callable[[], Any]] = {}
        for name, default in self.defaults.items():
            if not isinstance(default, dataclasses.Field):
                given[name] = default
            elif default.default is not dataclasses.MISSING:
                given[name] = default.default
            elif default.default_factory is not dataclasses.MISSING:
                anew[name] = default.default_factory

        def __init__(instance: object, *args: Any, **words: Any) -> None:  # noqa: N807
            if len(args) == count and not words:
                put(instance, "__dict__", dict(zip(names, args)))  # noqa: B905  # of one length
                return
            values = {**given, **words} if words else given.copy()
            if args:
                # A field that is given twice, and what is too much, are looked at below.
                values.update(zip(names, args))  # noqa: B905
            for name, make in anew.items():
                if name not in values:
                    values[name] = make()
            if (
                len(values) != count
                or not known.issuperset(words)
                or len(args) > count
                or (args and words and not words.keys().isdisjoint(names[: len(args)]))
            ):
                self._twin(init=True)(*args, **words)  # says what is wrong with them
            put(instance, "__dict__", values)

        return __init__

    def make_fields(self) -> None:
        """Take what describes the fields from a twin."""
        twin = self._twin(init=False, repr=False, eq=False)
        for name in ("__dataclass_fields__", "__match_args__"):
            setattr(self.cls, name, vars(twin)[name])

    def make_signature(self) -> None:
        """Take what ``help`` shows from a twin."""
        self.cls.__signature__ = inspect.signature(self._twin(repr=False, eq=False))

    def _twin(self, **shape: bool) -> Any:
        """A class of the same fields that is a dataclass of the standard library."""
        # With words of its own, or dataclass writes the signature into their place.
        written = {"__annotations__": self.kinds, "__doc__": self.cls.__doc__ or "-"}
        written |= {name: getattr(self.cls, name) for name in ("__module__", "__qualname__")}
        twin = type(self.cls.__name__, (), self.defaults | written)
        return dataclasses.dataclass(**shape)(twin)


class _Asked:
    """An attribute of a class that is made when it is asked for."""

    def __init__(self, make: Callable[[], None], name: str) -> None:
        self._make, self._name = make, name

    def __get__(self, instance: object, owner: type) -> Any:
        self._make()
        return getattr(owner, self._name)


if TYPE_CHECKING:
    from dataclasses import replace as replace  # noqa: PLC0414  (mypy knows its words)
else:

    def replace(instance, /, **changes):
        """Like ``dataclasses.replace``, which looks at each field for as long as this takes.

        Args:
            instance: Stays as it is.
            changes: New values of fields.
        """
        plan = vars(type(instance)).get(_PLAN)
        if plan is None or not plan.kinds.keys() >= changes.keys():
            return dataclasses.replace(instance, **changes)  # says what is wrong with them
        values = instance.__dict__
        # Not all of it: what was worked out for the instance stands there, too.
        made = {name: values[name] for name in plan.kinds}
        made.update(changes)
        twin = object.__new__(type(instance))
        object.__setattr__(twin, "__dict__", made)
        return twin


def _getter(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """The values of some fields of an instance."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda instance: tuple(getattr(instance, name) for name in names)


def _comparer(
    values: Callable[[Any], tuple[Any, ...]], how: Callable[[Any, Any], bool]
) -> Callable[[Any, Any], Any]:
    def compare(me: object, other: object) -> Any:
        return how(values(me), values(other)) if type(me) is type(other) else NotImplemented

    return compare


def _shower(names: Sequence[str]) -> Callable[[Any], str]:
    @reprlib.recursive_repr()
    def show(me: object) -> str:
        shown = ", ".join(f"{name}={getattr(me, name)!r}" for name in names)
        return f"{type(me).__qualname__}({shown})"

    return show


def _annotations(cls: type) -> dict[str, Any]:
    """Those of the class itself, in the order in which they were written."""
    own: dict[str, Any] | None = vars(cls).get("__annotations__")
    if own is None and sys.version_info >= (3, 14):  # evaluated when they are asked for
        from annotationlib import Format, get_annotations

        return get_annotations(cls, format=Format.FORWARDREF)
    return own or {}


def _refuse(self: object, name: str, _value: object = None) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"{type(self).__name__}.{name} cannot be changed")
