"""A hook of mkdocs: pages of the repository's root become pages of the site, with their links.

They stay where readers of a repository look for them, and are written once.
"""

import re
import runpy
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""Files of the root, and what they are on the site."""
_LINK = re.compile(r"\]\((?!#|[a-z][a-z+.-]*:)(?P<path>[^)\s#]+)(?P<part>#[^)\s]*)?\)")


def on_files(files: Any, *, config: Any) -> Any:
    """Add the pages."""
    for name, page in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_LINK.sub(_led, text)))
    return files


def _led(link: re.Match[str]) -> str:
    """A link of the root as it is on the site; what the site has not is in the repository."""
    path = link["path"]
    if path in PAGES:
        target = PAGES[path]
    elif path.startswith("docs/"):
        target = path.removeprefix("docs/")  # mkdocs says where it leads nowhere
    else:
        target = runpy.run_path(str(ROOT / "normcheck" / "version.py"))["address_of"](path)
    return f"]({target}{link['part'] or ''})"
