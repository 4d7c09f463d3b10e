"""From words to files: patterns, folders, and what is passed over in them."""

from pathlib import Path

import pytest

from normcheck.errors import UnreadableError
from normcheck.sources.targets import CHECKPOINT_SUFFIXES, expand


def files(folder: Path, *names: str) -> Path:
    """Makes empty files, folders where needed."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def listed(folder: Path, *words: str) -> list[str]:
    """What the words, relative to the folder, expand to, again relative to it."""
    targets = expand([str(folder / word) for word in words])
    return [str(target.path.relative_to(folder)) for target in targets]


@pytest.mark.parametrize("suffix", CHECKPOINT_SUFFIXES)
def test_folder_is_searched_by_suffix(suffix: str, tmp_path: Path) -> None:
    """Every suffix of checkpoints is found in a folder, deep below it too."""
    files(tmp_path, f"a{suffix}", f"deep/er/b{suffix}", "readme.md", "config.json", "x.py")
    assert listed(tmp_path, "") == [f"a{suffix}", f"deep/er/b{suffix}"]


def test_what_is_named_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    """A file named outright is a target without a known suffix, and missing ones as well."""
    files(tmp_path, "weights.xyz")
    assert listed(tmp_path, "weights.xyz", "missing.pt") == ["weights.xyz", "missing.pt"]


def test_explicit_or_found(tmp_path: Path) -> None:
    """A target knows whether the user named it or a folder was searched."""
    files(tmp_path, "sub/a.pt", "b.pt", "c.pt")
    words = [str(tmp_path / "sub"), str(tmp_path / "b.pt"), str(tmp_path / "c*")]
    assert [target.explicit for target in expand(words)] == [False, True, True]


def test_order_and_repetition(tmp_path: Path) -> None:
    """The order is that of the words, sorted within a folder; each file comes once."""
    files(tmp_path, "m/b.pt", "m/a.pt", "z.pt")
    assert listed(tmp_path, "z.pt", "m", "m/a.pt", "*.pt") == ["z.pt", "m/a.pt", "m/b.pt"]


def test_patterns(tmp_path: Path) -> None:
    """Patterns match files and folders, ``**`` all levels."""
    files(tmp_path, "run1/last.ckpt", "run2/last.ckpt", "run2/deep/last.ckpt", "notes.txt")
    assert listed(tmp_path, "run*/last.ckpt") == ["run1/last.ckpt", "run2/last.ckpt"]
    assert listed(tmp_path, "run[2]") == ["run2/last.ckpt", "run2/deep/last.ckpt"]
    assert len(listed(tmp_path, "**/last.ckpt")) == 3


def test_file_with_brackets_in_its_name(tmp_path: Path) -> None:
    """A file that exists is meant as it is, although its name looks like a pattern."""
    files(tmp_path, "model[1].pt")
    assert listed(tmp_path, "model[1].pt") == ["model[1].pt"]


def test_pattern_that_matches_nothing(tmp_path: Path) -> None:
    """A pattern without a match is an error that names it."""
    with pytest.raises(UnreadableError, match=r"\*\.pt") as caught:
        listed(tmp_path, "*.pt")
    assert caught.value.hint


def test_folders_that_are_skipped(tmp_path: Path) -> None:
    """Version control, caches and environments are not searched."""
    files(tmp_path, ".git/a.pt", "__pycache__/a.pkl", ".venv/b.pt", ".cache/c.bin", "kept/d.pt")
    assert listed(tmp_path, "") == ["kept/d.pt"]


def test_hugging_face_folder(tmp_path: Path) -> None:
    """Of a model folder the indexes are taken in place of their shards, single files besides."""
    files(
        tmp_path,
        "model.safetensors.index.json",
        *(f"model-0000{i}-of-00002.safetensors" for i in (1, 2)),
        "pytorch_model.bin.index.json",
        *(f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)),
        "adapter_model.safetensors",
        "model-averaged.safetensors",
        "model-00001-of-00002.pt",
        "unet/diffusion_pytorch_model.safetensors",
        "config.json",
    )
    assert listed(tmp_path, "") == [
        "model.safetensors.index.json",
        "pytorch_model.bin.index.json",
        "adapter_model.safetensors",
        "model-00001-of-00002.pt",
        "model-averaged.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
    ]


def test_indexes_of_other_frameworks(tmp_path: Path) -> None:
    """TensorFlow's and Flax's indexes in the same folder are no targets."""
    files(
        tmp_path,
        "tf_model.h5.index.json",
        "flax_model.msgpack.index.json",
        "model.safetensors.index.json",
    )
    assert listed(tmp_path, "") == ["model.safetensors.index.json"]


def test_shards_without_their_index(tmp_path: Path) -> None:
    """Shards whose index is missing are targets of their own."""
    files(tmp_path, "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    assert len(listed(tmp_path, "")) == 2
