"""Pages with a part that is written from the code, between two marks."""

from __future__ import annotations


def replaced(page: str, name: str, part: str) -> str:
    """`page` with `part` in the place of what lies between the marks of that name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{part}\n{end}{after}"
