"""A rule that ends its process where a model has a layer of a certain name; no test itself."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from normcheck.findings import Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject

EXITS, KILLED, SLOW = "exits", "killed", "slow"


def check(subject: Subject) -> Iterator[Finding]:
    """Die, as the model's layers say."""
    for layer in subject.layers:
        if layer.path.startswith(EXITS):
            os._exit(7)
        if layer.path.startswith(KILLED):
            os.kill(os.getpid(), signal.SIGKILL)
    yield from ()


RULE = Rule("NC999", "deadly", "ends its process", Severity.ERROR, Need.STATE, "", check)


def write_model(file: Path, layer: str = "norm", mean: float = 0.0) -> Path:
    """A checkpoint with one batch norm; all of them are of the same length."""
    values = {
        f"{layer:_<8}.{name}": np.full(8, value, dtype=np.float32)
        for name, value in (
            ("weight", 1.5), ("bias", 0.5), ("running_mean", mean), ("running_var", 2.0),
        )
    }  # fmt: skip
    values[f"{layer:_<8}.num_batches_tracked"] = np.array(900, dtype=np.int64)
    save_file(values, file)
    return file
