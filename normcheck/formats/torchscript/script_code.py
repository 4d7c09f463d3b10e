"""The code text of a TorchScript archive, parsed and never executed.

``torch.jit.save`` prints each class and function as text in a subset of Python. Python's own
parser reads it; what it means is told by ``script_graph.py``.
"""

import ast
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import TypeGuard

from normcheck.errors import RefusedError, UnreadableError
from normcheck.formats.zip_directory import Archive
from normcheck.formats.zip_members import find
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.saved.checkpoint import Plain
from normcheck.sources.limits import Budget
from normcheck.sources.source import Source

_MANGLED = re.compile(r"\.?___torch_mangle_\d+")
_TOKEN = re.compile(r"\w+|[^\w\s]|\n")
_TOKEN_BYTES = 1_000
"""Memory of a syntax tree per token of its text, from above: a name that is a statement takes
900 and a line, so that a text may become 900 times its length."""
_MOST_BITS = 64
"""Of an integer: TorchScript has no longer ones, and Python does not print very long ones."""


@lazy_dataclass(eq=False)
class ScriptClass:
    """One class of the code."""

    name: str
    """Qualified, as the pickle names it."""
    parameters: frozenset[str]
    buffers: frozenset[str]
    absent: frozenset[str]
    """Attributes whose type is NoneType."""
    constants: Mapping[str, Plain]
    """What the class declares as ``Final``: eps, momentum, strides …"""
    methods: Mapping[str, ast.FunctionDef]


@lazy_dataclass(eq=False)
class Code:
    """All classes and functions of an archive, by qualified name."""

    classes: Mapping[str, ScriptClass] = field(default_factory=dict)
    functions: Mapping[str, ast.FunctionDef] = field(default_factory=dict)


def plain_name(qualified: str) -> str:
    """A class's own path, without what TorchScript adds to it.

    >>> plain_name("__torch__.torch.nn.modules.batchnorm.___torch_mangle_3.BatchNorm2d")
    'torch.nn.modules.batchnorm.BatchNorm2d'
    """
    return _MANGLED.sub("", qualified.removeprefix("__torch__.")).removeprefix(".")


def read_code(source: Source, archive: Archive, root: str, budget: Budget) -> Code:
    """Parse every ``code/**.py`` below ``root``.

    Raises:
        UnreadableError: A text that is not in the subset of Python that torch writes.
        RefusedError: Longer or more deeply nested than the limits allow.
    """
    classes: dict[str, ScriptClass] = {}
    functions: dict[str, ast.FunctionDef] = {}
    folder = f"{root}code/"
    for member in archive.infolist():
        name = member.filename
        if not (name.startswith(folder) and name.endswith(".py")):
            continue
        module = name[len(folder) : -len(".py")].replace("/", ".")
        for statement in _parsed(source, member, budget).body:
            if isinstance(statement, ast.ClassDef):
                qualified = f"{module}.{statement.name}"
                classes[qualified] = _class(qualified, statement)
            elif isinstance(statement, ast.FunctionDef):
                functions[f"{module}.{statement.name}"] = statement
    return Code(classes, functions)


def _parsed(source: Source, member: zipfile.ZipInfo, budget: Budget) -> ast.Module:
    region = find(source, member, budget)
    if region.nbytes > budget.limits.json_bytes:
        raise RefusedError(f"{member.filename[:80]} is too long a text", limit="json_bytes")
    budget.spend(4 * region.nbytes)
    raw = region.read(0, region.nbytes)
    try:
        # As text, so that no line of it can name another encoding, whose codec is imported.
        text = raw.decode("utf-8")
        budget.spend(_TOKEN_BYTES * sum(1 for _ in _TOKEN.finditer(text)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its style: nothing of it will run
            return ast.parse(text)
    except (RecursionError, MemoryError) as error:
        # The parser gives up so on nesting, long before memory is short.
        raise RefusedError(
            f"{source.name}: {member.filename[:80]} is nested too deep", limit="nesting"
        ) from error
    except (SyntaxError, ValueError) as error:
        raise UnreadableError(
            f"{source.name}: {member.filename[:80]} is not TorchScript code",
            "the file is damaged; export the model again",
        ) from error


def _class(qualified: str, statement: ast.ClassDef) -> ScriptClass:
    lists = {"__parameters__": frozenset[str](), "__buffers__": frozenset[str]()}
    absent: set[str] = set()
    constants: dict[str, Plain] = {}
    methods: dict[str, ast.FunctionDef] = {}
    for part in statement.body:
        if isinstance(part, ast.FunctionDef):
            methods[part.name] = part
        elif isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name):
            lists[part.targets[0].id] = frozenset(_texts(part.value))
        elif isinstance(part, ast.AnnAssign):
            name = _target(part.target)
            if isinstance(part.annotation, ast.Name) and part.annotation.id == "NoneType":
                absent.add(name)
            elif part.value is not None:
                constants[name] = literal(part.value)
    return ScriptClass(
        qualified,
        lists["__parameters__"],
        lists["__buffers__"],
        frozenset(absent),
        constants,
        methods,
    )


def _target(target: ast.expr) -> str:
    """``name : T``, or ``__annotations__["0"] = T`` for names that are no identifiers."""
    if isinstance(target, ast.Name):
        return target.id
    if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
        return str(target.slice.value)
    return ""


def _texts(value: ast.expr) -> Iterator[str]:
    if isinstance(value, ast.List | ast.Tuple):
        for item in value.elts:
            if isinstance(item, ast.Constant) and isinstance(item.value, str):
                yield item.value


def is_plain(value: object) -> TypeGuard[bool | int | float | str | None]:
    """Whether a value is one that TorchScript can keep as a constant."""
    if isinstance(value, int):
        return value.bit_length() <= _MOST_BITS
    return value is None or isinstance(value, float | str)


def literal(value: ast.expr) -> Plain:
    """A number, text, truth value or list of them; None for anything else, and for None."""
    if isinstance(value, ast.Constant):
        held = value.value
        return held if is_plain(held) else None
    if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub):
        number = literal(value.operand)
        return -number if isinstance(number, int | float) else None
    if isinstance(value, ast.List | ast.Tuple):
        return tuple(literal(item) for item in value.elts)
    return None
