"""An exported program, run operator by operator from its JSON.

``torch.export.load`` unpickles parts of the archive and evaluates its shape expressions, which
can run code of the file. Here only operators of ATen are called, by a closed list of namespaces,
with the arguments that the graph gives: nothing of the file but its graph and its numbers.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from normcheck.errors import NormcheckError
from normcheck.formats.pt2.exported_graph import module_of
from normcheck.formats.pt2.exported_program import SCALAR_TYPES
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.input_shape import Shape
from normcheck.live.loading.program_arguments import Arguments, bind, names_in, value_of

_ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    name: getattr(operator, name)
    for name in (
        "add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "ge", "gt", "le", "lt", "eq",
        "ne", "and_", "or_", "not_", "getitem", "index",
    )
}  # fmt: skip
_SYMBOLIC = ("sym_max", "sym_min", "sym_float", "sym_int", "sym_not", "sym_ite", "sym_sqrt")
_NOT_CALLED = re.compile(
    r"from_file|save|load|_print|print|warn|wait|record_stream|set_grad_enabled|set_|set_data"
    r"|_?resize_.*|_?resize|_test_.*|_?(to_)?sparse_.*|_?to_sparse|_nested_.*|_cslt_.*"
)
"""Operators of ATen that reach outside of their tensors, or that believe indices and offsets
without a look at them; no export of a model of dense tensors has any of them."""
_INNER = ("wrap_with_set_grad_enabled", "wrap_with_autocast", "cond")


class ProgramPart(nn.Module):
    """A module of the model that was exported: its tensors, and a place for its operators.

    Operators are called through the part that they were made from, so that whoever watches
    the modules sees under which one they run.
    """

    def forward(self, step: Callable[[], Any]) -> Any:
        """Run one operator."""
        return step()


@lazy_dataclass()
class _Step:
    """One operator, ready to be called."""

    part: ProgramPart
    call: Callable[[Arguments], Any]
    outputs: tuple[Any, ...]
    last_uses: tuple[str, ...] = ()


class Program(ProgramPart):
    """An exported program as a module.

    Args:
        described: ``graph_module`` of its JSON, which our reader has gone through.
        tensors: Parameters, buffers and constants by name.
        parameters: The names of those that are parameters.

    Raises:
        NormcheckError: It calls operators that are not called here.
    """

    fixed_mode = True

    def __init__(
        self,
        described: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        parameters: frozenset[str],
    ) -> None:
        """Prepare every operator; nothing runs yet."""
        super().__init__()
        self._parts: dict[str, ProgramPart] = {"": self}
        self._held: dict[str, str] = {}
        for name, tensor in tensors.items():
            path, _, leaf = name.rpartition(".")
            if name in parameters and tensor.is_floating_point():
                self._part(path).register_parameter(leaf, nn.Parameter(tensor))
            else:
                self._part(path).register_buffer(leaf, tensor)
        signature = described["signature"]
        self._stored = dict(_stored(signature["input_specs"]))
        self._given = tuple(_given(signature["input_specs"]))
        self._writes = tuple(_writes(signature["output_specs"]))
        graph = described["graph"]
        self._returns = [
            spec["user_output"]["arg"]
            for spec in signature["output_specs"]
            if spec.get("user_output")
        ]
        self._steps = tuple(self._prepared(graph))
        metas = [graph["tensor_values"].get(name) for name in self._given]
        self.known_inputs = _shapes(metas)
        sizes = {meta["sizes"][0].get("as_int") for meta in metas if meta and meta["sizes"]}
        size = sizes.pop() if len(sizes) == 1 else None
        self.fixed_batch = size if isinstance(size, int) and size > 0 else None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the program returns, as a tuple unless it is one tensor."""
        given, _ = _pytree.tree_flatten((args, kwargs))
        if len(given) != len(self._given):
            raise TypeError(f"it takes {len(self._given)} inputs, {len(given)} were given")
        values: Arguments = dict(zip(self._given, given, strict=True))
        for name, stored in self._stored.items():
            values[name] = self._tensor(stored)
        self._run(self._steps, values)
        for name, stored in self._writes:
            self._tensor(stored).copy_(values[name])
        result = tuple(value_of(argument, values, self.device) for argument in self._returns)
        return result[0] if len(result) == 1 else result

    def _run(self, steps: tuple[_Step, ...], values: Arguments) -> None:
        for step in steps:
            # The root's own operators run in its forward, which is running.
            if step.part is self:
                result = step.call(values)
            else:
                result = step.part(lambda step=step: step.call(values))
            bind(step.outputs, result, values)
            for name in step.last_uses:
                values.pop(name, None)

    def _part(self, path: str) -> ProgramPart:
        if path not in self._parts:
            above, _, name = path.rpartition(".")
            self._parts[path] = part = ProgramPart()
            self._part(above).add_module(name, part)
        return self._parts[path]

    def _tensor(self, name: str) -> Tensor:
        path, _, leaf = name.rpartition(".")
        tensor = getattr(self._parts[path], leaf)
        assert isinstance(tensor, Tensor)  # noqa: S101  (registered as such)
        return tensor

    @property
    def device(self) -> torch.device:
        """Where it runs, whatever the file says of where it was exported."""
        return next((t.device for t in (*self.parameters(), *self.buffers())), torch.device("cpu"))

    def _prepared(self, graph: Mapping[str, Any]) -> Iterator[_Step]:
        nodes = graph["nodes"]
        last: dict[str, int] = {}
        for number, node in enumerate(nodes):
            for argument in node["inputs"]:
                for name in names_in(argument["arg"]):
                    last[name] = number
        kept = {name for argument in graph["outputs"] for name in names_in(argument)}
        uses: dict[int, list[str]] = {}
        for name, number in last.items():
            if name not in kept:
                uses.setdefault(number, []).append(name)
        for number, node in enumerate(nodes):
            path, _ = module_of(node.get("metadata") or {})
            yield _Step(
                self._part(path) if self._is_path(path) else self,
                self._call(node),
                tuple(node["outputs"]),
                tuple(uses.get(number, ())),
            )

    def _is_path(self, path: str) -> bool:
        return all(part and part.isprintable() for part in path.split("."))

    def _call(self, node: Mapping[str, Any]) -> Callable[[Arguments], Any]:
        target = node["target"]
        given = [(a["name"], a["arg"]) for a in node["inputs"]]
        if target.startswith("torch.ops.higher_order."):
            return self._inner(target.rpartition(".")[2], [argument for _, argument in given])
        function = _function(target)
        schema = getattr(function, "_schema", None)
        only_by_name = {a.name for a in schema.arguments if a.kwarg_only} if schema else set()
        # Behind an argument that is left out, the others have to be given by name.
        in_order = [a.name for a in schema.arguments] if schema else [name for name, _ in given]
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for name, argument in given:
            fits = len(positional) < len(in_order) and in_order[len(positional)] == name
            if name in only_by_name or (name and schema and not fits):
                named[name] = argument
            else:
                positional.append(argument)

        def call(values: Arguments) -> Any:
            return function(
                *[value_of(argument, values, self.device) for argument in positional],
                **{
                    name: value_of(argument, values, self.device)
                    for name, argument in named.items()
                },
            )

        return call

    def _inner(self, kind: str, arguments: list[Any]) -> Callable[[Arguments], Any]:
        """A graph within the graph: a block without gradients, or the taken side of a branch."""
        if kind not in _INNER:
            raise _refused(f"higher_order.{kind}")
        graphs = [a["as_graph"]["graph"] for a in arguments if "as_graph" in a]
        prepared = [tuple(self._prepared(graph)) for graph in graphs]
        first = next(i for i, a in enumerate(arguments) if "as_graph" in a)
        operands = arguments[first + len(graphs) :]

        def call(values: Arguments) -> Any:
            chosen = 0
            if kind == "cond":
                chosen = 0 if bool(value_of(arguments[0], values, self.device)) else 1
            graph = graphs[chosen]
            given, _ = _pytree.tree_flatten([value_of(a, values, self.device) for a in operands])
            names = [name for argument in graph["inputs"] for name in names_in(argument)]
            inside: Arguments = dict(zip(names, given, strict=True))
            self._run(prepared[chosen], inside)
            return tuple(value_of(argument, inside, self.device) for argument in graph["outputs"])

        return call


def _function(target: str) -> Callable[..., Any]:
    """The operator of a name that our closed list allows.

    Raises:
        NormcheckError: Another one.
    """
    parts = target.split(".")
    if len(parts) == 2 and parts[0] == "_operator" and parts[1] in _ARITHMETIC:
        return _ARITHMETIC[parts[1]]
    if len(parts) == 2 and parts[0] == "torch" and parts[1] in _SYMBOLIC:
        return getattr(torch, parts[1])  # type: ignore[no-any-return]
    if (
        target.startswith("torch.ops.aten.")
        and len(parts) == 5
        and not _NOT_CALLED.fullmatch(parts[3])
    ):
        packet = getattr(torch.ops.aten, parts[3], None)
        function = getattr(packet, parts[4], None)
        if isinstance(function, torch._ops.OpOverload):  # noqa: SLF001  # it has no public name
            return function
    raise _refused(target)


def _refused(target: str) -> NormcheckError:
    return NormcheckError(
        f"it calls {target[:80]}, which is no operator that normcheck runs",
        "only operators of ATen are run from an exported program; run its source model instead",
    )


def _shapes(metas: list[Any]) -> list[Shape] | None:
    """Shapes of the inputs without the batch, with the lengths that it was exported with."""
    shapes = []
    for meta in metas:
        if meta is None or not meta["sizes"]:
            return None
        lengths = [_length(size) for size in meta["sizes"][1:]]
        kind = SCALAR_TYPES.get(meta["dtype"], "")
        if not all(lengths):
            return None
        dtype = "long" if kind.startswith(("int", "uint")) else ("bool" if kind == "bool" else "")
        shapes.append(Shape(tuple(lengths), dtype or "float"))
    return shapes


def _length(size: Mapping[str, Any]) -> int:
    """A fixed length, or the one that a free length had when it was exported."""
    expression = size.get("as_expr") or {}
    found = size.get("as_int", (expression.get("hint") or {}).get("as_int"))
    return found if isinstance(found, int) else 0


def _stored(specs: list[Any]) -> Iterator[tuple[str, str]]:
    for spec in specs:
        for kind, name in (
            ("parameter", "parameter_name"),
            ("buffer", "buffer_name"),
            ("tensor_constant", "tensor_constant_name"),
        ):
            if spec.get(kind):
                yield spec[kind]["arg"]["name"], spec[kind][name]


def _given(specs: list[Any]) -> Iterator[str]:
    """Names of what the user gives, in order; constants among the inputs have none."""
    for number, spec in enumerate(specs):
        if spec.get("user_input"):
            yield from list(names_in(spec["user_input"]["arg"])) or [f"input {number}"]
        elif spec.get("constant_input"):
            yield f"input {number}"


def _writes(specs: list[Any]) -> Iterator[tuple[str, str]]:
    for spec in specs:
        for kind, name in (("buffer_mutation", "buffer_name"),
                           ("parameter_mutation", "parameter_name")):  # fmt: skip
            if spec.get(kind):
                yield spec[kind]["arg"]["name"], spec[kind][name]
