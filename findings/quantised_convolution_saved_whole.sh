#!/usr/bin/env bash
# torch 2.13.0: a whole model with an eager-mode quantised convolution is saved, and cannot be used.
#
# torch.save takes the converted model without a word. What torch.load(weights_only=False) gives back
# is a module tree in which each quantised Conv2d lacks what nn.Module needs (_modules, its hooks):
# eval(), modules() and a forward all raise AttributeError, so that a tool cannot even ask which mode
# the model is in. A quantised Linear comes back whole, and so does the state dict of the same model.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$work/venv/bin/python" -W ignore - "$work" <<'PY'
import sys

import torch
from torch import nn
from torch.ao import quantization


def converted(layer: nn.Module, x: torch.Tensor) -> nn.Module:
    model = nn.Sequential(quantization.QuantStub(), layer, quantization.DeQuantStub()).eval()
    model.qconfig = quantization.get_default_qconfig("fbgemm")
    prepared = quantization.prepare(model)
    prepared(x)
    return quantization.convert(prepared)


def comes_to(call) -> str:
    try:
        call()
    except AttributeError as error:
        return str(error)
    return "works"


torch.manual_seed(0)
seen = {}
for name, layer, x in (
    ("Linear", nn.Linear(8, 4), torch.randn(16, 8)),
    ("Conv2d", nn.Conv2d(3, 4, 3), torch.randn(16, 3, 8, 8)),
):
    model = converted(layer, x)
    torch.save(model, f"{sys.argv[1]}/model.pt")
    loaded = torch.load(f"{sys.argv[1]}/model.pt", weights_only=False)
    fresh = converted(type(layer)(*((8, 4) if name == "Linear" else (3, 4, 3))), x)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(x), model(x))  # by the state dict
    seen[name] = [
        comes_to(loaded.eval), comes_to(lambda: list(loaded.modules())), comes_to(lambda: loaded(x))
    ]  # fmt: skip
    print(f"{name}: eval, modules, forward: {seen[name]}")
assert seen["Linear"] == ["works"] * 3
assert all("has no attribute" in text for text in seen["Conv2d"])
PY
# Seen: Linear: ['works', 'works', 'works']; Conv2d: "'Conv2d' object has no attribute '_modules'" twice,
# and "… '_backward_hooks'"
