"""Adapters beside the configuration that names their base."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from normcheck.fleet.fleet_request import Fleet
from tests.verdict import report_on

STATE = {
    "base_model.model.layer.0.query.lora_A.weight": torch.randn(4, 16),
    "base_model.model.layer.0.query.lora_B.weight": torch.randn(16, 4),
}


def adapter(folder: Path, config: str | None, name: str = "adapter_model.safetensors") -> Path:
    if config is not None:
        (folder / "adapter_config.json").write_text(config)
    if name.endswith(".bin"):
        torch.save(STATE, folder / name)
    else:
        save_file(STATE, folder / name)
    return folder / name


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_model.bin"])
def test_base_is_named(name: str, tmp_path: Path) -> None:
    """The model, the kind of adapter, and what was trained whole."""
    config = {
        "base_model_name_or_path": "microsoft/resnet-50",
        "peft_type": "LORA",
        "modules_to_save": ["classifier"],
    }
    (model,) = report_on(adapter(tmp_path, json.dumps(config), name)).models
    (note,) = (note for note in model.notes if "adapter" in note)
    assert "(LORA) of microsoft/resnet-50: norms of the base are not in this file" in note
    assert note.endswith("classifier")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, "no adapter_config.json beside it"),
        ("{}", "does not name"),
        ("[]", "does not name"),
        ('{"base_model_name_or_path": 3}', "does not name"),
        ('{"base_model_name_or_path": "a", "modules_to_save": [3, {}]}', "of a: norms"),
        ("{not json", "cannot be told"),
        ('{"base_model_name_or_path": "a", "base_model_name_or_path": "b"}', "cannot be told"),
        ("[" * 100_000, "cannot be told"),
    ],
)
def test_configurations(config: str | None, words: str, tmp_path: Path) -> None:
    """Whatever lies beside it, the adapter is read."""
    (model,) = report_on(adapter(tmp_path, config)).models
    assert any(words in note for note in model.notes)


def test_names_are_bounded(tmp_path: Path, command: Any) -> None:
    """A name from the file is shortened, and cannot drive a terminal."""
    config = {"base_model_name_or_path": "\x1b[31m" + "x" * 100_000}
    run = command("scan", str(adapter(tmp_path, json.dumps(config))))
    assert "\x1b" not in run.stdout
    assert len(run.stdout) < 5_000


def test_other_files(tmp_path: Path) -> None:
    """Only what is called as PEFT calls it."""
    (model,) = report_on(adapter(tmp_path, "{}", "adapter_head.safetensors")).models
    assert not any("adapter" in note for note in model.notes)


def test_a_cache_looks_at_the_configuration(tmp_path: Path, normcheck: Any) -> None:
    """Another base is another report."""
    from normcheck.runs.scan import scan

    path = adapter(tmp_path, '{"base_model_name_or_path": "first"}')
    notes = []
    for base in ("first", "second"):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
        report = scan([path], fleet=Fleet(cache=tmp_path / "cache"))
        notes += [note for model in report.models for note in model.notes if "adapter" in note]
    assert ["of first" in notes[0], "of second" in notes[1]] == [True, True]
