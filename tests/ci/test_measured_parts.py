"""Generated parts with numbers of a run: another processor's rounding is not out of date."""

import importlib.util
from collections.abc import Callable

import pytest

from tests.conftest import ROOT

OLD = "  995 bytes of 74,705 changed\n  to 4e-07 deviations, 9.4 %, 0.28 and 38 forwards"


@pytest.fixture(scope="module")
def alike() -> Callable[[str, str], bool]:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[str, str], bool] = module.alike
    return found


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("995", "994"),
        ("4e-07", "2e-07"),
        ("9.4 %", "9.5 %"),
        ("0.28", "0.29"),
        ("0.28 and", "0.28\n  and"),
    ],
)
def test_rounding_is_alike(alike: Callable[[str, str], bool], before: str, after: str) -> None:
    assert alike(OLD, OLD.replace(before, after))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("38 forwards", "41 forwards"),
        ("74,705", "84,705"),
        ("4e-07", "4e-02"),
        ("9.4 %", "12 %"),
        ("changed", "written"),
        ("0.28", "0.35"),
        ("and 38 forwards", ""),
    ],
)
def test_what_changed_is_not(alike: Callable[[str, str], bool], before: str, after: str) -> None:
    assert not alike(OLD, OLD.replace(before, after))
