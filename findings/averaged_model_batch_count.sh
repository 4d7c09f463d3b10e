#!/usr/bin/env bash
# torch 2.13.0: AveragedModel(use_buffers=True) leaves num_batches_tracked at 1 for ever.
#
# The running average is stored into the integer buffer at each update, which truncates it. The
# first update copies a count of 1; with the model's count at k + 1, the average of k models and this
# one is 1 + k / (k + 1), which is below 2 and cut to 1, again and again. The running statistics beside it are averages of hundreds of
# batches, so the count of an averaged checkpoint says nothing of how warm its statistics are.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

torch.manual_seed(0)
model = nn.BatchNorm1d(4).train()
average = AveragedModel(model, use_buffers=True)
for _ in range(300):
    model(torch.randn(32, 4) * 3 + 2)
    average.update_parameters(model)
inner = average.module
print("torch", torch.__version__)
print("batches of the model:  ", int(model.num_batches_tracked))
print("batches of the average:", int(inner.num_batches_tracked))
print("models averaged:       ", int(average.n_averaged))
print("mean of the average:   ", inner.running_mean)
assert int(model.num_batches_tracked) == int(average.n_averaged) == 300
assert int(inner.num_batches_tracked) == 1
assert torch.allclose(inner.running_mean, torch.full((4,), 2.0), atol=0.2)
PY
# Seen: 300 batches, 300 models averaged, a count of 1 beside means near 2
