"""Files that are no PyTorch checkpoint, recognised so that the message can help."""

import re

from normcheck.errors import UnknownFormatError, UnreadableError

_HTML_START = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")

_BY_NAME = (
    (
        ".msgpack",
        "a msgpack file, as Flax writes it",
        "flatten it with flax.traverse_util, and save its arrays as safetensors",
    ),
    (
        "saved_model.pb",
        "the graph of a TensorFlow SavedModel, whose numbers lie in variables/",
        "load it with Keras on torch (keras.saving.load_model), and save model.state_dict()",
    ),
    (
        ".pb",
        "a TensorFlow graph",
        "scan the checkpoint that it was frozen from; batch norms are constants in it",
    ),
)
"""Formats that their first bytes do not tell, by the ends of names."""
_COMPILED = "machine code, in which no norm can be told"
_SOURCE = "scan the checkpoint or the exported program (.pt2) that it was compiled from"
_MACHINE_CODE = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
"""Programs and shared libraries of Linux, Windows and macOS."""
_BEFORE_THE_PICKLE = re.compile(
    r"/(version|byteorder|\.format_version|\.storage_alignment|\.data/)"
)
"""What ``torch.save`` writes into an archive before the pickle."""


def explain(name: str, size: int, start: bytes) -> UnreadableError:
    """Why a file cannot be read, and what to do.

    Args:
        name: How the message calls the file.
        size: Its length in bytes.
        start: Its first bytes, 512 of them where there are so many.
    """
    if size == 0:
        return UnreadableError(
            f"{name}: the file is empty", "the download or the save did not finish; repeat it"
        )
    if start.startswith(_MACHINE_CODE):
        # Programs lie in folders of C++ projects under any name: there they are passed over.
        what = f"a program or library, as AOTInductor makes one of a model: {_COMPILED}"
        return UnknownFormatError(f"{name}: {what}", _SOURCE)
    for matches, what, hint in _known(start):
        if matches:
            return UnreadableError(f"{name}: {what}", hint)
    for suffix, what, hint in _BY_NAME:
        if name.lower().endswith(suffix):
            return UnknownFormatError(f"{name}: {what}", hint)
    if not start.strip(b"\0"):
        return UnreadableError(
            f"{name}: the file begins with zeros only",
            "the disk was full or the copy broke off; fetch it again",
        )
    return UnknownFormatError(
        f"{name}: not a checkpoint format that normcheck reads",
        "it reads torch.save files (zip and legacy), pickled modules, safetensors, TorchScript, "
        "torch.export (.pt2) and ONNX",
    )


def pointer(start: bytes) -> str:
    """What a text is that stands for a file which is not there; empty for any other."""
    return next((what for matches, what, _ in _pointers(start) if matches), "")


def _pointers(start: bytes) -> tuple[tuple[bool, str, str], ...]:
    return (
        (
            start.startswith(b"version https://git-lfs"),
            "a Git LFS pointer, not the file itself",
            "run 'git lfs pull' in its repository and scan again",
        ),
        (
            start.startswith((b"outs:", b"md5:", b"frozen:", b"wdir:")),
            "a pointer of DVC, not the file itself",
            "run 'dvc pull' in its repository and scan the file without .dvc",
        ),
    )


def _known(start: bytes) -> tuple[tuple[bool, str, str], ...]:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return (
        *_pointers(start),
        (
            text.startswith(_HTML_START),
            "a web page, saved under a checkpoint's name",
            "the download link led to a page (login, error, preview); download the raw file",
        ),
        (
            start.startswith(b"GGUF"),
            "a GGUF file (llama.cpp)",
            "scan the checkpoint that it was converted from; GGUF holds no running statistics",
        ),
        (
            start.startswith(b"\x89HDF\r\n\x1a\n"),
            "an HDF5 file, as Keras writes it",
            "load it with Keras on torch (KERAS_BACKEND=torch), and save model.state_dict()",
        ),
        (
            start[4:8] == b"TFL3",
            "a TensorFlow Lite model, into which batch norms are folded",
            "scan the checkpoint that it was converted from, and compare outputs of the two",
        ),
        (
            start[4:6] == b"ET" and start[6:8].isdigit(),
            "an ExecuTorch program: compiled, with the weights in it and no norm to be told",
            "scan the checkpoint or the exported program (.pt2) that it was lowered from",
        ),
        (
            start.startswith(b"\x93NUMPY"),
            "a numpy array",
            "a model is a dictionary of arrays; save it with torch.save or safetensors",
        ),
        (
            start.startswith(b"\x04\x22\x4d\x18"),
            "packed by lz4, which is not unpacked here",
            "unpack it (lz4 -d), and scan what comes out",
        ),
        (
            text.startswith(b"{"),
            "JSON, but not the index of a sharded checkpoint",
            "scan the folder that it lies in, or the checkpoint itself",
        ),
    )


def explain_zip(name: str, members: list[str]) -> UnreadableError | None:
    """Why a zip archive is no torch checkpoint; None where nothing is known of it.

    Args:
        name: How the message calls the file.
        members: The names in the archive.
    """
    if any(member.endswith("model.weights.h5") for member in members):
        what = "a Keras archive"
        hint = "load it with Keras on torch (KERAS_BACKEND=torch), and save model.state_dict()"
    elif members and all(_BEFORE_THE_PICKLE.search(member) for member in members):
        what = "a torch.save that broke off: its pickle, and with it the model, was never written"
        hint = "save model.state_dict() again; torch.save failed on something else, or on the disk"
    elif any("/data/aotinductor/" in member for member in members):
        # Well made, and no checkpoint: in a folder it is passed over.
        return UnknownFormatError(f"{name}: a compiled package (AOTInductor): {_COMPILED}", _SOURCE)
    elif members and all(member.endswith(".npy") for member in members):
        what, hint = (
            "an archive of numpy arrays (npz)",
            "save the arrays as a state dict with torch.save or safetensors",
        )
    else:
        return None
    return UnreadableError(f"{name}: {what}", hint)
