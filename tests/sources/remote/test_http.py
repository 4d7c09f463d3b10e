"""Web addresses, read from a real server that counts."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import normcheck
from normcheck.config.examination import Examination
from normcheck.errors import UnreadableError
from normcheck.fleet.fleet_request import Fleet
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.sources.place import RemotePath
from normcheck.sources.remote import http_ranges
from normcheck.sources.remote.remote_source import ATTEMPTS, RemoteSource
from tests.sources.remote.conftest import convolutional
from tests.sources.remote.server import Web

pytestmark = pytest.mark.slow

SECRET = "s3cr3t-signature"  # noqa: S105  (what must not be shown)


@pytest.fixture
def address(web: Web, large: Path) -> str:
    """Of the large file on the server."""
    shutil.copy(large, web.folder / "large.pt")
    return f"{web.address}/large.pt"


def test_same_report_as_of_the_copy(address: str, large: Path) -> None:
    """What is found in the file does not depend on where it lies."""
    there, here = normcheck.scan([address]), normcheck.scan([str(large)])
    assert [f.message for f in there.findings] == [f.message for f in here.findings]
    assert there.models[0].layers == here.models[0].layers
    assert there.models[0].agreement == here.models[0].agreement
    assert there.models[0].target == address
    assert there.errors == ()


def test_norms_alone_cost_a_few_requests(address: str, web: Web, large: Path) -> None:
    """Without the weights a hundredth of the file is fetched: start, directory, norms."""
    report = normcheck.scan([address], Examination(weights_budget=0))
    assert report.models[0].layers[0].mean is not None
    assert len(web.asked) <= 8
    assert web.sent < 0.02 * large.stat().st_size
    assert report.models[0].agreement is not None
    assert all("--weights-budget" in why for _, why in report.models[0].agreement.unjudged[1:])


def test_no_byte_is_fetched_twice(address: str, web: Web, large: Path) -> None:
    """Weights are looked at more than once, and fetched once."""
    normcheck.scan([address])
    assert web.sent < large.stat().st_size


def test_ranges_are_asked_side_by_side(address: str, web: Web) -> None:
    """The spans that are known to be needed do not wait for each other."""
    web.delay = 0.1
    normcheck.scan([address], Examination(weights_budget=0))
    assert web.most_together >= 4


def test_a_small_file_is_one_request(web: Web) -> None:
    """What fits the first block comes with it."""
    torch.save(torch.nn.BatchNorm1d(4).state_dict(), web.folder / "small.pt")
    assert normcheck.scan([f"{web.address}/small.pt"]).models
    assert len(web.asked) == 1


def test_server_without_ranges(address: str, web: Web, large: Path) -> None:
    """A large file is not fetched whole: the error says what that would cost."""
    web.ranges = False
    report = normcheck.scan([address])
    (error,) = report.errors
    assert "ignores ranges" in error.message
    assert f"{large.stat().st_size:,} bytes" in error.message
    assert "download" in error.hint
    assert web.sent < http_ranges.MOST_WHOLE


def test_small_file_on_a_server_without_ranges(web: Web) -> None:
    """A small one is read from what was sent."""
    web.ranges = False
    torch.save(torch.nn.BatchNorm1d(4).state_dict(), web.folder / "small.pt")
    report = normcheck.scan([f"{web.address}/small.pt"])
    assert report.errors == ()
    assert len(web.asked) == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "access is denied"), (403, "access is denied"), (404, "no such file"),
     (500, "answers with 500"), (418, "answers with 418")],
)  # fmt: skip
def test_refusals(address: str, web: Web, status: int, words: str) -> None:
    """Each status is explained, with a hint; only one that may pass is asked again."""
    web.deny = status
    (error,) = normcheck.scan([address]).errors
    assert words in error.message
    assert error.hint
    assert len(web.asked) == (ATTEMPTS if status == 500 else 1)


def test_a_server_that_fails_twice(address: str, web: Web) -> None:
    """503 is asked again until it passes."""
    web.failures = 2
    assert normcheck.scan([address]).errors == ()


def test_connections_that_break(address: str, web: Web) -> None:
    """Half an answer is no answer: it is asked for again, and the numbers are right."""
    web.broken = 3
    report = normcheck.scan([address])
    assert report.errors == ()
    assert report.models[0].layers[0].mean is not None


def test_no_server(web: Web) -> None:
    """An address where nobody listens is an error of that target only."""
    report = normcheck.scan(["http://127.0.0.1:9/model.pt"])
    (error,) = report.errors
    assert "cannot be reached" in error.message
    assert error.hint


def test_a_file_that_changes(address: str, web: Web) -> None:
    """Parts of two versions are not put together."""
    source = RemoteSource(RemotePath(address))
    web.version = '"v2"'
    with pytest.raises(UnreadableError, match="changed while it was read"):
        source.read_at(5_000_000, 100)
    source.close()


def test_secrets_are_never_shown(address: str, web: Web, command) -> None:  # type: ignore[no-untyped-def]
    """Passwords and signatures stand in no output and no error, whatever happens."""
    signed = address.replace("http://", f"http://me:{SECRET}@") + f"?X-Sig={SECRET}&x={SECRET}"
    outputs = [command("scan", signed, "--format", form) for form in ("text", "json", "sarif")]
    web.deny = 403
    outputs += [
        command("scan", signed),
        command("scan", signed + "*"),
        command("diff", signed, signed),
    ]
    web.deny = 0
    outputs.append(command("scan", f"http://me:{SECRET}@127.0.0.1:9/m.pt?sig={SECRET}", "-vv"))
    for output in outputs:
        assert SECRET not in output.stdout + output.stderr
    assert "***@" in outputs[0].stdout
    assert json.loads(outputs[1].stdout)["models"][0]["target"].endswith("large.pt?X-Sig=***&x=***")
    assert outputs[3].returncode == 2


def test_diff_of_addresses(address: str, large: Path, web: Web) -> None:
    """A comparison takes addresses and paths alike."""
    state = convolutional()
    # Each channel by another amount, as ranks do; one constant would be an operation of code.
    state["1.running_mean"] += torch.rand(state["1.running_mean"].shape) + 0.5
    torch.save(state, web.folder / "later.pt")
    result = normcheck.diff([str(large), f"{web.address}/later.pt"])
    assert result.report.errors == ()
    assert [finding.rule for finding in result.findings] == ["NC603"]


def test_diff_fetches_samples_side_by_side(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that lie far apart are asked for together, and what lies between them is not."""
    monkeypatch.setattr("normcheck.compare.model_snapshot.limit_for", lambda _: 1 << 12)
    for name, offset in (("old.pt", 0.0), ("new.pt", 1.0)):
        state = convolutional(blocks=1, width=16)
        state["far"] = torch.arange(1 << 22, dtype=torch.float32) + offset
        torch.save(state, web.folder / name)
    web.delay = 0.05
    result = normcheck.diff([f"{web.address}/old.pt", f"{web.address}/new.pt"])
    assert result.report.errors == ()
    assert result.comparisons[0].steps[0].tensors_moved == 1
    assert web.most_together >= 8
    assert web.sent < 1 << 20


def test_what_is_known_of_an_address_is_not_fetched_again(web: Web, tmp_path: Path) -> None:
    """As long as the server says that it is the same file; a date is not enough."""
    torch.save(convolutional(blocks=2, width=64), web.folder / "a.pt")
    target, fleet = f"{web.address}/a.pt", Fleet(cache=tmp_path / "cache")

    def fetched(word: str = target) -> int:
        before = web.sent
        report = normcheck.scan([word], fleet=fleet)
        assert [len(model.layers) for model in report.models] == [2]
        return web.sent - before

    assert fetched() > 10_000
    assert fetched() == 1
    web.version = '"v2"'
    assert fetched() > 10_000
    assert fetched() == 1
    for version in ("", 'W/"v2"'):
        web.version = version
        assert fetched() > 10_000
        assert fetched() > 10_000
    web.version = '"v2"'
    # A secret is not kept, and without it nobody can ask.
    assert fetched(f"{target}?token={SECRET}") > 10_000
    assert fetched(f"{target}?token={SECRET}") > 10_000
    assert SECRET.encode() not in (tmp_path / "cache").read_bytes()
    web.deny = 403
    assert normcheck.scan([target], fleet=fleet).errors[0].message


def test_onnx(web: Web) -> None:
    """Of an export only what is judged: values of large tensors stay where they are."""
    onnx = pytest.importorskip("onnx")
    from tests.formats.onnx import onnx_by_hand as by_hand

    table = onnx.numpy_helper.from_array(np.zeros((1000, 10_000), np.float32), "table")
    made = by_hand.model([by_hand.norm()], [*by_hand.weights(), table])
    by_hand.written(made, web.folder / "model.onnx")
    report = normcheck.scan([f"{web.address}/model.onnx"])
    assert report.errors == ()
    assert [layer.features for layer in report.models[0].layers] == [2]
    assert web.sent < 3 << 20


def test_sharded(web: Web) -> None:
    """The shards of an index are found beside it, and asked side by side."""
    state = convolutional(blocks=4)
    names = sorted(state)
    placed = {}
    for number in range(4):
        shard = f"model-{number + 1:05d}-of-00004.safetensors"
        part = {name: state[name].contiguous() for name in names[number::4]}
        save_file(part, web.folder / shard)
        placed |= dict.fromkeys(part, shard)
    index = web.folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": placed}))
    web.delay = 0.05
    report = normcheck.scan(
        [f"{web.address}/{index.name}?token={SECRET}"], Examination(weights_budget=0)
    )
    assert report.errors == ()
    assert len(report.models[0].layers) == 4
    assert len(web.asked) <= 16
    assert web.most_together >= 3
    assert web.sent < 0.1 * sum(file.stat().st_size for file in web.folder.iterdir())


def test_missing_shard(web: Web) -> None:
    """One that the server does not have is named."""
    index = web.folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a.weight": "model-1.safetensors"}}))
    (error,) = normcheck.scan([f"{web.address}/{index.name}"]).errors
    assert "model-1.safetensors" in error.message


def test_legacy_file(web: Web) -> None:
    """A legacy file is walked storage by storage; the places are asked for together."""
    state = {f"{n}.weight": torch.ones(100_000) for n in range(20)}
    state |= {f"bn.{name}": torch.ones(7) for name in ("weight", "bias", "running_mean")}
    web.delay = 0.05
    torch.save(state, web.folder / "old.pt", _use_new_zipfile_serialization=False)
    checkpoint = read_checkpoint(RemotePath(f"{web.address}/old.pt"))
    assert checkpoint.models[0].tensors["bn.running_mean"].values().tolist() == [1.0] * 7
    checkpoint.close()
    assert web.most_together > 1
    assert web.sent < 0.5 * (web.folder / "old.pt").stat().st_size


def test_damage_is_found(address: str, web: Web) -> None:
    """A flipped bit in a norm shows by its checksum, as in a local file."""
    path = web.folder / "large.pt"
    data = bytearray(path.read_bytes())
    mean = convolutional()["1.running_mean"].numpy().tobytes()
    data[data.index(mean)] ^= 1
    path.write_bytes(data)
    (error,) = normcheck.scan([address]).errors
    assert "checksum" in error.message


def test_running_and_repairing_want_a_local_file(address: str, command) -> None:  # type: ignore[no-untyped-def]
    """What is read is judged all the same; the errors say what to do."""
    done = command("scan", address, "--run")
    assert done.returncode == 2
    assert "download it" in done.stderr
    assert "6 norm layers" in done.stdout
    done = command("fix", address, "--modes", "eval", "-o", "x.pt")
    assert done.returncode == 2
    assert "is not repaired" in done.stderr


def test_settings_do_not_show_secrets(command) -> None:  # type: ignore[no-untyped-def]
    """Nor does the list of settings."""
    done = command("scan", f"https://me:{SECRET}@host/m.pt", "--show-settings")
    assert done.returncode == 0
    assert SECRET not in done.stdout


def test_local_scans_import_nothing_of_it(python, samples: Path) -> None:  # type: ignore[no-untyped-def]
    """fsspec, aiohttp and threads are for addresses."""
    done = python(
        "import sys, normcheck; normcheck.scan(sys.argv[1:]); "
        "print({'fsspec', 'aiohttp', 'asyncio', 'concurrent.futures'} & set(sys.modules))",
        samples / "digits-healthy.pt",
    )
    assert done.stdout.strip() == "set()"
