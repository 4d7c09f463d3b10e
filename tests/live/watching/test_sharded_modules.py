"""Modules sharded by FSDP2: scanned before their first forward, and going on as if never scanned.

Each in a process of its own, which has a process group of one, and may die.
"""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

BEGIN = """
import warnings
warnings.filterwarnings("ignore")
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
import normcheck

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU())
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.body(x))

def sharded():
    net = Net()
    fully_shard(net.body)
    return fully_shard(net)

def kinds(net):
    return {name: type(p).__name__ for name, p in net.named_parameters()}

def values(net):
    return {k: getattr(v, "full_tensor", lambda v=v: v)() for k, v in net.state_dict().items()}

x = torch.randn(8, 4)
net = sharded()
"""
CASES = {
    "before the first forward": """
before, held = values(net), kinds(net)
report = normcheck.scan(net)
assert not report.errors, report.errors
assert report.models[0].run is not None
assert report.models[0].layers[0].weight is not None
assert kinds(net) == held and set(held.values()) == {"DTensor"}
assert all(torch.equal(v, before[k]) for k, v in values(net).items())
""",
    "and then run": """
normcheck.scan(net)
assert torch.equal(net.eval()(x), sharded().eval()(x))
""",
    "and then trained": """
normcheck.scan(net)
other = sharded()
for model in (net, other):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        model(x).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
assert all(torch.equal(v, values(other)[k]) for k, v in values(net).items())
""",
    "a part of it first": """
normcheck.scan(net.body)
normcheck.scan(net)
net(x).sum().backward()
""",
    "after a forward": """
net(x)
before, held = values(net), kinds(net)
normcheck.scan(net)
assert kinds(net) == held
net(x).sum().backward()
""",
    "that fails half-way": """
net.head.register_forward_pre_hook(lambda *_: 1 / 0)
report = normcheck.scan(net)
assert "ZeroDivisionError" in report.errors[0].message
net.head._forward_pre_hooks.clear()
assert set(kinds(net).values()) == {"DTensor"}
assert torch.equal(net.eval()(x), sharded().eval()(x))
""",
    "recalibrated": """
normcheck.recalibrate(net, [x, x + 1])
assert set(kinds(net).values()) == {"DTensor"}
assert float(values(net)["body.1.running_mean"].abs().sum()) > 0
net(x).sum().backward()
""",
}

MESH = """
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

mesh = init_device_mesh("cpu", (1,))
images = 1 + torch.randn(64, 3, 10, 10)

def trained():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    for _ in range(60):
        net.train()(1 + torch.randn(8, 3, 10, 10))
    return net.eval()

def lost(net):
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return net

def said(report):
    layers = {x.path: x.mean.largest for x in report.models[0].layers if x.mean}
    return {f.rule for f in report.findings}, layers

def into(module, inputs, mesh):
    return tuple(distribute_tensor(x, mesh, [Replicate()]) for x in inputs)

def out(module, outputs, mesh):
    return outputs.to_local()

def cut(name, module, mesh):
    for n, p in list(module.named_parameters(recurse=False)):
        module.register_parameter(n, nn.Parameter(distribute_tensor(p.data, mesh, [Shard(0)])))
    for n, b in list(module.named_buffers(recurse=False)):
        if b.ndim:
            module.register_buffer(n, distribute_tensor(b, mesh, [Shard(0)]))
"""
CASES |= {
    "convolutions on a mesh": MESH
    + """
for build in (trained, lambda: lost(trained())):
    net = build()
    fully_shard(net[0], mesh=mesh)
    fully_shard(net, mesh=mesh)
    for words in ({"data": images}, {"input_shape": "3x10x10"}):
        report = normcheck.scan(net, **words)
        assert not report.errors, report.errors
        assert said(report) == said(normcheck.scan(build(), **words))
assert "NC101" in said(report)[0]
""",
    "every tensor of it distributed": MESH
    + """
for build in (trained, lambda: lost(trained())):
    for part in (None, cut):
        net = distribute_module(build(), mesh, part)
        assert isinstance(net[1].running_mean, DTensor)
        report = normcheck.scan(dict(net.state_dict()))
        assert said(report) == said(normcheck.scan(build().state_dict()))
assert "NC101" in said(report)[0]
net = distribute_module(trained(), mesh, input_fn=into, output_fn=out)
report = normcheck.scan(net, input_shape="3x10x10")
assert said(report)[1] == said(normcheck.scan(trained(), input_shape="3x10x10"))[1]
""",
    "parallel by tensors": MESH
    + """
net = Net().eval()
parallelize_module(net, mesh, {"body.0": ColwiseParallel(), "head": RowwiseParallel()})
report = normcheck.scan(net, input_shape="4")
assert not report.errors, report.errors
assert said(report) == said(normcheck.scan(Net().eval(), input_shape="4"))
""",
}


@pytest.mark.parametrize("case", CASES)
def test_scanned(case: str) -> None:
    """No end of the process, no parameter of another kind, no forward that is another."""
    script = BEGIN + CASES[case] + "dist.destroy_process_group()\n"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert not done.returncode, done.stderr[-2_000:]
