"""A real web server for the tests: with ranges, without, denying, failing; it counts."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Web:
    """What the server does, and what was asked of it."""

    folder: Path
    ranges: bool = True
    deny: int = 0
    """A status that every request gets."""
    failures: int = 0
    """Requests that are still to be answered with 503."""
    broken: int = 0
    """Answers that are still to be cut off in the middle."""
    delay: float = 0.0
    version: str = '"v1"'
    asked: list[str] = field(default_factory=list)
    """The Range of each request."""
    sent: int = 0
    """Bytes of bodies."""
    together: int = 0
    most_together: int = 0
    address: str = ""


def _handler(web: Web) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with lock:
                web.asked.append(self.headers.get("Range", ""))
                web.together += 1
                web.most_together = max(web.most_together, web.together)
                fail = web.failures > 0
                web.failures -= fail
                cut = web.broken > 0
                web.broken -= cut
            try:
                time.sleep(web.delay)
                self.answer(fail, cut)
            finally:
                with lock:
                    web.together -= 1

        def answer(self, fail: bool, cut: bool) -> None:
            path = web.folder / unquote(urlsplit(self.path).path).lstrip("/")
            if fail or web.deny or not path.is_file():
                self.send_response(503 if fail else web.deny or 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            size = path.stat().st_size
            start, length, status = 0, size, 200
            wanted = self.headers.get("Range")
            if wanted and web.ranges:
                first, last = wanted.removeprefix("bytes=").split("-")
                start, status = int(first), 206
                length = min(int(last), size - 1) - start + 1
                if start >= size:
                    status, length = 416, 0
            self.send_response(status)
            if status == 206:
                self.send_header("Content-Range", f"bytes {start}-{start + length - 1}/{size}")
            if status == 416:
                self.send_header("Content-Range", f"bytes */{size}")
            if web.version:
                self.send_header("ETag", web.version)
            self.send_header("Last-Modified", "Mon, 02 Nov 2026 10:00:00 GMT")
            self.send_header("Content-Length", str(length))
            self.end_headers()
            try:
                with path.open("rb") as file:
                    file.seek(start)
                    left = length // 2 if cut else length
                    while left:
                        piece = file.read(min(left, 1 << 16))
                        self.wfile.write(piece)
                        left -= len(piece)
                        with lock:
                            web.sent += len(piece)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the reader has enough
            if cut:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Silent."""

    return Handler


@contextmanager
def serving(folder: Path) -> Iterator[Web]:
    """A server for the files of a folder, on a free port of this machine."""
    web = Web(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(web))
    server.daemon_threads = True
    web.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
