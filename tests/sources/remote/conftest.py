"""What the tests of addresses share: a web server and an S3-compatible one."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck.sources.remote import remote_source
from tests.sources.remote.server import Web, serving


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """A web server for ``tmp_path / "www"``."""
    folder = tmp_path / "www"
    folder.mkdir()
    with serving(folder) as served:
        yield served


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Second attempts without the wait."""
    monkeypatch.setattr(remote_source, "FIRST_WAIT", 0.001)


def convolutional(blocks: int = 6, width: int = 256) -> dict[str, torch.Tensor]:
    """A network of which the norms are a small part: 2.4 MB of weights a block."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(blocks):
        layers += [nn.Conv2d(width, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    state = nn.Sequential(*layers).state_dict()
    for name, tensor in state.items():
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.1)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith("num_batches_tracked"):
            tensor.fill_(1000)
    return state


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a network in a file, 14 MB."""
    path = tmp_path_factory.mktemp("large") / "large.pt"
    torch.save(convolutional(), path)
    return path


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """The address of a bucket on an S3-compatible server, with credentials in the environment."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ACCESS_KEY_ID", "tests")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "not-so-secret-key")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    import s3fs

    s3fs.S3FileSystem().mkdir("models")
    yield "s3://models"
    patch.undo()
    server.stop()


@pytest.fixture
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python source in a process of its own, with the words as ``sys.argv[1:]``."""

    def run(source: str, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", source, *map(str, words)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    return run
