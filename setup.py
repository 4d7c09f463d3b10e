"""The README as an index shows it: its links lead to the repository at this version.

All else is in ``pyproject.toml``. In the repository the links stay relative: they then lead to the
files beside the README, in every clone and at every commit.
"""

import re
import runpy
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?!#|[a-z][a-z+.-]*:)(?P<path>[^)\s]+)\)")


def absolute(text: str) -> str:
    """Markdown whose relative links and pictures have addresses; code blocks stay as they are."""
    of = runpy.run_path(str(ROOT / "normcheck" / "version.py"))

    def addressed(link: re.Match[str]) -> str:
        kind = "raw" if link["picture"] else "blob"
        address = f"{of['REPOSITORY']}/{kind}/v{of['VERSION']}/{link['path']}"
        return f"{link['picture']}[{link['text']}]({address})"

    pieces = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
    pieces[::2] = [LINK.sub(addressed, piece) for piece in pieces[::2]]
    return "".join(pieces)


setup(
    long_description=absolute((ROOT / "README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
)
