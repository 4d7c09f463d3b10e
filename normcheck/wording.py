"""Small words that findings and reports share: plurals, and lists of layers made short."""

import math
import re
from collections.abc import Iterable, Sequence

MOST_NAMES = 4
"""Names that are listed one by one before they are folded."""
_NUMBER = re.compile(r"\d+")
_FILLERS = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and signs without a shape: unlike spaces of other widths, Unicode has them printable."""
ANYWHERE = (
    r"##(?=\w*\[)"  # ##[error] of GitHub and Azure Pipelines, ##vso[ of the second, ##teamcity[
    r"|section_(?:start|end):|travis_(?:fold|time):"  # of GitLab and of Travis CI
)
"""What makes a CI service take a part of a log for a command; it ends in the sign to break."""
HINTS = ("##", "section_", "travis_")
"""One of them is in whatever ``ANYWHERE`` finds; to look for these is quicker."""
_COMMAND = re.compile(
    # At the beginning of a line: ::error:: of GitHub, and a heading of Buildkite's.
    rf"{ANYWHERE}|::|(?:-{{3}}|\+{{3}}|~{{3}}|\^{{3}})(?= |$)"
)


def visible(text: str) -> bool:
    """Whether every character of a text has a shape, or is a space."""
    # To look for one sign after the other takes a tenth of what a pattern of them does.
    return text.isprintable() and (text.isascii() or not any(sign in text for sign in _FILLERS))


def printable(text: str) -> str:
    r"""``text`` from a file without what could move the cursor, hide or command anything.

    What has no shape becomes an escape: control characters, those that turn the direction of
    writing, ends of lines. So do the signs that make a CI service take a line of a log for a
    command, at the beginning of a line or not: wrapping could bring them there.

    >>> printable("bn\n::error::x")
    'bn\\n:\\x3aerror:\\x3ax'
    >>> printable("##vso[task.complete]")
    '#\\x23vso[task.complete]'
    """
    if not visible(text):
        text = "".join(c if visible(c) else c.encode("unicode_escape").decode() for c in text)
    return _COMMAND.sub(_broken, text)


def _broken(found: re.Match[str]) -> str:
    sign = found.group()
    return f"{sign[:-1]}\\x{ord(sign[-1]):02x}"


def plural(count: int, noun: str) -> str:
    """``1 layer``, ``2 layers``, ``1,200 batches``."""
    many = f"{noun}es" if noun.endswith(("ch", "s", "x")) else f"{noun}s"
    if noun.endswith("ry"):
        many = f"{noun[:-1]}ies"
    return f"{count:,} {noun if count == 1 else many}"


def part(count: int, total: int, noun: str, one: str, many: str) -> str:
    """A share of things and the verb that agrees with it.

    >>> part(1, 9, "layer", "differs", "differ")
    '1 of 9 layers differs'
    >>> part(3, 9, "layer", "differs", "differ")
    '3 of 9 layers differ'
    """
    return f"{count:,} of {plural(total, noun)} {one if count == 1 else many}"


def fold(paths: Sequence[str], most: int = MOST_NAMES) -> str:
    """Layer paths in a line: all of them, or ranges where they differ in a number.

    >>> fold(["a.0.bn", "a.1.bn", "a.2.bn", "a.3.bn", "a.4.bn"])
    'a.[0-4].bn'
    >>> fold(["stem", "a.b", "c.d", "e.f", "g"])
    'stem, a.b, c.d … g (5)'
    """
    names = [_named(path) for path in paths]
    if len(names) <= most:
        return ", ".join(names)
    runs = _runs(names)
    if len(runs) <= most:
        return ", ".join(runs)
    return f"{', '.join(runs[: most - 1])} … {runs[-1]} ({len(names)})"


def _named(path: str) -> str:
    if not path:
        return "the model itself"
    # In an nn.Sequential a layer's whole path is a number.
    return f"layer {path}" if path.isdecimal() else path


def _runs(names: Sequence[str]) -> list[str]:
    """Neighbours that differ in one number which counts up, as ``a.[0-4].bn``."""
    runs: list[str] = []
    start = 0
    while start < len(names):
        end, place = start, -1
        while end + 1 < len(names):
            step = _counts_up(names[end], names[end + 1])
            if step < 0 or (place >= 0 and step != place):
                break
            place, end = step, end + 1
        runs.append(_run(names[start], names[end], place) if end > start else names[start])
        start = end + 1
    return runs


def _counts_up(first: str, second: str) -> int:
    """Which number of the name is one more in ``second``, all else equal; -1 for none."""
    a, b = _NUMBER.findall(first), _NUMBER.findall(second)
    if len(a) != len(b) or _NUMBER.sub("#", first) != _NUMBER.sub("#", second):
        return -1
    changed = [i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]
    if len(changed) != 1 or max(len(a[changed[0]]), len(b[changed[0]])) > 9:
        return -1
    return changed[0] if int(b[changed[0]]) == int(a[changed[0]]) + 1 else -1


def _run(first: str, last: str, place: int) -> str:
    a, b = list(_NUMBER.finditer(first))[place], _NUMBER.findall(last)[place]
    return f"{first[: a.start()]}[{a.group()}-{b}]{first[a.end() :]}"


def number(value: float) -> str:
    """A measured number in a sentence: three significant digits, no needless exponent."""
    if not math.isfinite(value):
        return {math.inf: "infinity", -math.inf: "-infinity"}.get(value, "NaN")
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    return f"{value:.3g}"


def percent(share: float) -> str:
    """A share in percent, with as many digits as it needs: ``59 %``, ``1.8 %``, ``0.02 %``."""
    value = 100 * share
    return f"{value:.0f} %" if abs(value) >= 10 else f"{value:.2g} %"


def in_short(value: object) -> str:
    """A value from a file for a message, short whatever it is.

    ``repr`` of what a file describes may be of any length, and recurses.
    """
    if isinstance(value, str | bytes):
        return repr(value[:40])
    if value is None or isinstance(value, float) or _is_short_number(value):
        return repr(value)
    if isinstance(value, tuple | list) and len(value) <= 8 and all(map(_is_short_number, value)):
        return repr(value)
    return f"<{type(value).__name__}>"


def _is_short_number(value: object) -> bool:
    return isinstance(value, int) and value.bit_length() <= 64


def nearest(word: str, words: Iterable[str], alike: float = 0.6) -> str | None:
    """The one of ``words`` that was probably meant.

    Args:
        word: What somebody wrote.
        words: What there is.
        alike: From how much likeness on, 0 to 1, as ``difflib`` measures it.
    """
    import difflib  # only a mistake needs it

    return next(iter(difflib.get_close_matches(word, list(words), n=1, cutoff=alike)), None)


def in_box(target: str, where: str) -> tuple[str, str]:
    """A model's file, with the member of an archive that it lies in, and its place in that.

    >>> in_box("policy.zip", "!policy.pth#actor")
    ('policy.zip!policy.pth', 'actor')
    >>> in_box("model.pt", "state_dict")
    ('model.pt', 'state_dict')
    """
    if not where.startswith("!"):
        return target, where
    member, _, inner = where.partition("#")
    return target + member, inner
