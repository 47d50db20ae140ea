"""Writes the table of architectures.md from the table that the code uses.

    python -m docs.architecture_table

A test checks that the page is current.
"""

from __future__ import annotations

from pathlib import Path

from docs.marks import replaced

from atoll.model.architectures import TABLE, Architecture

PAGE = Path(__file__).parent / "reference" / "architectures.md"
COLUMNS = (
    "Architecture",
    "May be cut",
    "Values for each layer",
    "Windowed layers",
    "Every shard carries",
    "Input",
    "Not cut if",
)


def table() -> str:
    """The table in Markdown, one row for each architecture."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *(_row(row) for row in TABLE.values())]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def page_with_table(page: str) -> str:
    """`page` with what lies between the marks replaced by the current table."""
    return replaced(page, "table", table())


def _row(row: Architecture) -> tuple[str, ...]:
    where = "after every layer" if row.cut_every == 1 else f"every {row.cut_every} layers"
    window = f"`{row.window.pattern_key}`" if row.window else "none"
    refused = [f"`{key}`: {why}" for key, why in sorted(row.must_be_zero.items())]
    refused += [f"`{key}` is there: {why}" for key, why in sorted(row.must_be_absent.items())]
    refused += [f"`{key}` differs from layer to layer" for key in sorted(row.first_layer_rules)]
    if row.window and row.window.always:
        refused.append(f"`{row.window.window_key}` is 0")
    refused += [
        f"model or shard of {count} layers: the engine tells {what} from that number"
        for count, what in sorted(row.fixed_counts.items())
    ]
    return (
        f"`{row.name}`",
        where,
        _names(row.per_layer),
        window,
        _names(row.every_shard),
        _input(row),
        "; ".join(refused) or "-",
    )


def _input(row: Architecture) -> str:
    if not row.scaled_embedding:
        return "as it is"
    return "tokens scaled" + (f", then written over `{row.scaled_input}`" * bool(row.scaled_input))


def _names(names: frozenset[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "none"


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text("utf-8")), "utf-8")
