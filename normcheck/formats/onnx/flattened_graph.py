"""An ONNX model as one list of calls: functions inlined, the graphs of control flow opened.

A name means something only within its graph, so that each graph and each use of a function gets
a prefix of its own; what the model itself defines keeps its name.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from normcheck.errors import RefusedError, UnreadableError
from normcheck.formats.onnx.stored_tensors import TensorReader
from normcheck.saved.tensors import TensorRef, tensor_without_data
from normcheck.sources.limits import Budget

if TYPE_CHECKING:
    from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto

_CALL_BYTES = 2_048
"""A call and the node that it becomes, from above."""
_DEPTH = 64
"""Functions and graphs within each other; exporters write up to about ten."""
_STANDARD = ("", "ai.onnx")
_FLOAT, _INT, _STRING, _TENSOR, _GRAPH, _FLOATS, _INTS, _STRINGS = range(1, 9)
_GRAPHS, _SPARSE = 10, 11
"""``AttributeProto.AttributeType``."""
_DAMAGED = "the file is damaged, or a tool left it unfinished; export the model again"

Attribute = int | float | str | tuple[int | float | str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One operator as the file has it, its names made unique."""

    op_type: str
    domain: str
    """Empty for the operators of ONNX itself."""
    version: int
    """Of the operator set that it is of; 0 where the file does not say."""
    name: str
    inputs: tuple[str, ...]
    """By position; empty for those left out."""
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Flat:
    """What one model computes, and the tensors that it holds."""

    calls: list[Call] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    initialisers: dict[str, TensorRef] = field(default_factory=dict)
    constants: dict[str, TensorRef] = field(default_factory=dict)
    """Of ``Constant`` nodes."""
    numbers: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Of ``Constant`` nodes that write them as attributes."""
    shapes: dict[str, tuple[int | None, ...]] = field(default_factory=dict)
    control_flow: bool = False


@dataclass(slots=True, eq=False)
class _Scope:
    """What names mean within one graph or one use of a function."""

    prefix: str
    versions: Mapping[str, int]
    outer: "_Scope | None" = None
    names: dict[str, str] = field(default_factory=dict)
    arguments: Mapping[str, "AttributeProto"] = field(default_factory=dict)
    """What the attributes of a function are in this use of it."""
    calling: tuple[tuple[str, str, str], ...] = ()
    """The functions that led here."""
    depth: int = 0

    def define(self, name: str) -> str:
        """A value of this scope; its unique name."""
        if name and name not in self.names:
            self.names[name] = self.prefix + name
        return self.names.get(name, "")

    def find(self, name: str) -> str | None:
        """What a name means here; None where nothing makes it."""
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return None


class Flattener:
    """Goes through one model."""

    def __init__(self, model: "ModelProto", reader: TensorReader, budget: Budget) -> None:
        """Take the model's functions; nothing is walked yet."""
        self._model = model
        self._reader = reader
        self._budget = budget
        self._functions = {(f.domain, f.name, f.overload): f for f in model.functions}
        self.flat = Flat()

    def run(self) -> Flat:
        """Walk the model.

        Raises:
            UnreadableError: A value that nothing makes, a function that calls itself.
            RefusedError: Past the limits.
        """
        graph = self._model.graph
        scope = _Scope("", _versions(self._model.opset_import))
        self.flat.outputs = self._graph(graph, scope)
        self.flat.inputs = [scope.names[v.name] for v in _inputs(graph)]
        return self.flat

    def _graph(self, graph: "GraphProto", scope: _Scope) -> list[str]:
        """Walk one graph; the unique names of its outputs."""
        for tensor in graph.initializer:
            value = scope.define(tensor.name)
            self.flat.initialisers[value] = self._reader.reference(tensor, tensor.name)
        for sparse in graph.sparse_initializer:
            value = scope.define(sparse.values.name)
            self.flat.initialisers[value] = self._sparse(sparse)
        for described in (*graph.input, *graph.value_info, *graph.output):
            self._shape(described, scope)
        for described in _inputs(graph):
            scope.define(described.name)
        # Before any is walked: not every tool keeps nodes in the order in which they can run.
        for node in graph.node:
            for name in node.output:
                scope.define(name)
        for node in graph.node:
            self._node(node, scope)
        return [self._used(v.name, scope, "the graph gives") for v in graph.output]

    def _node(self, node: "NodeProto", scope: _Scope) -> None:
        self._budget.spend(_CALL_BYTES)
        self._budget.copy(len(node.output), len(node.output) * len(scope.prefix))
        attributes = {a.name: a for a in self._attributes(node, scope)}
        outputs = tuple(scope.define(name) for name in node.output)
        called = node.name or next((o for o in node.output if o), node.op_type)
        if node.op_type == "Constant" and node.domain in _STANDARD and outputs:
            self._constant(outputs[0], attributes)
            return
        inputs = tuple(
            self._used(name, scope, f"{called:.80} takes") if name else "" for name in node.input
        )
        function = self._functions.get((node.domain, node.op_type, node.overload))
        if function is not None:
            self._inline(function, called, inputs, outputs, attributes, scope)
            return
        domain = "" if node.domain in _STANDARD else node.domain
        call = Call(
            node.op_type,
            domain,
            scope.versions.get(domain, 0),
            scope.prefix + called,
            inputs,
            outputs,
            dict(_plain(attributes.values())),
            {entry.key: entry.value for entry in node.metadata_props},
        )
        graphs = [
            (f"{a.name}[{i}]" if a.graphs else a.name, g)
            for a in attributes.values()
            if a.type in (_GRAPH, _GRAPHS)
            for i, g in enumerate(a.graphs or [a.g])
        ]
        if graphs:
            call = self._opened(call, graphs, scope)
        self.flat.calls.append(call)

    def _attributes(self, node: "NodeProto", scope: _Scope) -> Iterator["AttributeProto"]:
        """A node's attributes, those that name one of the function replaced by it."""
        for attribute in node.attribute:
            if not attribute.ref_attr_name:
                yield attribute
                continue
            given = scope.arguments.get(attribute.ref_attr_name)
            if given is not None:
                renamed = type(attribute)()
                renamed.CopyFrom(given)
                renamed.name = attribute.name
                yield renamed

    def _constant(self, value: str, attributes: Mapping[str, "AttributeProto"]) -> None:
        for attribute in attributes.values():
            if attribute.type == _TENSOR:
                self.flat.constants[value] = self._reader.reference(attribute.t, value)
            elif attribute.type == _SPARSE:
                self.flat.constants[value] = self._sparse(attribute.sparse_tensor)
            elif attribute.name.startswith(("value_float", "value_int")):
                number = dict(_plain([attribute])).get(attribute.name, ())
                numbers = number if isinstance(number, tuple) else (number,)
                self.flat.numbers[value] = tuple(float(n) for n in numbers)

    def _sparse(self, sparse: Any) -> TensorRef:
        inner = self._reader.reference(sparse.values, sparse.values.name or "a sparse tensor")
        return tensor_without_data(inner.dtype, tuple(sparse.dims), "a sparse tensor")

    def _opened(self, call: Call, graphs: list[tuple[str, "GraphProto"]], scope: _Scope) -> Call:
        """The call of an operator that runs graphs: with what they give among its inputs."""
        self.flat.control_flow = True
        inputs = list(call.inputs)
        for called, graph in graphs:
            unique = next(filter(None, call.outputs), call.name)
            inner = self._inner(scope, f"{unique}/{called}/", outer=scope)
            given = tuple(inner.define(v.name) for v in _inputs(graph))
            if given:
                # The values that a loop's body is given depend on those that the loop is.
                self.flat.calls.append(
                    Call(call.op_type, call.domain, call.version, inner.prefix, call.inputs, given)
                )
            inputs.extend(self._graph(graph, inner))
        return Call(
            call.op_type, call.domain, call.version, call.name, tuple(inputs), call.outputs,
            call.attributes, call.metadata,
        )  # fmt: skip

    def _inline(
        self,
        function: "FunctionProto",
        called: str,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        attributes: Mapping[str, "AttributeProto"],
        scope: _Scope,
    ) -> None:
        key = (function.domain, function.name, function.overload)
        if key in scope.calling:
            raise UnreadableError(f"its function {function.name:.80} calls itself", _DAMAGED)
        # By an output, which is made only once, where names of nodes may be used twice.
        inner = self._inner(scope, f"{next(filter(None, outputs), called)}/")
        inner.versions = {**scope.versions, **_versions(function.opset_import)}
        inner.calling = (*scope.calling, key)
        inner.arguments = {a.name: a for a in function.attribute_proto} | dict(attributes)
        for position, name in enumerate(function.input):
            inner.names[name] = inputs[position] if position < len(inputs) else ""
        passed = set(function.input)
        for position, name in enumerate(function.output):
            value = outputs[position] if position < len(outputs) else ""
            if value and name in passed:
                through = Call("Identity", "", 0, called, (inner.names[name],), (value,))
                self.flat.calls.append(through)
            elif value:
                inner.names[name] = value
        for described in function.node:
            for name in described.output:
                inner.define(name)
        for described in function.node:
            self._node(described, inner)

    def _inner(self, scope: _Scope, prefix: str, outer: _Scope | None = None) -> _Scope:
        if scope.depth >= _DEPTH:
            raise RefusedError(f"functions and graphs nested more than {_DEPTH} deep")
        self._budget.copy(1, len(prefix))
        return _Scope(
            prefix, scope.versions, outer, {}, scope.arguments, scope.calling, scope.depth + 1
        )

    def _used(self, name: str, scope: _Scope, who: str) -> str:
        value = scope.find(name)
        if value is None:
            raise UnreadableError(f"{who} {name!r:.80}, which nothing makes", _DAMAGED)
        return value

    def _shape(self, described: Any, scope: _Scope) -> None:
        kind = described.type.tensor_type
        if described.type.HasField("tensor_type") and kind.HasField("shape"):
            self.flat.shapes[scope.prefix + described.name] = tuple(
                d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None
                for d in kind.shape.dim
            )


def _inputs(graph: "GraphProto") -> list[Any]:
    """The inputs that are no initialisers; before IR version 4 those had to be both."""
    stored = {tensor.name for tensor in graph.initializer}
    stored |= {sparse.values.name for sparse in graph.sparse_initializer}
    return [value for value in graph.input if value.name not in stored]


def _versions(imported: Iterable[Any]) -> dict[str, int]:
    return {"" if o.domain in _STANDARD else o.domain: o.version for o in imported}


def _plain(attributes: Iterable["AttributeProto"]) -> Iterator[tuple[str, Attribute]]:
    """Attributes that are numbers, words, or several of them."""
    for a in attributes:
        if a.type == _FLOAT:
            yield a.name, a.f
        elif a.type == _INT:
            yield a.name, a.i
        elif a.type == _STRING:
            yield a.name, a.s.decode(errors="replace")
        elif a.type == _FLOATS:
            yield a.name, tuple(a.floats)
        elif a.type == _INTS:
            yield a.name, tuple(a.ints)
        elif a.type == _STRINGS:
            yield a.name, tuple(s.decode(errors="replace") for s in a.strings)
