"""The stream of pickles that torch wrote before 1.6, and whatever older files hold."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from normcheck.errors import UnreadableError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.saved.checkpoint import Form
from tests.formats import by_hand as hand

FOUR = np.array([1, 2, 3, 4], "<f4").tobytes()
SIX = np.arange(6, dtype="<f4").tobytes()


def one(value: bytes) -> bytes:
    """A state dict of one tensor."""
    return hand.mapping({"a.weight": value})


def test_state_dict(read) -> None:
    """Names, values and versions of a state dict, as from a zip."""
    state = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).state_dict()
    checkpoint = read(state, legacy=True)
    (found,) = checkpoint.models
    assert "legacy" in checkpoint.format
    assert list(found.tensors) == list(state)
    for name, tensor in state.items():
        np.testing.assert_array_equal(found.tensors[name].values(), tensor.numpy())
    assert found.versions["1"] == 2


def test_nested(read) -> None:
    """Models within a training checkpoint are found, the optimizer's step too."""
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    thing = {"epoch": 3, "net": {"model": model.state_dict()}, "optim": optimizer.state_dict()}
    checkpoint = read(thing, legacy=True)
    assert [model.where for model in checkpoint.models] == ["net.model"]
    assert checkpoint.optimizer_steps == 1


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source")
def test_whole_module_with_its_source(vanished, save, read_one) -> None:
    """Classes come with their source text in the persistent id, which is never run."""
    path = save(vanished("Net")(), legacy=True)
    assert b"A block of a class that nobody can import" in path.read_bytes()
    vanished.gone()
    model = read_one(path)
    assert model.form is Form.MODULE
    assert model.modules is not None
    classes = {record.path: record.class_path for record in model.modules}
    assert classes[""] == "vanished_code.Net"
    assert classes["body.0"] == classes["stem"] == "vanished_code.Block"
    assert classes["body.1"] == "torch.nn.modules.normalization.GroupNorm"


def test_views_of_one_storage(read_one) -> None:
    """Tensors over one storage share it, and each has its own values."""
    base = torch.arange(10.0)
    thing = {"a.weight": base, "b.weight": base[2:5], "c.weight": base[::3]}
    tensors = read_one(thing, legacy=True).tensors
    assert tensors["b.weight"].storage is tensors["a.weight"].storage
    assert tensors["b.weight"].values().tolist() == [2, 3, 4]
    assert tensors["c.weight"].values().tolist() == [0, 3, 6, 9]


def test_many_storages(read_one) -> None:
    """Each of many storages of different types and lengths is found in its place."""
    kinds = (torch.float32, torch.float64, torch.int8, torch.float16, torch.bool, torch.uint8)
    thing = {
        f"{i}.weight": torch.arange(i % 7).to(kinds[i % len(kinds)]) for i in range(60)
    }  # fmt: skip
    tensors = read_one(thing, legacy=True).tensors
    for name, tensor in thing.items():
        np.testing.assert_array_equal(tensors[name].values(), tensor.numpy())


def test_parameters(read_one) -> None:
    """Parameters keep their flag and ``requires_grad``."""
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    (record,) = read_one(layer, legacy=True).modules
    assert {name: (p.parameter, p.requires_grad) for name, p in record.parameters.items()} == {
        "weight": (True, True), "bias": (True, False),
    }  # fmt: skip


@pytest.mark.parametrize("location", ["cpu", "cuda:0", "cuda:13", "privateuse"])
def test_devices_do_not_matter(location, read_one, tmp_path: Path) -> None:
    """Storages that lived on an accelerator lie in the file like any other."""
    body = one(hand.tensor(hand.storage("7", location=location), (4,), (1,)))
    path = hand.legacy_file(tmp_path / "model.pth", body, {"7": (4, FOUR)})
    assert read_one(path).tensors["a.weight"].values().tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("view", [hand.NONE, hand.several(hand.text("8"), hand.number(1),
                                                          hand.number(3))])  # fmt: skip
def test_rebuild_function_of_torch_0_1(view: bytes, read_one, tmp_path: Path) -> None:
    """``_rebuild_tensor`` without flags and hooks, on a storage and on a view of one."""
    stored = hand.storage("7", 6, "FloatStorage", "cpu", view)
    rebuilt = hand.call(
        hand.name("torch._utils", "_rebuild_tensor"), stored, hand.number(0),
        hand.several(hand.number(3)), hand.several(hand.number(1)),
    )  # fmt: skip
    path = hand.legacy_file(tmp_path / "model.pth", one(rebuilt), {"7": (6, SIX)})
    theirs = torch.load(path, weights_only=False)["a.weight"].tolist()
    first = 0 if view == hand.NONE else 1
    assert theirs == [first, first + 1, first + 2]
    assert read_one(path).tensors["a.weight"].values().tolist() == theirs


def test_views_share_their_root(read_one, tmp_path: Path) -> None:
    """Two views of one storage, one of them used twice, all read from the same bytes."""

    def view(key: str, start: int, size: int) -> bytes:
        place = hand.several(hand.text(key), hand.number(start), hand.number(size))
        return hand.storage("7", 6, "FloatStorage", "cpu", place)

    tensors = (
        hand.tensor(view("8", 1, 2), (2,), (1,)),
        hand.tensor(view("9", 4, 2), (2,), (1,)),
        hand.tensor(view("8", 1, 2), (1,), (1,), offset=1),
    )
    body = hand.mapping({f"{i}.weight": tensor for i, tensor in enumerate(tensors)})
    path = hand.legacy_file(tmp_path / "m.pth", body, {"7": (6, SIX)})
    found = read_one(path).tensors
    assert [tensor.values().tolist() for tensor in found.values()] == [[1, 2], [4, 5], [2]]
    theirs = torch.load(path, weights_only=False)
    assert [tensor.tolist() for tensor in theirs.values()] == [[1, 2], [4, 5], [2]]
    assert found["0.weight"].storage is found["2.weight"].storage


def test_parameter_as_a_class(read_one, tmp_path: Path) -> None:
    """The reduce form of old parameters: the class itself, called with its tensor."""
    value = hand.call(
        hand.name("torch.nn.parameter", "Parameter"),
        hand.tensor(hand.storage("7"), (2, 2), (2, 1)), hand.FALSE,
    )  # fmt: skip
    path = hand.legacy_file(tmp_path / "model.pth", one(value), {"7": (4, FOUR)})
    found = read_one(path).tensors["a.weight"]
    assert (found.parameter, found.requires_grad) == (True, False)
    assert found.values().tolist() == [[1, 2], [3, 4]]


def test_strings_of_python_2(read_one, tmp_path: Path) -> None:
    """Names and persistent ids as byte strings, as Python 2 wrote them."""
    stored = (
        hand.several(
            hand.old_text(b"storage"), hand.name("torch", "FloatStorage"), hand.old_text(b"7"),
            hand.old_text(b"cuda:0"), hand.number(4), hand.NONE,
        ) + b"Q"
    )  # fmt: skip
    body = b"}(" + hand.old_text(b"a.weight") + hand.tensor(stored, (4,), (1,)) + b"u"
    path = hand.legacy_file(tmp_path / "model.pth", body, {"7": (4, FOUR)})
    assert read_one(path).tensors["a.weight"].values().tolist() == [1, 2, 3, 4]


def test_bytes_in_persistent_ids(read_one, tmp_path: Path) -> None:
    """The kind of a persistent id may be bytes."""
    stored = hand.storage("7").replace(hand.text("storage"), b"C\x07storage")
    body = one(hand.tensor(stored, (4,), (1,)))
    path = hand.legacy_file(tmp_path / "model.pth", body, {"7": (4, FOUR)})
    assert read_one(path).tensors["a.weight"].values().tolist() == [1, 2, 3, 4]


def test_always_little_endian(read_one, tmp_path: Path) -> None:
    """The system information does not change the byte order, as torch never reads it."""
    body = one(hand.tensor(hand.storage("7"), (4,), (1,)))
    path = hand.legacy_file(tmp_path / "model.pth", body, {"7": (4, FOUR)})
    raw = path.read_bytes()
    flag = hand.text("little_endian")
    path.write_bytes(raw.replace(flag + hand.TRUE, flag + hand.FALSE))
    assert path.read_bytes() != raw
    assert read_one(path).tensors["a.weight"].values().tolist() == [1, 2, 3, 4]


def test_storage_seen_under_two_types(read_one, tmp_path: Path) -> None:
    """One storage, typed to one tensor and untyped to another, serves both."""
    rebuilt = hand.call(
        hand.name("torch._utils", "_rebuild_tensor_v3"), hand.storage("7", 16, "UntypedStorage"),
        hand.number(2), hand.several(hand.number(2)), hand.several(hand.number(1)), hand.FALSE,
        hand.NONE, hand.name("torch", "float32"),
    )  # fmt: skip
    typed = hand.tensor(hand.storage("7"), (4,), (1,))
    body = hand.mapping({"a.weight": typed, "b.weight": rebuilt})
    path = hand.legacy_file(tmp_path / "model.pth", body, {"7": (4, FOUR)})
    tensors = read_one(path).tensors
    assert tensors["a.weight"].values().tolist() == [1, 2, 3, 4]
    assert tensors["b.weight"].values().tolist() == [3, 4]


def bad_view(*place: bytes) -> bytes:
    stored = hand.storage("7", 4, "FloatStorage", "cpu", hand.several(*place))
    return one(hand.tensor(stored, (1,), (1,)))


GOOD = one(hand.tensor(hand.storage("7"), (4,), (1,)))


@pytest.mark.parametrize(
    ("body", "storages", "words"),
    [
        (GOOD, {}, "not in the file"),
        (GOOD, {"7": (4, FOUR), "8": (4, FOUR)}, "belongs to nothing"),
        (GOOD, {"7": (3, FOUR)}, "the pickle says 16"),
        (GOOD, {"7": (-4, FOUR)}, "the pickle says 16"),
        (GOOD, {"7": (4, FOUR[:-1])}, "ends within storage"),
        (one(hand.tensor(hand.storage("7", -1), (1,), (1,))), {}, "no valid length"),
        (bad_view(hand.text("8"), hand.number(2), hand.number(3)), {"7": (4, FOUR)}, "outside"),
        (bad_view(hand.text("8"), hand.number(-1), hand.number(3)), {"7": (4, FOUR)}, "outside"),
        (bad_view(hand.text("8")), {"7": (4, FOUR)}, "unknown form"),
        (one(hand.several(hand.text("what"), hand.NONE) + b"Q"), {}, "persistent id"),
        (one(hand.text("storage") + b"Q"), {}, "persistent id"),
    ],
)
def test_damaged(body, storages, words, tmp_path: Path) -> None:
    """What does not fit together is an error that names the file and says what to do."""
    path = hand.legacy_file(tmp_path / "model.pth", body, storages)
    with pytest.raises(UnreadableError, match=words) as caught:
        read_checkpoint(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_unknown_protocol_version(tmp_path: Path) -> None:
    """A stream of another version of the protocol is refused, however that is written."""
    for version in (1002, 10**600, (((1,),),), [1] * 1000):
        path = tmp_path / "model.pth"
        path.write_bytes(pickle.dumps(hand.MAGIC) + pickle.dumps(version))
        with pytest.raises(UnreadableError, match="unknown version") as caught:
            read_checkpoint(path)
        assert len(caught.value.message) < 200 + len(str(path))


def test_list_of_storages_missing(tmp_path: Path) -> None:
    """A stream without its list of storages is damaged."""
    parts = [hand.number(hand.MAGIC), hand.number(1001), hand.NONE, GOOD, hand.TRUE]
    path = tmp_path / "model.pth"
    path.write_bytes(b"".join(map(hand.pickled, parts)))
    with pytest.raises(UnreadableError, match="list of storages"):
        read_checkpoint(path)
