"""Files of the Hugging Face Hub: what `hf:ORG/REPO/FILE.gguf[@REVISION]` stands for.

One request finds the commit that the revision is, and the size and SHA-256 of
the file in it. What is then downloaded is the file of that commit, so that it
cannot change under way, and its hash is known before the first byte.

Interface: huggingface.co/docs/hub/models-downloading, and
github.com/huggingface/huggingface_hub, file_download.py (get_hf_file_metadata),
utils/_http.py (hf_raise_for_status) and constants.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx

from atoll.domain.errors import PullFailed
from atoll.store.sources import HUB
from atoll.store.web import (
    Address,
    Limits,
    Patience,
    Transient,
    Unreachable,
    check_status,
    follow,
    open_client,
    size_in,
)

ENDPOINT = "https://huggingface.co"
REVISION = "main"
FORM = "hf:ORG/REPO/FILE.gguf[@REVISION]"
_NAME = re.compile(
    r"(?P<repo>[\w.-]+/[\w.-]+)/(?P<path>[^@]+\.gguf)(?:@(?P<revision>[^@]+))?", re.IGNORECASE
)
_ONE_OF_SEVERAL = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class HubName:
    """A file of a repository at a revision: a branch, a tag, or a commit."""

    repo: str
    path: str
    revision: str

    def __str__(self) -> str:
        return f"{HUB}{self.repo}/{self.path}@{self.revision}"


@dataclass(frozen=True, slots=True)
class HubFile:
    """What the Hub says of a file.

    `sha256` is "" where it says none (a file that is not in its large storage),
    `size_bytes` None likewise.
    """

    address: Address
    sha256: str
    size_bytes: int | None


def parse_name(source: str) -> HubName:
    """What a source in the form of `FORM` names.

    Raises:
        PullFailed: It has another form, or is one part of a model in several files.
    """
    match = _NAME.fullmatch(source.removeprefix(HUB))
    parts = source.removeprefix(HUB).split("/")
    if match is None or "" in parts or "." in parts or ".." in parts:
        raise PullFailed(f"{source!r} is not a file of the Hub", hint=f"write {FORM}")
    if _ONE_OF_SEVERAL.search(match["path"]):
        raise PullFailed(
            f"{match['path']} is one part of a model that was split into several files",
            hint="choose a file that holds the whole model",
        )
    return HubName(match["repo"], match["path"], match["revision"] or REVISION)


def look_up(
    name: HubName,
    *,
    environment: Mapping[str, str] = os.environ,
    limits: Limits | None = None,
) -> HubFile:
    """Ask the Hub for a file's commit, size and hash.

    Args:
        name: Which file.
        environment: Where HF_ENDPOINT, HF_TOKEN and their like are looked up.
        limits: How to wait where the Hub is busy.

    Raises:
        PullFailed: There is no such file, or it may not be read; says what to do.
    """
    limits = limits or Limits()
    endpoint = (environment.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
    token = find_token(environment)

    def refusal(status: int, headers: Mapping[str, str]) -> PullFailed | None:
        return _refusal(name, endpoint, bool(token), status, headers.get("x-error-code", ""))

    def address(revision: str) -> Address:
        path = f"{name.repo}/resolve/{quote(revision, safe='')}/{quote(name.path)}"
        return Address(f"{endpoint}/{path}", token, refusal)

    asked = address(name.revision)
    headers = _head(asked, limits)
    commit = headers.get("x-repo-commit", "")
    etag = (headers.get("x-linked-etag") or headers.get("etag", "")).removeprefix("W/").strip('"')
    size = headers.get("x-linked-size", "")
    return HubFile(
        address=address(commit) if _COMMIT.fullmatch(commit) else asked,
        sha256=etag if _SHA256.fullmatch(etag) else "",
        size_bytes=size_in(size),
    )


def _head(address: Address, limits: Limits) -> httpx.Headers:
    """The Hub's own headers about a file; where the content lies is not asked."""
    patience = Patience(address, limits)
    with open_client(limits) as client:
        while True:
            try:
                response = follow(client, address, {}, method="HEAD", leave_host=False)
                response.close()
                if not response.is_redirect:
                    check_status(address, response)
                return response.headers
            except (httpx.TransportError, Transient) as error:
                patience.failed(error, progressed=False)


def find_token(environment: Mapping[str, str]) -> str:
    """The user's token, "" if there is none: $HF_TOKEN, or the file that the Hub's own tools use.

    Raises:
        PullFailed: What is there cannot be a token. It is not shown.
    """
    token, where = environment.get("HF_TOKEN", "").strip(), "HF_TOKEN"
    if not token:
        path = _token_file(environment)
        where = str(path)
        try:
            token = path.read_text("utf-8").strip()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise PullFailed(
                f"cannot read the token of the Hub in {path}: {reason}",
                hint="repair that file, or set HF_TOKEN",
            ) from None
    if not re.fullmatch(r"[!-~]*", token):
        raise PullFailed(
            f"what {where} holds is not a token of the Hub", hint="copy the token again, whole"
        )
    return token


def _token_file(environment: Mapping[str, str]) -> Path:
    """HF_TOKEN_PATH, else `token` in HF_HOME, which is in the user's folder for caches."""
    if chosen := environment.get("HF_TOKEN_PATH"):
        return Path(chosen).expanduser()
    if home := environment.get("HF_HOME"):
        return Path(home).expanduser() / "token"
    caches = environment.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "huggingface" / "token"


def _refusal(
    name: HubName, endpoint: str, has_token: bool, status: int, code: str
) -> PullFailed | None:
    """What a final status means, by the Hub's X-Error-Code where it gives one."""
    page = f"{endpoint}/{name.repo}"
    remedy = "set HF_TOKEN to a token that may read it"
    problem, hint = "", ""
    if code == "GatedRepo" or (status == 403 and not code):
        problem = f"{name.repo} is gated, and this user has no access to it"
        hint = f"accept its conditions at {page}" + ("" if has_token else f"; then {remedy}")
    elif code == "RevisionNotFound":
        problem, hint = f"{name.repo} has no revision {name.revision!r}", f"see {page}"
    elif code == "EntryNotFound":
        problem = f"{name.repo} has no file {name.path!r} at {name.revision!r}"
        hint = f"see {page}/tree/{name.revision}"
    elif status == 401 and has_token and code != "RepoNotFound":
        problem = f"the Hub refuses the token for {name.repo}"
        hint = "the token may be wrong or expired; make a new one and set HF_TOKEN"
    elif status in (401, 404):
        problem = f"the Hub has no {name.repo}, or it is private"
        hint = f"check the name at {page}; if it is private, {remedy}"
    elif status == 403:
        problem, hint = f"this user may not read {name.repo} ({code})", remedy
    return Unreachable(problem, hint=hint) if problem else None
