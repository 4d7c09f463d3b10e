"""The tests of integrations with every library that they are about: ``make test-trainers``.

Elsewhere a test is skipped where its library is missing; here that is a failure.
"""

import sys
from importlib.util import find_spec

import pytest

LIBRARIES = ("lightning", "transformers", "accelerate", "ignite", "mlflow", "wandb")


def main() -> int:
    """Run them; return pytest's exit code."""
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
        return 1
    return int(pytest.main(["-q", "tests/integrations/test_trainers.py"]))


if __name__ == "__main__":
    sys.exit(main())
