"""What TorchScript code computes, told by following it with names instead of tensors.

The code is walked once from the model's ``forward``: calls of modules and functions are followed
to the operators, branches on what is known (``self.training``, constants) are taken, of the
others both, and loops once. Nothing is computed but truth values and small integers.
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import field

from normcheck.errors import RefusedError
from normcheck.formats import aten
from normcheck.formats.aten import UNKNOWN, Value
from normcheck.formats.torchscript.growing_graph import (
    CONSTANTS,
    LONGEST_PLACE,
    GrowingGraph,
    numbers_among,
)
from normcheck.formats.torchscript.prepacked import Packed
from normcheck.formats.torchscript.script_code import (
    Code,
    ScriptClass,
    is_plain,
    literal,
)
from normcheck.formats.torchscript.script_values import (
    ABOUT_TENSORS,
    KNOWN,
    Dotted,
    Frame,
    ScriptMethod,
    ScriptModule,
    is_small,
    only_raises,
)
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.pickles.inert import Inert, attributes_of
from normcheck.pickles.torch_objects import as_tensor
from normcheck.saved.graph import Graph, Op
from normcheck.sources.limits import Budget

_DEEPEST = 200
"""Calls within calls; TorchScript has no recursion, and modules are nested less deep."""
_CALL_STEPS = 20
"""What a call takes beside its statements."""


def scripted_graph(root: Inert, code: Code, constants: tuple[object, ...], budget: Budget) -> Graph:
    """The graph of a model's ``forward``.

    Args:
        root: The model, as its pickle describes it.
        code: Of the same archive.
        constants: Of ``constants.pkl``.
        budget: Of the file.

    Raises:
        RefusedError: More code than the limits allow.
    """
    walker, inputs, result = _walked(root, code, constants, budget, {})
    switchable = frozenset(walker.switchable)
    if switchable and any(node.as_in_training for node in walker.graph.nodes):
        # What computes as in training all the same is no matter of the flag.
        other, _, _ = _walked(root, code, constants, budget, {"training": False})
        switchable -= {node.module for node in other.graph.nodes if node.as_in_training}
    return Graph(
        nodes=tuple(walker.graph.nodes),
        inputs=tuple(inputs),
        outputs=tuple(value.name for value in aten.values_in(result)),
        stored=walker.graph.stored,
        scalars=numbers_among(constants, walker.graph.stored),
        updated=frozenset(walker.graph.updated),
        switchable=switchable,
        exact=walker.graph.exact,
    )


def _walked(
    root: Inert,
    code: Code,
    constants: tuple[object, ...],
    budget: Budget,
    flags: Mapping[str, bool],
) -> "tuple[_Walker, list[str], object]":
    walker = _Walker(code, GrowingGraph(constants, budget), budget, flags)
    module = ScriptModule(root, "")
    known = code.classes.get(root.class_path)
    forward = known.methods.get("forward") if known else None
    inputs: list[str] = []
    result: object = None
    if forward is not None:
        names = [argument.arg for argument in forward.args.args[1:]]
        inputs = [f"input {name}" for name in names]
        try:
            result = walker.call(forward, [module, *map(Value, inputs)], {}, module)
        except RecursionError:
            raise RefusedError("code nested too deep", limit="nesting") from None
    return walker, inputs, result


@lazy_dataclass(frozen=False)
class _Walker:
    code: Code
    graph: GrowingGraph
    budget: Budget
    flags: Mapping[str, bool]
    """Attributes that every module is taken to have, whatever the pickle says."""
    switchable: set[str] = field(default_factory=set)
    _depth: int = 0

    # Statements ------------------------------------------------------------------------------

    def call(
        self,
        function: ast.FunctionDef,
        positional: Sequence[object],
        named: Mapping[str, object],
        module: ScriptModule,
    ) -> object:
        """What a function returns."""
        if self._depth >= _DEEPEST:
            raise RefusedError(f"calls nested more than {_DEEPEST} deep", limit="nesting")
        self._depth += 1
        self.budget.follow(_CALL_STEPS)
        parameters = [argument.arg for argument in function.args.args]
        defaults = function.args.defaults
        names: dict[str, object] = dict.fromkeys(parameters, UNKNOWN)
        frame = Frame(names, module)
        for name, default in zip(reversed(parameters), reversed(defaults), strict=False):
            names[name] = self.evaluate(default, frame)
        names.update(zip(parameters, positional, strict=False))
        names.update(named)
        self._run(function.body, frame)
        self._depth -= 1
        return frame.result

    def _run(self, body: Sequence[ast.stmt], frame: Frame) -> None:
        for statement in body:
            self.budget.follow(1)
            if frame.returned:
                return
            match statement:
                case ast.Assign(targets=[target], value=value):
                    self._assign(target, self.evaluate(value, frame), frame)
                case ast.AnnAssign(target=target, value=ast.expr() as value):
                    self._assign(target, self.evaluate(value, frame), frame)
                case ast.Expr(value=value):
                    self.evaluate(value, frame)
                case ast.Return(value=value):
                    result = self.evaluate(value, frame) if value is not None else None
                    earlier = frame.result
                    frame.result = (
                        result if earlier is None else self._either(earlier, result, frame)
                    )
                    frame.returned = True
                case ast.If():
                    self._branch(statement, frame)
                case ast.For(target=target, body=inner):
                    made = self.graph.made
                    self._assign(target, self._element(self.evaluate(statement.iter, frame)), frame)
                    self._run(inner, frame)
                    self.graph.exact = self.graph.exact and self.graph.made == made
                case ast.While(body=inner):
                    made = self.graph.made
                    self._run(inner, frame)
                    self.graph.exact = self.graph.exact and self.graph.made == made
                case ast.With(body=inner):
                    self._run(inner, frame)
                case _:
                    pass

    def _branch(self, statement: ast.If, frame: Frame) -> None:
        condition = self.evaluate(statement.test, frame)
        if isinstance(condition, bool):
            self._run(statement.body if condition else statement.orelse, frame)
            return
        if only_raises(statement.body) or only_raises(statement.orelse):
            # A check of the input: what goes on is the other branch.
            other = statement.orelse if only_raises(statement.body) else statement.body
            self._run(other, frame)
            return
        before = dict(frame.names)
        self.budget.follow(len(before) // 4)
        self._run(statement.body, frame)
        first, results = frame.names, [frame.result] if frame.returned else []
        frame.names, frame.returned, frame.result = before, False, None
        self._run(statement.orelse, frame)
        # In the order of the code, so that two runs number the nodes alike.
        for name in first | frame.names:
            frame.names[name] = self._either(first.get(name), frame.names.get(name), frame)
        # Behind a branch that returned, what follows is still the other one's.
        frame.returned = frame.returned and bool(results)
        if results:
            frame.result = self._either(results[0], frame.result, frame)

    def _either(self, one: object, other: object, frame: Frame) -> object:
        """What a variable may be behind two branches, both of which were followed."""
        if one is other or one == other or other is None:
            return one
        if one is None:
            return other
        values = aten.values_in(self.graph.counted((one, other)))
        if not values:
            return UNKNOWN
        self.graph.exact = False
        return self.graph.node("either", values, {}, frame.module)

    def _assign(self, target: ast.expr, value: object, frame: Frame) -> None:
        match target:
            case ast.Name(id=name):
                frame.names[name] = value
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                if isinstance(value, tuple) and len(value) == len(parts):
                    for part, item in zip(parts, value, strict=True):
                        self._assign(part, item, frame)
                else:
                    for part in parts:
                        self._assign(part, value, frame)
            case _:
                pass

    # Expressions -----------------------------------------------------------------------------

    def evaluate(self, expression: ast.expr | None, frame: Frame) -> object:
        """A plain value, a ``Value``, a module, or ``UNKNOWN``."""
        self.budget.follow(1)
        match expression:
            case ast.Constant(value=value):
                return value if is_plain(value) else UNKNOWN
            case ast.Name(id=name):
                return frame.names[name] if name in frame.names else Dotted(name)
            case ast.Attribute(value=inner, attr=name):
                return self._attribute(self.evaluate(inner, frame), name)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return self.graph.counted(tuple(self.evaluate(item, frame) for item in items))
            case ast.Subscript(value=inner, slice=index):
                return self._item(self.evaluate(inner, frame), self.evaluate(index, frame))
            case ast.Call():
                return self._called(expression, frame)
            case ast.UnaryOp():
                return literal(expression) if literal(expression) is not None else UNKNOWN
            case ast.IfExp(test=test, body=body, orelse=other):
                condition = self.evaluate(test, frame)
                if isinstance(condition, bool):
                    return self.evaluate(body if condition else other, frame)
                return self._either(self.evaluate(body, frame), self.evaluate(other, frame), frame)
            case ast.Dict(values=items):
                return self.graph.counted(tuple(self.evaluate(item, frame) for item in items))
            case _:
                return UNKNOWN

    def _below(self, above: str, name: str) -> str:
        """A path, which code can make longer with every line."""
        path = f"{above}.{name}" if above else name
        if len(path) > self.budget.limits.name_bytes:
            raise RefusedError("names of enormous length", limit="name_bytes")
        self.budget.spend(len(path))
        return path

    def _attribute(self, value: object, name: str) -> object:
        if isinstance(value, Dotted):
            if value.name == CONSTANTS and name.startswith("c") and name[1:].isdecimal():
                return self.graph.constant(int(name[1:]) if len(name) <= LONGEST_PLACE else -1)
            return Dotted(self._below(value.name, name))
        if not isinstance(value, ScriptModule):
            return UNKNOWN
        path = self._below(value.path, name)
        state = attributes_of(value.value)
        known = self._class(value)
        if name == "training":
            self.switchable.add(value.path)
        if name in self.flags:
            return self.flags[name]
        if name in state:
            held = state[name]
            if as_tensor(held) is not None:
                return self.graph.stored_tensor(path)
            if isinstance(held, Inert) and held.class_path in self.code.classes:
                return ScriptModule(held, path)
            return held if is_plain(held) else UNKNOWN
        if known is not None and name in known.constants:
            return known.constants[name]
        if known is not None and name in known.absent:
            return None
        return ScriptMethod(value, name)

    def _class(self, module: ScriptModule) -> ScriptClass | None:
        return self.code.classes.get(module.value.class_path)

    def _item(self, value: object, index: object) -> object:
        if isinstance(value, tuple) and type(index) is int and -len(value) <= index < len(value):
            return value[index]
        return value if isinstance(value, Value) else UNKNOWN

    def _element(self, value: object) -> object:
        values = aten.values_in(value)
        return values[0] if values else UNKNOWN

    # Calls -----------------------------------------------------------------------------------

    def _called(self, expression: ast.Call, frame: Frame) -> object:
        function = self.evaluate(expression.func, frame)
        if isinstance(function, Dotted) and function.name in ("annotate", "unchecked_cast"):
            return self.evaluate(expression.args[-1], frame) if expression.args else UNKNOWN
        positional = [self.evaluate(argument, frame) for argument in expression.args]
        named = {k.arg: self.evaluate(k.value, frame) for k in expression.keywords if k.arg}
        if isinstance(function, ScriptMethod):
            known = self._class(function.module)
            method = known.methods.get(function.name) if known else None
            if method is None:
                return self._unfollowed(positional, frame)
            return self.call(method, [function.module, *positional], named, function.module)
        if not isinstance(function, Dotted):
            return self._unfollowed(positional, frame)
        if function.name == "getattr" and len(positional) == 2 and isinstance(positional[1], str):
            return self._attribute(positional[0], positional[1])
        if function.name in self.code.functions:
            return self.call(self.code.functions[function.name], positional, named, frame.module)
        return self._operator(function.name, positional, named, frame)

    def _operator(
        self, target: str, positional: list[object], named: dict[str, object], frame: Frame
    ) -> object:
        name = aten.base_name(target)[0]
        if len(positional) == 2 and isinstance(whole := positional[1], Packed):
            return self.graph.prepacked(whole, positional[0], frame.module)
        arguments = self.graph.counted((*positional, *named.values()))
        known = KNOWN.get(name)
        if known is not None and not named and all(map(is_small, arguments)):
            try:
                return known(*arguments)
            except (TypeError, ArithmeticError):
                return UNKNOWN
        if target.startswith("ops.prim") or name in ABOUT_TENSORS or name == "range":
            return UNKNOWN
        values = aten.values_in(tuple(arguments))
        known_operator = aten.signature_of(target)
        draws = known_operator is not None and known_operator.op is Op.RANDOM
        if not values and not draws:
            return UNKNOWN
        return self.graph.node(target, positional, named, frame.module)

    def _unfollowed(self, positional: list[object], frame: Frame) -> object:
        values = aten.values_in(self.graph.counted(tuple(positional)))
        return self.graph.node("call", values, {}, frame.module) if values else UNKNOWN
