"""The JSON Schema that ships with the package, and what it promises."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from normcheck.report.machines.as_json import SCHEMA_FILE, SCHEMA_VERSION, render_json
from normcheck.runs.scan import scan
from tests.report.everything import clean, everything, hostile


@pytest.fixture(autouse=True)
def _in_samples(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(samples)


def schema() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return value


def closed(value: Any) -> Any:
    """The schema with nothing allowed that it does not name."""
    if isinstance(value, list):
        return [closed(item) for item in value]
    if not isinstance(value, dict):
        return value
    made = {key: closed(item) for key, item in value.items()}
    if "properties" in value:
        made["additionalProperties"] = False
    return made


def problems(report: str, by: dict[str, Any]) -> list[str]:
    errors = Draft202012Validator(by).iter_errors(json.loads(report))
    return [f"{error.json_path}: {error.message[:200]}" for error in errors]


def test_the_schema_is_one() -> None:
    """It is valid itself, and says which version it is of."""
    Draft202012Validator.check_schema(schema())
    assert schema()["properties"]["version"]["const"] == SCHEMA_VERSION


def test_reports_are_valid_and_hold_nothing_undescribed() -> None:
    """Every field that is written is in the schema, and every one in it is written."""
    for report in (everything(), clean(), hostile(), scan(["."]), scan([])):
        assert problems(render_json(report), closed(schema())) == []


def test_later_fields_are_allowed() -> None:
    """Within a version fields are added: readers that validate go on working."""
    value = json.loads(render_json(clean()))
    value["models"][0]["new"] = 1
    assert problems(json.dumps(value), schema()) == []


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("version",), 2),
        (("findings", 0, "severity"), "note"),
        (("findings", 0, "rule"), "101"),
        (("findings", 0, "layers"), "bn"),
        (("suppressed", 0, "suppression"), None),
        (("summary", "errors"), -1),
        (("models", 0, "layers", 0, "eps"), "small"),
    ],
)
def test_the_schema_complains(path: tuple[str | int, ...], wrong: object) -> None:
    """A value of another form is found."""
    value = deepcopy(json.loads(render_json(everything())))
    place = value
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = wrong
    assert problems(json.dumps(value), schema()) != []
