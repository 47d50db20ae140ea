"""A web server on loopback that behaves well or badly, as a test wants."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What the server serves at every path, and how.

    With `files` it serves those at their paths, and nothing elsewhere. `breaks`
    counts answers that stop half-way through what is left, `stalls` those that
    stop there and say nothing more for `stall_s`; `statuses` are sent instead of
    answers, one each. `short_bytes` is the most that one answer to a range holds,
    `sends_bytes` are sent whatever was asked, and `trickle_s` passes after each
    4 KiB. `seen` are the requests' headers, `paths` their paths.
    """

    content: bytes
    etag: str = '"one"'
    last_modified: str = ""
    ranges: bool = True
    lengths: bool = True
    breaks: int = 0
    stalls: int = 0
    stall_s: float = 30.0
    trickle_s: float = 0.0
    short_bytes: int = 0
    sends_bytes: int = 0
    believes_if_range: bool = True
    statuses: list[int] = field(default_factory=list)
    status_headers: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    wrong_range: bool = False
    before: Callable[[], None] = lambda: None
    files: dict[str, bytes] = field(default_factory=dict)
    seen: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    url: str = ""


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve `site` until the block ends."""
    with answering(lambda handler: _answer(handler, site)) as base:
        site.url = f"{base}/model.gguf"
        try:
            yield site
        finally:
            site.ended.set()


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """Let `answer` answer every GET and HEAD inside the block; gives `http://HOST:PORT`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            # Who has enough may leave in the middle of an answer.
            with suppress(ConnectionError):
                answer(self)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(handler: BaseHTTPRequestHandler, site: Site) -> None:
    handler.close_connection = True
    headers = {key.lower(): value for key, value in handler.headers.items()}
    site.seen.append(headers)
    site.paths.append(handler.path)
    site.before()
    if handler.path in site.redirects:
        send_head(handler, 302, {"Location": site.redirects[handler.path], "Content-Length": "0"})
        return
    if site.statuses:
        fields = {"Content-Length": "0", **site.status_headers}
        send_head(handler, site.statuses.pop(0), fields)
        return
    content = site.files.get(handler.path, b"") if site.files else site.content
    if site.files and not content:
        send_head(handler, 404, {"Content-Length": "0"})
        return
    wanted = _range_of(headers, site, len(content))
    if wanted is not None and wanted[0] >= len(content):
        total = {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"}
        send_head(handler, 416, total)
        return
    start, end = wanted or (0, len(content))
    body = content[start:end]
    fields = {"Connection": "close", **site.headers}
    if site.etag:
        fields["ETag"] = site.etag
    if site.last_modified:
        fields["Last-Modified"] = site.last_modified
    if wanted is not None:
        said = start + 1 if site.wrong_range else start
        fields.setdefault("Content-Range", f"bytes {said}-{end - 1}/{len(content)}")
    if site.lengths:
        fields["Content-Length"] = str(len(body))
    send_head(handler, 200 if wanted is None else 206, fields)
    if handler.command == "HEAD":
        return
    if site.sends_bytes:
        body = site.content[: site.sends_bytes]
    if site.breaks:
        site.breaks -= 1
        body = body[: len(body) // 2]
    elif site.stalls:
        site.stalls -= 1
        handler.wfile.write(body[: len(body) // 2])
        site.ended.wait(site.stall_s)
        return
    if site.trickle_s:
        for at in range(0, len(body), 4096):
            handler.wfile.write(body[at : at + 4096])
            site.ended.wait(site.trickle_s)
        return
    handler.wfile.write(body)


def _range_of(headers: dict[str, str], site: Site, size: int) -> tuple[int, int] | None:
    """The half-open range to send; None to send everything."""
    wanted = headers.get("range")
    if wanted is None or not site.ranges:
        return None
    condition = headers.get("if-range")
    known = (site.etag, site.last_modified)
    if site.believes_if_range and condition is not None and condition not in known:
        return None
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    start, end = int(first), min(int(last) + 1 if last else 2**63, size)
    return start, min(end, start + site.short_bytes) if site.short_bytes else end


def send_head(handler: BaseHTTPRequestHandler, status: int, fields: dict[str, str]) -> None:
    """Status line and headers."""
    handler.send_response(status)
    for key, value in fields.items():
        handler.send_header(key, value)
    handler.end_headers()
