"""A web server on loopback that behaves well or badly, as a test wants."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What the server serves at every path, and how.

    `breaks` counts answers that stop half-way through what is left; `statuses`
    are sent instead of answers, one each. `seen` are the requests' headers.
    """

    content: bytes
    etag: str = '"one"'
    last_modified: str = ""
    ranges: bool = True
    lengths: bool = True
    breaks: int = 0
    believes_if_range: bool = True
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    wrong_range: bool = False
    before: Callable[[], None] = lambda: None
    seen: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve `site` until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(self, site)

        def log_message(self, format: str, *args: object) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_address[1]}/model.gguf"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(handler: BaseHTTPRequestHandler, site: Site) -> None:
    handler.close_connection = True
    headers = {key.lower(): value for key, value in handler.headers.items()}
    site.seen.append(headers)
    site.before()
    if handler.path in site.redirects:
        _send_head(handler, 302, {"Location": site.redirects[handler.path], "Content-Length": "0"})
        return
    if site.statuses:
        _send_head(handler, site.statuses.pop(0), {"Content-Length": "0"})
        return
    start = _start_of(headers, site)
    if start is not None and start >= len(site.content):
        total = {"Content-Range": f"bytes */{len(site.content)}", "Content-Length": "0"}
        _send_head(handler, 416, total)
        return
    body = site.content[start or 0 :]
    fields = {"Connection": "close", **site.headers}
    if site.etag:
        fields["ETag"] = site.etag
    if site.last_modified:
        fields["Last-Modified"] = site.last_modified
    if start is not None:
        said = start + 1 if site.wrong_range else start
        end = len(site.content) - 1
        fields["Content-Range"] = f"bytes {said}-{end}/{len(site.content)}"
    if site.lengths:
        fields["Content-Length"] = str(len(body))
    if site.breaks:
        site.breaks -= 1
        body = body[: len(body) // 2]
    _send_head(handler, 200 if start is None else 206, fields)
    handler.wfile.write(body)


def _start_of(headers: dict[str, str], site: Site) -> int | None:
    """First byte of the range to send; None to send everything."""
    wanted = headers.get("range")
    if wanted is None or not site.ranges:
        return None
    condition = headers.get("if-range")
    known = (site.etag, site.last_modified)
    if site.believes_if_range and condition is not None and condition not in known:
        return None
    return int(wanted.removeprefix("bytes=").removesuffix("-"))


def _send_head(handler: BaseHTTPRequestHandler, status: int, fields: dict[str, str]) -> None:
    handler.send_response(status)
    for key, value in fields.items():
        handler.send_header(key, value)
    handler.end_headers()
