#!/usr/bin/env bash
# mxnet 1.9.1: BatchNorm updates its running statistics in the backward pass. Forwards in train mode
# alone leave them at 0 and 1.
#
# Whoever re-estimates statistics as in other frameworks, by forwards over the data in train mode
# (autograd.train_mode(), or autograd.record() without a call of backward), changes nothing and is
# told nothing. It needs a Python for which numpy 1.23 has a build, 3.8 to 3.11.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet mxnet==1.9.1 numpy==1.23.5
"$work/venv/bin/python" -W ignore - <<'PY'
import mxnet as mx
from mxnet import autograd, gluon, nd

mx.random.seed(0)
x = 3 * nd.random.normal(shape=(64, 2, 6, 6)) + 1


def statistics(way: str) -> tuple[list[float], list[float]]:
    norm = gluon.nn.BatchNorm(in_channels=2, momentum=0.9)
    norm.initialize()
    for _ in range(100):
        with autograd.train_mode() if way == "train_mode" else autograd.record():
            y = norm(x)
        if way == "backward":
            y.backward()
        y.wait_to_read()
    return norm.running_mean.data().asnumpy().tolist(), norm.running_var.data().asnumpy().tolist()


for way in ("train_mode", "record", "backward"):
    mean, variance = statistics(way)
    print(f"{way}: running mean {mean}, running variance {variance}")
    moved = way == "backward"
    assert (abs(mean[0] - 1) < 0.2) is moved
    assert (mean == [0.0, 0.0] and variance == [1.0, 1.0]) is not moved
PY
# Seen: train_mode and record: running mean [0.0, 0.0], running variance [1.0, 1.0]; backward: means
# near 1, variances near 9
