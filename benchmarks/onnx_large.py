"""A large ONNX model, its values in the file: seconds and memory of a scan.

    python benchmarks/onnx_large.py [--megabytes 900]

Against parsing all of it, as ``onnx.load`` does.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from machine import described, in_turn, measured, medians, ratio
from onnx import TensorProto, helper, numpy_helper

RUNS = 3
WIDTH = 1024
LOAD = "import sys, onnx; onnx.load(sys.argv[1])"
BLOCK = WIDTH * WIDTH * 9 * 4
STATISTICS = {"weight": (0.5, 1.5), "bias": (-0.3, 0.3), "running_mean": (-0.5, 0.5),
              "running_var": (0.5, 1.5)}  # fmt: skip


def written(path: Path, megabytes: int) -> int:
    """A chain of 3x3 convolutions with BatchNorm and ReLU; its size in bytes."""
    rolls = np.random.default_rng(0)
    nodes, held, value = [], [], "x"
    for number in range(max(2, megabytes * 1_000_000 // BLOCK)):
        name = f"layers.{number}"
        kernel = rolls.normal(0, 0.01, (WIDTH, WIDTH, 3, 3)).astype(np.float32)
        held.append(numpy_helper.from_array(kernel, f"{name}.conv.weight"))
        for leaf, (low, high) in STATISTICS.items():
            numbers = rolls.uniform(low, high, WIDTH).astype(np.float32)
            held.append(numpy_helper.from_array(numbers, f"{name}.norm.{leaf}"))
        nodes += [
            helper.make_node("Conv", [value, f"{name}.conv.weight"], [f"{name}.c"],
                             pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization",
                             [f"{name}.c", *(f"{name}.norm.{leaf}" for leaf in STATISTICS)],
                             [f"{name}.n"]),
            helper.make_node("Relu", [f"{name}.n"], [f"{name}.r"]),
        ]  # fmt: skip
        value = f"{name}.r"
    ends = [
        helper.make_tensor_value_info(end, TensorProto.FLOAT, ["n", WIDTH, 8, 8])
        for end in ("x", value)
    ]
    graph = helper.make_graph(nodes, "convolutions", ends[:1], ends[1:], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path.stat().st_size


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=900)
    options = parser.parse_args()
    print(described())
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model.onnx"
        size = written(path, options.megabytes)
        scan = [sys.executable, "-m", "normcheck", "scan", str(path)]
        commands = {
            "the usual budget": scan,
            "all weights": [*scan, "--weights-budget", "8G"],
            "no weights": [*scan, "--weights-budget", "0"],
            "onnx.load": [sys.executable, "-c", LOAD, str(path)],
        }
        measured(commands["onnx.load"])  # once unmeasured: the file is then in memory
        print(f"{size / 1e6:,.0f} MB of convolutions with BatchNorm, in memory")
        rounds = in_turn(commands, RUNS)
        for what in commands:
            seconds, memory = medians(rounds, what)
            part = ratio(rounds, what, "onnx.load")
            print(f"{what:<18} {seconds:6.2f} s  {memory:7.1f} MB resident  {part:5.2f} of loading")


if __name__ == "__main__":
    main()
