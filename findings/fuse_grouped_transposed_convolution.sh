#!/usr/bin/env bash
# torch 2.13.0: fuse_conv_bn_eval(..., transpose=True) cannot fuse a grouped transposed convolution.
#
# ConvTranspose2d stores its weights as [in, out / groups, *kernel]. The fusion scales axis 1 by a
# vector of `out` numbers, which fits for one group only, so that a valid layer raises a size error
# (and one whose sizes happen to broadcast could not be told from a right one). The ungrouped twin
# fuses, and so does the grouped convolution that is not transposed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fused(layer: nn.Module, out: int, transpose: bool) -> str:
    norm = nn.BatchNorm2d(out).eval()
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 6, 5, 5)
    try:
        one = fuse_conv_bn_eval(layer.eval(), norm, transpose=transpose)
    except RuntimeError as error:
        return f"RuntimeError: {error}"
    return "equal" if torch.allclose(one(x), norm(layer(x)), atol=1e-5) else "other outputs"


torch.manual_seed(0)
plain = fused(nn.ConvTranspose2d(6, 8, 4, 2, 1), 8, True)
grouped = fused(nn.Conv2d(6, 8, 3, groups=2), 8, False)
both = fused(nn.ConvTranspose2d(6, 8, 4, 2, 1, groups=2), 8, True)
print("torch", torch.__version__)
print("transposed:          ", plain)
print("grouped:             ", grouped)
print("transposed, grouped: ", both)
assert plain == grouped == "equal"
assert both.startswith("RuntimeError: The size of tensor a (4) must match the size of tensor b (8)")
PY
# Seen: transposed: equal · grouped: equal · transposed, grouped: RuntimeError: The size of tensor a
# (4) must match the size of tensor b (8) at non-singleton dimension 1
