"""Norms written out in operators: what is one, and what only begins like one."""

from collections.abc import Mapping

import pytest

from normcheck.norms.recognise.composed import composed_norms
from normcheck.saved.graph import Graph, Node, Op, Setting

STORED = ("w", "b")
NUMBERS = {"eps": 1e-6, "one": 1.0, "half": 0.5}


def op(kind: Op, output: str, *inputs: str, **settings: Setting) -> Node:
    operands = dict(zip(("input", "other"), inputs, strict=False))
    return Node(kind, kind.value, output, inputs, (output,), "block.norm", None, operands, settings)


def graph(*nodes: Node, shapes: Mapping[str, tuple[int | None, ...]] | None = None) -> Graph:
    return Graph(
        nodes,
        ("x",),
        (nodes[-1].outputs[0],),
        {name: name for name in (*STORED, *NUMBERS)},
        shapes or {},
        NUMBERS,
    )


def rms(
    *, dim: Setting = (-1,), exponent: Setting = 2, of: str = "x", eps: str = "eps"
) -> list[Node]:
    """As language models write it, up to the quotient ``n``."""
    return [
        op(Op.POWER, "p", "x", exponent=exponent),
        op(Op.MEAN, "m", "p", dim=dim, keepdim=True),
        op(Op.ADD, "a", "m", eps),
        op(Op.INVERSE_SQUARE_ROOT, "r", "a"),
        op(Op.MULTIPLY, "n", of, "r"),
    ]


def layer(*, minus: str = "mean", divides: str = "d") -> list[Node]:
    """As the formula has it, up to the quotient ``n``."""
    return [
        op(Op.MEAN, "mean", "x", dim=(-1,), keepdim=True),
        op(Op.SUBTRACT, "d", "x", minus),
        op(Op.MULTIPLY, "p", "d", "d"),
        op(Op.MEAN, "m", "p", dim=(-1,), keepdim=True),
        op(Op.ADD, "a", "eps", "m"),
        op(Op.SQUARE_ROOT, "r", "a"),
        op(Op.DIVIDE, "n", divides, "r"),
    ]


def test_rms_norm_with_weight() -> None:
    """γ may stand on either side; eps, dimension and module are those of the operators."""
    (found,) = composed_norms(graph(*rms(), op(Op.MULTIPLY, "y", "w", "n")))
    assert (found.op, found.module, found.outputs) == (Op.RMS_NORM, "block.norm", ("y",))
    assert found.operands == {"input": "x", "weight": "w"}
    assert found.settings == {"eps": 1e-6, "dim": (-1,)}


def test_rms_norm_that_adds_one() -> None:
    """Said, for the stored weight is then centred on 0."""
    nodes = [*rms(), op(Op.ADD, "w1", "w", "one"), op(Op.MULTIPLY, "y", "n", "w1")]
    (found,) = composed_norms(graph(*nodes))
    assert found.operands["weight"] == "w"
    assert found.settings["unit_offset"] is True


def test_layer_norm_with_weight_and_bias() -> None:
    """Each with the value that it is joined with."""
    nodes = [*layer(), op(Op.MULTIPLY, "g", "n", "w"), op(Op.ADD, "y", "b", "g")]
    (found,) = composed_norms(graph(*nodes))
    assert found.op is Op.LAYER_NORM
    assert found.operands == {"input": "x", "weight": "w", "bias": "b"}


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("first", ["value", "root"])
def test_gain_that_is_multiplied_before_the_quotient(
    first: str, offset: bool, swapped: bool
) -> None:
    """``(γ · x) · rsqrt(…)`` and ``x · (γ · rsqrt(…))``, with the operands in either order."""
    gain = "w1" if offset else "w"
    nodes = [*rms()[:-1], op(Op.ADD, "w1", "w", "one")]
    with_gain, other = ("x", "r") if first == "value" else ("r", "x")
    for output, pair in (("g", (gain, with_gain)), ("y", ("g", other))):
        nodes.append(op(Op.MULTIPLY, output, *(pair[::-1] if swapped else pair)))
    (found,) = composed_norms(graph(*nodes))
    assert (found.op, found.outputs) == (Op.RMS_NORM, ("y",))
    assert found.operands == {"input": "x", "weight": "w"}
    assert found.settings.get("unit_offset", False) is offset


def test_layer_norm_with_its_gain_before_the_quotient() -> None:
    """``γ · (x - mean) / √… + β``, as it is read from left to right."""
    nodes = [*layer()[:-1], op(Op.MULTIPLY, "g", "w", "d"), op(Op.DIVIDE, "n", "g", "r"),
             op(Op.ADD, "y", "n", "b")]  # fmt: skip
    (found,) = composed_norms(graph(*nodes))
    assert (found.op, found.outputs) == (Op.LAYER_NORM, ("y",))
    assert found.operands == {"input": "x", "weight": "w", "bias": "b"}


@pytest.mark.parametrize("other", ["z", "w"])
def test_what_divides_another_value_is_no_norm(other: str) -> None:
    """A root of the mean square of ``x`` beside ``γ · z``, or without any ``x``."""
    nodes = [*rms()[:-1], op(Op.SAME, "z", "b"), op(Op.MULTIPLY, "g", "w", other)]
    nodes.append(op(Op.MULTIPLY, "y", "g", "r"))
    assert not composed_norms(graph(*nodes))


def test_casts_between() -> None:
    """Copies and casts change nothing of it."""
    nodes = [
        op(Op.SAME, "x2", "x"),
        *rms()[1:],
        op(Op.SAME, "n2", "n"),
        op(Op.MULTIPLY, "y", "n2", "w"),
    ]
    nodes.insert(1, op(Op.POWER, "p", "x2", exponent=2))
    (found,) = composed_norms(graph(*nodes))
    assert found.operands == {"input": "x", "weight": "w"}


@pytest.mark.parametrize(
    "root",
    [
        [op(Op.SQUARE_ROOT, "s", "a"), op(Op.RECIPROCAL, "r", "s")],
        [op(Op.SQUARE_ROOT, "s", "a"), op(Op.DIVIDE, "r", "one", "s")],
        [op(Op.POWER, "r", "a", exponent=-0.5)],
    ],
)
def test_roots_in_several_ways(root: list[Node]) -> None:
    """One over a root, a root and its inverse, a power."""
    nodes = rms()
    nodes[3:4] = root
    assert [n.op for n in composed_norms(graph(*nodes))] == [Op.RMS_NORM]


def test_eps_behind_the_root() -> None:
    """Added to the deviation, as some write it."""
    nodes = layer()
    nodes[4:] = [
        op(Op.SQUARE_ROOT, "r", "m"),
        op(Op.ADD, "a", "r", "eps"),
        op(Op.DIVIDE, "n", "d", "a"),
    ]
    (found,) = composed_norms(graph(*nodes))
    assert (found.op, found.settings["eps"]) == (Op.LAYER_NORM, 1e-6)


def test_without_affine_nothing_of_what_follows_is_taken() -> None:
    """A residual sum, a gate, a number, a value that two take: none is γ or β."""
    for last in (
        [op(Op.ADD, "y", "n", "x")],
        [op(Op.MULTIPLY, "y", "n", "half")],
        [op(Op.MULTIPLY, "g", "n", "w"), op(Op.ADD, "y", "g", "n")],
    ):
        (found,) = composed_norms(graph(*rms(), *last))
        assert found.operands == {"input": "x"}
        assert found.outputs == ("n",)


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param(rms(dim=(0,)), id="over the batch"),
        pytest.param(rms(dim=(2, 3)), id="over space"),
        pytest.param(rms(dim=(0, 2, 3)), id="as batch norm"),
        pytest.param(rms(dim=None), id="over everything"),
        pytest.param(rms(exponent=3), id="another power"),
        pytest.param(rms(of="z"), id="another value is divided"),
        pytest.param(rms(eps="z"), id="no eps"),
        pytest.param(layer(divides="x"), id="variance, but the mean stays"),
        pytest.param(rms()[:4], id="no quotient"),
    ],
)
def test_what_is_not_complete_is_not_claimed(nodes: list[Node]) -> None:
    """Batch statistics by hand, instance norm by hand, distances, attention scales."""
    made = [op(Op.OTHER, "z", "x"), *nodes]
    shapes = dict.fromkeys(("x", "p", "d"), (2, 3, 8, 8))
    assert composed_norms(graph(*made, shapes=shapes)) == ()


def test_what_is_left_of_another_difference() -> None:
    """Where it is not the mean that was taken off, the rest is divided by its own root."""
    (found,) = composed_norms(graph(op(Op.OTHER, "z", "x"), *layer(minus="z")))
    assert (found.op, found.operands) == (Op.RMS_NORM, {"input": "d"})


def test_channels_of_an_image() -> None:
    """Over channels, as ConvNeXt has it; counted from the end where lengths are known."""
    shapes = dict.fromkeys(("x", "p"), (None, 3, 8, 8))
    (found,) = composed_norms(graph(*rms(dim=(1,)), shapes=shapes))
    assert found.settings["dim"] == (-3,)
    (found,) = composed_norms(graph(*rms(dim=(1,))))
    assert found.settings["dim"] == (1,)
