"""What users of a service are to see, in a line: `ttft<0.5s,tpot<30ms`, and `5/s`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from atoll.domain.errors import BadRequest
from atoll.forecast.quantities import TIME, parse_quantity

RATE_MAX = 1e6
_BOUND = re.compile(r"\s*(ttft|tpot)\s*<=?\s*(.+?)\s*", re.IGNORECASE)
_RATE = re.compile(r"\s*(\d{1,9}(?:\.\d{1,6})?)\s*/\s*(s|min|h)\s*")
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Target:
    """Time to the first token and per token at most, seconds, 0: no bound; `rate` requests
    come each second.
    """

    ttft_s: float = 0.0
    tpot_s: float = 0.0
    rate: float = 0.0


def parse_target(slo: str, rate: str) -> Target:
    """The target that both lines describe; either may be empty.

    Raises:
        BadRequest: A bound or the rate cannot be read, or a bound stands there twice.
    """
    found: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in slo.split(","))):
        match = _BOUND.fullmatch(part)
        if match is None:
            raise BadRequest(f"{part!r} is no bound", hint="write it like ttft<0.5s,tpot<30ms")
        name = match[1].lower()
        if name in found:
            raise BadRequest(f"{name} is bounded twice", hint="give each bound once")
        found[name] = parse_quantity(match[2], TIME, where=name)
    return Target(found.get("ttft", 0.0), found.get("tpot", 0.0), _rate(rate))


def _rate(text: str) -> float:
    if not text.strip():
        return 0.0
    match = _RATE.fullmatch(text)
    if match is None:
        raise BadRequest(f"{text!r} is no rate", hint="write it like 5/s, 30/min or 100/h")
    rate = float(match[1]) / _SECONDS[match[2]]
    if not 0 < rate <= RATE_MAX:
        raise BadRequest(f"a rate of {text.strip()} is out of range")
    return rate
