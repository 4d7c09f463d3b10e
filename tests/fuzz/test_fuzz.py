"""A bounded share of the fuzzing, the same in every run; ``make fuzz`` has more."""

import random
from pathlib import Path

import pytest

from .mutate import mutated, resealed
from .targets import TARGETS, holds

pytestmark = pytest.mark.slow

CORPUS = Path(__file__).parent / "corpus"
RUNS = 400


@pytest.mark.parametrize("target", TARGETS)
def test_corpus(target: str) -> None:
    """Fuzzing starts from files that can be read; those that once broke a reader are kept."""
    seeds = sorted((CORPUS / target).iterdir())
    readable = [path.name for path in seeds if holds(target, path.read_bytes())]
    assert len(readable) > len(seeds) / 2


@pytest.mark.parametrize("target", TARGETS)
def test_mutations(target: str) -> None:
    """Damaged in hundreds of ways: read, or an error of ours."""
    seeds = [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]
    chance = random.Random(f"{target} share")
    readable = 0
    for _ in range(RUNS):
        data = mutated(seeds, chance)
        readable += holds(target, resealed(data) if target == "zip" else data)
    # Neither all nor none: the mutations reach behind the first check, and damage is found.
    assert 0 < readable < RUNS


def test_corpus_is_small() -> None:
    """It lies in the repository."""
    assert sum(path.stat().st_size for path in CORPUS.rglob("*")) < 200_000
