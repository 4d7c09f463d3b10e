#!/usr/bin/env bash
# torch 2.13.0: a BatchNorm in bfloat16 never reaches the statistics of its input where the momentum is small.
#
# The running mean is updated in bfloat16, whose values lie 1/256 to 1/128 of themselves apart: an update
# of less than half of that is rounded away, and so is part of the momentum. At torch's own momentum of 0.1 little is
# lost. At 0.01, which ports of TensorFlow's models have, the mean stops at 0.7 of the input's however
# long it runs, at 0.003 at 0.4. The same layer in float32 arrives.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import torch
from torch import nn

torch.set_num_threads(1)


def arrived(momentum: float, kind: torch.dtype, seed: int) -> float:
    """Running mean over the true one, the median over channels, after ten times 1/momentum batches."""
    dice = torch.Generator().manual_seed(seed)
    mean = torch.rand(32, generator=dice) + 0.5
    norm = nn.BatchNorm2d(32, momentum=momentum).to(kind)
    for _ in range(round(10 / momentum)):
        batch = mean.view(1, -1, 1, 1) + torch.randn(16, 32, 16, 16, generator=dice)
        norm(batch.to(kind))
    return (norm.running_mean.float() / mean).median().item()


print("torch", torch.__version__)
for kind in (torch.float32, torch.bfloat16):
    for momentum in (0.1, 0.01, 0.003):
        shares = [arrived(momentum, kind, seed) for seed in range(2)]
        print(kind, "momentum", momentum, *(f"{share:.2f}" for share in shares))
        low, high = (
            (0.98, 1.02)
            if kind is torch.float32
            else {0.1: (0.95, 1.0), 0.01: (0.6, 0.8), 0.003: (0.3, 0.5)}[momentum]
        )
        assert all(low < share < high for share in shares), shares
PY
# Seen: 1.00 in float32 throughout; in bfloat16 0.98 at momentum 0.1, 0.68 to 0.71 at 0.01, 0.38 to 0.40 at 0.003
