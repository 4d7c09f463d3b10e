#!/usr/bin/env bash
# torch 2.13.0: what several ranks write with torch.distributed.checkpoint comes back in another order.
#
# Values that all ranks hold are written once, by the rank with least to write, and .metadata lists
# them by the rank that wrote them. dcp_to_torch_save goes through that list, so that the state dict
# in its file has the modules of a model in no order that the model ever had: keys of one block apart,
# later blocks first. Loading by name does not mind. Whatever reads the order of a state dict does.
# The order that was saved is in the same metadata, under planner_data.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PY'
import pickle
from pathlib import Path

import torch
from torch import nn
from torch.distributed.checkpoint import DefaultSavePlanner, FileSystemWriter
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

model = nn.Sequential(*(nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)) for _ in range(4)))
state = model.state_dict()
# What dcp.save does on two ranks, in one process.
writer = FileSystemWriter("step")
writer.set_up_storage_writer(True)
planners = [DefaultSavePlanner() for _ in range(2)]
plans = []
for rank, planner in enumerate(planners):
    planner.set_up_planner({"model": state}, writer.storage_meta(), rank == 0)
    plans.append(writer.prepare_local_plan(planner.create_local_plan()))
plans, metadata = planners[0].create_global_plan(plans)
plans = writer.prepare_global_plan(plans)
writer.finish(metadata, [
    writer.write_data(planner.finish_plan(plan), planner).wait()
    for planner, plan in zip(planners, plans)
])
dcp_to_torch_save("step", "model.pt")
saved, back = list(state), list(torch.load("model.pt", weights_only=False)["model"])
planned = [path[1] for path in pickle.loads(Path("step/.metadata").read_bytes()).planner_data.values()]
print("torch", torch.__version__)
print("saved:   ", saved[:3], "...")
print("read back:", back[:3], "...")
print("positions of the saved keys in the file:", [back.index(key) for key in saved])
assert sorted(saved) == sorted(back)
assert saved != back
assert planned == saved
PY
# Seen: the same 28 keys, those of a convolution and of the batch norm behind it in different halves
# of the file; planner_data in the order that was saved
