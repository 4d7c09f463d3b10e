"""TorchScript and ``.pt2`` archives put together to harm, without torch."""

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

from tests.formats import by_hand as hand

FLOATS = struct.pack("<8f", *range(1, 9))
WIDTH = 8
NORMS = ("weight", "bias", "running_mean", "running_var")


def archive(parts: Mapping[str, bytes | str], root: str = "m/") -> bytes:
    """A zip of these members, packed where they are long."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as made:
        for name, data in parts.items():
            made.writestr(zipfile.ZipInfo(f"{root}{name}"), data)  # whose date is fixed
    return raw.getvalue()


HEAD = """
class M(Module):
  __parameters__ = ["weight", "bias", ]
  __buffers__ = ["running_mean", "running_var", ]
  weight : Tensor
  bias : Tensor
  running_mean : Tensor
  running_var : Tensor
  training : bool
"""
CALL = (
    "torch.batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var, "
    "False, 0.1, 1e-5, True)"
)
FORWARD = f"""
  def forward(self: __torch__.M, x: Tensor) -> Tensor:
    return {CALL}
"""


def thing(state: Mapping[str, bytes], name: str = "M") -> bytes:
    """Pushes an object of a class of the code."""
    return hand.build(hand.name("__torch__", name) + b")\x81", hand.mapping(state))


def tensors() -> dict[str, bytes]:
    """The tensors of a norm, all over one storage."""
    stored = hand.storage("0", WIDTH)
    return {name: hand.tensor(stored, (WIDTH,), (1,)) for name in NORMS}


def script(
    code: str | bytes = HEAD + FORWARD,
    *,
    state: Mapping[str, bytes] | None = None,
    constants: bytes = b")",
    files: Mapping[str, str | bytes] | None = None,
    data: bytes | None = None,
) -> bytes:
    """A TorchScript archive."""
    body = thing({**tensors(), "training": hand.FALSE, **(state or {})})
    return archive(
        {
            "data.pkl": hand.pickled(data if data is not None else body),
            "code/__torch__.py": code, "constants.pkl": hand.pickled(constants),
            "data/0": FLOATS, "version": "3\n", **(files or {}),
        }
    )  # fmt: skip


def forward(*lines: str, last: str = f"return {CALL}") -> str:
    """The code of a forward with these lines before its norm."""
    body = "".join(f"    {line}\n" for line in (*lines, last))
    return f"{HEAD}  def forward(self: __torch__.M, x: Tensor) -> Tensor:\n{body}"


def functions(count: int, body: str) -> str:
    """Functions ``f0`` …, each over the one before; ``forward`` calls the last."""
    made = ["def f0(x):\n  return torch.relu(x)\n"]
    made += [f"def f{n}(x):\n  return {body.format(f'__torch__.f{n - 1}')}\n"
             for n in range(1, count)]  # fmt: skip
    return forward(f"x = __torch__.f{count - 1}(x)") + "".join(made)


def value(name: str) -> dict[str, Any]:
    """An argument that is a tensor."""
    return {"as_tensor": {"name": name}}


def node(target: str, inputs: Mapping[str, Any], *outputs: str, **rest: Any) -> dict[str, Any]:
    """A node of the schema."""
    whole = target.startswith(("torch.ops.", "_operator."))
    return {
        "target": target if whole else f"torch.ops.aten.{target}",
        "inputs": [{"name": key.strip("0123456789"), "arg": arg, "kind": 1}
                   for key, arg in inputs.items()],
        "outputs": [value(name) for name in outputs], "metadata": {}, **rest,
    }  # fmt: skip


def normed(taken: str, made: str, **rest: Any) -> dict[str, Any]:
    """A node of a batch norm in eval mode."""
    stored = {name: value(f"p_{name}") for name in NORMS}
    return node(
        "batch_norm.default",
        {"input": value(taken), **stored, "training": {"as_bool": False},
         "momentum": {"as_float": 0.1}, "eps": {"as_float": 1e-5},
         "cudnn_enabled": {"as_bool": True}},
        made,
        metadata={"nn_module_stack": "a,,a.Net;b,norm,torch.nn.modules.batchnorm.BatchNorm1d"},
        **rest,
    )  # fmt: skip


def linear(taken: str, made: str) -> dict[str, Any]:
    """A node of a linear layer."""
    return node("linear.default", {"input": value(taken), "weight": value("p_square")}, made)


def described(nodes: list[Any] | None = None, last: str = "y") -> dict[str, Any]:
    """What the JSON of a small program describes."""
    if nodes is None:
        nodes = [normed("x", "n"), node("relu.default", {"self": value("n")}, "r"),
                 linear("r", "l"), normed("l", "y")]  # fmt: skip
    stored = [
        {
            "buffer": {
                "arg": {"name": f"p_{name}"},
                "buffer_name": f"norm.{name}",
                "persistent": True,
            }
        }
        for name in NORMS
    ]
    square = {"parameter": {"arg": {"name": "p_square"}, "parameter_name": "fc.weight"}}
    sizes = [{"as_int": 4}, {"as_int": WIDTH}]
    return {
        "graph_module": {
            "graph": {
                "inputs": [value("x")], "outputs": [value(last)], "nodes": nodes,
                "tensor_values": {"x": {"dtype": 7, "sizes": sizes}}, "sym_int_values": {},
                "is_single_tensor_return": False,
            },
            "signature": {
                "input_specs": [square, *stored, {"user_input": {"arg": value("x")}}],
                "output_specs": [{"user_output": {"arg": value(last)}}],
            },
            "module_call_graph": [],
        },
        "opset_version": {"aten": 10}, "range_constraints": {},
        "schema_version": {"major": 8, "minor": 8},
    }  # fmt: skip


def entry(file: str, shape: tuple[int, ...] = (WIDTH,), **rest: Any) -> dict[str, Any]:
    """An entry of the list of weights."""
    strides = [1] if len(shape) == 1 else [shape[-1], 1]
    meta = {
        "dtype": 7, "sizes": [{"as_int": n} for n in shape], "requires_grad": False,
        "device": {"type": "cpu", "index": None}, "strides": [{"as_int": n} for n in strides],
        "storage_offset": {"as_int": 0}, "layout": 7,
    }  # fmt: skip
    return {
        "path_name": file, "is_param": False, "use_pickle": rest.pop("use_pickle", False),
        "tensor_meta": {**meta, **rest},
    }  # fmt: skip


def entries(**changed: Any) -> dict[str, Any]:
    """The list of weights; names with dots are given with two underlines."""
    made = {f"norm.{name}": entry("weight_0") for name in NORMS}
    made["fc.weight"] = entry("weight_1", (WIDTH, WIDTH))
    return {"config": made | {name.replace("__", "."): what for name, what in changed.items()}}


def program(
    graph: object = None,
    weights: object = None,
    files: Mapping[str, bytes | str] | None = None,
) -> bytes:
    """An archive; ``graph`` and ``weights`` are JSON text or what becomes it."""

    def text(what: object) -> str | bytes:
        return what if isinstance(what, str | bytes) else json.dumps(what)

    return archive(
        {
            "archive_format": "pt2", "byteorder": "little",
            "models/model.json": text(graph if graph is not None else described()),
            "data/weights/model_weights_config.json": text(
                weights if weights is not None else entries()
            ),
            "data/weights/weight_0": FLOATS, "data/weights/weight_1": FLOATS * 8, **(files or {}),
        }
    )  # fmt: skip


def nested(depth: int) -> str:
    """A program with graphs within graphs, as text, which the encoder would not write."""
    graph = described()["graph_module"]["graph"]
    block = node(
        "torch.ops.higher_order.wrap_with_set_grad_enabled",
        {"": {"as_graph": {"name": "g", "graph": "@"}}, "2": value("x")},
        "y",
    )
    around = json.dumps({**graph, "nodes": [block], "outputs": [value("y")]}).split('"@"')
    made = around[0] * depth + json.dumps(graph) + around[1] * depth
    whole = described()
    whole["graph_module"]["graph"] = "@"
    return json.dumps(whole).replace('"@"', made)
