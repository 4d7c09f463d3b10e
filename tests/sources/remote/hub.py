"""A model hub for the tests: the few questions of Hugging Face's that reading a file asks.

Repositories are folders, two levels down. It answers what ``huggingface_hub`` asks of the real
one, ranges and their bytes counted.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server has, and what was asked of it."""

    folder: Path
    token: str = ""
    """Wanted of every request, where there is one."""
    asked: list[str] = field(default_factory=list)
    sent: int = 0
    """Bytes of files."""
    address: str = ""


def _entry(root: Path, path: Path) -> dict[str, Any]:
    name = path.relative_to(root).as_posix()
    if path.is_dir():
        return {"type": "directory", "oid": COMMIT, "size": 0, "path": name}
    return {"type": "file", "oid": COMMIT, "size": path.stat().st_size, "path": name}


class _Handler(BaseHTTPRequestHandler):
    hub: ClassVar[Hub]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(b"")

    def do_HEAD(self) -> None:
        self.answer(b"")

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def answer(self, body: bytes) -> None:
        url = urlsplit(self.path)
        parts = unquote(url.path).strip("/").split("/")
        self.hub.asked.append(f"{self.command} {url.path} {self.headers.get('Range', '')}".strip())
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self.reply(401, b"{}", {"X-Error-Code": "GatedRepo"})
        elif parts[:2] == ["api", "models"]:
            self.about(self.hub.folder.joinpath(*parts[2:4]), parts[4:], url.query, body)
        elif parts[2:3] == ["resolve"]:
            self.file(self.hub.folder.joinpath(*parts[:2], *parts[4:]))
        else:
            self.reply(404, b"{}")

    def about(self, root: Path, what: list[str], query: str, body: bytes) -> None:
        if not root.is_dir():
            self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif what[:1] == ["paths-info"]:
            form = json.loads(body) if body[:1] == b"{" else parse_qs(body.decode())
            wanted = [root / name for name in form["paths"]]
            self.json([_entry(root, path) for path in wanted if path.exists()])
        elif what[:1] == ["tree"]:
            here = root.joinpath(*what[2:])
            deep = parse_qs(query).get("recursive", [""])[0].lower() == "true"
            found = sorted(here.rglob("*") if deep else here.iterdir())
            self.json([_entry(root, path) for path in found])
        else:
            files = [p for p in sorted(root.rglob("*")) if p.is_file()]
            names = [{"rfilename": p.relative_to(root).as_posix()} for p in files]
            identity = "/".join(root.parts[-2:])
            self.json({"id": identity, "sha": COMMIT, "private": False, "siblings": names})

    def file(self, path: Path) -> None:
        if not path.is_file():
            self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        data, status = path.read_bytes(), 200
        headers = {"ETag": '"1"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if self.headers.get("Range"):
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            start, end = int(first), min(int(last or len(data)), len(data) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
            data, status = data[start : end + 1], 206
        if self.command == "GET":
            self.hub.sent += len(data)
        self.reply(status, data, headers)

    def json(self, value: object) -> None:
        self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def reply(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Silent."""


@contextmanager
def serving_hub(folder: Path) -> Iterator[Hub]:
    """A hub of the repositories in a folder, on a free port of this machine."""
    hub = Hub(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
