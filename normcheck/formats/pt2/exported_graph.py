"""The graph of an exported program, from the JSON that ``torch.export`` writes.

Untrusted: anything of another shape than the schema's raises KeyError, TypeError, ValueError
or the like, which the reader turns into an error about the file.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from normcheck.errors import RefusedError
from normcheck.formats import aten
from normcheck.formats.aten import UNKNOWN, Argument, Value
from normcheck.saved.graph import Graph, Node
from normcheck.sources.limits import Budget

_NODE_BYTES = 2_048
_REPEATED = re.compile(r"@\d+$")
_SUBSCRIPT = re.compile(r"\[['\"]?([\w.]+)['\"]?\]")
_DEEPEST = 50
"""Graphs within graphs; real ones have one or two levels (conditions, no_grad blocks)."""


def exported_graph(module: Mapping[str, Any], budget: Budget) -> Graph:
    """The graph of a ``GraphModule`` of the schema.

    Args:
        module: As parsed.
        budget: Of the file.
    """
    signature = module["signature"]
    stored, given = _inputs(signature["input_specs"])
    updated = set()
    for spec in signature["output_specs"]:
        changed = spec.get("buffer_mutation") or spec.get("parameter_mutation")
        if changed:
            updated.add(_text(changed.get("buffer_name") or changed.get("parameter_name")))
    graph = module["graph"]
    nodes = tuple(_nodes(graph, "", {}, budget, 0))
    # Programs that are not functional yet write to their buffers in place.
    for node in nodes:
        if aten.in_place(node.target) and node.inputs and node.inputs[0] in stored:
            updated.add(stored[node.inputs[0]])
        if node.training and "running_mean" in node.operands:
            updated |= {
                stored[node.operands[part]]
                for part in ("running_mean", "running_var")
                if node.operands.get(part) in stored
            }
    return Graph(
        nodes=nodes,
        inputs=given,
        outputs=tuple(v.name for v in _tensors(graph["outputs"])),
        stored=stored,
        shapes={
            _text(name): tuple(_length(size) for size in meta["sizes"])
            for name, meta in graph["tensor_values"].items()
            if len(meta["sizes"]) <= budget.limits.dimensions
        },
        updated=frozenset(updated),
    )


def _inputs(specs: list[Any]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Values that are stored tensors with their names, and values that the user gives."""
    stored: dict[str, str] = {}
    given: list[str] = []
    for spec in specs:
        for kind, name in (
            ("parameter", "parameter_name"),
            ("buffer", "buffer_name"),
            ("tensor_constant", "tensor_constant_name"),
        ):
            if spec.get(kind):
                stored[_text(spec[kind]["arg"]["name"])] = _text(spec[kind][name])
        if spec.get("user_input"):
            given += [v.name for v in _tensors([spec["user_input"]["arg"]])]
    return stored, tuple(given)


def _nodes(
    graph: Mapping[str, Any], prefix: str, outer: Mapping[str, str], budget: Budget, depth: int
) -> Iterator[Node]:
    """The nodes, those of graphs within it at their places.

    Args:
        graph: As parsed.
        prefix: Put before the names of an inner graph, which may repeat the outer ones.
        outer: What an inner graph calls its inputs, and what the outer one calls them.
        budget: Of the file.
        depth: Of graphs within graphs.
    """
    if depth > _DEEPEST:
        raise RefusedError(f"graphs nested more than {_DEEPEST} deep", limit="nesting")

    def named(value: Value) -> Value:
        return Value(outer[value.name]) if value.name in outer else Value(prefix + value.name)

    for described in graph["nodes"]:
        budget.spend(_NODE_BYTES)
        arguments = [
            (_text(a["name"]), _renamed(_argument(a["arg"]), named)) for a in described["inputs"]
        ]
        outputs = tuple(named(v).name for v in _tensors(described["outputs"]))
        name = prefix + _text(described.get("name") or (outputs[0] if outputs else ""))
        path, class_path = module_of(described.get("metadata") or {})
        target = _text(described["target"])
        inner_graphs = _inner_graphs(described["inputs"])
        yield aten.node(
            target.removeprefix("torch.ops."),
            name,
            [value for key, value in arguments if not key],
            {key: value for key, value in arguments if key},
            # What a block of one graph gives is made by an operator in it; of several graphs
            # one runs, and which is not known.
            outputs if len(inner_graphs) != 1 else (),
            path,
            class_path,
        )
        operands = [v.name for _, a in arguments for v in aten.values_in(a)]
        for inner in inner_graphs:
            takes = [v.name for v in _tensors(inner["inputs"])]
            gives = [v.name for v in _tensors(inner["outputs"])]
            below = f"{name}/"
            # The values of an inner graph are called after all graphs around it.
            budget.spend(len(below) * len(inner["nodes"]))
            given = operands[max(0, len(operands) - len(takes)) :]
            renamed = dict(zip(takes, given, strict=False))
            renamed |= dict(zip(gives, outputs, strict=False))
            yield from _nodes(inner, below, renamed, budget, depth + 1)


def _inner_graphs(inputs: list[Any]) -> list[Mapping[str, Any]]:
    return [a["arg"]["as_graph"]["graph"] for a in inputs if "as_graph" in a["arg"]]


def _argument(described: Mapping[str, Any]) -> Argument:
    """An argument of the schema's union: one key that says the type."""
    ((kind, value),) = described.items()
    if kind in ("as_none", "as_graph"):
        return None if kind == "as_none" else UNKNOWN
    if kind == "as_tensor":
        return Value(_text(value["name"]))
    if kind == "as_optional_tensor":
        return _argument(value)
    if kind in ("as_tensors", "as_nested_tensors", "as_optional_tensors"):
        return tuple(
            Value(_text(v["name"])) if isinstance(v, dict) and "name" in v else _listed(v)
            for v in value
        )
    if kind in _PLAIN:
        return _PLAIN[kind](value)
    if kind.removesuffix("s") in _PLAIN:
        return tuple(_PLAIN[kind.removesuffix("s")](v) for v in _list(value))
    if kind in ("as_sym_int", "as_sym_bool", "as_sym_float"):
        return _symbol(value)
    if kind in ("as_sym_ints", "as_sym_bools", "as_sym_floats"):
        return tuple(_symbol(v) for v in _list(value))
    return UNKNOWN


def _symbol(value: Mapping[str, Any]) -> Argument:
    """A number, or the name of one that is computed."""
    ((kind, number),) = value.items()
    return _PLAIN[kind](number) if kind in _PLAIN else UNKNOWN


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("no list")
    return value


def _int(value: object) -> int:
    if not isinstance(value, int) or value.bit_length() > 63:
        raise TypeError("no integer")
    return value


def _float(value: object) -> float:
    # Infinities and NaN are written as text.
    if not isinstance(value, int | float | str):
        raise TypeError("no number")
    return float(value)


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("no truth value")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a name that is no text")
    return value


_PLAIN: Mapping[str, Callable[[object], bool | int | float | str]] = {
    "as_int": _int, "as_float": _float, "as_bool": _bool, "as_string": _text,
}  # fmt: skip


def _listed(value: Any) -> Argument:
    if isinstance(value, list):
        return tuple(Value(_text(v["name"])) for v in value)
    return _argument(value) if isinstance(value, dict) else UNKNOWN


def _renamed(argument: Argument, named: Any) -> Argument:
    if isinstance(argument, Value):
        return named(argument)
    if isinstance(argument, tuple):
        return tuple(_renamed(part, named) for part in argument)
    return argument


def _tensors(arguments: list[Any]) -> list[Value]:
    return [v for a in arguments for v in aten.values_in(_argument(a))]


def _length(size: Mapping[str, Any]) -> int | None:
    value = size.get("as_int")
    return value if type(value) is int and 0 <= value < 1 << 48 else None


def module_of(metadata: Mapping[str, Any]) -> tuple[str, str | None]:
    """Path and class of the innermost module that a node was made from.

    ``nn_module_stack`` is ``key,path,class;key,path,class``, from the outside in.
    """
    stack = metadata.get("nn_module_stack")
    if not isinstance(stack, str) or not stack:
        return "", None
    parts = stack.rpartition(";")[2].split(",")
    if len(parts) < 3:
        return "", None
    path = _REPEATED.sub("", parts[1])
    if path.startswith(("L[", "L__self__")):
        # Strict mode writes how it got there: L['self']._modules['layer1']
        path = _SUBSCRIPT.sub(r".\1", path.removeprefix("L['self']")).replace("._modules", "")
    return path.strip("."), ",".join(parts[2:])
