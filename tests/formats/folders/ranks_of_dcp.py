"""Folders of torch.distributed.checkpoint as several ranks write them, made in one process."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.distributed.checkpoint import DefaultSavePlanner, FileSystemWriter, StorageWriter


def save_by_ranks(
    states: Sequence[dict[str, Any]], folder: Path, writer: StorageWriter | None = None
) -> Path:
    """What ``dcp.save`` writes where each rank has a state of its own.

    Args:
        states: One a rank. What they all have is written once, by the rank with least to write.
        folder: Where to.
        writer: Of files in that folder; by default those of ``torch.save``.
    """
    writer = writer or FileSystemWriter(folder)
    writer.set_up_storage_writer(True)
    planners = [DefaultSavePlanner() for _ in states]
    plans = []
    for rank, (planner, state) in enumerate(zip(planners, states, strict=True)):
        planner.set_up_planner(state, writer.storage_meta(), rank == 0)
        plans.append(writer.prepare_local_plan(planner.create_local_plan()))
    plans, metadata = planners[0].create_global_plan(plans)
    plans = writer.prepare_global_plan(plans)
    results = [
        writer.write_data(planner.finish_plan(plan), planner).wait()
        for planner, plan in zip(planners, plans, strict=True)
    ]
    writer.finish(metadata, results)
    return folder
