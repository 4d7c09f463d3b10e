"""JSON from a file that may be made to harm: bounded before it is parsed, and unambiguous."""

import json
from typing import Any

from normcheck.errors import RefusedError, UnreadableError
from normcheck.sources.limits import ENTRY_BYTES, Budget
from normcheck.sources.source import Source

_BRACE_BYTES, _BRACKET_BYTES, _ITEM_BYTES, _STRING_BYTES = 320, 96, 48 + ENTRY_BYTES, 80
"""Memory for an object, a list, what stands behind a comma, and a string, from above."""


def read_json(source: Source, start: int, length: int, budget: Budget, what: str) -> Any:
    """The value that ``length`` bytes from ``start`` of a file describe.

    Args:
        source: The file.
        start: In bytes.
        length: In bytes.
        budget: Of the file.
        what: How messages call it: ``the index``.

    Raises:
        UnreadableError: Not JSON, or an object has one name twice.
        RefusedError: Longer than the limits allow, of more parts, or nested too deep.
    """
    return parsed(source, read_bounded(source, start, length, budget, what), what)


def read_bounded(source: Source, start: int, length: int, budget: Budget, what: str) -> bytes:
    """The bytes of it, counted as what is made of them; arguments as of :func:`read_json`.

    Raises:
        RefusedError: Longer than the limits allow, or of more parts.
    """
    limit = budget.limits.json_bytes
    if length > limit:
        raise RefusedError(
            f"{source.name}: {what} has {length:,} bytes, the limit is {limit:,}",
            limit="json_bytes",
        )
    budget.spend(length)
    raw = source.read_at(start, length)
    budget.spend(
        # Text takes four bytes a character where one of it is outside the basic plane.
        8 * length
        + raw.count(b"{") * _BRACE_BYTES
        + raw.count(b"[") * _BRACKET_BYTES
        + raw.count(b",") * _ITEM_BYTES
        + raw.count(b'"') // 2 * _STRING_BYTES
    )
    return raw


def parsed(source: Source, raw: bytes, what: str) -> Any:
    """The value that bytes describe which were counted; arguments and errors as above."""
    try:
        # Left to itself the parser guesses the encoding, and imports the codec for its guess.
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_object)
    except RecursionError as error:
        raise RefusedError(f"{source.name}: {what} is nested too deep", limit="nesting") from error
    except ValueError as error:
        raise UnreadableError(
            f"{source.name}: {what} is not valid JSON", "the file is damaged; fetch it again"
        ) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        # Which of the two counts is up to the program that reads it.
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise UnreadableError(
            f"the name {twice[:80]} stands twice in one object",
            "the file was changed or made to harm; fetch it again",
        )
    return made


_decoder = json.JSONDecoder(object_pairs_hook=_object)


def parse_within(text: str, start: int) -> tuple[Any, int]:
    """The value at a place of a text that was counted, and where it ends.

    Raises:
        ValueError: Not JSON.
        RecursionError: Nested too deep.
        UnreadableError: An object has one name twice.
    """
    return _decoder.raw_decode(text, start)
