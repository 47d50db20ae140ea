"""Reports as files: a page with everything, or one picture of its charts."""

from __future__ import annotations

from pathlib import Path

from atoll.domain.errors import BadRequest
from atoll.model.files import atomic_file
from atoll.report.page import Page

ENDINGS = (".html", ".svg", ".png")
INSTALL = "pip install 'atoll[charts]'"


def check_report(path: Path) -> None:
    """See that a report can be made and has a place, before anything is computed for it.

    Raises:
        BadRequest: The file has another ending or no folder, or matplotlib is not installed.
    """
    if path.suffix.lower() not in ENDINGS:
        raise BadRequest(
            f"a report cannot be written as {path.name!r}",
            hint=f"end its name in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}",
        )
    if not path.parent.is_dir():
        raise BadRequest(f"there is no folder {path.parent}", hint="make it, or name another")
    try:
        import matplotlib.figure  # noqa: F401, PLC0415 - slow, an extra, and rarely needed
    except ImportError as error:
        raise BadRequest(f"charts need matplotlib: {error}", hint=INSTALL) from error


def write_report(path: Path, page: Page) -> None:
    """Write the page or its picture, by the file's ending, whole or not at all.

    Raises:
        BadRequest: As `check_report`, or the file cannot be written.
    """
    check_report(path)
    made = _made(path.suffix.lower(), page)
    try:
        with atomic_file(path) as file:
            file.write(made)
    except OSError as error:
        raise BadRequest(
            f"cannot write {path}: {error.strerror or error}", hint="name a file you can write"
        ) from error


def _made(ending: str, page: Page) -> bytes:
    # These import matplotlib.
    from atoll.report.drawing import panels  # noqa: PLC0415
    from atoll.report.html import html  # noqa: PLC0415
    from atoll.report.ink import png, svg  # noqa: PLC0415

    if ending == ".html":
        return html(page).encode()
    if not page.charts:
        raise BadRequest("there is nothing to draw", hint="write a page, .html")
    note = " ".join((*page.introduction, page.reading))
    picture = panels(page.charts, title=page.title, note=note)
    return png(picture) if ending == ".png" else svg(picture, page.title).encode()
