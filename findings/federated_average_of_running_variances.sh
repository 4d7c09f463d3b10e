#!/usr/bin/env bash
# flwr 1.42.0: its weighted average of clients' state dicts leaves out what lies between the clients.
#
# Every array of a state dict is averaged, running statistics among them. A mean of variances is not
# the variance of all data: the spread of the clients' means is missing, which is all of it where
# each client has inputs of its own. The global model then divides by a deviation that is too small.
# The batch count becomes a fraction, in float64, and is cut when the average is loaded.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet flwr==1.42.0 torch==2.13.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import flwr
import torch
from flwr.app import ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from torch import nn

torch.manual_seed(0)
replies = []
for shift, batches in ((-5.0, 300), (5.0, 401)):
    client = nn.BatchNorm1d(4).train()
    for _ in range(batches):
        client(torch.randn(32, 4) + shift)
    arrays, metrics = ArrayRecord(client.state_dict()), MetricRecord({"num-examples": 100})
    replies.append(RecordDict({"arrays": arrays, "metrics": metrics}))
average = aggregate_arrayrecords(replies, "num-examples").to_torch_state_dict()
model = nn.BatchNorm1d(4)
model.load_state_dict(average)
both = torch.cat([torch.randn(4000, 4) - 5.0, torch.randn(4000, 4) + 5.0])
count, variance = average["num_batches_tracked"], average["running_var"]
print("flwr", flwr.__version__, "torch", torch.__version__)
print("count of the average:   ", count, "- loaded:", int(model.num_batches_tracked))
print("variances of the average:", variance)
print("variances of all data:   ", both.var(0))
print("deviation of outputs:    ", float(model.eval()(both).detach().std()))
assert (count.dtype, float(count)) == (torch.float64, 350.5)
assert int(model.num_batches_tracked) == 350
assert float(variance.max()) < 1.2
assert float(both.var(0).min()) > 24
PY
# Seen: a count of 350.5 that is loaded as 350; variances near 1 where those of all data are near 26,
# and outputs of a deviation of 5 where a batch norm makes 1.
