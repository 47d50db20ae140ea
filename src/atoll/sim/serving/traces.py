"""Traces of requests: who came when, with how many tokens, as operators publish them.

- Azure: CSV with `TIMESTAMP,ContextTokens,GeneratedTokens` (Patel et al., Splitwise, ISCA 2024;
  github.com/Azure/AzurePublicDataset, AzureLLMInferenceDataset2023.md).
- Mooncake: lines of JSON with `timestamp` in milliseconds, `input_length`, `output_length` and
  `hash_ids` of blocks of 512 tokens (Qin et al., FAST 2025; github.com/kvcache-ai/Mooncake).
- CSV with `at_s,prompt,answer`, and columns more, which are left alone.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec

from atoll.domain.errors import BadRequest
from atoll.sim.serving.requests import Request

TOKENS_MAX = 10_000_000
SPAN_MAX_S = 366 * 24 * 3600.0
AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:\+00:00|Z)?")
PLAIN = ("at_s", "prompt", "answer")


class _Line(msgspec.Struct, frozen=True):
    """A line of a Mooncake trace."""

    timestamp: float
    input_length: int
    output_length: int
    hash_ids: tuple[int, ...] = ()


def parse_trace(text: str, *, source: str) -> list[Request]:
    """The requests of a trace; the first comes at 0 s.

    Raises:
        BadRequest: It is of no known form, or a line lacks a figure, or has one that cannot
            be; the message names the line.
    """
    head = text.lstrip("\ufeff \t\r\n")[:1]
    found = _mooncake(text, source) if head == "{" else _csv(text, source)
    if not found:
        raise BadRequest(f"{source} has no requests")
    first_s = found[0].at_s
    if found[-1].at_s - first_s > SPAN_MAX_S:
        raise BadRequest(f"{source} is longer than a year", hint="times are in seconds, or a unit")
    return [Request(r.at_s - first_s, r.prompt, r.answer, r.blocks) for r in found]


def _mooncake(text: str, source: str) -> list[Request]:
    found: list[Request] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{source}, line {number}"
        try:
            entry = msgspec.json.decode(line, type=_Line)
        except msgspec.MsgspecError as error:
            raise BadRequest(
                f"{where} cannot be read: {error}",
                hint="lines have a timestamp, input_length and output_length",
            ) from error
        found.append(
            _checked(
                Request(
                    entry.timestamp / 1e3, entry.input_length, entry.output_length, entry.hash_ids
                ),
                found,
                where,
            )
        )
    return found


def _csv(text: str, source: str) -> list[Request]:
    lines = csv.reader(io.StringIO(text.lstrip("\ufeff")))
    header = [name.strip() for name in next(lines, [])]
    for columns, when in ((AZURE, _azure_s), (PLAIN, float)):
        if all(name in header for name in columns):
            at = [header.index(name) for name in columns]
            return _rows(lines, at, when, len(header), source)
    raise BadRequest(
        f"{source} is of no known form: its first line is {', '.join(header)[:80]!r}",
        hint=f"a CSV begins with {','.join(PLAIN)} or {','.join(AZURE)}; or give Mooncake's JSON",
    )


def _rows(
    lines: Iterable[list[str]],
    at: list[int],
    when: Callable[[str], float],
    width: int,
    source: str,
) -> list[Request]:
    found: list[Request] = []
    try:
        for number, row in enumerate(lines, 2):
            if not row:
                continue
            where = f"{source}, line {number}"
            if len(row) != width:
                raise BadRequest(f"{where} has {len(row)} columns, the first line {width}")
            try:
                request = Request(when(row[at[0]]), int(row[at[1]]), int(row[at[2]]))
            except ValueError as error:
                missing = any(not row[column].strip() for column in at)
                problem = "lacks a figure" if missing else f"cannot be read: {error}"
                raise BadRequest(
                    f"{where} {problem}", hint="mend the line, or leave it out"
                ) from error
            found.append(_checked(request, found, where))
    except csv.Error as error:
        raise BadRequest(f"{source} is no CSV: {error}") from error
    return found


def _azure_s(text: str) -> float:
    """Seconds since 1970; they have up to seven digits after the point, and maybe a zone."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no time")
    whole = datetime.fromisoformat(match[1] + "+00:00").timestamp()
    return whole + float(f"0.{match[2] or 0}")


def _checked(request: Request, before: list[Request], where: str) -> Request:
    """Refuse what cannot be."""
    if not 0 <= request.at_s < float("inf"):
        raise BadRequest(f"{where}: a request at {request.at_s} s", hint="times are 0 or later")
    if before and request.at_s < before[-1].at_s:
        raise BadRequest(
            f"{where}: it comes before the line above", hint="sort the trace by its times"
        )
    if not (1 <= request.prompt <= TOKENS_MAX and 1 <= request.answer <= TOKENS_MAX):
        raise BadRequest(
            f"{where}: {request.prompt} tokens of a prompt and {request.answer} of an answer",
            hint=f"both are 1 to {TOKENS_MAX:,}; leave out what was not answered",
        )
    return request
