"""From what rounds over distance gave to the figures that are asked for."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bench.far_contest import PEER, Found
from bench.far_measures import Limit, Rate, far_share, total
from bench.far_prompts import CHAT, KINDS, REPEATING
from bench.far_ring import DRAFT, LINKS, LOOKUP, NONE


def median(values: Iterable[float], digits: int = 3) -> float | None:
    """The median; None of nothing."""
    known = list(values)
    return round(statistics.median(known), digits) if known else None


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """The median of the rounds' ratios; None where one side has none."""
    return median(a / b for a, b in zip(ours, theirs, strict=False))


class Figures:
    """The figures of one run.

    Args:
        found: What the rounds gave.
        modes: Ways to decode that were measured; the last is the best there is.
        delays_ms: Of the links, one way; the first and the last are compared.
        streams: How many ran together.
    """

    def __init__(
        self, found: Found, modes: Sequence[str], delays_ms: Sequence[int], streams: int
    ) -> None:
        self._found = found
        self._best = modes[-1]
        self._near, self._far = delays_ms[0], delays_ms[-1]
        self._delays_ms = delays_ms
        self._streams = streams

    def one(self, delay_ms: int, side: str, kinds: Sequence[str] = KINDS) -> list[float]:
        """Tokens a second of a lone stream, by round; total tokens ÷ total time."""
        rounds = self._found.one.get((delay_ms, side), [])
        return [total(rates[kind] for kind in kinds).per_s for rates in rounds]

    def sixteen(self, delay_ms: int, side: str) -> list[float]:
        """Tokens a second of all streams together, by round."""
        return [rate.per_s for rate in self._found.sixteen.get((delay_ms, side), [])]

    def against_peer(self) -> dict[str, Any]:
        """Ours ÷ the peer's at each delay."""
        found: dict[str, Any] = {}
        for delay_ms in self._delays_ms:
            theirs = self.one(delay_ms, PEER)
            found[f"one_{delay_ms}"] = ratios(self.one(delay_ms, DRAFT), theirs)
            found[f"one_{delay_ms}_lookup"] = ratios(self.one(delay_ms, LOOKUP), theirs)
            found[f"one_{delay_ms}_none"] = ratios(self.one(delay_ms, NONE), theirs)
            found[f"sixteen_{delay_ms}"] = ratios(
                self.sixteen(delay_ms, self._best), self.sixteen(delay_ms, PEER)
            )
        return found

    def far_share(self) -> float | None:
        """Sixteen streams far away, of what sixteen nearby and the loop allow."""
        far, near = self.sixteen(self._far, self._best), self.sixteen(self._near, self._best)
        laps = self.one(self._near, NONE)
        if self._near or not far or not laps:
            return None
        loop_s = LINKS * self._far / 1000
        return median(
            far_share(a, b, streams=self._streams, loop_s=loop_s, lap_s=1 / lap)
            for a, b, lap in zip(far, near, laps, strict=True)
        )

    def speculation(self, kinds: Sequence[str]) -> float | None:
        """A lone stream far away with lookup ÷ without any guesses."""
        with_lookup = self.one(self._far, LOOKUP, kinds)
        return ratios(with_lookup, self.one(self._far, NONE, kinds))

    def first_token(self) -> float | None:
        """Far away without its one loop ÷ nearby."""
        if self._near or self._near == self._far:
            return None
        first = self._found.first_token_s
        far = [at_s - LINKS * self._far / 1000 for at_s in first[self._far]]
        return ratios(far, first[self._near])

    def second_turn(self) -> float | None:
        """Of the first one's time; None where nothing of the first was reused."""
        if not any(known for _, _, known in self._found.turns_s):
            return None
        return median(second / first for first, second, _ in self._found.turns_s)

    def limits(self, delay_ms: int) -> dict[str, float | None]:
        """What no ring can pass, beside what a lone stream did."""
        rounds = self._found.one.get((delay_ms, self._best), [])
        rates = total(rate for round_ in rounds for rate in round_.values())
        accepted = rates.tokens / max(1, rates.bursts) if delay_ms else 1.0
        # Of a limit the best run: noise only slows.
        compute_s = min(self._found.whole_s)
        limit = Limit(compute_s, LINKS * delay_ms / 1000, accepted)
        ours = self.one(delay_ms, self._best)
        return {
            "compute": round(limit.compute_per_s, 1),
            "compute_and_loop": round(limit.loop_per_s, 1),
            "accepted": round(accepted, 2),
            "ring": median(ours, 1),
            "share": median(one / limit.loop_per_s for one in ours),
        }

    def tokens_per_s(self) -> dict[str, Any]:
        """Medians of all that was measured, by delay and side."""
        return {
            str(delay_ms): {
                name: median(values(delay_ms, side), 1)
                for name, values, side in self._columns()
                if values(delay_ms, side)
            }
            for delay_ms in self._delays_ms
        }

    def _columns(self) -> list[tuple[str, Callable[[int, str], list[float]], str]]:
        sides = (NONE, LOOKUP, DRAFT, PEER)
        one = [(f"one_{side}", self.one, side) for side in sides]
        return [*one, *((f"sixteen_{side}", self.sixteen, side) for side in sides)]

    def by_kind(self) -> dict[str, dict[str, float | None]]:
        """A lone stream far away, by side and kind of prompt."""
        sides = [side for side in (NONE, LOOKUP, DRAFT, PEER) if self.one(self._far, side)]
        return {
            side: {kind: median(self.one(self._far, side, (kind,)), 1) for kind in KINDS}
            for side in sides
        }


def report(
    found: Found, modes: Sequence[str], delays_ms: Sequence[int], streams: int
) -> dict[str, Any]:
    """All figures."""
    figures = Figures(found, modes, delays_ms, streams)
    far = delays_ms[-1]
    limits = {str(delay_ms): figures.limits(delay_ms) for delay_ms in delays_ms}
    return figures.against_peer() | {
        "far_share": figures.far_share(),
        "speculation_repeat": figures.speculation(REPEATING),
        "speculation_chat": figures.speculation((CHAT,)),
        "ttft_far_over_near": figures.first_token(),
        "second_turn_ttft": figures.second_turn(),
        "exact_equal": found.equal.get(True),
        "greedy_equal": found.equal.get(False),
        f"limit_share_{far}": limits[str(far)]["share"],
        "limits": limits,
        "tokens_per_s": figures.tokens_per_s(),
        "by_kind_far": figures.by_kind(),
        "first_token_s": {str(ms): median(s) for ms, s in found.first_token_s.items()},
        "turns_s": [[round(a, 3), round(b, 3), known] for a, b, known in found.turns_s],
        "rounds_one": _rounds(found.one),
    }


def _rounds(one: dict[tuple[int, str], list[dict[str, Rate]]]) -> dict[str, list[float]]:
    """Tokens a second of lone streams, round by round."""
    return {
        f"{delay_ms}_{side}": [round(total(rates.values()).per_s, 1) for rates in rounds]
        for (delay_ms, side), rounds in one.items()
    }
