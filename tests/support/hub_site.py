"""A server on loopback with the Hub's file interface: resolve, linked headers, a CDN elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.support.loopback import Site, answering, send_head, serving

COMMIT = "c0ffee" * 6 + "c0ff"
TOKEN = "hf_" + "t" * 34
REPO = "org/some-model"


@dataclass
class HubSite:
    """One repository with one large file, whose content a CDN on another port serves.

    `said_sha256` and `said_size` are what the Hub says of the file, if not the
    truth. `private` and `gated` want the token, `granted` says whether its user
    has accepted the gate. `statuses` are sent instead of answers, one each.
    `seen` are (method, path, headers) of the requests to the Hub itself.
    """

    cdn: Site
    path: str = "sub/Model.Q4.gguf"
    private: bool = False
    gated: bool = False
    granted: bool = True
    commit: str = COMMIT
    said_sha256: str | None = None
    said_size: int | None = None
    statuses: list[int] = field(default_factory=list)
    status_headers: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    @property
    def source(self) -> str:
        """What a user writes."""
        return f"hf:{REPO}/{self.path}"

    @property
    def environment(self) -> dict[str, str]:
        """Settings of a user who has no token."""
        return {"HF_ENDPOINT": self.url, "HF_HOME": "/nonexistent"}


@contextmanager
def serving_hub(site: HubSite) -> Iterator[HubSite]:
    """Serve the Hub and its CDN until the block ends."""
    with serving(site.cdn), answering(lambda handler: _answer(handler, site)) as base:
        site.url = base
        yield site


def _answer(handler: BaseHTTPRequestHandler, site: HubSite) -> None:
    handler.close_connection = True
    headers = {key.lower(): value for key, value in handler.headers.items()}
    site.seen.append((handler.command, handler.path, headers))
    if site.statuses:
        fields = {"Content-Length": "0", **site.status_headers}
        send_head(handler, site.statuses.pop(0), fields)
        return
    refused = _refused(handler.path, headers.get("authorization"), site)
    if refused is not None:
        status, code = refused
        extra = {"X-Error-Code": code} if code else {}
        send_head(handler, status, {"Content-Length": "0", **extra})
        return
    size = len(site.cdn.content) if site.said_size is None else site.said_size
    sha256 = site.said_sha256
    fields = {
        "Location": f"{site.cdn.url}?X-Amz-Signature=s3cret",
        "X-Repo-Commit": site.commit,
        "X-Linked-Size": str(size),
        "X-Linked-ETag": f'"{sha256 or hashlib.sha256(site.cdn.content).hexdigest()}"',
        "Content-Length": "0",
    }
    send_head(handler, 302, {key: value for key, value in fields.items() if value})


def _refused(path: str, token: str | None, site: HubSite) -> tuple[int, str] | None:
    """(status, X-Error-Code) of a refusal, as the Hub gives them."""
    if token is not None and token != f"Bearer {TOKEN}":
        return 401, ""
    org, name, resolve, revision, file = path.removeprefix("/").split("/", 4)
    if f"{org}/{name}" != REPO or resolve != "resolve" or (site.private and token is None):
        # The Hub does not tell strangers whether a repository exists.
        return (401 if token is None else 404), "RepoNotFound"
    if revision not in ("main", "v1", "refs%2Fpr%2F2", site.commit):
        return 404, "RevisionNotFound"
    if file != site.path:
        return 404, "EntryNotFound"
    if site.gated and token is None:
        return 401, "GatedRepo"
    if site.gated and not site.granted:
        return 403, "GatedRepo"
    return None
