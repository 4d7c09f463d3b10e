"""TorchScript archives that ask for too much, or are not what they seem."""

from tests.formats import by_hand as hand
from tests.formats.exports.hostile import (
    CALL,
    FLOATS,
    FORWARD,
    HEAD,
    forward,
    functions,
    script,
    tensors,
    thing,
)


def scripts() -> dict[str, bytes]:
    """Whole archives by name."""
    twice = ["a = (x, x)", *["a = (a, a)"] * 70]
    branch = ["if torch.gt(x, 0):", *[f"  {line}" for line in twice], "else:",
              *[f"  {line}" for line in twice]]  # fmt: skip
    long = "n" * (1 << 20)
    cycle = {
        "m": hand.name("__torch__", "M") + b")\x81q\x07" + hand.mapping({"m": b"h\x07"}) + b"b"
    }
    huge = "0x" + "f" * 20_000
    codes = {
        "calls of twice two calls": functions(60, "torch.add({0}(x), {0}(x))"),
        "calls 500 deep": functions(500, "{0}(x)"),
        "a call of itself": HEAD + "  def forward(self, x):\n    return (self).forward(x)\n",
        "two that call each other": forward("x = __torch__.f(x)")
        + "def f(x):\n  return __torch__.g(x)\ndef g(x):\n  return __torch__.f(x)\n",
        "tuples of twice two": forward(*twice, "x = torch.cat(a)"),
        "tuples of twice two compared": forward(*branch, "x = torch.cat(a)"),
        "tuples 100,000 deep": forward("a = (x,)", *["a = (a,)"] * 100_000, "x = torch.cat(a)"),
        "attributes 100,000 deep": forward("x = x" + ".a" * 100_000),
        "calls of calls": forward("x = x" + "()" * 50_000),
        "a name that grows": forward("t = torch.a", *["t = t." + "b" * 1000] * 20_000),
        "signs 90,000 deep": forward("x = " + "-" * 90_000 + "1"),
        "signs 900 deep": HEAD + f"  eps : Final[int] = {'-' * 900}1\n" + FORWARD,
        "lists 150 deep": HEAD + f"  eps : Final[int] = {'[' * 150}1{']' * 150}\n" + FORWARD,
        "parentheses 5,000 deep": forward("x = " + "(" * 5_000 + "x" + ")" * 5_000),
        "choices 3,000 deep": forward("x = " + "x if a else " * 3_000 + "x"),
        "sums 60,000 long": forward("x = " + "x + " * 60_000 + "x"),
        "blocks 90 deep": forward(
            *[" " * n + "if torch.gt(x, 0):" for n in range(90)], " " * 90 + "x = torch.relu(x)"
        ),
        "megabytes of lines": forward(*["x"] * 250_000),
        "a million numbers": forward("x = [" + "0," * 300_000 + "]"),
        "a name of a megabyte": forward(f"{long} = torch.relu(x)", f"x = torch.{long}(x)"),
        "a class of a megabyte": HEAD + FORWARD + f"class {long}(Module):\n  pass\n",
        "many names at many branches": forward(
            *[f"v{n} = torch.relu(x)" for n in range(3_000)],
            *["if torch.gt(x, 0):", "  x = x", "else:", "  pass"] * 5_000,
        ),
        "no code": "", "no class": "x = 1\n", "a class of nothing": "class M(Module):\n  pass\n",
        "no Python": "class M(Module:\n  def forward(\n", "zeros": b"\0" * 100,
        "bytes": bytes(range(256)), "sixteen bits": (HEAD + FORWARD).encode("utf-16"),
        "another encoding": ("# -*- coding: rot13 -*-\n" + HEAD + FORWARD),
        "an encoding that is evil": ("# coding: evil_at_import\n" + HEAD + FORWARD),
        "half a character": (HEAD + FORWARD).encode() + b"\xe2\x82",
        "escapes": HEAD + FORWARD + "def f(x):\n  return '\\d\\q' is 'x'\n",
        "statements": forward(
            "x: int", "x += 1", "del x", "global y", "a, *b = x", "a = b = x", "a[0] = x",
            "x = {'a': x, **x}", "x = f'{x}'", "x = (lambda: x)()", "x = [y for y in x]",
            "x = (y := x)", "assert x", "raise x", "import os", "from os import system",
            "try:", "  x = 1", "finally:", "  pass", "with x as y, x:", "  x = y",
            "async def f(x):", "  await x", "class C:", "  pass", "while x:", "  break",
            "match x:", "  case 1:", "    pass", "yield x", "x = x[1:2, ...]", "x = x @ x",
            "x = not x", "x = x < x < x", "x = *x, x", "x = __torch__.M", "x = self.forward",
        ),
        "imports": "import evil_at_import\nfrom evil_module import run\nrun()\n" + HEAD + FORWARD,
        "runs": forward("x = __import__('os').system('touch marker')", "x = eval('1')",
                        "x = torch.ops.load_library('evil.so')"),
        "parameters of every kind": HEAD
        + f"  def forward(self, a=1, /, x=2, *b, c=3, **d):\n    return {CALL}\n",
        "a default of a call": HEAD
        + f"  def forward(self, x=__torch__.f()):\n    return {CALL}\ndef f(y=__torch__.f()):\n"
        "  return y\n",
        "no argument": forward("x = torch.batch_norm()", "x = torch.conv2d()", "x = torch.add()",
                               "x = torch.cat()", "x = torch.layer_norm(x)",
                               "x = torch.dropout(x)", "x = torch.bernoulli_()",
                               last="return torch.batch_norm(x)"),
        "arguments of wrong types": forward(
            "x = torch.batch_norm(x, 1, 'a', None, [x], x, 'b', [1, 2], {})",
            f"x = torch.dropout(x, {huge}, True)", f"x = torch.layer_norm(x, [{huge}] , x, x, 'a')",
            f"x = torch.group_norm(x, {huge})", "x = torch.layer_norm(x, [99999999999999] * 9)",
            "x = torch.layer_norm(x, [" + "9999999999," * 500 + "])",
            "x = torch.dropout(x, 1e999, True)", "x = torch.dropout(x, -1e999, True)",
            "x = torch.rms_norm(x, [0, -5], x, 1j)", "x = torch.cat(x, ...)",
        ),
        "numbers of any length": HEAD
        + f"  eps : Final[int] = {huge}\n  momentum : Final[float] = 1e999\n"
        "  affine : Final[bool] = ...\n" + FORWARD,
        "a hundred arguments": forward("x = torch.batch_norm(" + "x," * 100 + ")"),
        "constants that are not there": forward(
            "a = CONSTANTS.c99", f"b = CONSTANTS.c{'9' * 300}", "c = CONSTANTS.c٣",
            "d = CONSTANTS.c", "x = torch.add(x, a)", "x = torch.add(x, b)",
        ),
        "numbers that are computed": forward(
            "n = torch.add(9223372036854775807, 9223372036854775807)",
            *["n = torch.add(n, n)"] * 99,
            "x = torch.dropout(x, n, True)",
        ),
        "adds of twice two": forward(
            f"x = {CALL}", *["x = torch.add(x, x)"] * 60,
            "x = torch.linear(x, self.square, self.bias)",
        ),
    }  # fmt: skip
    square = {"square": hand.tensor(hand.storage("1", 64), (8, 8), (8, 1))}
    whole = {name: script(code) for name, code in codes.items()}
    whole["adds of twice two"] = script(
        codes["adds of twice two"], state=square, files={"data/1": FLOATS * 8}
    )
    whole |= {
        "a path that grows": script(
            forward("m = self.m", *["m = m.m"] * 100_000, "x = m.weight"), state=cycle
        ),
        "a module in itself": script(forward("x = (self.m).forward(x)"), state=cycle),
        "a class that is not there": script(data=thing(tensors(), "Other")),
        "constants that are none": script(constants=b"N"),
        "odd attributes": script(
            state={"training": hand.text("yes"), "weight": hand.number(1), "bias": hand.NONE,
                   "running_mean": b"]", "": hand.TRUE, ".": thing({}), "a.b": thing({})}
        ),
        "constants as an attribute": script(
            forward("x = torch.add(x, self.CONSTANTS.c77)"),
            state={"CONSTANTS": thing({"c77": tensors()["weight"]})},
        ),
        "names that are no text": script(
            data=hand.build(hand.name("__torch__", "M") + b")\x81", b"}(NNK\x01K\x02u")
        ),
        "state that is none": script(data=hand.name("__torch__", "M") + b")\x81"),
        "an object that is none": script(data=b"}"),
        "a million files of code": script(
            files={f"code/a{n}.py": "" for n in range(20_000)}
        ),
    }  # fmt: skip
    return {f"script, {name}": data for name, data in whole.items()}
