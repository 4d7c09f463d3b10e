"""Archives of exported programs that ask for too much, or lie."""

import json
from typing import Any

from tests.formats.exports.hostile import (
    archive,
    described,
    entries,
    entry,
    linear,
    nested,
    node,
    normed,
    program,
    value,
)


def programs(attack: bytes) -> dict[str, bytes]:
    """Whole archives by name; ``attack`` is a pickle that would run code."""
    add = [
        node("add.Tensor", {"self": value(f"v{n}"), "other": value(f"v{n}")}, f"v{n + 1}")
        for n in range(60)
    ]
    doubled = [normed("x", "v0"), *add, linear("v60", "l"), normed("l", "y")]
    mixed = [
        node(
            "add.Tensor" if n % 2 else "relu.default",
            {"self": value(f"v{n}"), **({"other": value(f"v{max(0, n - 3)}")} if n % 2 else {})},
            f"v{n + 1}",
        )
        for n in range(60)
    ]
    wide = [
        normed("x", "v"),
        node(
            "cat.default",
            {"tensors": {"as_tensors": [{"name": "v"}] * 20_000}, "dim": {"as_int": 1}},
            "c",
        ),
    ]
    for n in range(2_000):
        wide += [
            node("linear.default", {"input": value("c"), "weight": value("p_square")}, f"l{n}"),
            normed(f"l{n}", f"n{n}"),
        ]
    cycle = [
        node("to.dtype", {"self": value("a")}, "b"),
        node("to.dtype", {"self": value("b")}, "a"),
        node("add.Tensor", {"self": value("a"), "other": value("s")}, "s"),
        node("mean.dim", {"self": value("q"), "dim": {"as_ints": [-1]}}, "m"),
        node("pow.Tensor_Scalar", {"self": value("x"), "exponent": {"as_int": 2}}, "q"),
        node("add.Tensor", {"self": value("m"), "other": {"as_float": 1e-5}}, "e"),
        node("rsqrt.default", {"self": value("e")}, "a"),
        linear("s", "l"),
        normed("l", "y"),
    ]
    no_outputs = [{**n, "outputs": []} for n in (*cycle, normed("x", "z"))] + [
        node("pow.Tensor_Scalar", {"self": value("x"), "exponent": {"as_int": 2}}, "q")
    ]
    hub = [
        node("pow.Tensor_Scalar", {"self": value("x"), "exponent": {"as_int": 2}}, "q"),
        node("mean.dim", {"self": value("q"), "dim": {"as_ints": [-1]}}, "m"),
        node("add.Tensor", {"self": value("m"), "other": {"as_float": 1e-5}}, "e"),
        *[node("rsqrt.default", {"self": value("e")}, "h") for _ in range(10_000)],
        *[
            node("mul.Tensor", {"self": value("h"), "other": value("x")}, f"o{n}")
            for n in range(10_000)
        ],
        normed("x", "y"),
    ]
    graph = described()["graph_module"]["graph"]
    blocks = node(
        "torch.ops.higher_order.cond",
        {
            **{
                f"{n}": {"as_graph": {"name": "g", "graph": {**graph, "nodes": []}}}
                for n in range(5_000)
            },
            "x": {"as_tensors": [{"name": "x"}] * 5_000},
        },
        "y",
    )
    deep_argument: dict[str, Any] = value("x")
    for _ in range(900):
        deep_argument = {"as_optional_tensor": deep_argument}
    graphs = {
        "graphs 45 deep": nested(45),
        "graphs 60 deep": nested(60),
        "graphs 200 deep": nested(200),
        "an argument 900 deep": described([node("relu.default", {"self": deep_argument}, "y")]),
        "an argument 100,000 deep": '{"a":' * 100_000 + "1" + "}" * 100_000,
        "lists 100,000 deep": "[" * 100_000 + "]" * 100_000,
        "adds of twice two": described(doubled),
        "adds and activations": described(
            [normed("x", "v0"), *mixed, linear("v60", "l"), normed("l", "y")]
        ),
        "wide concatenations": described(wide),
        "values in a circle": described(cycle),
        "operators without outputs": described(no_outputs),
        "one name made again and again": described(hub),
        "blocks of many graphs": described([blocks]),
        "a million nodes": '{"graph_module":{"signature":{"input_specs":[],"output_specs":[]},'
        '"graph":{"outputs":[],"tensor_values":{},"nodes":['
        + ",".join(['{"target":"a","inputs":[],"outputs":[],"metadata":{}}'] * 1_000_000)
        + "]}}}",
        "ten thousand norms": described(
            [normed(f"n{n}", f"n{n + 1}", name=f"a{n}") for n in range(10_000)]
        ),
        "a name of a megabyte": described([normed("x" * (1 << 20), "y" * (1 << 20))]),
        "two names": '{"graph_module": {}, "graph_module": {}}',
        "no numbers": json.dumps(described()).replace("1e-05", "NaN").replace("0.1", "-Infinity"),
        "digits": json.dumps(described()).replace("0.1", "9" * 4_200),
        "more digits": json.dumps(described()).replace("0.1", "9" * 100_000),
        "an exponent": json.dumps(described()).replace("1e-05", "1e999"),
        "nothing": "",
        "null": "null",
        "a list": "[]",
        "bytes": bytes(range(256)),
        "half": json.dumps(described())[:900],
    }
    outside = {
        "above": "../../../../etc/passwd",
        "absolute": "/etc/passwd",
        "a folder": "",
        "dot": ".",
        "the graph": "../../models/model.json",
    }
    metas: dict[str, dict[str, Any]] = {
        "past the end": {"storage_offset": {"as_int": 1}},
        "far": {"storage_offset": {"as_int": 1 << 62}},
        "before": {"storage_offset": {"as_int": -1}},
        "below zero": {"sizes": [{"as_int": -8}]},
        "enormous": {"sizes": [{"as_int": 1 << 60}]},
        "strides back": {"strides": [{"as_int": -1}]},
        "one element": {"sizes": [{"as_int": 1 << 40}], "strides": [{"as_int": 0}]},
        "no stride": {"strides": []},
        "dimensions": {"sizes": [{"as_int": 1}] * 999, "strides": [{"as_int": 1}] * 999},
        "type 0": {"dtype": 0},
        "type 99": {"dtype": 99},
        "type -1": {"dtype": -1},
        "type text": {"dtype": "float"},
        "type list": {"dtype": [7]},
        "sparse": {"layout": 1},
        "a free length": {"sizes": [{"as_expr": {"expr_str": "__import__('os').system('true')"}}]},
    }
    weights: dict[str, object] = {
        **{f"outside, {k}": entries(norm__weight=entry(path)) for k, path in outside.items()},
        **{
            f"tensor, {k}": entries(norm__weight=entry("weight_0", **meta))
            for k, meta in metas.items()
        },
        "a file that is no text": entries(norm__weight=entry([1])),
        "missing": {"config": {}},
        "no list": {"config": []},
        "two names": '{"config": {}, "config": {}}',
        "a pickle": entries(norm__weight=entry("evil", use_pickle=True)),
        "a pickle again and again": {
            "config": {f"a{n}.weight": entry("evil", use_pickle=True) for n in range(20_000)}
        },
        "one file again and again": {
            "config": {f"a{n}.weight": entry("weight_0") for n in range(20_000)}
        },
        "a name of a megabyte": {"config": {"n" * (1 << 20): entry("weight_0")}},
    }
    evil = {
        "data/weights/evil": attack,
        "data/sample_inputs/model.pt": attack,
        "data/constants/model.pt": attack,
    }
    return {
        **{f"program, {name}": program(what) for name, what in graphs.items()},
        **{
            f"weights, {name}": program(None, what, evil if "pickle" in name else None)
            for name, what in weights.items()
        },
        "many models": archive({f"models/{n}.json": "{}" for n in range(20_000)}),
        "old, weights that run": archive(
            {
                "serialized_exported_program.json": json.dumps(described()),
                "serialized_state_dict.pt": attack,
                "serialized_constants.pt": attack,
            },
            "",
        ),
        "weights that run": archive(
            {
                "models/model.json": json.dumps(described()),
                "data/weights/model.pt": attack,
                "data/constants/model.pt": attack,
                "data/sample_inputs/model.pt": attack,
            }
        ),
    }
