#!/usr/bin/env bash
# torch 2.13.0: a file of BatchNorm2d(track_running_stats=False) is one of InstanceNorm2d(affine=True).
#
# Both save weight and bias and nothing else, and both write version 2 into the state dict's metadata, though
# that version marks num_batches_tracked, which neither has. So each loads into the other with strict=True and
# without a word, and normalises otherwise: the one over the batch, so that a sample's output hangs on those
# beside it, in eval mode too; the other over each sample by itself. A file alone does not tell which it is of.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import io

import torch
from torch import nn

torch.manual_seed(0)
batch = nn.BatchNorm2d(3, track_running_stats=False).eval()
instance = nn.InstanceNorm2d(3, affine=True).eval()
saved = []
for norm in (batch, instance):
    stream = io.BytesIO()
    torch.save(norm.state_dict(), stream)
    saved.append(torch.load(io.BytesIO(stream.getvalue())))
for state in saved:
    print(list(state), dict(state._metadata[""]))
print("into the other:", batch.load_state_dict(saved[1]), instance.load_state_dict(saved[0]))
torch.set_grad_enabled(False)
x = torch.randn(4, 3, 5, 5) * torch.arange(1.0, 5.0).reshape(4, 1, 1, 1)
alone = {norm: norm(x[:1]) for norm in (batch, instance)}
beside = {norm: norm(x)[:1] for norm in (batch, instance)}
moved = {type(n).__name__: float((alone[n] - beside[n]).abs().max()) for n in (batch, instance)}
print("torch", torch.__version__, "- a sample's output moves with those beside it by", moved)
assert [list(state) for state in saved] == [["weight", "bias"]] * 2
assert [dict(state._metadata[""]) for state in saved] == [{"version": 2}] * 2
assert moved["BatchNorm2d"] > 0.5
assert moved["InstanceNorm2d"] < 1e-5
PY
# Seen: ['weight', 'bias'] and {'version': 2} of both, <All keys matched successfully> either way; a sample
# moves by 1.55 behind the batch norm and by 0.0 behind the instance norm
