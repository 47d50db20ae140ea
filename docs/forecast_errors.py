"""Writes the table of forecasts.md from the errors that the package carries.

    python -m docs.forecast_errors

A test checks that the page is current.
"""

from __future__ import annotations

from pathlib import Path

from docs.marks import replaced

from atoll.forecast.constants import shipped_fit

PAGE = Path(__file__).parent / "explanation" / "forecasts.md"
WHAT = {
    "local": "time per token of one stream on one machine",
    "prefill": "tokens a second of a prompt there",
    "wide": "time per token of one stream of a model over several machines",
    "lpu": "the same, on LPU systems; rows of one run count as one",
    "throughput": "tokens a second of accelerators at full load",
    "throughput_bounded": "the same, within a benchmark's bounds on latency",
    "serving_tpot": "time per token on servers under load",
    "serving_ttft": "time to the first token there",
    "power": "power of servers under full load",
    "power_desk": "peak power of machines that decode one stream",
}
COLUMNS = ("What", "Median", "90th percentile", "Of")


def table() -> str:
    """The table in Markdown, one row for each kind of forecast."""
    errors = shipped_fit().errors
    rows = [
        (what, f"{errors[key].median:.1%}", f"{errors[key].p90:.0%}", str(errors[key].n))
        for key, what in WHAT.items()
    ]
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def page_with_table(page: str) -> str:
    """`page` with what lies between the marks replaced by the current table."""
    return replaced(page, "errors", table())


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text("utf-8")), "utf-8")
