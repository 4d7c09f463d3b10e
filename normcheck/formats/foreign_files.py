"""Files that are no PyTorch checkpoint, recognised so that the message can help."""

from normcheck.errors import UnknownFormatError, UnreadableError

_HTML_START = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")


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
    for matches, what, hint in _known(start):
        if matches:
            return UnreadableError(f"{name}: {what}", hint)
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


def _known(start: bytes) -> tuple[tuple[bool, str, str], ...]:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return (
        (
            start.startswith(b"version https://git-lfs"),
            "a Git LFS pointer, not the file itself",
            "run 'git lfs pull' in its repository and scan again",
        ),
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
            "normcheck reads PyTorch checkpoints; convert the weights to a state dict first",
        ),
        (
            start.startswith((b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"BZh")),
            "compressed",
            "unpack it and scan the result",
        ),
        (
            start.startswith(b"\x93NUMPY"),
            "a numpy array",
            "a model is a dictionary of arrays; save it with torch.save or safetensors",
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
        what, hint = "a Keras archive", "convert the weights to a state dict first"
    elif any(member.endswith("/.data/serialization_id") for member in members):
        what = "a torch.save that broke off: its pickle, and with it the model, was never written"
        hint = "save model.state_dict() again; torch.save failed on something else, or on the disk"
    elif any("/data/aotinductor/" in member for member in members):
        what, hint = (
            "a compiled package (AOTInductor): machine code, in which no norm can be told",
            "scan the checkpoint or the exported program that it was compiled from",
        )
    elif members and all(member.endswith(".npy") for member in members):
        what, hint = (
            "an archive of numpy arrays (npz)",
            "save the arrays as a state dict with torch.save or safetensors",
        )
    else:
        return None
    return UnreadableError(f"{name}: {what}", hint)
