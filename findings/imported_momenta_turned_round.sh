#!/usr/bin/env bash
# transformers 5.24.0: MobileNetV1 and MobileNetV2 keep running statistics of the last batch alone.
#
# Their batch norms are built with momentum 0.9997 and 0.997, the shares of the OLD value that the
# original TensorFlow models had. In torch momentum is the share of the NEW value, so that after any
# step in train mode the running statistics are those of its batch. Released weights were converted
# and never met it; who fine-tunes them predicts with the statistics of whichever batch came last.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 transformers==5.24.0
"$work/venv/bin/python" -W ignore - <<'PY'
import torch
from torch import nn
from transformers import (
    MobileNetV1Config,
    MobileNetV1ForImageClassification,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
)

models = {
    "MobileNetV1": (MobileNetV1ForImageClassification, MobileNetV1Config(depth_multiplier=0.25)),
    "MobileNetV2": (MobileNetV2ForImageClassification, MobileNetV2Config(depth_multiplier=0.25)),
}
torch.manual_seed(0)
for name, (build, config) in models.items():
    model = build(config).train()
    norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    inputs = []
    norm.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    with torch.no_grad():
        for step in range(20):  # each batch brighter than the last
            model(torch.randn(8, 3, 64, 64) + step)
    means = torch.stack([x.mean((0, 2, 3)) for x in inputs])
    off = (norm.running_mean - means[-1]).abs().max() / (means[-1] - means.mean(0)).abs().max()
    print(f"{name}: momentum {norm.momentum}, running means lie {off:.1%} off the last batch's,")
    print("  of what the mean of all 20 batches lies off them")
    assert norm.momentum > 0.99
    assert off < 0.02
PY
# Seen: MobileNetV1: momentum 0.9997, running means lie 0.0% off the last batch's; MobileNetV2:
# momentum 0.997, 0.0%
