"""Where log lines go: standard error, in one line each."""

from __future__ import annotations

import logging
import sys

from atoll.domain.errors import BadRequest

LEVELS = ("debug", "info", "warning", "error")


def set_up_logging(level: str) -> None:
    """Log from `level` on, to standard error.

    Raises:
        BadRequest: There is no such level.
    """
    if level.lower() not in LEVELS:
        raise BadRequest(
            f"there is no log level {level!r}", hint=f"set ATOLL_LOG to one of {', '.join(LEVELS)}"
        )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger("atoll")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False


class _OneLine(logging.Formatter):
    """A line is a line, and a stranger's words in it steer no terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        return "".join(c if c.isprintable() else "\ufffd" for c in line)
