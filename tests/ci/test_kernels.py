"""Which kernels ``make test-kernels`` runs with, and that a failure under one of them counts."""

import subprocess
from pathlib import Path

import pytest

from tests import kernels

pytest.importorskip("torch")
DEFAULT, AVX2, AVX512, SSE41 = kernels.ALL


@pytest.mark.parametrize(
    ("setting", "own", "there", "machine", "run"),
    [
        (DEFAULT, "AVX512", "DEFAULT", "x86_64", True),
        (DEFAULT, "DEFAULT", "DEFAULT", "x86_64", False),
        (AVX2, "AVX512", "AVX2", "AMD64", True),
        (AVX2, "AVX2", "AVX2", "x86_64", False),
        (AVX2, "DEFAULT", "DEFAULT", "x86_64", False),
        (AVX512, "AVX2", "AVX2", "x86_64", False),
        # A variable that asks for more than the processor has is believed.
        (AVX512, "AVX2", "AVX512", "x86_64", False),
        (AVX2, "DEFAULT", "AVX2", "x86_64", False),
        (AVX512, "NO AVX", "AVX512", "x86_64", False),
        (DEFAULT, "NO AVX", "DEFAULT", "x86_64", False),
        (AVX512, "AVX512", "AVX512", "x86_64", False),
        (SSE41, "AVX512", "AVX512", "x86_64", True),
        (SSE41, "NEON", "NEON", "arm64", False),
        (DEFAULT, "SVE256", "DEFAULT", "aarch64", True),
        (AVX2, "DEFAULT", "DEFAULT", "aarch64", False),
    ],
)
def test_what_is_run(
    setting: kernels.Kernels, own: str, there: str, machine: str, run: bool
) -> None:
    """What a processor has besides its own; what it lacks is not run, with a reason."""
    assert (not kernels.why_not(setting, own, there, machine)) is run


@pytest.mark.slow
def test_torch_has_kernels_of_these_names() -> None:
    """Setting the variable has an effect: the least of them is there on every machine."""
    assert kernels.capability({"ATEN_CPU_CAPABILITY": "default"}) in ("DEFAULT", "NO AVX")


def test_one_failure_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever passes after it; and each run has its own setting only."""
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    monkeypatch.setattr(
        kernels, "capability", lambda e: e.get("ATEN_CPU_CAPABILITY", "avx512").upper()
    )
    monkeypatch.setattr(kernels.platform, "machine", lambda: "x86_64")
    ran: list[tuple[str | None, str | None]] = []

    def run(line: list[str], *, env: dict[str, str], check: bool) -> object:
        assert line[1:] == ["-m", "pytest", "-q", "-m", "kernels", "-x"]
        ran.append((env.get("ATEN_CPU_CAPABILITY"), env.get("DNNL_MAX_CPU_ISA")))
        return subprocess.CompletedProcess(line, env.get("ATEN_CPU_CAPABILITY") == "avx2")

    monkeypatch.setattr(kernels.subprocess, "run", run)
    assert kernels.main(["-x"]) == 1
    assert ran == [("default", None), ("avx2", None), (None, "SSE41")]
    said = capsys.readouterr().out
    assert "avx2: FAILED" in said
    assert "avx512: not run: these are the machine's own" in said
    assert "SSE41: passed" in said


def test_what_trains_is_run_under_all_of_them(request: pytest.FixtureRequest) -> None:
    """Tests of a run's verdicts carry the mark: a new file of them, too."""
    live = Path(__file__).parent.parent / "live"
    bare = {
        path.name
        for path in live.rglob("test_*.py")
        if "import torch" in (text := path.read_text(encoding="utf-8"))
        and "pytest.mark.kernels" not in text
    }
    # What has no numbers in it: processes, files, hostile pickles, the names of factories; or
    # numbers that are stored and not computed.
    assert bare <= {
        "test_data_files.py", "test_failed_trials.py", "test_faulty_files.py",
        "test_image_size.py", "test_isolated_run.py", "test_loaders.py", "test_model_factory.py",
        "test_own_values.py", "test_program_is_closed.py", "test_quantised_modules.py",
        "test_rebuild_hostile.py", "test_replaced_forwards.py",
        "test_sharded_modules.py", "test_synthetic_input.py",
    }  # fmt: skip
