#!/usr/bin/env bash
# torch_geometric 2.8.1: HeteroBatchNorm and InstanceNorm move their running statistics, but never
# count the batches: num_batches_tracked, which both have as a buffer, stays at 0.
#
# BatchNorm of the same package wraps torch's and counts. So a count of 0 in a graph network says
# nothing of how warm its statistics are.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 torch_geometric==2.8.1
"$work/venv/bin/python" -W ignore - <<'PY'
import torch
import torch_geometric
from torch_geometric.nn import BatchNorm, HeteroBatchNorm, InstanceNorm

torch.manual_seed(0)
norms = {
    "HeteroBatchNorm": HeteroBatchNorm(16, num_types=3),
    "InstanceNorm": InstanceNorm(16, track_running_stats=True),
    "BatchNorm": BatchNorm(16).module,
}
for _ in range(50):
    x = torch.randn(90, 16) * 2 + 1
    norms["HeteroBatchNorm"](x, torch.arange(90) % 3)
    norms["InstanceNorm"](x)
    norms["BatchNorm"](x)
print("torch", torch.__version__, "torch_geometric", torch_geometric.__version__)
for name, norm in norms.items():
    print(f"{name}: {int(norm.num_batches_tracked)} batches, "
          f"mean of running_mean {float(norm.running_mean.mean()):.2f}")
assert all(abs(float(norm.running_mean.mean()) - 1) < 0.1 for norm in norms.values())
assert [int(norm.num_batches_tracked) for norm in norms.values()] == [0, 0, 50]
PY
# Seen: HeteroBatchNorm 0 batches, InstanceNorm 0 batches, BatchNorm 50, all with means near 1
