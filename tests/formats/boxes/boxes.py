"""Archives around checkpoints, made as the programs that people use make them."""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.conftest import SAMPLES

Pack = Callable[[Path, Mapping[str, bytes]], Path]
HEALTHY = (SAMPLES / "digits-healthy.pt").read_bytes()
FOREIGN = (SAMPLES / "foreign-statistics.pt").read_bytes()


def zipped(path: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip; deflated as shutil and torch-model-archiver write it."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def stored(path: Path, members: Mapping[str, bytes]) -> Path:
    """A zip of stored members, as stable-baselines3 and pytorch-tabnet write it."""
    return zipped(path, members, zipfile.ZIP_STORED)


def tarred(path: Path, members: Mapping[str, bytes], mode: str = "w") -> Path:
    """A tar; ``w:gz`` packs it as a whole."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def gzipped_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """What SageMaker's ``model.tar.gz`` is, and NeMo's files before 1.0."""
    return tarred(path, members, "w:gz")


def xz_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """Packed by xz as a whole."""
    return tarred(path, members, "w:xz")


def bzip2_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """Packed by bzip2 as a whole."""
    return tarred(path, members, "w:bz2")


def gzipped(path: Path, data: bytes) -> Path:
    """One file, packed."""
    path.write_bytes(gzip.compress(data))
    return path


PACKERS: dict[str, Pack] = {
    "deflated": zipped,
    "stored": stored,
    "tar": tarred,
    "tar.gz": gzipped_tar,
    "tar.xz": xz_tar,
    "tar.bz2": bzip2_tar,
}
MANIFEST = json.dumps({"model": {"modelName": "digits", "serializedFile": "model.pt"}}).encode()
"""Of torch-model-archiver 0.12, in short."""
REAL: dict[str, tuple[str, Pack, dict[str, bytes]]] = {
    "TorchServe": (
        "digits.mar",
        zipped,
        {"model.pt": b"", "handler.py": b"def handle(): ...\n", "MAR-INF/MANIFEST.json": MANIFEST},
    ),
    "SageMaker": ("model.tar.gz", gzipped_tar, {"model.pt": b"", "code/inference.py": b"import x"}),
    "NeMo": ("asr.nemo", tarred, {"./model_config.yaml": b"sample_rate: 16000", "./model.pt": b""}),
    "old NeMo": ("asr.nemo", gzipped_tar, {"model_config.yaml": b"x: 1", "model.pt": b""}),
    "stable-baselines3": (
        "policy.zip",
        stored,
        {"data": b"{}", "model.pt": b"", "_stable_baselines3_version": b"2.9.0"},
    ),
    "pytorch-tabnet": ("tabnet.zip", zipped, {"model_params.json": b"{}", "model.pt": b""}),
}
"""Layouts of libraries: the file's name, how it is packed, and what is in it beside the model."""


def box(kind: str, folder: Path, model: bytes) -> Path:
    """A box as one library makes it, with this checkpoint in it."""
    name, pack, members = REAL[kind]
    return pack(
        folder / name, {n: model if n.endswith("model.pt") else d for n, d in members.items()}
    )
