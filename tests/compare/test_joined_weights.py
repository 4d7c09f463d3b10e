"""Queries, keys and values in one tensor or in three: proven row by row, in whatever order."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from normcheck import diff
from normcheck.compare.exports.export_match import WeightFate, WeightMatch
from normcheck.report.diff_report import Diff
from normcheck.report.people.diff_text import render_diff_text
from normcheck.report.people.text_style import TextStyle

State = dict[str, Tensor]
LAYERS, WIDTH, HEADS = 3, 16, 4


def _apart(*, keys: int = WIDTH, bias: bool = True) -> State:
    """An encoder with three projections; ``keys`` rows of keys and of values."""
    torch.manual_seed(0)
    state: State = {}
    for index in range(LAYERS):
        at = f"layers.{index}"
        for name, rows in (
            ("q_proj", WIDTH),
            ("k_proj", keys),
            ("v_proj", keys),
            ("o_proj", WIDTH),
        ):
            state[f"{at}.attn.{name}.weight"] = torch.randn(rows, WIDTH)
            if bias and name != "k_proj":  # as Whisper has it
                state[f"{at}.attn.{name}.bias"] = torch.randn(rows)
        state[f"{at}.norm.weight"] = torch.rand(WIDTH) + 0.5
        state[f"{at}.norm.bias"] = torch.randn(WIDTH)
        state[f"{at}.mlp.gate_proj.weight"] = torch.randn(4 * WIDTH, WIDTH)
        state[f"{at}.mlp.up_proj.weight"] = torch.randn(4 * WIDTH, WIDTH)
    return state


def _in_turn(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts)


def _by_heads(parts: list[Tensor]) -> Tensor:
    """As GPT-NeoX and Megatron store them: query, key and value of each head in turn."""
    heads = [part.reshape(HEADS, WIDTH // HEADS, *part.shape[1:]) for part in parts]
    return torch.stack(heads, 1).reshape(3 * WIDTH, *parts[0].shape[1:])


def _rotated(parts: list[Tensor]) -> Tensor:
    """With the rows of queries and keys in the order of another rotary embedding."""
    order = torch.arange(WIDTH).reshape(HEADS, 2, -1).transpose(1, 2).reshape(-1)
    return torch.cat([parts[0][order], parts[1][order], parts[2]])


def _joined(state: State, join: Callable[[list[Tensor]], Tensor], called: str) -> State:
    """The same with one projection of each layer; ``called`` has the place of the leaf."""
    made = {n: t for n, t in state.items() if not any(f".{p}_proj." in n for p in "qkv")}
    for index in range(LAYERS):
        at = f"layers.{index}.attn"
        names = [f"{at}.{p}_proj" for p in "qkv"]
        weights = [state[f"{name}.weight"] for name in names]
        made[f"{at}.{called.format('weight')}"] = join(weights)
        if f"{names[0]}.bias" in state:
            biases = [
                state.get(f"{n}.bias", torch.zeros(len(w)))
                for n, w in zip(names, weights, strict=True)
            ]
            made[f"{at}.{called.format('bias')}"] = join(biases)
    return made


def _compared(old: State, new: State, folder: Path) -> Diff:
    torch.save(old, folder / "old.pt")
    torch.save(new, folder / "new.pt")
    result = diff([folder / "old.pt", folder / "new.pt"])
    assert not result.report.errors
    return result


def _weights(result: Diff) -> dict[str, WeightMatch]:
    match = result.comparisons[0].match
    assert match is not None
    return {weight.name: weight for weight in match.weights}


def _text(result: Diff) -> str:
    return " ".join(render_diff_text(result, TextStyle(width=100, color=False)).split())


ORDERS = {
    "one after another": _in_turn,
    "interleaved, 4 rows at a time": _by_heads,
    "with their rows in another order": _rotated,
}


@pytest.mark.parametrize("called", ["qkv.{}", "in_proj_{}", "query_key_value.{}"])
@pytest.mark.parametrize("order", ORDERS)
def test_three_in_one(order: str, called: str, tmp_path: Path) -> None:
    state = _apart()
    result = _compared(state, _joined(state, ORDERS[order], called), tmp_path)
    weights = _weights(result)
    assert {w.fate for w in weights.values()} == {WeightFate.SAME}
    for part in ("q_proj.weight", "k_proj.weight", "v_proj.weight", "q_proj.bias"):
        found = weights[f"layers.1.attn.{part}"]
        assert found.theirs == f"layers.1.attn.{called.format(part.partition('.')[2])}"
        assert found.order == f"q_proj, k_proj, v_proj {order}"
    assert not result.findings
    assert "✓" in _text(result)
    assert order in _text(result)


def test_one_in_three(tmp_path: Path) -> None:
    """The other way round, and stored the other way round: GPT-2's ``Conv1D``."""
    state = _apart()
    whole = {
        n: t.T.contiguous() if n.endswith("c_attn.weight") else t
        for n, t in _joined(state, _in_turn, "c_attn.{}").items()
    }
    result = _compared(whole, state, tmp_path)
    found = _weights(result)["layers.2.attn.c_attn.weight"]
    assert found.fate is WeightFate.SAME
    assert found.theirs == ", ".join(f"layers.2.attn.{p}_proj.weight" for p in "qkv")
    assert not result.findings


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_of_another_type_with_fewer_keys_and_a_gated_layer(
    kind: torch.dtype, tmp_path: Path
) -> None:
    state = _apart(keys=WIDTH // 2, bias=False)
    made = _joined(state, _in_turn, "qkv_proj.{}")
    for index in range(LAYERS):
        pair = [made.pop(f"layers.{index}.mlp.{n}_proj.weight") for n in ("gate", "up")]
        made[f"layers.{index}.mlp.gate_up_proj.weight"] = torch.cat(pair)
    result = _compared(state, {n: t.to(kind) for n, t in made.items()}, tmp_path)
    weights = _weights(result)
    assert {w.fate for w in weights.values()} == {WeightFate.SAME}
    assert weights["layers.0.mlp.up_proj.weight"].theirs == "layers.0.mlp.gate_up_proj.weight"
    assert not result.findings


@pytest.mark.parametrize("part", ["q", "k", "v"])
def test_one_of_three_with_other_numbers(part: str, tmp_path: Path) -> None:
    state = _apart()
    other = {**state}
    name = f"layers.1.attn.{part}_proj.weight"
    other[name] = state[name] + 0.1 * torch.randn(WIDTH, WIDTH)
    result = _compared(state, _joined(other, _in_turn, "qkv.{}"), tmp_path)
    weights = _weights(result)
    assert [n for n, w in weights.items() if w.fate is WeightFate.DIFFERENT] == [name]
    (found,) = result.findings
    assert (found.rule, found.layers) == ("NC605", (f"layers.1.attn.{part}_proj",))
    assert "✓" not in _text(result)


def test_a_bias_with_other_numbers(tmp_path: Path) -> None:
    state = _apart()
    other = {**state, "layers.1.attn.v_proj.bias": state["layers.1.attn.v_proj.bias"] + 1}
    result = _compared(state, _joined(other, _by_heads, "qkv.{}"), tmp_path)
    (found,) = result.findings
    assert found.layers == ("layers.1.attn.v_proj",)


def test_weights_of_another_training_are_not_claimed(tmp_path: Path) -> None:
    """No row is the same: no proof, no accusation and no check mark."""
    state = _apart()
    other = {n: t + 0.01 * torch.randn(t.shape) for n, t in state.items()}
    result = _compared(state, _joined(other, _in_turn, "qkv.{}"), tmp_path)
    assert result.comparisons[0].match is None
    assert "no counterpart" in _text(result)
    assert "✓" not in _text(result)


def test_attention_of_torch(tmp_path: Path) -> None:
    """``MultiheadAttention`` with its projections in one, and apart."""
    torch.manual_seed(1)
    one = nn.MultiheadAttention(WIDTH, HEADS)
    one.in_proj_bias.data.normal_()
    state = one.state_dict()
    apart = {n: t for n, t in state.items() if n != "in_proj_weight"}
    apart |= {
        f"{p}_proj_weight": t for p, t in zip("qkv", state["in_proj_weight"].chunk(3), strict=True)
    }
    result = _compared(state, apart, tmp_path)
    assert _weights(result)["in_proj_weight"].order == (
        "q_proj_weight, k_proj_weight, v_proj_weight one after another"
    )
    assert not result.findings


@pytest.mark.parametrize("turned", [False, True])
def test_one_layer_in_another_order_than_the_rest(turned: bool, tmp_path: Path) -> None:
    """Which order is right only the code knows; that they differ is no conversion's intent."""
    state = _apart()
    made = _joined(state, _in_turn, "qkv.{}")
    at = "layers.1.attn"
    made[f"{at}.qkv.weight"] = torch.cat([state[f"{at}.{p}_proj.weight"] for p in "kqv"])
    made[f"{at}.qkv.bias"] = torch.cat(
        [torch.zeros(WIDTH), state[f"{at}.q_proj.bias"], state[f"{at}.v_proj.bias"]]
    )
    result = _compared(*((made, state) if turned else (state, made)), tmp_path)
    (found,) = result.findings
    assert (found.rule, found.severity.value) == ("NC605", "warning")
    assert "k_proj, q_proj, v_proj one after another" in found.detail
    assert {layer.rpartition(".")[0] for layer in found.layers} == {at}
    assert "✓" not in _text(result)


def test_heads_of_another_size_are_no_other_order(tmp_path: Path) -> None:
    state = _apart(bias=False)
    made = _joined(state, _by_heads, "qkv.{}")
    parts = [state[f"layers.1.attn.{p}_proj.weight"].reshape(2, -1, WIDTH) for p in "qkv"]
    made["layers.1.attn.qkv.weight"] = torch.stack(parts, 1).reshape(3 * WIDTH, WIDTH)
    assert not _compared(state, made, tmp_path).findings
